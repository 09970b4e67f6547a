"""The tasks file is consistent, and turns an IoU into marks by the stated rule."""

import copy
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_utils.errors import CourseError
from course_utils.hand_in import record, tasks
from course_utils.hand_in.tasks import get_task


@pytest.fixture
def entries(monkeypatch):
    """Give the table of tasks to change."""
    changed = copy.deepcopy(tasks._entries())
    monkeypatch.setattr(tasks, "_entries", lambda: changed)
    yield changed
    tasks._hidden_set.cache_clear()


@pytest.mark.parametrize("profile", tasks.PROFILES)
@pytest.mark.parametrize("name", tasks.task_names())
def test_every_task_of_the_file_is_valid_under_every_profile(name, profile):
    task = get_task(name, profile)
    assert task.floor < task.low < task.high
    assert len(task.classes) >= 2
    assert task.generated or profile == "full"
    assert task.hidden or not task.generated


def test_tasks_are_listed_by_lesson():
    assert tasks.task_names("06_unet_from_scratch") == ["unet"]
    assert "unet" in tasks.task_names()
    assert tasks.task_names("99_none") == []


def test_an_unknown_task_or_profile_names_the_known_ones(monkeypatch):
    with pytest.raises(CourseError, match=r"no task 'unett'. The tasks are: .*unet"):
        get_task("unett")
    with pytest.raises(CourseError, match="named by a text such as 'unet'; found a dict"):
        get_task({})
    with pytest.raises(CourseError, match="no profile 'fast'; use one of quick, full"):
        get_task("unet", "fast")
    monkeypatch.setenv("COURSE_PROFILE", "Full")
    with pytest.raises(CourseError, match="COURSE_PROFILE is 'Full'; set it to one of quick, full"):
        get_task("unet")


def test_the_profile_comes_from_the_environment(monkeypatch):
    monkeypatch.delenv("COURSE_PROFILE", raising=False)
    assert get_task("unet").data == "scenes"
    monkeypatch.setenv("COURSE_PROFILE", "full")
    assert get_task("unet").data == "camvid"
    assert get_task("unet").size == (256, 384)
    assert get_task("unet", "quick").data == "scenes"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": 0.2}, r"floor 0.32, low 0.2 and high 0.72 must grow"),
        ({"high": 0.45}, "must grow"),
        ({"high": 1.2}, "must grow within 0..1"),
        ({"points": 0}, "points is 0"),
        ({"kind": "net"}, "kind is 'net'; use one of model, function"),
        ({"size": [96]}, r"size is \[96\]; give \[height, width\]"),
        ({"hidden": 0}, "hidden is 0"),
        ({"judged": ["Sky", "sky"]}, "judged names Sky, no class of 'scenes'"),
        ({"hiden": 5}, "hiden"),
    ],
)
def test_a_mistake_in_the_file_is_named(entries, change, message):
    entries["unet"]["quick"] |= change
    with pytest.raises(CourseError, match=message) as caught:
        get_task("unet", "quick")
    assert "tasks.toml, task 'unet' (quick)" in str(caught.value)


def test_a_missing_entry_is_named(entries):
    del entries["unet"]["quick"]["floor"]
    with pytest.raises(CourseError, match=r"missing .*'floor'"):
        get_task("unet", "quick")


def test_only_the_judged_classes_count(entries):
    matrix = np.array([[90, 0], [6, 4]])  # background right, four of ten pixels of the person
    people = get_task("people", "quick")
    assert people.classes == ("background", "person")
    assert people.measure == "IoU of person"
    assert people.iou(matrix) == pytest.approx(0.4)
    assert people.iou(np.stack([matrix, matrix])) == pytest.approx([0.4, 0.4])
    stated = {"validation": {"mean IoU": 0.67, "IoU": {"background": 0.94, "person": 0.4}}}
    assert people.stated_iou(stated) == 0.4
    del entries["people"]["judged"]
    whole = get_task("people", "quick")
    assert whole.measure == "mean IoU"
    assert whole.iou(matrix) == pytest.approx((90 / 96 + 0.4) / 2)
    assert whole.stated_iou(stated) == 0.67


def test_marks_grow_between_low_and_high():
    task = get_task("unet", "quick")
    middle = (task.low + task.high) / 2
    assert [task.marks(iou) for iou in (0.0, task.low, task.high, 1.0)] == [0.0, 0.0, 10.0, 10.0]
    assert task.marks(middle) == pytest.approx(5.0)
    assert task.marks(np.float32(middle)) == pytest.approx(5.0)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_marks_are_always_a_plain_finite_float_in_range(iou):
    task = get_task("unet", "quick")
    marks = task.marks(iou)
    assert type(marks) is float
    assert math.isfinite(marks)
    assert 0 <= marks <= task.points


def test_public_data_have_the_stated_number_and_size(entries):
    entries["unet"]["quick"] |= {"train": 3, "valid": 2, "size": [48, 64]}
    task = get_task("unet", "quick")
    train, valid = task.load("train"), task.load("valid")
    assert train.images.shape == (3, 48, 64, 3)
    assert valid.masks.shape == (2, 48, 64)
    assert train.classes == task.classes
    with pytest.raises(CourseError, match="no split 'test'"):
        task.load("test")


def test_hidden_images_follow_from_the_secret_alone_and_are_nowhere_public(entries):
    entries["unet"]["quick"] |= {"hidden": 4}
    task = get_task("unet", "quick")
    secret = 2**127 + 11
    hidden = task.hidden_set(secret)
    tasks._hidden_set.cache_clear()
    again, other = task.hidden_set(secret), task.hidden_set(secret + 1)
    assert np.array_equal(hidden.data.images, again.data.images)
    assert hidden.version == again.version != other.version
    assert not np.array_equal(hidden.data.images, other.data.images)
    from course_utils.data.scenes import scene

    image, mask = scene(secret * 2**20 + 3, *task.size)
    assert np.array_equal(hidden.data.images[3], image)
    assert np.array_equal(hidden.data.masks[3], mask)


def test_the_version_of_a_test_set_says_nothing_of_the_secret(entries):
    entries["unet"]["quick"] |= {"hidden": 1}
    hidden = get_task("unet", "quick").hidden_set(123456789)
    assert len(hidden.version) == 16
    for form in ("123456789", f"{123456789:x}", f"{123456789 * 2**20:x}"):
        assert form not in hidden.version + hidden.source + repr(hidden.data)


def test_one_changed_pixel_is_another_version():
    data = get_task("classical").load("valid").subset(2)
    before = tasks.data_hash(data)
    data.masks[0, 0, 0] ^= 1
    assert tasks.data_hash(data) != before


def test_files_of_a_task_lie_where_the_lesson_expects_them(tmp_path):
    assert record.model_path("unet", tmp_path) == tmp_path / "models" / "unet.onnx"
    assert str(record.record_path("unet")) == "models/unet.json"
