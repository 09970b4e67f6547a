"""A model's masks of three public pictures, for the class report: what its IoU looks like.

The pictures are the first of the task's validation set, which every student has; the hidden ones
are shown to nobody. The masks are made as those that are marked are: by the scorer's child, from
the model file alone.
"""

import base64
import io
import math

import numpy as np
from PIL import Image

from course_utils.data import VOID, load
from course_utils.data.segmentation_set import SegmentationSet
from course_utils.display import colours
from course_utils.errors import CourseError
from course_utils.hand_in.tasks import Task
from course_utils.metrics import ConfusionMatrix

COUNT = 3
_WIDEST = 128  # pixels of a shown picture: a class of 300 must still be one light page
_GAP = 4


def sample_pictures(task: Task) -> SegmentationSet | None:
    """Return the public pictures, with their masks; None where the data are not on this machine."""
    try:
        return load(task.data, "valid", size=task.size, count=COUNT)
    except CourseError:
        return None


def sample_record(masks: np.ndarray, truths: np.ndarray, task: Task) -> dict:
    """Return what the report shows of masks ``(N, H, W)``: ``png``, and ``iou`` of each."""
    scores = [
        task.iou(ConfusionMatrix(len(task.classes)).update(mask, truth).matrix)
        for mask, truth in zip(masks, truths, strict=True)
    ]
    # where what counts is neither there nor found, there is no score
    told = [None if math.isnan(score) else round(float(score), 3) for score in scores]
    return {"png": mask_strip(masks), "iou": told}


def mask_strip(masks: np.ndarray) -> str:
    """Return masks ``(N, H, W)`` side by side in the palette's colours, a PNG in base64."""
    palette = np.full((256, 3), 255, np.uint8)
    palette[:VOID] = colours(VOID)
    picture = Image.fromarray(_strip(masks, VOID)).convert("P")
    picture.putpalette(palette.tobytes())
    return _encoded(picture, format="png", optimize=True)


def picture_strip(images: np.ndarray) -> str:
    """Return pictures ``(N, H, W, 3)`` side by side, a JPEG in base64."""
    return _encoded(Image.fromarray(_strip(images, 255)), format="jpeg", quality=85)


def _strip(arrays: np.ndarray, gap: int) -> np.ndarray:
    step = -(-arrays.shape[2] // _WIDEST)
    small = arrays[:, ::step, ::step]
    gaps = np.full_like(small[0][:, :_GAP], gap)
    parts = [part for array in small for part in (array, gaps)][:-1]
    return np.concatenate(parts, axis=1)


def _encoded(picture: Image.Image, **how) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, **how)
    return base64.b64encode(buffer.getvalue()).decode()
