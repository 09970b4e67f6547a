"""Checks of lesson 07: files and labels, metrics without void, what is frozen, DynamicUnet's parts.

Nothing here imports fastai: its metrics and layers are asked through the tensors that they see.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from numbers import Real
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from course_utils.checks import require
from course_utils.checks.exercise import Case, Exercise
from course_utils.metrics import ConfusionMatrix

# --- from an image to its label ------------------------------------------------------------------


def _label_of(image: Path) -> Path:
    return image.parent.parent / "labels" / (image.stem + "_P" + image.suffix)


def _same_path(got, wanted) -> bool:
    try:
        return os.fspath(got) == os.fspath(wanted)
    except TypeError:
        return False


def _drawn_paths(rng: np.random.Generator) -> list[Case]:
    number = rng.integers(10_000, 99_999)
    return [
        Case(Path(f"images_{number}/CamVid/images/0016E5_{number}.png")),
        Case(Path(f"data/images/Seq05VD_f{number}.left.jpg")),
    ]


label_of = Exercise(
    "label_of",
    "the path of the label file, a Path",
    "labels/, _P before the suffix, and the rest of the path as it is",
    right=_label_of,
    cases=[
        Case(Path("camvid/images/0016E5_07959.png"), says="Wanted {wanted}, found {got}."),
        Case(
            Path("images/camvid/images/Seq05VD_f00930.png"),
            says="Here a folder further up is called images as well: wanted {wanted}, found {got}.",
        ),
        Case(
            Path("scenes/images/scene.07.jpg"),
            says="Here the name has a dot, and the suffix is .jpg: wanted {wanted}, found {got}.",
        ),
    ],
    drawn=_drawn_paths,
    mistakes={
        "{name} gives {got}, without _P: the label of x.png is x_P.png.": (
            lambda image: image.parent.parent / "labels" / image.name
        ),
        "{name} gives {got}: _P belongs before the suffix. `stem` is the name without it.": (
            lambda image: image.parent.parent / "labels" / f"{image.name}_P"
        ),
        "{name} gives {got}, which has no suffix: add the image's own.": (
            lambda image: image.parent.parent / "labels" / f"{image.stem}_P"
        ),
        "{name} looks for the label among the images ({got}): labels lie in labels/, beside "
        "images/.": lambda image: image.with_name(f"{image.stem}_P{image.suffix}"),
        "{name} gives {got}: labels/ lies beside images/, not in it. It is one parent too few.": (
            lambda image: image.parent / "labels" / f"{image.stem}_P{image.suffix}"
        ),
        "{name} gives {got}: labels/ of the working folder. Begin with the image's own path, so "
        "that it works from any folder.": (
            lambda image: Path("labels") / f"{image.stem}_P{image.suffix}"
        ),
        "{name} replaces `images` wherever it stands in the path: {got}. Only the last folder is "
        "meant.": lambda image: Path(
            str(image.with_name(f"{image.stem}_P{image.suffix}")).replace("images", "labels")
        ),
    },
    same=_same_path,
    numbers=False,
    causes={"no attribute": "the image is a pathlib.Path: it has .parent, .stem and .suffix"},
)

# --- metrics without void ------------------------------------------------------------------------

_VOID = 3  # in the cases below; codes 0, 1, 2 are classes


def _logits(prediction, codes: int = 4) -> torch.Tensor:
    """Return logits (B, codes, H, W) whose argmax is a prediction (B, H, W)."""
    one_hot = nn.functional.one_hot(torch.as_tensor(prediction), codes)
    return 5.0 * one_hot.permute(0, 3, 1, 2).float() - torch.arange(codes).view(-1, 1, 1) / 10


def _accuracy(logits, labels, void) -> float:
    matrix = ConfusionMatrix(logits.shape[1], void)
    prediction = logits.detach().cpu().numpy().argmax(axis=1)
    return matrix.update(prediction, labels.cpu().numpy()).pixel_accuracy()


_TRUTH = torch.tensor([[[0, 0, 1, 1, 3], [0, 2, 1, 3, 3]]])
_FOUND = torch.tensor([[[0, 1, 1, 1, 0], [0, 2, 0, 3, 1]]])
_PAIR = (
    torch.cat([_TRUTH, torch.tensor([[[3, 3, 3, 3, 3], [3, 3, 3, 3, 2]]])]),
    torch.cat([_FOUND, torch.tensor([[[0, 1, 2, 0, 0], [1, 1, 1, 2, 2]]])]),
)


def _drawn_accuracy(rng: np.random.Generator) -> list[Case]:
    cases = []
    for void in (5, 2):
        labels = torch.from_numpy(rng.integers(0, 6, (3, 5, 7)))
        labels[0, 1:] = void  # one picture is mostly void
        logits = rng.normal(size=(3, 6, 5, 7)).astype(np.float32)
        logits[:, void] -= 0.7
        labels[1, 0, :3] = 1  # void is ahead by little, what is right comes next
        logits[1, 1, 0, :3], logits[1, void, 0, :3] = 8, 9
        cases.append(Case(torch.from_numpy(logits), labels, void))
    return cases


def _without_score(logits, void) -> torch.Tensor:
    return logits.index_fill(1, torch.tensor([void]), -math.inf)


accuracy = Exercise(
    "accuracy",
    "one number from 0 to 1",
    "right pixels among those that have a label; void is asked for nowhere",
    right=_accuracy,
    cases=[
        Case(
            _logits(_FOUND),
            _TRUTH,
            _VOID,
            says="5 of the 7 labelled pixels are right: {wanted}; you give {got}.",
        ),
        Case(
            _logits(_PAIR[1]),
            _PAIR[0],
            _VOID,
            says="Of two pictures, the second with one labelled pixel, 6 of 8 labelled pixels are "
            "right: {wanted}; you give {got}.",
        ),
        Case(
            _logits([[[0, 1, 1, 1, 2, 0, 0]]], 3),
            torch.tensor([[[0, 0, 2, 1, 2, 1, 1]]]),
            1,
            says="Here void is code 1, and two labelled pixels are taken for void: 2 of 4 are "
            "right, {wanted}; you give {got}.",
        ),
    ],
    drawn=_drawn_accuracy,
    mistakes={
        "{name} counts void: {got}. Leave out the pixels whose label is void, from the right ones "
        "and from all.": lambda p, y, void: (p.argmax(1) == y).float().mean(),
        "{name} leaves void out of the right pixels, but divides by all pixels: {got}.": (
            lambda p, y, void: ((p.argmax(1) == y) & (y != void)).float().mean()
        ),
        "{name} leaves out the pixels where the *prediction* is void. The label says what is "
        "void.": lambda p, y, void: (p.argmax(1) == y)[p.argmax(1) != void].float().mean(),
        "{name} is the mean of a value for each picture: a picture with one labelled pixel then "
        "counts as much as a full one.": lambda p, y, void: torch.stack(
            [
                (found == truth)[truth != void].float().mean()
                for found, truth in zip(p.argmax(1), y, strict=True)
            ]
        ).mean(),
        "{name} leaves out labelled pixels that are *predicted* as void, too: those are wrong "
        "ones, and count.": (
            lambda p, y, void: (
                (p.argmax(1) == y)[(y != void) & (p.argmax(1) != void)].float().mean()
            )
        ),
        "{name} takes void's score away before the argmax: what the network takes for void is "
        "then something else.": (
            lambda p, y, void: (_without_score(p, void).argmax(1) == y)[y != void].float().mean()
        ),
        "{name} takes the last code for void: `void` says which code it is, here another.": (
            lambda p, y, void: (p.argmax(1) == y)[y != p.shape[1] - 1].float().mean()
        ),
        "{name} leaves out code 0 instead of void.": (
            lambda p, y, void: (p.argmax(1) == y)[y != 0].float().mean()
        ),
        "{name} takes the smallest logit: argmax, not argmin.": (
            lambda p, y, void: (p.argmin(1) == y)[y != void].float().mean()
        ),
        "{name} gives the share of the wrong pixels, {got}.": (
            lambda p, y, void: (p.argmax(1) != y)[y != void].float().mean()
        ),
        "{name} gives percents: a number from 0 to 1 is wanted.": (
            lambda p, y, void: 100 * (p.argmax(1) == y)[y != void].float().mean()
        ),
    },
    causes={
        r"size of tensor|shape of the mask|must match": "logits are (B, codes, H, W), labels "
        "(B, H, W): take the argmax over axis 1, then both fit; and index the comparison, or both",
        "could not infer output dtype|dtype must be": "the mean of True and False wants .float() "
        "first",
    },
)


class _DatasetIou:
    """The mean IoU over a data set, by the course's own confusion matrix."""

    def __init__(self, codes: int, void: int):
        self._codes, self._void = codes, void
        self.reset()

    def reset(self) -> None:
        self._matrix = np.zeros((self._codes, self._codes), np.int64)

    def accumulate(self, learn) -> None:
        prediction = learn.pred.detach().cpu().numpy().argmax(axis=1).ravel()
        truth = learn.y.cpu().numpy().ravel()
        cells = self._codes * truth[truth != self._void] + prediction[truth != self._void]
        self._matrix += np.bincount(cells, minlength=self._codes**2).reshape(self._matrix.shape)

    @property
    def value(self) -> float:
        both = np.diag(self._matrix)
        union = self._matrix.sum(0) + self._matrix.sum(1) - both
        keep = (union > 0) & (np.arange(self._codes) != self._void)
        return float((both[keep] / union[keep]).mean())


def _epochs(metric: Callable, codes: int, void: int, *epochs) -> list[float]:
    """Return a metric's value after each epoch, a list of batches (logits, labels)."""
    measured, values = metric(codes, void), []
    for batches in epochs:
        measured.reset()
        for logits, labels in batches:
            y = labels.clone()
            measured.accumulate(
                SimpleNamespace(pred=logits.clone(), y=y, yb=(y,), xb=(), training=False)
            )
        value = measured.value
        require(not callable(value), "DatasetIou has a method as value: leave @property above it.")
        values.append(float(value))
    return values


class _Wrong(_DatasetIou):
    """A mistake: ``change`` of the metric's parts."""

    per_batch = last_batch = forgets = counts_void = drops_void = last_is_void = False
    scores = staticmethod(lambda both, rows, columns: both / (rows + columns - both))

    def __init__(self, codes, void):
        void = codes - 1 if self.last_is_void else void
        super().__init__(codes, void)
        self._batches, self._no_class = [], void
        if self.counts_void:
            self._void = -1

    def reset(self):
        if self.forgets and hasattr(self, "_matrix"):
            return
        super().reset()
        self._batches = []

    def accumulate(self, learn):
        if self.per_batch or self.last_batch:
            super().reset()
        super().accumulate(learn)
        if self.drops_void:
            self._matrix[:, self._void] = 0
        self._batches.append(self._one())

    def _one(self):
        both, rows, columns = np.diag(self._matrix), self._matrix.sum(1), self._matrix.sum(0)
        with np.errstate(all="ignore"):
            return self._mean(self.scores(both, rows, columns), rows, columns)

    def _mean(self, scores, rows, columns):
        keep = (rows + columns > 0) & (np.arange(self._codes) != self._no_class)
        return float(scores[keep].mean())

    @property
    def value(self):
        return float(np.mean(self._batches)) if self.per_batch else self._one()


def _wrong(**parts) -> type:
    return type("Wrong", (_Wrong,), parts)


def _only_true(self, scores, rows, columns):
    keep = (rows > 0) & (np.arange(self._codes) != self._no_class)
    return float(scores[keep].mean())


def _absent_as(value: float) -> Callable:
    def mean(self, scores, rows, columns):
        filled = np.where(rows + columns > 0, scores, value)
        return float(np.delete(filled, self._no_class).mean())

    return mean


def _void_too(self, scores, rows, columns):
    return float(scores[rows + columns > 0].mean())


def _batches(*pairs) -> list:
    return [(_logits(found, codes), truth) for found, truth, codes in pairs]


# Codes 5 and 6 occur nowhere, 4 is only found; a labelled pixel is taken for void.
_ROW = torch.tensor([[[0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3]]])
_ROW_FOUND = torch.tensor([[[0, 0, 1, 3, 1, 1, 4, 2, 0, 2, 1, 3]]])
_SECOND = (torch.tensor([[[2, 2, 0, 0, 1]]]), torch.tensor([[[2, 1, 0, 3, 1]]]), 7)
_EPOCH = _batches((_ROW_FOUND, _ROW, 7), _SECOND)
_OTHER = _batches((torch.tensor([[[0, 0, 2, 3, 1]]]), torch.tensor([[[0, 1, 2, 2, 3]]]), 7))


def _drawn_iou(rng: np.random.Generator) -> list[Case]:
    def batch(size):
        truth = torch.from_numpy(rng.integers(0, 5, (size, 4, 6)))
        found = torch.where(
            torch.from_numpy(rng.random((size, 4, 6)) < 0.5),
            truth,
            torch.from_numpy(rng.integers(0, 6, (size, 4, 6))),
        )
        found[0, 0, :2], truth[0, 0, :2] = 5, 1
        return found, truth, 7

    # code 6 never occurs; 5 is only predicted; 4 is void
    first = _batches(batch(2), batch(3), batch(1))
    return [Case(7, 4, first, _batches(batch(2), batch(1)), through=_epochs)]


dataset_iou = Exercise(
    "DatasetIou",
    "one number from 0 to 1 an epoch",
    "counts over the whole data set, then one IoU a class; void and absent codes are left out",
    right=_DatasetIou,
    cases=[
        Case(
            7,
            _VOID,
            _EPOCH[:1],
            through=_epochs,
            says="One batch; void is code 3, codes 5 and 6 occur nowhere, 4 was only found: wanted "
            "{wanted}, you give {got}.",
        ),
        Case(
            7,
            _VOID,
            _EPOCH,
            through=_epochs,
            says="An epoch of two batches: wanted {wanted}, you give {got}.",
        ),
        Case(
            7,
            _VOID,
            _EPOCH,
            _OTHER,
            through=_epochs,
            says="Two epochs, reset() before each: wanted {wanted}, you give {got}.",
        ),
    ],
    drawn=_drawn_iou,
    mistakes={
        "{name} is the mean of the batches' IoUs: {got}. Add up the counts of all batches, and "
        "divide once, in value.": _wrong(per_batch=True),
        "{name} still holds the counts of the epoch before: reset() must forget them.": _wrong(
            forgets=True
        ),
        "{name} counts pixels whose label is void: whatever is found there is then a mistake of "
        "some class.": _wrong(counts_void=True),
        "{name} counts Void among the classes: its IoU is 0, since its pixels are left out.": (
            _wrong(_mean=_void_too)
        ),
        "{name} gives a code that occurs nowhere an IoU of 0: leave it out of the mean.": _wrong(
            _mean=_absent_as(0.0)
        ),
        "{name} gives a code that occurs nowhere an IoU of 1: leave it out of the mean.": _wrong(
            _mean=_absent_as(1.0)
        ),
        "{name} leaves out a code that was only predicted, never true: its IoU is 0, and counts.": (
            _wrong(_mean=_only_true)
        ),
        "{name} is Dice, 2 both / (true + found), not IoU = both / union.": _wrong(
            scores=staticmethod(lambda both, rows, columns: 2 * both / (rows + columns))
        ),
        "{name} divides by true + found, {got}: what is right stands in both, so the union is true "
        "+ found - right.": (
            _wrong(scores=staticmethod(lambda both, rows, columns: both / (rows + columns)))
        ),
        "{name} gives NaN: a code that occurs nowhere is 0 / 0. Take the mean where the union is "
        "above 0.": _wrong(_mean=_absent_as(math.nan)),
        "{name} knows the last batch only, {got}: accumulate must add to what is counted.": _wrong(
            last_batch=True
        ),
        "{name} leaves out labelled pixels that are *predicted* as void: they are missed, and stay "
        "in the union of their class.": _wrong(drops_void=True),
        "{name} takes the last code for void: `void` says which code it is, here another.": _wrong(
            last_is_void=True
        ),
        "{name} divides by the true pixels alone: that is recall. The union has also what was "
        "found and is not true.": _wrong(
            scores=staticmethod(lambda both, rows, columns: np.where(rows > 0, both / rows, 0))
        ),
    },
    causes={
        "no attribute '(yb|y)'": "what accumulate is given has pred (B, codes, H, W) and y "
        "(B, H, W)",
        r"only one element|only length-1|only 0-dim|Tensor with \d+ elements": "value is one "
        "number: the mean of the IoUs",
        "size of tensor|must match|broadcast": "pred needs its argmax over axis 1, and each count "
        "a place for every code (minlength=codes)",
        "1-d non-negative": "bincount wants one row of codes: index both by the mask, or flatten",
    },
)

# --- what is frozen, and how fast the rest moves -------------------------------------------------


def _moving(model: nn.Module) -> tuple[int, int]:
    sizes = [(math.prod(weight.shape), weight.requires_grad) for weight in model.parameters()]
    return sum(size for size, moves in sizes if moves), sum(size for size, _ in sizes)


def _net(*, norm: bool, frozen: bool) -> nn.Module:
    parts = [nn.Conv2d(3, 4, 3, bias=False), *([nn.BatchNorm2d(4)] * norm), nn.ReLU()]
    net = nn.Sequential(nn.Sequential(*parts), nn.Conv2d(4, 2, 1))
    for layer in net[0] if frozen else ():
        if not isinstance(layer, nn.BatchNorm2d):
            layer.requires_grad_(False)
    return net


def _drawn_nets(rng: np.random.Generator) -> list[Case]:
    a, b, c = rng.choice(range(3, 12), 3, replace=False).tolist()
    net = nn.Sequential(nn.Conv2d(a, b, 3), nn.BatchNorm2d(b), nn.Conv2d(b, c, 1))
    net[0].requires_grad_(False)
    return [Case(net)]


moving = Exercise(
    "moving",
    "two whole numbers: parameters that move, parameters in all",
    "frozen is what asks for no gradient; batch norm's scales move on",
    right=_moving,
    cases=[
        Case(_net(norm=False, frozen=False), says="Nothing is frozen here: wanted {wanted}."),
        Case(
            _net(norm=False, frozen=True),
            says="The first convolution (108 numbers) is frozen, the last (10) is not: wanted "
            "{wanted}, you give {got}.",
        ),
        Case(
            _net(norm=True, frozen=True),
            says="As before, with a batch norm whose 8 learned numbers move: wanted {wanted}, you "
            "give {got}.",
        ),
    ],
    drawn=_drawn_nets,
    mistakes={
        "{name} counts tensors, not the numbers in them: {got}. A tensor has numel() of them.": (
            lambda model: (
                sum(w.requires_grad for w in model.parameters()),
                len([*model.parameters()]),
            )
        ),
        "{name} counts the rows of each tensor, {got}: len is its first side, numel() all of its "
        "numbers.": (
            lambda model: (
                sum(len(w) for w in model.parameters() if w.requires_grad),
                sum(len(w) for w in model.parameters()),
            )
        ),
        "{name} finds nothing that moves: `grad` is filled by a backward only. What is to move has "
        "requires_grad.": lambda model: (0, _moving(model)[1]),
        "{name} gives first what stands still, not what moves: {got}.": (
            lambda model: (_moving(model)[1] - _moving(model)[0], _moving(model)[1])
        ),
        "{name} gives all parameters first, then those that move: turn them round.": (
            lambda model: _moving(model)[::-1]
        ),
        "{name} counts every parameter as moving: {got}. A frozen one has requires_grad False.": (
            lambda model: (_moving(model)[1], _moving(model)[1])
        ),
        "{name} gives what moves and what stands still: the second is all of them together.": (
            lambda model: (_moving(model)[0], _moving(model)[1] - _moving(model)[0])
        ),
        "{name} counts batch norm's running mean and variance, too ({got}): they are buffers, not "
        "parameters. state_dict() has both.": (
            lambda model: (_moving(model)[0], sum(w.numel() for w in model.state_dict().values()))
        ),
        "{name} leaves out vectors such as biases and batch norm's scales.": (
            lambda model: (
                sum(w.numel() for w in model.parameters() if w.requires_grad and w.ndim > 1),
                sum(w.numel() for w in model.parameters() if w.ndim > 1),
            )
        ),
    },
)

group_rates = Exercise(
    "group_rates",
    "one rate a group, a list from the first layers to the last",
    "each group's rate is the same multiple of the one before",
    right=lambda low, high, groups: np.geomspace(low, high, groups) if groups > 1 else [high],
    cases=[
        Case(1e-5, 1e-3, 3, says="From 1e-5 to 1e-3 in three groups: {wanted}; you give {got}."),
        Case(
            1e-4,
            8e-4,
            4,
            says="From 1e-4 to 8e-4 in four groups, each twice the one before: {wanted}; you give "
            "{got}.",
        ),
        Case(1e-5, 1e-3, 1, says="One group gets the highest rate: {wanted}; you give {got}."),
    ],
    drawn=lambda rng: [
        Case(float(10 ** rng.uniform(-6, -5)), float(10 ** rng.uniform(-3, -2)), int(n))
        for n in (3, 1, *rng.integers(4, 9, 2))
    ],
    mistakes={
        "{name} takes equal steps, {got}: rates differ by factors. The middle of 1e-5 and 1e-3 is "
        "1e-4.": lambda low, high, groups: np.linspace(low, high, groups),
        "{name} gives the first layers the highest rate, {got}: they are the ones to be careful "
        "with.": lambda low, high, groups: np.geomspace(high, low, groups),
        "{name} gives a single group the lowest rate, {got}: it has no layers before it to spare, "
        "and gets the highest.": lambda low, high, groups: np.geomspace(low, high, groups),
        "{name} multiplies by high / low for each group, {got}: that is the whole way at once. One "
        "step is its root: the power 1 / (groups - 1).": (
            lambda low, high, groups: low * (high / low) ** np.arange(groups)
        ),
        "{name} begins above the lowest rate, {got}: nothing is multiplied for the first group, so "
        "count k from 0.": (
            lambda low, high, groups: low * (high / low) ** (np.arange(1, groups + 1) / groups)
        ),
        "{name} takes a factor of 10, {got}: the factor follows from low, high and groups.": (
            lambda low, high, groups: high / 10.0 ** np.arange(groups)[::-1]
        ),
        "{name} gives all groups the highest rate: that is a plain number, not slice(low, high).": (
            lambda low, high, groups: np.full(groups, high)
        ),
        "{name} gives all but the last group a tenth of the rate: that is slice(high) without "
        "low.": lambda low, high, groups: [*[high / 10] * (groups - 1), high],
        "{name} gives all but the last group the lowest rate: those between lie between.": (
            lambda low, high, groups: [*[low] * (groups - 1), high]
        ),
        "{name} stops before the highest rate: from low to high there are groups - 1 steps.": (
            lambda low, high, groups: low * (high / low) ** (np.arange(groups) / groups)
        ),
    },
    same=lambda got, wanted: (
        np.shape(got) == np.shape(wanted)
        and np.allclose(np.asarray(got, float), wanted, rtol=1e-4, atol=0)
    ),
    causes={"division by zero": "with one group there is no step: it gets the highest rate"},
)

# --- reading the finder's curve ------------------------------------------------------------------

_REASONS = {"a": 1, "b": 2, "c": 3, "d": 4}
GOOD = (3e-4, 1.2e-2)
"""Rates that the curve of lesson 07 speaks for: on the steep part, and well before its lowest."""


def _band(rate) -> str:
    low, high = GOOD
    if not isinstance(rate, Real) or not rate > 0:
        return "none"
    return "flat" if rate < low else "good" if rate <= high else "edge" if rate <= 0.2 else "beyond"


def _same_reading(got, wanted) -> bool:
    if not isinstance(got, dict):
        return False
    letters = all(got.get(key) == wanted[key] for key in _REASONS)
    return letters and set(got) == set(wanted) and _band(got["rate"]) == _band(wanted["rate"])


def _reading(rate: float = 3e-3, **reasons) -> Callable[[], dict]:
    return lambda: {**_REASONS, **reasons, "rate": rate}


reading = Exercise(
    "reading",
    "a dictionary: a, b, c, d, each the number of a reason, and rate, a number",
    "where the loss falls steeply, and well before it is lowest",
    right=_reading(),
    cases=[
        Case(
            says="Found {got}. Some reason does not fit. Go from left to right: flat, falling, "
            "lowest, rising; and say of each what a step of this size does."
        )
    ],
    mistakes={
        "your rate is where the curve is lowest, or nearly: there the steps are already too long, "
        "and the smoothed loss shows it late. Stay three to ten times below.": _reading(0.03),
        "your rate is where the curve is still flat: steps so small that hundreds of them move "
        "nothing. Go right, to where it falls.": _reading(1e-5),
        "your rate is where the loss explodes.": _reading(2.0),
        "a and b are mixed up: at a the loss has not begun to fall.": _reading(a=2, b=1),
        "c is the lowest point, and still not the rate to take: b and c are mixed up.": _reading(
            b=3, c=2
        ),
        "c and d are mixed up: at c the loss is lowest, at d it grows with each step.": _reading(
            c=4, d=3
        ),
        "{name} is read from right to left: small rates stand on the left.": _reading(
            a=4, b=3, c=2, d=1
        ),
    },
    facts={
        "{name} must have the keys a, b, c, d and rate: found {got}.": (
            lambda got: isinstance(got, dict) and set(got) == {*_REASONS, "rate"}
        ),
        "a, b, c and d are each the number of a reason, 1 to 4: found {got}.": (
            lambda got: all(got[key] in (1, 2, 3, 4) for key in _REASONS)
        ),
        "rate must be a number above 0, such as 1e-3: found {got}.": (
            lambda got: _band(got["rate"]) != "none"
        ),
    },
    same=_same_reading,
    numbers=False,
)

# --- inside DynamicUnet --------------------------------------------------------------------------


def _sizes(encoder: nn.Sequential, images: torch.Tensor) -> list[tuple[int, ...]]:
    sizes, x = [], images
    with torch.no_grad():
        for layer in encoder:
            x = layer(x)
            sizes.append(tuple(x.shape))
    return sizes


def _changes(encoder, images, at: Callable = lambda one, two: one[2:] != two[2:]) -> list[int]:
    sizes = _sizes(encoder, images)
    return [k for k in range(len(sizes) - 1) if at(sizes[k], sizes[k + 1])]


def _skips(encoder: nn.Sequential, images: torch.Tensor) -> list[int]:
    return _changes(encoder, images)[::-1]


def _encoder(*layers: tuple[int, int]) -> nn.Sequential:
    """Return 3x3 convolutions of these channels and strides, in eval mode."""
    channels = [3, *(c for c, _ in layers)]
    return nn.Sequential(
        *(
            nn.Conv2d(channels[k], c, 3, stride=s, padding=1, bias=False)
            for k, (c, s) in enumerate(layers)
        )
    ).eval()


def _layers(find: Callable, encoder: nn.Sequential, images: torch.Tensor):
    """Return the layers that an answer finds, surely no maps."""
    found = find(encoder, images)
    require(
        not (isinstance(found, list | tuple) and any(np.ndim(part) for part in found)),
        "find_skips gives the maps themselves: their layers' numbers are wanted, such as [3, 1].",
    )
    return found


def _drawn_encoders(rng: np.random.Generator) -> list[Case]:
    cases = []
    for _ in range(2):
        middle = [[(6, 1), (6, 2)], [(8, 2), (8, 1)], [(4, 1), (9, 2)]]
        order = [middle[k] for k in rng.permutation(3)]
        layers = [(4, 2), (5, 1), (5, 1), *(layer for pair in order for layer in pair), (7, 1)]
        cases.append(Case(_encoder(*layers), torch.zeros(1, 3, 64, 96), through=_layers))
    return cases


find_skips = Exercise(
    "find_skips",
    "the numbers of the encoder's layers, a list, the deepest first",
    "the last map of each size is handed across; the deepest one goes on into the bottom",
    right=_skips,
    cases=[
        Case(
            _encoder((4, 2), (4, 1), (6, 2), (6, 1), (8, 2)),
            torch.zeros(1, 3, 32, 48),
            through=_layers,
            says="The layers give 16x24, 16x24, 8x12, 8x12, 4x6. The last of each size but the "
            "smallest are {wanted}; you give {got}.",
        ),
        Case(
            _encoder((4, 2), (6, 1), (6, 2), (9, 1), (9, 1)),
            torch.zeros(2, 3, 32, 32),
            through=_layers,
            says="Here the channels change at layers where the size does not: wanted {wanted}, you "
            "give {got}.",
        ),
    ],
    drawn=_drawn_encoders,
    mistakes={
        "{name} gives the layers *after* the change of size, {got}: the skip is what stands before "
        "it.": lambda encoder, images: [k + 1 for k in _skips(encoder, images)],
        "{name} gives the layers that *make* a new size, {got}, the first one, too: the skip is "
        "what stands before, and before the first stands the picture, no layer.": (
            lambda encoder, images: [*(k + 1 for k in _skips(encoder, images)), 0]
        ),
        "{name} takes the picture for a layer, {got}: begin with the first layer's size.": (
            lambda encoder, images: [*_skips(encoder, images), -1]
        ),
        "{name} starts with the shallowest, {got}: the decoder begins at the bottom.": (
            lambda encoder, images: _skips(encoder, images)[::-1]
        ),
        "{name} has the last layer among the skips: its map is what goes into the bottom, "
        "not across.": lambda encoder, images: [len(encoder) - 1, *_skips(encoder, images)],
        "{name} looks at the channels: what counts is where height and width change.": (
            lambda encoder, images: _changes(encoder, images, lambda a, b: a[1] != b[1])[::-1]
        ),
        "{name} looks for any change of shape, channels too: what counts is height and width.": (
            lambda encoder, images: _changes(encoder, images, lambda a, b: a != b)[::-1]
        ),
        "{name} gives every layer, {got}: only the last map of each size is handed across.": (
            lambda encoder, images: [*range(len(encoder))][::-1]
        ),
        "{name} gives sizes, not the layers' numbers.": (
            lambda encoder, images: [
                _sizes(encoder, images)[k][-1] for k in _skips(encoder, images)
            ]
        ),
    },
    causes={
        r"expected input.* channels": "each layer takes what the layer before it gave, and only "
        "the first the images: x = layer(x)"
    },
)


def _icnr(kernel: torch.Tensor, scale: int = 2) -> torch.Tensor:
    return torch.stack([row for row in kernel for _ in range(scale**2)])


icnr = Exercise(
    "icnr",
    "a kernel (scale² times as many outputs, inputs, 1, 1)",
    "the scale² outputs that fill one square begin equal: no checkerboard at the start",
    right=_icnr,
    cases=[
        Case(
            torch.tensor([[1.0, 2.0], [3.0, 4.0]])[:, :, None, None],
            says="PixelShuffle fills a square from outputs that stand one after the other: wanted "
            "the row [1, 2] four times, then [3, 4] four times; found {got}.",
        ),
        Case(
            torch.arange(8.0).view(2, 4, 1, 1),
            scale=3,
            says="With scale 3 a square has nine pixels. Wanted {wanted}, found {got}.",
        ),
    ],
    drawn=lambda rng: [
        Case(torch.from_numpy(rng.normal(size=(int(n), 4, 1, 1))), scale=int(s))
        for n, s in zip(rng.integers(3, 6, 2), (2, 3), strict=True)
    ],
    mistakes={
        "{name} repeats the kernel as a whole, so the outputs of one square come from different "
        "rows: repeat each row on the spot (repeat_interleave).": (
            lambda kernel, scale=2: kernel.repeat(scale**2, 1, 1, 1)
        ),
        "{name} repeats each number, and the axes are gone: tell repeat_interleave the axis, 0.": (
            lambda kernel, scale=2: kernel.repeat_interleave(scale**2)
        ),
        "{name} makes scale copies of each row; a square has scale² pixels.": (
            lambda kernel, scale=2: kernel.repeat_interleave(scale, 0)
        ),
        "{name} makes more inputs, not more outputs: axis 0 of a kernel counts its outputs.": (
            lambda kernel, scale=2: kernel.repeat_interleave(scale**2, 1)
        ),
        "{name} fills one pixel of each square, and leaves the others 0: that is a checkerboard at "
        "its strongest.": lambda kernel, scale=2: torch.stack(
            [row * (k == 0) for row in kernel for k in range(scale**2)]
        ),
        "{name} divides the rows by scale²: each pixel of the square is to be the whole value, not "
        "its share.": lambda kernel, scale=2: kernel.repeat_interleave(scale**2, 0) / scale**2,
        "{name} returns the kernel as it was: one output for each square's scale² pixels.": (
            lambda kernel, scale=2: kernel
        ),
        "{name} has the scale of 2 built in.": (
            lambda kernel, scale=2: kernel.repeat_interleave(4, 0)
        ),
    },
)
