"""The visible checks: one module a lesson, one function an exercise.

A check takes the student's object, goes from type and shape over a tiny value
that can be worked out by hand to a property, and prints one line with a tick,
or raises :class:`CheckFailed` with one line that names the misconception.
``NotImplementedError`` from a stub passes through untouched.
"""

from course_utils.errors import CourseError


class CheckFailed(CourseError, AssertionError):
    """An exercise's answer was refused; the message says which misconception it shows."""


def require(condition: bool, message: str) -> None:
    """Raise :class:`CheckFailed` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise CheckFailed(message)


def passed(exercise: str, learnt: str) -> None:
    """Print the line of a passed check, such as ``✓ ConvLayer: the size stays``."""
    print(f"✓ {exercise}: {learnt}")


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
        raise NotImplementedError(f"first: {self.__dict__['_first']}")

    __getattr__ = __setattr__ = __call__ = __iter__ = __len__ = __getitem__ = _refuse
    __array__ = __float__ = __int__ = __add__ = __radd__ = __sub__ = __mul__ = _refuse
    __format__ = __lt__ = __gt__ = __bool__ = _refuse

    def __repr__(self) -> str:
        return f"<not yet: {self.__dict__['_first']}>"
