"""Right answers to lesson 06, and wrong networks: one thing is changed in each.

What students compute who make a known mistake stands with the functions' exercises.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from course_utils.data import VOID

# --- networks ------------------------------------------------------------------------------------

N, R = nn.BatchNorm2d, nn.ReLU


def of(make):
    """Return a function that makes a row of the layers ``make(in_channels, out_channels)``."""
    return lambda i, o: nn.Sequential(*make(i, o))


def changed(base, forward=None, init=None):
    """Return a class with another ``forward``, or where ``init(self, *arguments)`` comes last."""

    class Changed(base):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            if init:
                init(self, *args, *kwargs.values())

    Changed.forward = forward or base.forward
    return Changed


def conv(i, o, size=3, padding=1, bias=False, **options):
    return nn.Conv2d(i, o, size, padding=padding, bias=bias, **options)


class Layer(nn.Module):
    """A ConvLayer whose layers are registered in another order than they are called in."""

    def __init__(self, i, o):
        super().__init__()
        self.norm, self.conv = N(o), nn.Conv2d(i, o, 3, padding="same", bias=False)

    def forward(self, x):
        return F.relu(self.norm(self.conv(x)))


class Block(nn.Module):
    """A ConvBlock, registered backwards, too."""

    def __init__(self, i, o):
        super().__init__()
        self.b, self.a = Layer(o, o), Layer(i, o)

    def forward(self, x):
        return self.b(self.a(x))


ConvLayer = of(lambda i, o: [conv(i, o), N(o), R(inplace=True)])
ConvBlock = of(lambda i, o: [ConvLayer(i, o), ConvLayer(o, o)])


def coarse_norm(i, o):
    """Return a ConvBlock whose batch norms have the epsilon of other frameworks."""
    block = ConvBlock(i, o)
    block[0][1].eps = block[1][1].eps = 1e-3
    return block


class UpConvBlock(nn.Module):
    def __init__(self, i, o, up=nn.ConvTranspose2d, after=ConvBlock, read=2):
        super().__init__()
        self.up, self.block = up(i, o, 2, 2), after(read * o, o)

    def forward(self, x, skip):
        return self.block(torch.cat([self.up(x), skip], dim=1))


class UpConvBlockSkipFirst(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.b, self.a = Layer(o, o), Layer(2 * o, o)
        self.up = nn.ConvTranspose2d(i, o, 2, 2, bias=False)

    def forward(self, x, skip, end=lambda first, second: second):
        first = self.a(torch.concat((skip, self.up(x)), 1))
        return end(first, self.b(first))


def up(**options):
    """Return an UpConvBlock with another upsampling, or other ConvLayers."""
    return lambda i, o: UpConvBlock(i, o, **options)


def joined(join, read=2):
    """Return an UpConvBlock that gives ``join(upsampled, skip, x)`` to its ConvLayers."""
    made = changed(UpConvBlock, lambda self, x, skip: self.block(join(self.up(x), skip, x)))
    return lambda i, o: made(i, o, read=read)


def ended(end):
    """Return an UpConvBlock that returns ``end(first, second)`` of its ConvLayers' results."""
    forward = UpConvBlockSkipFirst.forward
    return changed(UpConvBlockSkipFirst, lambda self, x, skip: forward(self, x, skip, end))


class UNet(nn.Module):
    def __init__(self, in_channels, num_classes, width=16, decoder=UpConvBlock):
        super().__init__()
        sizes = [width * 2**k for k in range(5)]
        self.encoders = nn.ModuleList(map(ConvBlock, [in_channels, *sizes[:3]], sizes[:4]))
        self.bottleneck = ConvBlock(sizes[3], sizes[4])
        self.decoders = nn.ModuleList(decoder(2 * c, c) for c in sizes[3::-1])
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(
        self,
        x,
        pool=F.max_pool2d,
        order=reversed,
        skip=lambda full, small: full,
        bottom=None,
        swap=1,
    ):
        skips = []
        for encoder in self.encoders:
            full = encoder(x)
            x = pool(full, 2)
            skips.append(skip(full, x))
        x = (bottom or self.bottleneck)(x)
        for decoder, kept in zip(self.decoders, order(skips), strict=True):
            x = decoder(*(x, kept)[::swap])
        return self.head(x)


class UNetByHand(nn.Module):
    def __init__(self, in_channels, num_classes, width=16):
        super().__init__()
        w, self.pool = width, nn.MaxPool2d(2)
        pairs = [(in_channels, w), (w, 2 * w), (2 * w, 4 * w), (4 * w, 8 * w)]
        self.encoders = nn.Sequential(*(Block(i, o) for i, o in pairs))
        self.bottleneck = Block(8 * w, 16 * w)
        self.decoders = nn.ModuleList(UpConvBlockSkipFirst(2 * o, o) for _, o in pairs[::-1])
        self.head = nn.Conv2d(w, num_classes, kernel_size=1, bias=False)

    def forward(self, x):
        a = self.encoders[0](x)
        b = self.encoders[1](self.pool(a))
        c = self.encoders[2](self.pool(b))
        d = self.encoders[3](self.pool(c))
        x = self.decoders[0](skip=d, x=self.bottleneck(self.pool(d)))
        x = self.decoders[2](self.decoders[1](x, c), skip=b)
        return self.head(self.decoders[3](x, a))


def unet(end=lambda logits: logits, start=lambda x: x, **options):
    """Return a U-Net with another way through its parts, or something before or after them."""
    return changed(UNet, lambda self, x: end(UNet.forward(self, start(x), **options)))


def part(name, make):
    """Return a U-Net where ``make(part, in_channels, num_classes, width)`` is put for a part."""
    return changed(
        UNet, init=lambda self, *args: setattr(self, name, make(self._modules.pop(name), *args))
    )


# --- functions -----------------------------------------------------------------------------------


def unet_shapes(height, width, channels=16):
    down = [(channels * 2**k, height // 2**k, width // 2**k) for k in range(5)]
    return down + down[3::-1]


def unet_shapes_by_numpy(height, width, channels=16):
    sizes = np.array([channels, height, width])
    down = [list(sizes * (2**k, 1, 1) // (1, 2**k, 2**k)) for k in range(5)]
    return down + down[3::-1]


def cross_entropy(logits, labels, **options):
    return F.cross_entropy(logits, labels, ignore_index=VOID, **options)


def train_one_epoch(
    model, batches, optimizer, mode=True, loss=cross_entropy, moves="zero backward step", stop=None
):
    model.train(model.training if mode is None else mode)
    total = 0
    for images, labels in batches[:stop]:
        value = loss(model(images), labels)
        for move in moves.split():
            {"zero": optimizer.zero_grad, "step": optimizer.step}.get(move, value.backward)()
        total += value.item()
    return total / len(batches)


def train_one_epoch_by_hand(model, batches, optimizer):
    losses = []
    for images, labels in batches:
        model.train(True).zero_grad()
        log_p, known = model.forward(images).log_softmax(dim=1), labels != VOID
        picked = log_p.gather(1, labels.where(known, torch.zeros_like(labels))[:, None])[:, 0]
        loss = -picked[known].mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    return sum(losses) / len(losses)


def epoch(**options):
    return lambda *args: train_one_epoch(*args, **options)


def step_after_the_loop(model, batches, optimizer):
    loss = train_one_epoch(model, batches, optimizer, moves="backward")
    optimizer.step()
    return loss


def step_before_forward(model, batches, optimizer):
    losses = []
    for batch in batches:
        optimizer.step()
        losses.append(train_one_epoch(model, [batch], optimizer, moves="zero backward"))
    return sum(losses) / len(losses)


def wipes_void(model, batches, optimizer):
    for _, labels in batches:
        labels.masked_fill_(labels == VOID, -100)
    return train_one_epoch(model, batches, optimizer, loss=F.cross_entropy)


def returns_a_tensor(model, batches, optimizer):
    return torch.tensor(train_one_epoch(model, batches, optimizer))


@torch.no_grad()
def predict_labels(model, images):
    model.eval()
    return model(images).argmax(dim=1)


def predict_labels_by_probability(model, images):
    with torch.inference_mode():
        return model.eval()(images).softmax(dim=1).max(dim=1).indices.to(torch.uint8)


def predicts(pick=lambda scores: scores.argmax(1), mode=False, grad=False, after=False):
    """Return a predict_labels with one thing changed."""

    def predict(model, images):
        with torch.set_grad_enabled(grad):
            picked = pick(model.train(mode)(images))
        model.train(mode or after)
        return picked

    return predict


RIGHT = {
    "conv_layer": [ConvLayer, Layer],
    "conv_block": [ConvBlock, Block, coarse_norm],
    "up_conv_block": [UpConvBlock, UpConvBlockSkipFirst],
    "unet": [
        UNet,
        UNetByHand,
        changed(UNet, init=lambda self, *_: nn.init.zeros_(self.head.weight)),
    ],
    "unet_shapes": [unet_shapes, unet_shapes_by_numpy],
    "untrained_loss": [
        math.log,
        lambda num_classes: F.cross_entropy(torch.zeros(1, num_classes), torch.tensor([0])),
        lambda num_classes: -math.log(1 / num_classes),
    ],
    "train_one_epoch": [train_one_epoch, train_one_epoch_by_hand],
    "predict_labels": [predict_labels, predict_labels_by_probability],
    "mean_map": [
        lambda skip: skip.mean(dim=(2, 3), keepdim=True).expand_as(skip),
        lambda skip: F.adaptive_avg_pool2d(skip, 1) * torch.ones_like(skip),
    ],
}
WRONG = {
    "conv_layer": {
        r"bias=False": of(lambda i, o: [conv(i, o, bias=True), N(o), R()]),
        r"padding=1": of(lambda i, o: [conv(i, o, padding=0), N(o), R()]),
        r"ReLU came before the batch norm": of(lambda i, o: [conv(i, o), R(), N(o)]),
        r"own batch norm": of(lambda i, o: [conv(i, o), R()]),
        r"is the ReLU missing": of(lambda i, o: [conv(i, o), N(o)]),
        r"ReLU missing": of(lambda i, o: [conv(i, o), N(o), nn.LeakyReLU()]),
        r"sigmoid": of(lambda i, o: [conv(i, o), N(o), nn.Sigmoid()]),
        r"must be 3x3": of(lambda i, o: [conv(i, o, 5, 2), N(o), R()]),
        r"stride 1": of(lambda i, o: [conv(i, o, stride=2), N(o), R()]),
        r"hard-coded": of(lambda i, o: [conv(3, 8), N(8), R()]),
        r"as many channels as it is given": of(lambda i, o: [conv(i, o), N(i), R()]),
        r"after the convolution these": of(lambda i, o: [N(o), conv(i, o), R()]),
        r"out_channels swapped": of(lambda i, o: [conv(o, i), N(o), R()]),
        r"self\.name": of(lambda i, o: [N(o)]),
        r"plain Python list": changed(
            Layer,
            lambda self, x: F.relu(self.norm(self.layers[0](x))),
            lambda self, *_: setattr(self, "layers", [self._modules.pop("conv")]),
        ),
        r"in __init__": changed(
            Layer, lambda self, x: conv(3, 8)(x), lambda self, *_: self._modules.pop("conv")
        ),
        r"super\(\).__init__": type(
            "L", (Layer,), {"__init__": lambda s, i, o: setattr(s, "norm", N(o))}
        ),
        r"`return` missing": changed(Layer, lambda self, x: None),
        r"never calls": changed(Layer, lambda self, x: F.relu(self.conv(x))),
        r"the order is another": of(lambda i, o: [N(i), conv(i, o), R()]),
        r"something else acts as well": of(lambda i, o: [conv(i, o), R(), N(o), R()]),
        r"dilation": of(lambda i, o: [conv(i, o, padding=2, dilation=2), N(o), R()]),
        r"pad with zeros": of(lambda i, o: [conv(i, o, padding_mode="reflect"), N(o), R()]),
        r"learnt numbers": of(lambda i, o: [conv(i, o), N(o, affine=False), R()]),
        r"holds a Dropout": of(lambda i, o: [ConvLayer(i, o), nn.Dropout(0.1)]),
        r"0, 0.5, 9; it gives 0, 0.5, 6": of(lambda i, o: [conv(i, o), N(o), nn.ReLU6()]),
        r"must be a class": lambda i, o: F.relu,
        r"changes what it is given": changed(Layer, lambda self, x: Layer.forward(self, x.mul_(2))),
    },
    "conv_block": {
        r"object 2 times.*Two layers are needed": changed(
            Layer, lambda self, x: Layer.forward(self, Layer.forward(self, x))
        ),
        r"same Layer object 2 times": changed(Block, lambda self, x: self.b(self.b(self.a(x)))),
        r"same \w+ object 2 times": changed(
            Block, lambda self, x: self.a(self.a(x)[:, : x.shape[1]])
        ),
        # 3 channels in, 8 out: the second call stops
        r"same Layer object 2 times: its": changed(Block, lambda self, x: self.a(self.a(x))),
        r"for 8 channels a map of 3": changed(Block, lambda self, x: self.b(self.b(x))),
        r"should be 2": of(lambda i, o: [ConvLayer(i, o)]),
        r"should hold 2": of(lambda i, o: [ConvBlock(i, o), ConvLayer(o, o)]),
        r"what the first gives": of(lambda i, o: [ConvLayer(i, o), ConvLayer(i, o)]),
        r"the first one reaches out_channels": of(lambda i, o: [ConvLayer(i, i), ConvLayer(i, o)]),
        r"Pooling belongs": of(lambda i, o: [ConvBlock(i, o), nn.MaxPool2d(2)]),
        r"own batch norm": of(lambda i, o: [conv(i, o), R(), conv(o, o), R()]),
        r"bias=False": of(lambda i, o: [conv(i, o, bias=True), N(o), R()]),
        r"Something is added": changed(Block, lambda self, x: (first := self.a(x)) + self.b(first)),
        r"never calls": changed(Block, lambda self, x: self.a(x)),
        r"come from both": changed(Block, lambda self, x: (y := self.a(x), self.b(y))[0]),
        r"what the first returns": changed(Block, lambda self, x: (self.a(x), self.b(x))[1]),
        r"only by that": of(lambda i, o: [ConvBlock(i, o), N(o), R()]),
        r"something is missing": of(lambda i, o: [conv(i, o), N(o), ConvLayer(o, o)]),
        r"the order is another": of(lambda i, o: [conv(i, o), conv(o, o), N(o), R(), N(o), R()]),
        r"`return` missing": changed(Block, lambda self, x: None),
    },
    "up_conv_block": {
        r"is added": joined(lambda up, skip, x: up + skip, read=1),
        r"along the height": joined(lambda up, skip, x: torch.cat([up, skip], 2)),
        r"the height \(axis 2\)": joined(lambda up, skip, x: torch.cat([up, skip], 2), read=1),
        r"along the width": joined(lambda up, skip, x: torch.cat([up, skip], -1), read=1),
        r"along the batch": joined(lambda up, skip, x: torch.cat([up, skip])),
        r"nothing to learn": up(
            up=lambda i, o, *_: nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(i, o, 1))
        ),
        r"its own 2x2 square": up(up=lambda i, o, *_: nn.ConvTranspose2d(i, o, 3, 2, 1, 1)),
        r"stride \(1, 1\)": up(up=lambda i, o, *_: nn.ConvTranspose2d(i, o, 2)),
        r"8 -> 4": up(up=lambda i, o, *_: nn.ConvTranspose2d(i, i, 2, 2), read=3),
        r"only one of the two": joined(lambda up, skip, x: up, read=1),
        r"skip is not in what": joined(lambda up, skip, x: torch.cat([up, up], 1)),
        r"changed on the way": joined(lambda up, skip, x: torch.cat([F.relu(up), skip], 1)),
        r"no detach": joined(lambda up, skip, x: torch.cat([up, skip.detach()], 1)),
        r"takes one list": joined(lambda up, skip, x: torch.cat(up, skip, dim=1)),
        r"differ in size": joined(lambda up, skip, x: torch.cat([up, x], 1)),
        r"upsample x first": changed(
            UpConvBlock, lambda self, x, skip: self.block(self.up(torch.cat([x, skip], 1)))
        ),
        r"is it x, from below": changed(
            UpConvBlock, lambda self, x, skip: UpConvBlock.forward(self, skip, x)
        ),
        r"should be 2": up(after=ConvLayer),
        r"8 -> 4 -> 4": up(after=of(lambda i, o: [ConvLayer(i, i), ConvLayer(i, o)])),
        r"hard-coded": up(after=lambda i, o: ConvBlock(8, 4)),
        r"gives other values": ended(lambda first, second: first),
        r"something else acts": ended(lambda first, second: first + second),
        r"same BatchNorm2d object 2 times": changed(
            UpConvBlockSkipFirst,
            init=lambda self, i, o: (
                setattr(self.b, "norm", self.a.norm),
                setattr(self, "c", N(o)),
            ),
        ),
    },
    "unet": {
        r"nn.ModuleList": part("encoders", lambda old, *_: [*old]),
        r"plain Python list": part("decoders", lambda old, *_: [*old]),
        r"softmax in the network": unet(end=lambda y: y.softmax(1)),
        r"such as ReLU": unet(end=F.relu),
        r"sigmoid": unet(end=torch.sigmoid),
        r"argmax inside": unet(end=lambda y: y.argmax(1)),
        r"change of axes": unet(end=lambda y: y.permute(0, 2, 3, 1).reshape(y.shape)),
        r"does not return what its head": unet(end=lambda y: y.log_softmax(1)),
        r"follows the head": unet(end=F.dropout),
        r"for one image": unet(end=torch.squeeze),
        r"lie in \[0, 1\] already": unet(start=lambda x: x / 255),
        r"max_pool2d": unet(pool=lambda x, _: x),
        r"the strongest": unet(pool=F.avg_pool2d),
        r"in reverse": unet(order=list),
        r"before the pooling": unet(skip=lambda full, small: small),
        r"is no skip": unet(skip=lambda full, small: torch.zeros_like(full)),
        r"not given its encoder's map": unet(skip=lambda full, small: full.detach() * 2),
        r"go through the bottleneck": unet(bottom=lambda x: x),
        r"skip in the place of x": unet(swap=-1),
        r"1x1": part("head", lambda old, i, c, w: conv(w, c)),
        r"num_classes": part("head", lambda old, i, c, w: conv(w, 10, 1, 0)),
        r"no layer `head`": part("head", lambda *_: None),
        r"holds 3 blocks": part("decoders", lambda old, *_: old[1:]),
        r"deepest comes first": part("decoders", lambda old, *_: old[::-1]),
        r"a list of four blocks": part("encoders", lambda old, i, c, w: Block(i, w)),
        r"channels double": part(
            "encoders",
            lambda old, i, c, w: nn.ModuleList(ConvBlock(k, w) for k in (i, w, w, w)),
        ),
        r"holds a Dropout": part("encoders", lambda old, *_: (old[0].append(nn.Dropout()), old)[1]),
        r"has [\d,]+ parameters": part(
            "bottleneck",
            lambda old, i, c, w: nn.Sequential(ConvBlock(8 * w, 32 * w), ConvLayer(32 * w, 16 * w)),
        ),
        r"gets no gradient": changed(
            UNet, init=lambda self, *_: self.add_module("spare", ConvLayer(2, 2))
        ),
        r"no gradient can flow": changed(UNet, torch.no_grad()(UNet.forward)),
        r"hard-coded": lambda in_channels, *args, **options: UNet(3, *args, **options),
        r"variants in a class": lambda *args, **options: UNet(
            *args,
            **options,
            decoder=up(up=lambda i, o, *_: nn.Sequential(nn.Upsample(scale_factor=2), conv(i, o))),
        ),
        r"whatever its skip is": lambda *args, **options: UNet(
            *args, **options, decoder=joined(lambda up, skip, x: torch.cat([up, skip * 0], 1))
        ),
    },
    "unet_shapes": {
        r"whole pixels": lambda *args, **options: [
            tuple(map(float, shape)) for shape in unet_shapes(*args, **options)
        ],
        r"hard-coded": lambda *args, **options: unet_shapes(96, 128),
        r"decoder 0 is wrong.*hard-coded": lambda height, width, channels=16: (
            unet_shapes(height, width, channels)[:5] + unet_shapes(height, width)[5:]
        ),
    },
    "untrained_loss": {r"-ln\(1/4\) = 1.386": lambda num_classes: math.log(10)},
    "train_one_epoch": {
        r"one step a batch": epoch(moves="zero backward"),
        r"once for each batch: one step": step_after_the_loop,
        r"backward\(\) is missing": epoch(moves="zero step"),
        r"step\(\) comes before": epoch(moves="step zero backward"),
        r"finds no gradient": step_before_forward,
        r"wipes it out": epoch(moves="backward zero step"),
        r"comes after step": epoch(moves="zero step backward"),
        r"eval mode": epoch(mode=False),
        r"in eval mode while": epoch(mode=None),
        r"inside the for loop": epoch(stop=1),
        r"ignore_index=VOID": epoch(loss=F.cross_entropy),
        r"reduction": epoch(loss=lambda y, t: cross_entropy(y, t, reduction="sum")),
        r"hangs on no parameter": epoch(loss=lambda y, t: cross_entropy(y.detach(), t)),
        r"train_one_epoch stops": epoch(loss=lambda y, t: F.cross_entropy(y.argmax(1).float(), t)),
        r"not their argmax": epoch(loss=lambda y, t: F.cross_entropy(y.argmax(1), t)),
        r"in this order": epoch(loss=lambda y, t: F.cross_entropy(t, y)),
        r"only for the mean": epoch(loss=lambda y, t: cross_entropy(y, t).item()),
        r"use `model`": lambda model, *args: train_one_epoch(nn.Conv2d(3, 2, 1), *args),
        r"loss.item\(\)": returns_a_tensor,
        r"changes the labels": wipes_void,
    },
    "predict_labels": {
        r"train mode": predicts(mode=True),
        r"no_grad": predicts(grad=True),
        r"left in eval mode": predicts(after=True),
        r"returns a pair": predicts(lambda y: y.max(dim=1)),
        r"highest score": predicts(lambda y: (y[:, 1] > 0).long()),
        r"return a tensor": predicts(lambda y: y.argmax(1).numpy()),
        r"labels are floats": predicts(lambda y: y.argmax(1).float()),
    },
    "mean_map": {
        r"keepdim=True": lambda skip: skip.mean(dim=(2, 3)),
        r"keep the shape": lambda skip: skip.mean(dim=(2, 3), keepdim=True),
        r"1\.5 everywhere": torch.ones_like,
        r"return a tensor": lambda skip: skip.mean().item(),
        r"must return a tensor": lambda skip: RIGHT["mean_map"][0](skip).numpy(),
        r"not for 4x6": lambda skip: F.interpolate(F.avg_pool2d(skip, 2), scale_factor=2),
        r"one mean for the whole map": lambda skip: skip.sum((2, 3), True).expand_as(skip) / 4,
        r"at each of its pixels": lambda skip: (  # between the extremes
            skip * 0 + (skip.amax((2, 3), True) + skip.amin((2, 3), True)) / 2
        ),
    },
}
