"""Checks of lesson 08: pairs that move together, one class, augmentations that lie, pets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from course_utils.checks import require
from course_utils.checks.exercise import Case, Exercise, as_array, as_kind

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
    """Return the Dice of batches that are added one after the other, of one object of two."""
    other, dice = answer(), answer()
    other.add(_SCORES, _PERSON)
    for logits, masks in batches:
        require(
            dice.add(logits.clone(), masks.clone()) is None or hasattr(dice, "value"),
            "Dice has no value().",
        )
    value = dice.value() if callable(dice.value) else dice.value
    require(value is not None, "Dice.value() returns None: is its `return` missing?")
    again = dice.value() if callable(dice.value) else dice.value
    require(
        float(again) == float(value),
        "asked twice, Dice.value() gives two values: it must not change the counts.",
    )
    return float(value)


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
        return float(np.mean([float(answer(transform, mask)) for _ in range(8)]))


def _drawn_misaligned(rng: np.random.Generator) -> list[Case]:
    mask = torch.from_numpy(rng.integers(0, 5, (7, 9), dtype=np.uint8))
    return [
        Case(_PERHAPS, mask, int(rng.integers(1000)), through=_often),
        Case(_Kept(_TOGETHER), mask),
        Case(_Shifted(2, 2, 255), mask),
        Case(_Shifted(1, 2, 255), mask),
    ]


misaligned = Exercise(
    "misaligned",
    "one number from 0 to 1",
    "an image that is its own mask shows any step that the two do not take together",
    right=_misaligned,
    cases=[
        Case(_TOGETHER, _LABELS, says="This flip moves both: {wanted}; you give {got}."),
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
    ],
    drawn=_drawn_misaligned,
    mistakes={
        "{name} counts void pixels: no answer is right there. Leave them out.": (
            lambda transform, mask: _misaligned(transform, mask, keep=False)
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
            _NEW,
            _OLD,
            says="Each of these three has a twin, about ten grey values lighter here and darker "
            "there. Wanted {wanted}; you give {got}.",
        ),
    ],
    drawn=lambda rng: [Case(*_frames(rng)), Case(*_frames(rng, 4, 3))],
    mistakes={
        "{name} subtracts uint8 from uint8, which cannot be negative: 10 - 30 is 236. Turn them "
        "into float first.": _by(lambda one, other: np.abs(one - other).mean()),
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

# --- Pets, and what transfer buys ----------------------------------------------------------------
