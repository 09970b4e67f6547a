"""nbgrader, set up for this course: folders, hardening, the sandboxed kernel, the trusted scorer.

``nbgrader_config.py`` calls :func:`configure`, and so does ``course grade``: the command
line, the formgrader's button and the course's own grader run the same steps.
"""

import os
import sys
import warnings
from pathlib import Path

from traitlets.config import Config

from course_utils.grading.workplace import marking_data
from course_utils.paths import list_lessons

CELL_SECONDS = 240
"""How long one cell of a hand-in may run."""
NOTEBOOK_SECONDS = 900
"""How long a whole hand-in's notebook may run."""
_MAX_KILOBYTES = 400_000

# nbgrader and its database layer warn of each other at every new hand-in, without consequence.
warnings.filterwarnings("ignore", message="Object of type <Submitted")


def configure(config: Config, root: Path, course: Path | None = None, **marking: object) -> None:
    """Set nbgrader's options.

    Parameters
    ----------
    config
        Filled in place.
    root
        The folder that holds ``solutions/`` and ``grading/``.
    course
        Where the secret seed lies, if not in ``root``: a job works in a root of its own.
    marking
        ``data`` and ``require_isolation``, as in :func:`course_utils.grading.grade.grade`, by
        default the folder that was named there last;
        ``cell_seconds`` and ``notebook_seconds`` instead of the defaults.
    """
    from nbconvert.preprocessors import CSSHTMLHeaderPreprocessor
    from nbgrader.preprocessors import (
        CheckCellMetadata,
        ClearOutput,
        DeduplicateIds,
        GetGrades,
        IgnorePattern,
        LimitOutput,
        OverwriteCells,
        OverwriteKernelspec,
        SaveAutoGrades,
    )

    from course_utils.grading.marking import preprocessors as own
    from course_utils.grading.marking.plain_markdown import plain_markdown

    # nbgrader starts `alembic` by name, also where this environment is not activated.
    binaries = str(Path(sys.executable).parent)
    if binaries not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([binaries, os.environ.get("PATH", "")])

    directory = config.CourseDirectory
    directory.root = str(root)
    directory.source_directory = "solutions"
    directory.release_directory = "lessons"
    directory.submitted_directory = str(Path("grading", "submitted"))
    directory.autograded_directory = str(Path("grading", "autograded"))
    directory.feedback_directory = str(Path("grading", "feedback"))
    directory.db_url = gradebook_url(root)
    directory.ignore = [".*", "*.pyc", "__pycache__", "feedback", "*.zip"]
    directory.max_file_size = directory.max_dir_size = _MAX_KILOBYTES

    config.Autograde.sanitize_preprocessors = [
        own.RestoreCells,
        ClearOutput,
        DeduplicateIds,
        OverwriteKernelspec,
        OverwriteCells,
        CheckCellMetadata,
    ]
    config.Autograde.autograde_preprocessors = [
        own.PrepareTasks,
        own.SandboxedExecute,
        IgnorePattern,
        own.JudgeCells,
        LimitOutput,
        own.KeepPlain,
        SaveAutoGrades,
        own.ScoreTasks,
        CheckCellMetadata,
    ]
    config.GenerateFeedback.preprocessors = [
        GetGrades,
        own.HideTests,
        CSSHTMLHeaderPreprocessor,
        own.FitPictures,
    ]
    config.HTMLExporter.filters = {"markdown2html": plain_markdown}  # feedback and formgrader
    # An instructor who runs a solution leaves models/ beside it: never to replace a student's.
    config.Autograde.exclude_overwriting = {
        lesson: [
            str(path.relative_to(root / "solutions" / lesson))
            for path in (root / "solutions" / lesson).rglob("*")
            if path.is_file() and {"models"} & set(path.parts)
        ]
        for lesson in list_lessons(root / "solutions")
    }
    config.Autograde.pre_convert_hook = own.RemoveLinks(root / "grading" / "submitted")
    # Warnings and progress bars on stderr cost nobody a mark.
    config.IgnorePattern.enabled = True
    config.IgnorePattern.pattern = r"[\s\S]*"

    execute = config.SandboxedExecute
    execute.skip_cells_with_tag = "no cell is ever skipped"
    execute.shutdown_kernel = "immediate"
    execute.timeout = marking.get("cell_seconds") or CELL_SECONDS
    execute.notebook_timeout = marking.get("notebook_seconds") or NOTEBOOK_SECONDS
    execute.iopub_timeout = 10
    execute.raise_on_iopub_timeout = False
    execute.require_isolation = bool(marking.get("require_isolation"))
    # A job is told the folder, or that there is none: its result is stored under that.
    told = marking["data"] if "data" in marking else marking_data(course or root)
    data = Path(told) if told else None
    execute.private = [str(place) for place in private_places(course or root, data)]
    config.ScoreTasks.course = config.PrepareTasks.course = execute.course = str(course or root)
    config.ScoreTasks.data = str(data or "")
    config.ScoreTasks.require_isolation = bool(marking.get("require_isolation"))


def private_places(course: Path, data: Path | None) -> list[Path]:
    """Return what no student's notebook may read: answers, seed, hand-ins, hidden masks."""
    return [course / "grading", course / "solutions", *([data] if data else [])]


def gradebook_url(root: Path) -> str:
    """Return the URL of the course's gradebook; it waits a minute for another writer."""
    return f"sqlite:///{root / 'grading' / 'gradebook.db'}?timeout=60"


def make_api(config: Config):
    """Return nbgrader's API, which its command line and its formgrader use too."""
    from nbgrader.apps import NbGraderAPI
    from nbgrader.coursedir import CourseDirectory

    return NbGraderAPI(coursedir=CourseDirectory(config=config), config=config)
