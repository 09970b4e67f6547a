"""Right and wrong answers to the exercises of lesson 06."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from course_utils.checks import lesson_06 as checks
from course_utils.data import VOID
from course_utils.grading.hidden_tests import lesson_06 as hidden
from tests.wrong_answers import Exercise, Wrong


def sequential(make, name):
    """Return a class ``name(cin, cout)`` that runs the layers ``make(cin, cout)`` in a row."""

    def __init__(self, cin, cout):
        nn.Sequential.__init__(self, *make(cin, cout))

    return type(name, (nn.Sequential,), {"__init__": __init__})


def conv(cin, cout, size=3, padding=1, bias=False, **options):
    return nn.Conv2d(cin, cout, size, padding=padding, bias=bias, **options)


# --- ConvLayer -----------------------------------------------------------------------------------


def layers(make):
    return sequential(make, "ConvLayer")


ConvLayer = layers(lambda i, o: [conv(i, o), nn.BatchNorm2d(o), nn.ReLU(inplace=True)])


class ConvLayerByAttributes(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.norm = nn.BatchNorm2d(cout)
        self.convolution = nn.Conv2d(cin, cout, 3, padding="same", bias=False)

    def forward(self, x):
        return F.relu(self.norm(self.convolution(x)))


class LayersInPlainList(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.layers = [conv(cin, cout), nn.BatchNorm2d(cout), nn.ReLU()]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class LayersMadeInForward(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.cin, self.cout = cin, cout

    def forward(self, x):
        return F.relu(conv(self.cin, self.cout)(x))


class ForgottenSelf(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        convolution = conv(cin, cout)  # noqa: F841
        self.norm = nn.BatchNorm2d(cout)


class ForgottenSuper(nn.Module):
    def __init__(self, cin, cout):
        self.convolution = conv(cin, cout)


class ForgottenReturn(ConvLayerByAttributes):
    def forward(self, x):
        F.relu(self.norm(self.convolution(x)))


class NormNeverCalled(ConvLayerByAttributes):
    def forward(self, x):
        return F.relu(self.convolution(x))


CONV_LAYER = Exercise(
    checks.conv_layer,
    [ConvLayer, ConvLayerByAttributes],
    [
        Wrong(
            layers(lambda i, o: [conv(i, o, bias=True), nn.BatchNorm2d(o), nn.ReLU()]),
            r"bias=False",
            "bias left on",
        ),
        Wrong(
            layers(lambda i, o: [conv(i, o, padding=0), nn.BatchNorm2d(o), nn.ReLU()]),
            r"padding=1",
            "padding forgotten",
        ),
        Wrong(
            layers(lambda i, o: [conv(i, o), nn.ReLU(), nn.BatchNorm2d(o)]),
            r"ReLU came before the batch norm",
            "ReLU before batch norm",
        ),
        Wrong(layers(lambda i, o: [conv(i, o), nn.ReLU()]), r"own batch norm", "no batch norm"),
        Wrong(
            layers(lambda i, o: [conv(i, o), nn.BatchNorm2d(o)]), r"ReLU missing", "no activation"
        ),
        Wrong(
            layers(lambda i, o: [conv(i, o), nn.BatchNorm2d(o), nn.Sigmoid()]),
            r"sigmoid",
            "sigmoid for ReLU",
        ),
        Wrong(
            layers(lambda i, o: [conv(i, o), nn.BatchNorm2d(o), nn.LeakyReLU()]),
            r"ReLU missing",
            "leaky ReLU",
        ),
        Wrong(
            layers(lambda i, o: [conv(i, o, 5, 2), nn.BatchNorm2d(o), nn.ReLU()]),
            r"must be 3x3",
            "kernel 5x5",
        ),
        Wrong(
            layers(lambda i, o: [conv(i, o, stride=2), nn.BatchNorm2d(o), nn.ReLU()]),
            r"stride 1",
            "stride 2",
        ),
        Wrong(
            layers(lambda i, o: [conv(3, 8), nn.BatchNorm2d(8), nn.ReLU()]),
            r"stops on input|hard-coded",
            "channels hard-coded",
        ),
        Wrong(
            layers(lambda i, o: [conv(i, o), nn.BatchNorm2d(i), nn.ReLU()]),
            r"as many channels as it is given",
            "batch norm of the input's channels",
        ),
        Wrong(
            layers(lambda i, o: [nn.BatchNorm2d(o), conv(i, o), nn.ReLU()]),
            r"as many channels as it is given",
            "batch norm first",
        ),
        Wrong(
            layers(lambda i, o: [conv(o, i), nn.BatchNorm2d(o), nn.ReLU()]),
            r"out_channels swapped",
            "channels swapped",
        ),
        Wrong(ForgottenSelf, r"self\.name", "self forgotten"),
        Wrong(LayersInPlainList, r"plain Python list", "layers in a plain list"),
        Wrong(LayersMadeInForward, r"in __init__", "layers made in forward"),
        Wrong(ForgottenSuper, r"super\(\).__init__", "super forgotten"),
        Wrong(ForgottenReturn, r"`return` missing", "return forgotten"),
        Wrong(NormNeverCalled, r"never calls", "batch norm never called"),
        Wrong(
            layers(lambda i, o: [nn.BatchNorm2d(i), conv(i, o), nn.ReLU()]),
            r"the order is another",
            "batch norm of the input",
        ),
        Wrong(
            layers(lambda i, o: [conv(i, o), nn.ReLU(), nn.BatchNorm2d(o), nn.ReLU()]),
            r"the order is another",
            "a ReLU more before batch norm",
        ),
        Wrong(
            layers(lambda i, o: [conv(i, o, padding=2, dilation=2), nn.BatchNorm2d(o), nn.ReLU()]),
            r"dilation",
            "dilated",
        ),
        Wrong(
            layers(lambda i, o: [conv(i, o, padding_mode="reflect"), nn.BatchNorm2d(o), nn.ReLU()]),
            r"pad with zeros",
            "mirrors the border",
        ),
        Wrong(
            layers(lambda i, o: [conv(i, o), nn.BatchNorm2d(o, affine=False), nn.ReLU()]),
            r"learnt numbers",
            "batch norm that learns nothing",
        ),
        Wrong(
            layers(lambda i, o: [conv(i, o), nn.BatchNorm2d(o), nn.ReLU(), nn.Dropout(0.1)]),
            r"holds a Dropout",
            "dropout",
        ),
        Wrong(
            layers(lambda i, o: [conv(i, o), nn.BatchNorm2d(o), nn.ReLU6()]),
            r"0, 0.5, 9; it gives 0, 0.5, 6",
            "ReLU6",
        ),
        Wrong(lambda i, o: F.relu, r"must be a class", "a function"),
    ],
    hidden.conv_layer,
)

# --- ConvBlock -----------------------------------------------------------------------------------


def blocks(make):
    return sequential(make, "ConvBlock")


ConvBlock = blocks(lambda i, o: [ConvLayer(i, o), ConvLayer(o, o)])


class ConvBlockByAttributes(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.first, self.second = (
            ConvLayerByAttributes(cin, cout),
            ConvLayerByAttributes(cout, cout),
        )

    def forward(self, x):
        return self.second(self.first(x))


class SameLayerTwice(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.layer = ConvLayer(cin, cout)

    def forward(self, x):
        x = self.layer(x)
        # the slice makes the channels fit: what a hurried student does next
        return self.layer(x[:, : self.layer[0].in_channels])


class SecondLayerUnused(ConvBlockByAttributes):
    def forward(self, x):
        return self.first(x)


class SecondResultLost(ConvBlockByAttributes):
    def forward(self, x):
        x = self.first(x)
        self.second(x)
        return x


class FirstResultLost(ConvBlockByAttributes):
    def forward(self, x):
        self.first(x)
        return self.second(x)


class FirstLayerTwice(ConvBlockByAttributes):
    """ConvLayer(out, out) is called twice, after the first."""

    def forward(self, x):
        return self.second(self.second(self.first(x)))


class AddsTheInput(ConvBlockByAttributes):
    def forward(self, x):
        first = self.first(x)
        return first + self.second(first)


class BlockInPlainList(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.layers = [ConvLayer(cin, cout), ConvLayer(cout, cout)]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class BlockWithoutReturn(ConvBlockByAttributes):
    def forward(self, x):
        self.second(self.first(x))


def coarse_norm(cin, cout):
    """Return a ConvBlock whose batch norms have the epsilon of other frameworks."""
    block = ConvBlock(cin, cout)
    for layer in block.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 1e-3
    return block


class ConvBlockRegisteredBackwards(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.second = ConvLayer(cout, cout)
        self.first = ConvLayer(cin, cout)

    def forward(self, x):
        return self.second(self.first(x))


def half(cin, cout):
    return [conv(cin, cout), nn.BatchNorm2d(cout)]


def norms(channels):
    return [nn.BatchNorm2d(channels), nn.ReLU()]


CONV_BLOCK = Exercise(
    checks.conv_block,
    [ConvBlock, ConvBlockByAttributes, ConvBlockRegisteredBackwards, coarse_norm],
    [
        Wrong(SameLayerTwice, r"same \w+ object 2 times", "same layer twice"),
        Wrong(FirstLayerTwice, r"same \w+ object 2 times", "second layer called twice"),
        Wrong(blocks(lambda i, o: [ConvLayer(i, o)]), r"should be 2", "one layer only"),
        Wrong(
            blocks(lambda i, o: [ConvLayer(i, o), ConvLayer(o, o), ConvLayer(o, o)]),
            r"should hold 2",
            "three layers",
        ),
        Wrong(
            blocks(lambda i, o: [ConvLayer(i, o), ConvLayer(i, o)]),
            r"what the first gives",
            "second layer reads the block's input channels",
        ),
        Wrong(
            blocks(lambda i, o: [ConvLayer(i, i), ConvLayer(i, o)]),
            r"widen at once",
            "widens in the second layer",
        ),
        Wrong(
            blocks(lambda i, o: [ConvLayer(i, o), ConvLayer(o, o), nn.MaxPool2d(2)]),
            r"Pooling belongs",
            "pools inside",
        ),
        Wrong(
            blocks(lambda i, o: [conv(i, o), nn.ReLU(), conv(o, o), nn.ReLU()]),
            r"own batch norm",
            "bare convolutions",
        ),
        Wrong(
            blocks(lambda i, o: [nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU()] * 1),
            r"bias=False",
            "bias left on",
        ),
        Wrong(AddsTheInput, r"Something is added", "adds a shortcut"),
        Wrong(SecondLayerUnused, r"never calls", "second layer not used"),
        Wrong(SecondResultLost, r"come from both", "second layer's result lost"),
        Wrong(FirstResultLost, r"what the first returns", "first layer's result lost"),
        Wrong(
            blocks(lambda i, o: [ConvLayer(i, o), ConvLayer(o, o), nn.BatchNorm2d(o), nn.ReLU()]),
            r"only by that",
            "a batch norm too many",
        ),
        Wrong(
            blocks(lambda i, o: [*half(i, o), ConvLayer(o, o)]),
            r"something is missing",
            "no ReLU between",
        ),
        Wrong(
            blocks(lambda i, o: [conv(i, o), conv(o, o), *norms(o), *norms(o)]),
            r"the order is another",
            "both convolutions, then both norms",
        ),
        Wrong(BlockInPlainList, r"plain Python list", "layers in a plain list"),
        Wrong(BlockWithoutReturn, r"`return` missing", "return forgotten"),
    ],
    hidden.conv_block,
)

# --- UpConvBlock ---------------------------------------------------------------------------------


class UpConvBlock(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.up = nn.ConvTranspose2d(cin, cout, kernel_size=2, stride=2)
        self.block = ConvBlock(2 * cout, cout)

    def forward(self, x, skip):
        return self.block(torch.cat([self.up(x), skip], dim=1))


class UpConvBlockSkipFirst(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.first = ConvLayerByAttributes(cin, cout)
        self.second = ConvLayerByAttributes(cout, cout)
        self.up = nn.ConvTranspose2d(cin, cout, 2, 2, bias=False)

    def forward(self, x, skip):
        return self.second(self.first(torch.concat((skip, self.up(x)), 1)))


def up_block(up=None, read=2, join=None, after=None):
    """Return an UpConvBlock with one thing changed."""

    class Changed(nn.Module):
        def __init__(self, cin, cout):
            super().__init__()
            self.up = up(cin, cout) if up else nn.ConvTranspose2d(cin, cout, 2, 2)
            self.block = after(cin, cout) if after else ConvBlock(read * cout, cout)

        def forward(self, x, skip):
            joined = join(self.up(x), skip, x) if join else torch.cat([self.up(x), skip], dim=1)
            return self.block(joined)

    Changed.__name__ = "UpConvBlock"
    return Changed


class EnlargesTheSkip(UpConvBlock):
    def forward(self, x, skip):
        return super().forward(skip, x)


class ConcatenatesFirst(UpConvBlock):
    def forward(self, x, skip):
        return self.block(self.up(torch.cat([x, skip], dim=1)))


class UpConvBlockRegisteredBackwards(UpConvBlockSkipFirst):
    def __init__(self, cin, cout):
        super().__init__(cin, cout)
        first = self.first
        del self.first
        self.first = first


class LosesTheSecond(UpConvBlockSkipFirst):
    def forward(self, x, skip):
        first = self.first(torch.cat((skip, self.up(x)), 1))
        self.second(first)
        return first


class AddsTheSecond(UpConvBlockSkipFirst):
    def forward(self, x, skip):
        first = self.first(torch.cat((skip, self.up(x)), 1))
        return first + self.second(first)


class OneNormTwice(UpConvBlockSkipFirst):
    def __init__(self, cin, cout):
        super().__init__(cin, cout)
        self.spare, self.second.norm = self.second.norm, self.first.norm


class NarrowsLate(UpConvBlock):
    def __init__(self, cin, cout):
        super().__init__(cin, cout)
        self.block = nn.Sequential(ConvLayer(2 * cout, 2 * cout), ConvLayer(2 * cout, cout))


UP_CONV_BLOCK = Exercise(
    checks.up_conv_block,
    [UpConvBlock, UpConvBlockSkipFirst, UpConvBlockRegisteredBackwards],
    [
        Wrong(up_block(read=1, join=lambda up, skip, x: up + skip), r"is added", "adds the skip"),
        Wrong(
            up_block(read=1, join=lambda up, skip, x: torch.cat([up, skip], dim=2)),
            r"along the height",
            "concatenates along the height",
        ),
        Wrong(
            up_block(join=lambda up, skip, x: torch.cat([up, skip], dim=2)),
            r"along the height",
            "along the height, channels as wanted",
        ),
        Wrong(
            up_block(read=1, join=lambda up, skip, x: torch.cat([up, skip], dim=-1)),
            r"along the width",
            "concatenates along the width",
        ),
        Wrong(
            up_block(join=lambda up, skip, x: torch.cat([up, skip])),
            r"along the batch",
            "concatenates along the batch",
        ),
        Wrong(
            up_block(lambda i, o: nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(i, o, 1))),
            r"nothing to learn",
            "interpolates",
        ),
        Wrong(
            up_block(lambda i, o: nn.ConvTranspose2d(i, o, 3, 2, 1, 1)),
            r"its own 2x2 square",
            "kernel 3",
        ),
        Wrong(
            up_block(lambda i, o: nn.ConvTranspose2d(i, o, 2)),
            r"stride \(1, 1\)",
            "stride forgotten",
        ),
        Wrong(
            up_block(lambda i, o: nn.ConvTranspose2d(i, i, 2, 2), read=3),
            r"8 -> 4",
            "upsampling keeps all channels",
        ),
        Wrong(up_block(read=1, join=lambda up, skip, x: up), r"only one of the two", "no skip"),
        Wrong(
            up_block(join=lambda up, skip, x: torch.cat([up, up], 1)),
            r"skip is not in what",
            "the upsampled map twice",
        ),
        Wrong(
            up_block(join=lambda up, skip, x: torch.cat([F.relu(up), skip], 1)),
            r"changed on the way",
            "ReLU on the upsampled map",
        ),
        Wrong(
            up_block(after=lambda i, o: ConvLayer(2 * o, o)), r"should be 2", "one ConvLayer only"
        ),
        Wrong(ConcatenatesFirst, r"upsample x first", "concatenates before it upsamples"),
        Wrong(NarrowsLate, r"8 -> 4 -> 4", "narrows in the second layer"),
        Wrong(LosesTheSecond, r"gives other values", "second layer's result lost"),
        Wrong(OneNormTwice, r"BatchNorm2d object 2 times|never calls", "one batch norm twice"),
        Wrong(AddsTheSecond, r"gives other values", "adds a shortcut"),
        Wrong(
            up_block(join=lambda up, skip, x: torch.cat([up, skip.detach()], 1)),
            r"no detach",
            "skip detached",
        ),
        Wrong(
            up_block(join=lambda up, skip, x: torch.cat(up, skip, dim=1)),
            r"takes one list",
            "cat without the list",
        ),
        Wrong(
            up_block(join=lambda up, skip, x: torch.cat([up, x], dim=1)),
            r"upsample x first",
            "x beside itself",
        ),
        Wrong(EnlargesTheSkip, r"is it x, from below", "enlarges the skip"),
        Wrong(up_block(after=lambda i, o: ConvBlock(8, 4)), r"hard-coded", "channels hard-coded"),
    ],
    hidden.up_conv_block,
)

# --- the shapes ----------------------------------------------------------------------------------


def unet_shapes(height, width, channels=16):
    down = [(channels * 2**k, height // 2**k, width // 2**k) for k in range(5)]
    return down + down[3::-1]


def unet_shapes_by_loop(height, width, channels=16):
    shapes = []
    for _ in range(4):
        shapes.append([channels, height, width])
        channels, height, width = channels * 2, height // 2, width // 2
    shapes.append([channels, height, width])
    for _ in range(4):
        channels, height, width = channels // 2, height * 2, width * 2
        shapes.append([channels, height, width])
    return shapes


def changed(change):
    return lambda height, width, channels=16: change(unet_shapes(height, width, channels))


def float_shapes(height, width, channels=16):
    down = [(channels * 2**k, height / 2**k, width / 2**k) for k in range(5)]
    return down + down[3::-1]


def shapes_pooled_first(height, width, channels=16):
    return unet_shapes(height // 2, width // 2, channels)


def decoders_of_16_channels(height, width, channels=16):
    return unet_shapes(height, width, channels)[:5] + unet_shapes(height, width)[5:]


def shapes_by_numpy(height, width, channels=16):
    sizes = np.array([channels, height, width])
    down = [tuple(sizes * (2**k, 1, 1) // (1, 2**k, 2**k)) for k in range(5)]
    return down + down[3::-1]


UNET_SHAPES = Exercise(
    checks.unet_shapes,
    [unet_shapes, unet_shapes_by_loop, shapes_by_numpy],
    [
        Wrong(changed(lambda s: [(c, w, h) for c, h, w in s]), r"swapped", "height, width swapped"),
        Wrong(changed(lambda s: [(h, w, c) for c, h, w in s]), r"PyTorch's order", "channels last"),
        Wrong(changed(lambda s: [(1, *x) for x in s]), r"without the batch", "with the batch"),
        Wrong(changed(lambda s: s[:4] + s[5:]), r"gives 8 shapes", "no bottleneck"),
        Wrong(changed(lambda s: s[:5]), r"gives 5 shapes", "no decoders"),
        Wrong(shapes_pooled_first, r"pooling comes after", "pools before the first block"),
        Wrong(
            changed(lambda s: s[:5] + [(2 * c, h, w) for c, h, w in s[5:]]),
            r"concatenation inside",
            "decoders as concatenated",
        ),
        Wrong(
            changed(lambda s: [(16, h, w) for c, h, w in s]),
            r"channels start with 16",
            "no doubling",
        ),
        Wrong(float_shapes, r"whole pixels", "true division"),
        Wrong(changed(lambda s: s[:5] + s[5:][::-1]), r"from the shallowest", "decoders top down"),
        Wrong(
            changed(lambda s: [(c, h, h) for c, h, w in s]),
            r"wanted \(16, 96, 128\)",
            "height for width",
        ),
        Wrong(lambda height, width, channels=16: unet_shapes(96, 128), r"hard-coded", "hard-coded"),
        Wrong(decoders_of_16_channels, r"hard-coded", "decoders hard-coded"),
        Wrong(changed(lambda s: None), r"list of tuples", "returns nothing"),
    ],
    hidden.unet_shapes,
)

# --- UNet ----------------------------------------------------------------------------------------


class UNet(nn.Module):
    def __init__(self, in_channels, num_classes, width=16):
        super().__init__()
        sizes = [width * 2**k for k in range(5)]
        self.encoders = nn.ModuleList(
            ConvBlock(i, o) for i, o in zip([in_channels, *sizes[:3]], sizes[:4], strict=True)
        )
        self.bottleneck = ConvBlock(sizes[3], sizes[4])
        self.decoders = nn.ModuleList(UpConvBlock(2 * c, c) for c in sizes[3::-1])
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x):
        skips = []
        for encoder in self.encoders:
            skips.append(encoder(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.bottleneck(x)
        for decoder, skip in zip(self.decoders, reversed(skips), strict=True):
            x = decoder(x, skip)
        return self.head(x)


class UNetByHand(nn.Module):
    def __init__(self, in_channels, num_classes, width=16):
        super().__init__()
        w = width
        self.pool = nn.MaxPool2d(2)
        self.encoders = nn.Sequential(
            ConvBlockByAttributes(in_channels, w),
            ConvBlockByAttributes(w, 2 * w),
            ConvBlockByAttributes(2 * w, 4 * w),
            ConvBlockByAttributes(4 * w, 8 * w),
        )
        self.bottleneck = ConvBlockByAttributes(8 * w, 16 * w)
        self.decoders = nn.ModuleList()
        for wide in (8 * w, 4 * w, 2 * w, w):
            self.decoders.append(UpConvBlockSkipFirst(2 * wide, wide))
        self.head = nn.Conv2d(w, num_classes, kernel_size=1, bias=False)

    def forward(self, x):
        a = self.encoders[0](x)
        b = self.encoders[1](self.pool(a))
        c = self.encoders[2](self.pool(b))
        d = self.encoders[3](self.pool(c))
        x = self.decoders[0](self.bottleneck(self.pool(d)), d)
        x = self.decoders[1](x, c)
        return self.head(self.decoders[3](self.decoders[2](x, b), a))


def unet_with(init=None, forward=None):
    """Return a UNet with something done at the end of __init__, or with another forward."""

    class Changed(UNet):
        def __init__(self, in_channels, num_classes, width=16):
            super().__init__(in_channels, num_classes, width)
            if init:
                init(self, in_channels, num_classes, width)

        def forward(self, x):
            return forward(self, x) if forward else super().forward(x)

    Changed.__name__ = "UNet"
    return Changed


def after_head(function):
    return unet_with(forward=lambda self, x: function(UNet.forward(self, x)))


def through_bottleneck(self, x):
    return self.bottleneck(x)


def unet_run(
    pool=F.max_pool2d,
    order=reversed,
    keep="before",
    change=lambda skip: skip,
    bottom=through_bottleneck,
):
    """Return a UNet whose forward has one mistake."""

    def forward(self, x):
        skips = []
        for encoder in self.encoders:
            full = encoder(x)
            x = pool(full, 2)
            skips.append(change(full if keep == "before" else x))
        x = bottom(self, x)
        for decoder, skip in zip(self.decoders, order(skips), strict=True):
            x = decoder(x, skip)
        return self.head(x)

    return unet_with(forward=forward)


def encoders_in_list(self, cin, classes, width):
    kept = list(self.encoders)
    del self.encoders
    self.encoders = kept


def decoders_in_list(self, cin, classes, width):
    kept = list(self.decoders)
    del self.decoders
    self.decoders = kept


def same_channels(self, cin, classes, width):
    self.encoders = nn.ModuleList(ConvBlock(cin if k == 0 else width, width) for k in range(4))


def set_head(make):
    def init(self, cin, classes, width):
        self.head = make(width, classes)

    return unet_with(init)


def drop_level(self, cin, classes, width):
    self.encoders = self.encoders[:3]
    self.decoders = self.decoders[1:]


def shallow_first(self, cin, classes, width):
    self.decoders = self.decoders[::-1]


def drop_head(self, cin, classes, width):
    del self.head


def spare_layer(self, cin, classes, width):
    self.spare = ConvBlock(width, width)


def head_of_zeros(self, cin, classes, width):
    nn.init.zeros_(self.head.weight)
    nn.init.zeros_(self.head.bias)


def wide_bottleneck(self, cin, classes, width):
    self.bottleneck = nn.Sequential(
        ConvBlock(8 * width, 32 * width), ConvLayer(32 * width, 16 * width)
    )


def enlarged_by_interpolation(self, cin, classes, width):
    for decoder in self.decoders:
        up = decoder.up
        decoder.up = nn.Sequential(
            nn.Upsample(scale_factor=2), nn.Conv2d(up.in_channels, up.out_channels, 3, padding=1)
        )


def one_encoder(self, cin, classes, width):
    self.encoders = ConvBlockByAttributes(cin, width)


def dropped(self, cin, classes, width):
    self.encoders[0].append(nn.Dropout(0.2))


def fixed_input(in_channels, num_classes, width=16):
    return UNet(3, num_classes, width)


UNET = Exercise(
    checks.unet,
    [UNet, UNetByHand, unet_with(head_of_zeros)],
    [
        Wrong(unet_with(encoders_in_list), r"nn.ModuleList", "encoders in a plain list"),
        Wrong(unet_with(decoders_in_list), r"nn.ModuleList", "decoders in a plain list"),
        Wrong(after_head(lambda y: y.softmax(1)), r"softmax in the network", "softmax inside"),
        Wrong(after_head(F.relu), r"follows the head", "ReLU after the head"),
        Wrong(after_head(torch.sigmoid), r"follows the head", "sigmoid after the head"),
        Wrong(after_head(lambda y: y.argmax(1)), r"argmax inside", "argmax inside"),
        Wrong(set_head(lambda w, c: nn.Conv2d(w, c, 3, padding=1)), r"1x1", "head 3x3"),
        Wrong(set_head(lambda w, c: nn.Conv2d(w, 10, 1)), r"num_classes", "classes hard-coded"),
        Wrong(unet_with(drop_head), r"no layer `head`", "no head"),
        Wrong(unet_with(drop_level), r"holds 3 blocks", "three levels"),
        Wrong(unet_with(same_channels), r"channels double", "channels do not double"),
        Wrong(unet_run(pool=lambda x, _: x), r"max_pool2d", "no pooling"),
        Wrong(unet_run(pool=F.avg_pool2d), r"the strongest", "average pooling"),
        Wrong(unet_with(shallow_first), r"deepest comes first", "shallowest decoder first"),
        Wrong(unet_run(order=list), r"in reverse", "skips not reversed"),
        Wrong(unet_run(keep="after"), r"before the pooling", "skips kept after pooling"),
        Wrong(unet_run(change=torch.zeros_like), r"is no skip", "skips of zeros"),
        Wrong(unet_run(change=lambda s: s.detach() * 2), r"is no skip", "skips changed"),
        Wrong(unet_run(bottom=lambda self, x: x), r"go through the bottleneck", "no bottleneck"),
        Wrong(
            unet_with(forward=lambda self, x: UNet.forward(self, x / 255)),
            r"lie in \[0, 1\] already",
            "divides by 255",
        ),
        Wrong(unet_with(spare_layer), r"gets no gradient", "a layer never used"),
        Wrong(fixed_input, r"hard-coded", "input channels hard-coded"),
        Wrong(
            after_head(lambda y: y.permute(0, 2, 3, 1).reshape(y.shape)),
            r"follows the head",
            "pixels scrambled",
        ),
        Wrong(after_head(lambda y: y.log_softmax(1)), r"follows the head", "log-softmax inside"),
        Wrong(after_head(F.dropout), r"follows the head", "dropout of scores"),
        Wrong(after_head(torch.squeeze), r"for one image", "axes of length 1 lost"),
        Wrong(unet_with(wide_bottleneck), r"has [\d,]+ parameters", "a bottleneck too wide"),
        Wrong(unet_with(enlarged_by_interpolation), r"variants in a class", "interpolates"),
        Wrong(unet_with(one_encoder), r"a list of four blocks", "one encoder, no list"),
        Wrong(unet_with(dropped), r"holds a Dropout", "dropout in an encoder"),
        Wrong(
            unet_with(forward=torch.no_grad()(UNet.forward)),
            r"no gradient can flow",
            "forward without gradients",
        ),
    ],
    hidden.unet,
)

# --- the untrained loss --------------------------------------------------------------------------

UNTRAINED_LOSS = Exercise(
    checks.untrained_loss,
    [
        math.log,
        lambda num_classes: F.cross_entropy(torch.zeros(1, num_classes), torch.tensor([0])),
        lambda num_classes: -math.log(1 / num_classes),
    ],
    [
        Wrong(lambda c: math.log(1 / c), r"positive", "sign"),
        Wrong(math.log2, r"in bits", "in bits"),
        Wrong(math.log10, r"log10", "log10"),
        Wrong(lambda c: 1 / c, r"probability 1/C", "the probability"),
        Wrong(lambda c: 1 - 1 / c, r"wrong guesses", "the error rate"),
        Wrong(lambda c: c * math.log(c), r"only the true class", "sum over the classes"),
        Wrong(lambda c: 0.0, r"perfect", "zero"),
        Wrong(lambda c: math.log(10), r"-ln\(1/4\) = 1.386", "ten classes always"),
        Wrong(lambda c: 1.3863, r"hard-coded", "four classes always"),
        Wrong(lambda c: None, r"`return` missing", "return forgotten"),
    ],
    hidden.untrained_loss,
)

# --- the training loop ---------------------------------------------------------------------------


def train_one_epoch(model, batches, optimizer):
    model.train()
    total = 0.0
    for images, labels in batches:
        loss = F.cross_entropy(model(images), labels, ignore_index=VOID)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(batches)


def train_one_epoch_by_hand(model, batches, optimizer):
    model.train(True)
    losses = []
    for images, labels in batches:
        model.zero_grad()
        log_p = model(images).log_softmax(dim=1)
        known = labels != VOID
        picked = log_p.gather(1, labels.where(known, torch.zeros_like(labels))[:, None])[:, 0]
        loss = -picked[known].mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    return sum(losses) / len(losses)


def epoch(*, mode=True, zero="first", lossy=None, order="backward step", end="mean", stop=False):
    """Return a train_one_epoch with one mistake."""

    def loop(model, batches, optimizer):
        model.train(mode) if mode is not None else None
        losses = []
        for images, labels in batches:
            logits = model(images)
            loss = (
                lossy(logits, labels)
                if lossy
                else F.cross_entropy(logits, labels, ignore_index=VOID)
            )
            for action in {"first": "zero ", "never": ""}.get(zero, "").split() + order.split():
                {"zero": optimizer.zero_grad, "backward": loss.backward, "step": optimizer.step}[
                    action
                ]()
            losses.append(loss if end == "tensor" else loss.item())
            if stop:
                break
        if end == "nothing":
            return None
        return {"sum": sum(losses), "last": losses[-1]}.get(end, sum(losses) / len(losses))

    return loop


def step_after_the_loop(model, batches, optimizer):
    model.train()
    losses = []
    for images, labels in batches:
        loss = F.cross_entropy(model(images), labels, ignore_index=VOID)
        loss.backward()
        losses.append(loss.item())
    optimizer.step()
    return sum(losses) / len(losses)


def step_before_forward(model, batches, optimizer):
    model.train()
    losses = []
    for images, labels in batches:
        optimizer.step()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels, ignore_index=VOID)
        loss.backward()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def ignoring(change, **options):
    return lambda logits, labels: F.cross_entropy(
        change(logits), labels, ignore_index=VOID, **options
    )


def void_as_sky(logits, labels):
    return F.cross_entropy(logits, labels.masked_fill(labels == VOID, 0))


def void_as_zero_loss(logits, labels):
    return F.cross_entropy(logits, labels, ignore_index=VOID, reduction="none").mean()


def another_model(model, batches, optimizer):
    return train_one_epoch(nn.Conv2d(3, 2, 1), batches, optimizer)


def running_mean(model, batches, optimizer):
    mean = None
    for batch in batches:
        loss = train_one_epoch(model, [batch], optimizer)
        mean = loss if mean is None else (mean + loss) / 2
    return mean


def wipes_void(model, batches, optimizer):
    for _, labels in batches:
        labels.masked_fill_(labels == VOID, -100)
    model.train()
    losses = []
    for images, labels in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


TRAIN_ONE_EPOCH = Exercise(
    checks.train_one_epoch,
    [train_one_epoch, train_one_epoch_by_hand],
    [
        Wrong(epoch(zero="never"), r"zero_grad\(\) is missing", "zero_grad forgotten"),
        Wrong(epoch(order="backward"), r"one step a batch", "step forgotten"),
        Wrong(epoch(order="step"), r"backward\(\) is missing", "backward forgotten"),
        Wrong(epoch(zero="", order="step zero backward"), r"step\(\) comes before", "step first"),
        Wrong(epoch(order="backward zero step"), r"wipes it out", "zero_grad before step"),
        Wrong(epoch(mode=False), r"eval mode", "eval mode"),
        Wrong(epoch(mode=None), r"eval mode", "mode left as it was"),
        Wrong(epoch(lossy=F.cross_entropy), r"ignore_index=VOID", "void not ignored"),
        Wrong(epoch(lossy=void_as_sky), r"counted as class 0", "void as class 0"),
        Wrong(epoch(lossy=void_as_zero_loss), r"as zeros", "void averaged as zero"),
        Wrong(epoch(lossy=ignoring(lambda y: y.softmax(1))), r"softmax came before", "softmax"),
        Wrong(epoch(lossy=ignoring(torch.detach)), r"hangs on no parameter", "detached"),
        Wrong(
            epoch(lossy=lambda y, t: F.cross_entropy(y.argmax(1).float(), t)),
            r"train_one_epoch stops",
            "argmax before the loss, as float",
        ),
        Wrong(
            epoch(lossy=lambda y, t: F.cross_entropy(y.argmax(1), t)),
            r"not their argmax",
            "argmax before the loss",
        ),
        Wrong(
            epoch(lossy=lambda y, t: F.cross_entropy(t, y)),
            r"in this order",
            "labels before logits",
        ),
        Wrong(
            epoch(lossy=ignoring(lambda y: y, reduction="sum")), r"reduction", "summed over pixels"
        ),
        Wrong(epoch(order="step backward"), r"comes after step", "step before backward"),
        Wrong(
            epoch(lossy=lambda y, t: ignoring(lambda z: z)(y, t).item()),
            r"only for the mean",
            "item before backward",
        ),
        Wrong(another_model, r"use `model`", "another model than the given one"),
        Wrong(epoch(end="tensor"), r"loss.item\(\)", "returns a tensor"),
        Wrong(epoch(end="sum"), r"the sum", "returns the sum"),
        Wrong(epoch(end="last"), r"one batch only", "returns the last loss"),
        Wrong(epoch(end="nothing"), r"returns None", "returns nothing"),
        Wrong(epoch(stop=True), r"inside the for loop", "return inside the loop"),
        Wrong(step_before_forward, r"step\(\) comes before", "step before the forward pass"),
        Wrong(step_after_the_loop, r"one step a batch", "one step for all batches"),
        Wrong(running_mean, r"each batch counts the same", "a mean of the last and all before"),
        Wrong(wipes_void, r"changes the labels", "labels changed in place"),
    ],
    hidden.train_one_epoch,
)

# --- the prediction ------------------------------------------------------------------------------


@torch.no_grad()
def predict_labels(model, images):
    model.eval()
    return model(images).argmax(dim=1)


def predict_labels_by_probability(model, images):
    with torch.inference_mode():
        return model.eval()(images).softmax(dim=1).max(dim=1).indices.to(torch.uint8)


def labels(pick, mode=False, grad=False):
    """Return a predict_labels with one mistake."""

    def predict(model, images):
        model.train(mode)
        with torch.set_grad_enabled(grad):
            return pick(model(images))

    return predict


def back_to_training(model, images):
    predicted = predict_labels(model, images)
    model.train()
    return predicted


PREDICT_LABELS = Exercise(
    checks.predict_labels,
    [predict_labels, predict_labels_by_probability],
    [
        Wrong(labels(lambda y: y.argmax(1), mode=True), r"train mode", "train mode"),
        Wrong(labels(lambda y: y.argmax(1), grad=True), r"no_grad", "gradients recorded"),
        Wrong(labels(lambda y: y.argmax(0)), r"over axis 0", "argmax over the batch"),
        Wrong(labels(lambda y: y.argmax(2)), r"over axis 2", "argmax over the height"),
        Wrong(labels(lambda y: y.argmax(-1)), r"over axis 3", "argmax over the width"),
        Wrong(labels(lambda y: y.amax(1)), r"are floats", "the best score"),
        Wrong(labels(lambda y: y.max(dim=1)), r"returns a pair", "scores and classes"),
        Wrong(labels(lambda y: y.argmin(1)), r"highest score", "argmin"),
        Wrong(labels(lambda y: y.softmax(1)), r"score for every class", "probabilities"),
        Wrong(labels(lambda y: y.argmax(1, keepdim=True)), r"keepdim", "class axis kept"),
        Wrong(labels(lambda y: None), r"`return` missing", "return forgotten"),
        Wrong(back_to_training, r"left in eval mode", "train mode afterwards"),
        Wrong(labels(lambda y: (y[:, 1] > 0).long()), r"highest score", "threshold of one class"),
        Wrong(labels(lambda y: y.argmax(1).numpy()), r"return a tensor", "a numpy array"),
    ],
    hidden.predict_labels,
)

# --- a skip removed ------------------------------------------------------------------------------


def mean_map(skip):
    return skip.mean(dim=(2, 3), keepdim=True).expand_as(skip)


def mean_map_by_pooling(skip):
    return F.adaptive_avg_pool2d(skip, 1) * torch.ones_like(skip)


def mean_in_place(skip):
    skip[:] = skip.mean(dim=(2, 3), keepdim=True)
    return skip


def mean_over(*axes):
    return lambda skip: skip.mean(dim=axes, keepdim=True).expand_as(skip)


def blurred(skip):
    return F.interpolate(F.avg_pool2d(skip, 2), scale_factor=2)


def midrange(skip):
    return ((skip.amax((2, 3), True) + skip.amin((2, 3), True)) / 2).expand_as(skip)


MEAN_MAP = Exercise(
    checks.mean_map,
    [mean_map, mean_map_by_pooling],
    [
        Wrong(torch.zeros_like, r"gives zeros", "zeros"),
        Wrong(lambda skip: skip, r"nothing is removed", "unchanged"),
        Wrong(lambda skip: skip.mean(dim=(2, 3)), r"keepdim=True", "no keepdim"),
        Wrong(lambda skip: skip.mean(dim=(2, 3), keepdim=True), r"keep the shape", "not expanded"),
        Wrong(mean_over(0, 2, 3), r"over the batch", "over the batch"),
        Wrong(mean_over(1, 2, 3), r"over the channels as well", "over the channels as well"),
        Wrong(mean_over(0, 1, 2, 3), r"over everything", "over everything"),
        Wrong(mean_over(1), r"keeps the position", "over the channels"),
        Wrong(mean_over(2), r"over the height only", "over the height"),
        Wrong(mean_over(3), r"over the width only", "over the width"),
        Wrong(mean_in_place, r"changed its input", "in place"),
        Wrong(torch.ones_like, r"1\.5 everywhere", "ones"),
        Wrong(lambda skip: skip.mean().item(), r"return a tensor", "one number"),
        Wrong(blurred, r"not for 4x6", "blurred"),
        Wrong(midrange, r"not for 4x6", "between the extremes"),
        Wrong(lambda skip: skip.sum((2, 3), True).expand_as(skip) / 4, r"not for 4x6", "over 4"),
    ],
    hidden.mean_map,
)

BANK = {
    "conv_layer": CONV_LAYER,
    "conv_block": CONV_BLOCK,
    "up_conv_block": UP_CONV_BLOCK,
    "unet_shapes": UNET_SHAPES,
    "unet": UNET,
    "untrained_loss": UNTRAINED_LOSS,
    "train_one_epoch": TRAIN_ONE_EPOCH,
    "predict_labels": PREDICT_LABELS,
    "mean_map": MEAN_MAP,
}
