"""Every exercise takes right answers and refuses wrong ones, each with the message that helps."""

import importlib
import importlib.util
import pkgutil
import re

import pytest

from course_utils import checks
from course_utils.checks import CheckFailed
from course_utils.checks.exercise import HIDDEN_SEED


def exercises_of(lesson):
    """Return a lesson's exercises by name: whatever has a hidden test and known mistakes."""
    module = importlib.import_module(f"course_utils.checks.{lesson}")
    return {
        name: value
        for name, value in vars(module).items()
        if not isinstance(value, type) and hasattr(value, "hidden") and hasattr(value, "mistakes")
    }


def bank_of(lesson):
    """Return the module with a lesson's answers: a bank of its own, or the lesson's tests."""
    own = f"tests.wrong_answers.{lesson}"
    return importlib.import_module(own if importlib.util.find_spec(own) else f"tests.test_{lesson}")


LESSONS = [name for _, name, _ in pkgutil.iter_modules(checks.__path__) if name[:7] == "lesson_"]
EXERCISES = {lesson: found for lesson in LESSONS if (found := exercises_of(lesson))}
BANKS = {lesson: bank_of(lesson) for lesson in EXERCISES}
# (id, exercise, its right answers, its wrong answers that are no mistakes of its own)
ALL = [
    (f"{lesson}-{name}", exercise, bank.RIGHT[name], bank.WRONG.get(name, {}))
    for lesson, bank in BANKS.items()
    for name, exercise in EXERCISES[lesson].items()
]
each_exercise = pytest.mark.parametrize(
    ("exercise", "right", "wrong"), [pytest.param(*told, id=name) for name, *told in ALL]
)


def as_students(function):
    """Return a function of the package as if a student had written it."""
    return lambda *args, **kwargs: function(*args, **kwargs)


def as_pattern(says, name):
    """Return what matches a message of an exercise, whatever is filled in for {got}, {wanted}."""
    constant = re.split(r"\{got\}|\{wanted\}", says.replace("{name}", name))
    return ".*".join(map(re.escape, constant))


def refused(exercise, answer, pattern):
    """Require that an answer is refused, in one line that holds a pattern."""
    with pytest.raises(CheckFailed, match=pattern) as refusal:
        exercise(answer)
    assert "\n" not in str(refusal.value)


@pytest.fixture(params=["0", "1"])
def seed(request, monkeypatch):
    """Give the hidden tests a seed, and another."""
    monkeypatch.setenv(HIDDEN_SEED, request.param)


@pytest.mark.parametrize("lesson", EXERCISES)
def test_a_bank_is_of_exercises_that_are_named_as_in_the_lesson(lesson):
    for name, exercise in EXERCISES[lesson].items():  # ConvLayer is conv_layer
        assert re.sub(r"(?<=[a-z])(?=[A-Z])", "_", exercise.name).lower() == name
    assert {*BANKS[lesson].RIGHT, *BANKS[lesson].WRONG} == set(EXERCISES[lesson])


@each_exercise
def test_an_exercise_has_two_right_and_six_wrong_answers(exercise, right, wrong):
    assert len(right) >= 2
    assert len([*exercise.mistakes, *wrong]) >= 6


# a warning is text on stderr, which costs all of a test cell's points: a check must not let it out
@pytest.mark.filterwarnings("error")
@each_exercise
def test_right_answers_pass_the_check_and_the_hidden_test(exercise, right, wrong, seed, capsys):
    for answer in (*right, *([as_students(exercise.right)] if exercise.right else [])):
        # nbgrader turns a cell's last value into marks: a check must not leave one behind
        assert exercise(answer) is None
        out = capsys.readouterr().out
        assert out.startswith("✓ ")
        assert out.count("\n") == 1
        assert exercise.hidden(answer) is None
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("exercise", "pattern", "answer"),
    [
        pytest.param(exercise, pattern, answer, id=f"{name}-{pattern[:40]}")
        for name, exercise, _, wrong in ALL
        for pattern, answer in [
            *(
                (as_pattern(says, exercise.name), as_students(answer))
                for says, answer in exercise.mistakes.items()
            ),
            *wrong.items(),
        ]
    ],
)
def test_a_wrong_answer_is_told_its_misconception_and_gets_no_hidden_point(
    exercise, pattern, answer, seed
):
    refused(exercise, answer, pattern)
    with pytest.raises(CheckFailed) as refusal:
        exercise.hidden(answer)
    assert len(str(refusal.value)) < 80


@each_exercise
def test_the_courses_own_answer_is_no_answer(exercise, right, wrong):
    # a library's function is an answer
    if exercise.right is not None and exercise.right.__module__.startswith("course_utils"):
        refused(exercise, exercise.right, "the course's own")
        with pytest.raises(CheckFailed, match="the course's own"):
            exercise.hidden(exercise.right)


@each_exercise
def test_what_can_go_wrong_with_any_function_is_told(exercise, right, wrong):
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
