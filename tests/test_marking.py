"""What the grader makes of a notebook's cells and of what they gave, without a kernel."""

import json

import pytest

from course_utils.errors import CourseError
from course_utils.grading.gradebook import register
from course_utils.grading.marking.settings import Settings
from course_utils.grading.marking.task_marks import mark_task
from tests.marked_cells import mark_notebook
from tests.mini_course import (
    MINI,
    NET,
    add_model,
    code,
    hand_in,
    make_course,
    mini_cells,
    save,
    tiny_model,
)

RIGHT = "def double(x):\n    return 2 * x"
WRONG = "def double(x):\n    return 0"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a course whose lesson is in the gradebook."""
    root = make_course(tmp_path_factory.mktemp("course"))
    (root / "grading").mkdir()
    register(root, [MINI])
    return root


@pytest.fixture
def mark(root):
    """Return a function that marks the solution with some cells' text, or some cells, replaced."""

    def mark(cells=None, **sources):
        path = hand_in(root, "somebody", **sources) / f"{MINI}.ipynb"
        if cells is not None:
            save(path, cells)
        return mark_notebook(path, root, MINI)

    return mark


def test_the_solution_has_every_point(mark):
    found = mark()
    assert found.scores == {"test_double": 2, "test_share": 3}
    assert found.reasons == {}


def test_a_stub_costs_its_own_exercise_and_is_called_one(mark):
    found = mark(double="def double(x):\n    raise NotImplementedError()")
    assert found.scores == {"test_double": 0, "test_share": 3}
    assert found.reasons == {"test_double": "not solved: the stub is still there"}


def test_a_cell_that_stops_is_named_and_not_what_it_left_undefined(mark):
    found = mark(double="def double(x)\n    return 2 * x")
    assert found.scores["test_double"] == 0
    assert found.reasons["test_double"].startswith("its exercise's cell stops: SyntaxError")


def test_a_name_that_is_missing_is_traced_to_the_cell_that_stops(mark):
    cells = mini_cells()
    cells.insert(1, code("imports", "import no_such_module\nimport math"))
    cells[4]["source"] = "def share(): return math.sqrt(9)"
    told = mark(cells).reasons["test_share"]
    assert "NameError: name 'math' is not defined; an earlier cell stops: Mod" in told


def test_a_result_that_was_never_made_is_told_from_a_cell_that_stops(mark):
    waits = "from course_utils.checks import NotYet\nlater = NotYet('compute it')\n"
    waits += "def double(x): return later + x\n"
    assert mark(double=waits).reasons == {"test_double": "not solved: first compute it"}
    told = mark(double=f"{waits}[][1]").reasons["test_double"]
    assert told.startswith("its exercise's cell stops: IndexError")


def test_a_solution_in_a_cell_of_its_own_counts_and_its_stub_does_not_come_back(mark):
    without = [cell for cell in mini_cells() if cell["id"] != "double"]
    found = mark([code("mine", RIGHT), *without])
    assert found.scores["test_double"] == 2
    metas = [cell.metadata.get("nbgrader", {}) for cell in found.cells]
    ids = [meta.get("grade_id") for meta in metas]
    assert ids[:4] == [None, None, "double", "test_double"]


def test_an_exercise_whose_cell_is_gone_is_told_so(mark):
    found = mark([cell for cell in mini_cells() if cell["id"] != "double"])
    assert found.scores["test_double"] == 0
    assert found.reasons["test_double"] == "its exercise's cell is gone from the notebook"


def test_cells_that_do_not_say_what_they_are_count(mark):
    cells = mini_cells()
    for cell in cells:
        cell["metadata"] = {}
    assert mark(cells).scores == {"test_double": 2, "test_share": 3}


def test_tags_points_and_sources_are_restored(mark):
    cells = mini_cells()
    cells[1]["source"] = WRONG
    cells[2]["metadata"]["tags"] = ["skip-execution"]
    cells[2]["metadata"]["nbgrader"]["points"] = 100
    cells[2]["source"] = "pass"
    found = mark(cells)
    assert found.scores["test_double"] == 0
    (test,) = [c for c in found.cells if c.metadata.get("nbgrader", {}).get("points") == 2]
    assert "tags" not in test.metadata
    assert test.source == mini_cells()[2]["source"]


def test_copied_and_deleted_cells_are_put_right(mark):
    copied = mini_cells()
    copied.insert(3, code("copy", "pass", grade_id="test_double", points=2))
    copied[3]["metadata"]["nbgrader"]["schema_version"] = 1
    assert mark(copied).scores["test_double"] == 2
    deleted = [cell for cell in mini_cells() if cell["id"] != "test-double"]
    deleted[1]["source"] = WRONG
    assert mark(deleted).scores["test_double"] == 0


@pytest.mark.parametrize(
    "value",
    [
        "True",
        "float('nan')",
        "'3.0'",
        "(3.0,)",
        "__import__('numpy').float64(3)",
        "1e9",
        "-1.0",
    ],
)
def test_odd_values_of_a_test_cell_give_nothing(mark, value):
    found = mark(share=f"def share(): return {value}")
    assert found.scores["test_share"] == 0
    assert found.reasons["test_share"].startswith("the test gave")


def test_a_plain_number_gives_part_of_the_points(mark):
    assert mark(share="def share(): return 1.5").scores["test_share"] == 1.5


def test_warnings_cost_nothing(mark):
    noisy = "import sys\ndef share():\n    sys.stderr.write('hm')\n    return 3.0"
    assert mark(share=noisy).scores["test_share"] == 3


def widgets_of_colab(notebook: dict) -> None:
    states = {"model": {"model_name": "LayoutModel", "state": {}}}
    notebook["metadata"]["widgets"] = {"application/vnd.jupyter.widget-state+json": states}


# What other programs make of a notebook, which is right but for what the grader makes anew.
@pytest.mark.parametrize(
    ("change", "encoding"),
    [
        pytest.param(widgets_of_colab, "utf-8", id="colab"),
        pytest.param(lambda notebook: None, "utf-8-sig", id="notepad"),
        pytest.param(lambda notebook: None, "utf-16", id="powershell"),
        pytest.param(
            lambda notebook: notebook["cells"][0].update(source="# \ud800"), "utf-8", id="surrogate"
        ),
        pytest.param(
            lambda notebook: notebook["cells"][1].update(outputs=[{"a": 1}]),
            "utf-8",
            id="old-output",
        ),
    ],
)
def test_what_other_programs_write_costs_nothing(root, change, encoding):
    path = hand_in(root, "somebody", double=RIGHT) / f"{MINI}.ipynb"
    notebook = json.loads(path.read_text())
    change(notebook)
    path.write_bytes(json.dumps(notebook).encode(encoding))
    found = mark_notebook(path, root, MINI)
    assert found.scores == {"test_double": 2, "test_share": 3}


@pytest.mark.long
def test_outputs_do_not_count_as_the_size_of_a_notebook(root):
    path = hand_in(root, "somebody", double=RIGHT) / f"{MINI}.ipynb"
    notebook = json.loads(path.read_text())
    figure = {"output_type": "display_data", "data": {"image/png": "A" * 60_000_000}}
    notebook["cells"][1]["outputs"] = [figure | {"metadata": {}}]
    path.write_text(json.dumps(notebook))
    assert mark_notebook(path, root, MINI).scores == {"test_double": 2, "test_share": 3}
    notebook["cells"][0]["source"] = "A" * 60_000_000
    path.write_text(json.dumps(notebook))
    with pytest.raises(CourseError, match="has 60 MB, allowed are 50"):
        mark_notebook(path, root, MINI)


@pytest.mark.parametrize(
    "odd",
    [
        {"cell_type": "slide", "source": "x"},
        {"cell_type": ["code"], "source": None},
        {"source": {"a": 1}, "metadata": 3},
        {"cell_type": "markdown", "source": ["a", 3], "attachments": {"a": 3, "b": {"c": [1]}}},
        {},
        3,
    ],
)
def test_an_odd_cell_is_one_odd_cell(root, odd):
    path = hand_in(root, "somebody", double=RIGHT) / f"{MINI}.ipynb"
    notebook = json.loads(path.read_text())
    notebook["cells"].insert(1, odd)
    path.write_text(json.dumps(notebook))
    assert mark_notebook(path, root, MINI).scores == {"test_double": 2, "test_share": 3}


@pytest.mark.process
def test_a_model_of_other_classes_gets_its_reason(root):
    folder = hand_in(root, "somebody", NET)
    add_model(folder, tiny_model(classes=11))
    record = mark_task(
        "unet",
        handed_in=folder,
        executed=folder,
        settings=Settings(root),
        isolation="",
    )
    assert record["marks"] == 0
    assert "11 outputs, the task 'unet' has 10 classes" in record["reason"]
