"""Checks of lesson 08: pairs that move together, one class, augmentations that lie, pets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from course_utils.checks import require
from course_utils.checks.exercise import Case, Exercise, as_array, as_kind, is_same
from course_utils.data.segmentation_set import VOID

# --- images with their masks, one pair after the other --------------------------------------------


class _Pairs:
    """Images with their masks, by the course's own way."""

    along = one_by_one = reshaped = bright = dark = still = painted = once = first = plain = False

    def __init__(self, images, masks, transform=None):
        self.images, self.masks = torch.tensor(images), torch.tensor(masks)
        self.transform = transform
        self._made = {}

    def __len__(self):
        return len(self.images)

    def __getitem__(self, k):
        if self.once and k in self._made:
            return self._made[k]
        k = 0 if self.first else k
        image = self.images[k]
        image = image.view(3, *image.shape[:2]) if self.reshaped else image.permute(2, 0, 1)
        mask = self.masks[k]
        kind = tv_tensors.Image if self.painted else tv_tensors.Mask
        given = tv_tensors.Image(image), (mask[None] if self.still else kind(mask[None]))
        if self.transform is None or self.plain:
            image, mask = given
        elif self.one_by_one:
            image, mask = map(self.transform, given)
        else:
            image, mask = self.transform(*given)
        image, mask = (part.as_subclass(torch.Tensor).float() for part in (image, mask))
        pair = image if self.bright else image / 255, mask / 255 if self.dark else mask
        self._made[k] = pair
        return pair


def _pairs(**ways) -> type:
    return type("Wrong", (_Pairs,), ways)


def _all_pairs(answer: Callable, images, masks, transform=None, seed: int = 0) -> np.ndarray:
    """Return all images and masks of a Dataset, asked twice, as one array ``(2, N, 4, H, W)``."""
    data = answer(images, masks, transform)
    require(
        isinstance(data, (torch.utils.data.Dataset, _Pairs)),
        "Pairs is no Dataset: class Pairs(Dataset).",
    )
    require(
        len(data) == len(images),
        f"len() of {len(images)} pairs is {len(data)}: __len__ returns how many images there are.",
    )
    height, width = masks.shape[1:]
    found = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for k in (*range(len(images)), *range(len(images))):
            pair = data[k]
            require(
                isinstance(pair, (tuple, list)) and len(pair) == 2,
                f"Pairs gives a {type(pair).__name__}: an image and its mask are wanted, "
                "`return image, mask`.",
            )
            for name, part, shape in zip(
                ("image", "mask"), pair, ((3, height, width), (1, height, width)), strict=True
            ):
                _require_part(name, part, shape)
            found.append(torch.cat([part.as_subclass(torch.Tensor) for part in pair]))
    return torch.stack(found).view(2, len(images), 4, height, width).numpy()


def _require_part(name: str, part: Any, shape: tuple[int, ...]) -> None:
    """Refuse an image or a mask of another kind, shape or type than is wanted."""
    require(
        isinstance(part, torch.Tensor),
        f"the {name} is a {type(part).__name__}: a tensor is wanted, torch.tensor(...) makes one.",
    )
    found = tuple(part.shape)
    hint = {
        (shape[1], shape[2], 3): " The channels come first: .permute(2, 0, 1).",
        shape[1:]: " With (B, H, W) masks and (B, 1, H, W) logits the loss fails, or compares each "
        "picture with every other: mask[None] adds the axis.",
    }.get(found, "")
    require(found == shape, f"the {name} has shape {found}, wanted {shape}.{hint}")
    require(
        part.dtype == torch.float32,
        f"the {name} is {str(part.dtype).removeprefix('torch.')}: float32 is wanted, .float() "
        "makes it so.",
    )


def _pictures(rng: np.random.Generator, count: int, height: int, width: int) -> tuple:
    images = rng.integers(1, 256, (count, height, width, 3), dtype=np.uint8)
    masks = (rng.random((count, height, width)) < 0.4).astype(np.uint8)
    masks[:, 0, 0], masks[:, 0, -1] = 1, 0
    return images, masks


_FLIPPED = v2.RandomHorizontalFlip(1.0)
_INVERTED = v2.Compose([v2.RandomHorizontalFlip(1.0), v2.RandomInvert(1.0)])
_AT_RANDOM = v2.Compose([v2.RandomHorizontalFlip(0.5), v2.RandomVerticalFlip(0.5)])
_FOUR = _pictures(np.random.default_rng(8), 4, 5, 6)


def _drawn_pairs(rng: np.random.Generator) -> list[Case]:
    pictures, seed = _pictures(rng, 5, 6, 4), int(rng.integers(1000))
    return [
        Case(*pictures, through=_all_pairs),
        Case(*pictures, _INVERTED, through=_all_pairs),
        Case(*pictures, _AT_RANDOM, seed, through=_all_pairs),
    ]


pairs = Exercise(
    "Pairs",
    "an image (3, H, W) and its mask (1, H, W), both float32",
    "image and mask go through one call of the transform, and come out as the loss wants them",
    right=_Pairs,
    cases=[
        Case(*_FOUR, through=_all_pairs, says="No transform is given here."),
        Case(*_FOUR, _FLIPPED, through=_all_pairs, says="The transform mirrors both."),
        Case(
            *_FOUR,
            _INVERTED,
            through=_all_pairs,
            says="The transform mirrors both, and turns light into dark in the image alone.",
        ),
        Case(
            *_FOUR,
            _AT_RANDOM,
            through=_all_pairs,
            says="The transform mirrors at random: call it once for each pair that is asked for.",
        ),
    ],
    drawn=_drawn_pairs,
    mistakes={
        "{name} gives images of 0 to 255: a network wants 0 to 1, divide by 255.": _pairs(
            bright=True
        ),
        "{name} divides the mask by 255, too: it holds the numbers 0 and 1 already.": _pairs(
            dark=True
        ),
        "{name} re-sorts the numbers of an image instead of turning its axes: permute(2, 0, 1), "
        "not reshape or view.": _pairs(reshaped=True),
        "{name} never calls the transform.": _pairs(plain=True),
        "{name} sends image and mask through the transform one by one: each has its own luck, and "
        "they part. One call, transform(image, mask).": _pairs(one_by_one=True),
        "{name} gives the transform a mask that is no tv_tensors.Mask: it is left where it is, and "
        "the image moves.": _pairs(still=True),
        "{name} gives the transform the mask as a tv_tensors.Image: its colours are changed, too. "
        "It is a tv_tensors.Mask.": _pairs(painted=True),
        "{name} keeps what it has once made: the transform must be called anew each time a pair is "
        "asked for, or each epoch sees the same pictures.": _pairs(once=True),
        "{name} gives the first pair for every number: take [k].": _pairs(first=True),
    },
    causes={
        "not callable": "the transform may be None: call it only where there is one",
        "uint16|can't convert np.ndarray": "torch.tensor(...) makes a tensor of an array of uint8",
        "has no attribute 'permute'": "an array has no permute: torch.tensor(...) first",
    },
    numbers=False,
)

# --- scores of one class -------------------------------------------------------------------------


def _found(logits: torch.Tensor) -> np.ndarray:
    """Return where the probability is above one half, by the probability."""
    return 1 / (1 + np.exp(-as_array(logits).astype(float))) > 0.5


def _binary_accuracy(logits, masks) -> float:
    return float((_found(logits) == (as_array(masks) == 1)).mean())


def _as_logits(rows: list, batch: int = 1) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32).view(batch, 1, -1, len(rows[0]))


_SCORES = _as_logits([[2.0, 0.3, -1.0, -0.2], [0.4, -3.0, 0.2, 5.0]])
_PERSON = _as_logits([[1, 1, 0, 0], [0, 0, 1, 1]])  # right at 7 of 8; 5 above one half


def _scored(rng: np.random.Generator, batch: int = 3, shape=(4, 5)) -> tuple:
    masks = (rng.random((batch, 1, *shape)) < 0.3).astype(np.float32)
    logits = rng.normal(0.8 * masks - 0.3, 1.0).astype(np.float32)
    logits[0, 0, 0, :2], masks[0, 0, 0, :2] = (0.3, 0.4), (1, 0)
    return torch.from_numpy(logits), torch.from_numpy(masks)


pixel_accuracy = Exercise(
    "pixel_accuracy",
    "one number from 0 to 1",
    "a probability of one half is a logit of 0",
    right=_binary_accuracy,
    cases=[
        Case(
            _SCORES,
            _PERSON,
            says="7 of the 8 pixels are right, {wanted}; you give {got}. A pixel counts as person "
            "where its logit is above 0.",
        ),
        Case(
            torch.cat([_SCORES, -_SCORES]),
            torch.cat([_PERSON, _as_logits([[1, 1, 1, 0], [0, 0, 0, 0]])]),
            says="Of two pictures 11 of 16 pixels are right: {wanted}; you give {got}.",
        ),
    ],
    drawn=lambda rng: [Case(*_scored(rng)), Case(*_scored(rng, 2, (3, 7)))],
    mistakes={
        "{name} cuts the logits at 0.5. Cut probabilities there; the logit of one half is 0.": (
            lambda logits, masks: ((logits > 0.5) == (masks == 1)).float().mean()
        ),
        "{name} cuts the probabilities at 0: each is above. Cut them at 0.5, or the logits at 0.": (
            lambda logits, masks: (masks == 1).float().mean()
        ),
        "{name} compares the logits themselves with 0 and 1: none is equal. First decide, "
        "logits > 0.": lambda logits, masks: (logits == masks).float().mean(),
        "{name} takes an argmax over a single channel, which is always 0: it counts the "
        "background.": lambda logits, masks: (masks == 0).float().mean(),
        "{name} rounds the logits: logits > 0 decides.": (
            lambda logits, masks: (logits.round() == masks).float().mean()
        ),
        "{name} gives the share of the wrong pixels, {got}.": (
            lambda logits, masks: ((logits > 0) != (masks == 1)).float().mean()
        ),
        "{name} counts the pixels; wanted is their share.": (
            lambda logits, masks: ((logits > 0) == (masks == 1)).sum()
        ),
        "{name} gives percents: a number from 0 to 1 is wanted.": (
            lambda logits, masks: 100 * ((logits > 0) == (masks == 1)).float().mean()
        ),
        "{name} looks at the pixels of persons only: that is recall. Accuracy counts all pixels.": (
            lambda logits, masks: (logits > 0)[masks == 1].float().mean()
        ),
        "{name} counts persons that are found; background that is called background is right, "
        "too.": lambda logits, masks: ((logits > 0) & (masks == 1)).float().mean(),
    },
    causes={
        r"could not infer output dtype|dtype must be|floating point or complex": "the mean of True "
        "and False wants .float() first",
    },
)


class _Dice:
    """Dice over all batches since it was made."""

    per_batch = per_image = last = jaccard = half = soft = plus_one = accuracy = single = False

    def __init__(self):
        self.counts, self.parts = np.zeros(3), []

    def add(self, logits, masks):
        logits, masks = as_array(logits).astype(float), as_array(masks) == 1
        found = logits > (0.5 if self.half else 0)
        if self.soft:
            found = 1 / (1 + np.exp(-logits))
        if self.last:
            self.counts[:] = 0
        groups = zip(found, masks, strict=True) if self.per_image else [(found, masks)]
        for some, true in groups:
            counts = np.array([(some * true).sum(), some.sum(), true.sum()], float)
            if self.accuracy:
                counts = np.array([(some == true).sum() / 2, some.size / 2, some.size / 2])
            self.parts.append(self._ratio(counts))
            self.counts += counts

    def _ratio(self, counts):
        both, found, true = counts
        if self.jaccard:
            return both / (found + true - both)
        if self.single:
            return both / (found + true)
        return (2 * both + self.plus_one) / (found + true + self.plus_one)

    def value(self):
        averaged = self.per_batch or self.per_image
        return float(np.mean(self.parts)) if averaged else float(self._ratio(self.counts))


def _dice(**ways) -> type:
    return type("Wrong", (_Dice,), ways)


def _dice_after(answer: Callable, *batches) -> float:
    """Return the Dice of batches that are added one after the other, whatever others count."""
    dice = answer()
    for logits, masks in batches:
        require(
            dice.add(logits.clone(), masks.clone()) is None or hasattr(dice, "value"),
            "Dice has no value().",
        )
    value = dice.value() if callable(dice.value) else dice.value
    require(value is not None, "Dice.value() returns None: is its `return` missing?")
    require(
        _value_again(dice) == float(value),
        "asked twice, Dice.value() gives two values: it must not change the counts.",
    )
    answer().add(_SCORES, _PERSON)
    require(
        _value_again(dice) == float(value),
        "two Dice share their counts: what one of them adds, the other has, too. The counts are "
        "made in __init__, and belong to self.",
    )
    return float(value)


def _value_again(dice) -> float:
    """Return the value; NaN where the counts have gone, so that nothing is left to divide."""
    try:
        return float(dice.value() if callable(dice.value) else dice.value)
    except ZeroDivisionError:
        return math.nan


_FEW = (_as_logits([[-1.0, -2.0, 0.3, -0.7]]), _as_logits([[1, 0, 1, 0]]))


def _drawn_dice(rng: np.random.Generator) -> list[Case]:
    batches = [_scored(rng, 4), _scored(rng, 3), _scored(rng, 1, (4, 5))]
    return [Case(*batches, through=_dice_after)]


dice = Exercise(
    "Dice",
    "one number from 0 to 1",
    "counts over the whole data set, divided once, at the end",
    right=_Dice,
    cases=[
        Case(
            (_SCORES, _PERSON),
            through=_dice_after,
            says="One batch: 4 pixels in both, 5 found, 4 true, so 8 / 9 = {wanted}; you give "
            "{got}.",
        ),
        Case(
            (torch.cat([_SCORES, -_SCORES]), torch.cat([_PERSON, _PERSON])),
            _FEW,
            through=_dice_after,
            says="Two batches, of 16 and of 4 pixels: 5 in both, 9 found, 10 true, so 10 / 19 = "
            "{wanted}; you give {got}.",
        ),
    ],
    drawn=_drawn_dice,
    mistakes={
        "{name} is the mean of the batches' Dice: {got}. Add up the counts of all batches, and "
        "divide once, in value().": _dice(per_batch=True),
        "{name} is the mean of the pictures' Dice: {got}. Add up the counts of all pictures, and "
        "divide once, in value().": _dice(per_image=True),
        "{name} knows the last batch only: add must add to what is counted.": _dice(last=True),
        "{name} is IoU, both / (found + true - both). Dice is 2 both / (found + true).": _dice(
            jaccard=True
        ),
        "{name} lacks its factor 2: 2 both / (found + true).": _dice(single=True),
        "{name} cuts the logits at 0.5. Cut probabilities there; the logit of one half is 0.": (
            _dice(half=True)
        ),
        "{name} counts probabilities: the score wants decided pixels, logits > 0. (As a loss, with "
        "a gradient, probabilities are right.)": _dice(soft=True),
        "{name} adds 1 above and below, as losses do against 0 / 0: with few pixels that is "
        "another score, {got}.": _dice(plus_one=True),
        "{name} is pixel accuracy, {got}: the background counts for nothing in Dice.": _dice(
            accuracy=True
        ),
    },
    causes={
        "no attribute 'value'": "Dice has no value()",
        "takes 1 positional argument|takes 2 positional": "add(self, logits, masks) takes two",
        "division by zero": "it divides before anything is counted: divide in value() only",
    },
)

# --- one logit and two ---------------------------------------------------------------------------

logit_of = Exercise(
    "logit_of",
    "one number, of any sign",
    "p = 0.5 is the logit 0, and sigmoid undoes it",
    right=lambda p: math.log(p) - math.log1p(-p),
    cases=[
        Case(0.5, says="One half for, one half against: {wanted}; you give {got}."),
        Case(0.9, says="Nine to one is log 9: {wanted}; you give {got}."),
        Case(0.02, says="Below one half the logit is negative: {wanted}; you give {got}."),
    ],
    drawn=lambda rng: [Case(float(p)) for p in rng.uniform(0.02, 0.98, 4)],
    mistakes={
        "{name} is the sigmoid, which leads from a logit to a probability: turn it round.": (
            lambda p: 1 / (1 + math.exp(-p))
        ),
        "{name} is log p: the odds p / (1 - p) are wanted under the logarithm.": math.log,
        "{name} gives the odds: their logarithm is missing.": lambda p: p / (1 - p),
        "{name} has the odds upside down: p is above.": lambda p: math.log((1 - p) / p),
        "{name} is the logarithm to base 2: the natural one is wanted, as exp is in the "
        "sigmoid.": lambda p: math.log2(p / (1 - p)),
        "{name} is the logarithm to base 10: the natural one is wanted, as exp is in the "
        "sigmoid.": lambda p: math.log10(p / (1 - p)),
        "{name} moves p by one half: that is no logit, it never leaves -0.5 to 0.5.": (
            lambda p: p - 0.5
        ),
    },
    causes={
        "must be Tensor|not float": "p is a plain float: math.log or np.log",
    },
)


def _probabilities(answer: Callable, z: torch.Tensor) -> np.ndarray:
    """Return what softmax makes of two logits that an answer gives."""
    both = answer(z)
    require(isinstance(both, torch.Tensor), f"two_logits gives {as_kind(both)}: wanted a tensor.")
    wanted = (len(z), 2, *z.shape[2:])
    hint = " torch.cat([...], dim=1) sets maps after each other as channels."
    require(
        tuple(both.shape) == wanted,
        f"two_logits gives shape {tuple(both.shape)}, wanted {wanted}.{hint}",
    )
    return torch.softmax(both.detach().double(), dim=1).numpy()


def _two(below: Callable, above: Callable) -> Callable:
    return lambda z: torch.cat([below(z), above(z)], dim=1)


_Z = torch.tensor([[[[0.0, 2.0], [-1.5, 0.4]]], [[[3.0, -0.3], [1.0, -4.0]]]])

two_logits = Exercise(
    "two_logits",
    "logits (B, 2, H, W), background first",
    "softmax of (0, z) is (1 - sigmoid(z), sigmoid(z))",
    right=_two(lambda z: nn.functional.logsigmoid(-z), nn.functional.logsigmoid),
    cases=[
        Case(
            _Z,
            through=_probabilities,
            says="Softmax must make of the two what sigmoid makes of the one.",
        ),
        Case(
            _Z[:1, :, :1],
            through=_probabilities,
            says="Here one picture of 1 x 2 pixels is given.",
        ),
    ],
    drawn=lambda rng: [
        Case(torch.from_numpy(rng.normal(0, 2, (3, 1, 4, 5))).float(), through=_probabilities)
    ],
    mistakes={
        "{name} gives probabilities: softmax is taken of what you return, so logits are "
        "wanted.": _two(lambda z: 1 - z.sigmoid(), torch.sigmoid),
        "{name} gives (-z, z): softmax sees their difference, 2 z, and is too sure. Which pair "
        "differs by z?": _two(torch.neg, lambda z: z),
        "{name} gives (1 - z, z): as if z were a probability.": _two(lambda z: 1 - z, lambda z: z),
        "{name} has the classes turned round: background comes first.": _two(
            lambda z: z, torch.zeros_like
        ),
        "{name} gives z twice: then both are equally likely everywhere.": _two(
            lambda z: z, lambda z: z
        ),
        "{name} keeps 0 and the probability: the second must be the logit, z.": _two(
            torch.zeros_like, torch.sigmoid
        ),
    },
    causes={
        "must match except in dimension|Sizes of tensors|Dimension out of range": "the map of "
        "zeros must be of z's shape: torch.zeros_like(z)",
    },
    hint="Of z (B, 1, H, W) make (B, 2, H, W).",
)

# --- what moves apart, what is cropped away, what comes twice -------------------------------------


def _misaligned(transform, mask, void: int = 255, *, keep: bool = True) -> float:
    image, label = transform(
        tv_tensors.Image(torch.as_tensor(mask).expand(3, -1, -1)), tv_tensors.Mask(mask)
    )
    said, label = np.asarray(image[0]), np.asarray(label).reshape(image.shape[1:])
    known = label != void if keep else np.ones(label.shape, bool)
    return float((said[known] != label[known]).mean())


class _Kept:
    """A transform that moves the image and leaves the mask, as a bug would."""

    def __init__(self, transform):
        self.transform = transform

    def __call__(self, image, mask):
        return self.transform(image), mask

    def __deepcopy__(self, memo):
        return self


class _Shifted:
    """Image and mask are rolled by different numbers of columns; what comes in is void."""

    def __init__(self, of_image: int, of_mask: int, void: int):
        self.image, self.mask, self.void = of_image, of_mask, void

    def __call__(self, image, mask):
        moved = mask.roll(self.mask, -1).as_subclass(torch.Tensor)
        moved[..., : self.mask] = self.void
        return tv_tensors.Image(image.roll(self.image, -1)), tv_tensors.Mask(moved)

    def __deepcopy__(self, memo):
        return self


class _OfKinds:
    """A transform that says so where it is given anything but an image and a mask."""

    def __init__(self, transform):
        self.transform = transform

    def __call__(self, *given):
        for part, kind in zip(given, (tv_tensors.Image, tv_tensors.Mask), strict=False):
            require(
                isinstance(part, kind) or len(given) != 2,
                f"misaligned gives the transform a {type(part).__name__} where a "
                f"tv_tensors.{kind.__name__} is wanted: by the kind it knows what to do with each, "
                "and a plain tensor beside an image stays where it is.",
            )
        return self.transform(*given)


def _of_kinds(answer: Callable, transform, mask) -> float:
    return answer(_OfKinds(transform), mask)


_LABELS = torch.tensor([[0, 0, 3, 3], [0, 1, 3, 3], [0, 1, 1, 2]], dtype=torch.uint8)
_TOGETHER = v2.RandomHorizontalFlip(1.0)


def _alone(transform, mask):
    image = transform(tv_tensors.Image(mask.expand(3, -1, -1)))[0]
    return float((image != transform(tv_tensors.Mask(mask))).float().mean())


_PERHAPS = v2.RandomHorizontalFlip(0.5)


def _often(answer: Callable, transform, mask, seed: int = 0) -> float:
    """Return the mean of what is found in eight calls, each with another luck."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return float(np.mean([float(_of_kinds(answer, transform, mask)) for _ in range(8)]))


def _drawn_misaligned(rng: np.random.Generator) -> list[Case]:
    mask = torch.from_numpy(rng.integers(0, 5, (7, 9), dtype=np.uint8))
    return [
        Case(_PERHAPS, mask, int(rng.integers(1000)), through=_often),
        Case(_Kept(_TOGETHER), mask),
        Case(_Shifted(2, 2, 255), mask),
        Case(_Shifted(1, 2, 255), mask),
        Case(_Shifted(2, 2, 7), mask, 7),
    ]


misaligned = Exercise(
    "misaligned",
    "one number from 0 to 1",
    "an image that is its own mask shows any step that the two do not take together",
    right=_misaligned,
    cases=[
        Case(
            _TOGETHER,
            _LABELS,
            through=_of_kinds,
            says="This flip moves both: {wanted}; you give {got}.",
        ),
        Case(
            _PERHAPS,
            _LABELS,
            through=_often,
            says="This flip moves both, or neither: {wanted}; you give {got}.",
        ),
        Case(
            _Kept(_TOGETHER),
            _LABELS,
            says="This flip moves the image alone; 10 of 12 pixels differ: {wanted}; you give "
            "{got}.",
        ),
        Case(
            _Shifted(1, 1, 255),
            _LABELS,
            says="Both are shifted by one column, and what comes in is void in the mask: {wanted}; "
            "you give {got}.",
        ),
        Case(
            _Shifted(2, 1, 255),
            _LABELS,
            says="The image is shifted by two columns, the mask by one: {wanted}; you give {got}.",
        ),
        Case(
            _Shifted(1, 1, 9),
            _LABELS,
            9,
            says="Both are shifted by one column, and what comes in is 9, which is void here: "
            "{wanted}; you give {got}.",
        ),
    ],
    drawn=_drawn_misaligned,
    mistakes={
        "{name} counts void pixels: no answer is right there. Leave them out.": (
            lambda transform, mask: _misaligned(transform, mask, keep=False)
        ),
        "{name} leaves out 255, whatever it is told: the number of void is given, `void`.": (
            lambda transform, mask, void=255: _misaligned(transform, mask)
        ),
        "{name} sends the two through the transform one by one: one call, or it is not what the "
        "training does.": _alone,
        "{name} compares with the mask as it was before: the transform may move it, the image must "
        "move along.": lambda transform, mask: float(
            (
                transform(tv_tensors.Image(mask.expand(3, -1, -1)), tv_tensors.Mask(mask))[0][0]
                != mask
            )
            .float()
            .mean()
        ),
        "{name} gives the share that agrees: wanted is the share that differs.": (
            lambda transform, mask: 1 - _misaligned(transform, mask)
        ),
        "{name} counts the pixels; wanted is their share.": lambda transform, mask: (
            _misaligned(transform, mask)
            * float(
                (transform(tv_tensors.Image(mask[None]), tv_tensors.Mask(mask))[1] != 255).sum()
            )
        ),
        "{name} gives 0 always: what is compared is the mask with itself.": (
            lambda transform, mask: 0.0
        ),
    },
    causes={
        r"not enough values|too many values|missing 1 required": "the transform takes both and "
        "gives both: image, label = transform(image, label)",
        r"could not infer output dtype|dtype must be|floating point or complex": "the mean of True "
        "and False wants .float() first",
    },
)


def _lost(masks, size) -> float:
    windows = np.lib.stride_tricks.sliding_window_view(as_array(masks) > 0, size, axis=(1, 2))
    return float((~windows.any(axis=(-1, -2))).mean())


def _pooled(masks, size, stride=None, padding=0, pool=nn.functional.max_pool2d) -> torch.Tensor:
    maps = torch.as_tensor(masks)[:, None].float()
    return pool(maps, size, stride or 1, padding)


_CORNER = torch.zeros(2, 4, 5, dtype=torch.uint8)
_CORNER[0, 3, 3:], _CORNER[1, 1:3, 1:3] = 1, 1


def _drawn_lost(rng: np.random.Generator) -> list[Case]:
    masks = torch.from_numpy((rng.random((3, 9, 8)) < 0.06).astype(np.uint8))
    masks[:, 4, 4] = 1
    return [Case(masks, (3, 2)), Case(masks, (2, 4))]


lost = Exercise(
    "lost",
    "one number from 0 to 1",
    "each place where a crop fits is looked at, so nothing is left to chance",
    right=_lost,
    cases=[
        Case(
            _CORNER,
            (2, 2),
            says="A crop of 2 x 2 fits at 12 places of each of these two masks; 10 and 3 of them "
            "hold nobody, {wanted}; you give {got}.",
        ),
        Case(_CORNER, (2, 3), says="A crop of 2 x 3: {wanted}; you give {got}."),
        Case(_CORNER, (4, 5), says="A crop of the whole loses nobody: {wanted}; you give {got}."),
    ],
    drawn=_drawn_lost,
    mistakes={
        "{name} gives the share of crops that hold someone: wanted is that of the others.": (
            lambda masks, size: _pooled(masks, size).mean()
        ),
        "{name} moves the crop by its own size: it may begin at any pixel, stride=1. (Left out, "
        "the stride of a pooling is its size.)": (
            lambda masks, size: 1 - _pooled(masks, size, stride=size).mean()
        ),
        "{name} takes the mean in the crop: one pixel of a person is enough, so the maximum.": (
            lambda masks, size: 1 - _pooled(masks, size, pool=nn.functional.avg_pool2d).mean()
        ),
        "{name} gives the share of pixels that are background: a crop is a whole window.": (
            lambda masks, size: (torch.as_tensor(masks) == 0).float().mean()
        ),
        "{name} counts the crops; wanted is their share.": (
            lambda masks, size: (_pooled(masks, size) == 0).sum()
        ),
        "{name} has height and width of the crop turned round.": (
            lambda masks, size: 1 - _pooled(masks, size[::-1]).mean()
        ),
        "{name} takes a crop for lost if it holds any background.": (
            lambda masks, size: (
                1 - _pooled(masks, size, pool=nn.functional.avg_pool2d).eq(1).float().mean()
            )
        ),
    },
    causes={
        r"not implemented for|Byte|expected scalar type": "pooling wants floats: masks.float()",
        r"Expected 3D or 4D|non-empty 3D or 4D": "pooling wants (B, C, H, W): masks[:, None]",
    },
)


def _nearest(valid, train) -> np.ndarray:
    valid, train = (as_array(part).astype(float) for part in (valid, train))
    return np.array([np.abs(train - one).mean(axis=(1, 2, 3)).argmin() for one in valid])


def _by(distance: Callable) -> Callable:
    return lambda valid, train: np.array(
        [np.argmin([distance(one, other) for other in train]) for one in valid]
    )


def _frames(rng: np.random.Generator, valid: int = 3, train: int = 5) -> tuple:
    """Return pictures, and others: each one's twin, each one turned round, and any."""
    new = rng.integers(60, 120, (valid, 4, 5, 3), dtype=np.uint8)
    away = rng.integers(8, 14, new.shape) * rng.choice([-1, 1], new.shape)
    twins = (new + away).astype(np.uint8)
    other = np.ascontiguousarray(new[:, ::-1, ::-1])  # the same mean colour, elsewhere
    old = np.concatenate([other, twins, rng.integers(0, 256, (train, 4, 5, 3), dtype=np.uint8)])
    return new, old[rng.permutation(len(old))]


def _even_and_uneven(rng: np.random.Generator) -> Case:
    """Return a picture, one that is a little off everywhere, and one in a single colour."""
    new, step = rng.integers(20, 60, (1, 1, 1, 3)), int(rng.integers(10, 20))
    old = new + np.array([[step] * 3, [0, 0, 3 * step - 5]])[:, None, None]
    return Case(new.astype(np.uint8), old.astype(np.uint8))


_NEW, _OLD = _frames(np.random.default_rng(3))


nearest = Exercise(
    "nearest",
    "one whole number a validation image, (V,)",
    "the training image that differs least, pixel by pixel",
    right=_nearest,
    cases=[
        Case(
            np.array([[[[10, 10, 10]]], [[[200, 200, 200]]]], np.uint8),
            np.array([[[[190, 20, 0]]], [[[30, 30, 30]]], [[[250, 250, 250]]]], np.uint8),
            says="Of pictures of one pixel: to (10, 10, 10) is (30, 30, 30) nearest, to "
            "(200, 200, 200) is (250, 250, 250). Wanted {wanted}; you give {got}.",
        ),
        Case(
            np.array([[[[10, 10, 10]]]], np.uint8),
            np.array([[[[30, 30, 30]]], [[[10, 10, 65]]]], np.uint8),
            says="From (10, 10, 10) it is 60 in all to (30, 30, 30), and 55 to (10, 10, 65). "
            "Wanted {wanted}; you give {got}.",
        ),
        Case(
            _NEW,
            _OLD,
            says="Each of these three has a twin, about ten grey values lighter here and darker "
            "there. Wanted {wanted}; you give {got}.",
        ),
    ],
    drawn=lambda rng: [Case(*_frames(rng)), Case(*_frames(rng, 4, 3)), _even_and_uneven(rng)],
    mistakes={
        "{name} subtracts uint8 from uint8, which cannot be negative: 10 - 30 is 236. Turn them "
        "into float first.": _by(lambda one, other: np.abs(one - other).mean()),
        "{name} subtracts in uint8, where nothing is negative: 10 - 30 is 236. Turn one of the two "
        "into float first.": _by(lambda one, other: np.abs(other - one).mean()),
        "{name} squares the differences: then one that is large counts for more than many small "
        "ones. Their absolute values are asked for.": _by(
            lambda one, other: ((one.astype(float) - other.astype(float)) ** 2).mean()
        ),
        "{name} takes the mean of the differences without abs: what is brighter here makes up for "
        "what is darker there.": _by(
            lambda one, other: np.abs((one.astype(float) - other.astype(float)).mean())
        ),
        "{name} finds the training image that differs *most*: argmin.": _by(
            lambda one, other: -np.abs(one.astype(float) - other.astype(float)).mean()
        ),
        "{name} gives the difference itself; wanted is the number of the image that has it.": (
            lambda valid, train: np.array(
                [np.abs(train.astype(float) - one).mean(axis=(1, 2, 3)).min() for one in valid]
            )
        ),
        "{name} finds for each training image the nearest validation image: turn it round.": (
            lambda valid, train: _nearest(train, valid)
        ),
        "{name} takes the smallest difference with its sign: abs is missing.": _by(
            lambda one, other: (one.astype(float) - other.astype(float)).mean()
        ),
    },
    causes={
        r"not implemented for|cdist only supports": "distances want floats: images.astype(float), "
        "or torch.tensor(images).float()",
    },
)


# --- Pets, and what transfer buys ---

_MEAN, _STD = (0.5, 0.4, 0.25), (0.25, 0.2, 0.5)  # numbers to reckon with by hand


def _prepared(image, trimap, mean, std) -> tuple[torch.Tensor, torch.Tensor]:
    scaled = torch.as_tensor(image).permute(2, 0, 1) / 255
    x = (scaled - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    labels = np.choose(trimap, [VOID, 0, 1, 2])
    return x, torch.as_tensor(labels.astype(np.int64))


def _pair(answer: Callable, image, trimap, mean, std) -> tuple[torch.Tensor, torch.Tensor]:
    made = answer(image, trimap, mean, std)
    require(
        isinstance(made, tuple | list) and len(made) == 2,
        "prepared must return two tensors: return x, labels.",
    )
    for what, tensor, dtype in zip(
        ("x", "labels"), made, (torch.float32, torch.int64), strict=True
    ):
        require(
            isinstance(tensor, torch.Tensor),
            f"{what} is a {type(tensor).__name__}; it must be a tensor: torch.from_numpy.",
        )
        reason = "the cross-entropy takes no other" if what == "labels" else "as the weights are"
        require(
            tensor.dtype == dtype,
            f"{what} is {str(tensor.dtype).removeprefix('torch.')}; it must be "
            f"{str(dtype).removeprefix('torch.')}, {reason}.",
        )
    height, width = trimap.shape
    for what, tensor, shape, hint in (
        ("x", made[0], (3, height, width), "colour comes first, permute(2, 0, 1)"),
        ("labels", made[1], (height, width), "one number a pixel"),
    ):
        require(
            tuple(tensor.shape) == shape,
            f"{what} has shape {tuple(tensor.shape)}, wanted {shape}: {hint}.",
        )
    return made


def _image_of(*given) -> torch.Tensor:
    return _pair(*given)[0]


def _labels_of(*given) -> torch.Tensor:
    return _pair(*given)[1]


def _changed_x(change: Callable) -> Callable:
    """Return a mistake in the image: ``change(image (3, H, W) of 0..255, mean, std)``."""

    def mistake(image, trimap, mean, std):
        x = torch.from_numpy(image).permute(2, 0, 1).float()
        mean, std = (torch.tensor(part).view(3, 1, 1) for part in (mean, std))
        return change(x, mean, std).float(), _prepared(
            image, trimap, mean.flatten(), std.flatten()
        )[1]

    return mistake


def _changed_labels(change: Callable) -> Callable:
    """Return a mistake in the labels: ``change(trimap, as int64)``."""

    def mistake(image, trimap, mean, std):
        return _prepared(image, trimap, mean, std)[0], change(torch.from_numpy(trimap).long())

    return mistake


_PICTURE = np.array([[[51, 102, 0], [0, 0, 0]], [[255, 0, 204], [255, 255, 255]]], np.uint8)
_TRIMAP = np.array([[1, 2, 3], [0, 3, 1]], np.uint8)


def _drawn_pictures(rng: np.random.Generator) -> list[Case]:
    image = rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)
    trimap = rng.integers(0, 4, (5, 4), dtype=np.uint8)
    trimap[0] = 0, 1, 2, 3
    mean, std = rng.uniform(0.3, 0.6, 3).tolist(), rng.uniform(0.2, 0.4, 3).tolist()
    return [Case(image, trimap, mean, std, through=part) for part in (_image_of, _labels_of)]


prepared = Exercise(
    "prepared",
    "x (3, H, W) float32 and labels (H, W) int64",
    "divided by 255, then mean and spread taken out; labels from 0 on, and 0 of the file is void",
    right=_prepared,
    cases=[
        Case(
            _PICTURE,
            _TRIMAP[:, :2],
            _MEAN,
            _STD,
            through=_image_of,
            says="Of the four pixels (51, 102, 0), black, (255, 0, 204), white, with mean (0.5, "
            "0.4, 0.25) and std (0.25, 0.2, 0.5), wanted {wanted}; you give {got}.",
        ),
        Case(
            np.zeros((2, 3, 3), np.uint8),
            _TRIMAP,
            _MEAN,
            _STD,
            through=_labels_of,
            says="Of the trimap [[1, 2, 3], [0, 3, 1]] wanted {wanted}; you give {got}.",
        ),
    ],
    drawn=_drawn_pictures,
    mistakes={
        "x is taken out of 0..255 with a mean of [0, 1]: divide by 255 first.": _changed_x(
            lambda x, mean, std: (x - mean) / std
        ),
        "x is scaled to [0, 1], and its mean and spread are still in it.": _changed_x(
            lambda x, mean, std: x / 255
        ),
        "x is scaled to [-1, 1]: other encoders want that. This one wants mean and "
        "std.": _changed_x(lambda x, mean, std: x / 127.5 - 1),
        "x is divided by std before the mean is taken away: mean first, then std.": _changed_x(
            lambda x, mean, std: x / 255 / std - mean
        ),
        "x is multiplied by std: divide, so that the spread becomes 1.": _changed_x(
            lambda x, mean, std: (x / 255 - mean) * std
        ),
        "x has the mean taken out, but its spread is still in it: divide by std.": _changed_x(
            lambda x, mean, std: x / 255 - mean
        ),
        "x has this image's own mean and spread taken out. The encoder expects those of the images "
        "that it was trained on: mean and std are given.": _changed_x(
            lambda x, mean, std: (
                (x / 255 - (x / 255).mean((1, 2), keepdim=True))
                / (x / 255).std((1, 2), keepdim=True)
            )
        ),
        "labels still begin at 1: class 0 would never be asked for, and 3 is no class.": (
            _changed_labels(lambda trimap: trimap)
        ),
        "the minus one is missing: what the file calls 0 is void, as it should be, but the pet "
        "must become 0, the background 1, the border 2.": _changed_labels(
            lambda trimap: torch.where(trimap == 0, VOID, trimap)
        ),
        "labels hold -1: what the file calls 0 belongs to no class; make it 255. (Cross-entropy "
        "stops at -1; in uint8 it would be 255, by luck.)": _changed_labels(lambda t: t - 1),
        "what the file calls 0, nothing, has become 0, a pet: make it 255.": _changed_labels(
            lambda trimap: (trimap - 1).clamp_min(0)
        ),
        "what the file calls 0 has become 1, the background: it is unknown, so make it 255.": (
            _changed_labels(lambda trimap: torch.where(trimap == 0, 1, trimap - 1))
        ),
        "the outline (3) has become void; here it is a class of its own, 2.": _changed_labels(
            lambda trimap: torch.where((trimap == 0) | (trimap == 3), VOID, trimap - 1)
        ),
        "labels count from the end: 1 is the pet and becomes 0, 3 becomes 2.": _changed_labels(
            lambda trimap: torch.where(trimap == 0, VOID, 3 - trimap)
        ),
    },
    causes={
        r"must match|broadcast": "mean and std hold three numbers, and the image's last axes are H "
        "and W: bring them to the shape (3, 1, 1), or take them out while colour is last",
        r"not implemented for|unsupported operand|must be .*Tensor": "image and trimap are arrays, "
        "mean and std three plain numbers: torch.from_numpy and torch.tensor make tensors of them",
    },
)

# --- what a layer in the middle gives ------------------------------------------------------------


def _tapped(net: nn.Module, names: Sequence[str], images: torch.Tensor) -> list[torch.Tensor]:
    maps, modules = {}, dict(net.named_modules())
    for name in names:
        forward = modules[name].forward

        def spied(*given, name=name, forward=forward):
            maps[name] = forward(*given)
            return maps[name]

        modules[name].forward = spied
    try:
        net(images)
    finally:
        for name in names:
            del modules[name].forward
    return [maps[name] for name in names]


def _maps(answer: Callable, net: nn.Module, names: Sequence[str], images: torch.Tensor):
    """Return the numbers of all maps in one row, surely as many maps as names, and no hook left."""
    modes = [layer.training for layer in net.modules()]
    made = answer(net, names, images)
    require(
        modes == [layer.training for layer in net.modules()],
        "tapped leaves the network in another mode than it was in: it is not its business whether "
        "that trains.",
    )
    require(
        isinstance(made, list | tuple) and all(isinstance(m, torch.Tensor) for m in made),
        f"tapped must return a list of tensors, one a name; it returned {_kind_of(made)}.",
    )
    require(
        len(made) == len(names),
        f"tapped returns {len(made)} maps for {len(names)} names.",
    )
    left = sum(len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in net.modules())
    require(
        not left,
        f"tapped leaves {left} hook(s) in the network: each call adds more, and what they hold on "
        "to stays in memory. register_forward_hook returns a handle: handle.remove().",
    )
    return torch.cat([one.flatten() for one in made])


def _kind_of(value) -> str:
    if isinstance(value, list | tuple):
        return f"a list of {type(value[0]).__name__}" if value else "an empty list"
    return f"a {type(value).__name__}"


class _Block(nn.Module):
    """A convolution and a ReLU, under names of their own."""

    def __init__(self, cin: int, cout: int, stride: int):
        super().__init__()
        self.conv, self.act = nn.Conv2d(cin, cout, 3, stride, 1), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.conv(x))


class _Small(nn.Module):
    """stem, blocks.0 to blocks.2, each with conv and act, head; registered backwards."""

    def __init__(self, seed: int, wide: Sequence[int] = (3, 4, 5)):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Conv2d(wide[2], 2, 1)
            pairs = [(wide[0], wide[1], 2), (wide[1], wide[2], 2), (wide[2], wide[2], 1)]
            self.blocks = nn.ModuleList(_Block(*pair) for pair in pairs)
            self.stem = nn.Conv2d(3, wide[0], 3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def _at_names(change: Callable) -> Callable:
    """Return a mistake that hands back other maps: ``change(all layers' maps in order, names)``."""

    def mistake(net, names, images):
        order, maps = [], {}
        named = {layer: name for name, layer in net.named_modules()}

        def keep(layer, given, made):
            order.append(named[layer])
            maps[named[layer]] = given[0], made

        hooks = [layer.register_forward_hook(keep) for layer in net.modules()]
        net(images)
        for hook in hooks:
            hook.remove()
        return change(maps, [name for name in order if name in names], names)

    return mistake


def _drawn_taps(rng: np.random.Generator) -> list[Case]:
    cases = []
    for _ in range(2):
        names = [
            ["stem", "blocks.0.conv", "blocks.1", "blocks.2.act"][k] for k in rng.permutation(4)
        ]
        if names == ["stem", "blocks.0.conv", "blocks.1", "blocks.2.act"]:
            names = names[::-1]
        net = _Small(int(rng.integers(2**31)), rng.choice(range(3, 9), 3, replace=False).tolist())
        images = torch.from_numpy(rng.random((2, 3, 16, 24), np.float32))
        cases.append(Case(net, names, images, through=_maps))
    return cases


tapped = Exercise(
    "tapped",
    "one map a name, a list in the order of the names",
    "what named layers give on the way, in the order asked for; and no hook stays behind",
    right=_tapped,
    cases=[
        Case(
            _Small(1),
            ["stem", "blocks.0", "blocks.1"],
            torch.linspace(0, 1, 3 * 8 * 8).view(1, 3, 8, 8),
            through=_maps,
            says="Asked for stem, blocks.0 and blocks.1 of a small network.",
        ),
        Case(
            _Small(2),
            ["blocks.2.act", "blocks.0.conv", "stem"],
            torch.linspace(0, 1, 2 * 3 * 8 * 12).view(2, 3, 8, 12),
            through=_maps,
            says="Asked for blocks.2.act, blocks.0.conv and stem: the deepest first.",
        ),
    ],
    drawn=_drawn_taps,
    mistakes={
        "{name} gives the maps in the order in which the layers run: the order of `names` is "
        "asked for.": _at_names(lambda maps, order, names: [maps[name][1] for name in order]),
        "{name} gives what each layer is *given*: a hook is called with (layer, given, made), and "
        "`made` is what it gives.": _at_names(
            lambda maps, order, names: [maps[name][0] for name in names]
        ),
        "{name} gives the network's last output for every name: keep what the hook is called "
        "with.": _at_names(lambda maps, order, names: [maps[""][1] for _ in names]),
        "{name} gives the same map for every name, that of the last layer: a function made in a "
        "loop looks up the loop's variable when it runs, and then the loop is over. Bind it: "
        "name=name.": (_at_names(lambda maps, order, names: [maps[order[-1]][1] for _ in names])),
        "{name} turns the order of the names round.": _at_names(
            lambda maps, order, names: [maps[name][1] for name in names[::-1]]
        ),
    },
    causes={
        r"no attribute '\w+\.": "a dotted name leads through several modules: "
        "net.get_submodule(name) goes the way",
        r"^'[\w.]+'$": "no map was kept under a name that was asked for. A function made in a loop "
        "looks up the loop's variable when it runs, and then the loop is over: bind it, name=name. "
        "And the network must have run before the maps are read",
        r"positional arguments? but 3 were given|takes \d positional": "a hook is called with "
        "three arguments: the layer, what it is given (a tuple), what it gives",
    },
)

# --- what frozen means ---------------------------------------------------------------------------


class _StaysAsItIs(nn.Module):
    """The reference: the encoder is hidden from train(), and asks for no gradient."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.inside = encoder.eval()
        for weight in encoder.parameters():
            weight.requires_grad = False

    def train(self, mode: bool = True):
        self.training = mode
        return self

    def forward(self, x):
        return self.inside(x)


def _encoder(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


def _life(answer: Callable, encoder: nn.Module, seed: int) -> list[float]:
    """Return what is left of frozen after two steps of a training of the whole network.

    Parameters that ask for a gradient; how far the running statistics, and the weights, have moved;
    how far the output in training is from that in eval mode; layers behind it that do not train.
    """
    noise = np.random.default_rng(seed).normal(1, 2, (4, 3, 6, 6))
    images = torch.from_numpy(noise.astype(np.float32))
    wanted = encoder.eval()(images).detach()
    encoder.train()
    before = [value.clone() for value in encoder.state_dict().values()]
    frozen = answer(encoder)
    require(
        isinstance(frozen, nn.Module),
        f"Frozen makes a {type(frozen).__name__}; it must be a class Frozen(nn.Module).",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whole = nn.Sequential(frozen, nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))
    whole.train()
    require(
        frozen.train() is frozen,
        "Frozen.train returns no module: as that of nn.Module it must `return self`, for "
        "`net.train().to(device)` and the like.",
    )
    moves = sum(weight.numel() for weight in frozen.parameters() if weight.requires_grad)
    learnt = [weight for weight in whole.parameters() if weight.requires_grad]
    step = torch.optim.SGD(learnt, lr=0.1, weight_decay=0.1)
    for _ in range(2):
        made = frozen(images)
        require(
            isinstance(made, torch.Tensor) and made.shape == wanted.shape,
            "Frozen(encoder)(x) must give what encoder(x) gives.",
        )
        step.zero_grad()
        whole(images).square().mean().backward()
        step.step()
    after = encoder.state_dict()
    apart = {
        name: float((after[name] - was).abs().max())
        for name, was in zip(after, before, strict=True)
    }
    statistics = max(value for name, value in apart.items() if "running" in name)
    weights = max(value for name, value in apart.items() if name.endswith(("weight", "bias")))
    output = float((frozen(images) - wanted).detach().abs().max())
    asleep = sum(not layer.training for layer in whole[1:])
    return [moves, statistics, weights, output, asleep]


class _WeightsOnly(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(False)

    def forward(self, x):
        return self.encoder(x)


class _ModeOnly(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def train(self, mode=True):
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, x):
        return self.encoder(x)


class _NoGradOnly(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder.eval()

    def forward(self, x):
        with torch.no_grad():
            return self.encoder(x)


class _ModeAndNoGrad(_ModeOnly):
    def forward(self, x):
        with torch.no_grad():
            return self.encoder(x)


class _Nothing(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x):
        return self.encoder(x)


class _NormsLearn(_ModeOnly):
    def __init__(self, encoder):
        super().__init__(encoder)
        for layer in encoder.modules():
            if not isinstance(layer, nn.BatchNorm2d):
                for weight in layer.parameters(recurse=False):
                    weight.requires_grad_(False)


class _NoStatistics(_WeightsOnly):
    def __init__(self, encoder):
        super().__init__(encoder)
        for layer in encoder.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.track_running_stats = False
                layer.momentum = 0.0


def _drawn_encoders(rng: np.random.Generator) -> list[Case]:
    return [Case(_encoder(int(rng.integers(2**31))), int(rng.integers(2**31)), through=_life)]


frozen = Exercise(
    "Frozen",
    "five numbers, as the lesson's table has them",
    "no weight asks for a gradient, no statistic follows a batch, whatever train() says",
    right=_StaysAsItIs,
    cases=[
        Case(
            _encoder(3),
            0,
            through=_life,
            says="After two steps of the whole network: parameters of the encoder that ask for a "
            "gradient, how far its running statistics moved, how far its weights moved, how far "
            "its output in training is from that in eval mode, layers behind it that do not train. "
            "Wanted {wanted}, found {got}.",
        )
    ],
    drawn=_drawn_encoders,
    mistakes={
        "{name} stops the weights, but not batch norm's running mean and variance. They are no "
        "weights, and in train mode they follow every batch; fit calls train() for each epoch, so "
        "eval() in __init__ does not last. Override train().": _WeightsOnly,
        "{name} keeps the encoder in eval mode, but its weights still ask for a gradient, and "
        "learn: requires_grad_(False).": _ModeOnly,
        "{name} computes without gradients, but batch norm's running mean and variance follow "
        "every batch: train() of the whole network sets the encoder to train mode, too. And its "
        "weights still count as learning: requires_grad_(False).": _NoGradOnly,
        "{name} keeps the weights by no_grad alone: they count as learning still, and whoever "
        "takes no_grad out lets them. requires_grad_(False) says it of the "
        "weights.": _ModeAndNoGrad,
        "{name} freezes nothing: the encoder learns, and its statistics follow.": _Nothing,
        "{name} leaves batch norm's scales and shifts learning, as fastai does. Then what the "
        "encoder gives changes with each step, and cannot be kept.": _NormsLearn,
        "{name} takes each batch's own mean and variance: what an image gives then depends on the "
        "images beside it. In eval mode batch norm uses the running ones.": _NoStatistics,
    },
    causes={
        r"before Module\.__init__|super-class of type": "call super().__init__() first",
        r"recursion": "train calls itself: inside of it call super().train(mode), and .eval() on "
        "the encoder",
        r"takes 1 positional argument|unexpected keyword": "train is called with a mode: def "
        "train(self, mode=True)",
        r"does not require grad": "nothing behind the encoder learns any more: freeze the encoder "
        "alone",
    },
)

# --- the maps of a frozen encoder, computed once -------------------------------------------------


class _Seen(nn.Module):
    """A small encoder that gives two maps, and notes how it was called."""

    def __init__(self, seed: int):
        super().__init__()
        self.first, self.second = _encoder(seed), nn.MaxPool2d(2)
        with torch.no_grad():
            self.first[1].running_mean.fill_(0.1)
        self.batches: list[int] = []

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        require(
            x.ndim == 4 and x.shape[1] == 3,
            f"the encoder is given {tuple(x.shape)}: images are (B, 3, H, W), colour first.",
        )
        self.batches.append(len(x))
        one = self.first(x)
        return [one, self.second(one)]


def _cached(encoder: nn.Module, images: np.ndarray, batch_size: int = 16) -> list[torch.Tensor]:
    encoder.eval()
    kept = []
    with torch.inference_mode():
        for image in images:
            maps = encoder(torch.as_tensor(image / np.float32(255)).movedim(-1, 0)[None])
            kept.append([one[0].to(torch.float16) for one in maps])
    return [torch.stack(depth) for depth in zip(*kept, strict=True)]


def _kept(answer: Callable, encoder: _Seen, images: np.ndarray, batch_size: int) -> torch.Tensor:
    statistics = encoder.first[1].running_mean.clone()
    made = answer(encoder, images, batch_size)
    require(
        isinstance(made, list | tuple) and all(isinstance(one, torch.Tensor) for one in made),
        f"cached must return a list of tensors, one a depth; it returned {_kind_of(made)}.",
    )
    require(
        len(made) == 2,
        f"cached returns {len(made)} tensors; the encoder gives 2 maps an image: wanted is one "
        "tensor a depth, with the maps of all images in it (torch.cat).",
    )
    require(
        not any(one.requires_grad for one in made),
        "what cached keeps hangs on the encoder: with each map autograd keeps all that led to it, "
        "and memory runs out. Compute under torch.no_grad().",
    )
    require(
        max(encoder.batches, default=0) <= batch_size,
        f"the encoder is given {max(encoder.batches, default=0)} images at once, and batch_size is "
        f"{batch_size}: of thousands that is more than memory holds.",
    )
    require(
        sum(encoder.batches) <= len(images),
        f"the encoder is given {sum(encoder.batches)} images, and there are {len(images)}: each is "
        "computed once.",
    )
    require(
        torch.equal(statistics, encoder.first[1].running_mean),
        "cached has moved batch norm's running mean: encoder.eval() before it computes.",
    )
    require(
        all(one.dtype == torch.float16 for one in made),
        f"cached keeps {str(made[0].dtype).removeprefix('torch.')}; keep float16, .half(): half "
        "the memory, and three digits are enough.",
    )
    return torch.cat([one.float().flatten() for one in made])


def _caching(change: Callable) -> Callable:
    """Return a mistake: ``change(encoder in eval mode, images (N, 3, H, W), batch size)``."""

    def mistake(encoder, images, batch_size=16):
        encoder.eval()
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            parts = change(encoder, x, batch_size)
        return [torch.cat(depth).half() for depth in zip(*parts, strict=True)]

    return mistake


def _some_images(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


cached = Exercise(
    "cached",
    "one tensor a depth, (N, C, h, w) float16",
    "each image goes through the encoder once, in eval mode and without gradients",
    right=_cached,
    cases=[
        Case(_Seen(4), _some_images(0, 6), 3, through=_kept, says="Six images, three at a time."),
        Case(
            _Seen(5),
            _some_images(1, 7),
            3,
            through=_kept,
            says="Seven images, three at a time: the last batch has one.",
        ),
    ],
    drawn=lambda rng: [
        Case(
            _Seen(int(rng.integers(2**31))),
            _some_images(int(rng.integers(2**31)), 9),
            4,
            through=_kept,
        )
    ],
    mistakes={
        "the images were not divided by 255: the encoder takes them in [0, 1].": _caching(
            lambda encoder, x, size: [encoder(part * 255) for part in x.split(size)]
        ),
        "the last batch is missing, which is smaller: keep what is left over, too.": _caching(
            lambda encoder, x, size: [encoder(part) for part in x.split(size) if len(part) == size]
        ),
        "only the last batch was kept: collect the maps of all batches, and join them at the "
        "end.": (_caching(lambda encoder, x, size: [encoder(x.split(size)[-1])])),
        "only the first batch was kept: collect the maps of all batches.": _caching(
            lambda encoder, x, size: [encoder(x[:size])]
        ),
        "the images are in another order than they were given in: map k must be that of image k.": (
            _caching(lambda encoder, x, size: [encoder(part) for part in x.flip(0).split(size)])
        ),
        "height and width have changed places: permute(0, 3, 1, 2) takes (N, H, W, 3) to "
        "(N, 3, H, W).": _caching(
            lambda encoder, x, size: [encoder(part) for part in x.mT.split(size)]
        ),
    },
    same=partial(is_same, atol=4e-3),
    causes={
        r"expected input.*channels": "images are (N, H, W, 3), and the encoder takes (B, 3, H, W): "
        "permute(0, 3, 1, 2)",
        r"[Bb]yte|uint8|Input type": "images are uint8, and the encoder takes floats in [0, 1]: "
        ".float() / 255",
    },
)

# --- what a training costs -----------------------------------------------------------------------


def _work(encoder: float, decoder: float, images: int, epochs: int) -> tuple[float, float, float]:
    steps = images * epochs
    return (
        3 * (encoder + decoder) * steps,
        (encoder + 3 * decoder) * steps,
        encoder * images + 3 * decoder * steps,
    )


work = Exercise(
    "work",
    "three numbers: all learns, encoder frozen, its maps kept",
    "what learns is computed three times, what is frozen once, what is kept once in all",
    right=_work,
    cases=[
        Case(
            5,
            2,
            10,
            4,
            says="An encoder of 5, a decoder of 2, 10 images, 4 epochs: wanted {wanted}, you give "
            "{got}.",
        ),
        Case(
            7,
            1,
            3,
            1,
            says="In a single epoch nothing is saved by keeping maps: wanted {wanted}, you give "
            "{got}.",
        ),
    ],
    drawn=lambda rng: [Case(*map(int, rng.integers(2, 99, 4)))],
    mistakes={
        "{name} counts twice what learns: forward is one, and backward about two, one for the "
        "gradient of the layer's input and one for that of its weights. Three together.": (
            lambda e, d, n, t: (2 * (e + d) * n * t, (e + 2 * d) * n * t, e * n + 2 * d * n * t)
        ),
        "{name} forgets backward: what learns costs three forwards.": (
            lambda e, d, n, t: ((e + d) * n * t, (e + d) * n * t, e * n + d * n * t)
        ),
        "{name} sends the gradient through the frozen encoder, too: it ends at the decoder's first "
        "layer, for nothing below asks for it.": (
            lambda e, d, n, t: (3 * (e + d) * n * t, 3 * (e + d) * n * t, e * n + 3 * d * n * t)
        ),
        "{name} sends half of backward through the frozen encoder: neither its weights nor "
        "anything before it asks for a gradient, so none goes back through it. Forward only, 1.": (
            lambda e, d, n, t: (3 * (e + d) * n * t, (2 * e + 3 * d) * n * t, e * n + 3 * d * n * t)
        ),
        "{name} sends half of backward through the frozen encoder, and where its maps are kept, "
        "too: nothing before the decoder asks for a gradient. Forward only, 1.": (
            lambda e, d, n, t: (
                3 * (e + d) * n * t,
                (2 * e + 3 * d) * n * t,
                2 * e * n + 3 * d * n * t,
            )
        ),
        "{name} forgets that a frozen encoder is still computed, forward, in each epoch.": (
            lambda e, d, n, t: (3 * (e + d) * n * t, 3 * d * n * t, e * n + 3 * d * n * t)
        ),
        "{name} forgets that maps that are kept must be computed once.": (
            lambda e, d, n, t: (3 * (e + d) * n * t, (e + 3 * d) * n * t, 3 * d * n * t)
        ),
        "{name} computes one image's maps; there are as many to keep as images.": (
            lambda e, d, n, t: (3 * (e + d) * n * t, (e + 3 * d) * n * t, e + 3 * d * n * t)
        ),
        "{name} computes maps that are kept in each epoch again.": (
            lambda e, d, n, t: (3 * (e + d) * n * t, *[(e + 3 * d) * n * t] * 2)
        ),
        "{name} keeps the maps, and then forgets the epochs: the decoder runs in each.": (
            lambda e, d, n, t: (3 * (e + d) * n * t, (e + 3 * d) * n * t, (e + 3 * d) * n)
        ),
        "{name} counts one image: multiply by their number.": (
            lambda e, d, n, t: (3 * (e + d) * t, (e + 3 * d) * t, e + 3 * d * t)
        ),
        "{name} counts one epoch.": (
            lambda e, d, n, t: (3 * (e + d) * n, (e + 3 * d) * n, (e + 3 * d) * n)
        ),
        "{name} gives the three from the cheapest to the dearest: turn them round.": (
            lambda e, d, n, t: _work(e, d, n, t)[::-1]
        ),
    },
)

# --- a rate for each part ------------------------------------------------------------------------


def _groups(answer: Callable, parts: list[nn.Module], rate: float, factor: float) -> np.ndarray:
    """Return of each group, as an optimizer reads it, its parameters and how slowly it learns."""
    made = answer(parts, rate, factor)
    require(
        isinstance(made, list | tuple) and all(isinstance(group, dict) for group in made),
        f"rate_groups must return a list of dictionaries; it returned {_kind_of(made)}.",
    )
    unknown = sorted({key for group in made for key in group} - {"params", "lr"})
    require(
        not unknown and all("params" in group for group in made),
        'each group is {"params": ..., "lr": ...}, for an optimizer knows no other names'
        + (f"; found {unknown[0]!r}." if unknown else "."),
    )
    groups = torch.optim.SGD(made, lr=-0.0).param_groups
    sizes = [sum(weight.numel() for weight in group["params"]) for group in groups]
    with np.errstate(divide="ignore"):
        return np.array([sizes, np.divide(rate, [float(group["lr"]) for group in groups])]).T


def _parts(*channels: int) -> list[nn.Module]:
    pairs = zip((3, *channels[:-1]), channels, strict=True)
    return [nn.Sequential(nn.Conv2d(i, o, 1), nn.BatchNorm2d(o)) for i, o in pairs]


def _rates(change: Callable) -> Callable:
    """Return a mistake: ``change(rate, factor, k, of how many)`` is the rate of part k."""
    return lambda parts, rate, factor: [
        {"params": part.parameters(), "lr": change(rate, factor, k, len(parts))}
        for k, part in enumerate(parts)
    ]


rate_groups = Exercise(
    "rate_groups",
    "a list of dictionaries with params and lr, one a part",
    "the last part learns at the full rate, each one before it `factor` times slower",
    right=_rates(lambda rate, factor, k, n: rate * factor ** (k - n + 1)),
    cases=[
        Case(
            _parts(2, 4, 5),
            0.1,
            10,
            through=_groups,
            says="Three parts, rate 0.1, factor 10. As rows of (parameters, times slower than 0.1) "
            "wanted {wanted}; you give {got}.",
        ),
        Case(
            _parts(3, 2, 6, 4),
            0.08,
            2,
            through=_groups,
            says="Four parts, rate 0.08, factor 2. As rows of (parameters, times slower than 0.08) "
            "wanted {wanted}; you give {got}.",
        ),
    ],
    drawn=lambda rng: [
        Case(
            _parts(*rng.choice(range(2, 12), 5, replace=False).tolist()),
            float(rng.uniform(0.1, 1)),
            float(rng.uniform(1.5, 4)),
            through=_groups,
        )
    ],
    mistakes={
        "{name} gives the first part, the one at the image, the full rate: it is the one to be "
        "careful with.": _rates(lambda rate, factor, k, n: rate / factor**k),
        "{name} makes the rates grow above the full one: that is for the last part, and those "
        "before it are smaller.": _rates(lambda rate, factor, k, n: rate * factor**k),
        "{name} multiplies where it must divide: the nearer to the image, the smaller the rate.": (
            _rates(lambda rate, factor, k, n: rate * factor ** (n - 1 - k))
        ),
        "{name} lists the parts from the last to the first: keep the order that they are given "
        "in.": lambda parts, rate, factor: _rates(lambda r, f, k, n: r / f**k)(
            parts[::-1], rate, factor
        ),
        "{name} slows the last part, too: it gets the full rate, so nothing is divided there.": (
            _rates(lambda rate, factor, k, n: rate * factor ** (k - n))
        ),
        "{name} gives all parts the full rate.": _rates(lambda rate, factor, k, n: rate),
        "{name} slows all parts before the last alike: each one once more than the one after it.": (
            _rates(lambda rate, factor, k, n: rate if k == n - 1 else rate / factor)
        ),
        "{name} divides by factor times the distance; each part is `factor` times slower than the "
        "next, so divide by a power.": _rates(
            lambda rate, factor, k, n: rate / (factor * (n - 1 - k)) if k < n - 1 else rate
        ),
        "{name} gives a rate under no name, so the optimizer takes its own for all: the key is "
        "`lr`.": (lambda parts, rate, factor: [{"params": part.parameters()} for part in parts]),
        "{name} forgets the last part, which learns at the full rate.": (
            lambda parts, rate, factor: _rates(lambda r, f, k, n: r * f ** (k - n))(
                parts[:-1], rate, factor
            )
        ),
    },
    same=lambda got, wanted: (
        np.shape(got) == np.shape(wanted) and np.allclose(got, wanted, rtol=1e-4, atol=0)
    ),
    causes={
        r"more than one parameter group": "a weight stands in two groups: each part's weights "
        "belong to its own alone",
        r"can only optimize Tensors|optimizer can only|must be an iterable": "params are weights: "
        "part.parameters(), not the part",
    },
)

# --- is it the method, or the seed? --------------------------------------------------------------


def _interval(scores) -> tuple[float, float]:
    from scipy.stats import t

    scores = np.asarray(scores, float)
    return t.interval(
        0.95, len(scores) - 1, loc=scores.mean(), scale=scores.std(ddof=1) / math.sqrt(len(scores))
    )


def _spread(factor: Callable, ddof: int = 1, root: bool = True) -> Callable:
    """Return a mistake: the mean plus and minus a spread times ``factor(how many)``."""

    def mistake(scores):
        scores = np.asarray(scores, float)
        half = factor(len(scores)) * scores.std(ddof=ddof) / (math.sqrt(len(scores)) if root else 1)
        return scores.mean() - half, scores.mean() + half

    return mistake


def _t(freedom: int, q: float = 0.975) -> float:
    from scipy.stats import t

    return float(t.ppf(q, freedom))


interval = Exercise(
    "interval",
    "two numbers, the lower end and the upper end",
    "mean and t times the standard error; with few seeds it is wide",
    right=_interval,
    cases=[
        Case(
            [0.50, 0.56, 0.62],
            says="Of 0.50, 0.56, 0.62 the mean is 0.56, the deviation 0.06, t 4.303: wanted "
            "{wanted}, you give {got}.",
        ),
        Case([0.7, 0.72, 0.71, 0.75, 0.69], says="Of five scores wanted {wanted}, you give {got}."),
    ],
    drawn=lambda rng: [Case(rng.uniform(0.3, 0.8, int(n)).tolist()) for n in (3, 4, 7)],
    mistakes={
        "{name} takes 1.96, which is right for very many scores. With few the deviation itself is "
        "uncertain, and t is larger: t.ppf(0.975, n - 1).": _spread(lambda n: 1.96),
        "{name} takes t as 4.3: that is rounded, and for three scores only. "
        "scipy.stats.t.ppf(0.975, n - 1) gives it for any number.": _spread(lambda n: 4.3),
        "{name} takes t as 4.303: that is rounded, and for three scores only. "
        "scipy.stats.t.ppf(0.975, n - 1) gives it for any number.": _spread(lambda n: 4.303),
        "{name} takes the t of three scores for any number of them: n - 1 degrees of freedom, of "
        "these scores.": _spread(lambda n: _t(2)),
        "{name} divides by n for the deviation; it is n - 1 (ddof=1): the mean was taken from the "
        "same scores.": _spread(lambda n: _t(n - 1), ddof=0),
        "{name} is about a single score: the mean of n is more certain, by the root of n.": _spread(
            lambda n: _t(n - 1), root=False
        ),
        "{name} leaves 5 % on *each* side: 95 % between means 2.5 % on each, t.ppf(0.975, n - "
        "1).": (_spread(lambda n: _t(n - 1, 0.95))),
        "{name} takes t for n degrees of freedom; one is used up by the mean: n - 1.": _spread(
            lambda n: _t(n)
        ),
        "{name} is mean plus and minus one standard error: about 68 %, and with few scores less.": (
            _spread(lambda n: 1)
        ),
        "{name} is mean plus and minus one deviation.": _spread(lambda n: 1, root=False),
        "{name} is the lowest and the highest score: with more seeds that can only grow.": (
            lambda scores: (min(scores), max(scores))
        ),
        "{name} gives mean and half the width: the two ends are wanted.": (
            lambda scores: (
                np.mean(scores),
                _t(len(scores) - 1) * np.std(scores, ddof=1) / math.sqrt(len(scores)),
            )
        ),
    },
)
