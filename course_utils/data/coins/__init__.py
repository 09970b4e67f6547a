"""Coins: scikit-image's photograph of 24 Greek coins, with a truth looked over by hand.

``README.md`` beside this file says how the outlines were made and how exact they are.
"""

import json
from pathlib import Path

import numpy as np

from course_utils.data.pictures import open_picture

FOLDER = Path(__file__).parent
COUNT = 24


def coins() -> tuple[np.ndarray, np.ndarray]:
    """Return the photograph and the label map of its coins.

    Returns
    -------
    image
        uint8, shape (303, 384), grey: ``skimage.data.coins()``.
    labels
        uint8, shape (303, 384): 0 background, 1..24 the coins, row by row from the left.

    Examples
    --------
    >>> image, labels = coins()
    >>> labels.shape == image.shape, int(labels.max())
    (True, 24)
    """
    from skimage import data

    return data.coins(), np.asarray(open_picture(FOLDER / "labels.png"))


def draw_labels(shape: tuple[int, int] = (303, 384)) -> np.ndarray:
    """Draw the label map, uint8 of ``shape``, from the outlines: what ``labels.png`` holds."""
    from skimage.draw import polygon

    labels = np.zeros(shape, np.uint8)
    for label, outline in enumerate(json.loads((FOLDER / "outlines.json").read_text()), 1):
        x, y = np.array(outline).T
        labels[polygon(y, x, shape)] = label
    return labels
