"""A run is made once, and never taken for one of other sources; quick tests start no process."""

import subprocess
import sys

import pytest

from tests import kept_runs
from tests.kept_runs import ROOT, KeptRuns, fingerprint


@pytest.fixture
def source(tmp_path):
    source = tmp_path / "lesson"
    source.mkdir()
    (source / "a.txt").write_text("a")
    return source


@pytest.fixture
def runs(tmp_path):
    """Return a function that makes a run of a source, and what was made."""
    made = []

    def make(place):
        made.append(place)
        (place / "result.txt").write_text(str(len(made)))

    kept = KeptRuns(tmp_path / "runs")
    return lambda source: (kept._kept("run", make, source) / "result.txt").read_text(), made


def test_a_run_is_made_once_and_again_when_its_source_changes(runs, source):
    run, made = runs
    assert run(source) == run(source) == "1"
    (source / "a.txt").write_text("b")
    assert run(source) == "2"
    assert len(made) == 2


def test_only_the_newest_run_of_a_name_is_kept(runs, source, tmp_path):
    run, _ = runs
    for text in ("a", "b", "a"):
        (source / "a.txt").write_text(text)
        last = run(source)
    assert last == "3"
    assert len([path for path in (tmp_path / "runs").iterdir() if path.is_dir()]) == 1


def test_a_run_that_fails_leaves_nothing_that_counts(source, tmp_path):
    def fail(place):
        (place / "half.txt").write_text("half")
        raise RuntimeError("no")

    kept = KeptRuns(tmp_path / "runs")
    with pytest.raises(RuntimeError, match="no"):
        kept._kept("run", fail, source)
    place = kept._kept("run", lambda place: (place / "whole.txt").touch(), source)
    assert [path.name for path in place.iterdir()] == ["whole.txt"]


def test_whatever_can_change_a_run_changes_its_fingerprint(source, tmp_path, monkeypatch):
    before = fingerprint(source)
    assert fingerprint(source) == before
    seen = {before}
    package = tmp_path / "package"
    package.mkdir()
    for change in (
        lambda: (source / "a.txt").rename(source / "b.txt"),
        lambda: (source / "c.bin").write_bytes(b""),
        lambda: monkeypatch.setenv("COURSE_PROFILE", "full"),
        lambda: monkeypatch.setattr(kept_runs, "_machine", lambda: ["torch 99"]),
        lambda: monkeypatch.setattr(kept_runs, "_PACKAGE", package),
        lambda: (package / "tasks.toml").write_text("high = 1"),
    ):
        change()
        seen.add(fingerprint(source))
    assert len(seen) == 7


@pytest.mark.process
def test_make_quick_fails_where_a_process_is_started_without_the_mark(tmp_path):
    file = tmp_path / "test_it.py"
    run = "    subprocess.run(['true'])\n"
    file.write_text(
        "import subprocess, pytest\n"
        f"def test_starts():\n{run}"
        f"@pytest.mark.process\ndef test_is_left_out():\n{run}"
        "def test_computes():\n    pass\n"
    )
    options = ["-p", "tests.quick", "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, "-n", "0", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "1 failed, 1 passed, 1 deselected" in done.stdout
    assert "mark it with @pytest.mark.process" in done.stdout
