"""The bank of wrong answers: what students plausibly write, and the message that each must get.

One module a lesson (``lesson_NN.py``) with ``BANK: dict[str, Exercise]``, whose keys are the
names of the lesson's check functions. ``tests/test_wrong_answers.py`` runs every entry of every
bank: a right answer must pass the visible check and the hidden test, a wrong one must be refused
with the message that names its misconception. A new bank needs no new test.

An answer is what the notebook gives to the check: a function, a class, a number. Where a check
takes more than the answer, ``check`` (and ``hidden``) is a small function of the answer alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Wrong:
    """A plausible wrong answer.

    Attributes
    ----------
    answer
        What the student hands to the check.
    message
        A regular expression that the :class:`~course_utils.checks.CheckFailed` message must
        contain: the words that name the misconception, not only its symptom.
    name
        The mistake in a few words; it is the test's id.
    """

    answer: Any
    message: str
    name: str


@dataclass(frozen=True)
class Exercise:
    """An exercise's check with answers that it must accept and answers that it must refuse.

    Attributes
    ----------
    check
        The visible check as a function of the answer alone.
    right
        At least two different right answers.
    wrong
        At least six plausible wrong answers.
    hidden
        The hidden test as a function of the answer alone; None where there is none.
    """

    check: Callable[[Any], object]
    right: list[Any]
    wrong: list[Wrong]
    hidden: Callable[[Any], object] | None = None
