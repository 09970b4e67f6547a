"""Validate: would the marked cells of a notebook pass? ``python -m course_utils.jupyter.validate``.

It runs as the grader does: in a copy of the folder, so that nothing of the student's is changed;
without the cells that only show something; and without training, see `course_utils.execution`.
The answer goes to standard output, as nbgrader's lab extension reads it.
"""

import _thread
import html
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from time import monotonic, sleep

CELL_SECONDS = 240
NOTEBOOK_SECONDS = 900
_LARGE = 200 << 20
"""Bytes of a file that is not copied: no notebook of this course reads one of its own folder."""
_GRACE = 5
"""Seconds to clean up in, once nobody waits for the answer."""


def main(path: str) -> None:
    """Validate a notebook and print the answer."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    out, sys.stdout = sys.stdout, sys.stderr
    out.write(json.dumps(answer(Path(path))))


def _end_with_input() -> None:
    while os.read(0, 1):
        pass
    _thread.interrupt_main()  # ends the kernel, and takes the copy away
    sleep(_GRACE)
    os._exit(1)


def answer(path: Path) -> dict:
    """Return ``success``, and in ``value`` what was found, or in a sentence why nothing was."""
    import nbformat

    from course_utils.errors import CourseError
    from course_utils.hand_in.notebook import read_notebook

    try:
        notebook = nbformat.reads(json.dumps(read_notebook(path)[1]), as_version=4)
        return {"success": True, "value": validate(notebook, path)}
    except CourseError as error:
        return {"success": False, "value": str(error)}


def validate(notebook, path: Path) -> dict[str, list[dict]]:
    """Run a notebook and return what is wrong with its marked cells.

    Parameters
    ----------
    notebook
        As nbformat reads it.
    path
        Its file; the folder is copied.

    Returns
    -------
    dict
        Empty if all is well; else one of ``type_changed``, ``changed`` and ``failed``, each a list
        of cells with their ``source``, and for those that failed with the ``error``.
    """
    if found := _changed(notebook.cells):
        return found
    with tempfile.TemporaryDirectory(prefix="validate-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch) / path.parent.name
        _copy(path.parent, folder)
        why = _run(notebook, folder, path)
    failed = []
    for cell, reason in reasons(notebook.cells, path, why):
        shown = cell.source.split("### BEGIN HIDDEN TESTS")[0].strip()
        failed.append({"source": shown, "error": html.escape(reason), "raw_error": reason})
    return {"failed": failed} if failed else {}


def _changed(cells: list) -> dict[str, list[dict]]:
    """Return the marked cells that are of another type, or have another text, than released."""
    from nbgrader.utils import compute_checksum, is_grade, is_locked, is_solution

    known = [cell for cell in cells if is_grade(cell) or is_solution(cell) or is_locked(cell)]
    types = [
        {"source": cell.source.strip(), "old_type": released, "new_type": cell.cell_type}
        for cell in known
        if (released := cell.metadata.nbgrader.get("cell_type") or cell.cell_type) != cell.cell_type
    ]
    if types:
        return {"type_changed": types}
    texts = [
        {"source": cell.source.strip()}
        for cell in known
        if is_locked(cell)
        and cell.metadata.nbgrader.get("checksum", compute_checksum(cell)) != compute_checksum(cell)
    ]
    return {"changed": texts} if texts else {}


def _copy(source: Path, target: Path) -> None:
    """Copy what a notebook may need from its folder: no checkpoint of a training, no notebook."""

    def unneeded(folder: str, names: list[str]) -> list[str]:
        paths = [Path(folder, name) for name in names]
        return [
            path.name
            for path in paths
            if path.name.startswith(".")
            or path.suffix in {".ipynb", ".pt", ".zip"}
            or (path.is_file() and path.stat().st_size > _LARGE)
            or not (path.is_file() or path.is_dir())
        ]

    shutil.copytree(source, target, ignore=unneeded)


def _run(notebook, folder: Path, path: Path) -> str | None:
    """Run the cells that count; return why some of them did not run, if so."""
    from nbclient import NotebookClient
    from nbclient.exceptions import DeadKernelError

    from course_utils.hand_in.show_cells import left_out
    from course_utils.paths import course_root, data_setting

    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    skipped = set(left_out(notebook.cells, notebook.cells))
    deadline = monotonic() + NOTEBOOK_SECONDS
    client = NotebookClient(
        notebook,
        timeout_func=lambda cell: int(max(1, min(CELL_SECONDS, deadline - monotonic()))),
        kernel_name="python3",
        allow_errors=True,
        interrupt_on_timeout=True,
        error_on_timeout={"ename": "CellTimeoutError", "evalue": "", "traceback": []},
        shutdown_kernel="immediate",
        resources={"metadata": {"path": str(folder)}},
    )
    environment = {
        **os.environ,
        "NBGRADER_EXECUTION": "validate",
        "NBGRADER_VALIDATING": "1",
        "COURSE_DATA": data_setting(course_root(path.parent)),
    }
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with client.setup_kernel(env=environment, **silent):
        for place, cell in enumerate(notebook.cells):
            if place in skipped or cell.cell_type != "code":
                continue
            if monotonic() > deadline:
                return f"the notebook runs longer than {NOTEBOOK_SECONDS // 60} minutes"
            try:
                client.execute_cell(cell, place)
            except DeadKernelError:
                return "an earlier cell ended the kernel"
    return None


def reasons(cells: list, path: Path, stopped: str | None = None) -> list[tuple[dict, str]]:
    """Return the test cells that would not get all points, each with why.

    Parameters
    ----------
    cells
        After they have run.
    path
        The notebook; ``models/`` is beside it.
    stopped
        Why the cells that have not run have not.
    """
    from nbgrader.utils import determine_grade, is_grade, is_solution

    from course_utils.grading.marking.preprocessors import refused_outcome
    from course_utils.grading.marking.task_marks import tasks_by_grade_id

    tasks = tasks_by_grade_id(path.stem)
    found, broken = [], None
    for cell in cells:
        if cell.cell_type == "code" and is_solution(cell):
            errors = [out for out in cell.outputs if out.output_type == "error"]
            broken = refused_outcome(errors, 0)
            if broken and not broken.startswith("not solved"):
                broken = f"its exercise's cell stops: {broken}"
        if cell.cell_type != "code" or not is_grade(cell) or is_solution(cell):
            continue
        meta = cell.metadata.nbgrader
        cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
        task = tasks.get(meta.grade_id)
        if task is not None and task.kind == "model":
            reason = _fault_of_model(task, path.parent)
        elif cell.execution_count is None and not cell.outputs:
            reason = f"not run: {stopped}"
        else:
            reason = refused_outcome(cell.outputs, meta.points)
            if reason and broken and reason.startswith(("NameError", "not solved")):
                reason = broken
            if reason is None and (score := determine_grade(cell)[0]) < meta.points:
                reason = f"{score:g} of {meta.points:g} points"
        if reason:
            found.append((cell, reason))
    return found


def _fault_of_model(task, folder: Path) -> str | None:
    """Return why a task's model cannot be marked; None if it can, however good it is."""
    from course_utils.errors import CourseError
    from course_utils.hand_in.gate import check_model_bytes
    from course_utils.hand_in.record import model_path
    from course_utils.hand_in.tasks import get_task

    file = model_path(task.name)
    try:
        check_model_bytes((folder / file).read_bytes(), get_task(task.name), str(file))
    except FileNotFoundError:
        return f"no trained model yet: run the training cell, then export, which writes {file}"
    except CourseError as error:
        return str(error)
    return None


if __name__ == "__main__":
    main(sys.argv[1])
