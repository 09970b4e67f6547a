"""Lesson 01: other right answers, and wrong ones that a form, a property or a value refuses."""

from pathlib import Path

import nbformat
import numpy as np
import pywt
from scipy import ndimage as ndi
from skimage import filters
from skimage.feature import peak_local_max
from skimage.segmentation import flood, watershed

from course_utils.checks import lesson_01 as checks

NOTEBOOK = Path(__file__).parents[2] / "solutions" / "01_classical" / "01_classical.ipynb"
SOLUTION = {}  # the notebook's own functions
for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
    if cell.id == "imports" or ("### BEGIN SOLUTION\n" in cell.source and cell.id != "segment"):
        exec(compile(cell.source, cell.id, "exec"), SOLUTION)


def otsu_by_sums(counts):
    dark, grey = np.cumsum(counts) / counts.sum(), np.cumsum(counts * np.arange(256.0))
    gap, weight = grey[-1] * dark - grey, dark * (1 - dark) * counts.sum() ** 2
    return np.divide(gap**2, weight, out=np.zeros(256), where=dark * (1 - dark) > 1e-12)


def hysteresis_by_labels(strength, low, high):
    pieces, count = ndi.label(strength > low, np.ones((3, 3)))
    return (ndi.maximum(strength, pieces, range(count + 1)) > high)[pieces] & (pieces > 0)


def split_unsmoothed(mask, min_distance, dtype=int, first=1, turn=1, inside=True):
    distance, labels = ndi.distance_transform_edt(mask), ndi.label(mask)[0]
    peaks = peak_local_max(distance, min_distance, exclude_border=False, labels=labels)
    markers = np.zeros(mask.shape, dtype)
    markers[tuple(peaks.T[::turn])] = np.arange(first, len(peaks) + first)
    return watershed(-distance, markers, mask=mask if inside else None)


def breed_by_tournament(population, scores, rng, genes=int):
    pairs = rng.integers(0, len(population), (2, 2, len(population)))
    parents = population[np.where(scores[pairs[0]] > scores[pairs[1]], *pairs)]
    children = np.where(rng.random(population.shape) < 0.5, *parents)
    children += rng.integers(-5, 6, population.shape) * (rng.random(population.shape) < 0.2)
    children[0] = population[scores.argmax()]
    return np.sort(children.clip(0, 254), axis=1).astype(genes)


def breed_by_roulette(population, scores, rng):
    chosen = rng.choice(len(population), len(population), p=scores / scores.sum())
    chosen[0] = scores.argmax()
    return breed_by_tournament(population[chosen], scores[chosen], rng)


def force_from_means(image, inside):
    sides = [side if side.any() else ~side for side in (~inside, inside)]
    return np.subtract(*((image.astype(np.float32) - image[side].mean()) ** 2 for side in sides))


OTHERS = {
    "iou": lambda p, t: float(np.nan_to_num(np.float64((p & t).sum()) / (p | t).sum(), nan=1)),
    "between_class_variance": otsu_by_sums,
    "local_mask": lambda i, w, o: i - ndi.uniform_filter(i * 1.0, w, mode="nearest") > o,
    "sobel": lambda i: np.hypot(*(f(i / 2, i >= 0) for f in (filters.sobel_h, filters.sobel_v))),
    "hysteresis": hysteresis_by_labels,
    "grow": lambda i, s, t: flood(i.astype(float), s, connectivity=1, tolerance=t),
    "flood": lambda e, m: watershed(e, m).astype(int),
    "split_touching": split_unsmoothed,
    "texture_energy": lambda i, n, w: sum(
        ndi.uniform_filter(band**2, w)
        for band in pywt.swt2(i * 1.0, "haar", level=n, trim_approx=True)[1]
    ),
    "next_generation": breed_by_tournament,
    "region_force": force_from_means,
}
RIGHT = {name: [SOLUTION[name], other] for name, other in OTHERS.items()}

WRONG = {
    "iou": {
        "one number": lambda p, t: (p & t) / (p | t).sum(),
        "must be one number": lambda p, t: "0.4 of 1",
        "differ in length": lambda p, t: [[1], [1, 2]],
        "3 of 7": lambda p, t: round(SOLUTION["iou"](p, t), 2),
        "before you divide": lambda p, t: int((p & t).sum()) / int((p | t).sum()),
    },
    "between_class_variance": {
        r"\(256,\)": lambda c: otsu_by_sums(c)[:255],
        "whole curve": lambda c: float(otsu_by_sums(c).argmax()),
        "divides by zero": lambda c: np.where((v := otsu_by_sums(c)) == 0, np.nan, v),
    },
    "local_mask": {
        "a mask is bool": lambda i, w, o: ndi.uniform_filter(i.astype(float), w) + o,
        "mixed up": lambda i, w, o: (
            SOLUTION["local_mask"](i, w, o) & (np.arange(i.shape[1]) < len(i))
        ),
    },
    "sobel": {
        "shape": lambda i: SOLUTION["sobel"](i)[1:-1, 1:-1],
        "1, 2, 1": lambda i: np.hypot(*np.gradient(i.astype(float))),
        "outermost": lambda i: np.hypot(*(ndi.sobel(i.astype(float), axis) / 8 for axis in (0, 1))),
    },
    "hysteresis": {
        "swapped": lambda s, lo, hi: SOLUTION["hysteresis"](s, hi, lo),
        "corners": filters.apply_hysteresis_threshold,
    },
    "grow": {
        "row, column": lambda i, s, t: SOLUTION["grow"](i, s[::-1], t),
        "winding": lambda i, s, t: checks.reached(s, checks.alike(i, s, t), steps=30),
    },
    "flood": {
        "lowest pixel": lambda e, m: SOLUTION["flood"](-e, m),
        "no label": lambda e, m: watershed(e, m, mask=e <= 5),
        "labels are not those": lambda e, m: ndi.label(watershed(e, m))[0],
        "keep their own": lambda e, m: np.where(np.roll(m, 1), np.roll(m, 1), watershed(e, m)),
        "labels are integers": lambda e, m: watershed(e, m) * 1.0,
    },
    "split_touching": {
        "mask=mask": lambda m, d: split_unsmoothed(m, d, inside=False),
        "integer markers": lambda m, d: split_unsmoothed(m, d, dtype=float),
        "number from 1": lambda m, d: split_unsmoothed(m, d, first=0),
        "rows and columns": lambda m, d: split_unsmoothed(m, d, turn=-1),
        "flood them": lambda m, d: checks.tops(m, d),
        "returns a mask": lambda m, d: split_unsmoothed(m, d) > 0,
        "tuple": lambda m, d: ndi.label(m),
    },
    "texture_energy": {
        "shape": lambda i, n, w: sum(band**2 for band in pywt.dwt2(i * 1.0, "haar")[1]),
        "as they are": lambda i, n, w: SOLUTION["texture_energy"](i, n, w) / 4,
    },
    "next_generation": {
        "scores may all be 0": breed_by_roulette,
        "shape": lambda p, s, rng: breed_by_tournament(p, s, rng)[1:],
        "whole grey values": lambda p, s, rng: breed_by_tournament(p, s, rng, genes=float),
    },
    "region_force": {
        "mean of nothing": lambda i, m: (i - i[~m].mean()) ** 2 - (i - i[m].mean()) ** 2,
        "by hand": lambda i, m: (i - np.mean(i * ~m)) ** 2 - (i - np.mean(i * m)) ** 2,
        "repeats the contour": lambda i, m: np.where(m, 1.0, -1.0),
        "it must be float": lambda i, m: force_from_means(i, m) > 0,
    },
}
