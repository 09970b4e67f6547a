"""Who runs this notebook: a student, nbgrader's Validate button, or the grader.

Every part of the package that behaves otherwise there asks here: training (never), export
(never), hidden images (the grader alone), widgets and progress bars (for a student alone).
"""

import os
from typing import Literal


def run_by() -> Literal["student", "validate", "grader"]:
    """Return who runs this notebook, as nbgrader tells by an environment variable.

    A student's JupyterLab, nbconvert and ``course solve`` on a lesson with a model are "student".
    """
    told = os.environ.get("NBGRADER_EXECUTION")
    return {None: "student", "": "student", "autograde": "grader"}.get(told, "validate")


def is_static() -> bool:
    """Return whether figures are plain pictures: under nbgrader, or with ``COURSE_STATIC=1``."""
    return run_by() != "student" or os.environ.get("COURSE_STATIC") == "1"
