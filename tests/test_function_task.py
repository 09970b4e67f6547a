"""A task whose result is a function: scored at home, and from masks alone under the grader."""

import os
import re
import time

import numpy as np
import pytest

from course_utils.errors import CourseError
from course_utils.grading.marking.function_marks import prepare_function_task, score_function_task
from course_utils.hand_in import tasks
from course_utils.hand_in.function_task import run_function_task
from course_utils.metrics import ConfusionMatrix

SECRET = 2**100 + 7
TASK = tasks.get_task("classical")
MASKS = "masks_classical.bin"


def bright(image):
    """Call bright what is brighter than its image's mean."""
    grey = image.mean(axis=2)
    return grey > grey.mean()


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Work in the folder where the grader runs a notebook, its images in place."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    prepare_function_task(tmp_path, "classical", SECRET)
    return tmp_path


def scored(folder):
    return score_function_task(folder, "classical", SECRET, isolation="L3")


def expected() -> float:
    """Return the IoU that the masks of ``bright`` have on the hidden images."""
    hidden = TASK.hidden_set(SECRET).data
    guess = np.stack([bright(image) for image in hidden.images]).astype(np.uint8)
    return ConfusionMatrix(2).update(guess, hidden.masks).mean_iou()


def test_at_home_the_function_is_scored_on_public_images(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    run_function_task("classical", bright)
    said = capsys.readouterr().out
    valid = TASK.load("valid")
    guess = np.stack([bright(image) for image in valid.images])
    ious = [
        ((guess == label) & (valid.masks == label)).sum()
        / ((guess == label) | (valid.masks == label)).sum()
        for label in (0, 1)
    ]
    assert f"mean IoU {np.mean(ious):.3f}" in said
    assert "floor" in said
    assert "full marks at" in said
    assert list(tmp_path.iterdir()) == []


def test_under_the_grader_masks_are_written_and_scored_outside(work, capsys):
    run_function_task("classical", bright)
    assert "IoU" not in capsys.readouterr().out  # there are no labels to have one
    score = scored(work)
    hidden = TASK.hidden_set(SECRET).data
    guess = np.stack([bright(image) for image in hidden.images])
    assert (work / MASKS).read_bytes() == guess.astype(np.uint8).tobytes()
    assert score.reason == ""
    assert (score.images, score.isolation) == (TASK.hidden, "L3")
    assert score.iou == pytest.approx(expected())
    assert score.marks == TASK.marks(score.iou)
    assert score.interval[0] < score.iou < score.interval[1]


def test_the_notebooks_folder_holds_no_label_and_no_secret(work):
    content = b"".join(path.read_bytes() for path in work.iterdir())
    hidden = TASK.hidden_set(SECRET).data
    assert hidden.images[3].tobytes() in content
    assert not any(mask.tobytes() in content for mask in hidden.masks)
    assert str(SECRET).encode() not in content


def test_the_true_masks_get_full_marks(work):
    masks = TASK.hidden_set(SECRET).data.masks
    (work / MASKS).write_bytes(masks.tobytes())
    assert (scored(work).iou, scored(work).marks) == (1.0, 10.0)


def test_one_failing_image_does_not_lose_the_others(work, capsys):
    calls = []

    def fails_once(image):
        calls.append(image)
        if len(calls) == 2:
            raise ValueError("no threshold found")
        return bright(image)

    run_function_task("classical", fails_once)
    said = capsys.readouterr().out
    assert "59 of 60 hidden images done" in said
    assert "Image 1: ValueError: no threshold found" in said
    masks = np.fromfile(work / MASKS, np.uint8).reshape(60, *TASK.size)
    assert not masks[1].any()
    assert masks[2].any()
    assert scored(work).iou == pytest.approx(expected(), abs=0.02)


def test_one_slow_image_does_not_lose_the_others(work, monkeypatch, capsys, alone):
    monkeypatch.setattr(
        "course_utils.hand_in.function_task.get_task",
        lambda name: tasks.Task(**{**vars(TASK), "seconds": 20}),
    )
    calls = []

    def hangs_once(image):
        calls.append(image)
        while len(calls) == 1:
            pass
        return bright(image)

    started = time.monotonic()
    run_function_task("classical", hangs_once)
    assert time.monotonic() - started < 15
    assert "Image 0: TimeoutError: took longer than 1.0 s" in capsys.readouterr().out
    assert scored(work).iou == pytest.approx(expected(), abs=0.02)


def test_time_for_all_images_together_ends(work, monkeypatch, capsys, alone):
    monkeypatch.setattr(
        "course_utils.hand_in.function_task.get_task",
        lambda name: tasks.Task(**{**vars(TASK), "seconds": 1}),
    )

    def slow(image):
        time.sleep(0.2)
        return bright(image)

    started = time.monotonic()
    run_function_task("classical", slow)
    assert time.monotonic() - started < 5
    assert re.search(r"[345] of 60 hidden images done", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda image: image, r"must have shape \(120, 160\) like its image, not \(120, 160, 3\)"),
        (lambda image: None, r"must have shape"),
        (lambda image: bright(image) * 255, r"holds the value 255, the classes are 0\.\.1"),
        (lambda image: bright(image) - 2.0, r"holds the value -2\.0, the classes"),
        (lambda image: bright(image) + 0.5, r"class numbers, not float64 values between"),
        (lambda image: image.mean(axis=2) * np.nan, r"class numbers, not float64"),
        (lambda image: 1 / 0, "fails on every image. The first: ZeroDivisionError"),
    ],
)
def test_a_wrong_answer_says_what_a_mask_is(tmp_path, monkeypatch, function, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    with pytest.raises(CourseError, match=message):
        run_function_task("classical", function)


def test_a_stub_that_is_left_stays_a_stub(work):
    def stub(image):
        raise NotImplementedError

    with pytest.raises(NotImplementedError):
        run_function_task("classical", stub)
    assert "wrote no masks" in scored(work).reason


def test_a_function_cannot_change_the_images_of_others(work):
    def paints_over(image):
        mask = bright(image)
        image[:] = 0
        return mask

    run_function_task("classical", paints_over)
    hidden = TASK.hidden_set(SECRET).data
    assert hidden.images.any(axis=(1, 2, 3)).all()
    assert scored(work).iou == pytest.approx(expected())


def test_a_task_for_a_model_says_how_it_is_handed_in():
    with pytest.raises(CourseError, match=r'hand it in with export\("unet", model\)'):
        run_function_task("unet", bright)


def test_a_cell_that_changes_the_folder_costs_nothing(work, monkeypatch):
    monkeypatch.setenv("COURSE_HAND_IN", str(work))  # which the grader's kernel sets
    (work / "figures").mkdir()
    monkeypatch.chdir(work / "figures")
    run_function_task("classical", bright)
    assert scored(work).iou == pytest.approx(expected())


def test_without_images_of_the_grader_nothing_happens(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    run_function_task("classical", bright)
    assert "gave no images" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------- what a notebook may leave

SIZE = 60 * TASK.size[0] * TASK.size[1]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"is empty: run_function_task\('classical', ...\) was interrupted\. Run it again"),
        (bytes(SIZE - 1), r"holds 1,151,999 bytes of masks instead of 1,152,000"),
        (bytes(SIZE + 1), "bytes of masks instead of"),
        (bytes(SIZE + 9_000_000), r"is too large: .* It must hold one byte a pixel"),
        (bytes([2]) * SIZE, "holds the value 2, which is no class"),
        (bytes(SIZE - 1) + b"\xff", "holds the value 255"),
    ],
)
def test_masks_of_another_kind_get_no_marks_and_the_reason(work, content, reason):
    (work / MASKS).write_bytes(content)
    score = scored(work)
    assert (score.marks, score.iou) == (0.0, None)
    assert re.search(reason, score.reason)
    assert not re.search(r"channels|export|\n", score.reason)  # that is for models
    assert str(work) not in score.reason


def test_masks_that_took_too_long_by_the_graders_clock_get_no_marks(work):
    run_function_task("classical", bright)
    score = score_function_task(work, "classical", SECRET, isolation="L3", late=True)
    assert (score.marks, score.iou) == (0.0, None)
    assert score.reason == "the function took longer than the 60 s for all images"


def test_no_masks_get_no_marks_and_the_reason(work):
    assert re.search(r"wrote no masks: its cell with run_function_task", scored(work).reason)


def test_links_and_folders_instead_of_masks_are_refused(work, tmp_path_factory):
    truth = tmp_path_factory.mktemp("elsewhere") / "masks"
    truth.write_bytes(TASK.hidden_set(SECRET).data.masks.tobytes())
    (work / MASKS).symlink_to(truth)
    assert "is a link" in scored(work).reason
    (work / MASKS).unlink()
    os.link(truth, work / MASKS)
    assert "hard link" in scored(work).reason
    (work / MASKS).unlink()
    (work / MASKS).mkdir()
    score = scored(work)
    assert score.marks == 0.0
    assert "the file that run_function_task" in score.reason


def test_what_a_hand_in_brought_along_is_removed_before(tmp_path):
    outside = tmp_path / "precious"
    outside.write_text("keep")
    folder = tmp_path / "copy"
    folder.mkdir()
    (folder / MASKS).mkdir()
    (folder / MASKS / "more.txt").write_text("in the way")
    (folder / "hidden_classical.npy").symlink_to(outside)
    path = prepare_function_task(folder, "classical", SECRET)
    assert not (folder / MASKS).exists()
    assert outside.read_text() == "keep"
    assert not path.is_symlink()
    images = np.load(path, allow_pickle=False)
    assert np.array_equal(images, TASK.hidden_set(SECRET).data.images)
