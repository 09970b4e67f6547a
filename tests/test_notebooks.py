"""What every lesson keeps, whatever it is about: its source, and its release run as it is."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from IPython.core.formatters import DisplayFormatter

from course_utils.hand_in.tasks import get_task, marked_outside, task_names
from course_utils.paths import list_lessons
from tests.test_wrong_answers import exercises_of

ROOT = Path(__file__).resolve().parent.parent
LESSONS = list_lessons(ROOT / "solutions")
each_lesson = pytest.mark.parametrize("lesson", LESSONS)


def notebook(lesson):
    path = ROOT / "solutions" / lesson / f"{lesson}.ipynb"
    return nbformat.read(path, as_version=4)


def code_cells(lesson):
    return [cell for cell in notebook(lesson).cells if cell.cell_type == "code"]


def test_there_are_lessons():
    assert "00_start_here" in LESSONS
    assert "06_unet_from_scratch" in LESSONS


@each_lesson
def test_cells_have_ids_of_their_own_and_no_outputs(lesson):
    cells = notebook(lesson).cells
    ids = [cell["id"] for cell in cells]
    assert len(set(ids)) == len(ids)
    # an id that says what the cell is about: a random one is a cell that was made by hand
    assert not [name for name in ids if re.fullmatch(r"[0-9a-f]{8}", name)]
    for cell in code_cells(lesson):
        assert cell.outputs == []
        assert cell.execution_count is None


@each_lesson
def test_two_hints_that_unfold_stand_between_a_stub_and_its_check(lesson):
    cells = notebook(lesson).cells
    for number, cell in enumerate(cells):
        if cell.metadata.get("nbgrader", {}).get("solution"):
            hints, check = cells[number + 1 : number + 3]
            assert hints["id"] == f"{cell['id']}-hints"
            assert hints.source.count("<details><summary>") == 2 == hints.source.count("</details>")
            if cell["id"] != "train":  # a training has no check
                assert check.metadata.get("nbgrader", {}).get("grade"), cell["id"]


@each_lesson
def test_links_between_lessons_lead_to_a_notebook(lesson):
    for cell in (c for c in notebook(lesson).cells if c.cell_type == "markdown"):
        for link in re.findall(r"\]\((?!https?://)([^)#]+)", cell.source):
            if link.startswith("attachment:"):  # a picture that the cell carries itself
                assert link.removeprefix("attachment:") in cell.attachments
            else:
                assert (ROOT / "solutions" / lesson / link).is_file(), link


GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
TERMS = re.findall(r"^## (.+)$", GLOSSARY, re.M)
LINK = re.compile(r"\[\W*([^]]+?)\W*\]\(\.\./\.\./docs/glossary\.md#(\S+?)\)")


def prose(cell):
    """Return a text without its headings, tables, answers that unfold, formulas, code and links."""
    text = re.sub(
        r"<details>.*?</details>|^[#|].*?$|\$[^$]*\$", " ", cell.source, flags=re.S | re.M
    )
    return re.sub(r"`[^`]*`|\[[^]]*\]\([^)]*\)", " ", text)


def test_the_glossary_has_each_term_once_and_in_order():
    assert sorted(set(TERMS)) == TERMS
    # the address of a heading is the same in JupyterLab and on GitHub
    assert not [term for term in TERMS if not re.fullmatch(r"[a-z0-9]+([ -][a-z0-9]+)*", term)]


def test_every_term_is_linked_and_every_linked_term_is_there():
    linked = {
        name
        for lesson in LESSONS
        for c in notebook(lesson).cells
        for _, name in LINK.findall(c.source)
    }
    assert linked == {term.replace(" ", "-") for term in TERMS}


@each_lesson
def test_a_lesson_links_a_term_once_where_it_is_first_used(lesson):
    linked, before = [], ""
    for cell in notebook(lesson).cells:
        if cell.cell_type != "markdown":
            continue
        for found in LINK.finditer(cell.source):
            words, term = found.groups()
            linked.append(term)
            start = nbformat.from_dict({"source": cell.source[: found.start()]})
            earlier = before + prose(start)
            if words != "in short":
                assert not re.search(rf"(?<![\w-]){words}(?![\w-])", earlier), (cell["id"], words)
        before += prose(cell)
    assert len(set(linked)) == len(linked)
    assert linked


@each_lesson
def test_cells_are_short_enough_to_be_read_at_a_glance(lesson):
    for cell in notebook(lesson).cells:
        if cell.cell_type == "code":
            source = re.sub(r'"""(.|\n)*?"""', "", cell.source)
            lines = [s for s in source.splitlines() if s.strip() and not s.strip().startswith("#")]
            assert len(lines) <= 25, f"{cell['id']}: {len(lines)} lines of code"
        else:
            shown = re.sub(r"\]\(\S+?\)|</?\w+>", "]", cell.source)  # no link targets, no tags
            prose = [s for s in shown.splitlines() if not s.lstrip().startswith("|")]
            words = len(re.findall(r"\w[\w'-]*", "\n".join(prose)))
            assert words <= 125, f"{cell['id']}: {words} words"


@each_lesson
def test_the_first_cell_says_how_long_it_takes(lesson):
    top = notebook(lesson).cells[0].source
    assert re.search(r"(?i)\*\*reading[^:]*: [\d.]+ (minutes|hours?)", top)
    assert re.search(r"CPU[^.]*: [\d.]+ (seconds|minutes?)", top)
    assert "GPU" in top


@each_lesson
def test_every_exercise_is_checked_in_a_cell_with_points_and_a_hidden_test(lesson):
    exercises = exercises_of(lesson[:2])
    checked = set()
    for cell in code_cells(lesson):
        meta = cell.metadata.get("nbgrader", {})
        if not meta.get("grade"):
            continue
        assert meta["points"] > 0
        assert meta["locked"]
        names = set(re.findall(r"checks\.(\w+)\(", cell.source))
        if meta["grade_id"].startswith("task_"):
            continue
        assert names, f"{cell['id']} checks nothing"
        tested = set(re.findall(r"checks\.(\w+)\.hidden\(", cell.source))
        drawn = {name for name in names if name in exercises and exercises[name].drawn}
        assert drawn <= tested <= names, cell["id"]
        checked |= names
    assert set(exercises) <= checked


def names_of(nodes, context):
    """Return the names that code loads or stores; a function's body is not its cell's own."""
    names, waiting = set(), list(nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, context):
            names.add(node.id)
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)
        elif context is ast.Store:
            names.add(node.name)
    return names


@each_lesson
def test_a_figure_to_play_with_still_has_its_data_when_the_notebook_has_run(lesson):
    cells = [ast.parse(cell.source) for cell in code_cells(lesson)]
    functions = {
        node.name: node for cell in cells for node in cell.body if isinstance(node, ast.FunctionDef)
    }
    for number, cell in enumerate(cells):
        for call in ast.walk(cell):
            if not (isinstance(call, ast.Call) and ast.unparse(call.func).endswith("play")):
                continue
            needed, waiting = set(), names_of([call.args[0]], ast.Load)
            while waiting:
                name = waiting.pop()
                needed.add(name)
                if name in functions:
                    function = functions[name]
                    own = names_of(function.body, ast.Store) | {a.arg for a in function.args.args}
                    waiting |= names_of(function.body, ast.Load) - own - needed
            for later in cells[number + 1 :]:
                taken = needed & names_of(later.body, ast.Store)
                assert not taken, f"{ast.unparse(call.args[0])} needs {taken}, which are set anew"


@pytest.mark.process
def test_notebooks_are_linted_and_formatted():
    solutions = str(ROOT / "solutions")
    for command in (["check", "-q"], ["format", "--check", "-q"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, solutions],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@each_lesson
def test_a_release_raises_nothing_but_not_implemented(lesson, kept):
    """As a student does on the first day: run all cells, before anything is solved."""
    run = kept.released(lesson)
    text = (run / "released.ipynb").read_text(encoding="utf-8")
    assert "BEGIN SOLUTION" not in text
    assert "hidden" not in re.findall(r"import lesson_\d\d as (\w+)", text)
    executed = nbformat.read(run / "executed.ipynb", as_version=4)
    raised = {}
    for cell in executed.cells:
        for out in cell.get("outputs", []):
            if out.output_type == "error":
                raised[cell["id"]] = out.ename
                assert len(out.traceback) == 1, f"{cell['id']}: more than a line"
            elif "image/png" in out.get("data", {}):
                assert out.metadata["image/png"]["alt"], f"{cell['id']}: a figure without a text"
    assert set(raised.values()) == {"NotImplementedError"}, raised
    # no test may pass before its exercise is done
    tests = {
        cell["id"] for cell in executed.cells if cell.metadata.get("nbgrader", {}).get("grade")
    }
    tasks = {
        cell["id"]
        for cell in executed.cells
        if cell.metadata.get("nbgrader", {}).get("grade_id", "").startswith("task_")
    }
    assert tests - tasks <= set(raised), json.dumps(sorted(tests - tasks - set(raised)))


@each_lesson
def test_tables_have_no_empty_heading(lesson):
    """A screen reader says the heading before each entry of its column."""
    for cell in notebook(lesson).cells:
        for heading in re.findall(r"(?m)^(\|.*)\n\|[-| :]+\|$", cell.source):
            assert all(part.strip() for part in heading.strip("|").split("|")), heading


def test_the_first_lesson_begins_with_a_picture_and_a_result():
    """Both come before anything is explained."""
    first, *cells = notebook("00_start_here").cells
    (picture,) = re.findall(r"!\[(.+)\]\(attachment:(.+)\)", first.source)
    assert len(picture[0]) > 40
    assert picture[1] in first.attachments
    code = [cell for cell in cells[:4] if cell.cell_type == "code"][:2]
    assert "import" in code[0].source
    assert "widgets." in code[1].source


@each_lesson
def test_plotting_stays_in_the_package(lesson):
    """More than a few lines that draw hide what a cell is about: they go to figures/."""
    drawing = re.compile(r"\b(axis|axes|figure|left|right)\.\w+\(|new_figure|\.imshow\(")
    for cell in notebook(lesson).cells:
        if cell.cell_type == "code":
            lines = [line for line in cell.source.splitlines() if drawing.search(line)]
            folded = cell.metadata.get("jupyter", {}).get("source_hidden")
            assert folded or len(lines) <= 3, f"{cell['id']}: {len(lines)} lines draw"


@pytest.mark.parametrize("name", [n for n in task_names() if get_task(n).kind == "model"])
def test_the_cell_of_a_task_says_who_marks_it_and_gives_nbgrader_a_zero(name, monkeypatch):
    monkeypatch.delenv("COURSE_PROFILE", raising=False)
    task = get_task(name)
    (cell,) = (
        cell
        for cell in code_cells(task.lesson)
        if cell.metadata.get("nbgrader", {}).get("grade_id") == task.grade_id
    )
    (shown,) = ast.parse(cell.source).body
    value = eval(ast.unparse(shown), {"marked_outside": marked_outside})
    text = DisplayFormatter().format(value)[0]
    assert text["text/plain"] == "0.0"
    points = cell.metadata.nbgrader.points
    assert f"on hidden images, outside of this notebook: up to {points} points" in text["text/html"]
