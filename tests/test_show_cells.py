"""Cells that only show something are left out where nothing needs them, and change no mark."""

import base64
import json
import struct
from pathlib import Path

import pytest
from nbformat.v4 import new_output

from course_utils.grading.grade import grade
from course_utils.grading.gradebook import register
from course_utils.grading.marking.stored_outputs import shown_outputs
from course_utils.hand_in.show_cells import SHOW, left_out, names_of
from course_utils.paths import list_lessons
from tests.marked_cells import mark_notebook
from tests.mini_course import MINI, code, make_course, mini_cells, save

ROOT = Path(__file__).resolve().parent.parent
LESSONS = list_lessons(ROOT / "solutions")
each_lesson = pytest.mark.parametrize("lesson", LESSONS)


def cells_of(lesson):
    path = ROOT / "solutions" / lesson / f"{lesson}.ipynb"
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def show(cell_id, source):
    cell = code(cell_id, source)
    cell.metadata["tags"] = [SHOW]
    return cell


def course_cells():
    """Return the mini course's cells with two figures, the second of which needs the first."""
    cells = mini_cells()
    cells.insert(3, show("figure", "picture = [double(1)]"))
    cells.insert(4, show("caption", "print(picture)"))
    return cells


def without_tags(cells):
    for cell in cells:
        cell.metadata.pop("tags", None)
    return cells


# ------------------------------------------------------------------ the lessons


@each_lesson
def test_what_a_lesson_tags_is_needed_by_nothing_that_counts(lesson):
    cells = cells_of(lesson)
    tagged = [i for i, cell in enumerate(cells) if SHOW in cell["metadata"].get("tags", [])]
    assert len(tagged) > 5
    assert [cells[i]["id"] for i in left_out(cells, cells)] == [cells[i]["id"] for i in tagged]


@each_lesson
def test_a_figure_to_play_with_is_never_run_for_marks(lesson):
    for cell in cells_of(lesson):
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and ("play(\n" in source or "widgets.overlay_" in source):
            assert SHOW in cell["metadata"].get("tags", []), cell["id"]


@pytest.mark.slow
@each_lesson
def test_a_solution_gets_the_same_marks_without_the_cells_that_only_show(lesson, kept):
    whole, short = kept.solved(lesson).result, kept.marks_without_show(lesson)
    assert whole.failures == short["failures"] == []
    assert whole.points > 0
    assert short["marks"] == whole.marks == whole.points


# --------------------------------------------------------------- what is left out


def ids(cells, lesson=None):
    return [cells[i]["id"] for i in left_out(cells, lesson or course_cells())]


def test_cells_as_released_are_left_out_whatever_their_own_tags_say():
    assert ids(course_cells()) == ["figure", "caption"]
    assert ids(without_tags(course_cells())) == ["figure", "caption"]


def test_a_students_own_tag_leaves_nothing_out():
    cells = course_cells()
    cells.insert(2, show("mine", "raise SystemExit"))
    for cell in cells:
        cell.metadata["tags"] = [SHOW]
    assert ids(cells) == ["figure", "caption"]


def test_an_edited_cell_runs_and_so_does_what_it_needs():
    cells = course_cells()
    cells[4]["source"] = "print(picture, 'by me')"
    assert ids(cells) == []
    cells[4]["source"] = "print('by me')"
    assert ids(cells) == ["figure"]


def test_a_cell_that_was_moved_behind_another_exercise_runs():
    cells = course_cells()
    cells.append(cells.pop(3))
    assert ids(cells) == ["caption"]


def test_a_marked_cell_is_never_left_out():
    lesson, cells = course_cells(), course_cells()
    cells[2]["source"] = cells[3]["source"]  # a test with the text of a figure
    lesson[2].metadata["tags"] = [SHOW]
    assert ids(cells, lesson) == ["figure", "caption"]


@pytest.mark.parametrize(
    "answer",
    [
        "def share():\n    return 1.5 * picture[0]",
        "share = lambda: sum(picture) * 1.5",
        "%matplotlib inline\nshare = float(picture[0])",
        "share = eval('pic' + 'ture')\n'picture'",
        "if picture := picture:\n    share = picture",
        "picture += [1]",
        "class Share(picture): pass",
        "share = [x for x in picture]",
        "this is no Python: picture",
    ],
)
def test_an_answer_that_uses_a_name_of_a_figure_has_it(answer):
    cells = course_cells()
    cells[5]["source"] = answer
    assert "figure" not in ids(cells)


@pytest.mark.parametrize(
    "answer",
    [
        "def share(picture):\n    return picture",
        "picture = 3\nshare = picture",
        "for picture in range(3): print(picture)",
        "def share():\n    picture = 1\n    return picture",
        "share = [picture for picture in range(3)]",
        "import math as picture\npicture.pi",
        "# picture\nshare = 'picture'",
    ],
)
def test_an_answer_with_such_a_name_of_its_own_needs_no_figure(answer):
    cells = course_cells()
    cells[5]["source"] = answer
    assert ids(cells) == ["figure", "caption"]


def test_a_cell_that_sets_a_part_of_a_thing_makes_it():
    read, made = names_of("claims['otsu'] = iou(mask)\nfigure.size.width = 3")
    assert read == {"claims", "iou", "mask", "figure"}
    assert made == {"claims", "figure"}


@pytest.mark.parametrize(
    "source", ["(" * 300, "-" * 40_000 + "x", "x" * 60_000, "\0", "x = '\ud800'"]
)
def test_a_cell_that_cannot_be_read_is_taken_to_need_everything(source):
    read, made = names_of(source + "\npicture")
    assert "picture" in read
    assert "picture" in made


# ------------------------------------------------------------------------- marks


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = make_course(tmp_path_factory.mktemp("course"))
    save(root / "solutions" / MINI / f"{MINI}.ipynb", course_cells())
    (root / "grading").mkdir()
    register(root, [MINI])
    return root


def mark(root, cells):
    path = root / "grading" / "submitted" / "somebody" / MINI / f"{MINI}.ipynb"
    save(path, cells)
    return mark_notebook(path, root, MINI)


def test_marking_runs_what_counts_and_gives_the_same_marks(root):
    found = mark(root, course_cells())
    assert found.scores == {"test_double": 2, "test_share": 3}
    by_source = {cell.source: cell for cell in found.cells}
    assert by_source["print(picture)"].execution_count is None
    assert by_source["share()"].execution_count is not None


def test_what_a_hand_in_says_that_it_has_shown_is_no_mark(root):
    cells = course_cells()
    wrong = {"double": "def double(x):\n    return 0", "share": "def share():\n    return 0.0"}
    value = new_output("execute_result", {"text/plain": "3.0"}, execution_count=1)
    for cell in cells:
        cell["source"] = wrong.get(cell["id"], cell["source"])
        if cell["cell_type"] == "code":
            cell["outputs"] = [value]
            cell["execution_count"] = 1
            cell.metadata["tags"] = [SHOW, "left-out", "skip-execution"]
    assert mark(root, cells).scores == {"test_double": 0, "test_share": 0}


@pytest.mark.slow
def test_the_feedback_has_a_students_own_picture_where_a_cell_was_left_out(root):
    cells = course_cells()
    script = {"text/html": "<script>mischief()</script>"}
    cells[3]["outputs"] = [
        new_output("display_data", {"image/png": png()}, metadata={"image/png": {"alt": "bars"}}),
        new_output("display_data", script),
    ]
    cells[4]["outputs"] = [new_output("stream", name="stdout", text="[2] <b>\n")]
    cells[6]["outputs"] = [new_output("display_data", {"image/png": png(width=7)})]  # a test's
    save(root / "grading" / "submitted" / "ada" / MINI / f"{MINI}.ipynb", cells)
    (marked,) = (one for one in grade([MINI], root=root) if one.student == "ada")
    assert marked.remarks == []
    page = (root / "grading" / "feedback" / "ada" / MINI / f"{MINI}.html").read_text()
    assert page.count("it was not run for the marks. When it was handed in it showed:") == 2
    assert page.count(png()) == 1
    assert 'alt="bars"' in page
    assert "[2] &lt;b&gt;" in page
    assert "mischief" not in page
    assert png(width=7) not in page


# -------------------------------------------------------------- stored pictures


def png(width=3, height=2, more=0):
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height)
    return base64.b64encode(header + bytes(more)).decode()


def picture(data, **facts):
    return {
        "output_type": "display_data",
        "data": {"image/png": data},
        "metadata": {"image/png": facts},
    }


def test_a_stored_picture_and_what_was_printed_are_kept():
    text = {"output_type": "stream", "name": "stdout", "text": ["one\n", "two"]}
    lines = png()[:9] + "\n" + png()[9:]
    kept = shown_outputs([picture(lines, alt="a street", width="1 onload=x()"), text])
    assert kept == [picture(png(), alt="a street"), text | {"text": "one\ntwo"}]


@pytest.mark.parametrize(
    "outputs",
    [
        None,
        {"data": 1},
        [None, 3, "text", {}, {"data": []}, {"data": {"image/png": 5}}],
        [picture('"><script>x()</script>')],
        [picture(base64.b64encode(b"<svg onload='x()'/>" * 9).decode())],
        [picture(png(width=100_000))],
        [picture(png(more=3 << 20))],
        [{"output_type": "display_data", "data": {"text/html": "<b>", "text/plain": "b"}}],
        [{"output_type": "display_data", "data": {"image/svg+xml": "<svg/>"}}],
        [{"output_type": "error", "ename": "E", "evalue": "", "traceback": ["<script>"]}],
        [{"output_type": "stream", "name": "stderr", "text": "a warning"}],
    ],
)
def test_nothing_else_of_what_is_stored_comes_into_a_page(outputs):
    assert shown_outputs(outputs) == []


def test_a_cell_has_room_for_so_many_pictures_and_no_more():
    kept = shown_outputs([picture(png(more=600 << 10))] * 20)
    assert len(kept) == 2
