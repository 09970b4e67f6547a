"""What runs in the scorer's child process: the model file on images, nothing else.

The child has no labels. It reads everything from its standard input and answers
on its standard output; started by ``scorer.py`` behind the walls of ``sandbox.py``.
"""

import json
import os
import sys
from collections.abc import Callable

import numpy as np

BATCH_PIXELS = 1 << 17
"""Images of a batch have this many pixels together: enough to be fast, and little memory."""


def open_model(content: bytes):
    """Return an onnxruntime session of one thread: on one machine always the same result."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.enable_mem_pattern = False  # planned for the largest batch, kept for ever
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3  # it warns of every weight that no layer uses
    # From bytes: then onnxruntime refuses weights that lie in other files.
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def predict(session, images: np.ndarray, num_classes: int, progress: Callable = iter) -> np.ndarray:
    """Return the most likely class of every pixel, ``(N, H, W)`` uint8.

    Parameters
    ----------
    images
        ``(N, H, W, 3)`` uint8; the net gets float32 ``(B, 3, H, W)`` in [0, 1].
    progress
        Wraps the iterable of batch starts, as tqdm does.

    Raises
    ------
    ValueError
        If the logits are not ``(B, num_classes, H, W)`` and finite.
    """
    count, height, width, _ = images.shape
    size = max(1, BATCH_PIXELS // (height * width))
    masks = np.empty((count, height, width), np.uint8)
    for start in progress(range(0, count, size)):
        batch = images[start : start + size].transpose(0, 3, 1, 2).astype(np.float32) / 255
        (logits,) = session.run(["logits"], {"images": batch})
        wanted = (len(batch), num_classes, height, width)
        if logits.shape != wanted:
            raise ValueError(f"the logits have shape {logits.shape}, wanted is {wanted}")
        if np.isnan(logits).any():
            raise ValueError("the logits are not numbers (NaN): the training has diverged")
        masks[start : start + len(batch)] = logits.argmax(1)
    return masks


def _inspect(request: dict, content: bytes) -> dict:
    """Put the model file through the gate, and say for which profile it is."""
    from course_utils.errors import CourseError
    from course_utils.grading import gate, tasks

    try:
        profile = gate.stated_profile(content, request["task"], request["name"])
        task = tasks.get_task(request["task"], profile)
        gate.check_model_bytes(content, task, request["name"])
    except CourseError as error:
        return {"refused": str(error)}
    return {"profile": profile}


def main() -> None:
    """Answer one request: a line of JSON, then the model file, then perhaps images."""
    stdin = sys.stdin.buffer
    # What a library prints must not get into the answer.
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    request = json.loads(stdin.readline())
    content = stdin.read(request["bytes"])
    if "shape" not in request:
        answer.write(json.dumps(_inspect(request, content)).encode())
        answer.flush()
        return
    session = open_model(content)
    del content
    images = np.frombuffer(stdin.read(), np.uint8).reshape(request["shape"])
    answer.write(predict(session, images, request["classes"]).tobytes())
    answer.flush()


if __name__ == "__main__":
    # -I leaves the package's folder out; last on the path, it can shadow nothing.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    main()
