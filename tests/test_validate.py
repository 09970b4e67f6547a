"""The Validate button says in a sentence what would cost marks; it changes nothing."""

import json
import os
import subprocess
import sys
import time

import nbformat
import pytest
from nbformat.v4 import new_output

from course_utils.files import tree_hash
from course_utils.hand_in.show_cells import SHOW
from course_utils.jupyter import validate as module
from tests.mini_course import MINI, NET, add_model, code, make_course, mini_cells, net_cells, save
from tests.waiting import wait_until


def notebook(cells):
    for cell in cells:
        if cell["cell_type"] == "code":
            cell["execution_count"] = 1
    return nbformat.from_dict({"cells": cells})


def reasons(cells, path, **more):
    found = module.reasons(notebook(cells).cells, path, **more)
    return {cell.metadata.nbgrader.grade_id: reason for cell, reason in found}


def error(name, text):
    return new_output("error", ename=name, evalue=text, traceback=[])


@pytest.fixture
def path(tmp_path):
    return tmp_path / MINI / f"{MINI}.ipynb"


@pytest.fixture(autouse=True)
def as_found(monkeypatch):
    """Leave nothing in the environment of what nbgrader writes there."""
    for name in ("NBGRADER_EXECUTION", "NBGRADER_VALIDATING"):
        monkeypatch.setenv(name, "")


def test_a_notebook_that_passes_has_nothing_to_say(path):
    cells = mini_cells()
    cells[4]["outputs"] = [new_output("execute_result", {"text/plain": "3.0"}, execution_count=1)]
    assert reasons(cells, path) == {}


def test_what_a_check_says_is_the_reason_and_no_traceback(path):
    cells = mini_cells()
    cells[2]["outputs"] = [error("CheckFailed", "double gives 5: wanted 4.")]
    cells[4]["outputs"] = [new_output("execute_result", {"text/plain": "1.5"}, execution_count=1)]
    assert reasons(cells, path) == {
        "test_double": "double gives 5: wanted 4.",
        "test_share": "1.5 of 3 points",
    }


def test_a_warning_costs_nothing_here_either(path):
    cells = mini_cells()
    cells[2]["outputs"] = [new_output("stream", name="stderr", text="a warning")]
    assert reasons(cells, path) == {}


def test_an_exercise_that_stops_is_named_and_not_what_it_left_undefined(path):
    cells = mini_cells()
    cells[1]["outputs"] = [error("SyntaxError", "invalid syntax")]
    cells[2]["outputs"] = [error("NameError", "name 'double' is not defined")]
    assert reasons(cells, path) == {
        "test_double": "its exercise's cell stops: SyntaxError: invalid syntax"
    }


def test_cells_that_were_not_run_have_not_passed(path):
    cells = mini_cells()
    cells[2]["execution_count"] = 1
    found = module.reasons(nbformat.from_dict({"cells": cells}).cells, path, "the kernel ended")
    assert [reason for _, reason in found] == ["not run: the kernel ended"]


def test_a_task_without_a_trained_model_says_so_in_one_sentence(tmp_path):
    path = tmp_path / NET / f"{NET}.ipynb"
    (said,) = reasons(net_cells(), path).values()
    assert said.startswith("no trained model yet: run the training cell")
    assert "models/unet.onnx" in said


def test_a_model_file_that_the_gate_takes_is_no_fault_and_another_is(tmp_path):
    folder = tmp_path / NET
    add_model(folder)
    path = folder / f"{NET}.ipynb"
    assert reasons(net_cells(), path) == {}
    (folder / "models" / "unet.onnx").write_bytes(b"no model")
    assert "models/unet.onnx" in reasons(net_cells(), path)["task_unet"]


# ------------------------------------------------------------- with its own process


@pytest.fixture
def root(tmp_path):
    return make_course(tmp_path / "course")


def start(root, cells):
    folder = root / "lessons" / MINI
    save(folder / f"{MINI}.ipynb", cells)
    command = [sys.executable, "-m", "course_utils.jupyter.validate", folder / f"{MINI}.ipynb"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    return folder, process


def answer(process):
    said, log = process.stdout.read(), process.stderr.read()
    assert said, log.decode()
    return json.loads(said)


@pytest.mark.process
def test_cells_that_only_show_are_left_out_and_nothing_is_written(root):
    cells = mini_cells()
    (stop := code("figure", "import os; os._exit(1)")).metadata["tags"] = [SHOW]
    cells.insert(3, stop)
    cells[1]["source"] = "open('note.txt', 'w').write('x')\n" + cells[1]["source"]
    # what the kernel says past its outputs must not get into the answer
    cells[5]["source"] = "import os\nos.write(1, b'noise')\nNBGRADER = os.environ\n" + (
        "def share(): return 3.0 * (NBGRADER['NBGRADER_EXECUTION'] == 'validate')"
    )
    folder, process = start(root, cells)
    before = tree_hash(folder)
    assert answer(process) == {"success": True, "value": {}}
    assert tree_hash(folder) == before


@pytest.mark.process
def test_a_kernel_that_dies_is_a_sentence(root):
    cells = mini_cells()
    cells[3]["source"] = "import os; os._exit(1)"
    _, process = start(root, cells)
    value = answer(process)["value"]
    said = [one["raw_error"] for one in value["failed"]]
    assert said == ["not run: an earlier cell ended the kernel"]


@pytest.mark.process
def test_what_is_no_notebook_is_a_sentence(root):
    folder = root / "lessons" / MINI
    folder.mkdir(parents=True)
    (folder / f"{MINI}.ipynb").write_text("{")
    said = module.answer(folder / f"{MINI}.ipynb")
    assert not said["success"]
    assert "is not a whole notebook" in said["value"]


@pytest.mark.process
def test_it_ends_with_all_that_it_has_started_when_nobody_waits(root):
    cells = mini_cells()
    cells[1]["source"] = "import os, time\nopen({!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    told = root / "pid"
    cells[1]["source"] = cells[1]["source"].format(str(told))
    _, process = start(root, cells)
    wait_until(lambda: told.exists() and told.read_text(), seconds=30)
    kernel = int(told.read_text())
    process.stdin.close()
    process.wait(20)
    for _ in range(100):
        try:
            os.kill(kernel, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the kernel still runs")
