"""The bar of a run that takes minutes says which step runs, and a time left that is right."""

import json
import time
from pathlib import Path

import pytest

from benchmarks import cells as benchmark
from course_utils.grading import demo
from course_utils.grading.publishing.time_left import (
    RECORD,
    CellBar,
    TimeLeft,
    minutes,
    share_in,
    usual_seconds,
)

ROOT = Path(__file__).parent.parent
NET = "06_unet_from_scratch"
# Seconds of the cells of lesson 06 that took half a second or more, on two cores that other
# programs used too: nearly three times as long as usual.
BUSY = {
    **{"imports": 1.8, "settings": 0.8, "why-figure": 1.1, "test-train-one-epoch": 1.8},
    **{"overfit": 14.8, "predict-figure": 1.1, "train": 440.8, "export": 11.3, "look": 3.9},
    **{"skips": 14.2, "skips-picture": 1.2},
}
EPOCHS = 13


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def cells_of(lesson):
    path = ROOT / "solutions" / lesson / f"{lesson}.ipynb"
    return [cell["id"] for cell in json.loads(path.read_text())["cells"]]


def replay(actual, usual, tell=True):
    """Run cells in no time: yield (cell, seconds left in truth, seconds left as told)."""
    clock = Clock()
    left = TimeLeft(usual, clock)
    whole = sum(actual.values())
    for cell, seconds in actual.items():
        begun = clock.now
        left.begin(cell)
        while clock.now < begun + seconds:
            share = (clock.now - begun) / seconds
            if cell == "train" and tell:
                left.told(int(share * EPOCHS) / EPOCHS)
            yield cell, whole - clock.now, left.left()
            clock.now += min(1.0, begun + seconds - clock.now)


@pytest.mark.parametrize("slower", [0.3, 1, 2.84, 10])
def test_the_time_left_is_right_through_the_whole_training(slower):
    """A bar that counts cells stands still there: 46 of 71 are done, and most is still to come."""
    usual = usual_seconds(NET, cells_of(NET))
    actual = {cell: slower * seconds for cell, seconds in usual.items()}
    errors = [
        abs(told - truth) / truth
        for cell, truth, told in replay(actual, usual)
        if cell == "train" and truth < 0.8 * sum(actual.values())
    ]
    assert len(errors) > 20
    assert max(errors) < 0.15


def test_on_a_busy_machine_its_pace_shows_before_the_training():
    usual = usual_seconds(NET, cells_of(NET))
    actual = {cell: BUSY.get(cell, 0.1) for cell in usual}
    told = {}
    for cell, truth, left in replay(actual, usual, tell=False):
        told.setdefault(cell, []).append(left / truth)
    assert 0.75 < told["train"][0] < 1.3
    assert all(0.5 < ratio < 2 for ratio in told["train"][:300])


def test_a_step_that_takes_longer_than_usual_is_never_said_to_be_over():
    clock = Clock()
    left = TimeLeft({"a": 10, "b": 10}, clock)
    left.begin("a")
    found = []
    for clock.now in range(100):
        found.append(left.left())
    assert min(found) > 10
    assert found[0] == 20
    assert found[99] > 99


def test_the_record_names_cells_that_are_there():
    for lesson, seconds in json.loads(RECORD.read_text(encoding="utf-8")).items():
        assert {*seconds} <= {*cells_of(lesson)}, lesson


@pytest.mark.slow
def test_what_the_record_leaves_out_takes_little(solved):
    """Else the bar would be wrong: put the cells that take long into cell_seconds.json."""
    took = benchmark.measured(solved(NET).folder.parent)[NET]
    usual = usual_seconds(NET, list(took))
    quick = sum(seconds for cell, seconds in took.items() if usual[cell] <= 0.05)
    assert quick < 0.1 * sum(took.values())


def ran(cell, seconds):
    """Return a cell as an execution leaves it that took so long."""
    times = {
        "iopub.status.busy": "2026-11-29T10:00:00.000000Z",
        "shell.execute_reply": f"2026-11-29T10:00:{seconds:09.6f}Z",
    }
    return {"id": cell, "cell_type": "code", "metadata": {"execution": times}}


def test_a_lessons_slow_cells_are_told_and_put_in_place_of_its_old_record(
    tmp_path, monkeypatch, capsys
):
    kept, record = tmp_path / "kept", tmp_path / "cell_seconds.json"
    (kept / "01_b").mkdir(parents=True)
    never = {"id": "never", "cell_type": "code", "metadata": {}}
    cells = [ran("quick", 0.1), ran("train", 12.34), ran("look", 0.5), never]
    (kept / "01_b" / "01_b.ipynb").write_text(json.dumps({"cells": cells}))
    record.write_text(json.dumps({"02_c": {"train": 3.0}, "01_b": {"gone": 9.0}}))
    monkeypatch.setattr(benchmark, "RECORD", record)
    benchmark.main(kept)
    assert "| 01_b | 13 | train 12.3, look 0.5, quick 0.1 |" in capsys.readouterr().out
    assert "gone" in record.read_text()
    benchmark.main(kept, record=True)
    assert json.loads(record.read_text()) == {
        "01_b": {"train": 12.3, "look": 0.5},
        "02_c": {"train": 3.0},
    }
    with pytest.raises(SystemExit, match="no lesson that has run: course solve --keep"):
        benchmark.main(tmp_path)


def test_a_lesson_that_was_never_measured_has_no_time_left():
    assert usual_seconds("90_mini", ["a", "b"]) is None


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("epoch 3 of 12, loss 0.61", 0.25),
        ("epoch 1/13:   8%|#    | 75/975 [00:09<01:51]", 75 / 975),
        ("mean IoU 0.5 of 1", 0),
        ("0/0 [00:00", 0),
    ],
)
def test_a_cells_own_progress_is_read_from_what_it_prints(text, share):
    assert share_in(text) == share


def test_the_bar_says_the_cell_and_the_time_left(capsys):
    cells = [{"id": "imports", "outputs": []}, {"id": "train", "outputs": []}]
    with CellBar("06_net", cells, {"imports": 1.0, "train": 100.0}) as bar:
        bar.begin(cells[1], 1)
        cells[1]["outputs"].append({"text": "epoch 1 of 4\n"})
        bar._draw()
        time.sleep(0.01)
    text = capsys.readouterr().err
    assert "06_net, cell 2 of 2: train" in text
    assert "left" in text
    assert text.rstrip().splitlines()[-1].count("█") == 20 or "####" in text


def test_each_step_of_the_demo_is_named_with_its_time(capsys):
    clock = Clock()
    left = TimeLeft({name: seconds for name, (_, seconds) in demo._STEPS.items()}, clock)
    demo._step(left, "solve")
    clock.now = 2 * demo._STEPS["solve"][1]
    demo._step(left, "hurry")
    first, second = (line for line in capsys.readouterr().out.splitlines() if line)
    total = sum(seconds for _, seconds in demo._STEPS.values())
    assert (
        first == f"[1/6] solve the lessons, as the best student will (about {minutes(total)} left)"
    )
    assert second.startswith("[2/6] train for a few epochs only")
    rest = minutes(2 * (total - demo._STEPS["solve"][1]))
    assert second.endswith(f"(about {rest} left)")  # twice as slow as usual
