"""Every exercise takes right answers and refuses wrong ones, each with the message that helps."""

import importlib
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from course_utils.checks import CheckFailed
from course_utils.checks.exercise import HIDDEN_SEED

ROOT = Path(__file__).resolve().parent.parent


def checked_in(number):
    """Return the names of a lesson's exercises: what its notebook checks by more than a function.

    They are read and not imported, so that torch comes with the tests and not before them.
    """
    (notebook,) = ROOT.glob(f"solutions/{number}_*/*.ipynb")
    checks = (ROOT / f"course_utils/checks/lesson_{number}.py").read_text("utf-8")
    names = dict.fromkeys(re.findall(r"checks\.(\w+)\(", notebook.read_text("utf-8")))
    return [name for name in names if f"\ndef {name}(" not in checks]


LESSONS = [path.stem[-2:] for path in sorted(ROOT.glob("course_utils/checks/lesson_*.py"))]
EXERCISES = [(number, name) for number in LESSONS for name in checked_in(number)]


def exercises_of(number):
    """Return a lesson's exercises by name: whatever has a hidden test and known mistakes."""
    module = importlib.import_module(f"course_utils.checks.lesson_{number}")
    return {
        name: value
        for name, value in vars(module).items()
        if not isinstance(value, type) and hasattr(value, "hidden") and hasattr(value, "mistakes")
    }


def bank_of(number):
    """Return the module with a lesson's answers: a bank of its own, or the lesson's tests."""
    own = f"tests.wrong_answers.lesson_{number}"
    return importlib.import_module(own if find_spec(own) else f"tests.test_lesson_{number}")


@pytest.fixture(params=EXERCISES, ids=lambda told: "lesson_{}-{}".format(*told))
def told(request):
    """Return an exercise, right answers, and wrong ones that are not mistakes of its own."""
    number, name = request.param
    bank = bank_of(number)
    return exercises_of(number)[name], bank.RIGHT[name], bank.WRONG.get(name, {})


def as_students(function):
    """Return a function of the package as if a student had written it."""
    return lambda *args, **kwargs: function(*args, **kwargs)


def right_answers(told):
    """Return what must pass: the bank's answers, and the exercise's own as a student's."""
    exercise, right, _ = told
    return (*right, *([as_students(exercise.right)] if exercise.right else []))


def wrong_answers(told):
    """Return what must be refused, each behind a pattern of what is said: mistakes, and a bank."""
    exercise, _, wrong = told
    mistakes = {
        as_pattern(says, exercise.name): as_students(answer)
        for says, answer in exercise.mistakes.items()
    }
    return [*mistakes.items(), *wrong.items()]


def as_pattern(says, name):
    """Return what matches a message of an exercise, whatever is filled in for {got}, {wanted}."""
    constant = re.split(r"\{got\}|\{wanted\}", says.replace("{name}", name))
    return ".*".join(map(re.escape, constant))


def refused(exercise, answer, pattern):
    """Require that an answer is refused, in one line that holds a pattern."""
    with pytest.raises(CheckFailed, match=pattern) as refusal:
        exercise(answer)
    assert "\n" not in str(refusal.value)


@pytest.fixture(params=["0", pytest.param("1", marks=pytest.mark.long)])
def seed(request, monkeypatch):
    """Give the hidden tests a seed, and another."""
    monkeypatch.setenv(HIDDEN_SEED, request.param)


@pytest.mark.parametrize("number", LESSONS, ids="lesson_{}".format)
def test_exercises_and_answers_are_named_as_in_the_lesson(number):
    exercises, bank = exercises_of(number), bank_of(number)
    assert set(exercises) == set(checked_in(number))
    for name, exercise in exercises.items():  # ConvLayer is conv_layer
        assert re.sub(r"(?<=[a-z])(?=[A-Z])", "_", exercise.name).lower() == name
    assert {*bank.RIGHT, *bank.WRONG} == set(exercises)


def test_an_exercise_has_two_right_and_six_wrong_answers(told):
    exercise, right, wrong = told
    assert len(right) >= 2
    assert len([*exercise.mistakes, *wrong]) >= 6


# a warning is text on stderr, which costs all of a test cell's points: a check must not let it out
@pytest.mark.filterwarnings("error")
def test_right_answers_pass_the_check(told, capsys):
    for answer in right_answers(told):
        # nbgrader turns a cell's last value into marks: a check must not leave one behind
        assert told[0](answer) is None
        out = capsys.readouterr().out
        assert out.startswith("✓ ")
        assert out.count("\n") == 1
    assert capsys.readouterr() == ("", "")


@pytest.mark.filterwarnings("error")
def test_right_answers_pass_the_hidden_test(told, seed, capsys):
    for answer in right_answers(told):
        assert told[0].hidden(answer) is None
    assert capsys.readouterr() == ("", "")


def test_a_wrong_answer_is_told_its_misconception(told, subtests):
    for pattern, answer in wrong_answers(told):
        with subtests.test(pattern):
            refused(told[0], answer, pattern)


def test_a_wrong_answer_gets_no_hidden_point(told, seed, subtests):
    for pattern, answer in wrong_answers(told):
        with subtests.test(pattern):
            with pytest.raises(CheckFailed) as refusal:
                told[0].hidden(answer)
            assert len(str(refusal.value)) < 80


def test_the_courses_own_answer_is_no_answer(told):
    exercise, *_ = told
    # a library's function is an answer
    if exercise.right is not None and exercise.right.__module__.startswith("course_utils"):
        refused(exercise, exercise.right, "the course's own")
        with pytest.raises(CheckFailed, match="the course's own"):
            exercise.hidden(exercise.right)


def test_what_can_go_wrong_with_any_function_is_told(told):
    exercise, right, _ = told
    answer = right[0]
    if not callable(answer):
        return

    def in_place(*args, **kwargs):
        result = answer(*args, **kwargs)
        for argument in args:
            if hasattr(argument, "shape"):
                argument[...] = argument == 0
                break
        return result

    def stops(*args, **kwargs):
        raise KeyError("a key of mine")

    def stub(*args, **kwargs):
        raise NotImplementedError

    refused(exercise, lambda *args, **kwargs: None, "return. missing")
    refused(exercise, stops, "stops: KeyError: 'a key of mine'")
    takes_arrays = any(hasattr(a, "shape") for case in exercise.cases for a in case.arguments)
    if takes_arrays:
        refused(exercise, in_place, "changes what it is given")
    with pytest.raises(NotImplementedError, match="stub is still a stub") as refusal:
        exercise(stub)
    (line,) = refusal.value._render_traceback_()
    assert line == f"NotImplementedError: {refusal.value}"
