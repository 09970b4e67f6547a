"""Every command explains itself with an example, fails in one line, and starts without delay."""

import io
import os
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest
import typer
from typer.testing import CliRunner

from course_utils import cli, doctor
from course_utils.errors import CourseError
from course_utils.grading.grade import grade
from course_utils.grading.publishing import solve
from tests.mini_course import MINI, hand_in, make_course

COURSE = Path(cli.__file__).resolve().parents[1]
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
        "doctor, lab, status, data list, data fetch, data path, data stats, release, solve, "
        "submit, collect, grade, report, export, bundle, demo"
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


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device", "/x/marks.csv"), "/x/marks.csv: No space left"),
        (PermissionError(13, "Permission denied", b"marks.csv"), "marks.csv: Permission denied"),
        (OSError("the disk is gone"), "the disk is gone"),
    ],
)
def test_what_the_machine_refuses_is_one_line_too(monkeypatch, capsys, error, line):
    def broken():
        raise error

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(f"error: {line}")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_no_print_of_a_name_fails_whatever_a_pipe_is_encoded_in(monkeypatch, encoding):
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe, encoding=encoding))
    monkeypatch.setattr(cli, "app", lambda: print("王伟, Łukasz, J\udcf6rg: done"))
    cli.main()
    sys.stdout.flush()
    said = pipe.getvalue().decode(encoding)
    assert said.endswith("rg: done\n")
    assert ("王伟" if encoding == "utf-8" else "\\u738b\\u4f1f") in said


@pytest.mark.process
def test_a_name_in_chinese_goes_through_a_pipe_of_windows(tmp_path):
    root = make_course(tmp_path / "course")
    handed_in = tmp_path / "hand-ins" / "王伟"
    handed_in.mkdir(parents=True)
    hand_in(root, "x").rename(handed_in / MINI)
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    result = subprocess.run(
        [sys.executable, "-m", "course_utils.cli", "collect", str(tmp_path / "hand-ins")],
        capture_output=True,
        cwd=root,
        env=environment | {"PYTHONPATH": str(COURSE)},
    )
    assert result.returncode == 0, result.stderr
    assert b"\\u738b\\u4f1f" in result.stdout
    assert len(list((root / "grading" / "submitted").glob(f"*/{MINI}"))) == 1


@pytest.fixture
def other_copy(tmp_path, monkeypatch):
    """Work in a folder of another copy of the course."""
    copy = tmp_path / "other copy"
    for name in ("lessons/90_mini", "course_utils"):
        (copy / name).mkdir(parents=True)
    (copy / "environment.yml").touch()
    monkeypatch.chdir(copy / "lessons" / "90_mini")
    return copy


def test_every_command_says_that_it_is_of_another_copy(other_copy, monkeypatch, capsys):
    monkeypatch.setattr(cli, "app", lambda: print("done"))
    cli.main()
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith(f"Warning: this command runs the code in {COURSE / 'course_utils'}, but")
    assert f"{other_copy} is another copy of the course. To use its own: cd {other_copy};" in line
    assert said.out == "done\n"


@pytest.mark.process
def test_the_doctor_says_that_it_is_of_another_copy(other_copy):
    (finding,) = doctor.copy_of_the_course()
    assert str(other_copy) in finding.problem
    assert finding.cure.startswith(f"cd {other_copy}; make setup")
    assert finding.problem in doctor.report([finding], [])
    assert finding in doctor.look()


def test_in_its_own_copy_and_outside_of_any_a_command_says_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "app", lambda: None)
    for folder in (COURSE, COURSE / "lessons", tmp_path, make_course(tmp_path / "no code")):
        monkeypatch.chdir(folder)
        cli.main()
        assert doctor.copy_of_the_course() == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["bundle", "export"])
def test_a_folder_in_place_of_a_file_is_told(command, tmp_path):
    result = CliRunner().invoke(cli.app, [command, str(tmp_path)])
    assert isinstance(result.exception, CourseError)
    assert str(result.exception) == f"{tmp_path} is a folder: name a file."


def test_no_jobs_at_a_time_is_no_number_of_jobs():
    result = CliRunner().invoke(cli.app, ["grade", "--jobs", "0"])
    assert result.exit_code == 2
    assert "Invalid value for '--jobs'" in result.output


@pytest.mark.process
@pytest.mark.parametrize("name", ["no-such-folder", "file"])
def test_images_to_grade_on_lie_in_a_folder(tmp_path, name):
    root = make_course(tmp_path / "course")
    hand_in(root, "good")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CourseError, match=rf"{name} is no folder.*--data"):
        grade(data=tmp_path / name, root=root)


def test_a_place_where_nothing_can_be_kept_is_told_before_a_lesson_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(solve, "run_lesson", lambda *_: pytest.fail("a lesson was run"))
    root = make_course(tmp_path / "course")
    (tmp_path / "file").write_text("in the way")
    for keep in (tmp_path / "file", tmp_path / "file" / "kept"):
        with pytest.raises(CourseError, match=r"cannot be kept in .*file.*another folder"):
            solve.solve([MINI], keep, root)


def test_each_task_of_a_lesson_has_a_row_of_its_own(tmp_path, monkeypatch, capsys):
    bounds = {"floor": 0.1, "low": 0.3, "high": 0.6}
    tasks = {"task_people": {"iou": 0.71, **bounds}, "task_pets": {"iou": 0.8, **bounds}}
    one = solve.Solved(MINI, 3.0, 1_500_000_000, 36, 36, tasks)
    monkeypatch.setattr(solve, "run_lesson", lambda *_: one)
    solve.solve([MINI], None, make_course(tmp_path / "course"))
    *_, first, second = (line.split() for line in capsys.readouterr().out.splitlines())
    assert first[:1] + first[-7:] == [f"{MINI},", "36", "of", "36", "0.710", "0.1", "0.3", "0.6"]
    assert second == [f"{MINI},", "pets", "-", "-", "-", "0.800", "0.1", "0.3", "0.6"]


@pytest.mark.process
def test_a_cell_that_runs_too_long_is_a_failure_like_others(tmp_path, monkeypatch, capsys):
    root = make_course(tmp_path / "course")
    path = root / "solutions" / MINI / f"{MINI}.ipynb"
    path.write_text(path.read_text().replace("return 3.0", "while True: pass"))
    monkeypatch.setattr(solve, "_CELL_SECONDS", {"quick": 2})
    with pytest.raises(CourseError, match=rf"^{MINI}: a cell ran longer than 2 s$"):
        solve.solve([MINI], None, root)
    assert MINI in capsys.readouterr().out


@pytest.mark.process
def test_a_course_error_in_a_notebook_is_one_line_without_traceback_or_stderr():
    source = "from course_utils.errors import CourseError\nraise CourseError('Turn it round.')"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(notebook, allow_errors=True).execute()
    (output,) = notebook.cells[0].outputs  # a second one, on stderr, would cost a test cell's marks
    assert output["traceback"] == ["CourseError: Turn it round."]


@pytest.mark.process
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


@pytest.mark.process
def test_importing_the_package_is_instant_and_without_torch(alone):
    code = """
import sys, time
start = time.perf_counter()
import course_utils
seconds = time.perf_counter() - start
print(seconds, *({"torch", "numpy", "onnx", "matplotlib", "fastai", "timm"} & set(sys.modules)))
"""
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    seconds, *heavy = min((run.stdout.split() for run in runs), key=lambda words: float(words[0]))
    assert heavy == []
    assert float(seconds) < 0.1


@pytest.mark.process
def test_help_does_not_wait_for_torch():
    code = "import course_utils.cli, sys; print({'torch', 'nbgrader', 'fastai'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()"
