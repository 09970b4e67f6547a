"""Scores of single objects: found or not, rather than pixel by pixel."""

import numpy as np


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
