"""An exercise told once: its right answer, the cases it is asked, the mistakes that are known.

From one :class:`Exercise` come the visible check (call it with the student's answer), the hidden
test (:meth:`Exercise.hidden`) and, in the tests, the bank of wrong answers: each known mistake is
run as if a student had written it, must be refused in its own words, and gets no hidden point.
"""

import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from course_utils.checks import CheckFailed, answering, explain, passed, require
from course_utils.checks.cards import lent, way_on
from course_utils.errors import CourseError

HIDDEN_SEED = "COURSE_HIDDEN_SEED"
"""Environment variable of the grader's kernel: what hidden tests draw their input from."""


def _call(function: Callable, *arguments, **options) -> Any:
    return function(*arguments, **options)


class Case:
    """Arguments that an answer is asked with, and what it means to be wrong here.

    Parameters
    ----------
    arguments, options
        Given to the answer, as copies.
    says
        What to say of an answer that is wrong here in no way that is known: the misconception that
        this case was made for. Unless it tells ``{got}`` itself, it follows what was found and what
        was expected, or an exception.
    through
        ``through(answer, *arguments, **options)`` asks the answer and returns what is compared, for
        a part of what it returns, its gradient, or several calls. By default: the answer's result.
    """

    def __init__(self, *arguments, says: str = "", through: Callable = _call, **options):
        self.arguments, self.says, self.options = arguments, says, options
        self.through = through

    def copied(self) -> tuple[tuple, dict]:
        """Return arguments and options that an answer may change."""
        return deepcopy((self.arguments, self.options))

    def ask(self, function: Callable) -> Any:
        """Return what a function answers, asked as this case asks."""
        arguments, options = self.copied()
        return self.through(function, *arguments, **options)


def is_same(got: Any, wanted: Any, atol: float = 1e-6) -> bool:
    """Tell whether shape and numbers agree; NaN equals NaN, and what is no number equals nothing.

    A tensor's numbers count, and a tuple's numbers are those of an array.
    """
    try:
        got, wanted = as_array(got).astype(float), as_array(wanted).astype(float)
    except (TypeError, ValueError):
        return False
    return got.shape == wanted.shape and np.allclose(got, wanted, 1e-6, atol, equal_nan=True)


def as_array(value: Any) -> np.ndarray:
    """Return numbers as an array: those of a tensor, too, whatever it hangs on."""
    value = value.detach().cpu() if hasattr(value, "detach") else value
    try:
        return np.asarray(value)
    except ValueError:  # rows of different lengths, or maps of different sizes: no numbers
        parts = np.empty(len(value), dtype=object)
        for k, part in enumerate(value):
            parts[k] = part
        return parts


def as_text(value: Any) -> str:
    """Return numbers, or anything else, on one short line; of many numbers their sum."""
    if isinstance(value, str):
        return repr(value)
    array = as_array(value)
    if array.size > 60 and array.dtype.kind in "biuf":
        return f"an array {array.shape} of sum {array.sum():.6g}"
    told = np.array2string(array, precision=3, separator=", ", threshold=60)
    told = re.sub(r"\s+(?=[],])|(?<=\[)\s+", "", " ".join(told.split()))
    return told if array.ndim else told.removesuffix(".")


def as_kind(value: Any) -> str:
    """Return what a value is, such as ``float64 of shape (3, 4)`` or ``list``."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return type(value).__name__


@dataclass(frozen=True)
class Exercise:
    """A function, or a number, that a student writes: how it is checked, and what goes wrong.

    Attributes
    ----------
    name
        As in the notebook.
    form
        What to return, in words: ``"one value a class, (C,)"``.
    learnt
        What the line of a passed check says; ``{got}`` is the answer to the last case.
    right
        The answer that counts, by another way than the lesson's, or a library's. None: whatever
        holds the facts is right.
    cases
        What the visible check asks, in this order. Best worked out by hand, each made for one
        misconception. As a table: what a case says -> its arguments.
    drawn
        From a generator to the cases of the hidden test. They must show every mistake.
    mistakes
        What to say -> what a student computes who makes this mistake, of the same arguments. Told
        is what fits a wrong answer; where several do, the one that fits it in the other cases, too,
        and of those the first. In what is said, ``{name}``, ``{form}``, ``{got}``, ``{wanted}`` and
        ``{found}`` (the answer's kind: dtype and shape) are filled in.
    facts
        What to say where it does not hold -> a predicate of ``(got, *arguments)``. They are looked
        at after the mistakes and before the value.
    causes
        A regular expression of an exception's text -> what to say of it.
    hint
        Said after an exception of the answer.
    same
        When two answers agree. By default numbers and shape, to 1e-6.
    numbers
        Whether an answer must be an array of numbers, or one number.
    """

    name: str
    form: str
    learnt: str
    right: Callable | None
    cases: Iterable[Case] | Mapping[str, tuple]
    drawn: Callable[[np.random.Generator], list[Case]] | None = None
    mistakes: Mapping[str, Callable] = field(default_factory=dict)
    facts: Mapping[str, Callable[..., bool]] = field(default_factory=dict)
    causes: Mapping[str, str] = field(default_factory=dict)
    hint: str = ""
    same: Callable[[Any, Any], bool] = is_same
    numbers: bool = True

    def __post_init__(self):
        if isinstance(self.cases, Mapping):
            cases = [Case(*given, says=says) for says, given in self.cases.items()]
            object.__setattr__(self, "cases", cases)  # the class is frozen

    def __call__(self, answer: Any, *about: Any) -> None:
        """Run the visible check; it shows a card, or prints a line with a tick.

        ``about`` is what a notebook shows that an answer is about; no case needs it.

        An answer that is :meth:`lent` is refused; in a student's notebook the card alone says so,
        and "Run All Cells" goes on.

        Raises
        ------
        CheckFailed
            In one line: what is wrong, and which misconception it shows.
        """
        try:
            self._require_own(answer)
        except CheckFailed as error:
            return lent(error, self.name)
        with answering(self.name, self._way_on()):
            for case in self.cases:
                got = self._try(answer, case)
        passed(self.name, _filled(self.learnt, {"got": got}))

    def lent(self) -> Callable:
        """Return the course's own answer, for a student who wants to go on with the lesson.

        It is called as the notebook calls the student's. Check and hidden test refuse it.

        Raises
        ------
        CourseError
            If there is none to lend, such as for a number.
        """
        if not self._way_on():
            raise CourseError(f"{self.name} has no answer to lend: the lesson goes on without it.")
        print(f"{self.name}: the course's own, lent so that you can go on. It earns no points.")
        return self._own()

    def _own(self) -> Callable:
        def lent(*arguments, **options):
            return self.right(*arguments, **options)

        lent.__name__ = lent.__qualname__ = self.name
        return lent

    def _way_on(self) -> str:
        """Return the line that takes the course's own answer; empty where there is none."""
        asked = self.right and any(case.arguments or case.options for case in self.cases)
        return way_on(self.name) if asked else ""

    def hidden(self, answer: Any) -> None:
        """Run the hidden test: the same comparison on input drawn from the grader's seed.

        Raises
        ------
        CheckFailed
            With a message that gives nothing away.
        """
        self._require_own(answer)
        seed = os.environ.get(HIDDEN_SEED)
        rng = np.random.default_rng(int(seed) if seed else None)
        try:
            for case in self.drawn(rng) if self.drawn else self.cases:
                self._try(answer, case, tell=False)
        except CheckFailed:
            raise CheckFailed(f"{self.name} is wrong on random input.") from None

    def _require_own(self, answer: Any) -> None:
        """Refuse what this package holds, such as ``right``: a shortcut that many would try."""
        written = inspect.isroutine(answer) or isinstance(answer, type)
        require(
            not (written and str(answer.__module__).startswith("course_utils.")),
            f"{self.name} is the course's own: it takes you on, but earns no points. Write yours "
            "when you come back to it.",
        )

    def _try(self, answer: Any, case: Case, *, tell: bool = True) -> Any:
        """Return what an answer gives, if it is right; refuse it, and tell why or only that."""
        got = self._ask(answer, case)
        self._judge(answer, got, case, tell)
        return got

    def _ask(self, answer: Any, case: Case) -> Any:
        """Return the answer's result, surely of the right kind and with its input left alone."""
        arguments, options = case.copied()

        def surely(*given, **more):
            result = answer(*given, **more)
            require(
                result is not None,
                f"{self.name} returns None: is its `return` missing? print shows a value, `return` "
                "gives it back.",
            )
            return result

        asked = bool(case.arguments or case.options) or case.through is not _call
        require(
            callable(answer) or not asked,
            f"{self.name} is a {type(answer).__name__}; it must be a function: give the check its "
            "name, without a call.",
        )
        if callable(answer):
            says = "" if "{got}" in case.says else _filled(case.says, {"name": self.name})
            with (
                np.errstate(all="ignore"),
                explain(f"{self.name} stops", self.causes, f"{self.hint} {says}".strip()),
            ):
                got = case.through(surely, *arguments, **options)
        else:  # a number that a cell has computed
            got = answer
        before = (*case.arguments, *case.options.values())
        for was, argument in zip(before, (*arguments, *options.values()), strict=True):
            require(
                not hasattr(was, "shape") or bool((as_array(was) == as_array(argument)).all()),
                f"{self.name} changes what it is given, and the notebook goes on with it: "
                "work on a copy, and run the cells above again.",
            )
        if self.numbers:
            array = as_array(got)
            parts = " (its parts differ in length)" if array.ndim and array.dtype == object else ""
            require(
                array.dtype.kind in "biuf",
                f"{self.name} gives a {type(got).__name__} that is no array of numbers{parts}: "
                f"it must be {self.form}.",
            )
        return got

    def _judge(self, answer: Any, got: Any, case: Case, tell: bool) -> None:
        """Refuse a result that is not right: by the mistake that fits, a fact, or the value."""
        with np.errstate(all="ignore"):
            wanted = None if self.right is None else case.ask(self.right)
        wrong = self.right is not None and not self.same(got, wanted)
        require(tell or not wrong, "wrong")  # its cause is not looked for
        words = {"name": self.name, "form": self.form, "found": as_kind(got)}
        words |= {"got": got, "wanted": wanted}
        if wrong or self.right is None:
            says = self._mistake(answer, got, case)
            require(says is None, _filled(says or "", words))
        for says, holds in self.facts.items():
            require(self._holds(holds, got, case), _filled(says, words))
        if not wrong:
            return
        if self.numbers and np.shape(got) != np.shape(wanted):
            shapes = f"shape {(*np.shape(got),)} where {(*np.shape(wanted),)} is wanted"
            told = f"{shapes}: return {self.form}"
            raise CheckFailed(f"{self.name} has {told}. {_filled(case.says, words)}".strip())
        if "{got}" in case.says:
            raise CheckFailed(_filled(case.says, words))
        told = f"{self.name} is {as_text(got)}, expected {as_text(wanted)}: {self.form}."
        raise CheckFailed(f"{told} {_filled(case.says, words)}".strip())

    def _holds(self, fact: Callable, got: Any, case: Case) -> bool:
        try:  # of a result of another kind a fact may not even be asked
            with explain("a fact stops"):
                return bool(fact(got, *case.arguments, **case.options))
        except CheckFailed:
            return False

    def _mistake(self, answer: Any, got: Any, case: Case) -> str | None:
        """Return what to say of the mistake that was made; None if none of those known fits.

        Two mistakes can come to the same numbers in one case: then the other cases tell them apart.
        """
        fitting = {
            says: mistake
            for says, mistake in self.mistakes.items()
            if self._fits(mistake, got, case)
        }
        for other in self.cases:
            if len(fitting) < 2:
                break
            try:
                told = self._ask(answer, other)
            except (CheckFailed, NotImplementedError):
                continue
            left = {
                s: mistake for s, mistake in fitting.items() if self._fits(mistake, told, other)
            }
            fitting = left or fitting
        return next(iter(fitting), None)

    def _fits(self, mistake: Callable, got: Any, case: Case) -> bool:
        try:
            with np.errstate(all="ignore"), explain("a mistake stops"):
                return self.same(got, case.ask(mistake))
        except (CheckFailed, NotImplementedError):
            return False


def _filled(says: str, words: Mapping[str, Any]) -> str:
    """Return a text with ``{name}``, ``{got}`` and the like filled in; other braces stay."""
    for key, value in words.items():
        if f"{{{key}}}" in says:
            text = value if key in ("name", "form", "found") else as_text(value)
            says = says.replace(f"{{{key}}}", text)
    return says
