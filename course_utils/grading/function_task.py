"""Tasks whose result is a function of an image: run by the notebook, scored outside of it.

On a student's machine the function is scored on the public validation images.
Under the grader, the notebook's folder holds the hidden images, without labels;
the notebook writes one byte a pixel, and the trusted parent scores these masks.

    parent: prepare_function_task(folder, name, secret)   -> hidden_<name>.npy
    notebook: run_function_task(name, function)           -> masks_<name>.bin
    parent: score_function_task(folder, name, secret)     -> Score
"""

import contextlib
import hashlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from course_utils.errors import CourseError
from course_utils.grading.gate import Refused, read_plain_file
from course_utils.grading.scorer import Score, no_score, score_masks
from course_utils.grading.tasks import Task, get_task
from course_utils.grading.workplace import write_atomic
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
    if os.environ.get("NBGRADER_EXECUTION") == "autograde":
        folder = Path(os.environ.get("COURSE_HAND_IN", ""))
        hidden = folder / _images_path(name)
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
    score = ConfusionMatrix(len(task.classes)).update(masks, valid.masks)
    print(
        f"{len(valid)} validation images, {1000 * seconds:.0f} ms each: mean IoU "
        f"{score.mean_iou():.3f}   (floor {task.floor:.3f}, marks from {task.low:.2f}, "
        f"full marks at {task.high:.2f})\n"
        f"marks to expect on the hidden images: about {task.marks(score.mean_iou()):.1f} of "
        f"{task.points:g}"
    )
    _tell_faults(faults)


def prepare_function_task(folder: Path | str, task: Task | str, secret: int) -> Path:
    """Put the hidden images, without labels, where the notebook will look for them.

    Parameters
    ----------
    folder
        The throw-away copy of the hand-in, in which the notebook runs.

    Returns
    -------
    Path
        The file with the images. What lay there, or where the masks will, is removed.
    """
    task = get_task(task) if isinstance(task, str) else task
    folder = Path(folder)
    path = folder / _images_path(task.name)
    for place in (path, folder / masks_path(task.name)):
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)  # not through a link that was handed in
    with open(path, "xb") as file:
        np.save(file, task.hidden_set(secret).data.images, allow_pickle=False)
    return path


def score_function_task(
    folder: Path | str, task: Task | str, secret: int, *, isolation: str
) -> Score:
    """Score the masks that a notebook has left in its folder.

    Parameters
    ----------
    isolation
        The walls that the notebook ran behind, for the record.
    """
    task = get_task(task) if isinstance(task, str) else task
    hidden = task.hidden_set(secret)
    name = masks_path(task.name).name
    shape = hidden.data.masks.shape
    try:
        content = _read_masks(Path(folder) / name, name, hidden.data.masks.size, task)
    except Refused as refusal:
        return no_score(task, str(refusal), isolation=isolation)
    digest = hashlib.sha256(content).hexdigest()
    masks = np.frombuffer(content, np.uint8).reshape(shape)
    return score_masks(task, hidden, masks, isolation=isolation, sha256=digest)


def _images_path(name: str) -> Path:
    return Path(f"hidden_{name}.npy")


def masks_path(name: str) -> Path:
    """Return the file with a task's masks, relative to the notebook's folder."""
    return Path(f"masks_{name}.bin")


def _read_masks(path: Path, name: str, size: int, task: Task) -> bytes:
    """Return the bytes of a masks file: as many as pixels, each a class.

    Plain bytes need no parser, so there is nothing in them that could be forged
    beside the masks themselves.
    """
    if not path.exists() and not path.is_symlink():
        raise Refused(
            f"the notebook wrote no masks: its cell with run_function_task({task.name!r}, ...) "
            "failed, was changed or was not reached"
        )
    content = read_plain_file(path, size / 1e6 + 1, name)
    if len(content) != size:
        raise Refused(f"{name} holds {len(content):,} bytes of masks instead of {size:,}.")
    largest = int(np.frombuffer(content, np.uint8).max())
    if largest >= len(task.classes):
        raise Refused(f"{name} holds the value {largest}, which is no class of the task.")
    return content


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
