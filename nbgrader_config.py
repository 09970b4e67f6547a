"""nbgrader's settings for this course: ``nbgrader autograde 06_unet_from_scratch`` just works."""

from pathlib import Path

from course_utils.grading.marking.nbgrader_setup import configure

configure(get_config(), Path(__file__).resolve().parent)  # noqa: F821  (nbgrader defines it)
