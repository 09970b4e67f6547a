"""Lesson 05's exercises: ways up, what a layer costs, the loss, and the joint transform."""

from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torchvision import tv_tensors

from course_utils.checks import passed, require
from course_utils.checks.exercise import Case, Exercise, is_same
from course_utils.comparison import Compared
from course_utils.data import VOID


def _map(array) -> torch.Tensor:
    """Return (H, W) as a batch of one map with one channel."""
    return torch.as_tensor(np.ascontiguousarray(array, dtype=float))[None, None]


def _whole(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Return whole numbers from 1 to 9 as floats: sums of them are exact."""
    return rng.integers(1, 10, shape).astype(float)


# --- max-unpooling -------------------------------------------------------------------------------


def _unpooled(values: np.ndarray, places: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the sum of one map a value, each 0 but for its place."""
    grid = np.arange(shape[0] * shape[1]).reshape(shape)
    return sum(v * (grid == p) for v, p in zip(values.ravel(), places.ravel(), strict=True))


def _corners(values: np.ndarray, places: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    full = np.zeros(shape)
    full[: 2 * values.shape[0] : 2, : 2 * values.shape[1] : 2] = values
    return full


def _column_wise(values: np.ndarray, places: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    full = np.zeros(shape)
    full[places % shape[0], places // shape[0]] = values
    return full


def _even_wide(values: np.ndarray, places: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    full, across = np.zeros(shape), 2 * values.shape[1]
    full[places // across, places % across] = values
    return full


def _max_pooled(full: np.ndarray) -> Case:
    """Return the case of a map's max pooling by 2."""
    values, places = F.max_pool2d(_map(full), 2, return_indices=True)
    return Case(values[0, 0].numpy(), places[0, 0].numpy(), full.shape)


def _draw_unpool(rng: np.random.Generator) -> list[Case]:
    sizes = [(6, 8), (7, 10), (9, 5)]
    return [_max_pooled(rng.permutation(h * w).reshape(h, w) + 1.5) for h, w in sizes]


_SMALL = np.array([[3.0, 9, 2, 1], [5, 4, 7, 8]])

unpool = Exercise(
    "unpool",
    form="the values at their places and 0 elsewhere, of the given shape (H, W)",
    learnt="each maximum is back where it was; all else is 0",
    right=_unpooled,
    cases=[
        _max_pooled(_SMALL),
        _max_pooled(np.arange(35, 0, -1.0).reshape(5, 7) % 11 + np.arange(35).reshape(5, 7) / 64),
    ],
    drawn=_draw_unpool,
    mistakes={
        "{name} puts each value into the upper left corner of its square: `places` says which of "
        "the pixels it came from.": _corners,
        "{name} repeats each value in its whole square. That is enlargement by the nearest pixel; "
        "unpooling fills one pixel and leaves 0 in the others.": lambda values, places, shape: (
            np.pad(values.repeat(2, 0).repeat(2, 1), [(0, n % 2) for n in shape])
        ),
        "{name} counts the places down the columns; they count along the rows: place = row * W + "
        "column.": _column_wise,
        "{name} gives a flat row of numbers; reshape it to (H, W).": lambda *given: _unpooled(
            *given
        ).ravel(),
        "{name} gives the places themselves; wanted are the values there.": lambda v, p, shape: (
            _unpooled(p.astype(float), p, shape)
        ),
        "{name} marks the places with 1; the values belong there.": lambda v, p, shape: _unpooled(
            np.ones_like(v), p, shape
        ),
        "{name} takes twice the small map's width for W; the large one may be wider by one: W is "
        "shape[1].": _even_wide,
        "{name} cuts the values to whole numbers: begin with np.zeros of floats.": (
            lambda *given: np.trunc(_unpooled(*given))
        ),
        "{name} gives zeros only: did you write into a copy? `full.flatten()` is one, "
        "`full.reshape(-1)` of a fresh array is not.": lambda v, p, shape: np.zeros(shape),
    },
    causes={
        "out of bounds|shape mismatch": "the places count through the whole map, row by row: "
        "flatten it first"
    },
)

# --- the transposed convolution ------------------------------------------------------------------


def _length(size: int, kernel: int, stride: int, padding: int = 0, output_padding: int = 0) -> int:
    """Return what torch makes of so many zeros."""
    up = partial(F.conv_transpose1d, stride=stride, padding=padding, output_padding=output_padding)
    return up(torch.zeros(1, 1, size), torch.zeros(1, 1, kernel)).shape[-1]


def _sized(formula: Callable[..., int]) -> Callable[..., int]:
    """Return a mistake: a formula of (n, k, s, p, o)."""
    return lambda n, k, s, p=0, o=0: formula(n, k, s, p, o)


def _draw_size(rng: np.random.Generator) -> list[Case]:
    cases = []
    for stride in rng.permutation([2, 3, 4]).tolist():
        size, kernel = rng.integers(5, 30), rng.integers(stride + 1, 9)
        cases.append(Case(int(size), int(kernel), stride, int(rng.integers(1, 3)), stride - 1))
        cases.append(Case(int(size), int(kernel), stride))
    return cases


upsampled_size = Exercise(
    "upsampled_size",
    form="a whole number of pixels",
    learnt="(n - 1) * stride + kernel - 2 * padding + output_padding",
    right=_length,
    cases=[
        Case(
            3,
            3,
            2,
            says="3 pixels, kernel 3, stride 2: the kernels begin at 0, 2, 4 and end at "
            "6, so {wanted}; you give {got}.",
        ),
        Case(
            5,
            5,
            3,
            1,
            says="padding 1 cuts a pixel off both ends: 5 pixels, kernel 5, stride 3 "
            "give {wanted}; you give {got}.",
        ),
        Case(
            6,
            3,
            2,
            1,
            1,
            says="as ERFNet enlarges 6 pixels, with kernel 3, stride 2, padding 1 "
            "and output_padding 1: {wanted}; you give {got}.",
        ),
        Case(
            7,
            5,
            3,
            says="7 pixels, kernel 5, stride 3: the last kernel begins at 18, so "
            "{wanted}; you give {got}. Is something hard-coded?",
        ),
    ],
    drawn=_draw_size,
    mistakes={
        "{name} is size * stride, {got}. That holds for kernel = stride and no padding only: count "
        "where the last kernel begins and ends.": _sized(lambda n, k, s, p, o: n * s),
        "{name} is {got}: size * stride + kernel counts one step too many; between n pixels lie n "
        "- 1 steps.": _sized(lambda n, k, s, p, o: n * s + k - 2 * p + o),
        "{name} is {got}: here padding makes the output smaller, not larger. It takes away "
        "what the convolution's padding had added.": _sized(
            lambda n, k, s, p, o: (n - 1) * s + k + 2 * p + o
        ),
        "{name} is {got}: padding cuts at both ends, so twice.": _sized(
            lambda n, k, s, p, o: (n - 1) * s + k - p + o
        ),
        "{name} is {got}: output_padding is left out.": _sized(
            lambda n, k, s, p, o: (n - 1) * s + k - 2 * p
        ),
        "{name} is {got}: padding is left out.": _sized(lambda n, k, s, p, o: (n - 1) * s + k + o),
        "{name} is {got}: output_padding adds at the far end only, so once.": _sized(
            lambda n, k, s, p, o: (n - 1) * s + k - 2 * p + 2 * o
        ),
        "{name} is {got}: output_padding is taken off; it adds pixels.": _sized(
            lambda n, k, s, p, o: (n - 1) * s + k - 2 * p - o
        ),
        "{name} is {got}: that is the size after a convolution, which goes down. This one goes "
        "up.": _sized(lambda n, k, s, p, o: (n + 2 * p - k) // s + 1),
        "{name} is {got}: the kernel's own length is missing, less one.": _sized(
            lambda n, k, s, p, o: (n - 1) * s + 1 - 2 * p + o
        ),
    },
    facts={
        "{name} gives a float; pixels are counted in whole numbers.": lambda got, *_: (
            not isinstance(got, float)
        ),
    },
)


def _transposed(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    return F.conv_transpose2d(_map(x), _map(kernel), stride=stride)[0, 0].numpy()


def _stamped(write: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable:
    """Return a mistake: each stamp is written into what is there in another way than by adding."""

    def run(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
        (height, width), (k, m) = x.shape, kernel.shape
        full = np.zeros(((height - 1) * stride + k, (width - 1) * stride + m))
        for (row, column), value in np.ndenumerate(x):
            place = np.s_[row * stride : row * stride + k, column * stride : column * stride + m]
            full[place] = write(full[place], value * kernel)
        return full

    return run


def _one_apart(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    full, near = np.zeros_like(_transposed(x, kernel, stride)), _transposed(x, kernel, 1)
    full[: near.shape[0], : near.shape[1]] = near
    return full


def _draw_transposed(rng: np.random.Generator) -> list[Case]:
    return [
        Case(_whole(rng, 3, 4), _whole(rng, k, k), s) for k, s in [(3, 2), (4, 2), (4, 3), (2, 3)]
    ]


transposed_conv = Exercise(
    "transposed_conv",
    form="the stamps added up, ((h - 1) * stride + k, (w - 1) * stride + k)",
    learnt="each pixel stamps the kernel, weighted by its value, and overlaps add up",
    right=_transposed,
    cases=[
        Case(
            np.array([[1.0, 2]]),
            np.array([[1.0, 3, 5], [0, 1, 0], [2, 2, 4]]),
            2,
            says="Pixels 1 and 2, 2 apart: where the stamps overlap, 5 + 2 = 7 in the first row.",
        ),
        Case(
            np.array([[1.0, 0], [0, 2]]),
            np.arange(1.0, 17).reshape(4, 4),
            3,
            says="Is the stride, or the kernel's size, hard-coded?",
        ),
        Case(
            np.array([[1.0, 2], [3, 4]]),
            np.ones((2, 2)),
            3,
            says="With a stride larger than the kernel zeros stay between the stamps.",
        ),
    ],
    drawn=_draw_transposed,
    mistakes={
        "{name} overwrites: where two stamps overlap, the later one wins. They add up: += instead "
        "of =.": _stamped(lambda there, stamp: stamp),
        "{name} keeps the larger value where stamps overlap; they add up.": _stamped(np.maximum),
        "{name} stamps the kernel without the pixel's value: multiply it.": lambda x, *rest: (
            _transposed(np.ones_like(x), *rest)
        ),
        "{name} turns the kernel by 180 degrees. A stamp is put down as it is.": (
            lambda x, kernel, stride: _transposed(x, kernel[::-1, ::-1], stride)
        ),
        "{name} transposes the kernel: rows are rows. (What is transposed is the matrix, "
        "of which exercise 4 tells.)": lambda x, kernel, stride: _transposed(x, kernel.T, stride),
        "{name} stamps side by side, one pixel apart: the next stamp begins `stride` pixels "
        "on.": lambda x, kernel, stride: _transposed(x, kernel, 1),
        "{name} has the right size, but the stamps lie one pixel apart: the next one begins "
        "`stride` pixels on.": _one_apart,
        "{name} crops to size * stride; keep the borders here, padding is left out.": (
            lambda x, kernel, stride: _transposed(x, kernel, stride)[
                : x.shape[0] * stride, : x.shape[1] * stride
            ]
        ),
    },
    causes={
        "Cannot cast ufunc": "the result holds whole numbers only: np.zeros(shape) makes floats",
        "could not be broadcast": "a stamp is as large as the kernel; is the output large "
        "enough for the last one, by exercise 2's formula?",
    },
)

# --- the matrix ----------------------------------------------------------------------------------


def _matrix(kernel: np.ndarray, height: int, width: int, stride: int) -> np.ndarray:
    """Return the convolutions of all pictures with one bright pixel, as columns."""
    pixels = torch.eye(height * width, dtype=torch.float64).reshape(-1, 1, height, width)
    made = F.conv2d(pixels, _map(kernel), stride=stride)
    return made.reshape(height * width, -1).T.numpy()


def _contiguous(kernel: np.ndarray, height: int, width: int, stride: int) -> np.ndarray:
    """Return the matrix whose rows hold the kernel in one piece: its rows not `width` apart."""
    (k, m), matrix = kernel.shape, np.zeros_like(_matrix(kernel, height, width, stride))
    across = (width - m) // stride + 1
    for row in range(len(matrix)):
        start = row // across * stride * width + row % across * stride
        matrix[row, start : start + k * m] = kernel.ravel()[: height * width - start]
    return matrix


def _by_columns(kernel: np.ndarray, height: int, width: int, stride: int) -> np.ndarray:
    """Return the matrix whose rows are the output's pixels from column to column."""
    matrix, down = _matrix(kernel, height, width, stride), (height - len(kernel)) // stride + 1
    order = np.arange(len(matrix)).reshape(down, -1).T.ravel()
    return matrix[order]


def _draw_matrix(rng: np.random.Generator) -> list[Case]:
    asked = [(2, 4, 5, 1), (3, 5, 7, 2), (2, 6, 4, 2)]
    return [Case(_whole(rng, k, k), h, w, s) for k, h, w, s in asked]


conv_matrix = Exercise(
    "conv_matrix",
    form="a row for each pixel of the output and a column for each of the input, (h * w, H * W)",
    learnt="one row for each output pixel: the kernel, laid where it stands",
    right=_matrix,
    cases=[
        Case(
            np.array([[1.0, 2], [3, 4]]),
            2,
            3,
            1,
            says="On 2 x 3 pixels the kernel [[1, 2], [3, 4]] stands in two places: rows 1 2 0 3 "
            "4 0 and 0 1 2 0 3 4.",
        ),
        Case(
            np.arange(1.0, 10).reshape(3, 3),
            5,
            7,
            2,
            says="{name} is right for stride 1, but not for a 3x3 kernel, 5 x 7 pixels and "
            "stride 2.",
        ),
    ],
    drawn=_draw_matrix,
    mistakes={
        "{name} is the transposed matrix: a row for each pixel of the *output*, so that W @ image "
        "is the convolution.": lambda *given: _matrix(*given).T,
        "{name} turns the kernel by 180 degrees. Networks' convolutions lay it down as it is "
        "(mathematicians say correlation).": lambda kernel, *rest: _matrix(
            kernel[::-1, ::-1], *rest
        ),
        "{name} transposes the kernel.": lambda kernel, *rest: _matrix(kernel.T, *rest),
        "{name} ignores the stride: the kernel moves on by `stride` pixels.": (
            lambda kernel, height, width, stride: _matrix(kernel, height, width, 1)
        ),
        "{name} writes the kernel in one piece. Its second row lies one row of the image further "
        "on, so `width` numbers later.": _contiguous,
        "{name} takes the output's pixels column by column: row by row, so the loop over rows is "
        "the outer one.": _by_columns,
        "{name} flattens the image column by column: ravel() goes along the rows.": (
            lambda kernel, height, width, stride: (
                _matrix(kernel, height, width, stride)
                .reshape(-1, height, width)
                .transpose(0, 2, 1)
                .reshape(-1, height * width)
            )
        ),
        "{name} has the kernel's last place in every row: ravel() gives no copy, and what it shows "
        "was overwritten. Begin with new zeros for each row.": lambda *given: np.tile(
            _matrix(*given)[-1], (len(_matrix(*given)), 1)
        ),
        "{name} marks where the kernel stands with 1; its weights belong there.": (
            lambda kernel, *rest: _matrix(np.ones_like(kernel), *rest)
        ),
        "{name} has three or four axes; flatten the output's pixels into rows and the "
        "input's into columns.": lambda kernel, height, width, stride: _matrix(
            kernel, height, width, stride
        ).reshape(-1, height, width),
    },
    facts={
        "{name} is empty: the kernel begins at 0 to height - k, and a range ends before its second "
        "number, so height - k + 1.": lambda got, *_: np.size(got) > 0,
    },
)

# --- the bilinear kernel -------------------------------------------------------------------------


def _bilinear(stride: int) -> np.ndarray:
    """Return what bilinear enlargement makes of one bright pixel."""
    pixel = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    pixel[0, 0, 2, 2] = 1
    full = F.interpolate(pixel, scale_factor=stride, mode="bilinear", align_corners=False)[0, 0]
    return full[full.any(dim=1)][:, full.any(dim=0)].numpy()


def _tent(stride: int, size: int | None = None, centre: float | None = None) -> np.ndarray:
    """Return a tent with another size or centre."""
    size = size or 2 * stride - stride % 2
    centre = (size - 1) / 2 if centre is None else centre
    row = np.clip(1 - abs(np.arange(size) - centre) / stride, 0, None)
    return np.outer(row, row)


bilinear_kernel = Exercise(
    "bilinear_kernel",
    form="the tent of both directions multiplied, (k, k) with k = 2 * stride - stride % 2",
    learnt="a tent, wide enough to meet its neighbours' tops",
    right=_bilinear,
    cases=[
        Case(2, says="For stride 2 one direction is 0.25, 0.75, 0.75, 0.25."),
        Case(
            3,
            says="For stride 3 one direction is 1/3, 2/3, 1, 2/3, 1/3: an odd stride's kernel "
            "has a pixel in its middle.",
        ),
        Case(4, says="For stride 4 one direction is 1/8, 3/8, 5/8, 7/8 and back."),
    ],
    drawn=lambda rng: [Case(int(s)) for s in (2 * rng.integers(3, 6), 2 * rng.integers(3, 6) - 1)],
    mistakes={
        "{name} sums to 1. Each output pixel gets its share from several stamps, so the kernel "
        "sums to stride * stride; with 1 the map would get darker.": lambda s: (
            _bilinear(s) / _bilinear(s).sum()
        ),
        "{name} gives one direction; multiply it with itself (np.outer) for (k, k).": lambda s: (
            _bilinear(s).sum(axis=0) / s
        ),
        "{name} is a box: that repeats the nearest pixel. A tent falls off linearly.": lambda s: (
            np.ones_like(_bilinear(s))
        ),
        "{name} is a box of stride x stride: that repeats the nearest pixel.": lambda s: np.ones(
            (s, s)
        ),
        "{name} adds the two directions; they are multiplied.": lambda s: np.add.outer(
            _bilinear(s).sum(axis=0) / s, _bilinear(s).sum(axis=0) / s
        ),
        "{name} has its top beside the middle: the centre of k pixels that count from 0 is "
        "(k - 1) / 2.": lambda s: _tent(s, centre=(2 * s - s % 2) / 2),
        "{name} has 2 * stride pixels for an odd stride, too; there it is one less.": lambda s: (
            _tent(s, size=2 * s)
        ),
        "{name} is scaled so that its largest weight is 1; for an even stride the tent's top lies "
        "between two pixels, whose weight is less.": lambda s: _bilinear(s) / _bilinear(s).max(),
    },
)

# --- coverage ------------------------------------------------------------------------------------


def _coverage(size: int, kernel: int, stride: int) -> np.ndarray:
    ones = partial(torch.ones, dtype=torch.float64)
    return F.conv_transpose1d(ones(1, 1, size), ones(1, 1, kernel), stride=stride)[0, 0].numpy()


def _draw_coverage(rng: np.random.Generator) -> list[Case]:
    return [Case(int(rng.integers(4, 8)), k, s) for k, s in [(3, 2), (5, 3), (6, 3), (2, 4)]]


coverage = Exercise(
    "coverage",
    form="a count for each pixel of the output, ((size - 1) * stride + kernel,)",
    learnt="3 and 2 alternate between 1 and 2; 4 and 2 are even inside",
    right=_coverage,
    cases=[
        Case(4, 3, 2, says="4 pixels, kernel 3, stride 2: 1 1 2 1 2 1 2 1 1."),
        Case(3, 4, 2, says="3 pixels, kernel 4, stride 2: 1 1 2 2 2 2 1 1."),
        Case(2, 2, 3, says="With stride 3 a kernel of 2 leaves a gap: 1 1 0 1 1."),
    ],
    drawn=_draw_coverage,
    mistakes={
        "{name} is 1 everywhere: where two kernels overlap, count both.": lambda *given: np.ones(
            len(_coverage(*given))
        ),
        "{name} takes stride 1.": lambda n, k, s: _coverage(n, k, 1),
        "{name} is kernel / stride everywhere, the mean; count each pixel by itself.": (
            lambda n, k, s: np.full(len(_coverage(n, k, s)), k / s)
        ),
        "{name} leaves the borders out; keep all (size - 1) * stride + kernel pixels.": (
            lambda n, k, s: _coverage(n, k, s)[k - s : -(k - s) or None]
        ),
        "{name} is cut to size * stride; keep all (size - 1) * stride + kernel pixels.": (
            lambda n, k, s: _coverage(n, k, s)[: n * s]
        ),
        "{name} counts in two directions; one is asked.": lambda *given: np.outer(
            _coverage(*given), _coverage(*given)
        ),
    },
)

# --- costs ---------------------------------------------------------------------------------------


def _cost(
    cin: int, cout: int, kernel: tuple[int, int], height: int, width: int
) -> tuple[int, int, int]:
    layer = torch.nn.Conv2d(cin, cout, kernel, device="meta")
    pixels = height * width
    return (
        sum(p.numel() for p in layer.parameters()),
        layer.weight.numel() * pixels,
        4 * cout * pixels,
    )


def _part(number: int, change: Callable[..., int]) -> Callable:
    """Return a mistake: one of the three numbers is another."""

    def run(*given):
        costs = [*_cost(*given)]
        costs[number] = change(costs[number], *given)
        return tuple(costs)

    return run


def _draw_cost(rng: np.random.Generator) -> list[Case]:
    cases = []
    for kernel in ((3, 1), (1, 3), (3, 3), (5, 2)):
        cin, cout, h, w = rng.choice(range(5, 40), 4, replace=False).tolist()
        cases.append(Case(cin, cout, kernel, h, w))
    return cases


conv_cost = Exercise(
    "conv_cost",
    form="three whole numbers: parameters, multiply-adds, bytes",
    learnt="weights count once, multiply-adds at each pixel, memory by channels and pixels",
    right=_cost,
    cases=[
        Case(
            3,
            16,
            (3, 3),
            48,
            64,
            says="3 to 16 channels, 3x3, at 48 x 64: 448 parameters, "
            "1,327,104 multiply-adds, 196,608 bytes.",
        ),
        Case(
            8,
            4,
            (3, 1),
            10,
            6,
            says="8 to 4 channels, 3x1, at 10 x 6: 100 parameters, 5,760 "
            "multiply-adds, 960 bytes. Is the kernel taken for square, or something hard-coded?",
        ),
    ],
    drawn=_draw_cost,
    mistakes={
        "{name} forgets the bias among the parameters, one a channel of the output.": _part(
            0, lambda n, cin, cout, *_: n - cout
        ),
        "{name} counts one bias in all; each channel of the output has its own.": _part(
            0, lambda n, cin, cout, *_: n - cout + 1
        ),
        "{name} multiplies the parameters by the pixels: the same weights serve at every "
        "pixel.": _part(0, lambda n, *rest: n * rest[-1] * rest[-2]),
        "{name} counts the bias among the multiply-adds: it is added, but multiplied with "
        "nothing.": _part(1, lambda n, cin, cout, k, h, w: n + cout * h * w),
        "{name} leaves the pixels out of the multiply-adds: each weight is used at every "
        "pixel.": _part(1, lambda n, cin, cout, k, h, w: n // (h * w)),
        "{name} counts a multiplication and an addition as two; a multiply-add is one.": _part(
            1, lambda n, *_: 2 * n
        ),
        "{name} leaves the input channels out of the multiply-adds: each of the output's channels "
        "reads all of them.": _part(1, lambda n, cin, *_: n // cin),
        "{name} adds the channels: each of the output's reads each of the input's, so they "
        "multiply.": lambda cin, cout, k, h, w: (
            (cin + cout) * k[0] * k[1] + cout,
            (cin + cout) * k[0] * k[1] * h * w,
            4 * cout * h * w,
        ),
        "{name} gives the multiply-adds before the parameters: parameters, multiply-adds, "
        "bytes.": lambda *given: (_cost(*given)[1], _cost(*given)[0], _cost(*given)[2]),
        "{name} counts bits for memory: 32 of them are 4 bytes.": _part(2, lambda n, *_: 8 * n),
        "{name} counts 8 bytes a number, a float64's: a float32 has 4.": _part(
            2, lambda n, *_: 2 * n
        ),
        "{name} counts numbers for memory; a float32 takes 4 bytes.": _part(
            2, lambda n, *_: n // 4
        ),
        "{name} takes the input's channels for memory; what is kept is the output.": _part(
            2, lambda n, cin, cout, k, h, w: 4 * cin * h * w
        ),
        "{name} takes the kernel for square: it is (kernel height, kernel width).": (
            lambda cin, cout, k, h, w: _cost(cin, cout, (k[0], k[0]), h, w)
        ),
    },
    causes={
        r"for \*\* or pow|can't multiply sequence": "the kernel is a pair, (height, width): "
        "multiply its two numbers",
    },
)

# --- the loss ------------------------------------------------------------------------------------


def _torch_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    x, y = torch.as_tensor(logits, dtype=torch.float64), torch.as_tensor(labels).long()
    return F.cross_entropy(x[None], y[None], ignore_index=VOID).item()


def _other_loss(of: Callable[[np.ndarray, np.ndarray], Any]) -> Callable:
    """Return a mistake: ``of(ln p, labels)``, p the probabilities of the right classes, flat."""

    def run(logits: np.ndarray, labels: np.ndarray):
        told = torch.as_tensor(logits).log_softmax(0).numpy()
        kept = labels != VOID
        return of(np.moveaxis(told, 0, -1)[kept, labels[kept]], labels)

    return run


def _void_as_zero(logits: np.ndarray, labels: np.ndarray) -> float:
    return _torch_loss(logits, np.where(labels == VOID, 0, labels))


def _twice(logits: np.ndarray, labels: np.ndarray) -> float:
    return _torch_loss(torch.as_tensor(logits).softmax(0).numpy(), labels)


def _every_pair(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean for the right classes of all pixels at all pixels."""
    kept = labels != VOID
    told = torch.as_tensor(logits).log_softmax(0).numpy()[:, kept]
    return -told[labels[kept]].mean()


def _draw_loss(rng: np.random.Generator) -> list[Case]:
    cases = []
    for scale in (1, 3, 4000):
        labels = rng.integers(0, 5, (6, 7)).astype(np.uint8)
        labels[0, :3] = VOID
        cases.append(Case(scale * rng.normal(size=(5, 6, 7)), labels))
    return cases


unhappiness = Exercise(
    "unhappiness",
    form="one number, the mean over the labelled pixels",
    learnt="minus the logarithm of the right class's probability; void has no say",
    right=_torch_loss,
    cases=[
        Case(
            np.array([[[0.0, 0, 0]], [[np.log(3), np.log(7), 0]]]),
            np.array([[0, 1, VOID]], np.uint8),
            says="Right classes of probability 1/4 and 7/8, and a void pixel: (1.386 + 0.134) / 2 "
            "= 0.760; you give {got}.",
        ),
        Case(
            np.array([[[1000.0]], [[0]]]),
            np.array([[1]], np.uint8),
            says="Scores 1000 and 0, and the second class is right: the probability is e to the "
            "-1000, too small for a float, but its unhappiness is 1000; you give {got}. Take the "
            "logarithm before anything is rounded to 0: ln p = score - ln(sum of exp), with the "
            "largest score taken off first.",
        ),
        Case(
            np.array([[[1000.0, 0]], [[1000, 0]]]),
            np.array([[0, 1]], np.uint8),
            says="A pixel with the scores 1000 and 1000, and one with 0 and 0: ln 2 = 0.693 for "
            "both; you give {got}. Take off each pixel's own largest score, logits.max(axis=0), "
            "not the largest of all pixels.",
        ),
        Case(
            np.array([[[2.0, 2], [2, 2]], [[2, 2], [2, 2]], [[2, 2], [2, 2]]]),
            np.array([[0, 1], [2, VOID]], np.uint8),
            says="Three classes alike: ln 3 = 1.099; you give {got}.",
        ),
    ],
    drawn=_draw_loss,
    same=lambda got, wanted: is_same(got, wanted, 1e-5),
    mistakes={
        "{name} is 1 - p, {got}: that can never be more than 1, however wrong. Take -ln p.": (
            _other_loss(lambda ln, y: (1 - np.exp(ln)).mean())
        ),
        "{name} is {got}, the mean probability of the right class: take minus its logarithm.": (
            _other_loss(lambda ln, y: np.exp(ln).mean())
        ),
        "{name} is {got}, negative: minus is missing.": _other_loss(lambda ln, y: ln.mean()),
        "{name} is {got}: that is the sum; divide by the number of labelled pixels.": _other_loss(
            lambda ln, y: -ln.sum()
        ),
        "{name} is {got}: void pixels count in the mean as zeros. Divide by the number of labelled "
        "pixels.": _other_loss(lambda ln, y: -ln.sum() / y.size),
        "{name} is {got}: void pixels are taken for class 0. Leave them out.": _void_as_zero,
        "{name} is {got}: that is in bits. np.log is the natural logarithm.": _other_loss(
            lambda ln, y: -ln.mean() / np.log(2)
        ),
        "{name} is {got}: the logarithm of the mean probability. First the logarithm at each "
        "pixel, then the mean.": _other_loss(
            lambda ln, y: -np.logaddexp.reduce(ln) + np.log(len(ln))
        ),
        "{name} is {got}: a softmax of the softmax. One makes probabilities of scores; a second "
        "one flattens them.": _twice,
        "{name} is {got}: it takes the right class of every pixel at every pixel. One for each: "
        "scores[right, np.arange(N)].": _every_pair,
        "{name} gives a number for each pixel; return their mean.": _other_loss(lambda ln, y: -ln),
    },
    causes={
        "out of bounds": f"void pixels carry the label {VOID}, which is no class: leave them out "
        "before you look the right class up"
    },
)

# --- the joint transform -------------------------------------------------------------------------

_TURNS = 48


class _Played(SimpleNamespace):
    """What a transform made of one pair, many times."""

    def __repr__(self) -> str:
        return f"{len(self.images)} pairs"


def _play(answer: Callable, height: int, width: int, shift: int, size: tuple, seed: int) -> _Played:
    """Ask for a transform and apply it to a pair whose image tells the class of each pixel.

    The classes are blocks, lower at the left, so that a flip shows; the red of the image tells
    the class, its green stripes are one pixel wide. Between two classes lie numbers of no class.
    """
    image, mask = pair(size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transform = answer(height, width, shift)
        if not callable(transform):
            return _Played(kind=type(transform).__name__, images=[], masks=[], size=(height, width))
        made = [transform(image.clone(), mask.clone()) for _ in range(_TURNS)]
    images, masks = (
        [torch.as_tensor(part).as_subclass(torch.Tensor) for part in parts]
        for parts in zip(*made, strict=True)
    )
    return _Played(kind="", images=images, masks=masks, size=(height, width), shift=shift)


def pair(size: tuple[int, int]) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Return an image (3, H, W) uint8 and its mask (H, W): blocks of the classes 3, 6, 9 to 24."""
    rows, columns = torch.meshgrid(*map(torch.arange, size), indexing="ij")
    block = (1 + 4 * (rows * 2 // size[0]) + columns * 4 // size[1]).to(torch.uint8)
    image = torch.stack([50 + 20 * block, (columns % 2 * 255).to(torch.uint8), block])
    return tv_tensors.Image(image), tv_tensors.Mask(3 * block)


def _flipped(mask: torch.Tensor) -> bool:
    row = mask[len(mask) // 4]
    return bool(row[len(row) // 6] > row[len(row) * 5 // 6])


def _upright(mask: torch.Tensor) -> bool:
    row = mask[len(mask) // 4]
    return bool(row[row != VOID].max() < 15)


def _agree(got: _Played) -> bool:
    """Tell whether image and mask tell the same class at nearly every pixel that is not void."""
    shares = []
    for image, mask in zip(got.images, got.masks, strict=True):
        told = 3 * ((image[0].float() - 50) / 20).round()
        known = (mask != VOID) & (image[0] > 0)
        shares.append((told == mask)[known].float().mean().item())
    return min(shares) > 0.9


def _black_where_void(got: _Played) -> bool:
    """Tell whether the image is black where the mask is void, but for a blurred line between."""
    uncovered = torch.cat(
        [image[:, mask == VOID] for image, mask in zip(got.images, got.masks, strict=True)], dim=1
    )
    return (uncovered == 0).float().mean().item() > 0.5 if uncovered.numel() else True


def _edge(mask: torch.Tensor) -> list[int]:
    """Return how many rows or columns are void at the top, bottom, left and right."""
    lost = mask == VOID
    rows, columns = lost.all(dim=1), lost.all(dim=0)
    return [int(x.int().cumprod(0).sum()) for x in (rows, rows.flip(0), columns, columns.flip(0))]


def _edges(got: _Played) -> np.ndarray:
    return np.array([_edge(mask) for mask in got.masks])


def _is(holds: Callable[[_Played], bool]) -> Callable[..., bool]:
    return lambda got, *_: holds(got)


_KNOWN = {0, *range(3, 25, 3), VOID}

joint_transform = Exercise(
    "joint_transform",
    form="a transform of torchvision's v2, called with image and mask",
    learnt="image and mask move together, masks keep their classes, what is uncovered is void",
    right=None,
    cases=[
        Case(64, 128, 8, (128, 256), 0, through=_play),
        Case(96, 64, 6, (96, 64), 1, through=_play),
    ],
    drawn=lambda rng: [
        Case(h, w, s, size, int(rng.integers(2**31)), through=_play)
        for h, w, s, size in [(64, 128, 9, (64, 128)), (80, 48, 5, (160, 96))]
    ],
    numbers=False,
    causes={
        "unexpected keyword|got an unexpected": "one of the transforms has no such argument: look "
        "its page up",
        "translation values should be between": "translate takes shares of the size, not pixels: "
        "(shift / width, shift / height)",
        "cannot unpack|not enough values|too many values": "the transform must return image and "
        "mask: v2.Compose([...]) does",
    },
    facts={
        "{name} returns no transform: return v2.Compose([...]), which is called later, with image "
        "and mask.": _is(lambda got: not got.kind),
        "the image has another size afterwards than (height, width): v2.Resize comes first, and "
        "takes (height, width).": _is(
            lambda got: all(image.shape == (3, *got.size) for image in got.images)
        ),
        "the mask has another size afterwards than (height, width).": _is(
            lambda got: all(mask.shape == got.size for mask in got.masks)
        ),
        "the image is no longer uint8: leave that to the training.": _is(
            lambda got: all(image.dtype == torch.uint8 for image in got.images)
        ),
        "the mask holds values that were no class before: it was resized or moved smoothly, or "
        "changed in colour. A tv_tensors.Mask is not, if you leave it one.": _is(
            lambda got: set(torch.stack(got.masks).unique().tolist()) <= _KNOWN
        ),
        "what the translation uncovers has class 0 in the mask: it would be learned as sky. Fill "
        "it with VOID: fill={tv_tensors.Image: 0, tv_tensors.Mask: VOID}.": _is(
            lambda got: not any((mask == 0).any() for mask in got.masks)
        ),
        "image and mask do not move alike: one call of one transform must move both.": _is(_agree),
        "what the translation uncovers is not black in the image: fill it with 0 there, with VOID "
        "in the mask: fill={tv_tensors.Image: 0, tv_tensors.Mask: VOID}.": _is(_black_where_void),
        "pixels become void that no shift uncovers: no rotation or shear here, and only 0 to "
        "`shift` pixels.": _is(
            lambda got: all(
                int((mask == VOID).sum()) == _frame(mask.shape, _edge(mask)) for mask in got.masks
            )
        ),
        "nothing is ever flipped from left to right: v2.RandomHorizontalFlip.": _is(
            lambda got: any(map(_flipped, got.masks))
        ),
        "everything is flipped, always: half of the pictures should be.": _is(
            lambda got: not all(map(_flipped, got.masks))
        ),
        "pictures are turned upside down. Streets never are: flip from left to right only.": _is(
            lambda got: all(map(_upright, got.masks))
        ),
        "nothing is ever shifted: v2.RandomAffine(0, translate=...).": _is(
            lambda got: bool(_edges(got).any())
        ),
        "pictures are shifted by more than `shift` pixels. `translate` takes shares, of width and "
        "of height in this order: (shift / width, shift / height).": _is(
            lambda got: _edges(got).max() <= got.shift
        ),
        "pictures are not shifted by up to `shift` pixels in all four directions. `translate` "
        "takes shares, of width and of height in this order.": _is(
            lambda got: _edges(got).max(axis=0).min() > got.shift / 2
        ),
    },
)


def _frame(shape: tuple[int, int], edge: list[int]) -> int:
    """Return how many pixels of a picture lie in the void rows and columns at its edges."""
    (height, width), (top, bottom, left, right) = shape, edge
    return height * width - (height - top - bottom) * (width - left - right)


# --- the comparison ------------------------------------------------------------------------------


def three_sentences(mine: Mapping[str, bool], compared: Mapping[str, Compared]) -> None:
    """Hold what a student thinks of three sentences against the student's own models.

    Raises
    ------
    CheckFailed
        In one line: the first sentence that the models do not bear out, with their numbers.
    """
    window, strided = compared.get("sliding window"), compared.get("strided, enlarged")
    if window is None or strided is None:
        print(
            "The sentences speak of the models of lessons 03 and 04: train those first, then run "
            "the cell with the comparison again."
        )
        return
    if not any(isinstance(answer, bool) for answer in mine.values()):
        print("Write True or False for each, and run this cell again.")
        return
    dearest = max(compared, key=lambda name: compared[name].multiplications)
    best = max(compared, key=lambda name: compared[name].mean_iou)
    thin, large = (
        np.ptp([getattr(one, group) for one in compared.values()]) for group in ("thin", "large")
    )
    ratio = window.multiplications / strided.multiplications
    told = {
        "dearest is best": (dearest == best, f"dearest is the {dearest}, best the {best}"),
        "thin ones differ more": (
            bool(thin > large),
            f"thin classes differ by up to {thin:.2f}, large ones by {large:.2f}",
        ),
        "a window costs tenfold": (bool(ratio >= 10), f"it costs {ratio:.1f} times as much"),
    }
    for sentence, (true, numbers) in told.items():
        answer = mine.get(sentence)
        require(
            isinstance(answer, bool | np.bool_),
            f"{sentence!r} is {answer!r}: write True or False.",
        )
        require(
            answer == true,
            f"{sentence!r} is {true} for these models, you wrote {answer}: {numbers}.",
        )
    passed("three sentences", "; ".join(numbers for _, numbers in told.values()))
