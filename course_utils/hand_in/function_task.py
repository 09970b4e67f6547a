"""Tasks whose result is a function of an image: run by the notebook, scored outside of it.

On a student's machine the function is scored on the public validation images.
Under the grader, the notebook's folder holds the hidden images, without labels;
the notebook writes one byte a pixel, and the trusted parent scores these masks.

    the grader lays out hidden_<name>.npy
    the notebook: run_function_task(name, function)  -> masks_<name>.bin
    the grader scores these (grading/marking/function_marks.py)
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from course_utils import progress
from course_utils.errors import CourseError
from course_utils.execution import run_by
from course_utils.files import write_atomic
from course_utils.hand_in.tasks import Task, get_task
from course_utils.metrics import ConfusionMatrix


def run_function_task(name: str, function: Callable[[np.ndarray], np.ndarray]) -> None:
    """Run a student's function on every image of a task, and say what it is worth.

    Parameters
    ----------
    name
        The task's name, such as ``"classical"``.
    function
        From an image ``(H, W, 3)`` uint8 to its mask ``(H, W)``: a class of every
        pixel, or True and False where there are two classes.

    Notes
    -----
    An image on which the function fails, or takes too long, counts as all class 0;
    the others still count. Under the grader the masks are written to a file and no
    score is printed: the notebook has no labels there.

    Raises
    ------
    CourseError
        If the function fails on every image: with what went wrong on the first.
    """
    task = get_task(name)
    if task.kind != "function":
        raise CourseError(
            f'{name!r} is a task for a model: hand it in with export("{name}", model).'
        )
    if run_by() == "grader":
        folder = Path(os.environ.get("COURSE_HAND_IN", ""))
        hidden = folder / images_path(name)
        if not hidden.is_file():
            print(f"The grader gave no images for task {name!r}; nothing is scored here.")
            return
        images = np.load(hidden, allow_pickle=False)
        masks, faults = _apply(function, images, task)
        write_atomic(folder / masks_path(name), masks.tobytes())
        print(f"{len(images) - len(faults)} of {len(images)} hidden images done.")
        _tell_faults(faults)
        return
    valid = task.load("valid")
    started = time.perf_counter()
    masks, faults = _apply(function, valid.images, task)
    seconds = (time.perf_counter() - started) / len(valid)
    iou = float(task.iou(ConfusionMatrix(len(task.classes)).update(masks, valid.masks).matrix))
    print(
        f"{len(valid)} validation images, {1000 * seconds:.0f} ms each: {task.measure} "
        f"{iou:.3f}   (floor {task.floor:.3f}, marks from {task.low:.2f}, "
        f"full marks at {task.high:.2f})\n"
        f"marks to expect on the hidden images: about {task.marks(iou):.1f} of "
        f"{task.points:g}"
    )
    progress.note(task.grade_id, iou)
    _tell_faults(faults)


def images_path(name: str) -> Path:
    """Return the file with a task's hidden images, relative to the notebook's folder."""
    return Path(f"hidden_{name}.npy")


def masks_path(name: str) -> Path:
    """Return the file with a task's masks, relative to the notebook's folder."""
    return Path(f"masks_{name}.bin")


def _apply(function: Callable, images: np.ndarray, task: Task) -> tuple[np.ndarray, dict[int, str]]:
    """Return the masks ``(N, H, W)`` uint8, and what went wrong on which image."""
    masks = np.zeros(images.shape[:3], np.uint8)
    faults: dict[int, str] = {}
    deadline = time.monotonic() + task.seconds
    share = max(1.0, 3 * task.seconds / len(images))
    for index, image in enumerate(tqdm(images, desc=task.name, file=sys.stdout, delay=2)):
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            faults[index] = f"no time left: all images together have {task.seconds:g} s"
            continue
        try:
            with _time_limit(min(share, remaining)):
                answer = function(image.copy())
            masks[index] = _as_mask(answer, image.shape[:2], len(task.classes))
        except NotImplementedError:
            raise
        except Exception as error:
            faults[index] = f"{type(error).__name__}: {error}"
    if len(faults) == len(images):
        name = getattr(function, "__name__", "the function")
        raise CourseError(f"{name} fails on every image. The first: {faults[0]}")
    return masks, faults


def _as_mask(answer, shape: tuple[int, int], count: int) -> np.ndarray:
    mask = np.asarray(answer)
    if mask.shape != tuple(shape):
        raise ValueError(f"a mask must have shape {tuple(shape)} like its image, not {mask.shape}")
    if mask.dtype.kind not in "bui" and not np.array_equal(mask, np.rint(mask)):
        raise ValueError(f"a mask holds class numbers, not {mask.dtype} values between them")
    values = np.unique(mask)
    if values[0] < 0 or values[-1] >= count:
        wrong = values[0] if values[0] < 0 else values[-1]
        raise ValueError(f"the mask holds the value {wrong}, the classes are 0..{count - 1}")
    return mask.astype(np.uint8)


@contextlib.contextmanager
def _time_limit(seconds: float):
    """Interrupt the body after so many seconds, where signals allow it."""
    if not hasattr(signal, "setitimer") or (
        threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def stop(*_):
        raise TimeoutError(f"took longer than {seconds:.1f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _tell_faults(faults: dict[int, str]) -> None:
    if faults:
        index, what = next(iter(faults.items()))
        print(
            f"failed on {len(faults)} images, which count as all class 0. "
            f"Image {index}: {what:.300}"
        )
