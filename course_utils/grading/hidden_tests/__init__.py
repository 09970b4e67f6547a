"""Hidden tests, one module a lesson: never shipped to students; their messages stay short."""

import warnings
from collections.abc import Callable

import numpy as np

from course_utils.checks import CheckFailed, is_stub, require


def ask(name: str, function: Callable, *args, **kwargs):
    """Return what a student's function answers; any exception of it is told by its type only."""
    try:
        # a warning would be text on stderr, which costs all points of a test cell under nbgrader
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return function(*args, **kwargs)
    except Exception as error:
        if is_stub(error):
            raise
        raise CheckFailed(f"{name} raised {type(error).__name__} on random input.") from None


def holds(name: str, condition: bool) -> None:
    """Raise :class:`CheckFailed` unless the condition holds."""
    require(condition, f"{name} is wrong on random input.")


def same(name: str, got, expected, atol: float = 1e-6) -> None:
    """Raise :class:`CheckFailed` unless shape and numbers agree; NaN equals NaN."""
    try:
        got = np.asarray(got, dtype=float)
    except (TypeError, ValueError):
        holds(name, False)
    holds(
        name,
        got.shape == np.shape(expected)
        and np.allclose(got, expected, rtol=1e-6, atol=atol, equal_nan=True),
    )
