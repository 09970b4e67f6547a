"""Marking without a kernel: what the grader makes of a notebook's cells, and of what they printed.

The steps are those of the course's own configuration, in its order. Only the sandboxed kernel,
in the middle of them, gives way to this process. What crosses a process is tested with whole
hand-ins in ``test_grade.py``.
"""

import ast
import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat.v4 import new_output
from nbgrader.preprocessors import SaveAutoGrades
from nbgrader.utils import determine_grade, is_grade, is_solution
from traitlets.config import Config

from course_utils.grading.marking import job, nbgrader_setup, preprocessors, shown
from course_utils.hand_in.notebook import read_notebook

_OF_KERNEL = preprocessors.SandboxedExecute
_AROUND_IT = (SaveAutoGrades, preprocessors.ScoreTasks, shown.ShowStored)


@dataclass(frozen=True)
class MarkedCells:
    """A notebook's cells after marking: points by grade id, reasons for those that are lost."""

    cells: list
    scores: dict[str, float]
    reasons: dict[str, str]


def mark_notebook(path: Path, root: Path, lesson: str) -> MarkedCells:
    """Mark a notebook's cells; the lesson is registered in the gradebook of the course at root."""
    _, content = read_notebook(path)
    notebook = nbformat.reads(job.bare_notebook(content["cells"]), as_version=4)
    config = Config()
    nbgrader_setup.configure(config, root)
    resources = {
        "nbgrader": {
            "db_url": nbgrader_setup.gradebook_url(root),
            "assignment": lesson,
            "notebook": lesson,
            "student": "nobody",
        },
        "course": {"stopped": None, "armed": [], "tampered": []},
    }
    steps = [*config.Autograde.sanitize_preprocessors, *config.Autograde.autograde_preprocessors]
    for step in steps:
        if step is _OF_KERNEL:
            resources["course"]["armed"] += run_here(notebook.cells)
        elif step not in _AROUND_IT:
            notebook, resources = step(config=config)(notebook, resources)
    tests = [cell for cell in notebook.cells if is_grade(cell) and not is_solution(cell)]
    scores = {cell.metadata.nbgrader.grade_id: determine_grade(cell)[0] for cell in tests}
    return MarkedCells(notebook.cells, scores, resources["course"]["reasons"])


def run_here(cells: list) -> list[str]:
    """Run code cells and put what they give into their outputs; return the tests that ran."""
    names, tests = {}, []
    code = [cell for cell in cells if cell.cell_type == "code" and not shown.is_left_out(cell)]
    for number, cell in enumerate(code, 1):
        cell.execution_count = number
        cell.outputs = _outputs(cell.source, names, number)
        if is_grade(cell):
            tests.append(cell.metadata.nbgrader.grade_id)
    return tests


def _outputs(source: str, names: dict, number: int) -> list:
    """Return what a kernel tells of a cell: printed text, the last value, or an error."""
    printed = {"stdout": io.StringIO(), "stderr": io.StringIO()}
    last = []
    with (
        contextlib.redirect_stdout(printed["stdout"]),
        contextlib.redirect_stderr(printed["stderr"]),
    ):
        try:
            value = _run(source, names)
        except Exception as error:
            told = {"ename": type(error).__name__, "evalue": str(error), "traceback": []}
            last = [new_output("error", **told)]
        else:
            if value is not None:
                data = {"text/plain": repr(value)}
                last = [new_output("execute_result", data=data, execution_count=number)]
    texts = {name: stream.getvalue() for name, stream in printed.items()}
    return [new_output("stream", name=n, text=text) for n, text in texts.items() if text] + last


def _run(source: str, names: dict) -> object:
    tree = ast.parse(source)
    value = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        value = ast.Expression(tree.body.pop().value)
    exec(compile(tree, "<cell>", "exec"), names)
    return eval(compile(value, "<cell>", "eval"), names) if value else None
