"""Scores of a segmentation, computed from one confusion matrix; and one of objects, the last.

The rules, the same everywhere in the course:

- **void**: pixels whose *true* label is ``ignore_index`` count nowhere, whatever was predicted
  there.
- **over the data set**: counts of all images are summed first, then scores are taken. A mean of
  per-image scores is another number.
- **absent classes**: a class that is in neither the truth nor the prediction has no IoU (NaN) and
  is left out of means. A class that is predicted but nowhere true has IoU 0 and counts.

The functions take matrices of shape ``(..., C, C)``, rows truth, columns prediction, so that
scores of many matrices (one an image, one a bootstrap sample) are one call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from course_utils.errors import CourseError

if TYPE_CHECKING:
    import torch


class ConfusionMatrix:
    """Counts of (true class, predicted class) over as many batches as wanted.

    NumPy arrays are counted with NumPy, and torch is not imported for them. Tensors are counted
    on their own device; only the C x C counts ever leave it.

    Parameters
    ----------
    num_classes
        Number of classes C; labels are 0..C-1.
    ignore_index
        The true label of void pixels; ``None`` if there are none.
    device
        Where to count tensors. Default: where the first prediction lies.

    Examples
    --------
    >>> confusion = ConfusionMatrix(2)
    >>> confusion.update(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 255])).matrix
    array([[1, 1],
           [0, 1]])
    >>> confusion.mean_iou()
    0.5
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int | None = 255,
        device: torch.device | str | None = None,
    ):
        if num_classes < 1:
            raise CourseError(f"num_classes must be at least 1, found {num_classes}.")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.device = device
        self._counts: Any = np.zeros((num_classes, num_classes), dtype=np.int64)

    def update(self, prediction, target) -> ConfusionMatrix:
        """Add a batch of label maps; return the matrix itself.

        Parameters
        ----------
        prediction, target
            Integer arrays or tensors of the same shape, any number of axes. ``prediction`` holds
            0..C-1, ``target`` also ``ignore_index``.

        Raises
        ------
        CourseError
            If shapes differ, labels are not whole numbers, or a label is out of range.
        """
        on_device = hasattr(prediction, "device") and hasattr(prediction, "detach")
        if on_device:
            counts = self._count_tensors(prediction, target)
        else:
            counts = self._count_arrays(np.asarray(prediction), np.asarray(target))
        if isinstance(self._counts, np.ndarray) and not isinstance(counts, np.ndarray):
            self._counts = counts.new_tensor(self._counts)
        elif isinstance(counts, np.ndarray) and not isinstance(self._counts, np.ndarray):
            counts = self._counts.new_tensor(counts)
        self._counts = self._counts + counts
        return self

    def _count_arrays(self, prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
        self._require_labels(prediction, target, np.issubdtype)
        if self.ignore_index is not None:
            counted = target != self.ignore_index
            prediction, target = prediction[counted], target[counted]
        else:
            prediction, target = prediction.ravel(), target.ravel()
        for name, labels in (("prediction", prediction), ("target", target)):
            if labels.size and (labels.min() < 0 or labels.max() >= self.num_classes):
                wrong = labels[(labels < 0) | (labels >= self.num_classes)]
                raise self._out_of_range(name, int(wrong[0]))
        pairs = target.astype(np.int64) * self.num_classes + prediction.astype(np.int64)
        counts = np.bincount(pairs, minlength=self.num_classes**2)
        return counts.reshape(self.num_classes, self.num_classes).astype(np.int64)

    def _count_tensors(self, prediction: torch.Tensor, target) -> torch.Tensor:
        import torch

        device = self.device or (
            prediction.device if isinstance(self._counts, np.ndarray) else self._counts.device
        )
        prediction = prediction.detach().to(device)
        target = torch.as_tensor(target).detach().to(device)
        self._require_labels(
            prediction,
            target,
            lambda dtype, _: not (dtype.is_floating_point or dtype.is_complex),
        )
        prediction, target = prediction.reshape(-1).long(), target.reshape(-1).long()
        c = self.num_classes
        # One more row and column takes what is void or out of range, so that a batch needs one
        # pass and, but for MPS, one transfer of a few numbers; nothing waits for a boolean index.
        row = torch.where((target >= 0) & (target < c), target, c)
        column = torch.where((prediction >= 0) & (prediction < c), prediction, c)
        if self.ignore_index is not None:
            void = target == self.ignore_index
            row, column = torch.where(void, c, row), torch.where(void, c, column)
            strange = (row == c) & ~void
        else:
            strange = row == c
        pairs = row * (c + 1) + column
        if pairs.device.type == "mps":  # its bincount can take seconds (pytorch/pytorch#184779)
            pairs = pairs.cpu()
        counts = torch.bincount(pairs, minlength=(c + 1) ** 2).view(c + 1, c + 1).to(row.device)
        if counts[:c, c].any() or strange.any():
            wrong_target = target[strange]
            if len(wrong_target):
                raise self._out_of_range("target", int(wrong_target[0]))
            raise self._out_of_range("prediction", int(prediction[(column == c) & (row < c)][0]))
        return counts[:c, :c]

    def _require_labels(self, prediction, target, is_integer: Callable) -> None:
        if tuple(prediction.shape) != tuple(target.shape):
            shapes = f"prediction {tuple(prediction.shape)}, target {tuple(target.shape)}"
            hint = (
                " Did you pass logits? Take logits.argmax(1) first."
                if prediction.ndim == target.ndim + 1
                else ""
            )
            raise CourseError(f"prediction and target must have one shape, found {shapes}.{hint}")
        for name, labels in (("prediction", prediction), ("target", target)):
            if labels.dtype != bool and not is_integer(labels.dtype, np.integer):
                raise CourseError(
                    f"{name} must hold class numbers (integers), found {labels.dtype}. "
                    "Scores become class numbers by argmax over the class axis."
                )

    def _out_of_range(self, name: str, value: int) -> CourseError:
        void = (
            f" or {self.ignore_index} for void"
            if name == "target" and self.ignore_index is not None
            else ""
        )
        return CourseError(
            f"{name} holds the label {value}, which is no class: with num_classes="
            f"{self.num_classes} labels are 0..{self.num_classes - 1}{void}. "
            "Check the number of classes and how the masks were read."
        )

    @property
    def matrix(self) -> np.ndarray:
        """The counts so far, ``(C, C)`` int64: rows truth, columns prediction."""
        if isinstance(self._counts, np.ndarray):
            return self._counts.copy()
        return self._counts.cpu().numpy().copy()  # on the CPU numpy() alone would be the counts

    def pixel_accuracy(self) -> float:
        """Return the share of counted pixels that are right; see :func:`pixel_accuracy`."""
        return float(pixel_accuracy(self.matrix))

    def iou(self) -> np.ndarray:
        """Return the IoU of each class, ``(C,)``; see :func:`iou`."""
        return iou(self.matrix)

    def mean_iou(self) -> float:
        """Return the mean IoU over the classes that are present; see :func:`mean_iou`."""
        return float(mean_iou(self.matrix))

    def dice(self) -> np.ndarray:
        """Return the Dice score of each class, ``(C,)``; see :func:`dice`."""
        return dice(self.matrix)

    def mean_dice(self) -> float:
        """Return the mean Dice over the classes that are present; see :func:`mean_dice`."""
        return float(mean_dice(self.matrix))

    def frequency_weighted_iou(self) -> float:
        """Return IoU weighted by how common a class is; see :func:`frequency_weighted_iou`."""
        return float(frequency_weighted_iou(self.matrix))

    def __repr__(self) -> str:
        pixels = int(self.matrix.sum())
        return (
            f"ConfusionMatrix({self.num_classes} classes, {pixels:,} pixels, "
            f"accuracy {self.pixel_accuracy():.3f}, mean IoU {self.mean_iou():.3f})"
        )


def _divide(numerator, denominator) -> np.ndarray:
    """Divide, with NaN for 0 / 0 and without a warning (nbgrader takes one as a failure)."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    result = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=result, where=denominator != 0)


def _mean_of_present(scores: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis without NaN; NaN where nothing is left."""
    present = ~np.isnan(scores)
    return _divide(np.where(present, scores, 0).sum(-1), present.sum(-1))


def _parts(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return right pixels, true pixels and predicted pixels of each class, ``(..., C)`` each."""
    matrix = np.asarray(matrix, dtype=np.float64)
    return np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-1), matrix.sum(-2)


def pixel_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Return the share of counted pixels whose class is right, ``(...)``; NaN without pixels.

    >>> float(pixel_accuracy([[3, 1], [0, 0]]))
    0.75
    """
    right, true, _ = _parts(matrix)
    return _divide(right.sum(-1), true.sum(-1))


def iou(matrix: np.ndarray) -> np.ndarray:
    """Return intersection over union of each class, ``(..., C)``; NaN where it is absent.

    >>> iou([[3, 1, 0], [0, 0, 0], [0, 0, 0]])
    array([0.75, 0.  ,  nan])
    """
    right, true, predicted = _parts(matrix)
    return _divide(right, true + predicted - right)


def mean_iou(matrix: np.ndarray, classes: Sequence[int] | None = None) -> np.ndarray:
    """Return the mean of :func:`iou` over the classes that are present, ``(...)``.

    With ``classes``, over those of them that are present.

    >>> float(mean_iou([[3, 1, 0], [0, 0, 0], [0, 0, 0]]))
    0.375
    >>> float(mean_iou([[3, 1, 0], [0, 0, 0], [0, 0, 0]], classes=[0]))
    0.75
    """
    scores = iou(matrix)
    return _mean_of_present(scores if classes is None else scores[..., list(classes)])


def dice(matrix: np.ndarray) -> np.ndarray:
    """Return 2 |A and B| / (|A| + |B|) of each class, ``(..., C)``; NaN where it is absent.

    The same as the F1 score, and ``2 J / (1 + J)`` for an IoU of ``J``.
    """
    right, true, predicted = _parts(matrix)
    return _divide(2 * right, true + predicted)


def mean_dice(matrix: np.ndarray) -> np.ndarray:
    """Return the mean of :func:`dice` over the classes that are present, ``(...)``."""
    return _mean_of_present(dice(matrix))


def frequency_weighted_iou(matrix: np.ndarray) -> np.ndarray:
    """Return the mean of :func:`iou` weighted by the true pixels of each class, ``(...)``.

    References
    ----------
    Long, Shelhamer, Darrell: Fully convolutional networks for semantic segmentation. CVPR 2015.
    """
    _, true, _ = _parts(matrix)
    scores = np.nan_to_num(iou(matrix))
    return _divide((true * scores).sum(-1), true.sum(-1))


def per_image_matrices(
    predictions: np.ndarray,
    targets: np.ndarray,
    num_classes: int,
    ignore_index: int | None = 255,
) -> np.ndarray:
    """Return one confusion matrix an image, ``(N, C, C)`` int64, of masks ``(N, H, W)``."""
    if len(predictions) != len(targets):
        raise CourseError(
            f"there are {len(predictions)} predictions for {len(targets)} targets: give one each."
        )
    matrices = np.zeros((len(targets), num_classes, num_classes), dtype=np.int64)
    for index, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
        confusion = ConfusionMatrix(num_classes, ignore_index)
        matrices[index] = confusion.update(prediction, target).matrix
    return matrices


def bootstrap_interval(
    matrices: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray] = mean_iou,
    seed: int = 0,
    *,
    repeats: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the interval in which a score would lie if other such images had been drawn.

    Images are drawn with replacement, their matrices summed, and the score taken, ``repeats``
    times; the interval holds the middle ``level`` of the results (percentile bootstrap).

    Parameters
    ----------
    matrices
        One confusion matrix an image, ``(N, C, C)``.
    statistic
        A function of this module, from ``(R, C, C)`` to ``(R,)``.
    seed
        The interval is the same for the same seed.

    Returns
    -------
    low, high
        Plain floats; NaN if no image has a counted pixel.
    """
    matrices = np.asarray(matrices)
    if matrices.ndim != 3 or len(matrices) == 0:
        raise CourseError(
            f"matrices must be one (C, C) matrix an image, (N, C, C) with N > 0; "
            f"found shape {matrices.shape}."
        )
    count, c, _ = matrices.shape
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=repeats)
    # floats, because NumPy multiplies integer matrices without BLAS; exact up to 2**53 pixels
    sums = draws.astype(np.float64) @ matrices.reshape(count, -1).astype(np.float64)
    scores = statistic(sums.reshape(repeats, c, c))
    scores = scores[~np.isnan(scores)]
    if not len(scores):
        return float("nan"), float("nan")
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def instance_f1(predicted: np.ndarray, truth: np.ndarray, threshold: float = 0.5) -> float:
    """Return the F1 score of objects matched at an IoU above ``threshold``.

    Parameters
    ----------
    predicted, truth
        Label maps of one shape, integers >= 0: 0 background, every other value one object.
    threshold
        At least 0.5, so that an object cannot match two.

    Returns
    -------
    float
        2 matched / (predicted objects + true objects); 1.0 if there are none of either.

    Examples
    --------
    >>> truth = np.array([[1, 1, 0, 2, 2]])
    >>> round(instance_f1(np.array([[5, 5, 5, 0, 0]]), truth), 2)
    0.67
    """
    if threshold < 0.5:
        raise ValueError(f"threshold is at least 0.5, found {threshold}")
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.shape != truth.shape:
        raise ValueError(f"shapes differ: predicted {predicted.shape}, truth {truth.shape}")
    names_p, p = np.unique(predicted, return_inverse=True)
    names_t, t = np.unique(truth, return_inverse=True)
    shared = np.bincount(
        p.ravel() * len(names_t) + t.ravel(), minlength=len(names_p) * len(names_t)
    )
    shared = shared.reshape(len(names_p), len(names_t))
    union = shared.sum(1, keepdims=True) + shared.sum(0) - shared
    objects = np.ix_(names_p != 0, names_t != 0)
    matched = int((shared[objects] / union[objects] > threshold).sum())
    total = int((names_p != 0).sum() + (names_t != 0).sum())
    return 2 * matched / total if total else 1.0
