"""What the README tells a reader to type and to open is there."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer

from course_utils import cli

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
INLINE = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))


def commands(program: str) -> list[list[str]]:
    """Return the words of every command of this program that the README names."""
    typed = [part for block in BLOCKS for line in block.splitlines() for part in line.split("&&")]
    found = []
    for line in typed + INLINE:
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):  # COURSE_PROFILE=full course lab
            words = words[1:]
        if len(words) > 1 and words[0] == program:
            found.append(words[1:])
    return found


@pytest.mark.parametrize("words", commands("course"), ids=" ".join)
def test_course_commands_of_the_readme_parse(words):
    command = typer.main.get_command(cli.app)
    while hasattr(command, "commands") and words:
        command, words = command.commands[words[0]], words[1:]
    command.make_context("course", list(words))


@pytest.mark.parametrize("words", commands("make"), ids=" ".join)
def test_make_targets_of_the_readme_exist(words):
    target = re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.M)
    assert target


def test_the_readme_names_the_commands_that_students_and_instructors_need():
    named = {words[0] for words in commands("course")}
    assert {
        "lab",
        "doctor",
        "status",
        "submit",
        "collect",
        "grade",
        "report",
        "export",
        "bundle",
    } <= named
    assert {"lab", "test", "demo"} <= {words[0] for words in commands("make")}


@pytest.mark.process
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no clone")
@pytest.mark.parametrize("command", ["bundle", "export"])
def test_files_that_the_readme_has_written_into_a_clone_are_ignored(command):
    """Names and marks must not be committed by accident."""
    (name,) = {
        word
        for words in commands("course")
        if words[0] == command
        for word in words
        if word.endswith((".csv", ".zip"))
    }
    ignored = subprocess.run(["git", "check-ignore", "-q", "--no-index", name], cwd=ROOT)
    assert ignored.returncode == 0


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?://)([^)#]+)\)", TEXT))
def test_links_of_the_readme_lead_somewhere(link):
    assert (ROOT / link).exists()


def test_picture_on_top_has_a_text_and_loads_fast():
    (alt, path), *_ = re.findall(r"!\[([^]]*)\]\(([^)]+)\)", TEXT[:600])
    assert len(alt) > 60
    assert (ROOT / path).stat().st_size < 400_000


def test_every_released_lesson_is_in_the_table_and_no_other_is_linked():
    released = {path.parent.name for path in ROOT.glob("lessons/[0-9]*/*.ipynb")}
    assert set(re.findall(r"\(lessons/(\w+)/\1\.ipynb\)", TEXT)) == released


def test_one_text_tells_where_a_learner_stands():
    path = ROOT / "solutions" / "00_start_here" / "00_start_here.ipynb"
    (cell,) = (c for c in json.loads(path.read_text())["cells"] if c["id"] == "status-text")
    told = "".join(cell["source"]).split("\n\n")[1]
    assert "course status" in told
    assert told in " ".join(TEXT.split())
