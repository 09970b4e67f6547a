"""What a hurried cheat changes in his kernel is brought back and named."""

import sys
from types import MethodType, ModuleType, SimpleNamespace

import pytest

from course_utils import metrics
from course_utils.grading.marking import guard


@pytest.fixture
def checks(monkeypatch):
    """Stand-in for a lesson's checks, so that no heavy module is loaded."""
    made = []

    def fresh(name):
        if name != "course_utils.checks.lesson_06":
            raise ModuleNotFoundError(name)
        module = ModuleType(name)
        module.__file__ = "/course/lesson_06.py"
        made.append(module)
        return module

    monkeypatch.setattr(guard.importlib, "import_module", fresh)
    monkeypatch.setattr(guard, "_hooks", list)
    before = {k: v for k, v in sys.modules.items() if k.startswith(guard._FRESH)}
    yield made
    sys.modules.update(before)


def from_a_cell(source):
    """Return a function that was written in a notebook's cell."""
    return eval(compile(source, "/tmp/ipykernel_1/2.py", "eval"))


def test_checks_are_imported_afresh_and_bound(checks, capsys):
    namespace = {"checks": SimpleNamespace(__file__="/course/lesson_06.py")}
    guard.arm(namespace, "06_unet", "token")
    assert namespace["checks"] is checks[-1]
    assert capsys.readouterr().out == "token\n"


def test_a_rebound_name_is_told(checks, capsys):
    guard.arm({"checks": SimpleNamespace(conv=lambda *_: None)}, "06_unet", "token")
    assert capsys.readouterr().out == "token\ntoken!the name checks\n"


def test_a_lesson_without_checks_is_armed_too(checks, capsys):
    namespace = {}
    guard.arm(namespace, "55_none", "token")
    assert namespace == {}
    assert capsys.readouterr().out == "token\n"


def test_a_patched_function_and_method_are_named(monkeypatch):
    assert guard.tampered() == []
    monkeypatch.setattr(metrics, "iou", from_a_cell("lambda matrix: 1.0"))
    monkeypatch.setattr(metrics.ConfusionMatrix, "dice", from_a_cell("lambda self: 1.0"))
    assert guard.tampered() == [
        "course_utils.metrics.ConfusionMatrix.dice",
        "course_utils.metrics.iou",
    ]


@pytest.fixture
def shell(monkeypatch):
    """Stand-in for the running shell: with methods of its own and such that come from files."""

    class Shell:
        def run_code(self):
            return "as it was"

        def run_cell(self):
            return "as it was"

    made = Shell()
    made.displayhook, made.user_ns = print, {"mine": from_a_cell("lambda: 1")}
    made.custom = made.run_cell
    monkeypatch.setattr(guard, "_shell", lambda: made)
    monkeypatch.setattr(guard, "_hooks", list)
    return made


def test_an_untouched_shell_is_not_named(shell):
    assert guard.tampered() == []


def test_a_replaced_method_of_the_shell_is_named_and_undone(shell):
    shell.run_code = from_a_cell("lambda code: None")
    assert guard.tampered() == ["IPython's run_code"]
    assert shell.run_code() == "as it was"


def test_a_replaced_method_of_the_shells_class_is_named(shell):
    type(shell).run_cell = from_a_cell("lambda self: None")
    shell.run_code = MethodType(from_a_cell("lambda self: None"), shell)
    assert guard.tampered() == ["IPython's run_cell", "IPython's run_code"]
