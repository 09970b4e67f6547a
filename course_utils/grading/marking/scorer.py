"""The trusted scorer: from a model file, or from masks, to marks.

The labels stay in this process. A model file is run by a fresh child in the
`sandbox`, which gets the images and returns one byte a pixel. Whatever the child does
wrong costs its own submission and nothing else; only what the
instructor must fix (data that are missing, no isolation) raises.
"""

import hashlib
import json
import math
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from course_utils.errors import CourseError
from course_utils.grading.marking import samples, sandbox
from course_utils.grading.marking.hidden_sets import hidden_set
from course_utils.grading.marking.machine_faults import MachineFault
from course_utils.grading.marking.settings import Settings
from course_utils.grading.workplace import secret_seed
from course_utils.hand_in.gate import Refused, read_plain_file
from course_utils.hand_in.record import model_path
from course_utils.hand_in.tasks import PROFILES, HiddenSet, Task, get_task
from course_utils.metrics import bootstrap_interval, iou, per_image_matrices
from course_utils.table import printable

_CHILD = Path(__file__).with_name("scorer_child.py")
_MEMORY = 1 << 30
_INSPECT_SECONDS = 30


@dataclass(frozen=True)
class Score:
    """The result of one task of one submission.

    Attributes
    ----------
    marks, points
        Given, and possible.
    iou
        IoU over the hidden images, as `Task.iou` has it; None if nothing could be scored.
    interval
        95 % bootstrap interval of ``iou``, over images.
    per_class
        IoU of each class; None for a class that is nowhere.
    reason
        Why nothing could be scored, in plain words; empty if all went well.
    isolation
        The isolation that the model, or the notebook, ran in.
    sha256
        Of the model file or of the masks; empty if there were none.
    waits
        Whether there is no mark yet, since the instructor has not what it is marked on.
    samples
        A model's masks of public pictures, as from `samples.sample_record`.
    measure
        The name of what ``iou`` is: ``"mean IoU"``, or that of some classes.
    """

    task: str
    profile: str
    marks: float
    points: float
    iou: float | None
    interval: tuple[float, float] | None
    per_class: dict[str, float | None]
    floor: float
    low: float
    high: float
    reason: str
    test_set: str
    source: str
    images: int
    isolation: str
    sha256: str = ""
    seconds: float = 0.0
    waits: bool = False
    samples: dict[str, Any] | None = None
    measure: str = "mean IoU"

    def as_record(self) -> dict[str, Any]:
        """Return the score as plain JSON values."""
        return json.loads(json.dumps(asdict(self)))


def score_model_file(path: Path | str, name: str, settings: Settings) -> Score:
    """Score a model file on the hidden images of its task.

    Where no profile is fixed, it is the one that the file states: a model of CamVid is
    marked on CamVid, between the bounds of that profile. Where that is not on this
    machine, the score waits for it.

    Parameters
    ----------
    path
        The model file, such as ``models/unet.onnx``; or the lesson's folder that holds it.
    name
        The task's name.
    settings
        Of the run: where the secret seed is, the folder of data, isolation, a fixed profile.

    Raises
    ------
    CourseError
        If the instructor's side is at fault: the data are damaged, or the isolation, or the
        system has killed the process that runs the model (`MachineFault`).
    """
    started = time.monotonic()
    path = Path(path)
    path = model_path(name, path) if path.is_dir() else path
    required, profile = settings.require_isolation, settings.profile
    level = sandbox.require_isolation() if required else sandbox.isolation_level()
    label = f"models/{path.name}"
    task = get_task(name, profile or "quick")
    digest = ""
    try:
        limit = max(get_task(name, profile).max_megabytes for profile in PROFILES)
        content = read_plain_file(path, limit, label)
        digest = hashlib.sha256(content).hexdigest()
        task = _task_of(name, _inspect(content, name, label, level), profile, label)
        if settings.data is None and not task.here:
            return _waiting(task, label, isolation=level, sha256=digest)
        hidden = hidden_set(task, secret_seed(settings.course), settings.data)
        public = samples.sample_pictures(task)
        images = [hidden.data.images, *([public.images] if public else [])]
        masks = _predict(content, task, np.concatenate(images), level)
    except Refused as refusal:
        score = no_score(task, str(refusal), isolation=level, sha256=digest)
    else:
        count = len(hidden.data.images)
        score = score_masks(task, hidden, masks[:count], isolation=level, sha256=digest)
        if public:
            shown = samples.sample_record(masks[count:], public.masks, task)
            score = replace(score, samples=shown)
    return replace(score, seconds=round(time.monotonic() - started, 2))


def _task_of(name: str, stated: str, fixed: str | None, label: str) -> Task:
    """Return the task under the profile that a model states; refuse another than is marked."""
    task = get_task(name, stated)
    if fixed and replace(task, profile=fixed) != get_task(name, fixed):
        raise Refused(
            f"{label} was trained under profile {stated}, this class is marked under {fixed}. "
            f"Set COURSE_PROFILE={fixed}, train and export again."
        )
    return task


def _waiting(task: Task, label: str, *, isolation: str, sha256: str) -> Score:
    """Return the score of a model whose data the instructor has not: none yet, and why."""
    reason = (
        f"{label} is of profile {task.profile}, which is marked on {task.data}, and that is not on "
        f"the grader's machine: `course data fetch {task.data}`, --data FOLDER or --profile quick"
    )
    score = no_score(task, reason, isolation=isolation, sha256=sha256)
    return replace(score, waits=True)


def score_masks(
    task: Task, hidden: HiddenSet, masks: np.ndarray, *, isolation: str, sha256: str = ""
) -> Score:
    """Score predicted masks ``(N, H, W)`` uint8, each value a class, on a hidden set."""
    classes = task.classes
    matrices = per_image_matrices(masks, hidden.data.masks, len(classes))
    total = matrices.sum(0)
    score = float(task.iou(total))
    return Score(
        task=task.name,
        profile=task.profile,
        marks=task.marks(score),
        points=float(task.points),
        iou=score,
        interval=bootstrap_interval(matrices, task.iou),
        per_class={
            label: None if math.isnan(value) else float(value)
            for label, value in zip(classes, iou(total), strict=True)
        },
        floor=task.floor,
        low=task.low,
        high=task.high,
        reason="",
        test_set=hidden.version,
        source=hidden.source,
        images=len(masks),
        isolation=isolation,
        sha256=sha256,
        measure=task.measure,
    )


def no_score(task: Task, reason: str, *, isolation: str, sha256: str = "") -> Score:
    """Return the score of a hand-in that cannot be scored: no marks, and why."""
    return Score(
        task=task.name,
        profile=task.profile,
        marks=0.0,
        points=float(task.points),
        iou=None,
        interval=None,
        per_class={},
        floor=task.floor,
        low=task.low,
        high=task.high,
        reason=reason,
        test_set="",
        source="",
        images=0,
        isolation=isolation,
        sha256=sha256,
        measure=task.measure,
    )


def _inspect(content: bytes, name: str, label: str, level: str) -> str:
    """Return the profile of a model file, after a child has put it through the gate.

    Also parsing a hostile file can fill memory or crash; so that is the child's part, too.
    """
    request = {"task": name, "name": label, "bytes": len(content)}
    told = _ask(request, [content], 1 << 16, _INSPECT_SECONDS, label, level)
    try:
        answer = json.loads(told)
        refusal, profile = answer.get("refused"), answer.get("profile")
    except (ValueError, AttributeError, RecursionError):
        refusal, profile = None, None
    if refusal:
        raise Refused(printable(refusal, 500))
    if profile not in PROFILES:
        raise Refused(f"{label} upset the process that read it, so nothing of it is believed.")
    return profile


def _predict(content: bytes, task: Task, images: np.ndarray, level: str) -> np.ndarray:
    """Return the masks ``(N, H, W)`` uint8 that a child predicts, checked to be classes."""
    images = np.ascontiguousarray(images)
    classes = len(task.classes)
    request = {"bytes": len(content), "shape": images.shape, "classes": classes}
    request |= {"window": task.window, "stride": task.stride}
    size = images.shape[0] * images.shape[1] * images.shape[2]
    label = f"models/{task.name}.onnx"
    answer = _ask(request, [content, images.data], size, task.seconds, label, level)
    if len(answer) != size:
        raise Refused(f"{label} gave {len(answer):,} bytes of masks instead of {size:,}.")
    masks = np.frombuffer(answer, np.uint8).reshape(images.shape[:3])
    if masks.max(initial=0) >= classes:
        raise Refused(f"{label} gave the value {masks.max()}, which is no class.")
    return masks


def _ask(request, buffers, max_output: int, seconds: float, label: str, level: str) -> bytes:
    """Return what a fresh child answers, or raise with what went wrong in plain words."""
    done = sandbox.run(
        [sys.executable, "-I", _CHILD],
        send=[json.dumps(request).encode() + b"\n", *buffers],
        max_output=max_output,
        seconds=seconds,
        memory=_MEMORY,
        level=level,
    )
    if done.failure is None:
        return done.stdout
    if done.failure == "isolation":
        raise CourseError(f"the sandbox failed: {done.stderr.strip()[-300:]}")
    if done.failure == "killed":
        raise MachineFault(
            f"the system killed the process that runs {label}. Most often the memory does not "
            "suffice: run the command again with --jobs 1."
        )
    lines = done.stderr.strip().splitlines() or ["it said nothing"]
    reasons = {
        "time": f"needs more than the {seconds:g} seconds allowed; use fewer channels",
        "memory": f"needs more than the {_MEMORY >> 20} MB of memory allowed; use fewer channels",
        "output": "gave more bytes than it was asked for",
        "crash": f"cannot be run: {printable(lines[-1], 300)}",
    }
    raise Refused(f"{label} {reasons[done.failure]}.")
