"""A model file run on images by onnxruntime: the same steps at export and in the scorer."""

import os
from collections.abc import Callable

import numpy as np

from course_utils.hand_in.sliding import slide
from course_utils.machine import processors

BATCH_PIXELS = 1 << 15
"""Images of a batch have this many pixels together: enough to be fast, and little memory."""


def open_model(content: bytes):
    """Return an onnxruntime session of up to two threads: on one machine always the same result.

    They sleep while they wait for each other, so that another program on their cores does not hold
    them up (``benchmarks/busy_machine.py``). More would take more memory on a larger machine.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = min(2, processors()), 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.use_deterministic_compute = True
    options.enable_mem_pattern = False  # planned for the largest batch, kept for ever
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3  # it warns of every weight that no layer uses
    # From bytes: then onnxruntime refuses weights that lie in other files.
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def predict(
    session,
    images: np.ndarray,
    num_classes: int,
    progress: Callable = iter,
    *,
    window: int | None = None,
    stride: int = 1,
) -> np.ndarray:
    """Return the most likely class of every pixel, ``(N, H, W)`` uint8.

    Parameters
    ----------
    images
        ``(N, H, W, 3)`` uint8; the net gets float32 ``(B, 3, H, W)`` in [0, 1].
    progress
        Wraps the iterable of batch starts, as tqdm does.
    window, stride
        The net labels one patch, and is slid over each image: see ``sliding.py``.

    Raises
    ------
    ValueError
        If the logits are not ``(B, num_classes, H, W)``, of patches ``(B, num_classes)``, or NaN.
    """
    count, height, width, _ = images.shape
    masks = np.empty((count, height, width), np.uint8)
    if window is not None:
        for k in progress(range(count)):
            scores = slide(lambda x: run(session, x, num_classes), images[k], window, stride)
            masks[k] = scores.argmax(0)
        return masks
    size = max(1, BATCH_PIXELS // (height * width))
    for start in progress(range(0, count, size)):
        batch = images[start : start + size].transpose(0, 3, 1, 2).astype(np.float32) / 255
        logits = run(session, batch, num_classes, height, width)
        masks[start : start + len(batch)] = logits.argmax(1)
    return masks


def run(session, batch: np.ndarray, *wanted: int) -> np.ndarray:
    """Return the logits of a batch, of the shape that is wanted for one input."""
    (logits,) = session.run(["logits"], {"images": batch})
    if logits.shape != (len(batch), *wanted):
        shape = (len(batch), *wanted)
        raise ValueError(f"the logits have shape {logits.shape}, wanted is {shape}")
    if np.isnan(logits).any():
        raise ValueError("the logits are not numbers (NaN): the training has diverged")
    return logits
