"""Checks of lesson 01: thresholds, regions, edges, wavelets, genetic search, contours.

An exercise is an :class:`Exercise`; before it stand the functions that its mistakes share. Its
cases are pictures so small that the answer can be worked out by hand. An argument of a mistake is
named by its first letter. ``segment`` is asked on the notebook's pictures, so it is a function.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage as ndi
from skimage.segmentation import watershed

from course_utils.checks import require
from course_utils.checks.exercise import Case, Exercise, as_kind, is_same
from course_utils.instances import instance_f1

CORNERS = np.ones((3, 3))  # a pixel has 8 neighbours; without: 4


def array_of(kinds: str, says: str) -> dict[str, Callable[..., bool]]:
    """Return facts: one array of its input's shape, of one of NumPy's kinds of dtype."""
    return {
        "{name} returns {found}: return {form}.": lambda got, given, *_: (
            isinstance(got, np.ndarray) and got.shape == given.shape
        ),
        f"{{name}} returns {{found}}; {says}": lambda got, *_: got.dtype.kind in kinds,
    }


MASK = array_of("b", "a mask is bool (a comparison gives one).")
LABELS = array_of("iu", "labels are integers: 0 background, 1..N.")
FLOAT = array_of("f", "it must be float: uint8 wraps around. Start with image.astype(float).")


def same_inside(got: np.ndarray, wanted: np.ndarray) -> bool:
    """Compare, in a large picture away from its frame: beyond it, images go on in many ways."""
    if getattr(got, "shape", None) == wanted.shape and min(wanted.shape) > 24:
        got, wanted = got[12:-12, 12:-12], wanted[12:-12, 12:-12]
    return is_same(got, wanted)


def dot(value: int, size: int = 9) -> np.ndarray:
    """Return a black picture with one pixel of ``value`` in its middle."""
    return np.pad(np.array([[value]], np.uint8), size // 2)


def noise(rng: np.random.Generator, least: int = 0, end: int = 256) -> np.ndarray:
    """Return a picture of random grey values."""
    return rng.integers(least, end, (48, 64)).astype(np.uint8)


NOISE = noise(np.random.default_rng(0))

TRUTH = np.array([[1, 1, 1, 1, 0, 0, 0, 0, 0, 0]], bool)
FOUND = np.array([[0, 0, 1, 1, 1, 0, 0, 0, 0, 0]], bool)  # shares 2, union 5
MORE = np.array([[0, 1, 1, 1, 1, 1, 1, 0, 0, 0]], bool)  # shares 3, union 7
EMPTY = np.zeros_like(TRUTH)

iou = Exercise(
    "iou",
    form="one number, 0 to 1",
    learnt="intersection over union, and 1 where both are empty",
    right=lambda p, t: 1 - (p ^ t).sum() / max((p | t).sum(), 1),
    cases={
        "iou gives {got} where 2 of 5 pixels agree, not {wanted}.": (FOUND, TRUTH),
        "iou of a mask with itself must be 1, not {got}.": (TRUTH, TRUTH),
        "iou of a mask and its opposite must be 0, not {got}.": (TRUTH, ~TRUTH),
        "iou gives {got} where 3 of 7 pixels agree, not {wanted}.": (MORE, TRUTH),
        "iou of two empty masks must be 1, not {got}.": (EMPTY, EMPTY),
        "iou where only the prediction is empty must be 0, not {got}.": (EMPTY, TRUTH),
        "iou where only the truth is empty must be 0, not {got}.": (TRUTH, EMPTY),
    },
    drawn=lambda rng: [
        *(Case(*(rng.random((2, 30, 40)) < share)) for share in (0.1, 0.5, 0.9)),
        *(Case(*pair) for pair in ((EMPTY, EMPTY), (TRUTH, EMPTY), (EMPTY, TRUTH))),
    ],
    mistakes={
        "iou of two empty masks must be 1: nothing was there and nothing was found. Look at the "
        "union before you divide.": lambda p, t: (p & t).sum() / (p | t).sum(),
        "{got} is the intersection alone: divide by the union.": lambda p, t: (p & t).sum(),
        "{got} is Dice, 2|A and B| / (|A| + |B|): IoU divides by the number of pixels in either, "
        "|A or B|.": lambda p, t: 2 * (p & t).sum() / (p.sum() + t.sum()),
        "{got}: pixels of both masks are counted twice in your union, it is |A| + |B| - |A and "
        "B|.": lambda p, t: (p & t).sum() / (p.sum() + t.sum()),
        "{got} is the share of the truth that was found (recall): divide by the union, the pixels "
        "of either mask.": lambda p, t: (p & t).sum() / t.sum(),
        "{got} is the share of the prediction that is right (precision): divide by the union, the "
        "pixels of either mask.": lambda p, t: (p & t).sum() / p.sum(),
        "{got} is pixel accuracy: background found as background counts nothing in IoU, which asks "
        "for objects.": lambda p, t: (p == t).mean(),
        "{got}: you divided the union by the intersection; it is the other way round, and at most "
        "1.": lambda p, t: (p | t).sum() / (p & t).sum(),
        "{got} for masks that share pixels: is it // where / should stand? // leaves the fraction "
        "out.": lambda p, t: (p & t).sum() // (p | t).sum(),
        "iou where one mask is empty and the other is not must be 0: only both empty give 1, not "
        "an empty truth.": lambda p, t: iou.right(p, t) if t.any() else 1.0,
    },
    causes={"by zero": "two empty masks must give 1: look at the union before you divide"},
)


def curve_of(value: Callable) -> Callable:
    """Return the curve of ``value(w0, w1, mean0 - mean1)``, 0 where a group is empty."""

    def curve(counts: np.ndarray) -> np.ndarray:
        dark, grey = np.tri(256), np.arange(256)  # dark[t]: the grey values up to t
        n0, n1 = dark @ counts, (1 - dark) @ counts
        sum0, sum1 = dark @ (counts * grey), (1 - dark) @ (counts * grey)
        gap = sum0 / np.maximum(n0, 1) - sum1 / np.maximum(n1, 1)
        return np.where(n0 * n1 > 0, value(n0 / counts.sum(), n1 / counts.sum(), gap), 0.0)

    return curve


otsu_curve = curve_of(lambda w0, w1, gap: w0 * w1 * gap**2)
COUNTS = np.bincount([10, 10, 20, 20], minlength=256)

between_class_variance = Exercise(
    "between_class_variance",
    form="the whole curve, (256,) float, one value a threshold: otsu() takes the argmax of it",
    learnt="right by hand, 0 where a group is empty",
    right=otsu_curve,
    cases={
        "wrong for two pixels of 10 and two of 20: by hand 0.5 * 0.5 * 10**2 = 25 for t from 10 to "
        "19, else 0. A group's mean weighs each grey value by its count.": (COUNTS,),
        "wrong for three pixels of 0 and one of 100: by hand 0.75 * 0.25 * 100**2 = 1875 for t "
        "from 0 to 99, else 0.": (np.bincount([0, 0, 0, 100], minlength=256),),
        "{name} is wrong on a large random histogram, of millions of pixels a grey value.": (
            np.random.default_rng(0).integers(0, 5_000_000, 256),
        ),
    },
    drawn=lambda rng: [  # with gaps, and empty at both ends
        Case(np.pad(rng.integers(0, 1000, 210) * (rng.random(210) < 0.7), (20, 26)))
    ],
    mistakes={
        "your groups are split at < t, ours at <= t: grey value t itself belongs to the dark "
        "group.": lambda c: np.append(0, otsu_curve(c)[:-1]),
        "{name} is 0 at t = 10 for two grey values, 10 and 20: that is the variance within the "
        "groups, which Otsu makes small. The variance between them is made "
        "large.": lambda c: np.cov(np.arange(256), fweights=c, ddof=0) - otsu_curve(c),
        "your weights are pixel counts; they must be shares of all pixels (divide by the sum of "
        "the counts).": lambda c: otsu_curve(c) * c.sum() ** 2,
        "the difference of the two means must be squared: a variance is in squared grey values, "
        "not in grey values.": curve_of(lambda w0, w1, gap: w0 * w1 * abs(gap)),
        "you took the root: return the variance.": lambda c: otsu_curve(c) ** 0.5,
        "the squared difference of the means must be weighted with both shares, which is w0 * w1 "
        "* (...)**2.": curve_of(lambda w0, w1, gap: gap**2),
    },
    facts=FLOAT
    | {
        "{name} gives NaN: it divides by zero where one side is empty. Give 0 there, by dividing "
        "only where both sides hold pixels.": lambda got, *_: np.isfinite(got).all()
    },
    causes={"by zero": "it divides by zero where one side is empty: give 0 there"},
)


def above(level: Callable) -> Callable:
    """Return the mask of what is brighter than ``level(image, window, offset)``."""
    return lambda i, w, o: i > level(i.astype(float), w, o)


def mean(image: np.ndarray, window: int, beyond: str = "symmetric") -> np.ndarray:
    """Return the mean around each pixel, the image going on as NumPy's ``pad`` does it."""
    padded = np.pad(image, window // 2, beyond)
    return np.lib.stride_tricks.sliding_window_view(padded, (window, window)).mean((2, 3))


RAMP = np.tile(np.arange(0, 240, 4, dtype=np.uint8), (60, 1))
RAMP[10:50:10, 5:60:10] += 15
SPOTS = np.pad(dot(90), ((0, 0), (0, 9)))
SPOTS[4, 9], SPOTS[3:5, 13:16] = 5, 100  # a faint dot, and a block that fills most of a window

local_mask = Exercise(
    "local_mask",
    form="a mask, (H, W) bool",
    learnt="the threshold follows the light",
    right=above(lambda i, w, o: mean(i, w) + o),
    cases={
        "a single pixel of 90 on 0, window 3, offset 5, must be found alone: its surroundings "
        "have the mean 10.": (dot(90), 3, 5),
        "255 is not above 250 + 20.": (dot(5, 15) + np.uint8(250), 5, 20),
        "dots that are 15 brighter than a ramp of light must all be found, and nothing else: "
        "is the mean that of the window around each pixel?": (RAMP, 9, 8),
        "with offset 82 a pixel of 90 is not above mean + offset = 92.": (SPOTS, 3, 82),
        "with offset 78 the pixel of 90 is above 10 + 78.": (dot(90), 3, 78),
        "8 is not above 8/9 + 7.5.": (dot(8), 3, 7.5),
        "nothing stands out of a plain grey.": (np.full((9, 9), 100, np.uint8), 3, 0.5),
        "on random pixels, window 5, your mask is another than by hand: the mean of the 5 x 5 "
        "pixels around each pixel, taken once (or are rows and columns mixed up?).": (
            NOISE,
            5,
            0.43,
        ),
    },
    drawn=lambda rng: [
        Case(noise(rng), int(rng.choice([5, 7, 9])), 15.123),
        Case(noise(rng, 192), 5, float(rng.integers(30, 40)) + 0.123),
        Case(noise(rng, 0, 8), 5, 0.123),
        Case(np.full((20, 20), rng.integers(50, 200), np.uint8), 7, 0.5),
    ],
    mistakes={
        "your mask is true where the image is darker than its surroundings: a pixel is foreground "
        "if it is brighter than mean + offset.": lambda i, w, o: i <= mean(i, w) - o,
        "250 + 20 became 14: uint8 wraps around at 255, also in a sum with a mean. Start with "
        "image.astype(float).": above(lambda i, w, o: (mean(i, w) + o) % 256),
        "a single pixel of 90 on 0, window 3, offset 5, must be found alone: the offset is added "
        "to the mean, not taken away.": above(lambda i, w, o: mean(i, w) - o),
        "the mean must keep its fraction: 8 is not above 8/9 + 7.5. uniform_filter gives whole "
        "numbers for uint8: hand it floats.": above(lambda i, w, o: np.floor(mean(i, w)) + o),
        "`window` is the whole width of the square, not a radius: 3 means that it has 3 x 3 "
        "pixels.": above(lambda i, w, o: mean(i, 2 * w + 1) + o),
        "take the mean of the window around each pixel, not the one mean of the whole "
        "image.": above(lambda i, w, o: i.mean() + o),
        "take the window's mean, no median.": above(lambda i, w, o: ndi.median_filter(i, w) + o),
        "a pixel must be brighter than mean + offset: is the offset added to the mean, or did you "
        "forget it?": above(lambda i, w, o: mean(i, w)),
        "on a plain grey image nothing is brighter than its surroundings; you find pixels at the "
        "border, where the mean took in zeros from beyond it. uniform_filter's own mode "
        "mirrors.": above(lambda i, w, o: mean(i, w, "constant") + o),
    },
    facts=MASK,
    same=same_inside,
)


def slopes(length: Callable, side=(1, 2, 1)) -> Callable:
    """Return a function of an image: ``length(gx, gy)`` within a frame of zeros."""

    def strength(image: np.ndarray) -> np.ndarray:
        right, down = (ndi.correlate1d(image.astype(float), [-1, 0, 1], axis) for axis in (1, 0))
        gx, gy = ndi.correlate1d(right, side, 0), ndi.correlate1d(down, side, 1)
        return np.pad(length(gx, gy)[1:-1, 1:-1], 1)

    return strength


Y, X = np.mgrid[:26, :28]  # large enough for the frame not to count

sobel = Exercise(
    "sobel",
    form="how steep, (H, W) float, the shape of the image",
    learnt="3, 4 and 5 on the ramps, 0 on the border",
    right=slopes(lambda gx, gy: np.hypot(gx, gy) / 8),
    cases={
        "a ramp of 3 a pixel to the right must give 3.": (3.0 * X,),
        "a ramp of 4 a pixel downwards must give 4.": ((4 * Y).astype(np.uint8),),
        "a ramp of 3 to the right and 4 down must give 5.": ((3 * X + 4 * Y).astype(np.uint8),),
        "a ramp that falls by 9 a pixel must give 9.": ((250 - 9 * X).astype(np.uint8),),
        "around a single pixel of 80 the answer is 20 beside it and 14.1 at its corner: Sobel "
        "weighs the three rows 1, 2, 1, which a plain difference does not.": (dot(80, 5),),
        "around a single pixel of 255 the answer is 63.75 beside it: // cuts, and small "
        "integers are too small. Start with image.astype(float).": (dot(255, 5),),
        "the outermost pixels have no full 3 x 3 around them: give 0 there.": (5.0 * X[:5],),
    },
    drawn=lambda rng: [Case(noise(rng)), Case(noise(rng)[:8])],
    mistakes={
        "a ramp of 3 a pixel gives 2.25: the middle row counts twice, as does the middle column "
        "for the other kernel.": slopes(lambda gx, gy: np.hypot(gx, gy) / 8, side=(1, 1, 1)),
        "a ramp downwards gives 0: you need the kernel and its transpose, one for each of the two "
        "directions.": slopes(lambda gx, gy: np.abs(gx) / 8),
        "a ramp to the right gives 0: you need the kernel and its transpose, one for each of the "
        "two directions.": slopes(lambda gx, gy: np.hypot(gy, gy) / 8),
        "a ramp of 3 a pixel gives 24: divide the kernels by 8, so that the answer is in grey "
        "levels a pixel.": slopes(np.hypot),
        "a ramp of 3 to the right and 4 down gives 7: the length is sqrt(gx**2 + gy**2) = 5, not "
        "|gx| + |gy|.": slopes(lambda gx, gy: (np.abs(gx) + np.abs(gy)) / 8),
        "take the root: this is the length squared.": slopes(lambda gx, gy: (gx**2 + gy**2) / 64),
        "a falling ramp comes out wrong: uint8 wraps around below 0. Start with "
        "image.astype(float).": slopes(lambda gx, gy: np.hypot(gx % 256, gy % 256) / 8),
        "around a pixel of 255 the answer is wrong: squares do not fit into small integers. Start "
        "with image.astype(float).": slopes(
            lambda gx, gy: np.abs((gx**2 + gy**2).astype(int).astype(np.int16)) ** 0.5 / 8
        ),
    },
    facts=FLOAT,
    same=same_inside,
)


def reached(seeds, within: np.ndarray, near=None, steps: int = 0) -> np.ndarray:
    """Return what is reached from a place, or from a mask, within a mask; 0 steps: all of it."""
    start = np.zeros(within.shape, bool)
    start[seeds] = True
    return ndi.binary_dilation(start, near, steps, mask=within)


LINE = np.array([[0, 1.5, 3, 1.5, 1.5, 1.5, 1.5, 0, 1.5, 1.5, 0]])
BENT = np.array([[3, 1.5, 1.5, 0, 0], [0, 0, 0, 1.5, 1.5]])
LONG = np.array([[3, *[1.5] * 399]])

hysteresis = Exercise(
    "hysteresis",
    form="a mask, (H, W) bool",
    learnt="weak pixels stay where they hang on a strong one",
    right=lambda s, lo, hi: reached(s > hi, s > lo, CORNERS),
    cases={
        "along 0, 1.5, 3, 1.5, 1.5, 1.5, 1.5, 0, 1.5, 1.5, 0 the second to the seventh pixel "
        "must be kept, with low = 1 and high = 2; yours: {got}.": (LINE, 1.0, 2.0),
        "a diagonal line falls apart: edges are connected at corners too.": (BENT, 1.0, 2.0),
        "a line of 400 weak pixels is not followed to its end.": (LONG, 1.0, 2.0),
        "where nothing is strong, nothing is kept.": (np.array([[2, 1.5, 0, 1.5]]), 1.0, 2.0),
        "a strength of 1 is not above low = 1.": (np.array([[3, 1, 1.5, 0]]), 1.0, 2.0),
        "wrong on random strengths: keep a whole piece of `> low` if any of its pixels is above "
        "`high`.": (NOISE // 26 / 2, 3.0, 4.0),
    },
    drawn=lambda rng: [
        Case(np.roll(LONG, rng.integers(100)), 1.0, 2.0),
        Case(noise(rng, 0, 10) / 2, 3.0, 4.0),
    ],
    mistakes={
        "only pixels above `high` are kept: a weak pixel that is connected to a strong one is too "
        "(or are low and high swapped?).": lambda s, lo, hi: s > hi,
        "weak pixels with no strong one in their piece are kept: all that lies above `low` is too "
        "much.": lambda s, lo, hi: s > lo,
        "a pixel above `high` must be kept, too.": lambda s, lo, hi: (s > lo) & (s < hi),
        "a weak pixel far along the line is lost: connection goes on from weak pixel to weak "
        "pixel, not one step only.": lambda s, lo, hi: reached(s > hi, s > lo, CORNERS, 1),
        "a line of weak pixels is not followed to its end: go on until nothing changes any more, "
        "however long that takes.": lambda s, lo, hi: reached(s > hi, s > lo, CORNERS, 10),
        "pixels below `low` are never kept, not even those beside an edge: grow within what is "
        "above it.": lambda s, lo, hi: ndi.binary_dilation(hysteresis.right(s, lo, hi)),
        "a diagonal line falls apart: edges are connected at corners too, by 8 neighbours "
        "(np.ones((3, 3)) as the structure).": lambda s, lo, hi: reached(s > hi, s > lo),
        "a strength of 2 is not above high = 2: a pixel that equals a threshold is not above it, "
        "use > and not >=.": lambda s, lo, hi: reached(s >= hi, s > lo, CORNERS),
        "a strength of 1 is not above low = 1: a pixel that equals a threshold is not above it, "
        "use > and not >=.": lambda s, lo, hi: reached(s > hi, s >= lo, CORNERS),
    },
    facts=MASK,
)


def alike(image: np.ndarray, seed: tuple[int, int], tolerance: float) -> np.ndarray:
    """Return where grey values are near the seed's, connected or not."""
    return np.abs(image.astype(int) - int(image[seed])) <= tolerance


def creeping(image: np.ndarray, seed: tuple[int, int], tolerance: float) -> np.ndarray:
    """Return the region of alike neighbours, on a grid that has the steps between pixels too."""
    grid = np.zeros(2 * np.array(image.shape) - 1, bool)
    grid[::2, ::2] = True
    grid[1::2, ::2] = np.abs(np.diff(image.astype(int), axis=0)) <= tolerance
    grid[::2, 1::2] = np.abs(np.diff(image.astype(int), axis=1)) <= tolerance
    return reached((2 * seed[0], 2 * seed[1]), grid)[::2, ::2]


def around(image: np.ndarray, seed: tuple[int, int], tolerance: float) -> np.ndarray:
    """Return the region in a picture that goes on at its opposite border."""
    (h, w), nine = image.shape, np.tile(alike(image, seed, tolerance), (3, 3))
    return reached((seed[0] + h, seed[1] + w), nine).reshape(3, h, 3, w).any((0, 2))


SQUARES = np.zeros((8, 9), np.uint8)
SQUARES[1:3, 1:3] = SQUARES[5:7, 1:4] = 100
CORNER = np.array([[9, 0, 0, 0, 9], [0, 9, 9, 0, 0], [0, 0, 9, 0, 0]], np.uint8)
CREEP = np.arange(0, 60, 5, dtype=np.uint8)[None, :].repeat(3, 0)
ENDS = np.array([[9, 9, 0, 0], [0, 0, 0, 0], [0, 0, 9, 0], [0, 0, 0, 0], [9, 0, 0, 0]], np.uint8)
SNAKE = np.zeros((41, 41), np.uint8)
SNAKE[::2] = SNAKE[1::4, -1:] = SNAKE[3::4, :1] = 200

grow = Exercise(
    "grow",
    form="a mask, (H, W) bool",
    learnt="connected to the seed and like the seed",
    right=lambda i, s, t: reached(s, alike(i, s, t)),
    cases={
        "the region of seed (6, 2) must be the 6 pixels of its square.": (SQUARES, (6, 2), 10),
        "only 3 pixels hang together by their sides.": (CORNER, (1, 1), 3),
        "the region of 100 with tolerance 110 holds 0, but not 250.": (
            np.array([[100, 100, 0, 250]], np.uint8),
            (0, 0),
            110,
        ),
        "the seed has 10: 0 to 20 belong to its region, and no more.": (CREEP, (1, 2), 10),
        "only 2 pixels hang together with the corner.": (ENDS, (0, 0), 3),
        "only 2 pixels hang together with this corner.": (ENDS.T.copy(), (0, 0), 3),
        "a long winding region is not filled to its end: go on until no new pixel is found, "
        "however far that is.": (SNAKE, (0, 0), 5),
    },
    drawn=lambda rng: [
        *(
            Case(noise(rng, 0, 4) * np.uint8(70), tuple(s), 70)
            for s in rng.integers(48, size=(6, 2))
        ),
        Case(SNAKE, (2 * int(rng.integers(21)), 7), 5),
        Case(np.insert(ENDS, [1] * rng.integers(1, 9), 0, axis=0), (0, 0), 3),
    ],
    mistakes={
        "pixels far darker than the seed are in your region: take the absolute difference, which "
        "is never negative.": lambda i, s, t: reached(s, i.astype(int) - i[s] <= t),
        "a pixel that touches only at a corner is in your region: use the 4 neighbours above, "
        "below, left and right.": lambda i, s, t: reached(s, alike(i, s, t), CORNERS),
        "|0 - 100| came out wrong: uint8 wraps around below 0. Start with image.astype(float) (or "
        "int).": lambda i, s, t: reached(s, np.abs(i - i[s]) <= t),
        "the region creeps up a ramp: compare each pixel with the grey value of the seed, not of "
        "the neighbour that it was reached from.": creeping,
        "a difference of exactly `tolerance` belongs to the region, be it darker or brighter: <=, "
        "not <.": lambda i, s, t: reached(s, alike(i, s, t - 0.5)),
        "the region goes on at the opposite border: index -1 is the other side of the picture: "
        "test 0 <= y and 0 <= x too.": around,
        "the other square of the same grey value is in your region too: similar is not enough, a "
        "pixel must be connected to the seed.": alike,
    },
    facts=MASK
    | {
        "the seed's own pixel is not in your region: the seed is (row, column), image[seed] its "
        "grey value.": lambda got, _, seed, *__: got[seed]
    },
)


def landscapes(rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return rough landscapes with eight markers each."""
    markers = rng.permutation(np.r_[1:9, np.zeros(1192, int)]).reshape(30, 40)
    return [(10 * rng.random((30, 40)), markers) for _ in range(3)]


VALLEY = np.array([[0, 1, 2, 3, 9, 4, 2, 1, 0, 0, 0]], float)
BANKS, MIDDLE = np.array([[5, *[0] * 9, 7]]), np.array([[1, *[0] * 6, 2]])
GATE, SOURCES = np.array([[0.0, 9, 9], [9, 1, 2], [9, 9, 3]]), np.diag([3, 0, 4])

flood = Exercise(
    "flood",
    form="labels, (H, W) integers",
    learnt="floods meet at the ridges, as in scikit-image",
    right=watershed,
    cases={
        "two floods must meet at the ridge, the fifth pixel, not: {got}. Always take the lowest "
        "pixel of the queue first (low is where the water is, not high).": (VALLEY, BANKS),
        "on flat ground two floods must meet in the middle, not: {got}. Of pixels of one height, "
        "take the one first that was put in first.": (np.zeros((1, 8)), MIDDLE),
        "the water of the lower gate must come first: {wanted}, not {got}.": (GATE, SOURCES),
        "more than 3 % of the pixels of a random landscape differ from scikit-image's watershed: "
        "is a neighbour's own height its priority?": landscapes(np.random.default_rng(0))[0],
    },
    drawn=lambda rng: [
        *(Case(*given) for given in landscapes(rng)),
        Case(np.zeros((1, 2 * (n := rng.integers(5, 20)))), np.r_[1, [0] * (2 * n - 2), 2][None]),
    ],
    mistakes={
        "two floods must meet at the ridge: always take the lowest pixel of the queue first, not "
        "the oldest or the nearest.": lambda e, m: watershed(np.zeros_like(e), m),
        "on flat ground two floods must spread equally fast and meet in the middle: among pixels "
        "of one height take the one first that was put in first (a counter in the tuple), not the "
        "one further left.": lambda e, m: watershed(
            e + 1e-9 * np.arange(e.size).reshape(e.shape), m
        ),
        "water flows through a corner: use the 4 neighbours (no diagonals), above, below, left and "
        "right.": lambda e, m: watershed(e, m, connectivity=2),
    },
    facts=LABELS
    | {
        "some pixels got no label: flood until the queue is empty, uphill too, over the highest "
        "ridges.": lambda got, *_: (got > 0).all(),
        "the labels are not those of the markers: a pixel takes the label of the one whose water "
        "reaches it first.": lambda got, _, markers: np.isin(got, markers).all(),
        "the markers must keep their own labels: label a pixel once only, and never one that has "
        "a label.": lambda got, _, markers: (got == markers)[markers > 0].all(),
    },
    same=lambda got, wanted: np.shape(got) == wanted.shape and np.mean(got == wanted) > 0.97,
)


def discs(*circles: tuple[int, int, int]) -> np.ndarray:
    """Return the mask of discs (row, column, radius), (60, 90)."""
    y, x = np.mgrid[:60, :90]
    return np.any([(y - a) ** 2 + (x - b) ** 2 <= r * r for a, b, r in circles], axis=0)


def tops(mask: np.ndarray, min_distance: int) -> np.ndarray:
    """Return markers 1..N: pixels that lie deeper in the mask than all others that near."""
    depth = ndi.gaussian_filter(ndi.distance_transform_edt(mask), 1)
    return ndi.label(mask & (depth == ndi.maximum_filter(depth, 2 * min_distance + 1)), CORNERS)[0]


def flooded(mask: np.ndarray, markers: np.ndarray, sign: int = -1) -> np.ndarray:
    """Return the markers grown over the mask, the deepest pixels first."""
    return watershed(sign * ndi.distance_transform_edt(mask), markers.astype(int), mask=mask)


UNEQUAL = discs((30, 26, 20), (30, 53, 9))

split_touching = Exercise(
    "split_touching",
    form="labels, (H, W) integers: 0 background, 1..N the objects",
    learnt="one label an object, borders at the waist",
    right=lambda m, d: flooded(m, tops(m, d)),
    cases={
        "two discs far apart must be 2 objects: one marker an object, so peaks of the distance "
        "must be at least min_distance apart.": (discs((30, 20, 12), (30, 65, 15)), 6),
        "two touching discs must be 2 objects, with their border at the waist: peaks of the "
        "distance must be at least min_distance apart.": (discs((30, 25, 15), (30, 50, 15)), 6),
        "a small disc at a large one must keep its own pixels, and no more.": (UNEQUAL, 6),
        "two discs whose middles are 27 apart are one object at min_distance 40.": (UNEQUAL, 40),
        "an empty mask holds no object.": (np.zeros((20, 20), bool), 6),
        "four discs, two of them touching, must be 4 objects.": (
            discs((12, 40, 9), (45, 15, 9), (45, 32, 9), (45, 60, 10)),
            6,
        ),
    },
    drawn=lambda rng: [
        Case(discs(*((30, 14 + 19 * n, int(rng.integers(11, 14))) for n in range(4))), 5),
        *(Case(discs((30, 26, 20), (30, 53, int(rng.integers(8, 11)))), d) for d in (5, 40)),
    ],
    mistakes={
        "two touching discs became one object: markers come from the peaks of the distance to the "
        "background, not from the connected components.": lambda m, d: ndi.label(m)[0],
        "the border between two touching discs is not at their waist: flood the distance turned "
        "upside down (-distance), where the middle of each object is the lowest "
        "point.": lambda m, d: flooded(m, tops(m, d), sign=1),
        "two discs far apart carry one label: number the markers 1, 2, 3, ...; True is 1 for "
        "all.": lambda m, d: flooded(m, tops(m, d) > 0),
        "with min_distance 40 two discs whose middles are 27 apart must stay one object: do you "
        "pass min_distance on?": lambda m, d: flooded(m, tops(m, 6)),
        "with min_distance 40 no object is left: by default peak_local_max finds no peak nearer "
        "than min_distance to the frame. exclude_border=False.": lambda m, d: flooded(
            m, tops(m, d) * ndi.minimum_filter(np.ones(m.shape), 2 * d + 1, mode="constant")
        ),
    },
    facts={"{name} returns a mask; return {form}.": lambda got, *_: as_kind(got)[:4] != "bool"}
    | LABELS
    | {
        "background pixels carry a label: give watershed the mask (mask=mask), so that the flood "
        "stays inside the objects.": lambda got, mask, _: not got[~mask].any(),
        "pixels of the objects carry no label: markers alone are no objects, flood them. Or does "
        "your numbering start at 0? 0 means no marker: number from 1 to "
        "N.": lambda got, mask, _: got[mask].all(),
    },
    causes={
        "No matching signature": "watershed wants integer markers: np.zeros(mask.shape, int)",
        "out of bounds": "IndexError: are rows and columns mixed up? A peak is (row, column)",
    },
    same=lambda got, wanted: (  # but for a few pixels, and however they are numbered
        np.shape(got) == wanted.shape
        and np.asarray(got).dtype != bool
        and instance_f1(got, wanted, 0.93) == 1
    ),
)


def haar(image: np.ndarray, level: int) -> list[np.ndarray]:
    """Return mean and three details of each pixel with its neighbours right and below."""
    rough = image.astype(float)
    for step in 2 ** np.arange(level):
        pairs = [rough + sign * np.roll(rough, -step, 0) for sign in (1, -1)]
        bands = [(p + sign * np.roll(p, -step, 1)) / 2 for p in pairs for sign in (1, -1)]
        rough = bands[0]
    return bands


def power(image: np.ndarray, level: int) -> np.ndarray:
    """Return the sum of the squared details, pixel by pixel."""
    return sum(band**2 for band in haar(image, level)[1:])


def averaged(combined: Callable) -> Callable:
    """Return the mean over each pixel's window of ``combined(image, level)``."""
    return lambda i, n, w: ndi.uniform_filter(combined(i, n), w)


STRIPES = np.tile(np.array([[100, 130], [150, 160]], np.uint8), (32, 32))

texture_energy = Exercise(
    "texture_energy",
    form="energy, (H, W) float, the shape of the image",
    learnt="fine texture at level 1, coarser at level 2, flat areas at 0",
    right=averaged(power),
    cases={
        "a flat image has no energy.": (np.full((64, 64), 90, np.uint8), 1, 8),
        "stripes of 20 across, of 40 down and a chess board of 10 together have the energy 20**2 + "
        "40**2 + 10**2 = 2100 at level 1: the details of pywt.swt2 as they are, all three bands "
        "each squared, then added, and averaged over the window.": (STRIPES, 1, 7),
        "wrong on noise at level 1 in a window of 7: the three details of that level, by the "
        "wavelet 'haar', each squared, then added, then averaged over 7 x 7 pixels.": (NOISE, 1, 7),
        "wrong on noise at level 2: the three details of that level alone.": (NOISE, 2, 7),
    },
    drawn=lambda rng: [Case(noise(rng), level, 9) for level in (1, 2)],
    mistakes={
        "a flat image has energy: leave out the approximation (the local mean); texture is in the "
        "three detail bands.": averaged(lambda i, n: power(i, n) + haar(i, n)[0] ** 2),
        "square the coefficients before the mean: they swing around 0, so their own mean says "
        "nothing.": averaged(lambda i, n: sum(haar(i, n)[1:])),
        "square the coefficients: an absolute value is no energy; twice the contrast is four times "
        "the energy.": averaged(lambda i, n: sum(np.abs(haar(i, n)[1:]))),
        "one detail band is not enough, since each sees another direction: add up all three bands "
        "of the level.": averaged(lambda i, n: haar(i, n)[2] ** 2),
        "that is the mean of the three: add them up.": averaged(lambda i, n: power(i, n) / 3),
        "swt2 gives the coarsest level first, so the level that you ask for is the first of its "
        "list: yours is level 1.": averaged(lambda i, n: power(i, 1)),
        "swt2 gives the coarsest level first: ask it for level=level, then your level is the first "
        "of its list.": averaged(lambda i, n: power(i, 4 - n)),
        "average the squares over the window (uniform_filter).": lambda i, n, w: power(i, n),
        "take the mean over the window around each pixel, not over the whole image: where is the "
        "texture?": lambda i, n, w: np.full(i.shape, power(i, n).mean()),
    },
    facts=FLOAT,
    same=same_inside,
)


def breeder(share=0.5, cross=True, step=20, clip=True, order=True, elite=True) -> Callable:
    """Return a ``next_generation`` whose parents are drawn from the best ``share`` of the old."""

    def generation(population: np.ndarray, scores: np.ndarray, rng: np.random.Generator):
        ranked, shape = population[np.argsort(-scores)], population.shape
        mother, father = rng.integers(0, int(share * shape[0]), (2, shape[0]))
        genes = np.where((rng.random(shape) < 0.5) & cross, ranked[mother], ranked[father])
        genes = genes + rng.integers(-step, step + 1, shape) * (rng.random(shape) < 0.2)
        genes = np.clip(genes, 0, 254) if clip else genes
        genes = np.sort(genes, axis=1) if order else genes
        return np.concatenate([ranked[:1], genes[1:]]) if elite else genes

    return generation


def asked(holds: Callable) -> Callable:
    """Return a way to ask whether ``holds(generations, *given)``: of 20 seeds, the first twice."""

    def through(answer: Callable, *given: np.ndarray) -> bool:
        found = [answer(*given, np.random.default_rng(seed)) for seed in (*range(20), 0)]
        for new in found:
            fits = getattr(new, "shape", None) == given[0].shape and new.dtype.kind in "iu"
            says = f"{as_kind(new)}; return whole grey values in the population's shape"
            require(fits, f"next_generation returns {says}, {given[0].shape}.")
        return bool(holds(np.array(found), *given))

    return through


def finds(answer: Callable, population: np.ndarray, goal: list[int]) -> bool:
    """Tell whether 60 generations come near a goal, and the best score never falls."""
    best = []
    for seed in range(60):
        scores = 1000.0 - np.abs(population - goal).sum(1)
        best.append(scores.max())
        population = answer(population, scores, np.random.default_rng(seed))
    return best[-1] > 985 and min(np.diff(best)) >= 0


def generations(rng: np.random.Generator) -> list[Case]:
    """Return questions about random and simple populations, of 40 individuals each."""
    goal = np.sort(rng.integers(20, 235, 3))
    some = np.sort(rng.integers(0, 255, (40, 3)), axis=1)
    halves = np.array([[60, 65, 70], [200, 205, 210]])[np.arange(40) % 2]
    far = np.array([[10, 20, 30], [110, 120, 130]])[np.arange(40) % 2]
    same, scores = np.tile([60, 120, 180], (40, 1)), 1000.0 - np.abs(some - goal).sum(1)
    questions = [
        (some, scores, lambda new, *_: new.min() >= 0 and new.max() <= 254),
        (some, scores, lambda new, *_: (np.diff(new, axis=2) >= 0).all()),
        (some, scores, lambda new, p, s: (new == p[s.argmax()]).all(2).any(1).all()),
        (some, scores, lambda new, p, _: not (new == p).all((1, 2)).any()),
        (some, scores, lambda new, *_: (new[0] == new[-1]).all()),
        (some, scores, lambda new, *_: (new[0] != new[1]).any()),
        (halves, 10.0 - halves[:, 0] / 30, lambda new, *_: (np.abs(new - 65) < 35).mean() > 0.6),
        (same, np.zeros(40), lambda new, p, _: (new != p).any()),
        (far, np.zeros(40), lambda new, *_: ((new > 70).min(2) != (new > 70).max(2)).mean() > 0.1),
    ]
    says = (
        "60 generations do not come near an easy optimum: is selection strong enough, and mutation "
        "not too wild?"
    )
    found = [Case(p, s, through=asked(holds)) for p, s, holds in questions]
    return [*found, Case(some, goal, through=finds, says=says)]


next_generation = Exercise(
    "next_generation",
    form="the children, (P, k) integers, rows sorted",
    learnt="the best survives, children mix their parents, and mutation adds the new",
    right=breeder(),
    cases=generations(np.random.default_rng(0)),
    drawn=generations,
    mistakes={
        "thresholds below 0 or above 254 appear, which split no grey values: after mutation clip "
        "to 0..254.": breeder(clip=False, step=120),
        "thresholds of a child are out of order: sort each row after crossover and mutation, "
        "lowest first.": breeder(order=False),
        "the best individual is lost: copy it unchanged into the next generation (elitism), so "
        "that the best score never falls.": breeder(elite=False),
        "the same random generator gives two different generations: draw every number from the "
        "`rng` that you are given, not from np.random or "
        "random.": lambda p, s, _: breeder()(p, s, np.random.default_rng()),
        "less than 60 % of the genes come from the better half of the parents: a parent with a "
        "higher score must be chosen more often.": breeder(share=1),
        "a population of equal individuals never changes: without mutation the search is stuck in "
        "what it began with.": breeder(step=0),
        "no child has genes of two parents: cross over, so that each gene comes from one of the "
        "child's two parents.": breeder(cross=False),
        "another random generator gives the same generation: draw from `rng`, with no seed of your "
        "own.": lambda p, s, _: breeder()(p, s, np.random.default_rng(0)),
        "the next generation is the old one: return the children.": lambda p, *_: p.copy(),
    },
    causes={
        "by zero|invalid value|contain NaN": "it divides by zero: scores may all be 0; a "
        "tournament only compares them"
    },
)


def force_of(value: Callable, of_nothing: Callable = np.mean) -> Callable:
    """Return ``value(image, inside mean, outside mean)``; an empty side's: of the image."""

    def force(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
        i, sides = image.astype(float), (inside, ~inside)
        return value(i, *(i[side].mean() if side.any() else of_nothing(i) for side in sides))

    return force


SHADES = np.array([[0, 0, 10, 100, 100, 60]], np.uint8)
INSIDE = np.array([[0, 0, 0, 1, 1, 0]], bool)  # mean 100; outside (0 + 0 + 10 + 60) / 4 = 17.5

region_force = Exercise(
    "region_force",
    form="force, (H, W) float, the shape of the image",
    learnt="positive where a pixel is more like the inside",
    right=force_of(lambda i, c1, c2: (c1 - c2) * (2 * i - c1 - c2)),
    cases={
        "the force on 0, 0, 10, 100, 100 and 60, of which the two of 100 are inside, is {got}; by "
        "hand the last is (60 - 17.5)**2 - (60 - 100)**2 = 206.25. Is uint8 turned into float "
        "before the subtraction?": (SHADES, INSIDE),
        "where a contour holds all pixels, the force must be 0.": (SHADES, np.full((1, 6), True)),
        "where a contour holds no pixels, the force must be 0.": (SHADES, np.full((1, 6), False)),
    },
    drawn=lambda rng: [
        Case(i := noise(rng), i > noise(rng)),
        Case(i, np.full(i.shape, True)),
        Case(i, np.full(i.shape, False)),
    ],
    mistakes={
        "the sign is turned round: positive must mean 'more like the inside', that is (I - "
        "outside)**2 - (I - inside)**2.": lambda i, m: -region_force.right(i, m),
        "square both differences: the energy is a sum of squares, not of absolute "
        "values.": force_of(lambda i, c1, c2: np.abs(i - c2) - np.abs(i - c1)),
        "the outside mean was taken over the whole image: take it over ~inside only, without the "
        "inside.": force_of(lambda i, c1, c2: (i - i.mean()) ** 2 - (i - c1) ** 2),
        "use the two means, inside and outside the contour, and not the middle of the grey "
        "values.": force_of(lambda i, c1, c2: (i - (i.min() + i.max()) / 2) ** 2),
        "the empty side's mean is that of the whole image, not 0: then the force is 0 "
        "everywhere.": force_of(lambda i, c1, c2: (c1 - c2) * (2 * i - c1 - c2), lambda i: 0.0),
    },
    facts=FLOAT
    | {
        "the mean of nothing is NaN, where a contour holds all pixels or none: use the mean of the "
        "whole image there.": lambda got, *_: np.isfinite(got).all(),
        "the sign of the force only repeats the contour: it must come from grey values. The pixel "
        "of 60 is outside, but nearer to 100 than to 17.5, so the force there is "
        "positive.": lambda got, _, inside: (np.sign(got) != np.where(inside, 1, -1)).any(),
    },
    same=lambda got, wanted: is_same(got, wanted, atol=0.05),  # float32 is fine
)


def segment(answer: Callable, images: np.ndarray) -> None:
    """Check that the task's function can be run by the grader: types, shapes, no hidden state."""
    black = np.zeros((64, 64, 3), np.uint8)
    Exercise(
        "segment",
        form="one mask, (H, W) of bool, or of the integers 0 and 1",
        learnt="one mask an image, the same every time",
        right=None,
        cases=[Case(image) for image in (images[0], images[0][:90, :110], black, *images[1:2])],
        facts={
            "{name} returns {found}: return one NumPy array, with one value a pixel, not one a "
            "channel, and no list.": lambda got, _: isinstance(got, np.ndarray) and got.ndim == 2,
            "{name} returns {found}: the shape must be (H, W) for an image of (H, W, 3), of any "
            "size.": lambda got, image: got.shape == image.shape[:2],
            "{name} returns {found}; it must be bool, or integers 0 and 1: for each pixel a class, "
            "not a probability.": lambda got, _: got.dtype.kind in "biu",
            "the mask holds more than 0 (background) and 1 (cell). Number objects for counting, "
            "not here; and 255 is no class.": lambda got, _: np.isin(got, (0, 1)).all(),
            "{name} gives two different masks for one image: it must depend on the image alone, "
            "not on earlier calls.": lambda got, image: np.array_equal(answer(image.copy()), got),
        },
    )(answer)
    if not any(answer(image.copy()).any() for image in images[:2]):
        print("Note: segment finds no cell at all on the first two pictures.")
