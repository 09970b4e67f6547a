"""An old name that notebooks handed in until summer 2027 import; then it may go."""

from course_utils.figures.classical import *  # noqa: F403
