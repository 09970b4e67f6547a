"""Training a segmentation net: fit, predict, evaluate, and train once for a task.

Nets take float32 images ``(B, 3, H, W)`` in [0, 1] and give logits ``(B, C, H, W)``. Data is in
memory (see :class:`course_utils.data.SegmentationSet`), so there are no loader processes, which
notebooks on Windows and macOS cannot start.
"""

from course_utils.training.devices import Mode, fastest_mode, pick_device, seed_everything
from course_utils.training.fitting import class_weights, evaluate, fit, predict
from course_utils.training.history import History
from course_utils.training.patch_fitting import fit_patches, predict_patches
from course_utils.training.train_once import load_weights, train_once

__all__ = [
    "History",
    "Mode",
    "class_weights",
    "evaluate",
    "fastest_mode",
    "fit",
    "fit_patches",
    "load_weights",
    "pick_device",
    "predict",
    "predict_patches",
    "seed_everything",
    "train_once",
]
