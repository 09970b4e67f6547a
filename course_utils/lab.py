"""Opening JupyterLab on the first lesson, as ``course lab`` does."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from course_utils.errors import CourseError
from course_utils.paths import course_root, list_lessons

SETTINGS = str(Path(__file__).with_name("jupyter"))
FOR_STUDENTS = str(Path(SETTINGS) / "for_students")


def lab_command(root: Path, extra: Sequence[str] = ()) -> list[str]:
    """Return the command that opens JupyterLab in ``root`` with the first lesson in front.

    Parameters
    ----------
    root
        The course's folder; JupyterLab's file browser starts there.
    extra
        Options for JupyterLab, such as ``--no-browser``. They come last and so win.

    Raises
    ------
    CourseError
        If there is no lesson in ``root/lessons``.
    """
    lessons = list_lessons(root / "lessons")
    if not lessons:
        raise CourseError(
            f"{root / 'lessons'} holds no lesson. Get the course again, or make the lessons "
            "from solutions/: course release"
        )
    first = lessons[0]
    # JupyterLab refuses to start for root, who is the only user of most containers.
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return [
        *(sys.executable, "-m", "jupyterlab"),
        # Given the notebook's path alone, JupyterLab would show its folder and no other lesson.
        f"--ServerApp.root_dir={root}",
        f"--LabApp.default_url=/lab/tree/lessons/{first}/{first}.ipynb",
        *(["--ServerApp.allow_root=True"] if is_root else []),
        *extra,
    ]


def lab_environment(environment: Mapping[str, str], instructor: bool = False) -> dict[str, str]:
    """Return ``environment`` with what the course adds for JupyterLab.

    This Python's programs come first on the ``PATH``, so that JupyterLab's
    terminals know the ``course`` command even where nobody activated the
    virtual environment. The course's settings (``jupyter/``) keep
    JupyterLab from asking about news and updates, and validate lessons beside the server;
    those for students take away what nbgrader has for an ``instructor``: Create Assignment,
    Formgrader, lists of courses and assignments. A person's own settings come first.
    What the course adds to its looks, and a template for lessons that are saved as HTML, lie in
    ``jupyter/share``.
    """

    def joined(*paths: str) -> str:
        return os.pathsep.join(path for path in paths if path)

    return {
        **environment,
        "PATH": joined(str(Path(sys.executable).parent), environment.get("PATH", "")),
        "JUPYTER_CONFIG_PATH": joined(
            environment.get("JUPYTER_CONFIG_PATH", ""), "" if instructor else FOR_STUDENTS, SETTINGS
        ),
        "JUPYTER_PATH": joined(environment.get("JUPYTER_PATH", ""), str(Path(SETTINGS) / "share")),
    }


def run(extra: Sequence[str] = (), instructor: bool = False) -> None:
    """Open JupyterLab on the first lesson; this process becomes JupyterLab.

    Raises
    ------
    CourseError
        If the lessons or JupyterLab are missing.
    """
    root = course_root()
    command = lab_command(root, extra)
    environment = lab_environment(os.environ, instructor)
    if not find_spec("jupyterlab"):
        raise CourseError(
            f"{sys.executable} has no JupyterLab. Start it in the course's folder: make lab"
        )
    os.chdir(root)
    if os.name == "nt":  # where exec would give the prompt back at once
        raise SystemExit(subprocess.call(command, env=environment))
    # One process, so that Ctrl-C and kill reach JupyterLab as if it had been started by hand.
    os.execve(command[0], command, environment)
