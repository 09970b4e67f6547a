"""The exercises, one module a lesson, each told once (`exercise`; nets: `networks`).

A check takes the student's object and shows a card, or prints one line with a tick; or it raises
:class:`CheckFailed` with one line that names the misconception.
``NotImplementedError`` from a stub stays one, and says in one line which stub it is.
"""

import re
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from textwrap import shorten

from course_utils.checks import cards
from course_utils.checks.cards import passed as passed
from course_utils.errors import CourseError


class CheckFailed(CourseError, AssertionError):
    """An exercise's answer was refused; the message says which misconception it shows."""

    def _render_traceback_(self) -> list[str]:
        return cards.rendered(self, "refused")


def require(condition: bool, message: str) -> None:
    """Raise :class:`CheckFailed` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise CheckFailed(message)


@contextmanager
def answering(exercise: str, way_on: str = ""):
    """Let an exception of a check bring a card along: hints from the second failure on.

    ``way_on`` is the line of code that takes the course's own answer, if there is one.
    """
    try:
        yield
    except (CheckFailed, NotImplementedError) as error:
        cards.refused(error, exercise, way_on)
        raise


@contextmanager
def explain(doing: str, causes: Mapping[str, str] | None = None, hint: str = ""):
    """Turn an exception of the student's code into one line: what was done, and why it failed.

    Parameters
    ----------
    doing : str, such as ``"mean_map stops"``
    causes : mapping, a regular expression of the exception's text -> what to say in its place
    hint : str, a sentence to say after it
    """
    try:
        # a warning would be text on stderr, which costs all points of a test cell under nbgrader
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except CheckFailed:
        raise
    except Exception as error:
        if is_stub(error):
            raise _not_implemented(
                str(error) or f"{_place(error)} is still a stub: write its code"
            ) from None
        text = " ".join(str(error).split())
        shown = shorten(text, 160, placeholder=" ...") or "without a message"
        said = f"{type(error).__name__}: {shown}"
        for pattern, cause in (causes or {}).items():
            if re.search(pattern, text):
                said = cause
                break
        said = said if said.endswith("?") else f"{said.rstrip('. ')}."
        raise CheckFailed(f"{doing}: {said} {hint}".strip()) from None


def is_stub(error: Exception) -> bool:
    """Tell whether an error comes from a stub, and not from an operation that torch lacks."""
    return isinstance(error, NotImplementedError) and "not implemented for" not in str(error)


def _place(error: BaseException) -> str:
    """Return the name of the function or class that raised, such as ``ConvLayer.forward``."""
    step = error.__traceback__
    while step.tb_next is not None:
        step = step.tb_next
    return step.tb_frame.f_code.co_qualname.removesuffix(".__init__")


def _not_implemented(message: str) -> NotImplementedError:
    """Return an error that a notebook shows as one line, without a traceback."""
    error = NotImplementedError(message)
    error._render_traceback_ = lambda: cards.rendered(error, "stub")
    return error


class NotYet:
    """Stands for a result of a later cell: any use says which exercise comes first.

    A notebook that is run from top to bottom before its exercises are done
    then raises ``NotImplementedError`` everywhere, never ``NameError``.

    >>> model = NotYet("train the U-Net")
    >>> model.eval()
    Traceback (most recent call last):
    ...
    NotImplementedError: first: train the U-Net
    """

    def __init__(self, first: str):
        self.__dict__["_first"] = first

    def _refuse(self, *args, **kwargs):
        raise _not_implemented(f"first: {self.__dict__['_first']}")

    __getattr__ = __setattr__ = __call__ = __iter__ = __len__ = __getitem__ = _refuse
    __array__ = __float__ = __int__ = __add__ = __radd__ = __sub__ = __mul__ = _refuse
    __format__ = __lt__ = __gt__ = __bool__ = _refuse

    def __repr__(self) -> str:
        return f"<not yet: {self.__dict__['_first']}>"


cards.shorten_stubs(_place, is_stub)
