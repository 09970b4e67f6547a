"""Lesson 01: what students write for thresholds, regions, edges, wavelets, search, contours."""

import heapq

import numpy as np
import pywt
from scipy import ndimage as ndi
from skimage.feature import peak_local_max
from skimage.filters import apply_hysteresis_threshold, threshold_otsu
from skimage.segmentation import flood as skimage_flood
from skimage.segmentation import watershed

from course_utils.checks import lesson_01 as checks
from course_utils.data import load
from course_utils.grading.hidden_tests import lesson_01 as hidden
from tests.wrong_answers import Exercise, Wrong

# --- iou -----------------------------------------------------------------------------------


def iou_by_logic(predicted, truth):
    union = (predicted | truth).sum()
    return float((predicted & truth).sum() / union) if union else 1.0


def iou_by_counts(predicted, truth):
    a, b, both = predicted.sum(), truth.sum(), (predicted * truth).sum()
    return 1.0 if a + b == 0 else both / (a + b - both)


def iou_of_nan(predicted, truth):
    ratio = np.float64((predicted & truth).sum()) / (predicted | truth).sum()
    return np.nan_to_num(ratio, nan=1.0)


IOU = Exercise(
    checks.iou,
    right=[iou_by_logic, iou_by_counts, iou_of_nan],
    wrong=[
        Wrong(lambda p, t: (p & t).sum(), "divide by the union", "intersection only"),
        Wrong(lambda p, t: 2 * (p & t).sum() / (p.sum() + t.sum()), "Dice", "Dice"),
        Wrong(lambda p, t: (p & t).sum() / t.sum(), "recall", "recall"),
        Wrong(lambda p, t: (p & t).sum() / p.sum(), "precision", "precision"),
        Wrong(lambda p, t: (p == t).mean(), "pixel accuracy", "accuracy"),
        Wrong(lambda p, t: (p & t).sum() / (p.sum() + t.sum()), "twice", "shared counted twice"),
        Wrong(lambda p, t: (p | t).sum() / (p & t).sum(), "other way round", "upside down"),
        Wrong(lambda p, t: (p & t).sum() // (p | t).sum(), "//", "floor division"),
        Wrong(lambda p, t: (p & t).sum() / (p | t).sum(), "two empty masks", "empty by empty"),
        Wrong(lambda p, t: (p & t) / (p | t).sum(), "one number", "an array"),
        Wrong(lambda p, t: None, "return", "no return"),
        Wrong(lambda p, t: "0.4 of 1", "must be one number", "a text"),
        Wrong(lambda p, t: [[1], [1, 2]], "differ in length", "ragged lists"),
        Wrong(lambda p, t: round(iou_by_logic(p, t), 2), "3 of 7", "rounded"),
        Wrong(
            lambda p, t: iou_by_logic(p, t) if t.any() else 1.0,
            "only both empty",
            "1 where the truth is empty",
        ),
    ],
    hidden=hidden.iou,
)

# --- between_class_variance ----------------------------------------------------------------


def variance_cumulative(counts, *, weights=None, gap=np.square, side="<=", within=False):
    p = counts / counts.sum()
    values = np.arange(256)
    w0 = np.cumsum(p) if side == "<=" else np.cumsum(p) - p
    m0 = np.cumsum(p * values) if side == "<=" else np.cumsum(p * values) - p * values
    w1, m1 = 1 - w0, (p * values).sum() - m0
    ok = (w0 > 1e-12) & (w1 > 1e-12)
    a = np.divide(m0, w0, out=np.zeros(256), where=ok)
    b = np.divide(m1, w1, out=np.zeros(256), where=ok)
    result = w0 * w1 * gap(a - b) * ok
    if within:
        total = (p * (values - (p * values).sum()) ** 2).sum()
        return total - result
    return result


def variance_loop(counts):
    values, out = np.arange(256), np.zeros(256)
    n = counts.sum()
    for t in range(256):
        n0, n1 = counts[: t + 1].sum(), counts[t + 1 :].sum()
        if n0 > 0 and n1 > 0:
            mu0 = (values * counts)[: t + 1].sum() / n0
            mu1 = (values * counts)[t + 1 :].sum() / n1
            out[t] = n0 / n * n1 / n * (mu0 - mu1) ** 2
    return out


def variance_of_counts(counts):
    out = np.zeros(256)
    for t in range(255):
        w = counts[: t + 1].sum() / counts.sum()
        if 0 < w < 1:
            out[t] = w * (1 - w) * (counts[: t + 1].mean() - counts[t + 1 :].mean()) ** 2
    return out


def variance_dividing_by_zero(counts):
    p = counts / counts.sum()
    w0, m0 = np.cumsum(p), np.cumsum(p * np.arange(256))
    return w0 * (1 - w0) * (m0 / w0 - (m0[-1] - m0) / (1 - w0)) ** 2


def variance_without_weights(counts):
    curve, p = variance_cumulative(counts), np.cumsum(counts / counts.sum())
    w = p * (1 - p)
    return np.divide(curve, w, out=np.zeros(256), where=w > 0)


VARIANCE = Exercise(
    checks.between_class_variance,
    right=[variance_cumulative, variance_loop],
    wrong=[
        Wrong(lambda c: variance_cumulative(c, side="<"), "< t", "split at < t"),
        Wrong(lambda c: variance_cumulative(c, within=True), "within", "within-class variance"),
        Wrong(lambda c: variance_cumulative(c) * c.sum() ** 2, "shares", "counts as weights"),
        Wrong(lambda c: variance_cumulative(c, gap=np.abs), "squared", "difference not squared"),
        Wrong(lambda c: np.sqrt(variance_cumulative(c)), "root", "deviation"),
        Wrong(variance_without_weights, "w0 \\* w1", "no weights"),
        Wrong(variance_dividing_by_zero, "divides by zero", "empty class"),
        Wrong(lambda c: float(variance_cumulative(c).argmax()), "whole curve", "the threshold"),
        Wrong(lambda c: variance_cumulative(c)[:255], "\\(256,\\)", "255 values"),
        Wrong(variance_of_counts, "weighs each grey value by its count", "mean of the counts"),
    ],
    hidden=hidden.between_class_variance,
)

# --- local_mask ----------------------------------------------------------------------------


def local_by_filter(image, window, offset):
    grey = image.astype(float)
    return grey > ndi.uniform_filter(grey, window, mode="nearest") + offset


def local_by_sums(image, window, offset):
    half = window // 2
    padded = np.pad(image.astype(float), half, mode="edge")
    views = np.lib.stride_tricks.sliding_window_view(padded, (window, window))
    return image - views.mean((2, 3)) > offset


def local_with_zeros(image, window, offset):
    grey = image.astype(float)
    return grey > ndi.uniform_filter(grey, window, mode="constant") + offset


def local_in_uint8(image, window, offset):
    mean = ndi.uniform_filter(image, window)
    return image > (mean.astype(int) + offset).astype(np.uint8)


def local_of_squares(image, window, offset):
    size = image.shape[0]
    result = np.zeros(image.shape, bool)
    result[:, :size] = local_by_filter(image[:, :size], window, offset)
    return result


LOCAL = Exercise(
    checks.local_mask,
    right=[local_by_filter, local_by_sums],
    wrong=[
        Wrong(lambda i, w, o: ~local_by_filter(i, w, -o), "darker", "dark is foreground"),
        Wrong(lambda i, w, o: i > i.mean() + o, "window around each", "global"),
        Wrong(lambda i, w, o: local_by_filter(i, 2 * w + 1, o), "radius", "window as radius"),
        Wrong(lambda i, w, o: local_by_filter(i, w, -o), "found alone", "offset subtracted"),
        Wrong(local_in_uint8, "wraps", "uint8 wraps"),
        Wrong(lambda i, w, o: i > ndi.uniform_filter(i, w) + float(o), "fraction", "uint8 filter"),
        Wrong(lambda i, w, o: i > ndi.median_filter(i, w) + float(o), "median", "median"),
        Wrong(local_with_zeros, "beyond it", "zeros beyond the border"),
        Wrong(lambda i, w, o: local_by_filter(i, w, 0), "the offset added", "no offset"),
        Wrong(lambda i, w, o: local_by_filter(i, w, o).astype(int), "bool", "integers"),
        Wrong(lambda i, w, o: ndi.uniform_filter(i.astype(float), w) + o, "bool", "the threshold"),
        Wrong(local_of_squares, "mixed up", "square pictures only"),
    ],
    hidden=hidden.local_mask,
)

# --- grow ----------------------------------------------------------------------------------


def grow_from(
    image,
    seed,
    tolerance,
    *,
    steps=None,
    corners=False,
    creep=False,
    cast=float,
    strict=False,
    signed=False,
):
    grey = image.astype(cast) if cast else image
    region = np.zeros(image.shape, bool)
    region[seed] = True
    todo, done = [seed], 0
    while todo and (steps is None or done < steps):
        y, x = todo.pop()
        done += 1
        near = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        if corners:
            near += [(y - 1, x - 1), (y - 1, x + 1), (y + 1, x - 1), (y + 1, x + 1)]
        for a, b in near:
            if not (0 <= a < image.shape[0] and 0 <= b < image.shape[1]) or region[a, b]:
                continue
            with np.errstate(over="ignore"):
                gap = grey[a, b] - grey[y, x] if creep else grey[a, b] - grey[seed]
            gap = gap if signed else abs(gap)
            if gap < tolerance if strict else gap <= tolerance:
                region[a, b] = True
                todo.append((a, b))
    return region


def grow_by_labels(image, seed, tolerance):
    like = np.abs(image.astype(int) - int(image[seed])) <= tolerance
    pieces, _ = ndi.label(like)
    return pieces == pieces[seed]


def grow_around_the_border(image, seed, tolerance):
    grey, region, todo = image.astype(int), np.zeros(image.shape, bool), [seed]
    region[seed] = True
    while todo:
        y, x = todo.pop()
        for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            try:
                if not region[near] and abs(grey[near] - grey[seed]) <= tolerance:
                    region[near] = True
                    todo.append(near)
            except IndexError:
                pass
    return region


GROW = Exercise(
    checks.grow,
    right=[
        grow_from,
        grow_by_labels,
        lambda i, s, t: skimage_flood(i.astype(float), s, connectivity=1, tolerance=t),
    ],
    wrong=[
        Wrong(lambda i, s, t: np.abs(i.astype(int) - int(i[s])) <= t, "connected", "any place"),
        Wrong(lambda i, s, t: grow_from(i, s, t, corners=True), "corner", "8 neighbours"),
        Wrong(lambda i, s, t: grow_from(i, s, t, creep=True), "creeps", "against the neighbour"),
        Wrong(lambda i, s, t: grow_from(i, s, t, cast=None), "wraps", "uint8"),
        Wrong(lambda i, s, t: grow_from(i, s, t, strict=True), "exactly", "strict"),
        Wrong(lambda i, s, t: grow_from(i, s, t, signed=True), "absolute difference", "no abs"),
        Wrong(lambda i, s, t: grow_from(i, s, t, steps=30), "winding", "stops early"),
        Wrong(lambda i, s, t: grow_from(i, s[::-1], t), "row, column", "x, y swapped"),
        Wrong(grow_around_the_border, "index -1 is the other side", "negative index"),
        Wrong(lambda i, s, t: grow_from(i, s, t).astype(np.uint8), "bool", "uint8 mask"),
    ],
    hidden=hidden.grow,
)

# --- flood ---------------------------------------------------------------------------------


def flood_heap(
    elevation,
    markers,
    *,
    sign=1,
    counter=True,
    corners=False,
    queue="heap",
    copy=True,
    overwrite=False,
    level=None,
):
    labels = markers.copy() if copy else markers
    heap, n = [], 0
    for y, x in np.argwhere(markers > 0):
        heap.append((sign * elevation[y, x], n if counter else 0, y, x))
        n += 1
    heapq.heapify(heap)
    while heap:
        _, _, y, x = heapq.heappop(heap) if queue == "heap" else heap.pop(0)
        near = [(y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)]
        if corners:
            near += [(y - 1, x - 1), (y - 1, x + 1), (y + 1, x - 1), (y + 1, x + 1)]
        for a, b in near:
            if not (0 <= a < labels.shape[0] and 0 <= b < labels.shape[1]):
                continue
            if labels[a, b] == 0 or (
                overwrite and n < 4 * labels.size and labels[a, b] != labels[y, x]
            ):
                if level is not None and elevation[a, b] > level:
                    continue
                labels[a, b] = labels[y, x]
                item = (sign * elevation[a, b], n if counter else 0, a, b)
                heapq.heappush(heap, item) if queue == "heap" else heap.append(item)
                n += 1
    return labels


def flood_nearest(elevation, markers):
    _, (y, x) = ndi.distance_transform_edt(markers == 0, return_indices=True)
    return markers[y, x]


FLOOD = Exercise(
    checks.flood,
    right=[flood_heap, lambda e, m: watershed(e, m).astype(int)],
    wrong=[
        Wrong(lambda e, m: flood_heap(e, m, sign=-1), "lowest pixel", "highest first"),
        Wrong(lambda e, m: flood_heap(e, m, queue="list"), "lowest pixel", "oldest first"),
        Wrong(flood_nearest, "ridge", "nearest marker"),
        Wrong(lambda e, m: flood_heap(e, m, counter=False), "counter|flat", "no counter"),
        Wrong(lambda e, m: flood_heap(e, m, corners=True), "diagonals", "8 neighbours"),
        Wrong(lambda e, m: flood_heap(e, m, copy=False), "copy", "writes into markers"),
        Wrong(lambda e, m: flood_heap(e, m, level=5), "no label", "stops below a level"),
        Wrong(lambda e, m: flood_heap(e, m, overwrite=True), "keep|marker|ridge", "overwrites"),
        Wrong(lambda e, m: flood_heap(e, m).astype(float), "integers", "float labels"),
        Wrong(lambda e, m: ndi.label(flood_heap(e, m))[0], "labels are", "renumbered"),
    ],
    hidden=hidden.flood,
)

# --- split_touching ------------------------------------------------------------------------


def split_by_peaks(
    mask,
    min_distance,
    *,
    sign=-1,
    inside=True,
    number=True,
    spacing=True,
    swap=False,
    dtype=int,
    first=1,
):
    distance = ndi.distance_transform_edt(mask)
    peaks = peak_local_max(
        distance,
        min_distance=min_distance if spacing else 1,
        labels=ndi.label(mask)[0] if mask.any() else mask.astype(int),
        exclude_border=False,
    )
    markers = np.zeros(mask.shape, dtype)
    if swap:
        peaks = peaks[:, ::-1]
    markers[tuple(peaks.T)] = np.arange(len(peaks)) + first if number else 1
    return watershed(sign * distance, markers, mask=mask if inside else None)


def split_by_maximum_filter(mask, min_distance):
    distance = ndi.distance_transform_edt(mask)
    smooth = ndi.gaussian_filter(distance, 1)
    top = (smooth == ndi.maximum_filter(smooth, 2 * min_distance + 1)) & mask
    markers, _ = ndi.label(top, np.ones((3, 3)))
    return watershed(-smooth, markers, mask=mask)


def only_markers(mask, min_distance):
    distance = ndi.distance_transform_edt(mask)
    peaks = peak_local_max(distance, min_distance=min_distance, exclude_border=False)
    markers = np.zeros(mask.shape, int)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return markers


def fixed_spacing(mask, min_distance):
    return split_by_peaks(mask, 6)


def peaks_off_the_frame(mask, min_distance):
    distance = ndi.distance_transform_edt(mask)
    peaks = peak_local_max(distance, min_distance=min_distance)
    markers = np.zeros(mask.shape, int)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-distance, markers, mask=mask)


SPLIT = Exercise(
    checks.split_touching,
    right=[split_by_peaks, split_by_maximum_filter],
    wrong=[
        Wrong(lambda m, d: split_by_peaks(m, d, sign=1), "upside down", "not inverted"),
        Wrong(lambda m, d: split_by_peaks(m, d, inside=False), "mask=mask", "no mask"),
        Wrong(lambda m, d: split_by_peaks(m, d, number=False), "number the markers", "all 1"),
        Wrong(lambda m, d: split_by_peaks(m, d, spacing=False), "min_distance", "no min_distance"),
        Wrong(fixed_spacing, "pass min_distance", "ignores min_distance"),
        Wrong(lambda m, d: split_by_peaks(m, d, swap=True), "IndexError|far apart|label", "x, y"),
        Wrong(lambda m, d: ndi.label(m)[0], "connected components", "connected components"),
        Wrong(only_markers, "flood them", "markers only"),
        Wrong(lambda m, d: split_by_peaks(m, d, dtype=float), "integer markers", "float markers"),
        Wrong(lambda m, d: split_by_peaks(m, d, first=0), "number from 1", "numbered from 0"),
        Wrong(lambda m, d: split_by_peaks(m, d) > 0, "returns a mask", "a mask"),
        Wrong(lambda m, d: ndi.label(m), "tuple", "forgot [0]"),
        Wrong(peaks_off_the_frame, "exclude_border=False", "peaks near the frame left out"),
    ],
    hidden=hidden.split_touching,
)

# --- sobel ---------------------------------------------------------------------------------


def sobel_slices(
    image, *, cast=float, length=np.hypot, scale=8.0, both=True, side=(1, 2, 1), zero=True
):
    g = np.pad(image.astype(cast), 1, mode="edge")
    a, b, c = side
    gx = (
        a * (g[:-2, 2:] - g[:-2, :-2])
        + b * (g[1:-1, 2:] - g[1:-1, :-2])
        + c * (g[2:, 2:] - g[2:, :-2])
    ) / scale
    gy = (
        a * (g[2:, :-2] - g[:-2, :-2])
        + b * (g[2:, 1:-1] - g[:-2, 1:-1])
        + c * (g[2:, 2:] - g[:-2, 2:])
    ) / scale
    out = length(gx, gy if both else 0 * gy)
    if zero:
        out[0] = out[-1] = out[:, 0] = out[:, -1] = 0
    return out


def sobel_scipy(image):
    grey = image.astype(float)
    out = np.zeros(image.shape)
    inner = (slice(1, -1), slice(1, -1))
    out[inner] = np.sqrt(ndi.sobel(grey, 0) ** 2 + ndi.sobel(grey, 1) ** 2)[inner] / 8
    return out


def sobel_transposed_twice(image):
    return sobel_slices(image, length=lambda gx, gy: np.hypot(gy, gy))


def sobel_in_int16(image):
    gx, gy = (ndi.sobel(image.astype(np.int16), axis) for axis in (1, 0))
    out = np.sqrt(np.abs((gx * gx + gy * gy).astype(float))) / 8
    out[[0, -1]] = out[:, [0, -1]] = 0
    return out


SOBEL = Exercise(
    checks.sobel,
    right=[sobel_slices, sobel_scipy],
    wrong=[
        Wrong(lambda i: sobel_slices(i, cast=np.uint8), "wraps", "uint8"),
        Wrong(sobel_in_int16, "do not fit", "squares in int16"),
        Wrong(lambda i: sobel_slices(i, both=False), "transpose", "one direction"),
        Wrong(sobel_transposed_twice, "transpose", "one kernel twice"),
        Wrong(lambda i: sobel_slices(i, scale=1.0), "divide the kernels by 8", "no division"),
        Wrong(
            lambda i: sobel_slices(i, length=lambda a, b: np.abs(a) + np.abs(b)),
            "sqrt",
            "|x| + |y|",
        ),
        Wrong(
            lambda i: sobel_slices(i, length=lambda a, b: a * a + b * b), "ramps|root", "no root"
        ),
        Wrong(lambda i: np.hypot(*np.gradient(i.astype(float))), "1, 2, 1", "np.gradient"),
        Wrong(lambda i: sobel_slices(i, side=(1, 1, 1), scale=6.0), "1, 2, 1", "Prewitt"),
        Wrong(lambda i: sobel_slices(i, side=(1, 1, 1)), "counts twice", "middle not doubled"),
        Wrong(lambda i: sobel_slices(i, zero=False), "outermost", "border kept"),
        Wrong(lambda i: sobel_slices(i)[1:-1, 1:-1], "shape", "smaller"),
    ],
    hidden=hidden.sobel,
)

# --- hysteresis ----------------------------------------------------------------------------

EIGHT = np.ones((3, 3))


def hysteresis_by_labels(strength, low, high):
    pieces, count = ndi.label(strength > low, EIGHT)
    strong = np.zeros(count + 1, bool)
    strong[pieces[strength > high]] = True
    strong[0] = False
    return strong[pieces]


def hysteresis_by_growth(strength, low, high):
    weak = strength > low
    return ndi.binary_propagation(strength > high, EIGHT, mask=weak)


def one_step(strength, low, high):
    near = ndi.binary_dilation(strength > high, EIGHT)
    return (strength > high) | (near & (strength > low))


def ten_steps(strength, low, high):
    return ndi.binary_dilation(strength > high, EIGHT, iterations=10, mask=strength > low)


HYSTERESIS = Exercise(
    checks.hysteresis,
    right=[hysteresis_by_labels, hysteresis_by_growth],
    wrong=[
        Wrong(lambda s, lo, hi: s > hi, "weak pixel that is connected", "only strong"),
        Wrong(lambda s, lo, hi: s > lo, "too much", "only weak"),
        Wrong(lambda s, lo, hi: (s > lo) & (s < hi), "above `high`", "band between"),
        Wrong(one_step, "one step", "one step"),
        Wrong(lambda s, lo, hi: hysteresis_by_labels(s, lo, hi - 1e-9), "high = 2", ">= high"),
        Wrong(lambda s, lo, hi: hysteresis_by_labels(s, lo - 1e-9, hi), "low = 1", ">= low"),
        Wrong(ten_steps, "followed to its end", "ten steps"),
        Wrong(lambda s, lo, hi: apply_hysteresis_threshold(s, lo, hi), "corners", "4 neighbours"),
        Wrong(lambda s, lo, hi: hysteresis_by_labels(s, hi, lo), "weak pixel|swapped", "swapped"),
        Wrong(lambda s, lo, hi: hysteresis_by_labels(s, lo, hi).astype(float), "bool", "float"),
        Wrong(
            lambda s, lo, hi: ndi.binary_dilation(hysteresis_by_labels(s, lo, hi)),
            "below `low`|too much",
            "grows beyond low",
        ),
    ],
    hidden=hidden.hysteresis,
)

# --- texture_energy ------------------------------------------------------------------------


def energy_swt(
    image, level, window, *, take=0, bands=3, power=np.square, smooth=True, approximation=False
):
    coefficients = pywt.swt2(image.astype(float), "haar", level=level)
    rough, details = coefficients[take]
    total = sum(power(band) for band in details[:bands])
    if approximation:
        total = total + power(rough)
    return ndi.uniform_filter(total, window) if smooth else total


def energy_swt_trimmed(image, level, window):
    _, details, *_ = pywt.swt2(image.astype(float), "haar", level=level, trim_approx=True)
    return sum(ndi.uniform_filter(band**2, window) for band in details)


def energy_decimated(image, level, window):
    _, details, *_ = pywt.wavedec2(image.astype(float), "haar", level=level)
    return sum(ndi.uniform_filter(band**2, window) for band in details)


def energy_global(image, level, window):
    total = energy_swt(image, level, window, smooth=False)
    return np.full(image.shape, total.mean())


def energy_of_the_sum(image, level, window):
    details = pywt.swt2(image.astype(float), "haar", level=level)[0][1]
    return ndi.uniform_filter(sum(details) ** 2, window)


def energy_of_all_levels(image, level, window):
    levels = pywt.swt2(image.astype(float), "haar", level=level)
    total = sum(band**2 for _, details in levels for band in details)
    return ndi.uniform_filter(total, window)


ENERGY = Exercise(
    checks.texture_energy,
    right=[energy_swt, energy_swt_trimmed],
    wrong=[
        Wrong(lambda i, n, w: energy_swt(i, n, w, take=-1), "coarsest", "finest level taken"),
        Wrong(lambda i, n, w: energy_swt(i, 3, w, take=n - 1), "coarsest", "levels counted wrong"),
        Wrong(lambda i, n, w: energy_swt(i, n, w, approximation=True), "approximation", "LL too"),
        Wrong(lambda i, n, w: energy_swt(i, n, w, bands=1), "all three|all.*bands", "one band"),
        Wrong(lambda i, n, w: energy_swt(i, n, w, power=np.abs), "square", "absolute values"),
        Wrong(lambda i, n, w: energy_swt(i, n, w, power=lambda b: b), "square", "not squared"),
        Wrong(lambda i, n, w: energy_swt(i, n, w, smooth=False), "average the squares", "no mean"),
        Wrong(lambda i, n, w: energy_swt(i, n, w) / 3, "mean of the three", "mean of the squares"),
        Wrong(lambda i, n, w: energy_swt(i, n, w) / 4, "as they are", "another scale"),
        Wrong(energy_decimated, "shape", "half the size"),
        Wrong(energy_of_the_sum, "each squared", "added, then squared"),
        Wrong(energy_of_all_levels, "that level alone|level 1", "all levels added"),
        Wrong(lambda i, n, w: energy_swt(i, n, w // 2), "window of 7", "half the window"),
        Wrong(energy_global, "around each pixel", "mean of the image"),
    ],
    hidden=hidden.texture_energy,
)

# --- next_generation -----------------------------------------------------------------------


def breed(
    population,
    scores,
    rng,
    *,
    elite=True,
    select=True,
    cross=True,
    mutate=0.2,
    clip=True,
    sort=True,
    step=20,
):
    count = len(population)

    def parent():
        a, b = rng.integers(0, count, (2, count))
        return population[np.where(scores[a] > scores[b], a, b) if select else a]

    mother, father = parent(), parent()
    children = np.where(rng.random(population.shape) < 0.5, mother, father) if cross else mother
    shift = rng.integers(-step, step + 1, population.shape)
    children = children + shift * (rng.random(population.shape) < mutate)
    if clip:
        children = np.clip(children, 0, 254)
    if sort:
        children = np.sort(children, axis=1)
    if elite:
        children[0] = population[scores.argmax()]
    return children


def breed_by_rank(population, scores, rng):
    order = np.argsort(scores)[::-1]
    parents = population[order[: len(order) // 2]]
    rows = [population[order[0]]]
    while len(rows) < len(population):
        a, b = parents[rng.integers(0, len(parents), 2)]
        cut = rng.integers(0, population.shape[1] + 1)
        child = np.concatenate([a[:cut], b[cut:]])
        if rng.random() < 0.4:
            child[rng.integers(0, len(child))] += rng.integers(-15, 16)
        rows.append(np.sort(np.clip(child, 0, 254)))
    return np.array(rows)


def breed_from_global(population, scores, rng):
    return breed(population, scores, np.random.default_rng())


def breed_ignoring_rng(population, scores, rng):
    return breed(population, scores, np.random.default_rng(0))


def breed_random(population, scores, rng):
    fresh = np.sort(rng.integers(0, 255, population.shape), axis=1)
    fresh[0] = population[scores.argmax()]
    return fresh


def breed_by_roulette(population, scores, rng):
    count = len(population)
    chosen = rng.choice(count, count, p=scores / scores.sum())
    children = breed(population[chosen], scores[chosen], rng, select=False)
    children[0] = population[scores.argmax()]
    return children


def breed_in_place(population, scores, rng):
    population[:] = breed(population, scores, rng)
    return population


GENERATION = Exercise(
    checks.next_generation,
    right=[breed, breed_by_rank],
    wrong=[
        Wrong(lambda p, s, r: breed(p, s, r, elite=False), "elitism", "no elitism"),
        Wrong(lambda p, s, r: breed(p, s, r, select=False), "higher score", "no selection"),
        Wrong(lambda p, s, r: breed(p, -s, r, elite=False), "elitism|higher score", "worst chosen"),
        Wrong(lambda p, s, r: breed(p, s, r, mutate=0), "without mutation", "no mutation"),
        Wrong(lambda p, s, r: breed(p, s, r, cross=False), "two parents", "no crossover"),
        Wrong(lambda p, s, r: breed(p, s, r, clip=False, step=120), "clip", "no clip"),
        Wrong(lambda p, s, r: breed(p, s, r, sort=False), "sort", "not sorted"),
        Wrong(breed_from_global, "`rng` that you are given", "own generator"),
        Wrong(breed_ignoring_rng, "draw from `rng`", "fixed seed"),
        Wrong(breed_random, "not better|higher score", "random search"),
        Wrong(breed_by_roulette, "scores may all be 0", "roulette"),
        Wrong(breed_in_place, "copy", "in place"),
        Wrong(lambda p, s, r: breed(p, s, r)[1:], "shape", "one lost"),
        Wrong(lambda p, s, r: breed(p, s, r) * 1.0, "whole grey values", "float"),
    ],
    hidden=hidden.next_generation,
)

# --- region_force --------------------------------------------------------------------------


def means(image, inside):
    grey = image.astype(float)
    whole = grey.mean()
    return (
        grey,
        grey[inside].mean() if inside.any() else whole,
        grey[~inside].mean() if (~inside).any() else whole,
    )


def force_by_means(image, inside):
    grey, c_in, c_out = means(image, inside)
    return (grey - c_out) ** 2 - (grey - c_in) ** 2


def force_expanded(image, inside):
    grey, c_in, c_out = means(image, inside)
    return (c_in - c_out) * (2 * grey - c_in - c_out)


def force_absolute(image, inside):
    grey, c_in, c_out = means(image, inside)
    return np.abs(grey - c_out) - np.abs(grey - c_in)


def force_whole(image, inside):
    grey, c_in, _ = means(image, inside)
    return (grey - grey.mean()) ** 2 - (grey - c_in) ** 2


def force_of_empty(image, inside):
    grey = image.astype(float)
    return (grey - grey[~inside].mean()) ** 2 - (grey - grey[inside].mean()) ** 2


def force_from_zero(image, inside):
    grey, c_in, c_out = means(image, inside)
    c_in, c_out = (c if side.any() else 0 for c, side in ((c_in, inside), (c_out, ~inside)))
    return (grey - c_out) ** 2 - (grey - c_in) ** 2


def force_by_sums(image, inside):
    grey = image.astype(float)
    c_in, c_out = (grey * inside).mean(), (grey * ~inside).mean()
    return (grey - c_out) ** 2 - (grey - c_in) ** 2


def force_in_uint8(image, inside):
    _, c_in, c_out = means(image, inside)
    with np.errstate(over="ignore"):
        return ((image - np.uint8(c_out)) ** 2).astype(float) - (image - np.uint8(c_in)) ** 2


FORCE = Exercise(
    checks.region_force,
    right=[force_by_means, force_expanded],
    wrong=[
        Wrong(lambda i, m: -force_by_means(i, m), "turned round", "sign"),
        Wrong(force_absolute, "square both", "absolute"),
        Wrong(force_whole, "~inside", "mean of the whole"),
        Wrong(force_of_empty, "mean of nothing", "empty contour"),
        Wrong(force_from_zero, "whole image, not 0", "mean 0 of an empty side"),
        Wrong(force_by_sums, "by hand", "mean with zeros"),
        Wrong(force_in_uint8, "float", "uint8"),
        Wrong(lambda i, m: np.where(m, 1.0, -1.0), "repeats the contour", "the contour itself"),
        Wrong(lambda i, m: force_by_means(i, m) > 0, "float", "a mask"),
    ],
    hidden=hidden.region_force,
)

# --- segment (the task's function; its IoU is marked elsewhere) ----------------------------

PICTURES = load("cells", "train", count=2).images


def segment_otsu(image):
    grey = ndi.gaussian_filter(image.mean(2), 1)
    return grey > threshold_otsu(grey) if np.ptp(grey) else np.zeros(grey.shape, bool)


def segment_integers(image):
    grey = image.astype(float).max(2)
    return (grey > grey.mean()).astype(np.uint8)


_CALLS = []


def segment_with_memory(image):
    _CALLS.append(1)
    return np.roll(segment_otsu(image), len(_CALLS), 0)


def segment_crashing_on_black(image):
    grey = image.mean(2)
    return grey / int(grey.max()) > (0.5 if int(grey.max()) else 1 // 0)


SEGMENT = Exercise(
    lambda answer: checks.segment(answer, PICTURES),
    right=[segment_otsu, segment_integers],
    wrong=[
        Wrong(lambda i: i > 90, "one a channel", "one mask a channel"),
        Wrong(lambda i: segment_otsu(i) * 255, "255", "0 and 255"),
        Wrong(lambda i: ndi.label(segment_otsu(i))[0], "0 \\(background\\)", "labels"),
        Wrong(lambda i: segment_otsu(i).astype(float), "bool", "float"),
        Wrong(lambda i: np.zeros((120, 160), bool), "shape", "fixed size"),
        Wrong(lambda i: segment_otsu(i).tolist(), "list", "a list"),
        Wrong(segment_with_memory, "image alone", "hidden state"),
        Wrong(segment_crashing_on_black, "Error|zero", "crashes on black"),
        Wrong(lambda i: print(end=""), "return", "no return"),
    ],
)

BANK = {
    "iou": IOU,
    "between_class_variance": VARIANCE,
    "local_mask": LOCAL,
    "grow": GROW,
    "flood": FLOOD,
    "split_touching": SPLIT,
    "sobel": SOBEL,
    "hysteresis": HYSTERESIS,
    "texture_energy": ENERGY,
    "next_generation": GENERATION,
    "region_force": FORCE,
    "segment": SEGMENT,
}
