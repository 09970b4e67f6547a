"""Checks of lesson 01: thresholds, regions, edges, wavelets, genetic search, contours.

Every answer is a function of arrays. It is asked on tiny inputs that can be worked out by hand,
each chosen so that one misconception gives one wrong value, then on a property.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pywt
from scipy import ndimage
from skimage.segmentation import watershed

from course_utils.checks import CheckFailed, explain, passed, require


def _ask(
    function: Callable,
    *arguments,
    name: str | None = None,
    causes: Mapping[str, str] | None = None,
):
    """Return ``function(*arguments)``; say what went wrong, or which input it changed.

    ``causes`` gives, by a regular expression for an exception's text, what to say of it.
    """
    name = name or getattr(function, "__name__", "the answer")
    given = [np.array(a, copy=True) if isinstance(a, np.ndarray) else a for a in arguments]
    empty_side = (
        "it divides by zero where one side is empty: give 0 there, by dividing only where both "
        "sides hold pixels"
    )
    causes = {"by zero|invalid value": empty_side, **(causes or {})}
    with np.errstate(divide="ignore", invalid="ignore"), explain(f"{name} stops", causes):
        result = function(*given)
    for before, after in zip(arguments, given, strict=True):
        if isinstance(before, np.ndarray) and not np.array_equal(before, after):
            raise CheckFailed(f"{name} changes the array that it is given: work on a copy.")
    require(result is not None, f"{name} returns None: is its `return` missing?")
    numbers = np.asarray(result) if isinstance(result, (float, np.generic, np.ndarray)) else None
    if numbers is not None and numbers.dtype.kind == "f" and np.isnan(numbers).any():
        raise CheckFailed(f"{name} gives NaN: {causes['by zero|invalid value']}.")
    return result


def _shape(result, name: str) -> tuple[int, ...]:
    try:
        return np.shape(result)
    except ValueError:
        raise CheckFailed(f"{name} returns lists whose rows differ in length.") from None


def _array(result, name: str, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Return ``result`` as an array of ``shape``; kind: "mask", "labels" or "numbers"."""
    require(
        isinstance(result, np.ndarray),
        f"{name} returns a {type(result).__name__}; it must return one NumPy array.",
    )
    require(
        result.shape == shape,
        f"{name} returns shape {result.shape}; expected {shape}, the shape of its input.",
    )
    if kind == "mask":
        require(
            result.dtype == bool,
            f"{name} returns {result.dtype}; a mask is bool (a comparison gives one).",
        )
    elif kind == "labels":
        require(
            np.issubdtype(result.dtype, np.integer),
            f"{name} returns {result.dtype}; labels are integers.",
        )
    else:
        require(
            np.issubdtype(result.dtype, np.floating),
            f"{name} returns {result.dtype}; it must be float: uint8 wraps around at 0 and 255. "
            "Start with image.astype(float).",
        )
        require(bool(np.isfinite(result).all()), f"{name} returns NaN or infinity somewhere.")
    return result


def _close(a, b) -> bool:
    return bool(np.allclose(a, b, rtol=1e-6, atol=1e-6))


def iou(answer: Callable) -> None:
    """Check the intersection over union of two masks."""
    truth = np.array([[1, 1, 1, 1, 0, 0, 0, 0, 0, 0]], bool)
    found = np.array([[0, 0, 1, 1, 1, 0, 0, 0, 0, 0]], bool)  # shares 2, union 5

    def value(a, b):
        result = _ask(answer, a, b, name="iou")
        shape = _shape(result, "iou")
        require(shape == (), f"iou returns shape {shape}; it must be one number.")
        try:
            return float(result)
        except (TypeError, ValueError):
            raise CheckFailed(f"iou returns {str(result)[:60]!r}; it must be one number.") from None

    got = value(found, truth)
    causes = {
        2.0: "that is the intersection alone: divide by the union",
        4 / 7: "that is Dice, 2|A and B| / (|A| + |B|): IoU divides by |A or B|",
        2 / 7: "pixels of both masks are counted twice in your union: |A| + |B| - |A and B|",
        0.5: "that is the share of the truth that was found (recall): divide by the union",
        2 / 3: "that is the share of the prediction that is right (precision): divide by the union",
        0.7: "that is pixel accuracy: background found as background counts nothing in IoU",
        2.5: "you divided the union by the intersection: it is the other way round",
        0.0: "0 for masks that share pixels: is it // where / should stand?",
    }
    for wrong, cause in causes.items():
        require(not _close(got, wrong), f"iou gives {got:.3f} where 2 of 5 pixels agree: {cause}.")
    require(_close(got, 0.4), f"iou gives {got:.3f} for masks with 2 of 5 pixels shared, not 0.4.")
    require(_close(value(truth, truth), 1), "iou of a mask with itself must be 1.")
    require(_close(value(truth, ~truth), 0), "iou of a mask and its opposite must be 0.")
    more = np.array([[0, 1, 1, 1, 1, 1, 1, 0, 0, 0]], bool)  # shares 3, union 7
    got = value(more, truth)
    require(_close(got, 3 / 7), f"iou gives {got:.4f} where 3 of 7 pixels agree, not 0.4286.")
    empty = np.zeros_like(truth)
    try:
        both = value(empty, empty)
    except CheckFailed:
        both = np.nan
    require(
        _close(both, 1),
        "iou of two empty masks must be 1: nothing was there and nothing was found. "
        "Look at the union before you divide.",
    )
    require(
        _close(value(empty, truth), 0) and _close(value(truth, empty), 0),
        "iou where one mask is empty and the other is not must be 0: only both empty give 1.",
    )
    passed("iou", "intersection over union, and 1 where both are empty")


def between_class_variance(answer: Callable) -> None:
    """Check the curve whose maximum is Otsu's threshold."""
    name = "between_class_variance"
    counts = np.zeros(256, np.int64)
    counts[[10, 20]] = 2, 2
    raw = _ask(answer, counts, name=name)
    require(
        _shape(raw, "between_class_variance") != (),
        f"{name} returns one number; it must return the whole curve, one value a threshold. "
        "otsu() takes the argmax of it.",
    )
    curve = _array(raw, name, (256,), "numbers")
    require(
        not (curve[9] == 0 and curve[10] == 0 and curve[20] > 0),
        "your classes are split at < t, ours at <= t: grey value t itself belongs to the dark "
        "class.",
    )
    require(
        not _close(curve[10], 0),
        f"{name} is 0 at t = 10 for two grey values, 10 and 20: that is the variance within the "
        "classes, which Otsu makes small. The variance between them is made large.",
    )
    require(
        not _close(curve[10], 400),
        "your weights are pixel counts; they must be shares of all pixels (divide by the sum).",
    )
    require(
        not _close(curve[10], 2.5),
        "the difference of the two means must be squared: a variance is in squared grey values.",
    )
    require(not _close(curve[10], 5), "you took the root: return the variance, not the deviation.")
    require(
        not _close(curve[10], 100),
        "the squared difference of the means must be weighted with both shares, w0 * w1.",
    )
    skewed = np.zeros(256, np.int64)
    skewed[[0, 100]] = 3, 1
    got = _array(_ask(answer, skewed, name=name), name, (256,), "numbers")[50]
    require(
        _close(curve[10:20], 25) and _close(got, 1875),
        f"{name} gives {curve[15]:.4g} for two pixels of 10 and two of 20 (by hand: "
        f"0.5 * 0.5 * 10**2 = 25), {got:.4g} for three of 0 and one of 100 (by hand: 1875). "
        "A class's mean weighs each grey value by its count.",
    )
    require(
        _close(curve[:10], 0) and _close(curve[20:], 0),
        f"{name} must be 0 where one side holds no pixel.",
    )
    many = np.random.default_rng(0).integers(0, 5_000_000, 256)
    big = _array(_ask(answer, many, name=name), name, (256,), "numbers")
    require(_close(big, _variance(many)), f"{name} is wrong on a large random histogram.")
    passed(name, "right by hand, 0 where a class is empty")


def _variance(counts: np.ndarray) -> np.ndarray:
    """Return the between-class variance by its definition, one threshold at a time."""
    values, result = np.arange(256.0), np.zeros(256)
    for t in range(256):
        dark, bright = counts[: t + 1], counts[t + 1 :]
        if dark.sum() and bright.sum():
            w = dark.sum() / counts.sum()
            gap = np.average(values[: t + 1], weights=dark) - np.average(
                values[t + 1 :], weights=bright
            )
            result[t] = w * (1 - w) * gap**2
    return result


def local_mask(answer: Callable) -> None:
    """Check the threshold that follows the light."""
    name = "local_mask"

    def mask(image, window, offset):
        return _array(_ask(answer, image, window, offset, name=name), name, image.shape, "mask")

    dot = np.zeros((9, 9), np.uint8)
    dot[4, 4] = 90  # the mean of the 3 x 3 around it is 10
    got = mask(dot, 3, 5)
    require(
        not (got.any() and not got[4, 4]),
        "your mask is true where the image is darker than its surroundings: a pixel is "
        "foreground if it is brighter than mean + offset.",
    )
    require(
        bool(got[4, 4]) and got.sum() == 1,
        "a single pixel of 90 on 0, window 3, offset 5, must be found alone: its surroundings have "
        f"the mean 10. Your mask holds {int(got.sum())} pixels.",
    )
    bright = np.full((15, 15), 250, np.uint8)
    bright[3, 3] = 255
    require(
        not mask(bright, 5, 20)[10, 10],
        "250 + 20 became 14: uint8 wraps around at 255. Start with image.astype(float).",
    )
    light = np.tile(np.arange(0, 240, 4, dtype=np.uint8), (60, 1))
    lit = light.copy()
    lit[10:50:10, 5:60:10] += 15
    expected = np.zeros(lit.shape, bool)
    expected[10:50:10, 5:60:10] = True
    got = mask(lit, 9, 8)
    inner = (slice(5, -5), slice(5, -5))
    require(
        np.array_equal(got[inner], expected[inner]),
        "dots that are 15 brighter than a ramp of light must all be found, and nothing else: is "
        "the mean that of the window around each pixel, not one of the whole image?",
    )
    require(
        not mask(dot, 3, 82).any(),
        "with offset 82 the pixel of 90 is not above mean + offset = 92. Is `window` the whole "
        "width (3 x 3 pixels, not a radius), the mean a mean and no sum or median, and the offset "
        "added to it?",
    )
    require(bool(mask(dot, 3, 78)[4, 4]), "with offset 78 the pixel of 90 is above 10 + 78.")
    speck = np.zeros((9, 9), np.uint8)
    speck[4, 4] = 8  # mean 8 / 9, which uint8 would round down to 0
    require(
        not mask(speck, 3, 7.5)[4, 4],
        "the mean must keep its fraction: 8 is not above 8/9 + 7.5. uniform_filter on uint8 gives "
        "whole numbers; pass it image.astype(float).",
    )
    require(
        not mask(np.full((9, 9), 100, np.uint8), 3, 0.5).any(),
        "on a plain grey image nothing is brighter than its surroundings; you find pixels at the "
        "border, where the mean took in zeros from beyond it. uniform_filter's own mode mirrors.",
    )
    noise = np.random.default_rng(0).integers(0, 256, (30, 40)).astype(np.uint8)
    means = np.lib.stride_tricks.sliding_window_view(noise.astype(float), (5, 5)).mean((2, 3))
    inner = (slice(2, -2), slice(2, -2))
    require(
        np.array_equal(mask(noise, 5, 0.43)[inner], noise[inner] > means + 0.43),
        "on an image of 30 x 40 random pixels, window 5, your mask is another than by hand: the "
        "mean of the 5 x 5 pixels around each pixel, taken once (or are rows and columns mixed "
        "up?).",
    )
    passed(name, "the threshold follows the light")


def grow(answer: Callable) -> None:
    """Check region growing from a seed."""
    name = "grow"

    def region(image, seed, tolerance):
        return _array(_ask(answer, image, seed, tolerance, name=name), name, image.shape, "mask")

    two = np.zeros((8, 9), np.uint8)
    two[1:3, 1:3] = two[5:7, 1:4] = 100
    got = region(two, (6, 2), 10)
    require(
        bool(got[6, 2]),
        "the seed's own pixel is not in your region: the seed is (row, column), image[seed] its "
        "grey value.",
    )
    require(
        not got[0, 0],
        "pixels far darker than the seed are in your region: take the absolute difference.",
    )
    require(
        not got[1, 1],
        "the other square of the same grey value is in your region too: similar is not enough, "
        "a pixel must be connected to the seed.",
    )
    require(
        got.sum() == 6 and bool(got[5:7, 1:4].all()),
        f"the region of seed (6, 2) has {int(got.sum())} pixels, expected the 6 of its square.",
    )
    corner = np.array([[100, 0, 0], [0, 100, 100], [0, 0, 100]], np.uint8)
    require(
        not region(corner, (1, 1), 10)[0, 0],
        "a pixel that touches only at a corner is in your region: use the 4 neighbours above, "
        "below, left and right.",
    )
    dark = np.array([[100, 100, 0, 250]], np.uint8)
    require(
        np.array_equal(region(dark, (0, 0), 110), [[True, True, True, False]]),
        "|0 - 100| came out wrong: uint8 wraps around below 0. Start with image.astype(float) "
        "(or int).",
    )
    ramp = np.arange(0, 60, 5, dtype=np.uint8)[None, :].repeat(3, 0)
    got = region(ramp, (1, 2), 10)
    require(
        not got[:, 6:].any(),
        "the region creeps up a ramp: compare each pixel with the grey value of the seed, not of "
        "the neighbour that it was reached from.",
    )
    require(
        bool(got[:, 0].all() and got[:, 4].all()),
        "a difference of exactly `tolerance` belongs to the region (<=), darker or brighter.",
    )
    require(not got[:, 5].any(), "a difference above `tolerance` does not belong to the region.")
    ends = np.array([[100, 100, 0], [0, 0, 0], [0, 0, 0], [100, 0, 0]], np.uint8)
    for image, seed in ((ends, (0, 0)), (np.ascontiguousarray(ends.T), (0, 0))):
        got = region(image, seed, 10)
        require(
            not got[-1].any() and not got[:, -1].any(),
            "the region goes on at the opposite border: index -1 is the other side of the picture: "
            "test 0 <= y and 0 <= x too.",
        )
    snake = np.zeros((41, 41), np.uint8)
    snake[::2] = 200
    snake[1::4, -1] = snake[3::4, 0] = 200
    require(
        np.array_equal(region(snake, (0, 0), 5), snake == 200),
        "a long winding region is not filled to its end: go on until no new pixel is found.",
    )
    passed(name, "connected to the seed and like the seed")


def flood(answer: Callable) -> None:
    """Check the watershed by flooding from markers."""
    name = "flood"

    def basins(elevation, markers):
        return _array(_ask(answer, elevation, markers, name=name), name, elevation.shape, "labels")

    valley = np.array([[0, 1, 2, 3, 9, 3, 2, 1, 0, 0, 0]], float)
    markers = np.zeros(valley.shape, np.int64)
    markers[0, 0], markers[0, -1] = 5, 7
    got = basins(valley, markers)
    require(
        bool((got > 0).all()),
        f"{int((got == 0).sum())} pixels got no label: flood until the queue is empty, uphill too.",
    )
    require(
        set(np.unique(got)) <= {5, 7},
        f"the labels are {np.unique(got)}; a pixel takes the label of its marker, 5 or 7.",
    )
    require(bool(got[0, 0] == 5 and got[0, -1] == 7), "the markers must keep their own labels.")
    require(
        bool((got[0, :4] == 5).all() and (got[0, 5:] == 7).all()),
        f"labels along a valley with its ridge at the fifth pixel: {got[0].tolist()}. Two floods "
        "must meet at the ridge: always take the lowest pixel of the queue first, not the oldest "
        "or the nearest (and low is where the water is, not high).",
    )
    plain = np.zeros((1, 9))
    markers = np.zeros(plain.shape, np.int64)
    markers[0, 0], markers[0, -1] = 1, 2
    got = basins(plain, markers)
    require(
        bool((got[0, :4] == 1).all() and (got[0, 5:] == 2).all()),
        "on flat ground two floods must spread equally fast and meet in the middle: among pixels "
        "of one height take the one first that was put in first (a counter in the tuple).",
    )
    wall = np.array([[0.0, 9.0], [9.0, 0.0]])
    markers = np.array([[3, 0], [0, 4]])
    require(
        set(np.unique(basins(wall, markers))) == {3, 4},
        "a neighbour overwrote a marker.",
    )
    rng = np.random.default_rng(0)
    for _ in range(3):
        elevation = ndimage.gaussian_filter(rng.random((30, 40)), 2)
        markers = np.zeros(elevation.shape, np.int64)
        markers.ravel()[rng.choice(elevation.size, 6, replace=False)] = range(1, 7)
        share = float((basins(elevation, markers) == watershed(elevation, markers)).mean())
        require(
            share > 0.97,
            f"only {share:.0%} of the pixels of a random landscape agree with scikit-image's "
            "watershed. Do you use the 4 neighbours (no diagonals), the height of the neighbour "
            "as its priority, and label a pixel once only?",
        )
    passed(name, "floods meet at the ridges, as in scikit-image")


def _discs(*circles: tuple[int, int, int], shape=(60, 90)) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.any([(y - a) ** 2 + (x - b) ** 2 <= r * r for a, b, r in circles], axis=0)


def split_touching(answer: Callable) -> None:
    """Check the separation of touching objects by their distance to the background."""
    name = "split_touching"

    def split(mask, min_distance=6):
        result = _ask(
            answer,
            mask,
            min_distance,
            name=name,
            causes={
                "No matching signature": "watershed wants integer markers: "
                "np.zeros(mask.shape, int), not np.zeros(mask.shape)."
            },
        )
        if isinstance(result, np.ndarray):
            require(
                result.dtype != bool,
                f"{name} returns a mask; it must return labels: 0 background, 1..N the objects.",
            )
        return _array(result, name, mask.shape, "labels")

    alone = _discs((30, 20, 12), (30, 65, 15))
    got = split(alone)
    require(
        not got[~alone].any(),
        "background pixels carry a label: give watershed the mask (mask=mask), so that the flood "
        "stays inside the objects.",
    )
    require(
        bool(got[alone].all()),
        "pixels of the objects carry no label: markers alone are no objects, flood them. "
        "Or does your numbering start at 0? 0 means no marker: number from 1.",
    )
    count = len(np.unique(got)) - 1
    require(
        count != 1,
        "two discs far apart carry one label: number the markers 1, 2, 3, ...; True is 1 for all.",
    )
    require(
        count == 2,
        f"two discs far apart became {count} objects: one marker an object, so peaks of the "
        "distance must be at least min_distance apart.",
    )
    touching = _discs((30, 25, 15), (30, 50, 15))
    got = split(touching)
    require(
        len(np.unique(got)) - 1 != 1,
        "two touching discs became one object: markers come from the peaks of the distance to the "
        "background, not from the connected components.",
    )
    require(
        len(np.unique(got)) - 1 == 2,
        f"two touching discs became {len(np.unique(got)) - 1} objects: peaks of the distance must "
        "be at least min_distance apart.",
    )
    left, right = got[30, 25], got[30, 50]
    waist = np.array([(got[:, :36] == left).sum(), (got[:, 40:] == right).sum()])
    full = np.array([touching[:, :36].sum(), touching[:, 40:].sum()])
    require(
        bool(left != right and (waist / full > 0.98).all()),
        "the border between two touching discs is not at their waist: flood the distance turned "
        "upside down (-distance), where the middle of each object is the lowest point.",
    )
    unequal = _discs((30, 26, 20), (30, 53, 9))
    got = split(unequal)
    y, x = np.nonzero(_discs((30, 26, 20)) & ~_discs((30, 53, 11)))
    require(
        bool((got[y, x] == got[30, 26]).mean() > 0.95),
        "a small object's label creeps around the rim of its large neighbour: flood the distance "
        "turned upside down (-distance), where the middle of each object is the lowest point.",
    )
    got = split(unequal, 40)
    require(
        bool(got.any()),
        "with min_distance 40 no object is left: by default peak_local_max finds no peak nearer "
        "than min_distance to the frame. exclude_border=False.",
    )
    require(
        len(np.unique(got)) - 1 == 1,
        "with min_distance 40 two discs whose middles are 27 apart must stay one object: do you "
        "pass min_distance on?",
    )
    empty = split(np.zeros((20, 20), bool))
    require(not empty.any(), "an empty mask holds no object.")
    low = _discs((12, 40, 9), (45, 15, 9), (45, 32, 9), (45, 60, 10))
    require(len(np.unique(split(low))) - 1 == 4, "four discs, two of them touching, must be 4.")
    passed(name, "one label an object, borders at the waist")


def sobel(answer: Callable) -> None:
    """Check the gradient's length by two 3 x 3 kernels."""
    name = "sobel"

    def edges(image):
        return _array(_ask(answer, image, name=name), name, image.shape, "numbers")

    y, x = np.mgrid[:12, :14]
    inner = (slice(1, -1), slice(1, -1))
    for ramp, line in ((3.0 * x, "row"), (3.0 * y, "column")):
        require(
            not _close(edges(ramp)[inner], 2.25),
            f"a ramp of 3 a pixel gives 2.25: the middle {line} counts twice.",
        )
    right = edges((3 * x).astype(np.uint8))[inner]
    down = edges((4 * y).astype(np.uint8))[inner]
    require(
        not (_close(right, 0) or _close(down, 0)),
        "a ramp in one of the two directions gives 0: you need the kernel and its transpose, one "
        "for each direction.",
    )
    require(
        not _close(right, 24),
        "a ramp of 3 a pixel gives 24: divide the kernels by 8, so that the answer is in grey "
        "levels a pixel.",
    )
    both_edges = edges((3 * x + 4 * y).astype(np.uint8))
    both = both_edges[inner]
    require(
        not _close(both, 7),
        "a ramp of 3 to the right and 4 down gives 7: the length is sqrt(gx**2 + gy**2) = 5, not "
        "|gx| + |gy|.",
    )
    require(not _close(both, 25), "take the square root: 3**2 + 4**2 is the length squared.")
    falling = edges((200 - 10 * x).astype(np.uint8))[inner]
    require(
        _close(falling, 10),
        f"a falling ramp of 10 a pixel gives {falling.flat[0]:.3g}: uint8 wraps around below 0. "
        "Start with image.astype(float), and remember that a length is positive.",
    )
    require(
        _close(right, 3) and _close(down, 4) and _close(both, 5),
        f"ramps of 3 right, 4 down and both give {right.flat[0]:.3g}, {down.flat[0]:.3g} and "
        f"{both.flat[0]:.3g}; expected 3, 4 and 5 grey levels a pixel.",
    )
    dot = np.zeros((5, 5), np.uint8)
    dot[2, 2] = 80
    got = edges(dot)
    require(
        _close(got[2, 1], 20) and _close(got[1, 1], np.hypot(10, 10)),
        "around a single pixel of 80 the answer is 20 beside it and 14.1 at its corner: Sobel "
        "weighs the three rows 1, 2, 1, which a plain difference does not.",
    )
    strong = np.zeros((5, 5), np.uint8)
    strong[2, 2] = 255
    strong = edges(strong)
    require(
        _close(strong[2, 1], 63.75) and _close(strong[1, 1], np.hypot(31.875, 31.875)),
        f"around a single pixel of 255 the answer is 63.75 beside it, yours is {strong[2, 1]:.5g}: "
        "squares do not fit into small integers, and // cuts. Start with image.astype(float).",
    )
    border = np.concatenate([got[0], got[-1], both_edges[0], both_edges[:, -1]])
    require(_close(border, 0), "the outermost pixels have no full 3 x 3 around them: give 0 there.")
    passed(name, "3, 4 and 5 on the ramps, 0 on the border")


def hysteresis(answer: Callable) -> None:
    """Check Canny's two thresholds."""
    name = "hysteresis"

    def kept(strength, low=1.0, high=2.0):
        return _array(_ask(answer, strength, low, high, name=name), name, strength.shape, "mask")

    line = np.array([[0, 1.5, 3, 1.5, 1.5, 1.5, 1.5, 0, 1.5, 1.5, 0]])
    got = kept(line)[0]
    require(bool(got[2]), "a pixel above `high` must always be kept (are low and high swapped?).")
    require(
        bool(got[1] or got[3]),
        "only pixels above `high` are kept: a weak pixel that is connected to a strong one is too.",
    )
    require(
        not got[8:10].any(),
        "weak pixels with no strong one in their piece are kept: all above `low` is too much.",
    )
    require(
        bool(got[1:7].all()),
        "a weak pixel far along the line is lost: connection goes on from weak pixel to weak "
        "pixel, not one step only.",
    )
    require(not got[[0, 7, 10]].any(), "pixels below `low` are never kept.")
    diagonal = np.diag([3.0, 1.5, 1.5, 0])
    require(
        bool(kept(diagonal)[1, 1] and kept(diagonal)[2, 2]),
        "a diagonal line falls apart: edges are connected at corners too, by 8 neighbours "
        "(np.ones((3, 3)) as the structure).",
    )
    long = np.full((1, 400), 1.5)
    long[0, 0] = 3
    require(bool(kept(long).all()), "a line of 400 weak pixels is not followed to its end.")
    rng = np.random.default_rng(0)
    field = ndimage.gaussian_filter(rng.random((40, 50)), 1.5)
    low, high = np.quantile(field, [0.6, 0.9])
    pieces, _ = ndimage.label(field > low, np.ones((3, 3)))
    right = np.isin(pieces, np.setdiff1d(pieces[field > high], 0))
    require(
        np.array_equal(kept(field, low, high), right),
        "wrong on a random field: keep a whole piece of `> low` if any pixel of it is > high.",
    )
    require(not kept(field, 5.0, 6.0).any(), "where nothing is strong, nothing is kept.")
    require(
        not kept(np.array([[2.0, 1.5, 0], [0, 0, 0]])).any(),
        "a strength of 2 is not above high = 2: both comparisons are >, not >=.",
    )
    require(
        not kept(np.array([[3.0, 1.0, 1.5, 0]]))[0, 1:].any(),
        "a strength of 1 is not above low = 1: both comparisons are >, not >=.",
    )
    passed(name, "weak pixels stay where they hang on a strong one")


def texture_energy(answer: Callable) -> None:
    """Check the local energy of one level of a wavelet."""
    name = "texture_energy"

    def energy(image, level, window=8):
        return _array(_ask(answer, image, level, window, name=name), name, image.shape, "numbers")

    y, x = np.mgrid[:64, :64]
    flat = energy(np.full((64, 64), 90, np.uint8), 1)
    require(
        _close(flat, 0),
        "a flat image has energy: leave out the approximation (the local mean); texture is in the "
        "three detail bands.",
    )
    fine = (100 + 20 * ((x + y) % 2)).astype(np.uint8)
    first, second = energy(fine, 1), energy(fine, 2)
    require(
        bool((first >= -1e-9).all()) and not _close(first[32, 32], 0),
        "a chess board of single pixels has no energy at level 1: square the coefficients before "
        "the mean (they swing around 0), add all three detail bands, and ask swt2 for level=level: "
        "it gives the coarsest level first.",
    )
    doubled = energy((100 + 40 * ((x + y) % 2)).astype(np.uint8), 1)
    require(
        _close(doubled[32, 32] / first[32, 32], 4),
        "twice the contrast must be four times the energy: square the coefficients (an absolute "
        "value is no energy), and start with float.",
    )
    require(
        not (_close(first[32, 32], 0) or first[32, 32] < second[32, 32]),
        "a chess board of single pixels must have its energy at level 1: swt2 gives the coarsest "
        "level first, so level 1 is the last of the list.",
    )
    coarse = (100 + 20 * ((x // 2 + y // 2) % 2)).astype(np.uint8)
    require(
        energy(coarse, 2)[32, 32] > energy(coarse, 1)[32, 32],
        "a chess board of 2 x 2 pixels must have more energy at level 2 than at level 1: `level` "
        "is the wavelet's, and the coarsest comes first in what swt2 gives.",
    )
    bands = [
        energy((100 + 20 * (pattern % 2)).astype(np.uint8), 1)[32, 32] for pattern in (x, y, x + y)
    ]
    require(
        min(bands) > 1e-6 and max(bands) < 1.01 * min(bands),
        "stripes across, stripes down and a chess board must have the same energy: add up all "
        f"three detail bands of the level (yours: {', '.join(f'{b:.4g}' for b in bands)}).",
    )
    require(
        not _close(first[32, 32], 400 / 3),
        "a chess board of 100 and 120 has energy 133.3: that is the mean of the three squares; "
        "add them up (400).",
    )
    require(
        _close(first[32, 32], 400),
        f"a chess board of 100 and 120 has energy {first[32, 32]:.5g}, expected 400: the three "
        "details of pywt.swt2 as they are, squared, added, and averaged over the window.",
    )
    half = np.where(x < 32, fine, 110).astype(np.uint8)
    got = energy(half, 1)
    require(
        got[32, 8] > 100 * got[32, 56],
        "texture in the left half only must give energy in the left half only: take the mean over "
        "the window around each pixel, not over the image.",
    )
    stripes = (100 + 20 * (x // 8 % 2)).astype(np.uint8)
    got = energy(stripes, 1, 16)[32, 16:48]
    require(
        got.min() > 0.3 * got.max(),
        "energy is still spotted between the edges of wide stripes: average the squares over "
        "`window` x `window` pixels (uniform_filter).",
    )
    noise = np.random.default_rng(0).integers(0, 256, (48, 64)).astype(np.uint8)
    inner = (slice(12, -12), slice(12, -12))
    for level in (1, 2):
        bands = pywt.swt2(noise.astype(float), "haar", level=level)[0][1]
        wanted = ndimage.uniform_filter(sum(band**2 for band in bands), 7)[inner]
        require(
            np.allclose(energy(noise, level, 7)[inner], wanted, rtol=1e-4),
            f"on an image of noise the energy of level {level} in a window of 7 is another than by "
            "hand: the three details of that level alone, by the wavelet 'haar', each squared, "
            "then added, then averaged over window x window pixels.",
        )
    passed(name, "fine texture at level 1, coarser at level 2, flat areas at 0")


def next_generation(answer: Callable) -> None:
    """Check one generation of the genetic search."""
    name = "next_generation"
    rng = np.random.default_rng(0)

    def breed(population, scores, seed=0):
        result = _ask(
            lambda p, s: answer(p, s, np.random.default_rng(seed)),
            population,
            scores,
            name=name,
            causes={
                "by zero|invalid value|contain NaN": "it divides by zero: scores may all be 0; a "
                "tournament only compares them"
            },
        )
        require(
            isinstance(result, np.ndarray) and result.shape == population.shape,
            f"{name} returns {getattr(result, 'shape', type(result).__name__)}; it must return an "
            f"array of the population's shape {population.shape}.",
        )
        require(
            np.issubdtype(result.dtype, np.integer),
            f"{name} returns {result.dtype}; thresholds are whole grey values.",
        )
        return result

    population = np.sort(rng.integers(0, 255, (40, 3)), axis=1)
    scores = 1000.0 - np.abs(population - [60, 120, 180]).sum(1)
    children = [breed(population, scores, seed) for seed in range(20)]
    every = np.concatenate(children)
    require(
        every.min() >= 0 and every.max() <= 254,
        f"a threshold of {every.min() if every.min() < 0 else every.max()} appears: after mutation "
        "clip to 0..254.",
    )
    require(
        bool((np.diff(every, axis=1) >= 0).all()),
        "thresholds of a child are out of order: sort each row after crossover and mutation.",
    )
    best = population[scores.argmax()]
    require(
        all((child == best).all(1).any() for child in children),
        "the best individual is lost: copy it unchanged into the next generation (elitism), so "
        "that the best score never falls.",
    )
    require(
        not any(np.array_equal(child, population) for child in children),
        "the next generation is the old one: return the children.",
    )
    require(
        np.array_equal(breed(population, scores, 3), breed(population, scores, 3)),
        "the same random generator gives two different generations: draw every number from the "
        "`rng` that you are given, not from np.random or random.",
    )
    require(
        not np.array_equal(breed(population, scores, 3), breed(population, scores, 4)),
        "another random generator gives the same generation: draw from `rng`.",
    )
    halves = np.array([[60, 65, 70], [200, 205, 210]])[np.arange(40) % 2]
    good = np.where(halves[:, 0] == 60, 10.0, 1.0)
    born = np.concatenate([breed(halves, good, seed) for seed in range(20)])
    share = ((born > 30) & (born < 100)).mean()
    require(
        share > 0.6,
        f"only {share:.0%} of the genes come from the better half of the parents: a parent with a "
        "higher score must be chosen more often.",
    )
    same = np.tile([60, 120, 180], (40, 1))
    fresh = np.concatenate([breed(same, np.zeros(40), seed) for seed in range(5)])
    require(
        bool((fresh != [60, 120, 180]).any()),
        "a population of equal individuals never changes: without mutation the search is stuck in "
        "what it began with.",
    )
    pure = np.array([[10, 20, 30], [110, 120, 130]])[np.arange(40) % 2]
    mixed = np.concatenate([breed(pure, np.zeros(40), seed) for seed in range(10)])
    near = np.abs(mixed[..., None] - np.array([20, 120])).argmin(-1)
    require(
        bool((near.min(1) != near.max(1)).mean() > 0.1),
        "no child has genes of two parents: cross over, each gene from one of the two.",
    )
    best = 0.0
    population = np.sort(rng.integers(0, 255, (40, 3)), axis=1)
    for generation in range(60):
        scores = 1000.0 - np.abs(population - [37, 99, 201]).sum(1)
        best = scores.max()
        population = breed(population, scores, generation)
    require(
        best > 988,
        f"after 60 generations the best thresholds are still {1000 - best:.0f} grey levels away "
        "from an easy optimum: is selection strong enough, and mutation not too wild?",
    )
    passed(name, "the best survives, children mix their parents, and mutation adds the new")


def region_force(answer: Callable) -> None:
    """Check the force of the Chan-Vese contour."""
    name = "region_force"

    def force(image, inside):
        return _array(_ask(answer, image, inside, name=name), name, image.shape, "numbers")

    image = np.array([[0, 0, 10, 100, 100, 60]], np.uint8)
    inside = np.array([[0, 0, 0, 1, 1, 0]], bool)
    # inside mean 100, outside mean (0 + 0 + 10 + 60) / 4 = 17.5
    got = force(image, inside)
    expected = (image - 17.5) ** 2 - (image - 100.0) ** 2
    require(
        not _close(got, -expected),
        "the sign is turned round: positive must mean 'more like the inside', that is "
        "(I - outside)**2 - (I - inside)**2.",
    )
    require(
        not _close(got, np.abs(image - 17.5) - np.abs(image - 100.0)),
        "square both differences: the energy is a sum of squares.",
    )
    whole = image.mean()
    require(
        not _close(got, (image - whole) ** 2 - (image - 100.0) ** 2),
        "the outside mean was taken over the whole image: take it over ~inside only.",
    )
    middle = (0 + 100) / 2
    require(
        not _close(got, (image - middle) ** 2),
        "use the two means, inside and outside the contour.",
    )
    require(
        not _close(np.sign(got), np.where(inside, 1, -1)) or _close(got, expected),
        "the sign of the force only repeats the contour: it must come from grey values. The pixel "
        "of 60 is outside, but nearer to 100 than to 17.5, so the force there is positive.",
    )
    require(
        _close(got, expected),
        f"at the pixel of 60 the force is {got[0, 5]:.6g}; by hand (60 - 17.5)**2 - (60 - 100)**2 "
        f"= {expected[0, 5]:.6g}. Is uint8 turned into float before the subtraction?",
    )
    for everything in (True, False):
        all_or_none = np.full(image.shape, everything)
        try:
            got = force(image, all_or_none)
        except CheckFailed:
            raise CheckFailed(
                f"{name} fails for a contour that holds {'all' if everything else 'no'} pixels: "
                "the mean of nothing is NaN. Use the mean of the whole image there."
            ) from None
        require(
            _close(got, np.zeros(image.shape)),
            f"for a contour that holds {'all' if everything else 'no'} pixels the force must be 0 "
            "everywhere: the empty side's mean is that of the whole image, not 0.",
        )
    passed(name, "positive where a pixel is more like the inside")


def segment(answer: Callable, images: np.ndarray) -> None:
    """Check that the task's function can be run by the grader: types, shapes, no hidden state."""
    name = "segment"
    first = _array_mask(_ask(answer, images[0], name=name), images[0].shape[:2])
    _array_mask(_ask(answer, images[0][:90, :110].copy(), name=name), (90, 110))
    _array_mask(_ask(answer, np.zeros((64, 64, 3), np.uint8), name=name), (64, 64))
    if len(images) > 1:
        second = _array_mask(_ask(answer, images[1], name=name), images[1].shape[:2])
        if not first.any() and not second.any():
            print("Note: segment finds no cell at all on the first two pictures.")
    again = _array_mask(_ask(answer, images[0], name=name), images[0].shape[:2])
    require(
        np.array_equal(first, again),
        "segment gives two different masks for one image: it must depend on the image alone.",
    )
    passed(name, "one mask an image, the same every time")


def _array_mask(mask, shape: tuple[int, int]) -> np.ndarray:
    require(
        isinstance(mask, np.ndarray),
        f"segment returns a {type(mask).__name__}; it must return one NumPy array.",
    )
    require(
        mask.shape == shape,
        f"segment returns shape {mask.shape} for an image of {shape} pixels: "
        + (
            "return one value a pixel, not one a channel."
            if mask.shape == (*shape, 3)
            else "it must be (H, W) for an image of (H, W, 3)."
        ),
    )
    require(
        mask.dtype == bool or np.issubdtype(mask.dtype, np.integer),
        f"segment returns {mask.dtype}; it must be bool, or integers 0 and 1.",
    )
    values = np.unique(mask)
    require(
        set(values.tolist()) <= {0, 1},
        f"the mask holds the values {values[:5].tolist()}; only 0 (background) and 1 (cell) are "
        "allowed. Number objects for counting, not here; and 255 is no class.",
    )
    return mask
