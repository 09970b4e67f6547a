"""Marking leaves out the cells that only show; the feedback has what they showed when handed in.

What a student's file says that a cell has shown is his word: it goes into the page that he gets
back, as a picture or as plain text, after all marks are given, and to no cell that is marked.
"""

# Overridden methods say in their class's docstring what they do.
# ruff: noqa: D102

import json
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import Any

from course_utils.errors import CourseError
from course_utils.grading.marking.stored_outputs import shown_outputs
from course_utils.hand_in.notebook import read_notebook
from course_utils.hand_in.show_cells import left_out

LEFT_OUT = "left-out"
"""The tag of a cell that the kernel does not get; only :class:`LeaveOut` gives it."""
_MOST_BYTES = 10 << 20
"""Of all that is shown in a page."""
_NOTE = "This cell only shows something, so it was not run for the marks"


class LeaveOut(NbGraderPreprocessor):
    """Before the kernel starts: tag the cells that need not run, and take all other tags away."""

    settings = Any(help="Of the run: where the lesson with its tags is.").tag(config=True)

    def preprocess(self, nb, resources):
        lesson = resources["nbgrader"]["assignment"]
        path = self.settings.course / "solutions" / lesson / f"{lesson}.ipynb"
        for cell in nb.cells:
            cell.metadata.pop("tags", None)
        if path.is_file():
            for place in left_out(nb.cells, json.loads(path.read_text(encoding="utf-8"))["cells"]):
                nb.cells[place].metadata["tags"] = [LEFT_OUT]
        return nb, resources


def is_left_out(cell: NotebookNode) -> bool:
    """Tell whether :class:`LeaveOut` has tagged a cell."""
    return LEFT_OUT in cell.metadata.get("tags", [])


class ShowStored(NbGraderPreprocessor):
    """After all marks are given: what the cells that were left out showed in the hand-in."""

    def preprocess(self, nb, resources):
        from course_utils.grading.marking.preprocessors import submitted_folder

        executed = Path(resources["metadata"]["path"]).resolve()
        stored = _stored(submitted_folder(executed) / f"{resources['nbgrader']['notebook']}.ipynb")
        room = _MOST_BYTES
        for cell in filter(is_left_out, nb.cells):
            same = stored.get(cell.source.rstrip(), [])
            outputs = [NotebookNode(out) for out in (same.pop(0) if same else [])]
            room -= sum(len(json.dumps(out)) for out in outputs)
            if room < 0:
                outputs = []
            note = f"{_NOTE}.{' When it was handed in it showed:' if outputs else ''}\n"
            cell.outputs = [new_output("stream", name="stdout", text=note), *outputs]
        return nb, resources


def _stored(path: Path) -> dict[str, list[list[dict]]]:
    """Return by their text what the unmarked code cells of a notebook have shown."""
    try:
        _, notebook = read_notebook(path)
    except CourseError:
        return {}
    stored: dict[str, list[list[dict]]] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and "nbgrader" not in cell["metadata"]:
            source = "".join(cell["source"]).rstrip()
            stored.setdefault(source, []).append(shown_outputs(cell.get("outputs")))
    return stored
