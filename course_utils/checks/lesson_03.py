"""Lesson 03's exercises: patches, how they are drawn, a net that labels them, and its cost."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from course_utils.checks import networks as net
from course_utils.checks.exercise import Case, Exercise, as_array, is_same
from course_utils.checks.networks import Build, NetExercise, Observed
from course_utils.hand_in import sliding
from course_utils.models import windows as models

# --- 1: a patch ----------------------------------------------------------------------------------


def _picture(height: int, width: int) -> np.ndarray:
    """Return a picture whose every value is another, as far as uint8 goes."""
    return (np.arange(height * width * 3) % 251).astype(np.uint8).reshape(height, width, 3)


def _from(row: Callable, column: Callable, less: int = 0) -> Callable:
    """Return a mistake: the patch begins elsewhere, or is smaller."""

    def cut(padded, r, c, window):
        half, side = window // 2, window - less
        r, c = row(r, c, half), column(r, c, half)
        return padded[r : r + side, c : c + side]

    return cut


def _draw_patches(rng: np.random.Generator) -> list[Case]:
    cases = []
    for window in (3, 5, 9):
        padded = rng.integers(0, 256, (20 + window, 30 + window, 3), dtype=np.uint8)
        row, column = int(rng.integers(12, 18)), int(rng.integers(20, 28))
        cases.append(Case(padded, row, column, window))
    return cases


_TOO_FAR = (
    "{name} begins half a window too far down and right: in the padded picture the pixel lies at "
    "row + half, and its patch begins half a window before that."
)

patch_at = Exercise(
    "patch_at",
    form="the patch (window, window, 3)",
    learnt="in the padded picture the patch of (row, column) begins at (row, column)",
    right=lambda padded, row, column, window: np.take(
        np.take(padded, range(row, row + window), axis=0), range(column, column + window), axis=1
    ),
    cases=[
        Case(_picture(12, 14), 4, 6, 3, says="For pixel (4, 6) and window 3."),
        Case(_picture(12, 14), 2, 5, 5, says="For pixel (2, 5) and window 5: is 3 hard-coded?"),
        Case(_picture(12, 14), 0, 0, 3, says="For pixel (0, 0), at the border of the picture."),
    ],
    drawn=_draw_patches,
    mistakes={
        _TOO_FAR: _from(lambda r, c, half: r + half, lambda r, c, half: c + half),
        "{name} begins half a window too early: (row, column) count in the picture before it was "
        "padded.": _from(lambda r, c, half: r - half, lambda r, c, half: c - half),
        "{name} swaps row and column: arrays are indexed [row, column].": _from(
            lambda r, c, half: c, lambda r, c, half: r
        ),
        "{name} is one row and one column short: a slice ends before its second number.": _from(
            lambda r, c, half: r, lambda r, c, half: c, less=1
        ),
        "{name} is one row and one column too large: a slice ends before its second "
        "number, so start + window is enough.": _from(
            lambda r, c, half: r, lambda r, c, half: c, less=-1
        ),
        "{name} gives (3, window, window): leave the colours last, as in the picture.": (
            lambda padded, r, c, w: padded[r : r + w, c : c + w].transpose(2, 0, 1)
        ),
        "{name} divides by 255: cut only, the patch stays uint8 as the picture is.": (
            lambda padded, r, c, w: padded[r : r + w, c : c + w] / 255
        ),
    },
)

# --- 2: how often each class is drawn ------------------------------------------------------------


def _of_power(formula: Callable) -> Callable:
    """Return a mistake: other numbers than share ** power, then normalised."""

    def shares_of(shares, power):
        values = formula(np.asarray(shares, float), power)
        return values / values.sum()

    return shares_of


sampling_shares = Exercise(
    "sampling_shares",
    form="probabilities (C,) that sum to 1",
    learnt="power 1 leaves the shares, power 0 makes all classes alike, absent ones stay out",
    right=lambda shares, power: [
        s**power / sum(t**power for t in shares if t) if s else 0.0 for s in shares
    ],
    cases=[
        Case(
            *(np.array([0.64, 0.36]), 0.5),
            says="The roots of 0.64 and 0.36 are 0.8 and 0.6; of their sum 1.4 that is 0.571 and "
            "0.429.",
        ),
        Case(np.array([0.9, 0.1]), 1.0, says="With power 1 the shares stay as they are."),
        Case(
            *(np.array([0.75, 0.0, 0.25]), 0.0),
            says="With power 0 both classes that occur get 1/2. The one that does not occur cannot "
            "be drawn: 0, although 0 ** 0 is 1.",
        ),
    ],
    drawn=lambda rng: [
        Case(np.append(rng.dirichlet(np.ones(5)), 0.0), power)
        for power in (0.0, round(float(rng.uniform(0.2, 0.8)), 2))
    ],
    mistakes={
        "{name} does not sum to 1: divide by the sum.": lambda s, p: np.where(
            s > 0, np.asarray(s, float) ** p, 0
        ),
        "{name} gives a class that never occurs a probability: 0 ** 0 is 1. Keep 0 where the share "
        "is 0.": _of_power(lambda s, p: s**p),
        "{name} turns it round: the rarer, the likelier. The power is not negative.": _of_power(
            lambda s, p: np.where(s > 0, np.where(s > 0, s, 1) ** -p, 0)
        ),
        "{name} ignores the power and takes the root.": _of_power(lambda s, p: s**0.5),
        "{name} leaves the shares as they are: take them to the power first.": _of_power(
            lambda s, p: s
        ),
        "{name} makes all classes alike, whatever the power.": _of_power(
            lambda s, p: (s > 0).astype(float)
        ),
    },
)

# --- 3: centres drawn by class -------------------------------------------------------------------

_COUNT = 3000


class _Drawn(SimpleNamespace):
    """What was drawn: ``centres``, the ``shares`` of the classes, and how it was done."""

    def __repr__(self) -> str:
        return np.array2string(np.asarray(self.shares), precision=2)


def _draw(answer: Callable, places: list, probabilities: np.ndarray, seed: int) -> Any:
    kept = deepcopy((places, probabilities))

    def ask(number):
        return as_array(answer(*deepcopy(kept), _COUNT, np.random.default_rng(number)))

    centres = as_array(answer(places, probabilities, _COUNT, np.random.default_rng(seed)))
    if centres.shape != (_COUNT, 3) or centres.dtype.kind not in "iuf":
        return _Drawn(shares=[], centres=centres, shape=centres.shape)
    class_of = {tuple(place): c for c, some in enumerate(places) for place in some.tolist()}
    found = [class_of.get(tuple(centre), -1) for centre in centres.tolist()]
    counts = np.bincount(np.array(found) + 1, minlength=len(places) + 1)
    drawn = {*map(tuple, centres.tolist())}
    distinct = [len({*map(tuple, some.tolist())} & drawn) for some in places]
    often = [20 * len(some) <= count for some, count in zip(places, counts[1:], strict=True)]
    return _Drawn(
        shares=counts[1:] / _COUNT,
        strange=int(counts[0]),
        centres=centres,
        shape=centres.shape,
        same=np.array_equal(centres, ask(seed)),
        other=not np.array_equal(centres, ask(seed + 1)),
        distinct=distinct,
        # Of what is drawn so often, each pixel comes: one is left out once in 10 million draws.
        never=sum(len(places[c]) - distinct[c] for c in np.flatnonzero(often)),
        one=np.shape(as_array(answer(*deepcopy(kept), 1, np.random.default_rng(seed)))),
    )


def _places(*counts: int) -> list[np.ndarray]:
    """Return so many pixels (image, row, column) of each class; no pixel is of two."""
    numbers = np.arange(sum(counts))
    every = np.stack([numbers // 63, numbers // 9 % 7, numbers % 9], axis=1)
    return np.split(every, np.cumsum(counts)[:-1])


def _by_class(places, probabilities, count, rng):
    """Draw numbers of a line on which each class has a part as long as its probability."""
    ends = np.cumsum(probabilities)
    found = []
    for number in rng.random(count):
        some = places[int(np.searchsorted(ends, number * ends[-1], side="right"))]
        found.append(some[int(rng.integers(len(some)))])
    return np.stack(found)


def _all_alike(places, probabilities, count, rng):
    return _by_class(places, np.array([len(p) > 0 for p in places], float), count, rng)


def _as_they_come(places, probabilities, count, rng):
    return rng.permutation(np.concatenate(places))[rng.integers(0, sum(map(len, places)), count)]


def _first_pixel(places, probabilities, count, rng):
    return _by_class([place[:1] for place in places], probabilities, count, rng)


def _one_for_all(places, probabilities, count, rng):
    """Draw a class once, and take all pixels from it."""
    some = places[int(rng.choice(len(places), p=probabilities))]
    return some[rng.integers(0, len(some), count)]


def _like(got: Any, wanted: Any) -> bool:
    return (
        len(got.shares) == len(wanted.shares)
        and got.strange == 0
        and got.same
        and got.other
        and bool(np.abs(np.subtract(got.shares, wanted.shares)).max() < 0.05)
        and all(a >= 0.5 * b for a, b in zip(got.distinct, wanted.distinct, strict=True))
    )


draw_centres = Exercise(
    "draw_centres",
    form="whole numbers (count, 3): image, row, column",
    learnt="first a class by its probability, then any of its pixels: {got}",
    right=_by_class,
    cases=[
        Case(
            *(_places(400, 60, 12), np.array([0.2, 0.5, 0.3]), 0),
            through=_draw,
            says="of 3000 centres the classes have the shares {got}; wanted are {wanted}, about.",
        ),
        Case(
            *(_places(30, 300, 0, 20), np.array([0.45, 0.05, 0.0, 0.5]), 3),
            through=_draw,
            says="with four classes the shares are {got}; wanted are {wanted}, about.",
        ),
    ],
    drawn=lambda rng: [
        Case(
            *(_places(300, 80, 40, 9), np.array([0.1, 0.2, 0.3, 0.4]), int(rng.integers(2**20))),
            through=_draw,
        )
    ],
    numbers=False,
    same=_like,
    causes={
        "probabilities do not sum to 1": "rng.choice wants probabilities that sum to 1: give it "
        "`probabilities` as they are",
        "a and p must have same size": "as many classes as there are probabilities: rng.choice("
        "len(places), ...), not the lesson's own C",
        "need at least one array": "for a count of 1 nothing is drawn: draw a class for each "
        "patch, not a fixed number of patches for each class",
        "low >= high|high <= 0": "a class without pixels cannot be drawn: its probability is 0, so "
        "choose the class by `probabilities` first",
    },
    mistakes={
        "{name} draws all classes alike: choose the class by `probabilities`.": _all_alike,
        "{name} draws pixels as they come, so frequent classes are drawn most: choose a class "
        "first, by `probabilities`, then one of its pixels.": _as_they_come,
        "{name} always takes the same pixel of a class, such as the first: any of its pixels must "
        "be as likely as another.": _first_pixel,
        "{name} chooses one class for all centres: choose a class anew for each.": _one_for_all,
    },
    facts={
        "{name} must give one row (image, row, column) for each centre, (count, "
        "3).": lambda got, *_: got.shape == (_COUNT, 3),
        "{name} gives pixels that are not in `places`.": lambda got, *_: got.strange == 0,
        "{name} never draws some pixels of a class, such as its last: rng.integers(n) gives 0 to n "
        "- 1 already.": lambda got, *_: got.never == 0,
        "{name} gives something else for the same rng: draw with rng only, not with "
        "np.random.": lambda got, *_: got.same,
        "{name} gives the same for another rng: use the given one, or the same patches come again "
        "at every step.": lambda got, *_: got.other,
        "{name} gives another number of centres than asked for where `count` is 1: draw a class "
        "for each of them.": lambda got, *_: got.one == (1, 3),
    },
)

# --- 4: the sizes of the maps --------------------------------------------------------------------


def _sizes(window: int, kernel: Callable = lambda s: 2 + s % 2, conv: int = 2, end: int = 5):
    """Return the sizes, right or with another pooling, convolution or end."""
    sizes = [window - conv]
    while sizes[-1] > end and len(sizes) < 20:
        k = kernel(sizes[-1])
        sizes.append((sizes[-1] - k) // 2 + 1)
        sizes.append(sizes[-1] - conv)
    return sizes


def _right_sizes(window: int) -> list[int]:
    """Return the sizes that torch's own layers give."""
    x, sizes = torch.zeros(1, 1, window, window), []
    while True:
        x = F.conv2d(x, torch.zeros(1, 1, 3, 3))
        sizes.append(x.shape[-1])
        if x.shape[-1] <= 5:
            return sizes
        x = F.max_pool2d(x, 2 + x.shape[-1] % 2, 2)
        sizes.append(x.shape[-1])


map_sizes = Exercise(
    "map_sizes",
    form="a list of sizes: conv, pool, conv, pool, ..., conv",
    learnt="for window 65: {got}, and no row is left over",
    right=_right_sizes,
    cases=[
        Case(33, says="From 33: a convolution leaves 31, which is odd, so the pooling is of 3."),
        Case(9, says="From 9: 7, pooled to 3, and a convolution leaves 1."),
        Case(17, says="From 17: 15, 7, and 5, which is small enough to stop."),
        Case(
            65, says="From 65: after 63, 31, 29, 14, 12 the size is even, so the pooling is of 2."
        ),
    ],
    drawn=lambda rng: [Case(int(w)) for w in rng.permutation([129, 257, 513])[:2]] + [Case(33)],
    mistakes={
        "{name} lets a convolution keep the size: without padding it loses a pixel on each "
        "side.": lambda w: _sizes(w, conv=0, end=8),
        "{name} lets a convolution lose one pixel in all; it loses one on each side.": lambda w: (
            _sizes(w, conv=1)
        ),
        "{name} pools even sizes with a kernel of 3, which does not reach the last row: with a "
        "kernel of 2 they fit.": lambda w: _sizes(w, kernel=lambda s: 3),
        "{name} begins with the window itself: begin with what the first convolution "
        "leaves.": lambda w: [w, *_sizes(w)],
        "{name} ends with a pooling: after each pooling comes a convolution.": lambda w: _sizes(w)[
            :-1
        ],
        "{name} gives only what the convolutions leave: the pooled sizes stand "
        "between.": lambda w: _sizes(w)[::2],
        "{name} gives only the last size: a list of all is wanted.": lambda w: _sizes(w)[-1:],
    },
    facts={
        "{name} holds a float; sizes are counted in whole pixels: use //.": lambda got, *_: (
            as_array(got).dtype.kind in "iu"
        ),
    },
)

# --- 5: the network ------------------------------------------------------------------------------

_CHANNELS = (16, 32, 64, 64, 64, 64)


def _wanted_layers(window: int) -> list[str]:
    names, sizes = [], _sizes(window)
    for level in range(len(sizes) // 2 + 1):
        if level:
            names.append("MaxPool2d")
        names += ["Conv2d", "BatchNorm2d", "ReLU"]
    return names


def _missing(o: Observed) -> Iterator[str]:
    for name, kind in (("features", nn.Sequential), ("head", nn.Linear)):
        part = getattr(o.module, name, None)
        if not isinstance(part, kind):
            found = "is missing" if part is None else f"is a {type(part).__name__}"
            yield f"{name} {found}; it must be an nn.{kind.__name__}"


def _other_order(o: Observed) -> Iterator[str]:
    wanted = _wanted_layers(o.case.arguments[1])
    found = [type(layer).__name__ for layer in o.module.features]
    if found != wanted:
        yield f"{', '.join(found)}; wanted {', '.join(wanted)}"


def _other_channels(o: Observed) -> Iterator[str]:
    convs = o.all(nn.Conv2d)
    found = [conv.out_channels for conv in convs]
    wanted = [*_CHANNELS[: len(convs)]]
    if found != wanted:
        yield f"{found}; wanted {wanted}"


def _other_pools(o: Observed) -> Iterator[str]:
    sizes = _sizes(o.case.arguments[1])
    for size, pool in zip(sizes[::2], o.all(nn.MaxPool2d), strict=False):
        found = (pool.kernel_size, pool.stride)
        found = tuple(x[0] if isinstance(x, tuple) else x for x in found)
        if found != (2 + size % 2, 2):
            yield (
                f"kernel {found[0]}, stride {found[1]} on a map of {size} pixels; wanted kernel "
                f"{2 + size % 2}, stride 2"
            )


def _reference(o: Observed) -> torch.Tensor:
    """Return what functions make of the input, with the layers' weights, in train mode."""
    (x,) = o.inputs
    for conv, norm in zip(o.all(nn.Conv2d), o.all(nn.BatchNorm2d), strict=True):
        if conv is not o.all(nn.Conv2d)[0]:
            x = F.max_pool2d(x, 2 + x.shape[-1] % 2, 2)
        x = F.conv2d(x, conv.weight)
        x = F.relu(F.batch_norm(x, None, None, norm.weight, norm.bias, True, 0.1, norm.eps))
    return F.linear(x.flatten(1), o.module.head.weight, o.module.head.bias)


def _draw_net(rng: np.random.Generator) -> list[Build]:
    classes, seed = int(rng.integers(3, 9)), rng.integers(2**31)
    return [
        Build(classes, window, given=[(3, 3, window, window)], draw=torch.rand, seed=seed)
        for window in (9, 33)
    ]


patch_net = NetExercise(
    "PatchNet",
    lends=models.PatchNet,
    learnt="from a patch to one score a class",
    cases=[
        Build(5, 33, given=[(2, 3, 33, 33)], draw=torch.rand),
        Build(4, 17, given=[(3, 3, 17, 17)], draw=torch.rand),
        Build(10, 65, given=[(2, 3, 65, 65)], draw=torch.rand),
    ],
    drawn=_draw_net,
    causes={
        "mat1 and mat2": "the linear layer is given another number of values than it was made for: "
        "the last map has its channels times its height times its width, and flatten(1) makes a "
        "row of them",
        "running_mean should contain": "batch norm must have as many channels as the convolution "
        "before it gives",
        "Given groups=1": "a convolution reads other channels than the one before it gives",
        "Expected 2D input|expected 4D input": "a layer is given maps where it wants rows, or the "
        "other way round: the flatten(1) comes after features, before head",
    },
    facts={
        **net.REGISTERED,
        "PatchNet.{found}.": _missing,
        "{name}.features holds {found}. Each convolution is followed by its batch norm and ReLU; "
        "the pooling stands before the next convolution.": _other_order,
        "a convolution of {name} has {found}; it must be 3x3.": net.every(
            nn.Conv2d, kernel_size=(3, 3)
        ),
        "a convolution of {name} has {found}: no padding here, nothing is made up at the border of "
        "a patch.": net.every(nn.Conv2d, padding=(0, 0)),
        "a convolution of {name} has {found}; only the pooling takes steps.": net.every(
            nn.Conv2d, stride=(1, 1), dilation=(1, 1), groups=1
        ),
        "a convolution of {name} has a bias; batch norm, right after it, takes every mean away: "
        "bias=False.": net.every(nn.Conv2d, bias=None),
        "the convolutions of {name} give the channels {found}.": _other_channels,
        "a pooling of {name} has {found}.": _other_pools,
        **net.NO_DROPOUT,
        **net.EACH_CALLED_ONCE,
        **net.size(lambda o: (len(o.inputs[0]), o.case.arguments[0]), "One row of scores a patch."),
        **net.SCORES,
        "{name} gives other values than features, flatten(1), head, one after the "
        "other.": lambda o: net.alike(o.output, _reference(o)),
        **net.GRADIENTS,
    },
)

# --- 6: what a convolution costs -----------------------------------------------------------------


multiply_adds = Exercise(
    "multiply_adds",
    form="the number of multiply-adds, one whole number",
    learnt="kernel² · in · out for every pixel of the map that comes out",
    right=lambda i, o, kernel, height, width: int(np.prod([i, o, kernel, kernel, height, width])),
    cases=[
        Case(
            *(2, 5, 3, 4, 7),
            says="{name}(2, 5, 3, 4, 7) is {got}: each of 5 · 4 · 7 values takes 9 · 2, that is "
            "{wanted}.",
        ),
        Case(
            *(1024, 10, 1, 1, 1),
            says="a linear layer from 1024 to 10 values is a 1x1 convolution of one pixel: "
            "{wanted}, and not {got}.",
        ),
    ],
    drawn=lambda rng: [Case(*rng.choice(range(2, 40), 5, replace=False).tolist())],
    mistakes={
        "{name} forgets that a kernel has height and width: kernel squared.": (
            lambda i, o, k, h, w: i * o * k * h * w
        ),
        "{name} forgets the input channels: each output value reads all of them.": (
            lambda i, o, k, h, w: o * k * k * h * w
        ),
        "{name} forgets the output channels: each has a kernel of its own.": (
            lambda i, o, k, h, w: i * k * k * h * w
        ),
        "{name} counts the weights only: each is used once for every pixel of the map.": (
            lambda i, o, k, h, w: i * o * k * k
        ),
        "{name} counts multiplications and additions apart: one of each is one "
        "multiply-add.": lambda i, o, k, h, w: 2 * i * o * k * k * h * w,
        "{name} adds the channels: each output channel reads each input channel, so they "
        "multiply.": lambda i, o, k, h, w: (i + o) * k * k * h * w,
        "{name} forgets the width of the map: a map has height times width "
        "pixels.": lambda i, o, k, h, w: i * o * k * k * h,
        "{name} counts the bias: it is added, but multiplied with nothing (and there is none "
        "here).": lambda i, o, k, h, w: (i * k * k + 1) * o * h * w,
        "{name} takes the kernel off height and width: they are those of the map that comes "
        "*out*.": lambda i, o, k, h, w: i * o * k * k * max(h - k + 1, 0) * max(w - k + 1, 0),
    },
)

# --- 7: sliding ----------------------------------------------------------------------------------


class _Slid(SimpleNamespace):
    """The scores, and with how many patches the classifier was called each time."""

    def __repr__(self) -> str:
        return f"{self.scores.shape}"


def _slide(answer: Callable, kind: str, image: np.ndarray, window: int, stride: int) -> Any:
    calls = []

    def classify(patches):
        patches = as_array(patches)
        calls.append(patches.shape)
        wanted = (window, window, 3)
        if patches.ndim != 4 or patches.shape[1:] != wanted:
            raise ValueError(f"classify got patches {patches.shape}, wanted are (B, *{wanted})")
        if patches.dtype != np.uint8:
            raise ValueError(f"classify got patches of {patches.dtype}, wanted is uint8")
        middle = patches[:, window // 2, window // 2].astype(float)
        corner = patches[:, 0, -1, :1].astype(float)
        return np.concatenate([middle, corner], axis=1)

    scores = as_array(answer(classify, image, window, stride))
    return _Slid(scores=scores, calls=calls, shape=scores.shape)


def _by_package(change: Callable = lambda scores, image, window, stride: scores) -> Callable:
    """Return a way to slide, right or with a change of the scores of all pixels ``(C, H, W)``."""

    def run(classify, image, window, stride):
        cut = sliding.patches(image, window)
        height, width = cut.shape[:2]
        flat = cut.reshape(-1, 3, window, window).transpose(0, 2, 3, 1)
        scores = classify(flat).T.reshape(-1, height, width)
        return change(scores, image, window, stride)

    return run


def _every(scores, image, window, stride):
    return scores[:, ::stride, ::stride]


def _reshaped(scores, image, window, stride):
    kept = _every(scores, image, window, stride)
    return kept.transpose(1, 2, 0).reshape(kept.shape)


def _zeros_around(classify, image, window, stride):
    half = window // 2
    padded = np.pad(image, ((half, half), (half, half), (0, 0)))
    rows, columns = range(0, image.shape[0], stride), range(0, image.shape[1], stride)
    lines = [
        classify(np.stack([padded[r : r + window, c : c + window] for c in columns])) for r in rows
    ]
    return np.stack(lines).transpose(2, 0, 1)


def _draw_slides(rng: np.random.Generator) -> list[Case]:
    return [
        Case("", rng.integers(0, 256, size, dtype=np.uint8), window, stride, through=_slide)
        for size, window, stride in (((9, 13, 3), 5, 1), ((12, 17, 3), 3, 3), ((8, 15, 3), 7, 2))
    ]


slide = Exercise(
    "slide",
    form="scores (C, h, w), one for every stride-th pixel",
    learnt="scores of every stride-th pixel, from pixel (0, 0) on",
    right=_by_package(_every),
    cases=[
        Case(
            *("", _picture(6, 9), 3, 1),
            through=_slide,
            says="{name} has other scores for a picture of 6x9, window 3, stride 1 (their shape: "
            "{got}, wanted {wanted}).",
        ),
        Case(
            *("", _picture(7, 11), 5, 2),
            through=_slide,
            says="{name} is right for stride 1, but not for a picture of 7x11, window 5, stride 2: "
            "pixels 0, 2, 4, ... both ways (their shape: {got}, wanted {wanted}).",
        ),
    ],
    drawn=_draw_slides,
    numbers=False,
    same=lambda got, wanted: is_same(got.scores, wanted.scores),
    causes={
        "classify got patches of": "the patches stay uint8, as they are in the picture: classify "
        "divides by 255",
        "classify got patches": "classify wants a batch of patches (B, window, window, 3) uint8: "
        "np.stack makes one of a list of patches",
        "all input array(s| arrays) must have the same shape": "patches of different sizes: is the "
        "picture padded before patches are cut from it?",
        "axes don't match": "after np.stack over the rows the scores are (h, w, C): three axes",
    },
    mistakes={
        "{name} gives (h, w, C): the classes come first, as in a net's logits, (C, h, w).": (
            _by_package(lambda *a: _every(*a).transpose(1, 2, 0))
        ),
        "{name} gives (C, w, h): rows before columns.": _by_package(
            lambda *a: _every(*a).transpose(0, 2, 1)
        ),
        "{name} gives the classes in the middle, (h, C, w): the classes come first.": _by_package(
            lambda *a: _every(*a).transpose(1, 0, 2)
        ),
        "{name} pads with zeros: black that no picture has. Use pad(image, window), which "
        "mirrors.": _zeros_around,
        "{name} takes the stride for the rows only: for the columns, too.": _by_package(
            lambda scores, image, window, stride: scores[:, ::stride]
        ),
        "{name} takes the stride for the columns only: for the rows, too.": _by_package(
            lambda scores, image, window, stride: scores[:, :, ::stride]
        ),
        "{name} begins with pixel stride // 2: begin with pixel 0.": _by_package(
            lambda scores, image, window, stride: scores[
                :, stride // 2 :: stride, stride // 2 :: stride
            ]
        ),
        "{name} leaves the border out, where patches stick out of the picture: pad it first.": (
            _by_package(
                lambda scores, image, window, stride: scores[
                    :, window // 2 : -(window // 2) : stride, window // 2 : -(window // 2) : stride
                ]
            )
        ),
        "{name} reshapes (h, w, C) to (C, h, w), which mixes rows with classes: transpose moves an "
        "axis.": _by_package(_reshaped),
        "{name} takes neighbours in place of every stride-th pixel: patch number i of a row lies "
        "at column i * stride.": _by_package(
            lambda *a: a[0][:, : _every(*a).shape[1], : _every(*a).shape[2]]
        ),
        "{name} stops one row or column early: the last may be nearer than a stride to the border, "
        "as range(0, height, stride) knows.": _by_package(
            lambda scores, image, window, stride: scores[:, ::stride, ::stride][
                :, : scores.shape[1] // stride, : scores.shape[2] // stride
            ]
        ),
        "{name} has pixel 0 only every second time: the rows are those of range(0, height, "
        "stride).": _by_package(lambda *a: _every(*a)[:, ::2]),
    },
    facts={
        "{name} never calls classify.": lambda got, *_: bool(got.calls),
        "{name} calls classify for each patch alone, which takes many times as long: give it the "
        "patches of a whole row.": lambda got, *_: len(got.calls) < sum(s[0] for s in got.calls),
        "{name} must give three axes, (C, h, w).": lambda got, *_: len(got.shape) == 3,
    },
)

# --- 8: the prior --------------------------------------------------------------------------------


def _softmax(logits: np.ndarray) -> np.ndarray:
    values = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return values / values.sum(axis=-1, keepdims=True)


def _bayes(logits, sampled, true):
    """Return the logarithms of probability times true / sampled."""
    weighted = _softmax(np.asarray(logits)) * np.asarray(true) / np.asarray(sampled)
    return np.log(weighted / weighted.sum(axis=-1, keepdims=True))


def _same_probabilities(got: Any, wanted: Any) -> bool:
    """Tell whether logits mean the same: a constant added to all of them changes nothing."""
    try:
        got, wanted = as_array(got).astype(float), as_array(wanted).astype(float)
    except (TypeError, ValueError):
        return False
    return got.shape == wanted.shape and is_same(_softmax(got), _softmax(wanted), 1e-6)


def _draw_priors(rng: np.random.Generator) -> list[Case]:
    return [
        Case(rng.normal(size=(*shape, 5)), rng.dirichlet(np.ones(5) * 9), rng.dirichlet([9.0] * 5))
        for shape in ((7,), (3, 4))
    ]


_EVEN = np.array([0.5, 0.5])

correct_prior = Exercise(
    "correct_prior",
    form="logits of the same shape (..., C)",
    learnt="plus ln(true / sampled): of two classes that look alike, the frequent one",
    right=_bayes,
    cases=[
        Case(
            *(np.array([[0.0, np.log(9)]]), np.array([0.4, 0.6]), np.array([0.9, 0.1])),
            says="The net gave 0.1 and 0.9. Times 0.9 / 0.4 and 0.1 / 0.6 that is 0.225 and 0.15, "
            "so the probabilities must come out as 0.6 and 0.4.",
        ),
        Case(
            *(np.zeros((1, 2)), _EVEN, np.array([0.9, 0.1])),
            says="The net cannot tell the two classes apart (logits 0, 0), half of the patches "
            "were of each, and in pictures 9 of 10 pixels are of the first: its probability must "
            "come out as 0.9.",
        ),
        Case(
            *(np.array([[1.0, 0.0, -1.0]]), np.array([0.2, 0.3, 0.5]), np.array([0.2, 0.3, 0.5])),
            says="Where the patches were drawn as the pixels are, nothing changes.",
        ),
    ],
    drawn=_draw_priors,
    same=_same_probabilities,
    mistakes={
        "{name} goes the wrong way: it makes rare classes likelier still. Add ln(true / "
        "sampled).": lambda z, q, p: z + np.log(q / p),
        "{name} forgets the prior of the patches: ln(true) alone. Add ln(true / "
        "sampled).": lambda z, q, p: z + np.log(p),
        "{name} divides by the prior of the patches only: ln(true) is missing.": lambda z, q, p: (
            z - np.log(q)
        ),
        "{name} multiplies the logits by true / sampled: probabilities are multiplied, their "
        "logarithms added.": lambda z, q, p: z * p / q,
        "{name} adds true / sampled to the logits: its logarithm is meant.": lambda z, q, p: (
            z + p / q
        ),
        "{name} returns probabilities: logits are wanted, their softmax comes "
        "later.": lambda z, q, p: np.exp(_bayes(z, q, p)),
        "{name} leaves the logits as they are.": lambda z, q, p: z,
    },
)
