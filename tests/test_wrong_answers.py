"""Every check refuses every answer of its bank of wrong ones, with the message that helps."""

import importlib
import pkgutil

import pytest

from course_utils.checks import CheckFailed
from tests import wrong_answers

BANKS = {
    name: importlib.import_module(f"tests.wrong_answers.{name}").BANK
    for _, name, _ in pkgutil.iter_modules(wrong_answers.__path__)
}
EXERCISES = [(lesson, name, e) for lesson, bank in BANKS.items() for name, e in bank.items()]
each_exercise = pytest.mark.parametrize(
    "exercise", [pytest.param(e, id=f"{lesson}-{name}") for lesson, name, e in EXERCISES]
)


@each_exercise
def test_a_bank_holds_two_right_and_six_wrong_answers(exercise):
    assert len(exercise.right) >= 2
    assert len({wrong.name for wrong in exercise.wrong}) >= 6


# a warning is text on stderr, which costs all of a test cell's points: a check must not let it out
@pytest.mark.filterwarnings("error")
@each_exercise
def test_right_answers_pass_the_check_and_the_hidden_test(exercise, capsys):
    for answer in exercise.right:
        value = exercise.check(answer)
        # nbgrader turns a cell's last value into marks: a check must not leave one behind
        assert value is None
        assert capsys.readouterr().out.startswith("✓ ")
        if exercise.hidden is not None:
            assert exercise.hidden(answer) is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("exercise", "wrong"),
    [
        pytest.param(e, w, id=f"{lesson}-{name}-{w.name}")
        for lesson, name, e in EXERCISES
        for w in e.wrong
    ],
)
def test_a_wrong_answer_is_told_its_misconception(exercise, wrong):
    with pytest.raises(CheckFailed, match=wrong.message) as refusal:
        exercise.check(wrong.answer)
    assert "\n" not in str(refusal.value)


@each_exercise
def test_a_stub_is_named_in_one_line_without_a_traceback(exercise):
    def stub(*args, **kwargs):
        raise NotImplementedError

    if callable(exercise.right[0]):
        with pytest.raises(NotImplementedError, match="stub is still a stub") as refusal:
            exercise.check(stub)
        (line,) = refusal.value._render_traceback_()
        assert line == f"NotImplementedError: {refusal.value}"
