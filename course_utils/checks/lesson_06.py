"""Checks of lesson 06: the parts of a U-Net, its training loop and its skips.

A network is checked by what it holds (which layers, with which settings) and by
what it does: hooks record what each layer is given, so that a message can say
"you added where you should concatenate" instead of "wrong shape".
"""

import math
from collections.abc import Callable
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import nn

from course_utils.checks import CheckFailed, explain, passed, require
from course_utils.data.segmentation_set import VOID

_NO_SUPER = {
    r"before Module\.__init__|super-class of type": "call super().__init__() before you make the "
    "first layer"
}
_MOVED = "the batches lie on the model's device already: leave them there, without .to(device)"
_DEVICES = {"on the same device": _MOVED, r"and weight type \(torch": _MOVED}


_CHANNELS = {
    "running_mean should contain": "batch norm must have as many channels as it is given; after "
    "the convolution these are out_channels",
    "must be tuple of Tensors": "torch.cat takes one list, torch.cat([a, b], dim=1)",
}


def _build(cls: Callable, *arguments, **options) -> nn.Module:
    """Return ``cls(*arguments, **options)``, surely a module."""
    name = getattr(cls, "__name__", "the answer")
    shown = ", ".join([*map(str, arguments), *(f"{k}={v}" for k, v in options.items())])
    with explain(f"{name}({shown}) cannot be built", _NO_SUPER):
        module = cls(*arguments, **options)
    require(
        isinstance(module, nn.Module),
        f"{name} makes a {type(module).__name__}; it must be a class {name}(nn.Module).",
    )
    return module


def _all(module: nn.Module, kind: type) -> list:
    """Return the registered layers of a kind, each once, in the order they were registered."""
    return [m for m in module.modules() if isinstance(m, kind)]


def _run(module: nn.Module, *inputs: torch.Tensor, causes=None) -> tuple[torch.Tensor, dict]:
    """Return the output and what each layer was given: ``{layer: [inputs of each call]}``.

    A layer's record holds the calls up to an exception, too; it is attached to
    the ``CheckFailed`` as ``given``.
    """
    given: dict[nn.Module, list] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda m, args: given.setdefault(m, []).append(args))
        for layer in module.modules()
    ]
    name = type(module).__name__
    shapes = " and ".join(str(tuple(x.shape)) for x in inputs)
    try:
        with explain(f"{name} stops on input {shapes}", causes):
            output = module(*inputs)
    except CheckFailed as failure:
        failure.given = given
        raise
    finally:
        for hook in hooks:
            hook.remove()
    require(output is not None, f"{name}.forward returns None: is its `return` missing?")
    require(
        isinstance(output, torch.Tensor),
        f"{name}.forward returns a {type(output).__name__}; it must return one tensor.",
    )
    return output, given


def _require_convolutions(module: nn.Module, count: int, name: str) -> list[nn.Conv2d]:
    """Return the module's 3x3 convolutions after looking at their number and settings."""
    convolutions = _all(module, nn.Conv2d)
    held = [
        v for k, v in vars(module).items() if k[0] != "_" and isinstance(v, (list, tuple, dict))
    ]
    if not convolutions and any(
        isinstance(x, nn.Module) for v in held for x in (v.values() if isinstance(v, dict) else v)
    ):
        raise CheckFailed(
            f"{name} keeps its layers in a plain Python list: PyTorch does not see them, so "
            ".parameters() is empty and nothing would be trained. Use nn.ModuleList."
        )
    require(
        bool(convolutions),
        f"{name} holds no nn.Conv2d: make the layers in __init__ and keep them as attributes, "
        "self.name = ... (a layer made in forward is new, and untrained, at each call).",
    )
    for convolution in convolutions:
        require(
            convolution.kernel_size == (3, 3),
            f"a kernel of {name} is {convolution.kernel_size}; it must be 3x3.",
        )
        require(
            convolution.stride == (1, 1),
            f"a convolution of {name} has stride {convolution.stride}; the blocks keep the size, "
            "only pooling reduces it: stride 1.",
        )
        require(
            convolution.dilation == (1, 1) and convolution.groups == 1,
            f"a convolution of {name} has dilation or groups; leave both as they are.",
        )
        require(
            convolution.padding_mode == "zeros",
            f"a convolution of {name} pads with {convolution.padding_mode!r}; pad with zeros, as "
            "padding=1 does by itself.",
        )
        require(
            convolution.bias is None,
            f"a convolution of {name} has a bias. Batch norm subtracts each channel's mean right "
            "after it, so that bias can change nothing: bias=False.",
        )
    require(
        len(convolutions) <= count,
        f"{name} holds {len(convolutions)} convolutions; it should hold {count}.",
    )
    norms = len(_all(module, nn.BatchNorm2d))
    require(
        norms == len(convolutions),
        f"{name} holds {norms} nn.BatchNorm2d for {len(convolutions)} convolution(s): each "
        "convolution is followed by its own batch norm, and only by that.",
    )
    require(
        all(norm.affine for norm in _all(module, nn.BatchNorm2d)),
        f"a batch norm of {name} has affine=False: leave it its two learnt numbers a channel.",
    )
    _require_no_dropout(module, name)
    return convolutions


def _require_no_dropout(module: nn.Module, name: str) -> None:
    dropped = [m for m in module.modules() if "Dropout" in type(m).__name__]
    require(
        not dropped,
        f"{name} holds a {type(dropped[0]).__name__ if dropped else ''}: no value is dropped here; "
        "build it as described, and try variants in a class beside it.",
    )


def _called(given: dict, kind: type) -> list:
    """Return the layers of a kind in the order in which forward called them."""
    return [layer for layer in given if isinstance(layer, kind)]


def _require_reference(output: torch.Tensor, x: torch.Tensor, given: dict, name: str) -> None:
    """Compare with convolution, batch norm and ReLU of the layers' own weights, in this order."""
    pairs = list(zip(_called(given, nn.Conv2d), _called(given, nn.BatchNorm2d), strict=True))
    fits = all(norm.num_features == convolution.out_channels for convolution, norm in pairs)
    for convolution, norm in pairs if fits else ():
        x = F.conv2d(x, convolution.weight, padding=1)
        x = F.relu(F.batch_norm(x, None, None, norm.weight, norm.bias, True, 0.1, norm.eps))
    wanted = "two ConvLayers, one after the other"
    require(
        fits and torch.allclose(output, x, atol=1e-4),
        f"{name} gives other values in training than "
        f"{wanted if len(pairs) == 2 else 'convolution, batch norm, ReLU'}: the order is another, "
        "something is missing (a batch norm or ReLU), or something else acts as well.",
    )


def _require_each_called_once(layers: list, given: dict, name: str) -> None:
    for layer in layers:
        calls = len(given.get(layer, []))
        kind = type(layer).__name__
        require(
            calls != 0, f"{name} makes a {kind} that forward never calls: its weights do nothing."
        )
        require(
            calls == 1,
            f"{name} calls the same {kind} object {calls} times: both uses share one set of "
            "weights. Make one object for each layer.",
        )


def _require_same_size(output: torch.Tensor, expected: tuple[int, ...], name: str) -> None:
    found = tuple(output.shape)
    if found == expected:
        return
    lost = (expected[2] - found[2], expected[3] - found[3]) if len(found) == 4 else None
    if lost and found[1] == expected[1] and lost[0] == lost[1] > 0 and lost[0] % 2 == 0:
        raise CheckFailed(
            f"{name} gives {found} where {expected} is wanted: it loses {lost[0] // 2} pixel(s) "
            "at every border. A 3x3 kernel needs padding=1 to keep the size."
        )
    if len(found) == 4 and found[2:] == (expected[2] // 2, expected[3] // 2):
        raise CheckFailed(
            f"{name} gives {found} where {expected} is wanted: it halves the size. Pooling belongs "
            "between the levels, in UNet.forward, not into the block."
        )
    raise CheckFailed(f"{name} gives shape {found}; wanted {expected}.")


@torch.no_grad()
def _make_identity(module: nn.Module) -> nn.Module:
    """Give every 3x3 convolution the kernel that copies channel i to channel i; eval mode."""
    for convolution in _all(module, nn.Conv2d):
        nn.init.dirac_(convolution.weight)
    return module.eval()


def _require_rectified(cls: Callable, name: str) -> None:
    """Look at what a 1 -> 1 channel block does to the pixels -2, 0.5 and 9, by hand: 0, 0.5, 9."""
    pixels = torch.tensor([[[[-2.0, 0.5, 9.0]]]])
    with torch.no_grad():
        output, _ = _run(_make_identity(_build(cls, 1, 1)), pixels)
    found = [round(v, 2) for v in output.flatten().tolist()]
    if len(found) == 3 and math.dist(found, (0.0, 0.5, 9.0)) < 0.015:
        return
    told = (
        f"with kernels that copy their input, {name} must turn the pixels -2, 0.5, 9 into "
        f"0, 0.5, 9; it gives {', '.join(f'{v:g}' for v in found)}"
    )
    if found and found[0] < 0:
        raise CheckFailed(f"{told}. A negative value came through: is the ReLU missing?")
    if found[1:] != [0.5, 9.0] and all(0 < v <= 1 for v in found):
        raise CheckFailed(f"{told}. That is a sigmoid or softmax, not ReLU = max(x, 0).")
    if found[-1] > 9.1:
        raise CheckFailed(f"{told}. Something is added to the result: return the last layer's.")
    raise CheckFailed(f"{told}. Only convolution, batch norm and ReLU act here.")


def conv_layer(answer: Callable) -> None:
    """Check ``ConvLayer(in_channels, out_channels)``."""
    torch.manual_seed(0)
    layer = _build(answer, 3, 8)
    _require_convolutions(layer, 1, "ConvLayer")
    batch = torch.randn(4, 3, 7, 10)
    swapped = {"Given groups=1": "are in_channels and out_channels swapped in the convolution?"}
    output, given = _run(layer.train(), batch, causes=_CHANNELS | swapped)
    _require_each_called_once(_all(layer, (nn.Conv2d, nn.BatchNorm2d)), given, "ConvLayer")
    _require_same_size(output, (4, 8, 7, 10), "ConvLayer")
    _require_rectified(answer, "ConvLayer")
    require(
        output.min().item() >= 0,
        "ConvLayer gives negative values in training: the ReLU came before the batch norm, which "
        "then moved the values below 0 again. The order is convolution, batch norm, ReLU.",
    )
    _require_reference(output, batch, given, "ConvLayer")
    with explain("ConvLayer(5, 2) does not work, ConvLayer(3, 8) does: are channels hard-coded?"):
        other = answer(5, 2)(torch.randn(1, 5, 16, 12))
    _require_same_size(other, (1, 2, 16, 12), "ConvLayer(5, 2)")
    passed("ConvLayer", "3x3 without bias, batch norm, then ReLU; the size stays")


def conv_block(answer: Callable) -> None:
    """Check ``ConvBlock(in_channels, out_channels)``."""
    torch.manual_seed(0)
    block = _build(answer, 3, 8)
    convolutions = _require_convolutions(block, 2, "ConvBlock")
    lost = {"Given groups=1": "is the second layer given what the first returns?"}
    x = torch.randn(2, 3, 8, 12)
    try:
        output, given = _run(block.train(), x, causes=_CHANNELS | lost)
    except CheckFailed:
        _require_block_channels(convolutions)
        raise
    _require_block_channels(_called(given, nn.Conv2d))
    _require_each_called_once(_all(block, (nn.Conv2d, nn.BatchNorm2d)), given, "ConvBlock")
    require(
        len(convolutions) == 2, f"ConvBlock holds {len(convolutions)} ConvLayer(s); it should be 2."
    )
    _require_same_size(output, (2, 8, 8, 12), "ConvBlock")
    slopes = torch.autograd.grad(
        output.square().sum(), [c.weight for c in convolutions], allow_unused=True
    )
    require(
        all(slope is not None for slope in slopes),
        "ConvBlock calls both layers, but its output does not come from both: return what the "
        "second layer gives.",
    )
    _require_rectified(answer, "ConvBlock")
    _require_reference(output, x, given, "ConvBlock")
    with explain("ConvBlock(5, 2) does not work, ConvBlock(3, 8) does: are channels hard-coded?"):
        other = answer(5, 2)(torch.randn(1, 5, 16, 12))
    _require_same_size(other, (1, 2, 16, 12), "ConvBlock(5, 2)")
    passed("ConvBlock", "two ConvLayers with weights of their own")


def _require_block_channels(convolutions: list[nn.Conv2d]) -> None:
    """Require 3 -> 8 -> 8 channels of the two convolutions of ConvBlock(3, 8)."""
    channels = [(c.in_channels, c.out_channels) for c in convolutions]
    if len(channels) == 2:
        require(
            channels[1][0] == channels[0][1],
            f"the second ConvLayer of ConvBlock(3, 8) reads {channels[1][0]} channels, but it gets "
            f"what the first gives: {channels[0][1]}.",
        )
        require(
            channels == [(3, 8), (8, 8)],
            f"ConvBlock(3, 8) goes through the channels {channels[0][0]} -> {channels[0][1]} -> "
            f"{channels[1][1]}; widen at once: 3 -> 8 -> 8.",
        )


def _read_concatenation(given: torch.Tensor, up: torch.Tensor, skip: torch.Tensor) -> None:
    """Raise unless ``given`` is ``up`` and ``skip`` side by side along axis 1, in any order."""
    channels, found = skip.shape[1], tuple(given.shape)
    wanted = (skip.shape[0], 2 * channels, *skip.shape[2:])
    axes = {0: "batch", 2: "height", 3: "width"}
    for axis, what in axes.items():
        doubled = [*skip.shape]
        doubled[axis] *= 2
        require(
            found != tuple(doubled),
            f"the two maps were concatenated along the {what} (axis {axis}): {found}. "
            f"Channels are axis 1 of (B, C, H, W): torch.cat([...], dim=1) gives {wanted}.",
        )
    if found == tuple(skip.shape):
        if torch.allclose(given, up + skip, atol=1e-5):
            raise CheckFailed(
                "the skip is added to the upsampled map. Adding mixes the two for good; "
                "concatenate along the channels (dim=1) and let the next layer choose."
            )
        raise CheckFailed(
            f"the first ConvLayer is given {found}: only one of the two maps. Concatenate the "
            f"upsampled map and the skip: {wanted}."
        )
    require(
        found == wanted, f"the first ConvLayer is given {found}; the concatenation is {wanted}."
    )
    halves = (given[:, :channels], given[:, channels:])
    require(
        any(torch.equal(half, skip) for half in halves),
        "the skip is not in what you concatenate: the encoder's map must go in as it is.",
    )
    require(
        any(torch.equal(half, up) for half in halves),
        "the upsampled map is not in what you concatenate, or it was changed on the way: "
        "concatenate the transposed convolution's output as it is.",
    )


def up_conv_block(answer: Callable) -> None:
    """Check ``UpConvBlock(in_channels, out_channels)`` and its ``forward(x, skip)``."""
    torch.manual_seed(0)
    block = _build(answer, 8, 4).train()
    transposed = _all(block, nn.ConvTranspose2d)
    require(
        len(transposed) == 1,
        f"UpConvBlock holds {len(transposed)} nn.ConvTranspose2d; it needs one. Interpolation "
        "(nn.Upsample, F.interpolate) doubles the size, too, but has nothing to learn.",
    )
    up = transposed[0]
    require(
        up.kernel_size == (2, 2) and up.stride == (2, 2),
        f"the transposed convolution has kernel {up.kernel_size} and stride {up.stride}; with "
        "kernel 2 and stride 2 each input pixel fills its own 2x2 square, without overlap.",
    )
    require(
        (up.in_channels, up.out_channels) == (8, 4),
        f"in UpConvBlock(8, 4) the transposed convolution goes from {up.in_channels} to "
        f"{up.out_channels} channels; it must bring in_channels down to out_channels: 8 -> 4.",
    )
    convolutions = _require_convolutions(block, 2, "UpConvBlock")
    coarse, skip = torch.randn(2, 8, 3, 5), torch.randn(2, 4, 6, 10, requires_grad=True)
    causes = _CHANNELS | {
        "Sizes of tensors must match": "the upsampled map and the skip differ in size: upsample x "
        "first, then concatenate",
        "transposed=1": "the transposed convolution is given a map of other channels: is it x, "
        "from below, that you enlarge?",
        "Given groups=1": "a ConvLayer is given other channels than it was made for: the "
        "concatenation has 2 * out_channels",
    }
    try:
        output, given = _run(block, coarse, skip, causes=causes)
    except CheckFailed as failure:
        # the concatenation went wrong if a convolution then refused what it was given
        for arguments in getattr(failure, "given", {}).get(convolutions[0], []):
            _read_concatenation(arguments[0], up(coarse), skip)
        raise
    norms = _all(block, nn.BatchNorm2d)
    _require_each_called_once([up, *convolutions, *norms], given, "UpConvBlock")
    require(
        torch.equal(given[up][0][0], coarse),
        "the transposed convolution must be given x as it is.",
    )
    convolutions = _called(given, nn.Conv2d)
    both = given[convolutions[0]][0][0]
    _read_concatenation(both, up(coarse), skip)
    require(
        len(convolutions) == 2,
        f"UpConvBlock holds {len(convolutions)} ConvLayer after the concatenation; it should be 2.",
    )
    channels = [(c.in_channels, c.out_channels) for c in convolutions]
    require(
        channels[0][1] == 4,
        f"UpConvBlock(8, 4) goes through the channels {channels[0][0]} -> {channels[0][1]} -> "
        f"{channels[1][1]} after the concatenation; the first ConvLayer brings them down to "
        "out_channels at once: 8 -> 4 -> 4.",
    )
    _require_same_size(output, (2, 4, 6, 10), "UpConvBlock(8, 4)")
    with explain("UpConvBlock(12, 6) does not work, UpConvBlock(8, 4) does: hard-coded channels?"):
        other = answer(12, 6)(torch.randn(1, 12, 2, 4), torch.randn(1, 6, 4, 8))
    _require_same_size(other, (1, 6, 4, 8), "UpConvBlock(12, 6)")
    require(bool((output >= 0).all()), "UpConvBlock must end with a ConvLayer: no value below 0.")
    _require_reference(output, both, given, "UpConvBlock, after the concatenation,")
    (slope,) = torch.autograd.grad(output.sum(), [skip], allow_unused=True)
    require(
        slope is not None,
        "no gradient reaches the skip, so the encoder could not learn through it: no detach().",
    )
    passed("UpConvBlock", "upsample, concatenate along the channels, two ConvLayers")


_SHAPES_96_128 = [
    (16, 96, 128),
    (32, 48, 64),
    (64, 24, 32),
    (128, 12, 16),
    (256, 6, 8),
    (128, 12, 16),
    (64, 24, 32),
    (32, 48, 64),
    (16, 96, 128),
]
_LEVELS = [*(f"encoder {i}" for i in range(4)), "bottleneck", *(f"decoder {i}" for i in range(4))]


def unet_shapes(answer: Callable) -> None:
    """Check ``unet_shapes(height, width, channels=16)``: nine tuples (channels, height, width)."""
    with explain("unet_shapes(96, 128) stops"):
        found = answer(96, 128)
    require(
        isinstance(found, (list, tuple)) and all(isinstance(s, (list, tuple)) for s in found),
        "unet_shapes must return a list of tuples (channels, height, width).",
    )
    require(
        len(found) == 9,
        f"unet_shapes gives {len(found)} shapes; there are 9: four encoders, the bottleneck, four "
        "decoders.",
    )
    require(
        [tuple(shape) for shape in found[:4:-1]] != _SHAPES_96_128[5:],
        "unet_shapes lists the decoders from the shallowest; decoder 0 is the deepest, right after "
        "the bottleneck.",
    )
    for level, shape, wanted in zip(_LEVELS, found, _SHAPES_96_128, strict=True):
        shape = tuple(shape)
        require(
            len(shape) == 3,
            f"{level}: {shape} has {len(shape)} numbers; give (channels, height, width), "
            "without the batch.",
        )
        if shape == wanted:
            require(
                all(isinstance(n, Integral) for n in shape),
                f"{level}: {shape} holds a float; sizes are counted in whole pixels: use //.",
            )
            continue
        c, h, w = shape
        says = f"{level} of unet_shapes(96, 128) is {shape}"
        require(
            shape != (*wanted[1:], wanted[0]),
            f"{says}: that is (height, width, channels). PyTorch's order is (channels, height, "
            "width).",
        )
        require(
            (h, w) != (wanted[2], wanted[1]) or h == w,
            f"{says}: height and width are swapped. The order is (channels, height, width).",
        )
        if level.startswith("decoder") and (h, w) == wanted[1:] and c == 2 * wanted[0]:
            raise CheckFailed(
                f"{says}: that is the concatenation inside the block. After its two ConvLayers the "
                "channels are halved again."
            )
        require(
            (h, w) != (wanted[1] // 2, wanted[2] // 2),
            f"{says}: too small by a factor 2. Encoder 0 works at full size: pooling comes after a "
            "block, not before it.",
        )
        require(
            (h, w) == wanted[1:] or level != "encoder 0",
            f"{says}; wanted {wanted}: the first block keeps the image's size.",
        )
        require(
            (h, w) == wanted[1:], f"{says}: each pooling halves height and width, each decoder "
            "doubles them."
        )  # fmt: skip
        raise CheckFailed(
            f"{says}: the channels start with 16, double at each level down, halve at each up."
        )
    with explain("unet_shapes(32, 48, channels=4) stops"):
        other = [tuple(s) for s in answer(32, 48, channels=4)]
    require(
        other == [(c // 4, h // 3, w * 3 // 8) for c, h, w in _SHAPES_96_128],
        "unet_shapes(32, 48, channels=4) is wrong although (96, 128) is right: are sizes or "
        "channels hard-coded? Compute them from the arguments.",
    )
    passed("unet_shapes", "half the size and twice the channels at each level down, and back")


def unet(answer: Callable) -> None:
    """Check ``UNet(in_channels, num_classes, width=16)``: its parts, its sizes, its skips."""
    torch.manual_seed(0)
    net = _build(answer, 3, 5, width=4).train()
    for name, count in (("encoders", 4), ("decoders", 4)):
        part = getattr(net, name, None)
        require(part is not None, f"UNet has no attribute {name}: keep the four blocks in it.")
        require(
            isinstance(part, nn.Module),
            f"UNet.{name} is a plain Python {type(part).__name__}: PyTorch does not see the layers "
            "in it, so they would be neither trained nor saved. Wrap it: nn.ModuleList([...]).",
        )
        require(
            isinstance(part, (nn.ModuleList, nn.Sequential)),
            f"UNet.{name} is one {type(part).__name__}; it is a list of four blocks, one a level: "
            "nn.ModuleList([...]).",
        )
        require(len(part) == count, f"UNet.{name} holds {len(part)} blocks; it should hold 4.")
    for name in ("bottleneck", "head"):
        require(isinstance(getattr(net, name, None), nn.Module), f"UNet has no layer `{name}`.")
    heads = _all(net.head, nn.Conv2d)
    require(
        len(heads) == 1 and heads[0].kernel_size == (1, 1),
        "UNet.head must be one convolution 1x1: it turns the features of each pixel into a score "
        "for each class.",
    )
    for level, encoder in enumerate(net.encoders):
        wide = [c.out_channels for c in _all(encoder, nn.Conv2d)][-1:]
        require(
            wide == [4 * 2**level],
            f"in UNet(3, 5, width=4) encoder {level} gives {wide[0] if wide else 'no'} channels; "
            f"the channels double at each level: width * 2**{level} = {4 * 2**level}.",
        )
    narrowest = [c.in_channels for c in _all(net.decoders[0], nn.ConvTranspose2d)]
    require(
        narrowest != [8],
        "UNet.decoders begins with the shallowest block, 8 -> 4 channels at width 4. The deepest "
        "comes first, it works right after the bottleneck: 64 -> 32.",
    )
    _require_no_dropout(net, "UNet")
    batch = torch.rand(2, 3, 32, 48)
    made: dict[nn.Module, torch.Tensor] = {}  # what encoders and head return
    hooks = [
        part.register_forward_hook(lambda m, _, output: made.setdefault(m, output))
        for part in (*net.encoders, net.head)
    ]
    sizes = (
        "an upsampled map meets a skip of another size: the deepest decoder gets the deepest skip "
        "(go through the skips in reverse), and a skip is kept before the pooling"
    )
    try:
        logits, given = _run(
            net,
            batch,
            causes={
                "Sizes of tensors must match": sizes,
                "not iterable": "forward returns nothing",
                "transposed=1": "a decoder is given too few channels: does x go through the "
                "bottleneck, and does that give 16 * width?",
                **_CHANNELS,
            },
        )
    except CheckFailed as failure:
        _require_pooled(net, getattr(failure, "given", {}))
        raise
    finally:
        for hook in hooks:
            hook.remove()
    _require_pooled(net, given)
    _require_each_called_once([*net.encoders, net.bottleneck, *net.decoders], given, "UNet")
    _require_each_called_once([net.head], given, "UNet")
    found = tuple(logits.shape)
    require(
        found != (2, 32, 48),
        "UNet returns one number a pixel: an argmax inside the network cannot be trained through. "
        "Return the scores (logits) of all classes.",
    )
    require(
        found == (2, 5, 32, 48),
        f"UNet(3, 5) gives {found} for input (2, 3, 32, 48); wanted (2, 5, 32, 48): one score for "
        "each of num_classes at each pixel.",
    )
    sums = logits.detach().sum(dim=1)
    require(
        not torch.allclose(sums, torch.ones_like(sums), atol=1e-3),
        "the classes sum to 1 at each pixel: there is a softmax in the network. Cross-entropy "
        "applies it itself; twice flattens the gradients. Return logits.",
    )
    require(
        torch.equal(logits, made[net.head]),
        "UNet does not return what its head gives: something follows the head, such as ReLU, "
        "sigmoid or a change of axes. Return the head's output as it is.",
    )
    require(
        logits.requires_grad,
        "no gradient can flow back through UNet: no torch.no_grad() and no detach() in forward.",
    )
    logits.square().mean().backward()
    unused = [name for name, p in net.named_parameters() if p.grad is None]
    require(not unused, f"{unused[:1]} gets no gradient: it is built, but not used in forward.")
    require(
        torch.equal(given[net.encoders[0]][0][0], batch),
        "encoder 0 is not given the images as they are: they lie in [0, 1] already.",
    )
    _require_skips(net, given, made)
    with explain("UNet(1, 2, width=2) does not work, UNet(3, 5, width=4) does: hard-coded?"):
        other = answer(1, 2, width=2)(torch.rand(1, 1, 48, 32))
    require(
        tuple(other.shape) == (1, 2, 48, 32),
        f"UNet(1, 2) gives {tuple(other.shape)} for one image of 48x32; wanted (1, 2, 48, 32).",
    )
    parameters = sum(p.numel() for p in net.parameters())
    # Biases of the four transposed convolutions (32 + 16 + 8 + 4) and of the head may be left out.
    require(
        122_113 - 65 <= parameters <= 122_113,
        f"UNet(3, 5, width=4) has {parameters:,} parameters; of ConvBlocks, UpConvBlocks and a "
        "1x1 head it has 122,113. Is each encoder and the bottleneck one ConvBlock, 16 * width at "
        "the bottleneck, each decoder one UpConvBlock? Try variants in a class beside UNet.",
    )
    passed("UNet", f"4 skips, logits, {parameters:,} parameters at width 4, each with a gradient")


def _require_pooled(net: nn.Module, given: dict) -> None:
    """Look at the size that each level works at."""
    for level, block in enumerate([*net.encoders, net.bottleneck]):
        if block in given:
            name = "the bottleneck" if block is net.bottleneck else f"encoder {level}"
            size, wanted = tuple(given[block][0][0].shape[2:]), (32 >> level, 48 >> level)
            require(
                size == wanted,
                f"{name} works at {size} for a 32x48 image; wanted {wanted}: F.max_pool2d(x, 2) "
                "between two levels, once.",
            )


def _require_skips(net: nn.Module, given: dict, made: dict) -> None:
    """Require that each decoder was given its encoder's own map, not a copy of something else."""
    maps = {level: made[encoder] for level, encoder in enumerate(net.encoders)}
    for step, decoder in enumerate(net.decoders):
        arguments, level = given[decoder][0], 3 - step
        require(
            len(arguments) == 2,
            f"decoder {step} is called with {len(arguments)} argument(s); it takes (x, skip).",
        )
        require(
            arguments[1].shape == maps[level].shape
            and torch.allclose(arguments[1], maps[level], atol=1e-5),
            f"decoder {step} is not given the map of encoder {level} as its skip: a skip that does "
            "not carry the encoder's map is no skip.",
        )
    for level, block in enumerate([*net.encoders[1:], net.bottleneck]):
        require(
            torch.allclose(given[block][0][0], F.max_pool2d(maps[level], 2), atol=1e-5),
            f"what goes down from encoder {level} is not its map after max pooling, "
            "F.max_pool2d(x, 2): of four pixels the strongest, not their mean or one of them.",
        )


def untrained_loss(answer: Callable) -> None:
    """Check ``untrained_loss(num_classes)``: ln C."""

    def call(classes: int) -> float:
        with explain(f"untrained_loss({classes}) stops"):
            loss = answer(classes)
        require(loss is not None, "untrained_loss returns None: is its `return` missing?")
        with explain("reading the loss as a number stops"):
            return float(loss)

    found = call(4)
    near = lambda value: math.isclose(found, value, rel_tol=1e-3, abs_tol=1e-4)  # noqa: E731
    says = f"untrained_loss(4) is {found:.3f}"
    require(not near(-math.log(4)), f"{says}: a loss is positive. It is minus the log of p.")
    require(
        not near(math.log2(4)),
        f"{says}: that is in bits (log2). PyTorch's cross-entropy takes the natural logarithm.",
    )
    require(not near(math.log10(4)), f"{says}: that is log10; the natural logarithm is meant.")
    require(
        not near(0.25),
        f"{says}: that is the probability 1/C of the right class. The loss is minus its logarithm.",
    )
    require(not near(0.75), f"{says}: that is the share of wrong guesses, 1 - 1/C, not the loss.")
    require(not near(4 * math.log(4)), f"{says}: only the true class enters, not a sum over all C.")
    require(
        not near(0.0), f"{says}: 0 would be a perfect and certain prediction, not an untrained one."
    )
    require(near(math.log(4)), f"{says}; with 4 classes at 1/4 each it is -ln(1/4) = 1.386.")
    require(
        math.isclose(call(11), math.log(11), rel_tol=1e-3),
        f"untrained_loss(11) is {call(11):.3f}, but -ln(1/11) = 2.398: the number of classes must "
        "not be hard-coded.",
    )
    passed("untrained_loss", "ln C, whatever the picture")


class _Scores(nn.Module):
    """A network of one 1x1 convolution that writes down how it is called."""

    def __init__(self, bias: list[float]):
        super().__init__()
        self.convolution = nn.Conv2d(3, len(bias), 1)
        nn.init.zeros_(self.convolution.weight)
        with torch.no_grad():
            self.convolution.bias.copy_(torch.tensor(bias))
        self.training_at_call: list[bool] = []
        self.grad_at_call: list[bool] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.training_at_call.append(self.training)
        self.grad_at_call.append(torch.is_grad_enabled())
        return self.convolution(images)


class _SpiedSGD(torch.optim.SGD):
    """Gradient descent that notes at each step whether there was a gradient to follow."""

    def __init__(self, parameters, lr: float):
        super().__init__(parameters, lr=lr)
        self.had_gradient: list[bool] = []

    def step(self, closure=None):
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        self.had_gradient.append(any(g is not None and bool(g.any()) for g in gradients))
        return super().step(closure)


def _batches(*labels: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return batches of one 2x2 image of ones, with these labels."""
    return [(torch.ones(1, 3, 2, 2), torch.tensor(row).reshape(1, 2, 2)) for row in labels]


def train_one_epoch(answer: Callable) -> None:
    """Check ``train_one_epoch(model, batches, optimizer)``."""
    third = math.log(3)  # scores 0 and ln 3: probabilities 1/4 and 3/4
    causes = {
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
    }

    def run(bias, lr, *labels):
        model = _Scores(bias).eval()
        optimizer = _SpiedSGD(model.parameters(), lr)
        batches = _batches(*labels)
        with explain("train_one_epoch stops", causes), torch.enable_grad():
            loss = answer(model, batches, optimizer)
        require(
            all(
                torch.equal(used[1], made[1])
                for used, made in zip(batches, _batches(*labels), strict=True)
            ),
            "train_one_epoch changes the labels that it is given: they are wanted again in the "
            "next epoch. ignore_index=VOID leaves void pixels out without that.",
        )
        return loss, model, optimizer

    ones, zeros = [1, 1, VOID, VOID], [0, 0, VOID, VOID]
    loss, model, optimizer = run([0.0, third], 0.0, ones, zeros)
    require(
        loss is not None, "train_one_epoch returns None; it must return the mean loss, a float."
    )
    require(
        not isinstance(loss, torch.Tensor),
        "train_one_epoch returns a tensor: its whole graph stays in memory with it. Return a "
        "Python float: loss.item().",
    )
    require(isinstance(loss, (int, float)), f"the mean loss is a {type(loss).__name__}, no float.")
    calls, steps = len(model.training_at_call), len(optimizer.had_gradient)
    require(calls > 0, "the given model is never called: use `model`, not one of the notebook.")
    require(
        calls == 2,
        f"the model was called {calls} time(s) for 2 batches: is the return inside the for loop?",
    )
    require(
        all(model.training_at_call),
        "the model is in eval mode while it is trained: batch norm would use old averages. Call "
        "model.train() first.",
    )
    require(
        steps == 2, f"optimizer.step() was called {steps} time(s) for 2 batches: one step a batch."
    )
    cheap, dear = math.log(4 / 3), math.log(4)  # the loss on a 1, and on a 0
    says = f"for two batches with losses {cheap:.3f} and {dear:.3f} you return {loss:.3f}"
    near = lambda value: math.isclose(loss, value, abs_tol=2e-3)  # noqa: E731
    require(
        not near(cheap + dear),
        f"{says}: the sum. Divide by the number of batches. "
        "Or is each loss a sum over the pixels (reduction)?",
    )
    require(not near(dear) and not near(cheap), f"{says}: one batch only. Return their mean.")
    softmax = F.cross_entropy(torch.tensor([[0.25, 0.75]] * 2), torch.tensor([0, 1])).item()
    require(
        not near(softmax),
        f"{says}: a softmax came before the loss. cross_entropy applies it itself: give it logits.",
    )
    require(
        not near((cheap + dear) / 4),
        f"{says}: void pixels count in the mean as zeros. ignore_index=VOID leaves them out.",
    )
    as_sky = (cheap + 3 * dear) / 4
    require(
        not near(as_sky),
        f"{says}: void pixels were counted as class 0. They have no class: ignore_index=VOID.",
    )
    require(near((cheap + dear) / 2), f"{says}; wanted {(cheap + dear) / 2:.3f}, their mean.")
    more, _, _ = run([0.0, third], 0.0, ones, zeros, zeros, ones, zeros)
    require(
        math.isclose(more, (2 * cheap + 3 * dear) / 5, abs_tol=2e-3),
        f"for five batches, two with loss {cheap:.3f} and three with {dear:.3f}, you return "
        f"{more:.3f}; wanted {(2 * cheap + 3 * dear) / 5:.3f}: each batch counts the same.",
    )
    _require_three_steps(run, ones)
    passed("train_one_epoch", "train mode, zero_grad, backward, step; void ignored; mean loss")


def _require_three_steps(run: Callable, labels: list[int]) -> None:
    """Compare the bias after three steps of size 1 with gradient descent done by hand."""
    _, model, optimizer = run([0.0, 0.0], 1.0, labels, labels, labels)
    require(
        any(optimizer.had_gradient),
        "no gradient reaches optimizer.step(): loss.backward() is missing or comes after step(), "
        "or zero_grad() stands between the two and wipes it out.",
    )
    require(
        optimizer.had_gradient[0],
        "the first optimizer.step() finds no gradient: step() comes before backward(). The order "
        "is zero_grad, forward, loss, backward, step.",
    )

    def by_hand(keep: bool) -> float:
        bias, weights, sums = 0.0, 0.0, [0.0, 0.0]
        for _ in range(3):
            # scores of the two classes differ by 2 * (bias + 3 * weight): each class moves opposite
            slope = -1 / (1 + math.exp(2 * (bias + 3 * weights)))
            sums = [slope + keep * sums[0], slope + keep * sums[1]]
            bias, weights = bias - sums[0], weights - sums[1]
        return bias

    found = model.convolution.bias[1].item()
    near = lambda value: math.isclose(found, value, abs_tol=1e-3)  # noqa: E731
    require(
        not near(by_hand(keep=True)),
        "the gradients of the batches add up: zero_grad() is missing, or outside the loop, so "
        "step 3 still follows batches 1 and 2.",
    )
    require(
        near(by_hand(keep=False)),
        "three steps do not end where gradient descent ends: one zero_grad, one backward and one "
        "step for each batch, in this order.",
    )


class _Pixelwise(nn.Module):
    """Scores of 4 classes that are the input's first 4 channels; batch norm shows the mode."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(4)
        self.training_at_call: list[bool] = []
        self.grad_at_call: list[bool] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.training_at_call.append(self.training)
        self.grad_at_call.append(torch.is_grad_enabled())
        return self.norm(images)


def predict_labels(answer: Callable) -> None:
    """Check ``predict_labels(model, images)``: class numbers (B, H, W), eval mode, no gradient."""
    torch.manual_seed(0)
    truth = torch.randint(0, 4, (3, 5, 6), generator=torch.Generator().manual_seed(1))
    images = F.one_hot(truth, 4).permute(0, 3, 1, 2).float() * 3 - 1
    model = _Pixelwise().train()
    with explain("predict_labels stops", _DEVICES):
        labels = answer(model, images)
    require(labels is not None, "predict_labels returns None: is its `return` missing?")
    require(
        not isinstance(labels, tuple),
        "predict_labels returns a pair: .max(dim=1) gives the scores and their classes. Only the "
        "classes are wanted: .argmax(dim=1).",
    )
    require(isinstance(labels, torch.Tensor), "predict_labels must return a tensor.")
    require(bool(model.training_at_call), "predict_labels never calls the model.")
    require(
        not any(model.training_at_call),
        "the model predicts in train mode: batch norm then uses this batch's own statistics, and a "
        "prediction depends on its neighbours in the batch. Call model.eval() first.",
    )
    require(
        not model.training,
        "predict_labels leaves the model in train mode; it is to be left in eval mode.",
    )
    found = tuple(labels.shape)
    wrong_axes = {
        (4, 5, 6): "0, the batch",
        (3, 4, 6): "2, the height",
        (3, 4, 5): "3, the width",
    }
    require(
        found not in wrong_axes,
        f"the labels have shape {found}: the argmax went over axis {wrong_axes.get(found)}. "
        "Classes are axis 1 of (B, C, H, W).",
    )
    require(
        found != (3, 4, 5, 6),
        "predict_labels returns a score for every class; wanted the number of the best class: "
        "argmax over axis 1.",
    )
    require(
        found != (3, 1, 5, 6),
        "the class axis is still there, (3, 1, 5, 6): keepdim=False.",
    )
    require(found == (3, 5, 6), f"the labels have shape {found}; wanted (B, H, W) = (3, 5, 6).")
    require(
        not labels.is_floating_point(),
        "the labels are floats: .max gives the best score, .argmax the number of its class.",
    )
    require(
        not any(model.grad_at_call),
        "gradients are recorded during prediction: memory for nothing. Put the forward pass under "
        "`with torch.no_grad():` or @torch.no_grad().",
    )
    wrong = (labels.long() != truth).float().mean().item()
    require(
        wrong == 0,
        f"{100 * wrong:.0f} % of the labels are wrong on a model whose scores are plain: the label "
        "is the number of the class with the highest score.",
    )
    passed("predict_labels", "eval mode, no gradients, argmax over the classes")


def mean_map(answer: Callable) -> None:
    """Check ``mean_map(skip)``: every channel of every image replaced by its own mean."""
    skip = torch.arange(24.0).reshape(2, 3, 2, 2)
    before = skip.clone()
    with explain("mean_map stops"):
        found = answer(skip)
    require(isinstance(found, torch.Tensor), "mean_map must return a tensor.")
    require(torch.equal(skip, before), "mean_map changed its input: return a new tensor.")
    require(
        tuple(found.shape) == (2, 3, 2, 2),
        f"mean_map gives shape {tuple(found.shape)} for a skip of (2, 3, 2, 2): keep the shape "
        "(keepdim=True, then expand_as(skip)), the decoder concatenates it.",
    )
    require(
        bool(found.any()),
        "mean_map gives zeros. Batch norm and ReLU have made most channels positive: a map of "
        "zeros is far from what the decoder has ever seen. Use each channel's mean.",
    )
    require(not torch.equal(found, skip), "mean_map gives the skip unchanged: nothing is removed.")
    own = skip.mean(dim=(2, 3), keepdim=True).expand_as(skip)
    for axes, words in {
        (0, 2, 3): "over the batch as well: each image has its own mean",
        (1, 2, 3): "over the channels as well: each channel says something else, keep them apart",
        (0, 1, 2, 3): "over everything: each channel of each image has its own mean",
        (1,): "over the channels: that keeps the position, which is what should go",
        (2,): "over the height only: the columns are still there. Average over both, dim=(2, 3)",
        (3,): "over the width only: the rows are still there. Average over both, dim=(2, 3)",
    }.items():
        other = skip.mean(dim=axes, keepdim=True).expand_as(skip)
        require(not torch.allclose(found, other), f"mean_map averages {words}.")
    require(
        torch.allclose(found, own),
        f"channel 0 of image 0 holds 0, 1, 2, 3: its mean map is 1.5 everywhere; yours is "
        f"{found[0, 0].flatten().tolist()}.",
    )
    wide = torch.arange(144.0).reshape(2, 3, 4, 6) ** 2
    with explain("mean_map stops on maps of 4x6 pixels"):
        found = answer(wide)
    require(
        tuple(found.shape) == tuple(wide.shape)
        and torch.allclose(found, wide.mean(dim=(2, 3), keepdim=True).expand_as(wide)),
        "mean_map is right for maps of 2x2 pixels, but not for 4x6: one mean for the whole map of "
        "a channel, at each of its pixels.",
    )
    passed("mean_map", "what a channel says on the whole stays, where it says it is gone")
