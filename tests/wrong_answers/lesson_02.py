"""Lesson 02: right answers of other kinds, and wrong ones that are known by no value."""

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from course_utils.checks import lesson_02 as checks
from course_utils.data import VOID

SQUARE = np.ones((3, 3), bool)


def bincount(truth, prediction, num_classes, kind=np.int64, minlength=True):
    labelled = truth != VOID
    pairs = truth[labelled].astype(kind) * num_classes + prediction[labelled]
    counts = np.bincount(pairs, minlength=num_classes**2 if minlength else 0)
    return counts.reshape(num_classes, num_classes)


def class_by_class(truth, prediction, num_classes):
    classes = range(num_classes)
    return np.array([[((truth == t) & (prediction == p)).sum() for p in classes] for t in classes])


def of_seen_classes(truth, prediction, num_classes):
    seen = np.unique([truth[truth != VOID], prediction[truth != VOID]])
    return bincount(truth, prediction, num_classes)[np.ix_(seen, seen)]


@np.errstate(invalid="ignore")
def iou(m):
    return np.diag(m) / (m.sum(0) + m.sum(1) - np.diag(m))


def iou_in_a_loop(m):
    unions = [m[c].sum() + m[:, c].sum() - m[c, c] for c in range(len(m))]
    return [m[c, c] / union if union else np.nan for c, union in enumerate(unions)]


def per_image(matrices, absent):
    fill = {"skip": np.nan, "one": 1.0, "zero": 0.0}[absent]
    return np.nanmean(np.nan_to_num([iou(m) for m in matrices], nan=fill), axis=1).mean()


def per_image_in_a_loop(matrices, absent):
    means = []
    for m in matrices:
        values = iou(m)
        if absent != "skip":
            values[np.isnan(values)] = absent == "one"
        means.append(values[~np.isnan(values)].mean())
    return sum(means) / len(means)


def averages(m):
    accuracy = np.trace(m) / m.sum()
    return accuracy / (2 - accuracy), np.nansum(iou(m) * m.sum(1)) / m.sum()


def pair(a, b):
    return lambda: (np.array(a, float), np.array(b, float))


def exchanged(one, other):
    """Return the right answer with two definitions exchanged."""
    names = {one: other, other: one}
    return lambda: {letter: names.get(name, name) for letter, name in LETTERS.items()}


LETTERS = checks.match_definitions.right()


def boundary(mask, width=1):
    return mask & ~ndimage.binary_erosion(mask, SQUARE, iterations=width)


def boundary_by_steps(mask, width):
    core = np.pad(mask, 1)
    for _ in range(width):
        core = ndimage.minimum_filter(core, 3)
    return mask & ~core[1:-1, 1:-1]


def boundary_of_squares(mask, width):
    size = min(mask.shape)
    return np.pad(boundary(mask[:size, :size], width), [(0, side - size) for side in mask.shape])


def f1(truth, prediction, tolerance, contour=boundary):
    t, p = contour(truth), contour(prediction)
    if not (t.any() and p.any()):
        return 0.0 if t.any() or p.any() else np.nan
    recall = (ndimage.distance_transform_edt(~p)[t] <= tolerance).mean()
    precision = (ndimage.distance_transform_edt(~t)[p] <= tolerance).mean()
    return 2 / (1 / precision + 1 / recall) if recall else 0.0


def hausdorff(truth, prediction):
    t, p = boundary(truth), boundary(prediction)
    if not (t.any() and p.any()):
        return np.inf if t.any() or p.any() else np.nan
    to_t, to_p = ndimage.distance_transform_edt(~t), ndimage.distance_transform_edt(~p)
    return max(to_t[p].max(), to_p[t].max())


def by_pairs(score, one_empty):
    """Return a score of the distances between all pairs of contour pixels."""

    def measured(truth, prediction, *tolerance):
        a, b = np.argwhere(boundary(truth)), np.argwhere(boundary(prediction))
        if len(a) == 0 or len(b) == 0:
            return np.nan if len(a) == len(b) else one_empty
        far = np.sqrt(((a[:, None] - b) ** 2).sum(2))
        return score(far.min(1), far.min(0), *tolerance)

    return measured


def mean_iou(matrices, mean=np.nanmean):
    hit = np.diagonal(matrices, axis1=-2, axis2=-1)
    return mean(hit / (matrices.sum(-1) + matrices.sum(-2) - hit), axis=-1)


def paired(a, b, draws, seed, mean=np.nanmean):
    drawn = np.random.default_rng(seed).integers(0, len(a), (draws, len(a)))
    return mean_iou(a[drawn].sum(1), mean) - mean_iou(b[drawn].sum(1), mean)


def paired_in_a_loop(a, b, draws, seed):
    rng = np.random.default_rng(seed)
    differences = []
    for _ in range(draws):
        drawn = rng.choice(len(a), len(a))
        differences.append(mean_iou(a[drawn].sum(0)) - mean_iou(b[drawn].sum(0)))
    return np.array(differences)


def permuted(a, b, draws, seed):
    drawn = np.random.default_rng(seed).permuted(np.tile(np.arange(len(a)), (draws, 1)), axis=1)
    return mean_iou(a[drawn].sum(1)) - mean_iou(b[drawn].sum(1))


def drawn_once(a, b, draws, seed):
    """Return the differences of who makes the generator anew for each draw."""
    drawn = np.random.default_rng(seed).integers(0, len(a), len(a))
    return np.full(draws, mean_iou(a[drawn].sum(0)) - mean_iou(b[drawn].sum(0)))


def soft_dice(z, t, smooth=1.0, detach=False, one_hot=F.one_hot):
    p, t, dims = z.softmax(1), one_hot(t, z.shape[1]).permute(0, 3, 1, 2), (0, 2, 3)
    size = (p.detach() if detach else p).sum(dims) + t.sum(dims)
    return 1 - ((2 * (p * t).sum(dims) + smooth) / (size + smooth)).mean()


def soft_dice_in_a_loop(z, t, smooth=1.0):
    losses = []
    for c in range(z.shape[1]):
        p, true = F.softmax(z, 1)[:, c], t == c
        losses.append(1 - (2 * p[true].sum() + smooth) / (p.sum() + true.sum() + smooth))
    return torch.stack(losses).mean()


def focal(z, t, gamma, detach=False, ignore=VOID):
    losses = F.cross_entropy(z, t, ignore_index=ignore, reduction="none")[t != VOID]
    p = torch.exp(-losses)
    return ((1 - (p.detach() if detach else p)) ** gamma * losses).mean()


def focal_by_gather(z, t, gamma, log=lambda z: z.log_softmax(1)):
    labelled = t != VOID
    log_p = log(z).gather(1, torch.where(labelled, t, 0)[:, None])[:, 0]
    return ((-((1 - log_p.exp()) ** gamma) * log_p) * labelled).sum() / labelled.sum()


RIGHT = {
    "confusion_matrix": [bincount, class_by_class],
    "iou_per_class": [iou, iou_in_a_loop],
    "dice_per_class": [
        lambda m: 2 * np.diag(m) / (m.sum(0) + m.sum(1)),
        lambda m: 2 * iou(m) / (1 + iou(m)),
    ],
    "swapping_models": [
        pair([0.95, 0.10], [0.5, 0.5]),
        lambda: ([1.0, 1.0, 0.0], [0.6, 0.6, 0.6]),
    ],
    "mean_iou_per_image": [per_image, per_image_in_a_loop],
    "pixel_averages": [averages, lambda m: np.array(averages(m))],
    "match_definitions": [lambda: dict(LETTERS), lambda: dict(reversed(LETTERS.items()))],
    "inner_boundary": [boundary, boundary_by_steps],
    "boundary_f1": [
        f1,
        by_pairs(
            lambda t, p, d: 2 / (1 / max((t <= d).mean(), 1e-12) + 1 / max((p <= d).mean(), 1e-12)),
            0.0,
        ),
    ],
    "hausdorff_distance": [hausdorff, by_pairs(lambda t, p: max(t.max(), p.max()), np.inf)],
    "bootstrap_differences": [paired, paired_in_a_loop],
    "soft_dice_loss": [soft_dice, soft_dice_in_a_loop],
    "focal_loss": [focal, focal_by_gather],
}
WRONG = {
    "confusion_matrix": {
        "2 of 4 pixels are void": lambda t, p, c: np.bincount(
            (t.astype(int) * c + p).ravel(), minlength=c**2
        ).reshape(c, c),
        r"one row of numbers.*flatten both with .ravel\(\)": lambda t, p, c: np.bincount(
            t.astype(int) * c + p, minlength=c**2
        ).reshape(c, c),
        "one answer, but here are many pixels": lambda t, p, c: [
            [sum(1 for a, b in zip(t, p, strict=True) if a == i and b == j) for j in range(c)]
            for i in range(c)
        ],
        "minlength": lambda t, p, c: bincount(t, p, c, minlength=False),
        "classes 1 to 3 do not occur": of_seen_classes,
        "uint8": lambda t, p, c: bincount(t, p, c, np.uint8),
        "whole numbers": lambda t, p, c: bincount(t, p, c).astype(float),
    },
    "iou_per_class": {"one value a class": lambda m: np.nanmean(iou(m))},
    "swapping_models": {
        "the other way": pair([0.5, 0.5], [0.95, 0.1]),
        "does not swap": pair([0.9, 0.8], [0.5, 0.5]),
        "mean IoU must prefer A": pair([0.51, 0.45], [0.5, 0.5]),
        "one image": pair([0.6], [0.5]),
        r"contains 100\.0: .*not percent": pair([100, 10], [50, 50]),
        "none may be NaN": pair([0.9, np.nan], [0.5, 0.5]),
        "same images": pair([0.9, 0.1, 0.2], [0.5, 0.5]),
        "two arrays": lambda: np.array([0.9, 0.1, 0.5]),
        "no array of numbers": lambda: (["a"], ["b"]),
    },
    "mean_iou_per_image": {
        "one number": lambda m, absent: np.full(len(m), per_image(m, absent)),
        r"2-d\. It was .*call it for each image": lambda m, absent: np.diag(m),
    },
    "pixel_averages": {
        "return two numbers": lambda m: averages(m)[0],
        "no array of numbers": lambda m: (averages(m)[0], iou(m)),
    },
    "match_definitions": {
        "'data set' has another letter .*sum": exchanged("data set", "per image, skip"),
        "largest|smallest": exchanged("per image, one", "per image, zero"),
        r"acc / \(2 - acc\)": exchanged("micro", "frequency weighted"),
        "void pixel": exchanged("void as a class", "mean Dice"),
        "twice": lambda: dict.fromkeys(LETTERS, "micro"),
        "wrong way round": lambda: {name: letter for letter, name in LETTERS.items()},
        "says nothing about": lambda: {"A": "micro"},
        "is no definition": lambda: LETTERS | {"A": ["accuracy"]},
        "must return a dict": lambda: list(LETTERS.values()),
    },
    "inner_boundary": {
        "bool mask": lambda m, w: boundary(m, w).astype(int),
        "12 x 20": boundary_of_squares,
        "TypeError": lambda m, w: m - ndimage.binary_erosion(m),
    },
    "boundary_f1": {
        "two L shapes": lambda t, p, d: f1(t, p, d, lambda m: m & ~ndimage.binary_erosion(m)),
        "expected 0": lambda t, p, d: max(f1(t, p, d), 0.5),
    },
    "hausdorff_distance": {"return one number": lambda t, p: np.full(3, hausdorff(t, p))},
    "bootstrap_differences": {
        "the same difference.*a permutation": permuted,
        "make the generator once": drawn_once,
        "np.nanmean": lambda a, b, n, s: paired(a, b, n, s, np.mean),
        "from call to call": lambda a, b, n, s: paired(a, b, n, None),
        "does not use its seed": lambda a, b, n, s: paired(a, b, n, 0),
        "every draw's difference": lambda a, b, n, s: np.percentile(paired(a, b, n, s), [3, 97]),
    },
    "soft_dice_loss": {
        r"permute\(0, 3, 1, 2\)": (
            lambda z, t, smooth=1.0: soft_dice(
                z, t, smooth, one_hot=lambda t, c: F.one_hot(t, c).permute(0, 2, 3, 1)
            )
        ),
        r"other shapes.*F.one_hot\(target, logits\.shape\[1\]\)": (
            lambda z, t, smooth=1.0: soft_dice(z, t, smooth, one_hot=lambda t, _: F.one_hot(t))
        ),
        "reaches the logits": (
            lambda z, t, smooth=1.0: torch.tensor(
                float(soft_dice(z, t, smooth)), requires_grad=True
            )
        ),
        "a part of it is cut off": (lambda z, t, smooth=1.0: soft_dice(z, t, smooth, detach=True)),
        "no gradient": lambda z, t, smooth=1.0: soft_dice(z, t, smooth).detach(),
        "must return a tensor": lambda z, t, smooth=1.0: soft_dice(z, t, smooth).item(),
    },
    "focal_loss": {
        "a part of it is cut off": lambda z, t, gamma: focal(z, t, gamma, detach=True),
        "255 is no class": lambda z, t, gamma: focal(z, t, gamma, ignore=-100),
        "underflows": lambda z, t, gamma: focal_by_gather(
            z, t, gamma, lambda z: (z.softmax(1) + 1e-8).log()
        ),
        "no gradient": lambda z, t, gamma: focal(z, t, gamma).detach(),
        "mean over the labelled": lambda z, t, gamma: F.cross_entropy(
            z, t, ignore_index=VOID, reduction="none"
        ),
    },
}
