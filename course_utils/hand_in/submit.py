"""``course submit``: look at a hand-in as the grader will, and zip it."""

import ast
import hashlib
import json
from pathlib import Path

from course_utils.errors import CourseError
from course_utils.files import write_atomic, zip_bytes
from course_utils.hand_in.gate import check_model_bytes, read_plain_file, stated_profile
from course_utils.hand_in.notebook import read_notebook
from course_utils.hand_in.record import model_path, record_path
from course_utils.hand_in.tasks import PROFILES, Task, get_task, task_names
from course_utils.paths import MARKS_FILE, course_root, resolve_lesson
from course_utils.table import text_table


def submit(lesson: str, root: Path | None = None, *, partial: bool = False) -> Path:
    """Check a lesson's hand-in and write ``lessons/<lesson>.zip``; equal files give equal bytes.

    Stubs that are left, cells that are not Python and test cells that are gone are warned
    about; a model file that the grader would refuse is refused. The notebook is not run.

    Parameters
    ----------
    lesson
        A number such as ``06``, a name or a path.
    partial
        Hand in without model files that are missing.

    Returns
    -------
    pathlib.Path
        The zip to hand in.

    Raises
    ------
    CourseError
        If the notebook is missing or damaged, or a model file or its record is
        missing, refused by the gate, or not the one that the record is about.
    """
    root = root or course_root()
    lesson = resolve_lesson(lesson, root / "lessons")
    folder = root / "lessons" / lesson
    path = folder / f"{lesson}.ipynb"
    content, notebook = read_notebook(path)
    points = _marked_cells(root, lesson, notebook)
    files = {path: content}
    rows, expected = [], []
    for name in task_names(lesson):
        task = get_task(name)
        if task.kind == "model" and (model_path(name, folder).exists() or not partial):
            try:
                model, record = check_task_files(name, folder)
            except CourseError as error:
                if model_path(name, folder).exists():
                    raise
                raise CourseError(
                    f"{error} To hand in without it, for {points[task.grade_id]:g} points less: "
                    f"course submit {lesson.split('_')[0]} --partial"
                ) from None
            files |= {model_path(name, folder): model, record_path(name, folder): record}
            expected.append(_expectation(task, record))
        elif task.kind == "model":
            expected.append(f"Warning: no models/{name}.onnx: its points are lost.")
    tasks = {get_task(name).grade_id: name for name in task_names(lesson)}
    for grade_id, value in points.items():
        kind = f"models/{tasks[grade_id]}.onnx on hidden images" if grade_id in tasks else "code"
        if grade_id in tasks and get_task(tasks[grade_id]).kind == "function":
            kind = "your function on hidden images"
        rows.append([grade_id, value, kind])
    print(text_table(["marked", "points", "by"], rows))
    for line in expected:
        print(line)
    for warning in _warnings(notebook, points):
        print(f"Warning: {warning}")
    target = root / "lessons" / f"{lesson}.zip"
    named = {
        f"{lesson}/{file.relative_to(folder).as_posix()}": data for file, data in files.items()
    }
    write_atomic(target, zip_bytes(named))
    print(f"Ready to hand in: {target} ({target.stat().st_size / 1e6:.1f} MB)")
    return target


def check_task_files(name: str, folder: Path) -> tuple[bytes, bytes]:
    """Return a task's model file and training record from a lesson's folder.

    Raises
    ------
    CourseError
        If one is missing, refused by the gate, or the record is about another file.
    """
    path, record_file = model_path(name, folder), record_path(name, folder)
    if not path.exists():
        if told := misnamed(path):
            raise CourseError(
                f"there is no {path}, {told}. Run the lesson's export({name!r}, model) cell again."
            )
        raise CourseError(
            f"there is no {path}. Train the model and run the lesson's export({name!r}, model) "
            "cell."
        )
    # The file itself says under which profile it was trained.
    largest = max(get_task(name, profile).max_megabytes for profile in PROFILES)
    model = read_plain_file(path, largest)
    check_model_bytes(model, get_task(name, stated_profile(model, name, str(path))), str(path))
    cure = f"Run the lesson's export({name!r}, model) cell again."
    if not record_file.is_file():
        raise CourseError(f"there is no {record_file}, the training record. {cure}")
    record = record_file.read_bytes()
    try:
        stated = json.loads(record)["sha256"]
    except (ValueError, KeyError, TypeError):
        raise CourseError(f"{record_file} is not a whole training record. {cure}") from None
    if stated != hashlib.sha256(model).hexdigest():
        raise CourseError(f"{record_file} belongs to another model than {path.name}. {cure}")
    return model, record


def misnamed(path: Path) -> str | None:
    """Return what to say of files beside a missing model file that were meant by it, if any."""
    suffixes = {".pt", ".pth", ".pkl", ".pickle", ".pt2", ".onnx", ".h5", ".safetensors", ".ckpt"}
    beside = {*path.parent.glob("*"), *path.parent.parent.glob("*")}
    others = {name for name in task_names(get_task(path.stem).lesson) if name != path.stem}
    theirs = {f"{name}{suffix}" for name in others for suffix in (".onnx", ".checkpoint.pt")}
    names = {other.name for other in beside if other.suffix.lower() in suffixes}
    found = sorted(names - theirs)  # the lesson's other tasks have files of their own
    if not found:
        return None
    if path.name in found:
        return f"but one beside the folder {path.parent.name}/, into which it belongs"
    if any(name.lower().endswith(".onnx") for name in found):
        return f"only {', '.join(found)}: the name must be {path.name}"
    return (
        f"only {', '.join(found)}: a pickle or another format, which is never loaded; only ONNX, "
        "written by export(), is marked"
    )


def _marked_cells(root: Path, lesson: str, notebook: dict) -> dict[str, float]:
    """Return the points of each marked cell, from the release; else from the notebook itself."""
    try:
        return json.loads((root / "lessons" / MARKS_FILE).read_text())[lesson]
    except (OSError, ValueError, KeyError):
        cells = [cell["metadata"].get("nbgrader", {}) for cell in notebook["cells"]]
        return {meta["grade_id"]: meta["points"] for meta in cells if meta.get("grade")}


def _expectation(task: Task, record: bytes) -> str:
    """Return what the training record says of the model; the grader does not believe it."""
    try:
        stated = json.loads(record)
        task = get_task(task.name, stated["profile"])
        iou = task.stated_iou(stated)
    except (ValueError, KeyError, TypeError, CourseError):
        return f"models/{task.name}.json tells no validation score."
    return (
        f"{task.name}: {task.measure} {iou:.3f} on the validation images, so about "
        f"{task.marks(iou):.1f} of {task.points:g} points on hidden ones."
    )


def _syntax_error(source: str) -> SyntaxError | None:
    """Return what keeps a code cell (magics allowed) from being Python, or None."""
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError as error:
        return error
    return None


def _warnings(notebook: dict, points: dict[str, float]) -> list[str]:
    cells = [(cell, cell["metadata"].get("nbgrader", {})) for cell in notebook["cells"]]
    present = {meta.get("grade_id") for _, meta in cells}
    gone = [grade_id for grade_id in points if grade_id not in present]
    back = "gone; the grader puts it back before it marks."
    warnings = [f"the test cell {grade_id} is {back}" for grade_id in gone]
    if len(gone) == len(points) > 1:
        warnings = ["not one test cell of this lesson is there. Is it another lesson's notebook?"]
    for cell, meta in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and (error := _syntax_error(source)):
            name = meta.get("grade_id") or cell.get("id", "?")
            warnings.append(
                f"cell {name} is not Python (line {error.lineno}: {error.msg}): what needs it "
                "gets no points."
            )
    stubs = [
        meta.get("grade_id", "?")
        for cell, meta in cells
        if meta.get("solution") and "raise NotImplementedError" in "".join(cell["source"])
    ]
    if stubs:
        warnings.append(f"not solved yet: {', '.join(stubs)}.")
    return warnings
