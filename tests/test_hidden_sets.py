"""Hidden sets are drawn once a run, and what is shared is what would have been drawn."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from course_utils.grading.marking import hidden_sets
from course_utils.grading.marking.hidden_sets import hidden_set
from course_utils.grading.marking.scorer import score_model_file
from course_utils.hand_in import tasks
from tests.mini_course import tiny_model
from tests.model_files import settings_of

SECRET = 4711
TASK = tasks.get_task("classical", "quick")


@pytest.fixture
def drawn(monkeypatch):
    """Return a list that gets an entry for each set that is drawn."""
    found, real = [], tasks._hidden_set.__wrapped__

    def draw(*of):
        found.append(of)
        return real(*of)

    monkeypatch.setattr(tasks, "_hidden_set", draw)
    return found


@pytest.fixture
def shared(tmp_path, monkeypatch):
    monkeypatch.setenv(hidden_sets.FOLDER, str(tmp_path))
    return tmp_path


def same(one, other):
    assert (one.version, one.source) == (other.version, other.source)
    assert one.data.classes == other.data.classes
    assert (one.data.name, one.data.split) == (other.data.name, other.data.split)
    assert np.array_equal(one.data.images, other.data.images)
    assert np.array_equal(one.data.masks, other.data.masks)


@pytest.mark.long
def test_a_set_is_drawn_once_and_the_same_for_all(drawn, shared):
    with ThreadPoolExecutor(8) as pool:
        sets = list(pool.map(lambda _: hidden_set(TASK, SECRET), range(8)))
    assert len(drawn) == 1
    for one in sets:
        same(one, TASK.hidden_set(SECRET))


def test_what_is_shared_cannot_be_written(drawn, shared):
    data = hidden_set(TASK, SECRET).data
    for array in (data.images, data.masks):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.long
def test_each_secret_and_each_task_has_its_own_set(drawn, shared):
    first = hidden_set(TASK, SECRET)
    assert hidden_set(TASK, SECRET + 1).version != first.version
    assert len(drawn) == 2
    assert str(SECRET) not in "".join(map(str, shared.rglob("*")))


@pytest.mark.long
def test_nothing_is_shared_with_whoever_was_not_told_of_a_folder(drawn, tmp_path, monkeypatch):
    monkeypatch.delenv(hidden_sets.FOLDER, raising=False)
    same(hidden_set(TASK, SECRET), TASK.hidden_set(SECRET))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_a_full_disk_costs_no_mark(drawn, shared, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    same(hidden_set(TASK, SECRET), TASK.hidden_set(SECRET))
    monkeypatch.undo()
    monkeypatch.setenv(hidden_sets.FOLDER, str(shared))
    same(hidden_set(TASK, SECRET), TASK.hidden_set(SECRET))  # half a set is not taken for one


def test_the_folder_is_nobody_elses_and_made_anew_after_a_run():
    folder = hidden_sets.shared_folder()
    assert folder == hidden_sets.shared_folder()
    assert folder.stat().st_mode & 0o77 == 0
    folder.rmdir()
    again = hidden_sets.shared_folder()
    assert again != folder
    assert Path(again).is_dir()


@pytest.mark.long
@pytest.mark.process
def test_a_score_is_the_same_on_a_shared_set(tmp_path, monkeypatch):
    path = tmp_path / "unet.onnx"
    path.write_bytes(tiny_model())
    settings = settings_of(tmp_path, SECRET)
    alone = score_model_file(path, "unet", settings).as_record()
    (tmp_path / "sets").mkdir()
    monkeypatch.setenv(hidden_sets.FOLDER, str(tmp_path / "sets"))
    for _ in range(2):
        assert score_model_file(path, "unet", settings).as_record() | {"seconds": 0} == alone | {
            "seconds": 0
        }
