"""Files are written whole or not at all, for whom the umask allows, alike on every system."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from course_utils.errors import CourseError
from course_utils.files import with_unix_lines, write_atomic
from course_utils.grading.collecting.collect import collect
from course_utils.grading.export_marks import export_marks
from course_utils.grading.publishing.bundle import bundle, bundle_content
from course_utils.grading.publishing.release import check_release, make_release
from course_utils.grading.report import report
from tests.mini_course import MINI, hand_in, make_course, merge_result

COURSE = Path(__file__).parents[1]
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")


@pytest.fixture(params=[0o077, 0o022, 0o002], ids=lambda mask: f"{mask:03o}")
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@posix
def test_a_file_is_for_whom_the_umask_allows(umask, tmp_path):
    for _ in range(2):  # a new file, and one that is replaced
        write_atomic(tmp_path / "folder" / "marks.csv", "ada,10\n")
        assert mode(tmp_path / "folder" / "marks.csv") == 0o666 & ~umask
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["marks.csv"]


@pytest.mark.long
@posix
def test_whatever_the_commands_write_is_for_whom_the_umask_allows(umask, tmp_path, monkeypatch):
    monkeypatch.setattr("course_utils.grading.grade._render_feedback", lambda *_: None)
    os.umask(0o022)  # as somebody else has cloned it
    root = make_course(tmp_path / "course")
    (root / "course_utils").mkdir()
    given = set(root.rglob("*"))
    os.umask(umask)
    handed_in = tmp_path / "hand-ins" / "Ada"
    shutil.move(hand_in(root, "ada"), handed_in / MINI)
    make_release(root)
    collect([tmp_path / "hand-ins"], root=root)
    merge_result(root, "ada", MINI)
    report(root=root)
    export_marks("moodle", root=root)
    bundle(root / "bundle.zip", root)
    made = [path for path in root.rglob("*") if path not in given]
    assert {"marks-moodle.csv", "report.html", "marks.json", f"{MINI}.html", "bundle.zip"} <= {
        path.name for path in made
    }
    open_to_more = [path for path in made if mode(path) & umask]
    assert open_to_more == []


def test_half_a_character_is_written_as_its_number(tmp_path):
    write_atomic(tmp_path / "students.json", json.dumps({"name": "J\udcf6rg"}, ensure_ascii=False))
    assert json.loads((tmp_path / "students.json").read_text()) == {"name": "J\udcf6rg"}


def test_a_file_that_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "marks.csv"
    write_atomic(path, "old")
    (tmp_path / "file").write_text("")
    with pytest.raises(CourseError, match="cannot be written"):
        write_atomic(tmp_path / "file" / "marks.csv", "new")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CourseError, match=r"marks\.csv cannot be written \(No space"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "marks.csv"]


def with_windows_lines(content: bytes) -> bytes:
    is_text = with_unix_lines(content.replace(b"\n", b"\r\n")) == content
    return content.replace(b"\n", b"\r\n") if is_text else content


@pytest.mark.long
def test_a_checkout_of_windows_is_released_and_bundled_alike(tmp_path):
    root = make_course(tmp_path / "course")
    picture = b"\x89PNG\r\n\x1a\n\x00"
    (root / "solutions" / MINI / "beside.png").write_bytes(picture)
    (root / "tools").mkdir()
    (root / "tools" / "setup.sh").write_bytes(b"#!/bin/sh\nset -eu\n")
    make_release(root)
    wanted = bundle_content(root)
    assert wanted[f"lessons/{MINI}/beside.png"] == picture
    for path in filter(Path.is_file, root.rglob("*")):
        path.write_bytes(with_windows_lines(path.read_bytes()))
    assert b"\r\n" in (root / "tools" / "setup.sh").read_bytes()
    check_release(root)
    assert bundle_content(root) == wanted
    make_release(root)
    assert b"\r\n" not in (root / "lessons" / MINI / "beside.txt").read_bytes()
    assert bundle_content(root) == wanted


@pytest.mark.process
def test_a_clone_has_the_same_bytes_whatever_git_is_told(tmp_path):
    def git(*words, cwd):
        told = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        done = subprocess.run(["git", *told, *words], cwd=cwd, capture_output=True, check=True)
        return done.stdout

    if not shutil.which("git") or not (COURSE / ".git").exists():
        pytest.skip("this is no clone")
    names = [name.decode() for name in git("ls-files", "-z", cwd=COURSE).split(b"\0") if name]
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    for name in (*names, ".gitattributes"):
        if (COURSE / name).is_file():
            (origin / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(COURSE / name, origin / name)
    git("init", "--quiet", cwd=origin)
    git("add", "--all", "--force", cwd=origin)
    git("commit", "--quiet", "--message", "all", cwd=origin)
    windows = ("-c", "core.autocrlf=true", "-c", "core.eol=crlf")
    git("clone", "--quiet", *windows, str(origin), str(clone), cwd=tmp_path)
    for path in filter(Path.is_file, origin.rglob("*")):
        name = path.relative_to(origin)
        if name.parts[0] != ".git":
            assert (clone / name).read_bytes() == path.read_bytes(), name
