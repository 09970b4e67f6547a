"""An exercise that is told once judges answers as its docstrings promise."""

import re

import numpy as np
import pytest

from course_utils.checks import CheckFailed
from course_utils.checks.exercise import HIDDEN_SEED, Case, Exercise, as_text, is_same


def setup_module():
    global torch
    import torch


def exercise(**told):
    """Return an exercise, of twice the numbers, with parts of it replaced."""
    told = {
        "form": "twice the numbers, (N,)",
        "learnt": "twice",
        "right": lambda x: 2 * x,
        "cases": [Case(np.array([1.0, 3.0]))],
        "drawn": lambda rng: [Case(rng.random(5))],
    } | told
    return Exercise("double", **told)


def refusal(check, answer):
    """Return the one line with which an answer is refused."""
    with pytest.raises(CheckFailed) as failed:
        check(answer)
    assert "\n" not in str(failed.value)
    return str(failed.value)


def test_a_right_answer_gets_a_line_with_a_tick(capsys):
    for answer in (lambda x: x + x, lambda x: list(2 * x), lambda x: torch.from_numpy(2 * x)):
        assert exercise()(answer) is None
        assert capsys.readouterr().out == "✓ double: twice\n"
        assert exercise().hidden(answer) is None
    assert capsys.readouterr().out == ""


def test_the_first_mistake_that_fits_is_told_with_what_it_names():
    said = exercise(
        mistakes={
            "no": lambda x: 1 / 0,
            "{name} is {got}, wanted {wanted}: squared, not {doubled}.": np.square,
            "squared, too": lambda x: x**2,
        }
    )
    text = "double is [1., 9.], wanted [2., 6.]: squared, not {doubled}."
    assert refusal(said, np.square) == text
    assert refusal(said, lambda x: [*x * x]) == text


def test_of_two_mistakes_that_fit_in_a_case_the_one_that_fits_in_the_others_is_told():
    said = exercise(
        cases=[Case(np.array([3.0])), Case(np.array([1.0, 5.0]))],
        mistakes={
            "plus six": lambda x: x + 6,
            "squared": np.square,
            "times three": lambda x: 3 * x,
        },
    )
    assert refusal(said, np.square) == "squared"
    assert refusal(said, lambda x: 3 * x) == "times three"
    assert refusal(said, lambda x: x + 6) == "plus six"
    # Of one that fits nowhere else, or stops there, the first is told.
    assert refusal(said, lambda x: np.full(1, 9.0)) == "plus six"
    assert refusal(said, lambda x: [[9.0]][len(x) - 1]) == "plus six"


def test_a_mistake_is_not_told_of_a_right_answer_but_of_facts_alone(capsys):
    known = {"mistakes": {"as it should be": lambda x: 2 * x}}
    exercise(**known)(lambda x: 2 * x)
    assert refusal(exercise(right=None, **known), lambda x: 2 * x) == "as it should be"


def test_facts_are_looked_at_after_mistakes_and_before_the_value():
    told = exercise(
        mistakes={"squared": np.square},
        facts={"{name} is not of floats.": lambda got, x: np.asarray(got).dtype == x.dtype},
    )
    assert refusal(told, np.square) == "squared"
    assert refusal(told, lambda x: (2 * x).astype(int)) == "double is not of floats."
    assert refusal(told, lambda x: (3 * x).astype(int)) == "double is not of floats."


def test_what_no_mistake_explains_is_told_with_what_the_case_says():
    found = "double is [3., 9.], expected [2., 6.]: twice the numbers, (N,)."
    assert refusal(exercise(), lambda x: 3 * x) == found
    for says, told in (
        ("Of two numbers.", f"{found} Of two numbers."),
        ("{name} gives {got}.", "double gives [3., 9.]."),
    ):
        said = exercise(cases=[Case(np.array([1.0, 3.0]), says=says)])
        assert refusal(said, lambda x: 3 * x) == told
    shape = r"double has shape \(\) where \(2,\) is wanted: return twice the numbers"
    assert re.match(shape, refusal(exercise(), np.sum))


def test_an_exception_is_told_by_its_cause_with_the_hint_and_what_the_case_says():
    told = exercise(
        cases=[Case(np.array([1.0]), says="One number.")],
        causes={"has no attribute 'twice'": "arrays have no twice"},
        hint="Multiply.",
    )
    assert refusal(told, lambda x: x.twice()) == (
        "double stops: arrays have no twice. Multiply. One number."
    )
    assert "stops: KeyError: 'a'. Multiply." in refusal(told, lambda x: {}["a"])


def test_none_and_what_is_no_array_of_numbers_are_told():
    assert "is its `return` missing?" in refusal(exercise(), lambda x: None)
    for junk in ({"a": 1}, "2", [[1], [2, 3]], object()):
        assert f"gives a {type(junk).__name__} that is no array" in refusal(
            exercise(), lambda x, junk=junk: junk
        )
    text = exercise(right=lambda x: "two", numbers=False, same=lambda got, wanted: got == wanted)
    text(lambda x: "two")
    assert "double is 'six', expected 'two'" in refusal(text, lambda x: "six")


def test_an_answer_that_changes_its_input_is_refused_even_if_it_is_right():
    def in_place(x):
        x *= 2
        return x.copy()

    case = Case(np.array([1.0, 3.0]))
    for _ in range(2):
        assert "changes what it is given" in refusal(exercise(cases=[case]), in_place)
    tensors = exercise(cases=[Case(torch.ones(2))])
    assert "changes what it is given" in refusal(tensors, in_place_of_tensor)
    assert case.arguments[0].tolist() == [1, 3]


def in_place_of_tensor(x):
    return x.mul_(2).clone()


def test_a_stub_stays_not_implemented():
    def stub(x):
        raise NotImplementedError

    for check in (exercise(), exercise().hidden):
        with pytest.raises(NotImplementedError, match="stub is still a stub"):
            check(stub)


def test_a_case_may_ask_in_its_own_way():
    first = exercise(
        cases=[Case(np.array([1.0, 3.0]), through=lambda answer, x, times: answer(x)[0], times=2)]
    )
    first(lambda x: [2.0, None])
    assert "double is 3, expected 2:" in refusal(first, lambda x: 3 * x)


def test_a_number_is_an_answer_too(capsys):
    number = exercise(right=lambda: 2, cases=[Case()], mistakes={"half": lambda: 1})
    number(2.0)
    assert refusal(number, 1) == "half"
    assert "where () is wanted" in refusal(number, [2, 2])


def test_a_check_takes_what_the_notebook_shows_beside_the_answer(capsys):
    exercise()(lambda x: 2 * x, {"A": 1.0})
    assert capsys.readouterr().out.startswith("✓")


def test_the_hidden_test_says_little_and_draws_from_the_graders_seed(monkeypatch):
    drawn = []

    def draw(rng):
        drawn.append(rng.random(3))
        return [Case(drawn[-1])]

    told = exercise(drawn=draw, mistakes={"squared": np.square})
    monkeypatch.setenv(HIDDEN_SEED, "5")
    for _ in range(2):
        assert refusal(told.hidden, np.square) == "double is wrong on random input."
        assert refusal(told.hidden, lambda x: x.twice()) == "double is wrong on random input."
    assert len({x.tobytes() for x in drawn}) == 1
    monkeypatch.delenv(HIDDEN_SEED)
    refusal(told.hidden, np.square)
    refusal(told.hidden, np.square)
    assert len({x.tobytes() for x in drawn}) == 3


def test_numbers_agree_by_shape_value_and_nan():
    assert is_same([1, np.nan], np.array([1 + 1e-7, np.nan]))
    assert is_same(torch.ones(2, requires_grad=True), (1, 1))
    assert not is_same([1, 1], [[1, 1]])
    assert not is_same([1.001], [1])
    assert not is_same("1a", 1)
    assert not is_same([[1], [1, 2]], [[1], [1, 2]])


def test_anything_is_told_on_a_short_line():
    assert as_text(np.eye(2)) == "[[1., 0.], [0., 1.]]"
    assert as_text("road") == "'road'"
    assert as_text(np.ones((20, 30), bool)) == "an array (20, 30) of sum 600"
    assert as_text(torch.tensor(0.5, requires_grad=True)) == "0.5"
    assert as_text({"A": 1}) == "{'A': 1}"


def test_maps_of_different_sizes_are_refused_in_words():
    total = Exercise("total", "one number", "summed", np.sum, [Case(np.arange(3.0))])
    maps = [torch.zeros(1, 2, 3), torch.zeros(1, 4, 5)]
    with pytest.raises(CheckFailed, match=r"its parts differ in length\): it must be one number"):
        total(lambda x: maps)
