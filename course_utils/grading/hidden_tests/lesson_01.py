"""Hidden tests of lesson 01: fresh random input against other implementations; short messages."""

from collections.abc import Callable

import numpy as np
import pywt
from scipy import ndimage
from skimage.segmentation import watershed

from course_utils.grading.hidden_tests import ask, holds, same


def _blobs(rng: np.random.Generator, shape=(40, 50), sigma=3.0) -> np.ndarray:
    """Smooth random uint8 field."""
    field = ndimage.gaussian_filter(rng.random(shape), sigma)
    return (255 * (field - field.min()) / np.ptp(field)).astype(np.uint8)


def iou(answer: Callable) -> None:
    """Test on random masks, against counts."""
    rng = np.random.default_rng()
    for share in (0.1, 0.5, 0.9):
        a, b = rng.random((2, 30, 40)) < share
        a[0, 0] = True
        same("iou", ask("iou", answer, a, b), np.sum(a & b) / np.sum(a | b))
    none = np.zeros_like(a)
    holds("iou", ask("iou", answer, a, none) == 0 and ask("iou", answer, none, a) == 0)


def between_class_variance(answer: Callable) -> None:
    """Test on random histograms with empty ends, against total minus within-class variance."""
    rng = np.random.default_rng()
    counts = rng.integers(0, 1000, 256) * (rng.random(256) < 0.7)
    counts[:20] = counts[230:] = 0
    counts[100] += 1
    counts[150] += 1
    values = np.repeat(np.arange(256), counts)
    expected = np.zeros(256)
    for t in range(256):
        dark, bright = values[values <= t], values[values > t]
        if len(dark) and len(bright):
            within = (dark.var() * len(dark) + bright.var() * len(bright)) / len(values)
            expected[t] = values.var() - within
    name = "between_class_variance"
    same(name, ask(name, answer, counts), expected, atol=1e-5)


def local_mask(answer: Callable) -> None:
    """Test on a random field, away from its border, against window means one by one."""
    rng = np.random.default_rng()
    image = rng.integers(0, 256, (40, 50)).astype(np.uint8)
    window, offset = int(rng.choice([5, 7, 9])), float(rng.integers(-20, 21)) + 0.123
    means = np.lib.stride_tricks.sliding_window_view(image, (window, window)).mean((2, 3))
    half = window // 2
    inner = (slice(half, -half), slice(half, -half))
    got = np.asarray(ask("local_mask", answer, image, window, offset))
    holds("local_mask", got.shape == image.shape)
    same("local_mask", got[inner], image[inner] > means + offset)


def grow(answer: Callable) -> None:
    """Test on a random field, against connected components."""
    rng = np.random.default_rng()
    for _ in range(3):
        image = _blobs(rng)
        seed = (int(rng.integers(0, 40)), int(rng.integers(0, 50)))
        pieces, _ = ndimage.label(np.abs(image.astype(int) - int(image[seed])) <= 40)
        same("grow", ask("grow", answer, image, seed, 40), pieces == pieces[seed])


def flood(answer: Callable) -> None:
    """Test on random landscapes, against scikit-image."""
    rng = np.random.default_rng()
    elevation = ndimage.gaussian_filter(rng.random((40, 50)), 2)
    markers = np.zeros(elevation.shape, np.int64)
    markers.ravel()[rng.choice(elevation.size, 8, replace=False)] = np.arange(1, 9)
    got = np.asarray(ask("flood", answer, elevation, markers.copy()))
    holds("flood", got.shape == markers.shape)
    holds("flood", (got == watershed(elevation, markers)).mean() > 0.97)


def split_touching(answer: Callable) -> None:
    """Test on a row of touching discs: as many objects, each of nearly its own pixels."""
    rng = np.random.default_rng()
    radius, count = int(rng.integers(9, 13)), int(rng.integers(3, 6))
    y, x = np.mgrid[:50, : 20 + int(1.7 * radius) * count + radius]
    middles = 5 + radius + int(1.7 * radius) * np.arange(count)
    mask = np.any([(y - 25) ** 2 + (x - m) ** 2 <= radius**2 for m in middles], axis=0)
    got = np.asarray(ask("split_touching", answer, mask, 5))
    holds("split_touching", got.shape == mask.shape and not got[~mask].any())
    holds("split_touching", len(np.unique(got[mask])) == count and bool(got[mask].all()))
    holds("split_touching", len({int(got[25, m]) for m in middles}) == count)


def sobel(answer: Callable) -> None:
    """Test on noise, against scipy."""
    image = np.random.default_rng().integers(0, 256, (30, 41)).astype(np.uint8)
    grey = image.astype(float)
    expected = np.zeros(image.shape)
    inner = (slice(1, -1), slice(1, -1))
    expected[inner] = np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1))[inner] / 8
    same("sobel", ask("sobel", answer, image), expected)


def hysteresis(answer: Callable) -> None:
    """Test on a random field, against propagation from the strong pixels."""
    rng = np.random.default_rng()
    field = ndimage.gaussian_filter(rng.random((50, 60)), 1.2)
    low, high = np.quantile(field, [0.55, 0.9])
    expected = ndimage.binary_propagation(field > high, np.ones((3, 3)), mask=field > low)
    same("hysteresis", ask("hysteresis", answer, field, low, high), expected)


def texture_energy(answer: Callable) -> None:
    """Test on noise, away from the border and up to one constant factor."""
    image = np.random.default_rng().integers(0, 256, (64, 64)).astype(np.uint8)
    inner = (slice(16, -16), slice(16, -16))
    for level in (1, 2):
        _, details = pywt.swt2(image.astype(float), "haar", level=level)[0]
        expected = ndimage.uniform_filter(sum(band**2 for band in details), 9)[inner]
        got = np.asarray(ask("texture_energy", answer, image, level, 9))
        holds("texture_energy", got.shape == image.shape)
        same("texture_energy", got[inner] / expected.mean(), expected / expected.mean())


def next_generation(answer: Callable) -> None:
    """Test that a random easy optimum is found, without ever losing the best."""
    rng = np.random.default_rng()
    goal = np.sort(rng.integers(20, 235, 3))
    population = np.sort(rng.integers(0, 255, (40, 3)), axis=1)
    best = 0.0
    for _ in range(60):
        scores = 1000.0 - np.abs(population - goal).sum(1)
        holds("next_generation", scores.max() >= best)
        best = scores.max()
        population = np.asarray(ask("next_generation", answer, population, scores, rng))
        holds("next_generation", population.shape == (40, 3))
    holds("next_generation", best > 985)


def region_force(answer: Callable) -> None:
    """Test on a random image and contour, against the expanded square."""
    rng = np.random.default_rng()
    image = rng.integers(0, 256, (30, 40)).astype(np.uint8)
    inside = rng.random(image.shape) < 0.3
    a, b = image[inside].mean(), image[~inside].mean()
    expected = (a - b) * (2 * image.astype(float) - a - b)
    # float32 is fine
    same("region_force", ask("region_force", answer, image, inside), expected, atol=0.05)
