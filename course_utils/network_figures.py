"""An old name that notebooks handed in until summer 2027 import; then it may go."""

from course_utils.figures.networks import *  # noqa: F403
