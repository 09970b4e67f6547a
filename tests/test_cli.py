"""Every command explains itself with an example, fails in one line, and starts without delay."""

import subprocess
import sys

import nbclient
import nbformat
import pytest
import typer
from typer.testing import CliRunner

from course_utils import cli
from course_utils.errors import CourseError

GROUP = typer.main.get_command(cli.app)


def all_commands(group, path=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from all_commands(command, (*path, name))
        else:
            yield (*path, name)


COMMANDS = sorted(all_commands(GROUP))


def test_the_promised_commands_are_there():
    promised = (
        "doctor, lab, data list, data fetch, data path, release, solve, submit, collect, grade, "
        "report, export, bundle, demo"
    )
    assert {tuple(words.split()) for words in promised.split(", ")} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_shows_a_working_example(command):
    result = CliRunner().invoke(cli.app, [*command, "--help"])
    assert result.exit_code == 0
    (example,) = [line for line in result.output.splitlines() if "Example: " in line]
    words = example.split("Example: ")[1].split()
    assert words[: len(command) + 1] == ["course", *command]
    # the example parses: an option that is gone, or one argument too many, fails here
    parsed = GROUP
    for name in command:
        parsed = parsed.commands[name]
    parsed.make_context("course", words[len(command) + 1 :])


def test_a_course_error_is_one_line_and_exit_code_1(monkeypatch, capsys):
    def broken():
        raise CourseError("the mask is upside down. Turn it round.")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: the mask is upside down. Turn it round.\n"


def test_a_course_error_in_a_notebook_is_one_line_without_traceback_or_stderr():
    source = "from course_utils.errors import CourseError\nraise CourseError('Turn it round.')"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(notebook, allow_errors=True).execute()
    (output,) = notebook.cells[0].outputs  # a second one, on stderr, would cost a test cell's marks
    assert output["traceback"] == ["CourseError: Turn it round."]


@pytest.mark.parametrize(
    "words", [["submit", "99"], ["data", "path", "no-such-set"], ["collect", "no-such-file.zip"]]
)
def test_a_hurried_mistake_gives_one_line(words, tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "course_utils.cli", *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")


def test_importing_the_package_is_instant_and_without_torch():
    code = """
import sys, time
start = time.perf_counter()
import course_utils
seconds = time.perf_counter() - start
print(seconds, *({"torch", "numpy", "onnx", "matplotlib"} & set(sys.modules)))
"""
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    seconds, *heavy = min((run.stdout.split() for run in runs), key=lambda words: float(words[0]))
    assert heavy == []
    assert float(seconds) < 0.1


def test_help_does_not_wait_for_torch():
    code = "import course_utils.cli, sys; print({'torch', 'nbgrader'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()"
