"""``course demo``: the instructor's whole way, with a class of sample students.

Everything happens in ``build/demo``, a course folder of its own with its own secret
seed; the instructor's ``grading/`` is not touched. Lessons 00 and 06 are solved for real, the
other lessons with a model are trained for moments. From these solutions eight students are
made who hand in what students hand in; their files are packed as Moodle packs them, collected,
graded and reported.
"""

import json
import os
import shutil
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path

from course_utils.errors import CourseError
from course_utils.files import write_atomic, zip_bytes
from course_utils.grading.collecting.collect import collect
from course_utils.grading.export_marks import export_marks
from course_utils.grading.grade import grade
from course_utils.grading.gradebook import Marked
from course_utils.grading.publishing.release import make_release
from course_utils.grading.publishing.solve import Solved, run_lesson, solve
from course_utils.grading.publishing.time_left import TimeLeft, minutes
from course_utils.grading.report import report
from course_utils.hand_in.record import model_path, record_path
from course_utils.hand_in.show_cells import SHOW, TRAIN
from course_utils.hand_in.tasks import get_task
from course_utils.paths import course_root, list_lessons, resolve_lesson

_TASK = "unet"
HURRIED = {
    "unet": "EPOCHS = 4",
    "sliding_window": "EPOCHS, STEPS = 1, 100",
    "fcn": "EPOCHS = 1",
    "encoder_decoder": "EPOCHS = 1",
    "fastai_unet": "EPOCHS = (1, 1, 1, 1)",
    "people": "EPOCHS = 1",
}
"""By task: settings of its lesson with which a hurried student trains. All but the first lesson
are run with these only, which takes seconds."""
# What each step is, and its seconds on two quiet cores; this machine's own pace shows as it goes.
_STEPS = {
    "solve": ("solve the lessons, as the best student will", 185),
    "hurry": ("train for a few epochs only, as a hurried student will", 195),
    "make": ("release the lessons, and make what eight students hand in", 10),
    "collect": ("course collect", 3),
    "grade": ("course grade", 140),
    "report": ("course export and course report", 4),
}
_HURRIED_SECONDS = {"unet": 48}
"""Of the training cell then, on two quiet cores."""


def demo(root: Path | None = None) -> tuple[list[Solved], list[Marked]]:
    """Make the class, grade it, write the report, open it where there is a display.

    Returns
    -------
    list of Solved
        What solving the lessons has come to; the executed ones lie in ``build/demo/solved``.
    list of Marked
        What each student got.

    Raises
    ------
    CourseError
        If a step fails.
    """
    root = root or course_root()
    place = root / "build" / "demo"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    left = TimeLeft({name: seconds for name, (_, seconds) in _STEPS.items()})
    start = resolve_lesson("00", root / "solutions")
    net = resolve_lesson("06", root / "solutions")
    write_atomic(place / "environment.yml", "name: demo\n")
    for lesson in (start, net):
        shutil.copytree(root / "solutions" / lesson, place / "solutions" / lesson)
    os.environ.setdefault("COURSE_DATA", str(root / "data" / "cache"))

    _step(left, "solve")
    solved = solve(keep=place / "solved", root=place)
    _step(left, "hurry")
    for task, settings in HURRIED.items():
        lesson = get_task(task).lesson
        if lesson != net:
            shutil.copytree(root / "solutions" / lesson, place / "solutions" / lesson)
        _train_in_a_hurry(place, lesson, settings, _HURRIED_SECONDS.get(task))
    _step(left, "make")
    make_release(place)
    hand_ins = sample_hand_ins(place, start, net)
    for lesson in list_lessons(place / "lessons"):
        packed = {
            f"{name}_{4000 + number}_assignsubmission_file_/{lesson}.zip": zip_bytes(
                {f"{lesson}/{file}": content for file, content in hand_in[lesson].items()}
            )
            for number, (name, hand_in) in enumerate(hand_ins.items())
            if lesson in hand_in
        }
        write_atomic(place / "downloads" / f"Segmentation-{lesson}-77.zip", zip_bytes(packed))
    _step(left, "collect")
    collect(sorted((place / "downloads").glob("*.zip")), root=place)
    _step(left, "grade")
    marked = grade(root=place)
    _step(left, "report")
    export_marks("moodle", root=place)
    page = report(root=place)
    if _has_display():
        webbrowser.open(page.resolve().as_uri())
    return solved, marked


def sample_hand_ins(place: Path, start: str, net: str) -> dict[str, dict[str, dict[str, bytes]]]:
    """Return each sample student's files by lesson: ``{name: {lesson: {path: content}}}``.

    ==================  ==================================================================
    Ada Excellent       the solution and its model
    Ben Hurried         the solution, trained for a few epochs; of each lesson with a model
    Cleo Halfway        the first half of the exercises; her model is worse than Ada's
    Dan Pickle          the solution, but torch.save instead of export
    Eve Tamper          no exercise solved; patches checks and metric, prints an IoU of 1
    Finn Forgetful      the solution without its model
    Gus Mixup           the solution, with the model of another task
    Hana Copy           Ada's files
    ==================  ==================================================================
    """
    ada, easy = _files(place / "solved" / net), _files(place / "solved" / start)
    released = (place / "lessons" / net / f"{net}.ipynb").read_bytes()
    notebook, model = f"{net}.ipynb", model_path(_TASK).as_posix()
    record = record_path(_TASK).as_posix()
    bare = {notebook: ada[notebook]}
    hurried = {folder.name: _files(folder) for folder in sorted((place / "hurried").iterdir())}
    return {
        "Ada Excellent": {start: easy, net: ada},
        "Ben Hurried": {start: easy, **hurried},
        "Cleo Halfway": {
            start: easy,
            net: {
                notebook: _half_done(ada[notebook], released),
                model: _worse(ada[model]),
                record: ada[record],
            },
        },
        "Dan Pickle": {net: {**bare, model: _pickle(), record: ada[record]}},
        "Eve Tamper": {net: {notebook: _tampered(released), model: _untrained(ada[model])}},
        "Finn Forgetful": {start: easy, net: bare},
        "Gus Mixup": {net: {**bare, model: _of_task(ada[model], "classical"), record: ada[record]}},
        "Hana Copy": {start: easy, net: ada},
    }


def _files(folder: Path) -> dict[str, bytes]:
    """Return what ``course submit`` would take from an executed lesson."""
    lesson = folder.name
    names = [f"{lesson}.ipynb", *(str(p.relative_to(folder)) for p in folder.glob("models/*.onnx"))]
    names += [str(path.relative_to(folder)) for path in folder.glob("models/*.json")]
    return {Path(name).as_posix(): (folder / name).read_bytes() for name in names}


def _half_done(solved: bytes, released: bytes) -> bytes:
    """Put the later half of the exercises back to their stubs."""
    notebook, stubs = json.loads(solved), json.loads(released)
    originals = {cell["id"]: cell for cell in stubs["cells"]}
    exercises = [
        cell
        for cell in notebook["cells"]
        if cell["metadata"].get("nbgrader", {}).get("solution") and cell["cell_type"] == "code"
    ]
    for cell in exercises[len(exercises) // 2 :]:
        cell["source"] = originals[cell["id"]]["source"]
    return json.dumps(notebook).encode()


def _tampered(released: bytes) -> bytes:
    """Solve nothing: patch the checks, the metric and the test cells, and claim an IoU of 1."""
    notebook = json.loads(released)
    for cell in notebook["cells"]:
        meta = cell["metadata"].get("nbgrader", {})
        if meta.get("grade"):
            cell["source"] = "print('all tests passed, IoU 1.000')\n10.0"
            cell["metadata"]["tags"] = ["skip-execution"]
    claim = (
        "from course_utils import metrics\n"
        "from course_utils.checks import lesson_06 as checks\n\n"
        "for name, check in list(vars(checks).items()):\n"
        "    if hasattr(check, 'hidden'):\n"
        "        setattr(checks, name, lambda *args, **kwargs: None)\n"
        "metrics.ConfusionMatrix.mean_iou = lambda self: 1.0\n"
        "print('mean IoU 1.000 on the hidden images, 10 of 10 points')"
    )
    cell = {"cell_type": "code", "id": "claim", "metadata": {}, "source": claim}
    notebook["cells"].insert(1, cell | {"outputs": [], "execution_count": None})
    return json.dumps(notebook).encode()


def _worse(model: bytes) -> bytes:
    """Return a model file with noise of a tenth on its convolutions' weights."""
    import numpy as np
    from onnx import numpy_helper

    def blur(name: str, weight: np.ndarray) -> np.ndarray:
        if weight.ndim != 4:
            return weight
        noise = np.random.default_rng(len(name)).standard_normal(weight.shape)
        return (weight * (1 + 0.1 * noise)).astype(weight.dtype)

    def change(tensor):
        return numpy_helper.from_array(
            blur(tensor.name, numpy_helper.to_array(tensor)), tensor.name
        )

    return _rewritten(model, change)


def _untrained(model: bytes) -> bytes:
    """Return a model file with each weight somewhere else: it knows nothing."""
    import numpy as np
    from onnx import numpy_helper

    def shuffle(tensor):
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind != "f":
            return tensor
        shuffled = np.random.default_rng(0).permutation(array.ravel()).reshape(array.shape)
        return numpy_helper.from_array(shuffled, tensor.name)

    return _rewritten(model, shuffle)


def _rewritten(model: bytes, change: Callable) -> bytes:
    import onnx

    proto = onnx.ModelProto()
    proto.ParseFromString(model)
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(change(tensor))
    return proto.SerializeToString()


def _of_task(model: bytes, task: str) -> bytes:
    """Return a model file that says it is of another task."""
    import onnx

    proto = onnx.ModelProto()
    proto.ParseFromString(model)
    for entry in proto.metadata_props:
        if entry.key == "task":
            entry.value = task
    return proto.SerializeToString()


def _pickle() -> bytes:
    """Return what torch.save writes of a small net."""
    import io

    import torch

    buffer = io.BytesIO()
    torch.save(torch.nn.Conv2d(3, 10, 1), buffer)
    return buffer.getvalue()


def _train_in_a_hurry(place: Path, lesson: str, settings: str, seconds: float | None) -> None:
    """Run the cells that training needs, for few epochs; leave the notebook and its model.

    They are those up to the export that neither only show something nor test an exercise; where
    marking leaves out the training as well, its cells are tagged for it.
    """
    folder = place / "hurried" / lesson
    shutil.copytree(place / "solutions" / lesson, folder)
    path = folder / f"{lesson}.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = {cell["id"]: cell for cell in notebook["cells"]}
    cells["settings"]["source"] = "".join(
        [*cells["settings"]["source"], f"\n{settings}  # no time"]
    )
    whole = json.dumps(notebook)
    last = [*cells].index("export") + 1
    notebook["cells"] = [
        cell
        for cell in notebook["cells"][:last]
        if cell["cell_type"] == "code"
        and (tags := cell["metadata"].get("tags", [])).count(SHOW) <= tags.count(TRAIN)
        and not cell["metadata"].get("nbgrader", {}).get("grade")
    ]
    path.write_text(json.dumps(notebook), encoding="utf-8")
    usual = {"train": seconds} if seconds else {}
    if failures := run_lesson(folder, place, mark=False, usual=usual).failures:
        raise CourseError(f"the hurried student's notebook does not run: {failures[0]}")
    path.write_text(whole, encoding="utf-8")


def _step(left: TimeLeft, name: str) -> None:
    """Say which step begins, and how long the demo will still take."""
    left.begin(name)
    number, (what, _) = [*_STEPS].index(name) + 1, _STEPS[name]
    print(f"\n[{number}/{len(_STEPS)}] {what} (about {minutes(left.left())} left)", flush=True)


def _has_display() -> bool:
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
