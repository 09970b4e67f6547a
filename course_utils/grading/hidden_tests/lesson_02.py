"""Hidden tests of lesson 02: other inputs than the visible checks, against other implementations.

Every test draws its input anew, so that no answer can be a table of the visible cases. Each
raises :class:`CheckFailed` with one short line.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from course_utils import metrics
from course_utils.checks import CheckFailed
from course_utils.data.segmentation_set import VOID
from course_utils.grading.hidden_tests import ask, holds, same


def _random_matrix(rng: np.random.Generator, classes: int = 6) -> np.ndarray:
    matrix = rng.integers(0, 50, (classes, classes))
    absent = rng.integers(classes)
    matrix[absent], matrix[:, absent] = 0, 0
    matrix[(absent + 1) % classes] = 0  # predicted, never true
    return matrix


def _random_masks(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two blobs (40, 50) that overlap in part; neither is empty."""
    noise = ndimage.gaussian_filter(rng.normal(size=(40, 50)), 4)
    other = noise + 0.6 * ndimage.gaussian_filter(rng.normal(size=(40, 50)), 4)
    return noise > np.quantile(noise, 0.7), other > np.quantile(other, 0.75)


def confusion_matrix(answer: Callable) -> None:
    """Test on random masks with void, against the package's matrix."""
    rng = np.random.default_rng()
    for classes in (2, 11, 33):
        truth = rng.integers(0, classes, (2, 30, 20)).astype(np.uint8)
        prediction = rng.integers(0, classes - 1, truth.shape).astype(np.uint8)
        truth[rng.random(truth.shape) < 0.1] = VOID
        expected = metrics.ConfusionMatrix(classes).update(prediction, truth).matrix
        got = ask("confusion_matrix", answer, truth, prediction, classes)
        same("confusion_matrix", got, expected)


def iou_per_class(answer: Callable) -> None:
    """Test on random matrices with an absent class."""
    matrix = _random_matrix(np.random.default_rng())
    same("iou_per_class", ask("iou_per_class", answer, matrix), metrics.iou(matrix))


def dice_per_class(answer: Callable) -> None:
    """Test on random matrices with an absent class."""
    matrix = _random_matrix(np.random.default_rng())
    same("dice_per_class", ask("dice_per_class", answer, matrix), metrics.dice(matrix))


def mean_iou_per_image(answer: Callable) -> None:
    """Test the three rules on random matrices."""
    rng = np.random.default_rng()
    matrices = np.stack([_random_matrix(rng, 3 + 2) for _ in range(7)])
    matrices[0] = np.diag([5, 4, 3, 2, 1])
    iou = metrics.iou(matrices)
    expected = {
        "skip": metrics.mean_iou(matrices).mean(),
        "one": np.nan_to_num(iou, nan=1.0).mean(),
        "zero": np.nan_to_num(iou, nan=0.0).mean(),
    }
    for rule, value in expected.items():
        got = ask("mean_iou_per_image", answer, matrices, rule)
        same(f"mean_iou_per_image with absent={rule!r}", got, value)


def pixel_averages(answer: Callable) -> None:
    """Test both averages on a random matrix with an absent class."""
    matrix = _random_matrix(np.random.default_rng())
    accuracy = metrics.pixel_accuracy(matrix)
    expected = (accuracy / (2 - accuracy), metrics.frequency_weighted_iou(matrix))
    same("pixel_averages", ask("pixel_averages", answer, matrix), expected)


def inner_boundary(answer: Callable) -> None:
    """Test against the chessboard distance to the outside."""
    rng = np.random.default_rng()
    for width in (1, 3):
        mask, _ = _random_masks(rng)
        distance = ndimage.distance_transform_cdt(np.pad(mask, 1), "chessboard")[1:-1, 1:-1]
        got = ask("inner_boundary", answer, mask.copy(), width)
        same("inner_boundary", got, mask & (distance <= width))


def _contour_distances(truth: np.ndarray, prediction: np.ndarray):
    """Distances from each contour's pixels to the other contour: (of truth, of prediction)."""
    points = []
    for mask in (truth, prediction):
        distance = ndimage.distance_transform_cdt(np.pad(mask, 1), "chessboard")[1:-1, 1:-1]
        points.append(np.argwhere(mask & (distance == 1)))
    return cKDTree(points[1]).query(points[0])[0], cKDTree(points[0]).query(points[1])[0]


def boundary_f1(answer: Callable) -> None:
    """Test against nearest neighbours found by a tree."""
    rng = np.random.default_rng()
    for tolerance in (1, 3):
        truth, prediction = _random_masks(rng)
        of_truth, of_prediction = _contour_distances(truth, prediction)
        recall, precision = (of_truth <= tolerance).mean(), (of_prediction <= tolerance).mean()
        expected = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        got = ask("boundary_f1", answer, truth.copy(), prediction.copy(), tolerance)
        same("boundary_f1", got, expected)


def hausdorff_distance(answer: Callable) -> None:
    """Test against nearest neighbours found by a tree."""
    truth, prediction = _random_masks(np.random.default_rng())
    expected = max(distances.max() for distances in _contour_distances(truth, prediction))
    got = ask("hausdorff_distance", answer, truth.copy(), prediction.copy())
    same("hausdorff_distance", got, expected)


def bootstrap_differences(answer: Callable) -> None:
    """Test mean and spread on two random models against the package's draws."""
    rng = np.random.default_rng()
    a = rng.integers(1, 60, (15, 4, 4)) + 300 * np.eye(4, dtype=int)
    b = a + rng.integers(0, 40, a.shape)
    got = np.asarray(ask("bootstrap_differences", answer, a, b, 3000, 5), dtype=float)
    draws = np.random.default_rng(1).integers(0, 15, (20_000, 15))
    expected = metrics.mean_iou(a[draws].sum(1)) - metrics.mean_iou(b[draws].sum(1))
    if (
        got.shape != (3000,)
        or abs(got.std() / expected.std() - 1) > 0.15
        or abs(got.mean() - expected.mean()) > 0.15 * expected.std()
    ):
        raise CheckFailed("bootstrap_differences is wrong on two random models.")


def soft_dice_loss(answer: Callable) -> None:
    """Test value and gradient on random logits."""
    import torch

    logits = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    target = torch.randint(0, 3, (2, 6, 5))

    def expected(logits):
        p = logits.softmax(1).transpose(0, 1).reshape(4, -1)
        t = (target.reshape(-1) == torch.arange(4)[:, None]).double()
        return (1 - (2 * (p * t).sum(1) + 0.5) / (p.sum(1) + t.sum(1) + 0.5)).mean()

    _same_with_gradient("soft_dice_loss", lambda z: answer(z, target, smooth=0.5), expected, logits)


def focal_loss(answer: Callable) -> None:
    """Test value and gradient on random logits with void."""
    import torch

    logits = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    target = torch.randint(0, 4, (2, 6, 5))
    target[:, 0] = VOID

    def expected(logits):
        log_p = logits.log_softmax(1).permute(0, 2, 3, 1)[target != VOID]
        log_p = log_p.gather(1, target[target != VOID][:, None])[:, 0]
        return (-((1 - log_p.exp()) ** 3) * log_p).mean()

    _same_with_gradient("focal_loss", lambda z: answer(z, target, 3.0), expected, logits)


def _same_with_gradient(name: str, answer: Callable, expected: Callable, logits) -> None:
    results = []
    for function in (answer, expected):
        z = logits.clone().requires_grad_()
        value = ask(name, function, z)
        ask(name, value.backward)
        holds(f"{name}'s gradient", z.grad is not None)
        results.append((float(value.detach()), z.grad.numpy()))
    same(name, results[0][0], results[1][0])
    same(f"{name}'s gradient", results[0][1], results[1][1])
