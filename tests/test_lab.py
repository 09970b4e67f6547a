"""`course lab` opens JupyterLab where the lessons are, on the first of them."""

import asyncio
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from course_utils import cli, lab
from course_utils.errors import CourseError
from course_utils.jupyter.language import tell_language
from course_utils.lab import FOR_STUDENTS, lab_command, lab_environment


@pytest.fixture
def course(tmp_path):
    for name in ("06_unet_from_scratch", "00_start_here"):
        folder = tmp_path / "lessons" / name
        folder.mkdir(parents=True)
        (folder / f"{name}.ipynb").write_text("{}")
    return tmp_path


def test_lab_opens_the_first_lesson_with_all_lessons_in_reach(course):
    command = lab_command(course)
    assert command[:3] == [sys.executable, "-m", "jupyterlab"]
    assert f"--ServerApp.root_dir={course}" in command
    url = "--LabApp.default_url=/lab/tree/lessons/00_start_here/00_start_here.ipynb"
    assert url in command


def test_options_of_the_user_come_last_and_so_win(course):
    assert lab_command(course, ["--no-browser", "--port=1"])[-2:] == ["--no-browser", "--port=1"]


@pytest.mark.parametrize("user", [0, 1000])
def test_lab_starts_in_a_container_whose_only_user_is_root(course, monkeypatch, user):
    monkeypatch.setattr(os, "geteuid", lambda: user, raising=False)
    assert ("--ServerApp.allow_root=True" in lab_command(course)) == (user == 0)


def test_missing_lessons_are_one_helpful_line(tmp_path):
    with pytest.raises(CourseError, match=r"holds no lesson.*course release"):
        lab_command(tmp_path)


def test_terminals_of_jupyterlab_know_the_course_command():
    environment = lab_environment({"PATH": "/somewhere", "LANG": "C"})
    first, rest = environment["PATH"].split(":", 1)
    assert Path(first) == Path(sys.executable).parent
    assert (rest, environment["LANG"]) == ("/somewhere", "C")


def test_settings_of_the_course_do_not_displace_those_of_a_person():
    environment = lab_environment({"PATH": "/bin", "JUPYTER_CONFIG_PATH": "/mine"})
    first, *rest = environment["JUPYTER_CONFIG_PATH"].split(":")
    assert first == "/mine"
    for folder in rest:
        assert list(Path(folder).glob("labconfig/*.json"))


def test_only_a_student_has_the_instructors_tools_taken_away():
    student, instructor = (
        lab_environment({"PATH": "/bin"}, told)["JUPYTER_CONFIG_PATH"] for told in (False, True)
    )
    assert student == f"{FOR_STUDENTS}:{instructor}"


def test_the_switch_is_the_courses_and_all_other_options_are_jupyterlabs(monkeypatch):
    asked = []
    monkeypatch.setattr(lab, "run", lambda extra, instructor: asked.append((extra, instructor)))
    for options in (["--port", "1"], ["--instructor", "--no-browser"]):
        assert CliRunner().invoke(cli.app, ["lab", *options]).exit_code == 0
    assert asked == [(["--port", "1"], False), (["--no-browser"], True)]


def test_what_is_taken_away_is_what_nbgrader_has():
    """A name that nbgrader gives up would take away nothing, and nobody would see it."""
    page = json.loads(Path(FOR_STUDENTS, "labconfig", "page_config.json").read_text())
    folder = Path(sys.prefix, "share/jupyter/labextensions/@jupyter/nbgrader/static")
    code = "".join(path.read_text() for path in folder.glob("*.js"))
    assert page["disabledExtensions"]
    for plugin, disabled in page["disabledExtensions"].items():
        assert disabled
        assert f'"{plugin}"' in code
    server = Path(FOR_STUDENTS, "jupyter_server_config.d", "course.json")
    extensions = json.loads(server.read_text())["ServerApp"]["jpserver_extensions"]
    assert not any(extensions.values())
    assert all(find_spec(name) for name in extensions)


def test_an_opened_notebook_has_the_language_that_its_kernel_will_tell():
    from ipykernel.ipkernel import IPythonKernel

    lesson = {"kernelspec": {"name": "python3"}, "language_info": {"name": "python"}}
    others = {"kernelspec": {"name": "ir"}, "language_info": {"name": "R"}}
    told = {**lesson, "language_info": {"name": "python", "version": "3.9.1"}}
    opened = {}
    for name, metadata in {"lesson": lesson, "others": others, "told": told}.items():
        model = {"type": "notebook", "content": {"metadata": dict(metadata)}}
        contents = SimpleNamespace(get=lambda path, model=model, **_: model)
        tell_language(contents)
        opened[name] = contents.get("a.ipynb", content=True)["content"]["metadata"]
    assert opened["lesson"]["language_info"] == IPythonKernel.language_info
    assert opened["others"] == others
    assert opened["told"] == told


def test_a_manager_that_answers_later_and_what_has_no_content_are_let_through():
    async def get(path):
        return {"type": "notebook", "content": None}

    contents = SimpleNamespace(get=get)
    tell_language(contents)
    assert asyncio.run(contents.get("a.ipynb")) == {"type": "notebook", "content": None}
