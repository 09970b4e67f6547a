"""nbgrader, set up for this course: folders, hardening, the sandboxed kernel, the trusted scorer.

``nbgrader_config.py`` calls :func:`configure`, and so does ``course grade``: the command
line, the formgrader's button and the course's own grader run the same steps.
"""

import os
import sys
import warnings
from pathlib import Path

from traitlets.config import Config

from course_utils.grading.marking.settings import Settings
from course_utils.paths import list_lessons

_MAX_KILOBYTES = 400_000

# nbgrader and its database layer warn of each other at every new hand-in, without consequence.
warnings.filterwarnings("ignore", message="Object of type <Submitted")


def configure(config: Config, root: Path, settings: Settings | None = None) -> None:
    """Set nbgrader's options.

    Parameters
    ----------
    config
        Filled in place.
    root
        The folder that holds ``solutions/`` and ``grading/``.
    settings
        Default: those of the course in ``root``. A job works in a root of its own.
    """
    # nbgrader starts `alembic` by name, also where this environment is not activated.
    binaries = str(Path(sys.executable).parent)
    if binaries not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([binaries, os.environ.get("PATH", "")])
    _name_folders(config, root)
    _order_steps(config, root)
    _bound_execution(config, settings or Settings.of_course(root))


def _name_folders(config: Config, root: Path) -> None:
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
    # An instructor who runs a solution leaves models/ beside it: never to replace a student's.
    config.Autograde.exclude_overwriting = {
        lesson: [
            str(path.relative_to(root / "solutions" / lesson))
            for path in (root / "solutions" / lesson).rglob("*")
            if path.is_file() and {"models"} & set(path.parts)
        ]
        for lesson in list_lessons(root / "solutions")
    }


def _order_steps(config: Config, root: Path) -> None:
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
    from course_utils.grading.marking import shown
    from course_utils.grading.marking.feedback_page import FeedbackExporter
    from course_utils.grading.marking.plain_markdown import plain_markdown

    config.Autograde.sanitize_preprocessors = [
        own.RestoreCells,
        ClearOutput,
        DeduplicateIds,
        OverwriteKernelspec,
        OverwriteCells,
        CheckCellMetadata,
    ]
    config.Autograde.autograde_preprocessors = [
        shown.LeaveOut,
        own.SandboxedExecute,
        IgnorePattern,
        own.JudgeCells,
        LimitOutput,
        SaveAutoGrades,
        own.ScoreTasks,
        shown.ShowStored,
        CheckCellMetadata,
    ]
    config.GenerateFeedback.preprocessors = [
        GetGrades,
        own.HideTests,
        CSSHTMLHeaderPreprocessor,
    ]
    config.GenerateFeedback.exporter_class = FeedbackExporter
    config.HTMLExporter.filters = {"markdown2html": plain_markdown}  # feedback and formgrader
    config.Autograde.pre_convert_hook = own.RemoveLinks(root / "grading" / "submitted")


def _bound_execution(config: Config, settings: Settings) -> None:
    from course_utils.grading.marking.shown import LEFT_OUT

    # Warnings and progress bars on stderr cost nobody a mark.
    config.IgnorePattern.enabled = True
    config.IgnorePattern.pattern = r"[\s\S]*"

    execute = config.SandboxedExecute
    execute.skip_cells_with_tag = LEFT_OUT
    execute.shutdown_kernel = "immediate"
    execute.timeout = settings.cell_seconds
    execute.iopub_timeout = 10
    execute.raise_on_iopub_timeout = False
    for step in (config.LeaveOut, execute, config.ScoreTasks):
        step.settings = settings


def gradebook_url(root: Path, seconds: float = 60) -> str:
    """Return the URL of the course's gradebook, which waits some seconds for another writer."""
    return database_url(root / "grading" / "gradebook.db", seconds)


def database_url(path: Path, seconds: float = 60) -> str:
    """Return the URL of a gradebook, whatever signs its path holds."""
    name = str(path).replace("%", "%25").replace("?", "%3F")  # which begins the options otherwise
    return f"sqlite:///{name}?timeout={seconds:g}"


def make_api(config: Config):
    """Return nbgrader's API, which its command line and its formgrader use too."""
    from nbgrader.apps import NbGraderAPI
    from nbgrader.coursedir import CourseDirectory

    return NbGraderAPI(coursedir=CourseDirectory(config=config), config=config)
