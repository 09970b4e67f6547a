"""The grader's side of a task that is a function: hidden images in, masks out, scored here.

prepare_function_task(folder, name, secret)   -> hidden_<name>.npy, before the task's cell runs
run_function_task(name, function)             -> masks_<name>.bin, in the notebook
score_function_task(folder, name, secret)     -> Score, after it
"""

import hashlib
import shutil
from pathlib import Path

import numpy as np

from course_utils.grading.marking.hidden_sets import hidden_set
from course_utils.grading.marking.scorer import Score, no_score, score_masks
from course_utils.hand_in.function_task import images_path, masks_path
from course_utils.hand_in.gate import Refused, read_plain_file
from course_utils.hand_in.tasks import Task, get_task


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
    path = folder / images_path(task.name)
    for place in (path, folder / masks_path(task.name)):
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)  # not through a link that was handed in
    with open(path, "xb") as file:
        np.save(file, hidden_set(task, secret).data.images, allow_pickle=False)
    return path


def score_function_task(
    folder: Path | str, task: Task | str, secret: int, *, isolation: str, late: bool = False
) -> Score:
    """Score the masks that a notebook has left in its folder.

    Parameters
    ----------
    isolation
        The isolation that the notebook ran in, for the record.
    late
        Whether it took longer than the task allows, by the grader's clock.
    """
    task = get_task(task) if isinstance(task, str) else task
    hidden = hidden_set(task, secret)
    name = masks_path(task.name).name
    shape = hidden.data.masks.shape
    try:
        if late:
            raise Refused(f"the function took longer than the {task.seconds:g} s for all images")
        content = _read_masks(Path(folder) / name, name, hidden.data.masks.size, task)
    except Refused as refusal:
        return no_score(task, str(refusal), isolation=isolation)
    digest = hashlib.sha256(content).hexdigest()
    masks = np.frombuffer(content, np.uint8).reshape(shape)
    return score_masks(task, hidden, masks, isolation=isolation, sha256=digest)


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
    content = read_plain_file(
        path,
        size / 1e6 + 1,
        name,
        writer=f"run_function_task({task.name!r}, ...)",
        smaller="It must hold one byte a pixel, as run_function_task writes it.",
    )
    if len(content) != size:
        raise Refused(f"{name} holds {len(content):,} bytes of masks instead of {size:,}.")
    largest = int(np.frombuffer(content, np.uint8).max())
    if largest >= len(task.classes):
        raise Refused(f"{name} holds the value {largest}, which is no class of the task.")
    return content
