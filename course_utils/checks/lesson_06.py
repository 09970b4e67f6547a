"""Checks of lesson 06: the parts of a U-Net, its training loop and its skips.

The blocks and the U-Net are :class:`NetExercise`: a table of facts each, put together from tables
that they share. The functions are :class:`Exercise`: a right answer and a table of mistakes. What
a training loop or a prediction does with a model (its mode, its gradients) is noted by the model
and the optimizer that it is given.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial, reduce
from itertools import pairwise
from numbers import Integral
from operator import itemgetter
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from course_utils.checks import networks as net
from course_utils.checks.exercise import Case, Exercise, is_same
from course_utils.checks.networks import Build, NetExercise, Observed
from course_utils.data import VOID
from course_utils.models import unet as models

_DEVICES = dict.fromkeys(
    ("on the same device", r"and weight type \(torch"),
    "the batches lie on the model's device already: leave them there, without .to(device)",
)
_CHANNELS = {
    "running_mean should contain": "batch norm must have as many channels as it is given; after "
    "the convolution these are out_channels",
    "must be tuple of Tensors": "torch.cat takes one list, torch.cat([a, b], dim=1)",
}

# --- the blocks ----------------------------------------------------------------------------------


def _count(o: Observed, kind: type = nn.Conv2d) -> int:
    return len(o.all(kind))


def _layers(count: int) -> dict[str, Callable]:
    """Return the facts of the 3x3 convolutions and batch norms that a block is made of."""
    return {
        **net.REGISTERED,
        "a convolution of {name} has {found}; it must be 3x3.": net.every(
            nn.Conv2d, kernel_size=(3, 3)
        ),
        "a convolution of {name} has {found}; blocks keep the size, only pooling reduces it: "
        "stride 1.": net.every(nn.Conv2d, stride=(1, 1)),
        "a convolution of {name} has {found}; leave dilation and groups as they are, and pad with "
        "zeros.": net.every(nn.Conv2d, dilation=(1, 1), groups=1, padding_mode="zeros"),
        "a convolution of {name} has a bias. Batch norm subtracts each channel's mean right after "
        "it, so that bias can change nothing: bias=False.": net.every(nn.Conv2d, bias=None),
        f"{{name}} holds {{found}} convolutions; it should hold {count}.": lambda o: (
            _count(o) <= count or _count(o)
        ),
        "{name} holds {found} nn.BatchNorm2d; each convolution is followed by its own batch "
        "norm, only by that.": lambda o: (
            _count(o, nn.BatchNorm2d) == _count(o) or _count(o, nn.BatchNorm2d)
        ),
        "a batch norm of {name} has {found}: leave it its two learnt numbers a channel.": net.every(
            nn.BatchNorm2d, affine=True
        ),
        **net.NO_DROPOUT,
    }


def _reference(o: Observed) -> torch.Tensor:
    """Return what functions make of what the first convolution is given, in train mode."""
    pairs = [*zip(o.called(nn.Conv2d), o.called(nn.BatchNorm2d), strict=True)]
    (x,) = o.given[pairs[0][0]]
    for conv, norm in pairs:
        if norm.num_features != conv.out_channels:
            return x.new_zeros(0)
        x = F.conv2d(x, conv.weight, padding=1)
        x = F.relu(F.batch_norm(x, None, None, norm.weight, norm.bias, True, 0.1, norm.eps))
    return x


@torch.no_grad()
def _other_pixels(o: Observed) -> Iterator[str]:
    """Look at what is made of -2, 0.5, 9 where each kernel copies channel i to channel i."""
    block = o.ended and o.build().eval()
    for layer in block.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.dirac_(layer.weight)
    row = torch.tensor([-2.0, 0.5, 9.0]).expand(1, o.case.arguments[0], 1, 3)
    found = block(row)[0, 0, 0].tolist()
    told = ", ".join(f"{value:.3g}" for value in found)
    if min(found) < 0:
        yield f"{told}. A negative value came through: is the ReLU missing?"
    if all(0 < value <= 1 for value in found):
        yield f"{told}. That is a sigmoid or softmax, not ReLU = max(x, 0)"
    if found[-1] > 9.1:
        yield f"{told}. Something is added to the result: return the last layer's"
    if math.dist(found, (0, 0.5, 9)) > 0.015:
        yield f"{told}. Only convolution, batch norm and ReLU act here"


def _same_size(o: Observed) -> tuple[int, ...]:
    """Return the shape that an output must have: the second argument tells its channels."""
    batch, _, *size = o.inputs[0].shape
    return batch, o.case.arguments[1], *size


_OUTPUT = {
    "{name} halves the size. Pooling belongs between the levels, in UNet.forward.": lambda o: (
        o.output.shape[2] != o.inputs[0].shape[2] // 2
    ),
    **net.size(_same_size),
    "with kernels that copy their input, {name} must turn the pixels -2, 0.5, 9 into 0, 0.5, 9; it "
    "gives {found}.": _other_pixels,
}
_VALUES = {
    "{name} gives negative values in training: the ReLU came before the batch norm, which then "
    "moved values below 0 again. The order is convolution, "
    "batch norm, ReLU.": lambda o: o.output.min().item() >= 0,
    "{name} gives other values in training than convolution, batch norm, ReLU (twice in a block): "
    "the order is another, something is missing (a batch norm or ReLU), or something else acts as "
    "well.": lambda o: net.alike(o.output, _reference(o)),
}


def _draw_block(rng: np.random.Generator) -> list[Build]:
    cin, cout, *size = rng.choice(range(9, 20), 4, replace=False).tolist()
    return [Build(cin, cout, given=[(3, cin, *size)], seed=rng.integers(2**31))]


conv_layer = NetExercise(
    "ConvLayer",
    lends=models.ConvLayer,
    learnt="3x3 without bias, batch norm, then ReLU; the size stays",
    cases=[Build(3, 8, given=[(4, 3, 7, 10)]), Build(5, 2, given=[(1, 5, 16, 12)])],
    drawn=_draw_block,
    causes=_CHANNELS
    | {"Given groups=1": "are in_channels and out_channels swapped in the convolution?"},
    facts=_layers(1) | net.EACH_CALLED_ONCE | _OUTPUT | _VALUES,
)


def _other_channels(o: Observed) -> Iterator[str]:
    """Look at the channels of two ConvLayers in a row; in an UpConvBlock in is twice out, too."""
    (cin, cout), called = o.case.arguments, o.called(nn.Conv2d)
    found = [(conv.in_channels, conv.out_channels) for conv in called]
    if len(found) == 2 and found != [(cin, cout), (cout, cout)]:
        told = " and ".join(f"{i} -> {o}" for i, o in found)
        yield f"{told}; wanted {cin} -> {cout} -> {cout}"


_TWO_LAYERS = {
    "{name} has ConvLayers {found}: the first one reaches out_channels, and the second reads what "
    "the first gives.": _other_channels,
    **net.EACH_CALLED_ONCE,
    "{name} holds {found} ConvLayer(s); it should be 2.": lambda o: (
        (o.ended and _count(o) == 2) or _count(o)
    ),
}

conv_block = NetExercise(
    "ConvBlock",
    lends=models.ConvBlock,
    learnt="two ConvLayers with weights of their own",
    cases=[Build(3, 8, given=[(2, 3, 8, 12)]), Build(5, 2, given=[(1, 5, 16, 12)])],
    drawn=_draw_block,
    causes=_CHANNELS,
    facts={
        **_layers(2),
        **_TWO_LAYERS,
        "{name} gives a layer for {found}: the first is made for in_channels and given x, the "
        "second is given what the first returns.": lambda o: (
            f"{conv.in_channels} channels a map of {x.shape[1]}"
            for conv in o.called(nn.Conv2d)
            for x in o.given[conv]
            if x.shape[1] != conv.in_channels
        ),
        **_OUTPUT,
        "{name} calls both layers, but its output does not come from both: return what the second "
        "layer gives.": lambda o: all(slope is not None for slope in o.gradients().values()),
        **_VALUES,
    },
)


def _up(o: Observed) -> nn.ConvTranspose2d:
    return o.all(nn.ConvTranspose2d)[0]


def _joined(wrong: Callable) -> Callable[[Observed], Any]:
    """Return a fact of what the first convolution is given: ``wrong(this, upsampled, skip)``."""
    return lambda o: (
        f"{tuple(both.shape)}; wanted {tuple(torch.cat([skip, skip], 1).shape)}"
        for conv, skip in zip(o.called(nn.Conv2d), o.inputs[1:], strict=False)
        for both in o.given[conv]
        if wrong(both, o.made[_up(o)], skip)
    )


def _twice_along(axis: int) -> Callable[[Observed], Any]:
    return _joined(lambda both, up, skip: both.shape == torch.cat([skip, skip], axis).shape)


def _lacks(part: int) -> Callable[[Observed], Any]:
    return _joined(
        lambda *maps: not any(torch.equal(half, maps[part]) for half in maps[0].chunk(2, dim=1))
    )


_CONCATENATION = {
    f"the two maps were concatenated along the {what} (axis {axis}): {{found}}. Channels are axis "
    "1 of (B, C, H, W): torch.cat([...], dim=1).": _twice_along(axis)
    for axis, what in {0: "batch", 2: "height", 3: "width"}.items()
} | {
    "the skip is added to the upsampled map. Adding mixes the two for good; concatenate along "
    "dim=1, the next layer chooses.": _joined(lambda both, up, skip: net.alike(both, up + skip)),
    "the first ConvLayer is not given both maps, maybe only one of the two: {found}.": _joined(
        lambda both, up, skip: both.shape != torch.cat([skip, skip], 1).shape
    ),
    "the skip is not in what you concatenate: the encoder's map must go in as it is.": _lacks(2),
    "the upsampled map is not in what you concatenate, or it was changed on the way: concatenate "
    "the transposed convolution's output as it is.": _lacks(1),
}


def _draw_up(rng: np.random.Generator) -> list[Build]:
    c, h, w = rng.choice(range(5, 10), 3, replace=False).tolist()
    shapes = [(3, 2 * c, h, w), (3, c, 2 * h, 2 * w)]
    return [Build(2 * c, c, given=shapes, seed=rng.integers(2**31))]


up_conv_block = NetExercise(
    "UpConvBlock",
    lends=models.UpConvBlock,
    learnt="upsample, concatenate along the channels, two ConvLayers",
    cases=[
        Build(8, 4, given=[(2, 8, 3, 5), (2, 4, 6, 10)]),
        Build(12, 6, given=[(1, 12, 2, 4), (1, 6, 4, 8)]),
    ],
    drawn=_draw_up,
    causes={
        **_CHANNELS,
        "Sizes of tensors must match": "the upsampled map and the skip differ in size: upsample x "
        "first, then concatenate",
        "transposed=1": "the transposed convolution is given a map of other channels: is it x, "
        "from below, that you enlarge?",
        "Given groups=1": "a ConvLayer is given other channels than it was made for: the "
        "concatenation has 2 * out_channels",
    },
    facts={
        "{name} holds {found} nn.ConvTranspose2d; it needs one. Interpolation (nn.Upsample, "
        "F.interpolate) doubles the size, too, but has nothing to learn.": lambda o: (
            (found := _count(o, nn.ConvTranspose2d)) == 1 or found
        ),
        "the transposed convolution has {found}; with kernel 2, stride 2 each input pixel "
        "fills its own 2x2 square.": net.every(
            nn.ConvTranspose2d, stride=(2, 2), kernel_size=(2, 2)
        ),
        "in {name}(8, 4) the transposed convolution must bring in_channels down to out_channels: "
        "8 -> 4.": lambda o: (_up(o).in_channels, _up(o).out_channels) == o.case.arguments,
        **_layers(2),
        **net.EACH_CALLED_ONCE,
        **_CONCATENATION,
        "the transposed convolution must be given x as it is.": lambda o: (
            o.ended and torch.equal(*o.given[_up(o)], o.inputs[0])
        ),
        **_TWO_LAYERS,
        **net.size(lambda o: tuple(o.inputs[1].shape)),
        **_VALUES,
        "no gradient reaches the skip, so the encoder could not learn through it: "
        "no detach().": lambda o: o.gradients()["input 1"] is not None,
        **net.GRADIENTS,
    },
)

# --- the shapes ----------------------------------------------------------------------------------


def _shapes(height: int, width: int, channels: int = 16) -> list[tuple[int, int, int]]:
    """Return the nine shapes, from the power of two at each level."""
    return [(channels * p, height // p, width // p) for p in (1, 2, 4, 8, 16, 8, 4, 2, 1)]


def _list(change: Callable) -> Callable:
    """Return a mistake: a change of the right list."""
    return lambda *sizes, **channels: change(_shapes(*sizes, **channels))


def _each(change: Callable) -> Callable:
    """Return a mistake: a change of each shape."""
    return _list(lambda shapes: [change(*shape) for shape in shapes])


def _is_level(level: int) -> Callable:
    return lambda got, *sizes, **channels: tuple(got[level]) == _shapes(*sizes, **channels)[level]


unet_shapes = Exercise(
    "unet_shapes",
    "nine shapes, a list of tuples (channels, height, width)",
    "half the size and twice the channels at each level down, and back",
    right=_shapes,
    cases=[Case(96, 128), Case(32, 48, channels=4)],
    drawn=lambda rng: [Case(*(16 * rng.permutation(range(3, 9))[:2]).tolist(), channels=6)],
    mistakes={
        "height and width are swapped in {name}: it is (channels, height, width).": _each(
            lambda c, h, w: (c, w, h)
        ),
        "{name} gives (height, width, channels). PyTorch's order is "
        "(channels, height, width).": _each(lambda c, h, w: (h, w, c)),
        "{name} gives four numbers a level; give (channels, height, width), "
        "without the batch.": _each(lambda *shape: (1, *shape)),
        "{name} gives 8 shapes; there are 9: the bottleneck is missing.": _list(
            lambda s: s[:4] + s[5:]
        ),
        "{name} gives 5 shapes; there are 9: the decoders are missing.": _list(lambda s: s[:5]),
        "{name} lists the decoders from the shallowest; decoder 0 is the deepest, right after the "
        "bottleneck.": _list(lambda s: s[:5] + s[:4]),
        "all levels of {name} are too small by a factor 2. Encoder 0 works at full size: pooling "
        "comes after a block, not before it.": _each(lambda c, h, w: (c, h // 2, w // 2)),
        "{name} gives the decoders the channels of the concatenation inside the block, which its "
        "ConvLayers halve again.": _list(lambda s: s[:5] + [(2 * c, h, w) for c, h, w in s[5:]]),
        "{name} gives each level the same channels: the channels start with 16 (`channels`), "
        "double at each level down, halve up.": _list(lambda s: [(s[0][0], h, w) for _, h, w in s]),
        "{name} gives the height twice; at 96x128 encoder 0 has wanted (16, 96, 128).": _each(
            lambda c, h, w: (c, h, h)
        ),
    },
    facts={
        "{name} holds a float; sizes are counted in whole pixels: use //.": lambda got, *_, **__: (
            all(isinstance(n, Integral) for shape in got for n in shape)
        ),
        "{name} gives {got}; there are 9 shapes of 3 numbers, "
        "(channels, height, width).": lambda got, *_, **__: np.shape(got) == (9, 3),
    }
    | {
        f"{level} is wrong in {{got}}: each pooling halves height and width, the block after it "
        "doubles the channels, each decoder undoes one level. Is a number hard-coded?": _is_level(k)
        for k, level in enumerate(
            [*(f"encoder {i}" for i in range(4)), "bottleneck", *(f"decoder {i}" for i in range(4))]
        )
    },
)

# --- the U-Net -----------------------------------------------------------------------------------


def _missing(o: Observed) -> Iterator[str]:
    for name in ("encoders", "decoders"):
        part = getattr(o.module, name, None)
        told = f"{name} is one {type(part).__name__}; it is a list of four blocks, one a level"
        if not isinstance(part, (nn.ModuleList, nn.Sequential)):
            yield f"{told}: nn.ModuleList([...])"
        elif len(part) != 4:
            yield f"{name} holds {len(part)} blocks; it should hold 4"
    for name in ("bottleneck", "head"):
        if not isinstance(getattr(o.module, name, None), nn.Module):
            yield f"{name} is missing: there is no layer `{name}`"


def _down(o: Observed) -> list[nn.Module]:
    return [*o.module.encoders, o.module.bottleneck]


def _other_levels(o: Observed) -> Iterator[str]:
    """Look at what the levels give, as far as the network came."""
    for level, block in enumerate(_down(o)):
        name = "the bottleneck" if level == 4 else f"encoder {level}"
        channels, *size = o.made[block].shape[1:]
        if channels != o.case.options["width"] << level:
            yield f"{name} gives {channels} channels; the channels double at each level"
        if size != [full >> level for full in o.inputs[0].shape[2:]]:
            yield f"{name} works at {size}; F.max_pool2d(x, 2) halves it between two levels, once"


def _skips(o: Observed) -> Iterator[tuple[int, tuple, torch.Tensor]]:
    """Yield of each decoder: its number, what it was given, and its encoder's map."""
    for step, decoder in enumerate(o.module.decoders):
        yield step, o.given[decoder], o.made[o.module.encoders[3 - step]]


def _other_count(o: Observed) -> Iterator[str]:
    """Count parameters; the biases of transposed convolutions and head may be left out."""
    (cin, classes), width = o.case.arguments, o.case.options["width"]
    *sizes, bottom = (width << level for level in range(5))
    blocks = [*zip([cin, *sizes], [*sizes, bottom], strict=True), *((2 * c, c) for c in sizes)]
    least = sum(9 * (i + c) * c + 4 * c for i, c in blocks)
    least += sum(8 * c * c for c in sizes) + width * classes
    full, found = least + sum(sizes) + classes, sum(p.numel() for p in o.module.parameters())
    if o.ended and not least <= found <= full:
        yield f"{found:,} parameters; of ConvBlocks, UpConvBlocks and a 1x1 head it has {full:,}"


def _draw_unet(rng: np.random.Generator) -> list[Build]:
    cin, classes, width = rng.permutation([2, 6, 7, 8])[:3].tolist()
    shapes = [(batch, cin, *(16 * rng.permutation([2, 3, 4])[:2]).tolist()) for batch in (2, 1)]
    options = {"draw": torch.rand, "width": width, "seed": rng.integers(2**31)}
    return [Build(cin, classes, given=[shape], **options) for shape in shapes]


unet = NetExercise(
    "UNet",
    lends=models.UNet,
    learnt="4 skips, logits, and every parameter gets a gradient",
    cases=[
        Build(3, 5, width=4, given=[(2, 3, 32, 48)], draw=torch.rand),
        Build(1, 2, width=2, given=[(2, 1, 48, 32)], draw=torch.rand),
        Build(3, 5, width=4, given=[(1, 3, 32, 48)], draw=torch.rand, says="for one image alone:"),
    ],
    drawn=_draw_unet,
    causes={
        "Sizes of tensors must match": "an upsampled map meets a skip of another size: the deepest "
        "decoder gets the deepest skip (go through the skips in reverse), and a skip is kept "
        "before the pooling",
        "not iterable": "forward returns nothing",
        "transposed=1": "a decoder is given too few channels: does x go through the bottleneck, "
        "and does that give 16 * width?",
        **_CHANNELS,
    },
    facts={
        **net.REGISTERED,
        "UNet.{found}.": _missing,
        "UNet.head must be one convolution 1x1: it turns the features of each pixel into a score "
        "for each class.": lambda o: (
            [m.kernel_size for m in o.module.head.modules() if isinstance(m, nn.Conv2d)] == [(1, 1)]
        ),
        "UNet.decoders begins with the shallowest block, to {found} channels. The deepest comes "
        "first, it works right after the bottleneck: to 8 * width.": lambda o: (
            m.out_channels
            for m in o.module.decoders[0].modules()
            if isinstance(m, nn.ConvTranspose2d) and m.out_channels == o.case.options["width"]
        ),
        **net.NO_DROPOUT,
        "the levels of UNet do not fit: {found}.": _other_levels,
        "decoder {found} is given the skip in the place of x: it takes (x, skip).": lambda o: (
            step for step, given, skip in _skips(o) if net.alike(given[0], skip)
        ),
        **net.EACH_CALLED_ONCE,
        "UNet returns one number a pixel: nothing can be trained through an argmax inside. Return "
        "the scores (logits) of all classes.": lambda o: o.output.shape != o.inputs[0][:, 0].shape,
        **net.size(_same_size, "At each pixel there is one score for each of num_classes."),
        **net.SCORES,
        "UNet does not return what its head gives: something follows the head, such as ReLU, "
        "sigmoid or a change of axes. Return the head's output.": lambda o: torch.equal(
            o.output, o.made[o.module.head]
        ),
        **net.GRADIENTS,
        "encoder 0 is not given the images as they are: they lie in [0, 1] already.": lambda o: (
            torch.equal(*o.given[o.module.encoders[0]], o.inputs[0])
        ),
        "decoder {found} is not called with two arguments, (x, skip).": lambda o: (
            step for step, given, _ in o.ended and _skips(o) if len(given) != 2
        ),
        "decoder {found} is not given its encoder's map (decoder 0 that of encoder 3) as its skip: "
        "a skip that does not carry the encoder's map is no skip.": lambda o: (
            step for step, given, skip in o.ended and _skips(o) if not net.alike(given[1], skip)
        ),
        "what goes down from encoder {found} is not its map after max pooling, F.max_pool2d(x, 2): "
        "of four pixels the strongest, not their mean or one of them.": lambda o: (
            level
            for level, (encoder, below) in enumerate(pairwise(_down(o)))
            if not net.alike(*o.given[below], F.max_pool2d(o.made[encoder], 2))
        ),
        "decoder {found} gives the same whatever its skip is.": lambda o: (
            step
            for step, (x, skip), _ in o.ended and _skips(o)
            if torch.equal(*(o.module.decoders[step](x, s) for s in (skip, skip.flip(-1))))
        ),
        "UNet has {found}. Is each encoder one ConvBlock, and the bottleneck, 16 * width wide, "
        "each decoder one UpConvBlock? Try variants in a class beside UNet.": _other_count,
    },
)

# --- the untrained loss --------------------------------------------------------------------------

untrained_loss = Exercise(
    "untrained_loss",
    "minus the natural logarithm of the true class's probability",
    "ln C, whatever the picture",
    right=lambda c: F.cross_entropy(torch.zeros(1, c), torch.tensor([0])).item(),
    cases=[
        Case(4, says="{name}(4) is {got}; with 4 classes at 1/4 each it is -ln(1/4) = 1.386."),
        Case(11, says="{name}(11) is {got}, but -ln(1/11) = 2.398: is C hard-coded?"),
    ],
    drawn=lambda rng: [Case(int(c)) for c in rng.choice(range(12, 50), 3, replace=False)],
    same=lambda got, wanted: is_same(got, wanted, 1e-3),
    mistakes={
        "{name} is {got}: a loss is positive. It is minus the log of p.": lambda c: -math.log(c),
        "{name} is {got}: that is in bits (log2). PyTorch's cross-entropy takes the natural "
        "logarithm.": math.log2,
        "{name} is {got}: that is log10; the natural logarithm is meant.": math.log10,
        "{name} is {got}: that is the probability 1/C of the right class. The loss is minus its "
        "logarithm.": lambda c: 1 / c,
        "{name} is {got}: that is the share of wrong guesses, 1 - 1/C, not the loss.": lambda c: (
            1 - 1 / c
        ),
        "{name} is {got}: only the true class enters, not a sum over all C.": lambda c: (
            c * math.log(c)
        ),
        "{name} is {got}: 0 would be a perfect and certain prediction, "
        "not an untrained one.": lambda c: 0.0,
        "{name} is {got} for any C: the number of classes must not be hard-coded.": lambda c: (
            math.log(4)
        ),
    },
)

# --- the training loop, and the prediction -------------------------------------------------------


class _Asked(SimpleNamespace):
    """What an answer returned (``result``), and how it got there."""

    def __repr__(self) -> str:
        return f"{self.result:.3f}" if isinstance(self.result, float) else str(self.result)[:50]


def _watch(model: nn.Module) -> list[tuple[bool, bool]]:
    """Return a list that notes of each call whether it is in train mode, and records gradients."""
    modes, forward = [], model.forward

    def watched(images: torch.Tensor) -> torch.Tensor:
        modes.append((model.training, torch.is_grad_enabled()))
        return forward(images)

    model.forward = watched
    return modes


def _train(answer: Callable, model: nn.Module, batches: list, lr: float, epochs: int) -> _Asked:
    optimizer, modes, steps = torch.optim.SGD(model.parameters(), lr=lr), _watch(model), []
    optimizer.register_step_pre_hook(  # notes whether there is a gradient to follow
        lambda *_: steps.append(any(p.grad is not None and p.grad.any() for p in weights))
    )
    weights, before = [*model.parameters()], [labels.clone() for _, labels in batches]
    with torch.enable_grad():
        losses = [answer(model, batches, optimizer) for _ in range(epochs)]
    return _Asked(
        result=losses[-1],
        losses=losses,
        modes=modes,
        steps=steps,
        state=torch.cat([value.flatten() for value in model.state_dict().values()]),
        kept=all(map(torch.equal, before, (labels for _, labels in batches))),
        due=epochs * len(batches),
    )


def _is_trained(got: _Asked, wanted: _Asked) -> bool:
    losses = zip(got.losses, wanted.losses, strict=True)  # a mean could be the last loss by chance
    same = is_same(got.state, wanted.state, 1e-4) and len(got.modes) == len(wanted.modes)
    return same and all(is_same(a, b, 1e-5) for a, b in losses)


_nll = partial(F.nll_loss, ignore_index=VOID)


def _epoch(loss: Callable = _nll, end: Callable = fmean, keep: bool = False) -> Callable:
    """Return a training loop by ``autograd.grad``, right or with another loss, mean or gradient."""

    def run(model, batches, optimizer):
        losses, weights = [], [*model.train().parameters()]
        for images, labels in batches:
            losses.append(loss(model(images).log_softmax(dim=1), labels))
            slopes = torch.autograd.grad(losses[-1], weights)
            for weight, slope in zip(weights, slopes, strict=True):
                weight.grad = slope + weight.grad if keep and weight.grad is not None else slope
            optimizer.step()
        return end([loss.item() for loss in losses])

    return run


def _case(bias: float, lr: float, *classes: int, says: str) -> Case:
    """Return a case of 2x2 images of ones, half void, and a model of scores 0 and ``bias``."""
    model = nn.Sequential(nn.Conv2d(3, 2, 1)).eval()
    nn.init.zeros_(model[0].weight)
    model[0].bias.data = torch.tensor([0.0, bias])
    batches = [(torch.ones(1, 3, 2, 2), torch.tensor([[[c, c], [VOID, VOID]]])) for c in classes]
    return Case(model, batches, lr, 1, says=says, through=_train)


def _draw_training(rng: np.random.Generator) -> list[Case]:
    """Return two epochs of a network with batch norm, on three batches with void rows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1)).eval()
        images, labels = torch.rand(3, 2, 3, 8, 8), torch.randint(0, 4, (3, 2, 6, 6))
    labels[:, :, :2] = VOID
    return [Case(model, [*zip(images, labels, strict=True)], 0.1, 2, through=_train)]


_BIAS = math.log(3)  # probabilities 1/4 and 3/4, so losses 1.386 on a 0 and 0.288 on a 1

train_one_epoch = Exercise(
    "train_one_epoch",
    "the mean loss, a float",
    "train mode, zero_grad, backward, step; void ignored; mean loss",
    right=_epoch(),
    cases=[
        _case(
            *(_BIAS, 0.0, 1, 0),
            says="for two batches with losses 0.288 and 1.386 you return {got}; wanted 0.837, "
            "their mean.",
        ),
        _case(
            *(_BIAS, 0.0, 1, 0, 0, 1, 0),
            says="for five batches, two with loss 0.288 and three with 1.386, you return {got}; "
            "wanted 0.947: each batch counts the same.",
        ),
        _case(
            *(0.0, 1.0, 1, 1, 1),
            says="three steps do not end where gradient descent ends: one zero_grad, one backward "
            "and one step for each batch, in this order.",
        ),
    ],
    drawn=_draw_training,
    numbers=False,
    same=_is_trained,
    causes={
        "out of bounds": f"void pixels carry the label {VOID}, which is no class: "
        "ignore_index=VOID in the loss",
        "modified by an inplace operation": "optimizer.step() comes before loss.backward(): the "
        "order is zero_grad, forward, loss, backward, step",
        "does not require grad": "the loss hangs on no parameter: give cross_entropy the logits, "
        "not their argmax, and no .detach() or no_grad on the way",
        "expected scalar type Long|Expected floating point type|not implemented for 'Long'": (
            "cross_entropy wants (logits, labels), in this order, and logits, not their argmax"
        ),
        "'float' object has no attribute 'backward'": "backward() belongs to the loss as a tensor; "
        "take .item() only for the mean that you return",
        "Expected more than 1 value per channel": "use the argument `model`, not a network of "
        "the notebook",
        **_DEVICES,
    },
    mistakes={
        "{name} returns the sum, {got}. Divide by the number of batches. Or is each loss a sum "
        "over the pixels (reduction)?": _epoch(end=sum),
        "{name} returns {got}: one batch only, the last. Return the mean.": _epoch(
            end=itemgetter(-1)
        ),
        "{name} returns {got}: one batch only, the first. Return the mean.": _epoch(
            end=itemgetter(0)
        ),
        "{name} returns {got}: a softmax came before the loss. cross_entropy applies it itself: "
        "give it logits.": _epoch(lambda y, t: F.cross_entropy(y.exp(), t, ignore_index=VOID)),
        "{name} returns {got}: void pixels count in the mean as zeros. ignore_index=VOID leaves "
        "them out.": _epoch(lambda y, t: _nll(y, t, reduction="none").mean()),
        "{name} returns {got}: void pixels were counted as class 0. They have no class: "
        "ignore_index=VOID.": _epoch(lambda y, t: F.nll_loss(y, t.masked_fill(t == VOID, 0))),
        "{name} returns {got}, half the last loss and half the mean before it: each batch counts "
        "the same.": _epoch(end=partial(reduce, lambda mean, loss: (mean + loss) / 2)),
        "the gradients of the batches add up: zero_grad() is missing, or outside the loop, so step "
        "3 still follows batches 1 and 2.": _epoch(keep=True),
    },
    facts={
        "{name} returns a tensor: its whole graph stays in memory with it. Return a Python "
        "float: loss.item().": lambda got, *_: not isinstance(got.result, torch.Tensor),
        "the mean loss is {got}, no float.": lambda got, *_: isinstance(got.result, (int, float)),
        "the given model is never called: use `model`, not one of the notebook.": lambda got, *_: (
            bool(got.modes)
        ),
        "the model is not called once for each batch: "
        "is the return inside the for loop?": lambda got, *_: len(got.modes) == got.due,
        "the model is in eval mode while it is trained: batch norm would use old averages. "
        "Call model.train() first.": lambda got, *_: all(training for training, _ in got.modes),
        "{name} changes the labels that it is given: they are wanted again in the next epoch. "
        "ignore_index=VOID leaves void pixels out without that.": lambda got, *_: got.kept,
        "optimizer.step() is not called once for each batch: one step a batch.": lambda got, *_: (
            len(got.steps) == got.due
        ),
        "no gradient reaches optimizer.step(): loss.backward() is missing or comes after "
        "step(), or zero_grad() stands between and wipes it out.": lambda got, *_: any(got.steps),
        "the first optimizer.step() finds no gradient: step() comes before backward(). The "
        "order is zero_grad, forward, loss, backward, step.": lambda got, *_: got.steps[0],
    },
)


def _predict(answer: Callable, model: nn.Module, images: torch.Tensor) -> _Asked:
    modes = _watch(model)
    return _Asked(result=answer(model, images), modes=modes, model=model, shape=images[:, 0].shape)


@torch.inference_mode()
def _topmost(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return model.eval()(images).topk(1, dim=1).indices[:, 0]


def _pick(pick: Callable[[torch.Tensor], Any]) -> Callable:
    """Return a mistake: another thing is picked from the scores."""
    return lambda model, images: pick(model.eval()(images).detach())


def _scores(rng: np.random.Generator) -> list[Case]:
    """Return images that are the scores of 4 classes themselves, in eval mode."""
    images = torch.from_numpy(rng.normal(size=(3, 4, 5, 6))).float()
    says = "labels are wrong: each is the number of the class with the highest score at its pixel."
    return [Case(nn.BatchNorm2d(4), images, says=says, through=_predict)]


predict_labels = Exercise(
    "predict_labels",
    "class numbers, (B, H, W)",
    "eval mode, no gradients, argmax over the classes",
    right=_topmost,
    cases=_scores(np.random.default_rng(1)),
    drawn=_scores,
    causes=_DEVICES,
    numbers=False,
    same=lambda got, wanted: is_same(got.result, wanted.result),
    mistakes={
        f"the argmax went over axis {axis}, the {what}. Classes are axis 1 of (B, C, H, W).": (
            _pick(partial(torch.argmax, dim=axis))
        )
        for axis, what in {0: "batch", 2: "height", 3: "width"}.items()
    }
    | {
        "{name} returns a probability, a score for every class; wanted the number of the best "
        "class: argmax over axis 1.": _pick(lambda y: y.softmax(1)),
        "{name} returns the scores; wanted the number of the best class: "
        "argmax over axis 1.": _pick(lambda y: y),
        "the class axis is still there, (B, 1, H, W): keepdim=False.": _pick(
            lambda y: y.argmax(1, keepdim=True)
        ),
        "the labels are floats: .max gives the best score, .argmax the number of its class.": _pick(
            lambda y: y.amax(1)
        ),
        "{name} gives the class with the lowest score, not with the highest score: argmin?": _pick(
            lambda y: y.argmin(1)
        ),
    },
    facts={
        "{name} returns a pair: .max(dim=1) gives the scores and their classes. Only the "
        "classes are wanted: .argmax(dim=1).": lambda got, *_: not isinstance(got.result, tuple),
        "{name} must return a tensor.": lambda got, *_: isinstance(got.result, torch.Tensor),
        "{name} never calls the model.": lambda got, *_: bool(got.modes),
        "the model predicts in train mode: batch norm then uses this batch's own statistics, "
        "and a prediction depends on its neighbours in the batch. "
        "Call model.eval() first.": lambda got, *_: not any(training for training, _ in got.modes),
        "{name} leaves the model in train mode; it is to be left in eval mode.": lambda got, *_: (
            not got.model.training
        ),
        "gradients are recorded during prediction, memory for nothing. Forward passes belong "
        "under torch.no_grad().": lambda got, *_: not any(recorded for _, recorded in got.modes),
        "the labels have another shape than (B, H, W).": lambda got, *_: (
            got.result.shape == got.shape
        ),
        "the labels are floats; wanted are class numbers.": lambda got, *_: (
            not got.result.is_floating_point()
        ),
    },
)

# --- a skip removed ------------------------------------------------------------------------------


def _mean_over(*axes: int) -> Callable:
    return lambda skip: skip.mean(dim=axes, keepdim=True).expand_as(skip)


mean_map = Exercise(
    "mean_map",
    "a tensor, and keep the shape (keepdim=True, then expand_as(skip)): the decoder joins it",
    "what a channel says on the whole stays, where it says it is gone",
    right=lambda skip: F.adaptive_avg_pool2d(skip, 1).expand_as(skip),
    cases=[
        Case(
            torch.arange(24.0).reshape(2, 3, 2, 2),
            says="Channel 0 of image 0 holds 0, 1, 2, 3: its mean map is 1.5 everywhere.",
        ),
        Case(
            torch.arange(144.0).reshape(2, 3, 4, 6) ** 2,
            says="{name} is right for maps of 2x2 pixels, but not for 4x6: one mean for the whole "
            "map of a channel, at each of its pixels.",
        ),
    ],
    drawn=lambda rng: [Case(torch.from_numpy(rng.normal(size=(3, 4, 6, 5))).float())],
    same=lambda got, wanted: is_same(got, wanted, 1e-5),
    mistakes={
        "{name} gives zeros. Batch norm and ReLU have made most channels positive: a map of zeros "
        "is far from what the decoder has ever seen. Use each channel's mean.": torch.zeros_like,
        "{name} gives the skip unchanged: nothing is removed.": lambda skip: skip,
        "{name} averages over the batch as well: each image has its own mean.": _mean_over(0, 2, 3),
        "{name} averages over the channels as well: each channel says something else, keep them "
        "apart.": _mean_over(1, 2, 3),
        "{name} averages over everything: each channel of each image has its own mean.": _mean_over(
            0, 1, 2, 3
        ),
        "{name} averages over the channels: that keeps the position, "
        "which is what should go.": _mean_over(1),
        "{name} averages over the height only: the columns are still there. Average over both, "
        "dim=(2, 3).": _mean_over(2),
        "{name} averages over the width only: the rows are still there. Average over both, "
        "dim=(2, 3).": _mean_over(3),
    },
    facts={
        "{name} must return a tensor.": lambda got, _: isinstance(got, torch.Tensor),
    },
)
