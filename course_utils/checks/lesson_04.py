"""Checks of lesson 04: a window as a convolution, what a pixel sees, and a first FCN.

The functions are :class:`Exercise`: a right answer, by another way than the lesson's, and a table
of mistakes. The FCN is a :class:`NetExercise`: a table of what must hold of its layers.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from course_utils.checks import networks as net
from course_utils.checks import require
from course_utils.checks.exercise import Case, Exercise
from course_utils.checks.networks import Build, NetExercise, Observed
from course_utils.data import VOID
from course_utils.models import windows as models

# --- 1: the cost ---------------------------------------------------------------------------------


def _windows(cin: int, cout: int, kernel: int, height: int, width: int) -> int:
    """Count the numbers in all windows of a map, once for each pair of channels."""
    view = np.lib.stride_tricks.sliding_window_view(np.empty((height, width)), (kernel, kernel))
    return view.size * cin * cout


multiply_adds = Exercise(
    "multiply_adds",
    form="one whole number",
    learnt="places x weights of the kernel x channels in x channels out",
    right=_windows,
    cases=[
        Case(1, 4, 3, 3, 3, says="into a 3x3 map it fits at one place: 9 products, 4 times."),
        Case(1, 4, 3, 4, 6, says="into 4x6 pixels it fits at 2 x 4 places: 8 times 9, 4 times."),
        Case(2, 5, 3, 4, 6, says="each of 5 channels out reads both channels in: 8 * 9 * 2 * 5."),
        Case(2, 3, 1, 4, 5, says="a 1x1 kernel fits at each of the 20 places: 20 * 2 * 3."),
    ],
    drawn=lambda rng: [
        Case(cin, cout, kernel, height, width)
        for kernel in (3, 5)
        for cin, cout, height, width in [rng.permutation(range(kernel + 1, 14))[:4].tolist()]
    ],
    mistakes={
        "{name} counts a place for each pixel of the input, {got}; without padding the kernel "
        "must lie inside, so height and width lose kernel - 1.": lambda i, o, k, h, w: (
            h * w * k * k * i * o
        ),
        "{name} loses kernel rows and columns, {got}; it is kernel - 1: a 3x3 kernel fits into 3x3 "
        "once.": lambda i, o, k, h, w: (h - k) * (w - k) * k * k * i * o,
        "{name} is {got}: a kernel has kernel x kernel weights, not kernel.": (
            lambda i, o, k, h, w: (h - k + 1) * (w - k + 1) * k * i * o
        ),
        "{name} is {got}: the channels that come in are missing; a kernel reads all of "
        "them.": lambda i, o, k, h, w: _windows(1, o, k, h, w),
        "{name} is {got}: the channels that go out are missing; each has a kernel of its "
        "own.": lambda i, o, k, h, w: _windows(i, 1, k, h, w),
        "{name} is {got}: channels in and out are added; each pair has weights of its own: "
        "multiply.": lambda i, o, k, h, w: _windows(i + o, 1, k, h, w),
        "{name} is {got}: the number of weights. Each is used at every place.": (
            lambda i, o, k, h, w: k * k * i * o
        ),
        "{name} is {got}: a multiplication and the addition after it are counted as one here, one "
        "multiply-add.": lambda *given: 2 * _windows(*given),
        "{name} is {got}: the kernel is laid side by side; it moves on by one pixel, so it fits "
        "height - kernel + 1 times.": lambda i, o, k, h, w: (h // k) * (w // k) * k * k * i * o,
        "{name} is {got}: 2 rows and columns are lost whatever the kernel; it is kernel - "
        "1.": lambda i, o, k, h, w: (h - 2) * (w - 2) * k * k * i * o,
        "{name} is {got}: the biases are counted, too; leave them out.": (
            lambda i, o, k, h, w: _windows(i, o, k, h, w) + o * (h - k + 1) * (w - k + 1)
        ),
    },
)

# --- 2: the linear layer as a convolution --------------------------------------------------------


def _converted(answer: Callable, linear: nn.Linear, channels: int, size: int) -> torch.Tensor:
    """Return what the student's convolution makes of a map that is larger than its kernel."""
    conv = answer(linear, channels, size)
    name = "as_convolution"
    require(
        isinstance(conv, nn.Conv2d),
        f"{name} returns a {type(conv).__name__}; return the nn.Conv2d that you have filled.",
    )
    found = (conv.in_channels, conv.out_channels, *conv.kernel_size)
    wanted = (channels, linear.out_features, size, size)
    require(
        found == wanted,
        f"{name} makes a convolution {found[0]} -> {found[1]} with kernel {found[2]}x{found[3]}; "
        f"wanted {wanted[0]} -> {wanted[1]}, {size}x{size}: the kernel is as large as the map that "
        "the linear layer reads.",
    )
    require(
        tuple(conv.weight.shape) == (linear.out_features, channels, size, size),
        f"{name} puts a weight of shape {tuple(conv.weight.shape)} into the convolution; a kernel "
        "is (out, in, size, size).",
    )
    settings = {"stride": (1, 1), "dilation": (1, 1), "groups": 1}
    for key, value in settings.items():
        require(getattr(conv, key) == value, f"{name}: leave the convolution's {key} as it is.")
    require(
        conv.padding in ((0, 0), "valid"),
        f"{name} pads the map. The linear layer never saw zeros around it: padding 0.",
    )
    require(
        conv.bias is None
        or (conv.bias.shape == linear.bias.shape and torch.allclose(conv.bias, linear.bias)),
        f"{name} leaves the convolution the random bias that it was made with: copy linear.bias "
        "into it, too.",
    )
    maps = torch.linspace(-1, 1, channels * (size + 2) * (size + 1)).sin()
    return conv(maps.reshape(1, channels, size + 2, size + 1) * 3)


def _conv(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Conv2d:
    out, channels, *size = weight.shape
    conv = nn.Conv2d(channels, out, size, bias=bias is not None)
    conv.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return conv


def _unflattened(change: Callable = lambda kernel: kernel, bias: bool = True) -> Callable:
    """Return what makes a convolution of the right kernel, changed."""

    def make(linear: nn.Linear, channels: int, size: int) -> nn.Conv2d:
        kernel = nn.Unflatten(1, (channels, size, size))(linear.weight.data)
        return _conv(change(kernel), linear.bias.data if bias else None)

    return make


def _channels_last(linear: nn.Linear, channels: int, size: int) -> nn.Conv2d:
    kernel = linear.weight.data.reshape(-1, size, size, channels).permute(0, 3, 1, 2)
    return _conv(kernel, linear.bias.data)


def _out_last(linear: nn.Linear, channels: int, size: int) -> nn.Conv2d:
    kernel = linear.weight.data.flatten().reshape(channels, size, size, -1).permute(3, 0, 1, 2)
    return _conv(kernel, linear.bias.data)


def _linear(cin: int, out: int, size: int, seed: int) -> Case:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = nn.Linear(cin * size * size, out)
    return Case(layer, cin, size, through=_converted)


as_convolution = Exercise(
    "as_convolution",
    form="what your convolution makes of a map, at each place what the linear layer makes of it",
    learnt="the same weights, now for a map of any size",
    right=_unflattened(),
    cases=[_linear(3, 4, 2, seed=0), _linear(2, 5, 3, seed=1)],
    drawn=lambda rng: [_linear(4, 3, 3, seed=int(rng.integers(2**31)))],
    same=lambda got, wanted: got.shape == wanted.shape and torch.allclose(got, wanted, atol=1e-4),
    mistakes={
        "{name} lacks the linear layer's bias: copy it, too.": _unflattened(bias=False),
        "{name} has the kernel's rows and columns exchanged: flatten goes along the rows.": (
            _unflattened(lambda kernel: kernel.mT)
        ),
        "{name} turns the kernel round. Deep learning's convolution does not flip: copy it as it "
        "is.": _unflattened(lambda kernel: kernel.flip(2, 3)),
        "{name} reads the weights with the channels last; flatten of (channels, size, size) has "
        "them first: reshape to (out, channels, size, size).": _channels_last,
        "{name} reads the weights with the classes last: linear.weight is (out, in).": _out_last,
        "{name} divides the weights by their number. flatten and Linear add up, and so does a "
        "convolution.": _unflattened(lambda kernel: kernel / kernel[0].numel()),
    },
    causes={
        "invalid for input of size|shape '": "linear.weight is (out, channels * size * size): "
        "reshape it to (out, channels, size, size)",
        "leaf [Vv]ariable": "fill the weights inside of `with torch.no_grad():`, by copy_",
        "as parameter 'weight'|as parameter 'bias'": "a layer's weight is an nn.Parameter: fill "
        "the one that is there, conv.weight.copy_(...)",
        r"must match the size|expanded size": "the shape does not fit: a kernel is (out, channels, "
        "size, size), a bias (out,)",
    },
)

# --- 3: shift and stitch -------------------------------------------------------------------------


def _passes(model: Callable, padded: torch.Tensor, stride: int) -> list[torch.Tensor]:
    """Return what the model makes of each shift, row by row."""
    return [model(padded[..., dy:, dx:]) for dy in range(stride) for dx in range(stride)]


def _shuffled(passes: Sequence[torch.Tensor], stride: int) -> torch.Tensor:
    return F.pixel_shuffle(torch.stack([*passes], dim=2).flatten(1, 2), stride)


def _stitched(model: Callable, padded: torch.Tensor, stride: int) -> torch.Tensor:
    return _shuffled(_passes(model, padded, stride), stride)


def _reordered(order: Callable[[int, int, int], int]) -> Callable:
    """Return a mistake: the pass ``order(dy, dx, stride)`` is put where (dy, dx) belongs."""

    def stitch(model, padded, stride):
        passes = _passes(model, padded, stride)
        chosen = [passes[order(dy, dx, stride)] for dy in range(stride) for dx in range(stride)]
        return _shuffled(chosen, stride)

    return stitch


def _tiles(model, padded, stride):
    passes = _passes(model, padded, stride)
    rows = [torch.cat(passes[k : k + stride], dim=3) for k in range(0, len(passes), stride)]
    return torch.cat(rows, dim=2)


def _enlarged_bilinear(model, padded, stride):
    return F.interpolate(model(padded), scale_factor=stride, mode="bilinear", align_corners=False)


def _diagonal(model, padded, stride):
    passes = _passes(model, padded, stride)
    kept = [p if k % (stride + 1) == 0 else torch.zeros_like(p) for k, p in enumerate(passes)]
    return _shuffled(kept, stride)


def _rolled(model, padded, stride):
    steps = [(dy, dx) for dy in range(stride) for dx in range(stride)]
    return _shuffled([model(padded.roll(step, (2, 3))) for step in steps], stride)


def _four_each_way(model, padded, stride):
    passes = _passes(model, padded, stride)
    kept = [p if max(divmod(k, stride)) < 4 else torch.zeros_like(p) for k, p in enumerate(passes)]
    return _shuffled(kept, stride)


def _strided(cin: int, out: int, kernel: int, stride: int, size: tuple, seed: int) -> Case:
    """Return a convolution with a stride, and two padded maps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Conv2d(cin, out, kernel, stride).requires_grad_(False)
        height, width = (stride * n + kernel - 1 for n in size)
        return Case(model, torch.rand(2, cin, height, width), stride)


shift_and_stitch = Exercise(
    "shift_and_stitch",
    form="the scores of every pixel, (B, C, stride * h, stride * w)",
    learnt="stride x stride passes, each in its places",
    right=_stitched,
    cases=[
        Case(
            nn.AvgPool2d(1, 2),
            torch.arange(24.0).reshape(1, 1, 4, 6),
            2,
            says="A net that gives every second pixel of the picture back must give the whole "
            "picture, 0 to 23 in rows of six.",
        ),
        _strided(1, 2, 4, 3, (2, 3), seed=0),
        _strided(1, 2, 5, 5, (2, 3), seed=0),
    ],
    drawn=lambda rng: [_strided(2, 3, 6, 5, (3, 2), seed=int(rng.integers(2**31)))],
    same=lambda got, wanted: got.shape == wanted.shape and torch.allclose(got, wanted, atol=1e-4),
    mistakes={
        "{name} exchanges rows and columns: what was shifted by dy rows and dx columns belongs "
        "into rows dy, dy + stride, ... and columns dx, dx + stride, ...": _reordered(
            lambda dy, dx, stride: dx * stride + dy
        ),
        "{name} fills all places from one pass: that enlarges the coarse map. The pixels between "
        "need a pass of their own, over the shifted picture.": _reordered(lambda dy, dx, stride: 0),
        "{name} stitches in the wrong order: the pass that was shifted furthest belongs last, not "
        "first.": _reordered(lambda dy, dx, stride: stride * stride - 1 - dy * stride - dx),
        "{name} lays the passes beside each other as tiles; interleave them: every stride-th row "
        "and column, scores[:, :, dy::stride, dx::stride].": _tiles,
        "{name} interpolates between the coarse scores; shift-and-stitch computes "
        "them.": _enlarged_bilinear,
        "{name} shifts along the diagonal only: rows and columns are shifted each by themselves, "
        "stride * stride passes in all.": _diagonal,
        "{name} makes four shifts each way, whatever the stride is: it takes as many as the "
        "stride.": _four_each_way,
        "{name} shifts the picture the wrong way: for the pixel below, the picture must move up: "
        "padded[:, :, dy:, dx:] leaves its first rows away.": _rolled,
    },
    causes={
        r"expanded size|must match|shape mismatch": "a pass has another size than its places. "
        "Leave away the first dy rows and dx columns, and nothing else; the first pass says how "
        "large the result is, stride times its height and width",
        "a view of a leaf|in-place": "make the result new, by torch.zeros or new_zeros",
    },
    facts={
        "{name} must return a tensor.": lambda got, *_: isinstance(got, torch.Tensor),
    },
)

# --- 4: the interior -----------------------------------------------------------------------------


def _interior(height: int, width: int, field: int, more: float = 0) -> np.ndarray:
    """Return where a pixel is at least half a field away from the border, by its distance."""
    rows, columns = np.arange(height)[:, None], np.arange(width)
    to_rows = np.minimum(rows, height - 1 - rows)
    return np.minimum(to_rows, np.minimum(columns, width - 1 - columns)) >= field // 2 + more


def _sliced(height: int, width: int, field: int) -> np.ndarray:
    inside, margin = np.zeros((height, width), bool), field // 2
    inside[margin:-margin, margin:-margin] = True
    return inside


def _corner(height: int, width: int, field: int) -> np.ndarray:
    rows, columns = np.arange(height)[:, None], np.arange(width)
    return (rows >= field // 2) & (columns >= field // 2)


interior = Exercise(
    "interior",
    form="True where the whole field lies inside, bool (height, width)",
    learnt="half a field, rounded down, is lost at each side",
    right=_interior,
    cases=[
        Case(9, 12, 5, says="A 5x5 field reaches 2 pixels to each side."),
        Case(5, 6, 3, says="A 3x3 field sticks out at the outermost ring of pixels, only there."),
        Case(3, 4, 1, says="With a field of 1 a pixel sees only itself: all are inside."),
    ],
    drawn=lambda rng: [
        Case(*rng.permutation(range(16, 30))[:2].tolist(), field) for field in (1, 7, 9)
    ],
    mistakes={
        "{name} is right but for a field of 1: a slice [0:-0] is empty, for -0 is 0. Slice to "
        "height - margin.": _sliced,
        "{name} takes the whole field for the margin; half of it, rounded down, reaches to each "
        "side.": lambda h, w, field: _interior(h, w, 2 * field + 1),
        "{name} leaves out one ring too many: a field of 3 reaches 1 pixel to each side, "
        "field // 2.": lambda h, w, field: _interior(h, w, field, 1),
        "{name} keeps one ring too many: with field // 2 as its distance from the border a pixel "
        "is inside, nearer it is not.": lambda h, w, field: _interior(h, w, field, -1),
        "{name} is turned round: it marks the border.": lambda *given: ~_interior(*given),
        "{name} leaves out the upper and the left border only; the field sticks out below and on "
        "the right as well.": _corner,
        "{name} has height and width exchanged: an array is (rows, columns).": (
            lambda h, w, field: _interior(w, h, field)
        ),
        "{name} marks every pixel.": lambda h, w, field: np.ones((h, w), bool),
    },
    facts={
        "{name} gives {found}; wanted True and False: an array of dtype bool.": (
            lambda got, *_: getattr(got, "dtype", None) in (np.dtype(bool), torch.bool)
        ),
    },
)

# --- 5: the receptive field ----------------------------------------------------------------------


def _backwards(layers: Sequence) -> float:
    """Return the field from the output back: each layer's stride, and its kernel once."""
    field = 1
    for kernel, stride in reversed(layers):
        field = (field - 1) * stride + kernel
    return field


def _forwards(grow: Callable, start: float = 1) -> Callable:
    """Return a mistake: ``grow(field, step, kernel, stride)`` gives both anew at each layer."""

    def field_of(layers: Sequence) -> float:
        field, step = start, 1
        for kernel, stride in layers:
            field, step = grow(field, step, kernel, stride)
        return field

    return field_of


_published = _forwards(
    lambda field, step, kernel, stride: (
        field * stride if stride > 1 else field + (kernel - 1) * step,
        step * stride,
    )
)
_WINDOW_NET = [(3, 1), (3, 2), (3, 1), (3, 2), (3, 1), (4, 1)]


def _draw_layers(rng: np.random.Generator) -> list[Case]:
    kernels = rng.permutation([3, 5, 7, 9]).tolist()
    a, b, c, d = kernels
    return [
        Case([(a, 1), (2, 2), (b, 1), (3, 2), (c, 1)]),
        Case([(d, 1), (2, 2), (a, 1), (4, 2), (b, 1), (1, 0.5), (c, 1)]),
    ]


receptive_field = Exercise(
    "receptive_field",
    form="one number of pixels",
    learnt="each layer adds kernel - 1 steps, and a stride makes the steps longer from then on",
    right=_backwards,
    cases=[
        Case([(3, 1)], says="One 3x3 convolution sees 3 pixels."),
        Case([(3, 1), (3, 1)], says="The second adds one pixel at each side: 5."),
        Case([(2, 2)], says="A pooling of 2x2 sees 2 pixels."),
        Case(
            [(3, 1), (2, 2), (3, 1)],
            says="3, then 4, and after the pooling one step is 2 pixels: 4 + 2 * 2 = 8.",
        ),
        Case(_WINDOW_NET, says="The net of the window sees the 33 pixels of its window."),
        Case(
            [(3, 1), (2, 2), (3, 1), (1, 0.5), (3, 1)],
            says="3, 4, 8; after the enlargement, (1, 0.5), a step is 1 pixel again: 10.",
        ),
    ],
    drawn=_draw_layers,
    mistakes={
        "{name} is {got}: a stride of 2 makes the *steps* longer from there on, and does not "
        "double the field that was there.": _published,
        "{name} is {got}: the strides are not used. After a stride of 2 the next layer's "
        "neighbours are 2 pixels apart.": _forwards(lambda field, step, k, s: (field + k - 1, 1)),
        "{name} is {got}: a layer's own stride counts for the layers after it, not for itself: "
        "first the field, then the step.": _forwards(
            lambda field, step, k, s: (field + (k - 1) * step * s, step * s)
        ),
        "{name} is {got}: each layer adds kernel - 1 steps, not kernel; a 1x1 layer sees nothing "
        "new.": _forwards(lambda field, step, k, s: (field + k * step, step * s)),
        "{name} is {got}: without any layer a pixel sees itself, so the field starts at 1.": (
            _forwards(lambda field, step, k, s: (field + (k - 1) * step, step * s), start=0)
        ),
        "{name} is {got}: strides multiply; two of 2 make steps of 4 (and an enlargement by 2, "
        "0.5, halves them).": _forwards(
            lambda field, step, k, s: (field + (k - 1) * step, step + s - 1)
        ),
        "{name} is {got}: strides multiply; they are not added.": _forwards(
            lambda field, step, k, s: (field + (k - 1) * step, step + s)
        ),
        "{name} is {got}: each stride replaces the step; it has to be multiplied by it.": _forwards(
            lambda field, step, k, s: (field + (k - 1) * step, s)
        ),
        "{name} is {got}: the step at the end, not the field.": lambda layers: float(
            np.prod([stride for _, stride in layers])
        ),
        "{name} is {got}: fields do not multiply; each layer adds to the field of those "
        "before.": lambda layers: float(np.prod([kernel for kernel, _ in layers])),
    },
)

# --- 6: the gradient probe -----------------------------------------------------------------------


def _slopes(model: Callable, images: torch.Tensor, row: int, column: int) -> torch.Tensor:
    """Return the gradient (N, C, H, W) of each image's score, one image at a time."""

    def score(image: torch.Tensor) -> torch.Tensor:
        return model(image[None])[0, :, row, column].sum()

    return torch.stack([torch.func.grad(score)(image) for image in images])


def _probe(end: Callable, *, swapped: bool = False, whole: bool = False) -> Callable:
    """Return what makes a map of the slopes (N, C, H, W), right or wrong."""

    def probe(model, images, row, column):
        if whole:
            return end(torch.func.grad(lambda x: model(x).sum())(images))
        return end(_slopes(model, images, *((column, row) if swapped else (row, column))))

    return probe


def _sum(slopes: torch.Tensor) -> torch.Tensor:
    return slopes.abs().sum(dim=(0, 1))


def _asked_twice(answer: Callable, *given) -> torch.Tensor:
    """Return what is said of the same images the second time."""
    answer(*given)
    return answer(*given)


def _first_score(model, images, row, column):
    return _sum(_slopes(lambda x: model(x)[:, :1], images, row, column))


_KERNEL = torch.tensor([[[[-4.0, -3.0, -2.0], [-1.0, 1.0, 2.0], [3.0, 4.0, 5.0]]]])


def _draw_probe(rng: np.random.Generator) -> list[Case]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 2, 3))
        images = torch.randn(3, 2, 8, 9)
        return [Case(model.requires_grad_(False), images, 4, 2, through=_asked_twice)]


gradient_map = Exercise(
    "gradient_map",
    form="one number for each pixel of the input, (H, W)",
    learnt="where a score changes with a pixel, and how much",
    right=_probe(_sum),
    cases=[
        Case(
            partial(F.conv2d, weight=_KERNEL),
            torch.zeros(1, 1, 6, 7),
            1,
            2,
            says="The slope of a 3x3 convolution is its nine weights, here 4 3 2, 1 1 2, 3 4 5 "
            "without their signs, in rows 1 to 3 and columns 2 to 4.",
        ),
        Case(
            torch.square,
            torch.tensor([[1.0, 1], [-1, 1], [-2, -1]])[..., None, None].expand(3, 2, 3, 4).clone(),
            1,
            2,
            says="The slope of x * x is 2x. In one channel three images have slopes 2, -2, -4, in "
            "the other 2, 2, -2: without their signs 14 in all, at row 1, column 2.",
        ),
        *_draw_probe(np.random.default_rng(0)),
    ],
    drawn=_draw_probe,
    same=lambda got, wanted: (
        np.shape(got) == np.shape(wanted)
        and np.allclose(np.asarray(got, float), np.asarray(wanted, float), 1e-4, 1e-4)
    ),
    mistakes={
        "{name} adds slopes up with their signs, so that they cancel: abs() first, then the "
        "sum.": _probe(lambda slopes: slopes.sum(dim=(0, 1))),
        "{name} adds the images up before abs(): slopes of two images may cancel. abs() "
        "first.": _probe(lambda slopes: slopes.sum(dim=0).abs().sum(dim=0)),
        "{name} adds the channels up before abs(): their slopes may cancel. abs() first.": _probe(
            lambda slopes: slopes.sum(dim=1).abs().sum(dim=0)
        ),
        "{name} takes abs() at the end, when the slopes have cancelled already: abs() first, then "
        "the sum.": _probe(lambda slopes: slopes.sum(dim=(0, 1)).abs()),
        "{name} asks for another pixel: (row, column) is the order of a tensor's last two "
        "axes.": _probe(_sum, swapped=True),
        "{name} starts from all pixels of the output: take the scores at [:, :, row, column] "
        "only.": _probe(_sum, whole=True),
        "{name} starts from the first class alone: sum the scores of all classes.": _first_score,
        "{name} uses the first image only.": _probe(lambda slopes: _sum(slopes[:1])),
        "{name} is the mean over images or channels; wanted is the sum.": _probe(
            lambda slopes: slopes.abs().mean(dim=(0, 1))
        ),
        "{name} gives twice as much when the same images are asked about again: backward() adds to "
        "what is in their .grad. Work on a copy, images.clone().requires_grad_().": (
            lambda *given: 2 * _probe(_sum)(*given)
        ),
        "{name} gives a map for each image and channel; sum over both: (H, W).": _probe(torch.abs),
        "{name} gives a map for each image; sum over the images, too: (H, W).": _probe(
            lambda slopes: slopes.abs().sum(dim=1)
        ),
    },
    causes={
        "out of bounds|out of range": "rows are axis 2 and columns axis 3 of (N, C, H, W): "
        "[:, :, row, column]",
        "does not require grad|One of the differentiated Tensors": "say on a copy of the images "
        "that you want their gradient, images.clone().requires_grad_(), before the model is called",
        "only Tensors of floating point": "the images must be floats",
        "'tuple' object has no attribute": "torch.autograd.grad gives a tuple, one gradient for "
        "each tensor asked for: take its first",
        "can be implicitly created only for scalar": "a gradient is of one number: sum the scores "
        "first",
        "not have been used in the graph": "the gradient wanted is that at the tensor which the "
        "model was given: not a copy of it",
    },
    facts={
        "{name} returns a tuple: torch.autograd.grad gives one gradient for each tensor asked for; "
        "take the first.": lambda got, *_: not isinstance(got, tuple),
    },
)

# --- 7: a counterexample -------------------------------------------------------------------------


def _example(answer: Callable) -> tuple[list, float, float]:
    """Return a student's layers, what the published helper says of them, and what is true."""
    layers, name = answer(), "smallest_counterexample"
    require(
        isinstance(layers, (list, tuple)) and all(np.shape(layer) == (2,) for layer in layers),
        f"{name} must return a list of pairs (kernel, stride), such as [(3, 1), (3, 1)].",
    )
    layers = [tuple(layer) for layer in layers]
    for layer in layers:
        require(
            layer in ((3, 1), (2, 2)),
            f"{name} holds {layer}; use only convolutions (3, 1) and poolings (2, 2).",
        )
    return layers, _published(layers), _backwards(layers)


smallest_counterexample = Exercise(
    "smallest_counterexample",
    form="a list of layers, (3, 1) or (2, 2)",
    learnt="a pooling doubles the step, and must not double the field as well",
    right=None,
    cases=[Case(through=_example)],
    facts={
        "{name} is an empty list: without layers the helper says 1, and that is true.": (
            lambda got: bool(got[0])
        ),
        "{name}: here the helper is right. Write both computations down, layer by layer: at "
        "which layer may they part, and what must stand before it?": lambda got: got[1] != got[2],
        "{name}: the helper is wrong here, but two layers are enough to show it.": (
            lambda got: len(got[0]) == 2
        ),
    },
    numbers=False,
)

# --- 8: the ceiling ------------------------------------------------------------------------------


def _shares(labels: torch.Tensor, stride: int, classes: int) -> torch.Tensor:
    """Return the share of each class in each square, (N, C, h, w), by a sum over its pixels."""
    n, height, width = labels.shape
    squares = labels.reshape(n, height // stride, stride, width // stride, stride)
    return torch.stack([(squares == c).float().mean(dim=(2, 4)) for c in range(classes)], dim=1)


def _upsampled(shares: torch.Tensor, stride: int, mode: str = "bilinear", corners=False):
    options = {} if mode == "nearest" else {"align_corners": corners}
    size = [stride * side for side in shares.shape[2:]]
    return F.interpolate(shares, size=size, mode=mode, **options)


def _coarse(
    labels: torch.Tensor,
    stride: int,
    classes: int,
    up: Callable = _upsampled,
    pick: Callable = lambda shares: shares.argmax(dim=1),
) -> torch.Tensor:
    return pick(up(_shares(labels, stride, classes), stride))


def _of_numbers(labels, stride, classes):
    return _upsampled(F.avg_pool2d(labels[:, None].float(), stride), stride)[:, 0].round()


def _of_one_pixel(labels, stride, classes):
    return labels[:, ::stride, ::stride].repeat_interleave(stride, 1).repeat_interleave(stride, 2)


def _early(labels, stride, classes):
    small = _shares(labels, stride, classes).argmax(dim=1)
    return _upsampled(small[:, None].float(), stride)[:, 0].round()


def _hardened(labels, stride, classes):
    small = _shares(labels, stride, classes).argmax(dim=1)
    sharp = F.one_hot(small, classes).permute(0, 3, 1, 2).float()
    return _upsampled(sharp, stride).argmax(dim=1)


def _of_any_pixel(labels, stride, classes):
    there = (_shares(labels, stride, classes) > 0).float()
    return _upsampled(there, stride).argmax(dim=1)


def _void_as_zero(labels, stride, classes):
    return _coarse(labels.masked_fill(labels == VOID, 0), stride, classes)


def _blobs(seed: int, stride: int, classes: int, size: tuple[int, int]) -> Case:
    """Return two random masks with things of some pixels' width, and void."""
    rng = np.random.default_rng(seed)
    fine = rng.integers(0, classes, (2, *(side * stride // 2 for side in size)))
    labels = fine.repeat(2, axis=1).repeat(2, axis=2)
    labels[rng.random(labels.shape) < 0.2] = VOID
    return Case(torch.from_numpy(labels), stride, classes)


coarse_labels = Exercise(
    "coarse_labels",
    form="class numbers, (N, H, W)",
    learnt="shares of the classes, averaged, enlarged, and only then the argmax",
    right=_coarse,
    cases=[
        Case(
            torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 1]]]),
            2,
            2,
            says="Where the squares meet the edge of the classes nothing is lost.",
        ),
        Case(
            torch.tensor([[[0, 1, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0]]]),
            2,
            2,
            says="The lone 1 in the first square has a quarter of it, its neighbour is all 1.",
        ),
        _blobs(0, 4, 3, (4, 6)),
    ],
    drawn=lambda rng: [_blobs(int(rng.integers(2**31)), stride, 4, (6, 8)) for stride in (4, 8)],
    mistakes={
        "{name} averages the class numbers. Between sky, 0, and pole, 2, lies no building: one "
        "map for each class, 1 where it is.": _of_numbers,
        "{name} looks at one pixel of each square: average all of them.": _of_one_pixel,
        "{name} enlarges in blocks: mode='bilinear' blends neighbours before the argmax.": partial(
            _coarse, up=partial(_upsampled, mode="nearest")
        ),
        "{name} enlarges class numbers: the argmax comes last, after the shares are "
        "enlarged.": _early,
        "{name} takes the argmax before it enlarges: the shares say more than the "
        "winner; enlarge them.": _hardened,
        "{name} aligns the corners: leave align_corners=False, then the middle of a coarse pixel "
        "stays in the middle of its square.": partial(
            _coarse, up=partial(_upsampled, corners=True)
        ),
        "{name} counts void, 255, as class 0: it is no class, no map has a 1 there.": _void_as_zero,
        "{name} counts void, 255, as the last class: it is no class, no map has a 1 there.": (
            lambda labels, stride, classes: _coarse(labels.clamp(max=classes - 1), stride, classes)
        ),
        "{name} takes the largest in each square, so one pixel of a class counts as much as all: "
        "F.avg_pool2d.": _of_any_pixel,
        "{name} gives the smallest share: argmax, not argmin.": partial(
            _coarse, pick=lambda shares: shares.argmin(dim=1)
        ),
        "{name} returns the shares of the classes; wanted is the class of the largest.": partial(
            _coarse, pick=lambda shares: shares
        ),
    },
    causes={
        "Class values must be smaller": "one_hot takes no 255. Compare instead: labels == c is "
        "False at void pixels for each class c",
        "not implemented for '(Long|Bool|Int|Byte)'": "averages need floats: (labels == c).float()",
        "Expected 3D or 4D|Input and output must have the same number of spatial": "pooling and "
        "interpolation want (N, C, H, W): stack the classes' maps along dim=1",
    },
    facts={
        "{name} must return a tensor.": lambda got, *_: isinstance(got, torch.Tensor),
    },
)

# --- 9: the FCN ----------------------------------------------------------------------------------


def _of_kernel(o: Observed, size: int) -> list[nn.Conv2d]:
    return [conv for conv in o.called(nn.Conv2d) if conv.kernel_size == (size, size)]


def _other_strides(o: Observed) -> Iterator[str]:
    """Look at the size at which each 3x3 convolution works."""
    full = tuple(o.inputs[0].shape[2:])
    for number, (conv, stride) in enumerate(
        zip(_of_kernel(o, 3), (1, 2, 4, 8, 8), strict=False), start=1
    ):
        found, wanted = tuple(o.given[conv][0].shape[2:]), tuple(side // stride for side in full)
        if found != wanted:
            yield (
                f"convolution {number} works at {found}; wanted {wanted}, 1/{stride} of the "
                "picture: a pooling after each of the first three layers, and padding=1"
            )


def _other_widths(o: Observed) -> Iterator[str]:
    width = o.case.options["width"]
    wanted = [width, 2 * width, 3 * width, 3 * width, 3 * width]
    found = [conv.out_channels for conv in _of_kernel(o, 3)]
    if o.ended and found != wanted:
        yield f"{found}; wanted {wanted}: 1, 2, 3, 3 and 3 times the width"


def _head(o: Observed) -> nn.Conv2d:
    return o.called(nn.Conv2d)[-1]


def _is_enlarged(**options) -> Callable[[Observed], bool]:
    """Return whether the output is the head's map, enlarged in a given way."""
    return lambda o: net.alike(
        o.output, F.interpolate(o.made[_head(o)], size=o.inputs[0].shape[2:], **options)
    )


def _not(fact: Callable[[Observed], bool]) -> Callable[[Observed], bool]:
    return lambda o: not fact(o)


def _draw_fcn(rng: np.random.Generator) -> list[Build]:
    cin, classes, width = rng.permutation([2, 5, 6, 7])[:3].tolist()
    size = (8 * rng.permutation([2, 3, 4])[:2]).tolist()
    options = {"draw": torch.rand, "width": width, "seed": rng.integers(2**31)}
    return [Build(cin, classes, given=[(2, cin, *size)], **options)]


def _wanted_shape(o: Observed) -> tuple:
    batch, _, *size = o.inputs[0].shape
    return (batch, o.case.arguments[1], *size)


fcn = NetExercise(
    "FCN",
    lends=models.FCN,
    learnt="scores at stride 8, enlarged to one for each pixel",
    cases=[
        Build(3, 5, width=4, given=[(2, 3, 24, 32)], draw=torch.rand),
        Build(1, 2, width=3, given=[(2, 1, 16, 40)], draw=torch.rand),
    ],
    drawn=_draw_fcn,
    causes={
        "Given groups=1": "a layer is given other channels than it was made for: each reads what "
        "the one before gives",
        "must be equal to .*input spatial|Input and output must have the same number": "the size "
        "for F.interpolate is (height, width), x.shape[2:]",
    },
    facts={
        **net.REGISTERED,
        "{name} holds a linear layer: it would fix the picture's size. A 1x1 convolution is the "
        "linear layer of each pixel.": lambda o: not o.all(nn.Linear),
        **net.NO_DROPOUT,
        **net.EACH_CALLED_ONCE,
        "in {name} {found}.": _other_strides,
        "the last convolution of {name} has {found}; the head is 1x1: a linear layer for each "
        "pixel of the map.": lambda o: (
            (o.ended and _head(o).kernel_size == (1, 1)) or f"kernel {_head(o).kernel_size}"
        ),
        "{name} has {found} 3x3 convolutions; wanted 5.": lambda o: (
            (o.ended and len(_of_kernel(o, 3)) == 5) or len(_of_kernel(o, 3))
        ),
        "the 3x3 convolutions of {name} give channels {found}.": _other_widths,
        "{name} has {found} batch norms; each of the five 3x3 convolutions has one.": lambda o: (
            (o.ended and len(o.all(nn.BatchNorm2d)) == 5) or len(o.all(nn.BatchNorm2d))
        ),
        "the head of {name} gives {found}.": lambda o: (
            (o.ended and _head(o).out_channels == o.case.arguments[1])
            or f"{_head(o).out_channels} channels; wanted one for each of num_classes"
        ),
        "the head of {name} works on an enlarged map, {found}: enlarge the scores after it, so "
        "that it works at 1/8 of the picture.": lambda o: (
            (o.ended and o.given[_head(o)][0].shape[2] == o.inputs[0].shape[2] // 8)
            or str(tuple(o.given[_head(o)][0].shape[2:]))
        ),
        "{name} gives the coarse scores: enlarge them to x.shape[2:] by F.interpolate.": lambda o: (
            tuple(o.output.shape[2:]) != tuple(side // 8 for side in o.inputs[0].shape[2:])
        ),
        **net.size(_wanted_shape, "At each pixel there is one score for each of num_classes."),
        **net.SCORES,
        "{name} enlarges in blocks: F.interpolate(..., mode='bilinear').": _not(
            _is_enlarged(mode="nearest")
        ),
        "{name} enlarges with align_corners=True: leave it False, so that a coarse pixel's middle "
        "stays in the middle of its square.": _not(
            _is_enlarged(mode="bilinear", align_corners=True)
        ),
        "{name} does not return the head's scores, enlarged bilinearly: does something else "
        "follow?": _is_enlarged(mode="bilinear", align_corners=False),
        **net.GRADIENTS,
    },
)
