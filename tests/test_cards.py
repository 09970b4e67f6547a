"""A check's card, the way on, and what is left of a traceback."""

import ast
import inspect
from types import SimpleNamespace

import IPython.display
import numpy as np
import pytest

from course_utils import checks
from course_utils.checks import CheckFailed, NotYet, cards
from course_utils.errors import CourseError
from tests.test_exercise import exercise
from tests.test_notebooks import LESSONS, code_cells
from tests.test_wrong_answers import EXERCISES, exercises_of


def stub(x):
    raise NotImplementedError


def squared(x):
    return x * x


@pytest.fixture
def shown(monkeypatch):
    """Stand in for a student's kernel; return the bundles that it shows."""
    shell = SimpleNamespace(kernel=object(), errors=[])
    shell.set_custom_exc = lambda kinds, handler: setattr(shell, "handler", handler)
    shell.showtraceback = lambda told, tb_offset: shell.errors.append(told[1])
    shown = []
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    monkeypatch.setattr(cards, "_shell", lambda: shell)
    monkeypatch.setattr(cards, "_failures", cards.Counter())
    monkeypatch.setattr(IPython.display, "display", lambda data, raw: shown.append(data))
    shown_by = SimpleNamespace(bundles=shown, shell=shell)
    return shown_by


def told(check, answer, shown):
    """Return what a cell shows that asks a check: the card, and the line of the error, if any."""
    lines, told_once = [], True
    try:
        check(answer)
    except (CheckFailed, NotImplementedError) as error:
        lines, again = error._render_traceback_(), error._render_traceback_()  # as IPython does
        told_once = lines == again
    assert told_once
    assert len(shown.bundles) == 1
    return shown.bundles.pop(), lines


def test_a_passed_check_shows_a_card_with_text_and_html(shown, capsys):
    card, lines = told(exercise(), lambda x: 2 * x, shown)
    assert card["text/plain"] == "✓ double: twice"
    assert 'aria-label="Check of double: passed"' in card["text/html"]
    assert lines == []
    assert capsys.readouterr().out == ""


def test_a_refused_answer_shows_what_is_wrong_and_leaves_one_line(shown):
    card, lines = told(exercise(mistakes={"a `<b>` & squared": squared}), squared, shown)
    assert card["text/plain"] == "✗ double: a `<b>` & squared"
    assert "a <code>&lt;b&gt;</code> &amp; squared" in card["text/html"]
    assert "not yet right" in card["text/html"]
    assert lines == ["CheckFailed: double, see the card above."]


def test_hints_and_the_way_on_are_named_from_the_second_failure_on(shown):
    check = exercise()
    hints = "Two hints lie folded under the stub."
    assert hints not in told(check, stub, shown)[0]["text/plain"]
    for answer in (squared, stub):
        text = told(check, answer, shown)[0]["text/plain"]
        assert hints in text
        assert "`double = checks.double.lent()`" in text
    told(check, lambda x: 2 * x, shown)
    assert hints not in told(check, squared, shown)[0]["text/plain"]


def test_what_cannot_be_lent_is_not_offered(shown):
    number = exercise(right=lambda: 2, cases=[checks.exercise.Case()])
    for _ in range(2):
        text = told(number, 3, shown)[0]["text/plain"]
    assert "Two hints" in text
    assert "lent" not in text
    with pytest.raises(CourseError, match="goes on without it"):
        number.lent()


def test_the_course_s_own_answer_is_refused_and_not_offered_again(shown, capsys, monkeypatch):
    check = exercise()
    own = check.lent()
    assert capsys.readouterr().out.count("\n") == 1
    assert own(np.array([1.0])) == 2
    for _ in range(2):
        card, lines = told(check, own, shown)
    assert card["text/plain"].startswith("○ double: double is the course's own")
    assert "earns no points" in card["text/plain"]
    assert 'aria-label="Check of double: lent"' in card["text/html"]
    assert ".lent()" not in card["text/plain"]
    assert lines == []  # nothing is raised, so "Run All Cells" goes on
    with pytest.raises(CheckFailed):
        check.hidden(own)
    for run_by in ("autograde", "validate"):
        monkeypatch.setenv("NBGRADER_EXECUTION", run_by)
        with pytest.raises(CheckFailed, match="earns no points"):
            check(own)
    assert shown.bundles == []


@pytest.mark.parametrize("run_by", ["autograde", "validate"])
def test_under_nbgrader_there_is_no_card(shown, monkeypatch, capsys, run_by):
    monkeypatch.setenv("NBGRADER_EXECUTION", run_by)
    exercise()(lambda x: 2 * x)
    assert capsys.readouterr().out == "✓ double: twice\n"
    for answer in (squared, stub):
        with pytest.raises((CheckFailed, NotImplementedError)) as refused:
            exercise()(answer)
        (line,) = refused.value._render_traceback_()
        assert line == f"{refused.type.__name__}: {refused.value}"
    assert shown.bundles == []


def test_a_cell_that_runs_into_a_stub_ends_in_one_line(shown):
    cards.shorten_stubs(checks._place, checks.is_stub)

    def lines(call):
        try:
            call()
        except NotImplementedError as error:
            shown.shell.handler(shown.shell, type(error), error, error.__traceback__)
        error = shown.shell.errors.pop()
        return error._render_traceback_() if hasattr(error, "_render_traceback_") else None

    (line,) = lines(lambda: stub(1))
    assert line == (
        "NotImplementedError: stub is still a stub: write its code, then run its check."
    )
    (line,) = lines(lambda: exec("raise NotImplementedError()", {}))
    assert line == "NotImplementedError: this cell holds a stub: write its code."
    assert lines(NotYet("train")) == ["NotImplementedError: first: train"]

    def lacks():
        raise NotImplementedError('"add" not implemented for "Half"')

    assert lines(lacks) is None  # torch's own words, with their traceback


def calls_in(lesson, name):
    """Return how a lesson's notebook calls a function: (number of arguments, names of others)."""
    return {
        (len(call.args), tuple(word.arg for word in call.keywords))
        for cell in code_cells(lesson)
        for call in ast.walk(ast.parse(cell.source))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == name
        if not any(isinstance(value, ast.Starred) for value in call.args)
    }


@pytest.mark.parametrize("lesson", LESSONS)
def test_what_is_lent_is_called_as_the_notebook_calls_it(lesson):
    for one in exercises_of(lesson[:2]).values():
        if not one._way_on():
            continue
        lent = getattr(one, "lends", None) or one.right
        for count, words in calls_in(lesson, one.name):
            inspect.signature(lent).bind(*range(count), **dict.fromkeys(words))


def test_nets_that_are_lent_are_right_but_for_being_lent():
    from dataclasses import replace

    found = {name: exercises_of(number)[name] for number, name in EXERCISES}
    nets = {name: one for name, one in found.items() if getattr(one, "lends", None)}
    assert len(nets) >= 4
    for one in nets.values():
        own = one.lent()
        with pytest.raises(CheckFailed, match="earns no points"):
            one(own)
        by_another_name = type(one.name, (own,), {"__module__": "__main__"})
        for asked in (one, one.hidden):
            with pytest.raises(CheckFailed):
                asked(by_another_name)
        replace(one, lends=None)(by_another_name)


@pytest.mark.long
def test_a_net_that_is_lent_passes_the_gate(tmp_path, monkeypatch, capsys):
    from course_utils.hand_in.export import export
    from course_utils.models.unet import UNet

    monkeypatch.chdir(tmp_path)
    export("unet", UNet(3, 10, 4).eval())
    assert (tmp_path / "models" / "unet.onnx").is_file()
