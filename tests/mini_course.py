"""A course of two lessons that are graded in a second, and hand-ins of it."""

import hashlib
import json
from functools import cache
from pathlib import Path

import nbformat

MINI = "90_mini"
NET = "06_unet_from_scratch"

HIDDEN = "assert double(21) == 42, 'the secret of the universe'"


def make_course(root: Path) -> Path:
    """Make a course's folder with ``solutions/`` of a code lesson and a lesson of task unet."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "environment.yml").write_text("name: mini\n")
    (root / "lessons").mkdir()
    save(root / "solutions" / MINI / f"{MINI}.ipynb", mini_cells())
    (root / "solutions" / MINI / "beside.txt").write_text("a file beside the notebook\n")
    save(root / "solutions" / NET / f"{NET}.ipynb", net_cells())
    return root


def mini_cells() -> list[dict]:
    return [
        markdown("title", "# Mini"),
        code(
            "double",
            "def double(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION",
            grade_id="double",
            solution=True,
        ),
        code(
            "test-double",
            f"assert double(2) == 4, 'twice 2 is 4'\n### BEGIN HIDDEN TESTS\n{HIDDEN}\n"
            "### END HIDDEN TESTS",
            grade_id="test_double",
            points=2,
        ),
        code(
            "share",
            "def share():\n    ### BEGIN SOLUTION\n    return 3.0\n    ### END SOLUTION",
            grade_id="share",
            solution=True,
        ),
        code("test-share", "share()", grade_id="test_share", points=3),
        markdown("why", "Because.", grade_id="why", points=1, solution=True),
    ]


def net_cells() -> list[dict]:
    return [
        markdown("title", "# Net"),
        code(
            "train",
            "### BEGIN SOLUTION\nscore = 0.5\n### END SOLUTION",
            grade_id="train",
            solution=True,
        ),
        code("task", "10.0", grade_id="task_unet", points=10),
    ]


def markdown(cell_id: str, source: str, **meta) -> dict:
    return _with_meta(nbformat.v4.new_markdown_cell(source, id=cell_id), meta)


def code(cell_id: str, source: str, **meta) -> dict:
    return _with_meta(nbformat.v4.new_code_cell(source, id=cell_id), meta)


def _with_meta(cell, meta):
    if meta:
        points = meta.pop("points", None)
        solution = meta.pop("solution", False)
        grade = points is not None
        cell.metadata["nbgrader"] = {
            "schema_version": 3,
            "grade": grade,
            "solution": solution,
            "locked": grade and not solution,
            "task": False,
            **meta,
            **({"points": points} if grade else {}),
        }
    return cell


def save(path: Path, cells: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(_notebook(cells), path)


def _notebook(cells):
    notebook = nbformat.v4.new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
    )
    notebook.nbformat_minor = 5
    return notebook


def hand_in(root: Path, student: str, lesson: str = MINI, **sources: str) -> Path:
    """Put a hand-in into ``grading/submitted``: the solution with some cells' text replaced."""
    cells = mini_cells() if lesson == MINI else net_cells()
    for cell in cells:
        cell["source"] = sources.pop(cell["id"].replace("-", "_"), cell["source"])
    assert not sources, f"no such cells: {sources}"
    folder = root / "grading" / "submitted" / student / lesson
    save(folder / f"{lesson}.ipynb", cells)
    return folder


def tiny_model(bias: int = 3, classes: int = 10, task: str = "unet") -> bytes:
    """Return a model file that answers the same class everywhere (3 is road)."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    weight = np.zeros((classes, 3, 1, 1), np.float32)
    offset = np.zeros(classes, np.float32)
    offset[bias] = 1
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "w", "b"], ["logits"])],
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 96, 128])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes, 96, 128])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(offset, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"task": task, "profile": "quick"})
    return model.SerializeToString()


def add_model(folder: Path, content: bytes | None = None) -> None:
    """Put a model file and a record that fits into a lesson's folder."""
    content = tiny_model() if content is None else content
    (folder / "models").mkdir(exist_ok=True, parents=True)
    (folder / "models" / "unet.onnx").write_bytes(content)
    record = {"task": "unet", "profile": "quick", "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "models" / "unet.json").write_text(json.dumps(record))


def task_record(iou: float | None = 0.6, reason: str = "", **more) -> dict:
    """Return what the scorer leaves of one task."""
    record = {
        "task": "unet",
        "profile": "quick",
        "kind": "model",
        "grade_id": "task_unet",
        "marks": 0.0,
        "points": 10.0,
        "iou": iou,
        "interval": None if iou is None else [iou - 0.02, iou + 0.02],
        "per_class": {},
        "floor": 0.3,
        "low": 0.45,
        "high": 0.7,
        "reason": reason,
        "test_set": "0123456789abcdef",
        "source": "200 hidden images of 'scenes', drawn from the secret seed",
        "images": 200,
        "isolation": "L3 Landlock + seccomp",
        "sha256": "",
    }
    return record | more


def merge_result(root: Path, student: str, lesson: str, double: float = 2, **outcome) -> None:
    """Enter a hand-in into the gradebook as if it had been graded, without running anything."""
    from course_utils.grading.grade import merge
    from course_utils.grading.gradebook import register

    if not (root / "grading" / "gradebook.db").exists():
        (root / "grading").mkdir(exist_ok=True)
        register(root, [MINI, NET])
    folder = root / "results" / student / lesson
    record_result(folder, student, lesson, double, **outcome)
    (root / "grading" / "submitted" / student / lesson).mkdir(parents=True, exist_ok=True)
    merge(root, folder)


def record_result(folder: Path, student: str, lesson: str, double: float = 2, **outcome) -> None:
    """Leave in a folder what a job leaves of a hand-in, without running anything."""
    from course_utils.files import file_hashes
    from course_utils.grading.marking import task_marks

    tasks = outcome.pop("tasks", {} if lesson == MINI else {"task_unet": task_record()})
    exercises = {
        "test_double": {"score": double, "points": 2, "reason": None if double else "wrong"},
        "test_share": {"score": 3, "points": 3, "reason": None},
        "why": {"score": outcome.pop("why", None), "points": 1, "reason": None},
    }
    result = {
        "student": student,
        "lesson": lesson,
        "exercises": exercises if lesson == MINI else {},
        "tasks": tasks,
        "comments": {},
        "stopped": None,
        "tampered": [],
        "isolation": "L3 Landlock + seccomp",
        "problem": None,
        "hand_in_hash": None,
    } | outcome
    notebook = json.loads(solved_text(lesson))
    reasons = {k: v["reason"] for k, v in result["exercises"].items() if v["reason"]}
    keys = ("stopped", "tampered", "isolation")
    notebook["metadata"]["course"] = {key: result[key] for key in keys} | {"reasons": reasons}
    cells = notebook["cells"]
    result["order"] = [cell["metadata"].get("nbgrader", {}).get("grade_id") for cell in cells]
    result["comment_places"] = task_marks.comment_places(cells, tasks)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{lesson}.ipynb"
    path.write_text(task_marks.annotate(notebook, result))
    page = folder / f"{lesson}.html"
    page.write_text("<p>feedback</p>")
    result["files"] = file_hashes([path, page])
    (folder / "result.json").write_text(json.dumps(result))


@cache
def solved_text(lesson: str) -> str:
    """Return the solution of a lesson as a notebook's text."""
    return nbformat.writes(_notebook(mini_cells() if lesson == MINI else net_cells()))
