"""Where things are: the course's root folder, its lessons, the data folder."""

import itertools
import os
import shutil
from pathlib import Path

from course_utils.errors import CourseError

_MARKER = "environment.yml"


def course_root(start: Path | None = None) -> Path:
    """Return the folder that holds ``environment.yml`` and ``lessons/`` or ``solutions/``.

    It is looked for upwards from ``start`` (default: the working folder), then
    at the checkout that this package was installed from.

    Raises
    ------
    CourseError
        If neither is inside a copy of the course.
    """
    here = (start or Path.cwd()).resolve()
    package_parent = Path(__file__).resolve().parent.parent
    for folder in (here, *here.parents, package_parent):
        # solutions/ too, for an instructor who has yet to make the lessons
        notebooks = (folder / "lessons", folder / "solutions")
        if (folder / _MARKER).is_file() and any(path.is_dir() for path in notebooks):
            return folder
    raise CourseError(
        f"{here} is not inside a copy of the course (no folder with lessons/ and {_MARKER} "
        "above it). Change into the course's folder and try again."
    )


def other_copy() -> tuple[str, str] | None:
    """Return what is wrong, and its cure, if the running code is not the folder's own."""
    try:
        root = course_root()
    except CourseError:
        return None
    running, there = Path(__file__).resolve().parent, root / "course_utils"
    if not there.is_dir() or there.samefile(running):
        return None
    return (
        f"this command runs the code in {running}, but {root} is another copy of the course",
        f"cd {root}; make setup; source .venv/bin/activate",
    )


def resolve_lesson(name: str, folder: Path) -> str:
    """Return the full name of the lesson that ``name`` means, such as ``06`` or a path.

    Parameters
    ----------
    name
        A lesson's number (``"6"``, ``"06"``), its name, or a path of its folder or notebook.
    folder
        The folder whose sub-folders are lessons (``lessons/`` or ``solutions/``).

    Raises
    ------
    CourseError
        If no lesson, or more than one, fits.
    """
    lessons = list_lessons(folder)
    wanted = Path(os.path.abspath(name)).name.removesuffix(".ipynb")  # "." is a path as well
    if wanted.isdigit():
        wanted = f"{int(wanted):02d}"
    found = [lesson for lesson in lessons if wanted in (lesson, lesson.split("_")[0])]
    if not found:
        for path in folder.glob("[0-9][0-9]_*"):
            if wanted in (path.name, path.name.split("_")[0]):
                others = ", ".join(repr(other.name) for other in path.glob("*.ipynb"))
                raise CourseError(
                    f"{path} has no {path.name}.ipynb; the notebooks there: {others or 'none'}. "
                    "Give yours its name back."
                )
    if len(found) != 1:
        raise CourseError(f"there is no lesson {name!r}. The lessons are: {', '.join(lessons)}.")
    return found[0]


def list_lessons(folder: Path) -> list[str]:
    """Return the sorted names of the lessons in ``folder`` (``NN_name/NN_name.ipynb``)."""
    return sorted(
        path.parent.name
        for path in folder.glob("[0-9][0-9]_*/*.ipynb")
        if path.stem == path.parent.name
    )


def previous_name(path: Path) -> Path:
    """Return under which name to keep what is at ``path``; nothing is there yet.

    It is ``unet.previous-1.onnx`` for ``unet.onnx``, or the next number that is free.
    """
    names = (path.with_name(f"{path.stem}.previous-{n}{path.suffix}") for n in itertools.count(1))
    return next(name for name in names if not name.exists())


def data_folder() -> Path:
    """Return the folder of the data sets: ``$COURSE_DATA``, else the course's ``data/cache``."""
    setting = os.environ.get("COURSE_DATA")
    return Path(setting).expanduser() if setting else course_root() / "data" / "cache"


MARKS_FILE = "marks.json"
"""In ``lessons/``: the marked cells of every lesson, ``{lesson: {grade_id: points}}``."""


def data_setting(root: Path) -> str:
    """Return the value of COURSE_DATA for a process that works outside of the course's folder."""
    return os.environ.get("COURSE_DATA") or str(root / "data" / "cache")


NOT_RELEASED = shutil.ignore_patterns("models", "*.onnx", "*.pt", "*.zip", "__pycache__", ".*")

"""What running a solution leaves beside its notebook, and what no release should hold."""
