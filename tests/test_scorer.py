"""The scorer: right marks for honest models, no marks and a reason for all others."""

import base64
import copy
import io
import json
import math
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from course_utils.data import VOID, load
from course_utils.display import colours
from course_utils.errors import CourseError
from course_utils.grading.marking import samples, sandbox, scorer, task_marks
from course_utils.grading.marking.scorer import score_model_file
from course_utils.hand_in import record, tasks
from course_utils.metrics import ConfusionMatrix
from tests.model_files import (
    bombs,
    endless,
    growing_at_run_time,
    settings_of,
    small_model,
    tensor,
    then,
)

SECRET = 0x1234_5678_9ABC_DEF0_1234_5678_9ABC_DEF0


@pytest.fixture(autouse=True)
def few_hidden_images(monkeypatch):
    """Mark on 12 images: the rules are the same, the tests are quick."""
    entries = copy.deepcopy(tasks._entries())
    entries["unet"]["quick"] |= {"hidden": 12, "seconds": 20}
    monkeypatch.setattr(tasks, "_entries", lambda: entries)
    yield entries["unet"]["quick"]
    tasks._hidden_set.cache_clear()


@pytest.fixture
def hand_in(tmp_path, processes):
    """Return a function that writes a model file into a lesson's folder and scores it."""

    def write_and_score(model, **options):
        path = record.model_path("unet", tmp_path)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        return score_model_file(tmp_path, "unet", settings_of(tmp_path, SECRET, **options))

    return write_and_score


def oracle(model, hidden) -> float:
    """Compute the mean IoU of a 1x1 convolution by definition, class by class."""
    weight, bias = (onnx.numpy_helper.to_array(t) for t in model.graph.initializer)
    logits = np.einsum("nhwk,ck->nhwc", hidden.images / np.float32(255), weight[:, :, 0, 0]) + bias
    prediction = logits.argmax(-1)
    counted = hidden.masks != VOID
    scores = []
    for label in range(len(hidden.classes)):
        truth, guess = (hidden.masks == label) & counted, (prediction == label) & counted
        if (truth | guess).any():
            scores.append((truth & guess).sum() / (truth | guess).sum())
    return float(np.mean(scores))


def test_a_model_gets_its_iou_interval_and_marks(hand_in):
    task = tasks.get_task("unet", "quick")
    model = small_model(task)
    score = hand_in(model)
    hidden = task.hidden_set(SECRET)
    assert score.reason == ""
    assert score.iou == pytest.approx(oracle(model, hidden.data), abs=2e-4)
    assert score.interval[0] <= score.iou <= score.interval[1]
    assert score.marks == task.marks(score.iou)
    assert list(score.per_class) == list(task.classes)
    present = [value for value in score.per_class.values() if value is not None]
    assert np.mean(present) == pytest.approx(score.iou)
    assert (score.test_set, score.images) == (hidden.version, 12)
    assert score.isolation == sandbox.isolation_level()
    assert len(score.sha256) == 64


def test_the_masks_that_are_shown_are_of_public_pictures_alone(hand_in):
    """By hand: this model is one product of matrices a pixel."""
    task = tasks.get_task("unet", "quick")
    model = small_model(task)
    public = load("scenes", "valid", size=task.size, count=3)
    weight, bias = (onnx.numpy_helper.to_array(t) for t in model.graph.initializer)
    logits = np.einsum("nhwk,ck->nhwc", public.images / np.float32(255), weight[:, :, 0, 0]) + bias
    masks = logits.argmax(-1).astype(np.uint8)
    shown = hand_in(model).samples
    picture = Image.open(io.BytesIO(base64.b64decode(shown["png"]))).convert("RGB")
    strip = np.asarray(picture)
    for number, mask in enumerate(masks):
        left = number * (128 + 4)
        same = (strip[:, left : left + 128] == colours(10)[mask]).all(-1)
        assert same.mean() > 0.999  # of two equal logits onnxruntime may take the other
    wanted = [
        ConfusionMatrix(10).update(mask, truth).mean_iou()
        for mask, truth in zip(masks, public.masks, strict=True)
    ]
    assert shown["iou"] == pytest.approx(wanted, abs=2e-3)


def test_without_public_pictures_a_model_is_marked_all_the_same(hand_in, monkeypatch):
    def gone(*_, **__):
        raise CourseError("there is no CamVid here")

    model = small_model(tasks.get_task("unet", "quick"))
    marked = hand_in(model)
    monkeypatch.setattr(samples, "load", gone)
    bare = hand_in(model)
    assert bare.samples is None
    assert replace(bare, seconds=0) == replace(marked, seconds=0, samples=None)


def test_the_score_does_not_change_from_run_to_run(hand_in):
    model = small_model(tasks.get_task("unet", "quick"))
    first, second = hand_in(model).as_record(), hand_in(model).as_record()
    first.pop("seconds"), second.pop("seconds")
    assert first == second


def test_a_score_is_plain_json(hand_in):
    record = hand_in(small_model(tasks.get_task("unet", "quick"))).as_record()
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_marks_are_full_for_the_truth_and_none_for_a_guess(monkeypatch):
    task = tasks.get_task("unet", "quick")
    hidden = task.hidden_set(SECRET)
    truth = np.where(hidden.data.masks == VOID, 0, hidden.data.masks)
    best = scorer.score_masks(task, hidden, truth, isolation="")
    assert (best.iou, best.marks, best.interval) == (1.0, 10.0, (1.0, 1.0))
    worst = scorer.score_masks(task, hidden, np.zeros_like(truth), isolation="")
    assert worst.marks == 0.0
    assert worst.iou < task.floor


def test_the_child_gets_neither_labels_nor_secret_nor_a_path_to_them(hand_in, monkeypatch):
    sandbox.isolation_level()  # tried once in a process, by a child of its own
    sent = []
    real = sandbox.run

    def spy(argv, *, send=(), **options):
        send = list(send)
        sent.append((argv, b"".join(bytes(part) for part in send), options))
        return real(argv, send=send, **options)

    monkeypatch.setattr(sandbox, "run", spy)
    assert hand_in(small_model(tasks.get_task("unet", "quick"))).reason == ""
    hidden = tasks.get_task("unet", "quick").hidden_set(SECRET)
    assert len(sent) == 2
    assert hidden.data.images.tobytes() in sent[1][1]  # so the comparison can find things
    for argv, told, options in sent:
        for mask in hidden.data.masks:
            assert mask.tobytes() not in told
        assert str(SECRET).encode() not in told
        assert "read" not in options
        assert [str(part) for part in argv[:2]] == [sys.executable, "-I"]
        assert Path(argv[2]).name == "scorer_child.py"


# -------------------------------------------------------------------- not to be scored


@pytest.mark.process
def test_a_missing_model_file_gets_no_marks_and_the_reason(tmp_path):
    score = score_model_file(tmp_path, "unet", settings_of(tmp_path, SECRET))
    assert (score.marks, score.iou, score.sha256) == (0.0, None, "")
    assert re.search(r"there is no file models/unet.onnx", score.reason)
    assert str(tmp_path) not in score.reason  # a student reads it


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda task: pickle.dumps({"w": 1}), "is a pickle"),
        (lambda task: b"", "is empty"),
        (lambda task: small_model(task, task="pets"), "model of task 'pets'"),
        (lambda task: small_model(task, profile=None), "for which profile"),
        (lambda task: bombs(task)["Expand"], "makes a tensor of"),
        (lambda task: growing_at_run_time(task), "memory allowed"),
        (
            lambda task: then(
                task,
                helper.make_node("Sub", ["x", "x"], ["zero"]),
                helper.make_node("Div", ["zero", "zero"], ["logits"]),
            ),
            r"not numbers \(NaN\)",
        ),
        (
            lambda task: then(
                task,
                helper.make_node("Reshape", ["x", "shape"], ["logits"]),
                weights=[tensor("shape", np.array([-1, 10, *task.size[::-1]]))],
            ),
            "gives \\(batch, 10, 128, 96\\)",
        ),
    ],
)
def test_a_model_that_cannot_be_scored_gets_no_marks_and_the_reason(hand_in, make, reason):
    score = hand_in(make(tasks.get_task("unet", "quick")))
    assert (score.marks, score.iou, score.interval) == (0.0, None, None)
    assert re.search(reason, score.reason), score.reason
    assert "\n" not in score.reason
    json.dumps(score.as_record(), allow_nan=False)


@pytest.mark.process
def test_a_link_is_not_followed(tmp_path):
    secret = tmp_path / "secret_seed"
    secret.write_text("4711")
    path = record.model_path("unet", tmp_path)
    path.parent.mkdir()
    path.symlink_to(secret)
    score = score_model_file(tmp_path, "unet", settings_of(tmp_path, SECRET))
    assert "is a link" in score.reason


def test_a_model_that_computes_for_ever_is_stopped(hand_in, few_hidden_images):
    few_hidden_images |= {"seconds": 3}
    score = hand_in(endless(tasks.get_task("unet", "quick")))
    assert re.search(r"needs more than the 3 seconds allowed", score.reason)
    assert score.seconds < 15


CHILD = """
import json, sys
request = json.loads(sys.stdin.buffer.readline())
sys.stdin.buffer.read()
out = sys.stdout.buffer
if "shape" not in request:
    {inspect}
else:
    n, h, w, _ = request["shape"]
    {predict}
"""
HONEST = 'out.write(json.dumps({"profile": "quick"}).encode())'


@pytest.mark.parametrize(
    ("inspect", "predict", "reason"),
    [
        (HONEST, "out.write(bytes(n * h * w - 1))", r"gave 184,319 bytes .* instead of 184,320"),
        (HONEST, "out.write(bytes(n * h * w + 1))", "more bytes than it was asked for"),
        (HONEST, "out.write(bytes([10]) * (n * h * w))", "value 10, which is no class"),
        (HONEST, "out.write(bytes([255]) * (n * h * w))", "value 255, which is no class"),
        (HONEST, "pass", "gave 0 bytes"),
        (HONEST, "raise RuntimeError('boom\\x1b[31m')", r"cannot be run: RuntimeError: boom \[31m"),
        (HONEST, "import os; os.kill(os.getpid(), 11)", "cannot be run"),
        (HONEST, "bytearray(1 << 34)", "memory allowed"),
        ("out.write(b'no json')", "pass", "nothing of it is believed"),
        ("out.write(b'[' * 60000)", "pass", "nothing of it is believed"),
        ("out.write(b'[1]')", "pass", "nothing of it is believed"),
        ('out.write(b\'{"profile": "../../x"}\')', "pass", "nothing of it is believed"),
        ('out.write(b\'{"refused": "bad\\\\u001b[2J"}\')', "pass", r"^bad \[2J$"),
        ("out.write(bytes(1 << 20))", "pass", "more bytes than it was asked for"),
    ],
)
def test_a_child_that_was_taken_over_costs_its_own_submission_only(
    hand_in, monkeypatch, tmp_path_factory, inspect, predict, reason
):
    folder = tmp_path_factory.mktemp("child", numbered=True)
    child = folder / "child.py"
    child.write_text(CHILD.format(inspect=inspect, predict=predict))
    real = sandbox.run
    monkeypatch.setattr(scorer, "_CHILD", child)
    monkeypatch.setattr(sandbox, "run", lambda *a, **k: real(*a, **k, read=[folder]))
    score = hand_in(small_model(tasks.get_task("unet", "quick")))
    assert score.marks == 0.0
    assert re.search(reason, score.reason), score.reason


# ---------------------------------------------------------------- the instructor's side


def test_damaged_data_are_the_instructors_matter_and_raise(hand_in, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    (tmp_path / "CamVid" / "trainannot").mkdir(parents=True)  # and no test images
    with pytest.raises(CourseError, match="there is no folder"):
        hand_in(small_model(tasks.get_task("unet", "full")))
    with pytest.raises(CourseError, match="images/ and masks/"):
        hand_in(small_model(tasks.get_task("unet", "full")), data=tmp_path)


def test_a_model_whose_data_the_instructor_has_not_waits_for_them(hand_in, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "nothing"))
    score = hand_in(small_model(tasks.get_task("unet", "full")))
    assert (score.waits, score.iou, score.profile) == (True, None, "full")
    assert "is of profile full, which is marked on camvid" in score.reason
    assert "course data fetch camvid" in score.reason
    record = score.as_record()
    assert task_marks.given(record) is None
    assert task_marks.describe(record).startswith("not marked yet: models/unet.onnx is of profile")
    bad = small_model(tasks.get_task("unet", "full"), task="pets")
    assert not hand_in(bad).waits  # what is the student's own fault does not wait


@pytest.mark.parametrize(("stated", "fixed"), [("full", "quick"), ("quick", "full")])
def test_a_model_of_another_profile_than_is_marked_is_refused(hand_in, stated, fixed):
    score = hand_in(small_model(tasks.get_task("unet", stated)), profile=fixed)
    assert (score.marks, score.iou, score.profile, score.waits) == (0.0, None, fixed, False)
    assert f"was trained under profile {stated}, this class is marked under {fixed}" in score.reason
    assert f"Set COURSE_PROFILE={fixed}, train and export again" in score.reason


def test_a_task_that_is_the_same_under_both_profiles_takes_models_of_either(hand_in, monkeypatch):
    monkeypatch.delitem(tasks._entries()["unet"], "full")
    monkeypatch.setattr(scorer, "_inspect", lambda *_: "full")  # its child has tasks.toml itself
    score = hand_in(small_model(tasks.get_task("unet", "full")), profile="quick")
    assert score.reason == ""


def test_a_model_of_the_full_profile_is_marked_on_the_instructors_folder(hand_in, tmp_path):
    from PIL import Image

    folder = tmp_path / "own"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(2):
        image = rng.integers(0, 255, (256, 384, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / "images" / f"{i}.png")
        Image.fromarray(np.full((256, 384), i, np.uint8)).save(folder / "masks" / f"{i}.png")
    full = tasks.get_task("unet", "full")
    score = hand_in(small_model(full), data=folder)
    assert score.reason == ""
    assert (score.profile, score.images, score.low) == ("full", 2, full.low)
    assert "folder 'own'" in score.source
    assert math.isfinite(score.iou)


def test_broken_walls_raise_rather_than_cost_marks(hand_in, monkeypatch):
    broken = sandbox.Finished(b"", "sandbox: no", 125, "isolation", 0.0, sandbox.LANDLOCK)
    monkeypatch.setattr(sandbox, "isolation_level", lambda: sandbox.LANDLOCK)
    monkeypatch.setattr(sandbox, "run", lambda *_, **__: broken)
    with pytest.raises(CourseError, match="sandbox failed"):
        hand_in(small_model(tasks.get_task("unet", "quick")))


def test_isolation_can_be_required(hand_in, monkeypatch):
    monkeypatch.setattr(sandbox, "isolation_level", lambda: sandbox.LIMITS)
    model = small_model(tasks.get_task("unet", "quick"))
    with pytest.raises(CourseError, match="isolation is required"):
        hand_in(model, require_isolation=True)
    score = hand_in(model)
    assert (score.reason, score.isolation) == ("", sandbox.LIMITS)


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_parent_and_child_stay_under_one_gigabyte_and_without_torch(tmp_path):
    """With all 200 hidden images, a large model file, and in a process of its own."""
    task = tasks.get_task("unet", "quick")
    model = small_model(task)
    model.graph.initializer.append(tensor("unused", np.zeros(3_900_000, np.float32)))
    path = record.model_path("unet", tmp_path)
    path.parent.mkdir()
    path.write_bytes(model.SerializeToString())
    settings = settings_of(tmp_path, 1)
    code = f"""
import resource, sys
from course_utils.grading.marking.scorer import score_model_file
from course_utils.grading.marking.settings import Settings
score = score_model_file({str(tmp_path)!r}, "unet", Settings.from_json({settings.as_json()!r}))
assert score.images == 200 and not score.reason, score
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print("torch" in sys.modules, int(status["VmHWM"].split()[0]) + child)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True
    )
    imported, kilobytes = done.stdout.split()
    assert imported == "False"
    assert int(kilobytes) < 1_000_000
    print(f"peak memory of parent and child together: {int(kilobytes) / 1000:.0f} MB")
