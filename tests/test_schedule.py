"""Two workers share the tests so that neither waits for a lesson that the other one solves."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONFTEST = """
import pytest
from tests.schedule import *


@pytest.fixture(scope="session")
def solved():
    return None


@pytest.fixture(scope="session")
def demo_run(solved):
    return None
"""
DEMO = "def test_demo(demo_run): pass"
LESSON = "import time\n\n\ndef test_solve(solved):\n    time.sleep(2)\n"
OTHERS = """
import time

import pytest


@pytest.mark.parametrize("number", range({count}))
def test_other(number):
    time.sleep(0.25)
"""


@pytest.mark.process
@pytest.mark.parametrize("count", [20, 1])
def test_others_go_before_the_demo_while_a_lesson_is_solved(count, tmp_path):
    modules = {"conftest": CONFTEST, "test_demo": DEMO, "test_lesson": LESSON}
    modules["test_others"] = OTHERS.format(count=count)
    (tmp_path / "tests").mkdir()
    for name, source in modules.items():
        (tmp_path / "tests" / f"{name}.py").write_text(source)
    code = f"import sys, pytest; sys.path.append({str(ROOT)!r}); sys.exit(pytest.main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "-n", "2", "-v", f"--rootdir={tmp_path}", "tests"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ended = re.findall(r"PASSED tests/\w+\.py::(\w+)", done.stdout)
    assert len(ended) == 2 + count
    if count > 1:  # where nothing else is left, the demo comes all the same
        assert 0 < ended.index("test_solve") < ended.index("test_demo") < len(ended) - 3
