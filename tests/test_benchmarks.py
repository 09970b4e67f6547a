"""The benchmarks measure what they say, and run: tiny here, so that no number means anything."""

import itertools
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks import __main__ as bench
from benchmarks import gpu, measuring
from benchmarks.measuring import Row, in_turns, table
from course_utils.data import VOID, camvid, load
from course_utils.data.camvid_files import camvid_files, write_layout

RECIPES = ["scratch", "stages", "people", "pets"]


def setup_module():
    global boxes, CPU, fastest_mode, lite0, nn, recipes, torch, training, training_step, tutorial
    import torch
    from torch import nn

    from benchmarks import recipes, training, training_step, tutorial
    from course_utils.models.encoders import lite0
    from course_utils.training import fastest_mode
    from tests.nets import boxes

    CPU = torch.device("cpu")


# ---- the table


def test_a_row_gives_the_median_ratio_with_its_range():
    row = Row("work", "old", "new", before=[4.0, 3.0, 9.0], after=[2.0, 3.0, 3.0])
    assert row.ratios == [2.0, 1.0, 3.0]
    assert row.line() == "| work | old | 4 s | new | 3 s | **2.0** (1.0 to 3.0) |"
    assert table([row]).count("\n") == 2


def test_ways_are_measured_in_turns_each_first_as_often():
    order = []

    def way(name, value):
        def work():
            order.append(name)
            return value

        return work

    row = in_turns(Row("work", "old"), way("old", 2.0), way("ours", 1.0), 4)
    assert order == ["old", "ours", "ours", "old"] * 2
    assert row.before == [2.0] * 4
    assert row.after == [1.0] * 4


def test_hardware_names_the_processor_and_what_is_installed():
    machine, versions = measuring.hardware().splitlines()
    assert re.match(r"\d+ cores of \w", machine)
    assert f"torch {torch.__version__.split('+')[0]}" in versions


# ---- training


@pytest.fixture
def files(tmp_path):
    """Return a set, and a folder with its pictures as files."""
    train = boxes(12, size=(32, 32))
    write_layout(tmp_path / "files", train, boxes(2, seed=1, size=(32, 32)))
    return train, tmp_path / "files"


def test_the_tutorials_way_gets_the_same_pictures(files, monkeypatch):
    train, folder = files
    data = tutorial.Pictures(folder, training._names(folder), train.size, lambda *pair: pair)
    assert len(data) == len(train)
    for (image, mask), pixels, labels in zip(data, train.images, train.masks, strict=False):
        assert np.array_equal((255 * image).round().permute(1, 2, 0), pixels)
        assert np.array_equal(np.where(mask == 3, VOID, mask), labels)


def test_the_tutorials_flip_moves_the_mask_with_its_image(files, monkeypatch):
    train, folder = files
    monkeypatch.setattr(tutorial.random, "random", lambda: 0.0)
    image, mask = tutorial.Pictures(folder, training._names(folder), train.size)[0]
    assert np.array_equal((255 * image).round().permute(1, 2, 0), train.images[0][:, ::-1])
    assert np.array_equal(np.where(mask == 3, VOID, mask), train.masks[0][:, ::-1])


def test_no_half_precision_is_what_it_says(monkeypatch):
    seen = []
    exact = fastest_mode(CPU)._replace(dtype=None)
    with training.computing(exact):
        seen.append(training.fitting.fastest_mode(CPU).dtype)
    assert seen == [None]
    assert training.fitting.fastest_mode is fastest_mode


@pytest.mark.long
@pytest.mark.process
def test_training_is_measured_with_its_data_both_ways():
    rows = training.rows(rounds=1, steps=4, size=(32, 32))
    names = [row.what for row in rows]
    assert len([name for name in names if "240x240" in name]) == (len(names) - 1) // 3
    assert any("no half precision" in name for name in names) == bool(fastest_mode(CPU).dtype) or (
        torch.cuda.is_available()
    )
    for row in rows:
        assert 0 < min(row.before + row.after) < 60


@pytest.mark.long
def test_both_ways_of_training_learn_the_same_amount():
    found = training.accuracy(epochs=1, seed=0, count=24)
    assert set(found) == {"DataLoader, PIL", "fit"}
    assert all(0 < iou < right < 1 for _, iou, right in found.values())


@pytest.mark.long
def test_a_steps_products_are_counted_and_its_time_is_shared_out():
    torch.manual_seed(0)
    layer, x = nn.Conv2d(8, 4, 3, padding=1, bias=False), torch.rand(2, 8, 16, 16)
    one = 2 * 2 * 16 * 16 * 8 * 4 * 9  # batch, multiply and add, pixels, channels, kernel
    assert training_step.operations(lambda: layer(x).sum().backward()) == 2 * one  # not for x
    step = training_step.training_step(CPU, fastest_mode(CPU), 2, (32, 32))
    shares = training_step.shares(step, CPU, repeats=1)
    assert sum(shares.values()) == pytest.approx(1)
    assert {"convolutions", "batch norm", "ReLU", "pooling", "loss", "optimizer"} <= set(shares)


@pytest.mark.long
def test_the_roofline_is_a_share(capsys):
    share = training_step.roofline(CPU, fastest_mode(CPU), 2, (32, 32), 2)
    assert 0 < share < 1
    assert f"{share:.0%} of the best matrix product" in capsys.readouterr().out


# ---- recipes


def test_a_net_of_one_logit_says_yes_where_it_is_positive():
    net = nn.Conv2d(3, 1, 1)
    model = recipes.Normalised(net, 2)
    x = torch.rand(2, 3, 4, 6)
    mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (recipes.MEAN, recipes.STD))
    assert torch.equal(model(x).argmax(1), (net((x - mean) / std)[:, 0] > 0).long())


@pytest.fixture
def offline(monkeypatch):
    """No weights but those that came with the course."""
    recipes.fetched.cache_clear()
    monkeypatch.setattr(recipes, "fetched", lambda name: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # read at import
    monkeypatch.setenv("HF_HOME", "/nonexistent")


@pytest.fixture
def smp():
    return pytest.importorskip("segmentation_models_pytorch")


@pytest.mark.long
def test_what_stands_in_for_an_encoder_is_pretrained(offline, smp):
    net, name = recipes.unet_on("efficientnet-b3", 1)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        ours, theirs = lite0().eval()(x), net.encoder.eval()(x)[-1]
    assert name == recipes.LITE0
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_a_frozen_encoder_gives_five_maps_and_learns_nothing(offline):
    encoder = recipes.Depths().train()
    maps = encoder(torch.rand(2, 3, 64, 96))
    assert [64 // one.shape[2] for one in maps] == [2, 4, 8, 16, 32]
    assert [one.shape[1] for one in maps] == encoder.widths
    assert not any(weight.requires_grad for weight in encoder.parameters())
    assert not any(module.training for module in encoder.modules())


def test_kept_maps_are_those_of_the_images_and_of_their_mirror_images(offline):
    encoder, images = recipes.Depths(), boxes(3, size=(64, 64)).images
    kept = recipes.kept_maps(encoder, images, fastest_mode(CPU)._replace(dtype=None), CPU)
    mirrored = torch.from_numpy(images[1:2, :, ::-1].copy()).permute(0, 3, 1, 2) / 255
    for level, one in zip(kept, encoder(mirrored), strict=True):
        assert torch.allclose(level[4], one[0], atol=1e-4)


def test_torchvisions_mobilenet_has_the_five_named_depths(monkeypatch):
    from torchvision.models import mobilenet_v2

    net = mobilenet_v2().eval()
    monkeypatch.setattr(recipes, "fetched", lambda name: net)
    encoder = recipes.Depths()
    maps = encoder(torch.rand(1, 3, 128, 128))
    assert [tuple(one.shape[1:]) for one in maps] == [
        (96, 64, 64),
        (144, 32, 32),
        (192, 16, 16),
        (576, 8, 8),
        (320, 4, 4),
    ]
    x = torch.rand(1, 3, 64, 64)
    whole = net.features[:18]((x - encoder.mean) / encoder.std)
    assert torch.allclose(encoder(x)[-1], whole, atol=1e-5)


def test_every_recipe_is_tested_by_its_name():
    assert list(recipes.RECIPES) == RECIPES


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_runs_beside_the_courses_way(name, offline, smp, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    first, second = recipes.run(recipes.RECIPES[name], recipes.TINY, CPU)
    assert first.data == second.data
    assert first.data.startswith(recipes.RECIPES[name].data[-1])
    assert first.encoder == second.encoder == ("" if name == "scratch" else recipes.LITE0)
    for one in (first, second):
        assert 0 <= one.iou <= 1
        assert 0 <= one.dice <= 1
        assert name == "people" or one.iou <= one.dice  # of people, Dice is the person's alone
        assert 0 < one.accuracy <= 1
        assert one.line().count("|") == 7


@pytest.mark.slow
def test_to_time_an_epoch_leaves_no_trace(offline, tmp_path):
    train, valid = load("scenes", size=(64, 64), count=8), load("scenes", "valid", (64, 64), 2)
    write_layout(tmp_path / "files", train, valid)
    job = recipes.Job(tmp_path / "files", train, valid, recipes.TINY, CPU)
    from fastai.losses import CrossEntropyLossFlat

    learn = recipes.staged_learner(job, (64, 64), loss_func=CrossEntropyLossFlat(axis=1))
    frozen = [weight.requires_grad for weight in learn.model.parameters()]
    before = {key: value.clone() for key, value in learn.model.state_dict().items()}
    assert 0 < recipes.epoch_seconds(learn) < 60
    assert frozen == [weight.requires_grad for weight in learn.model.parameters()]
    assert not all(frozen)
    for key, value in learn.model.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.slow
def test_the_courses_way_keeps_to_its_time(monkeypatch):
    """By a clock of the test's own, of which every look takes a second: a machine has its moods."""
    train = boxes(32, size=(32, 32))
    job = recipes.Job(None, train, boxes(4, seed=1, size=(32, 32)), recipes.TINY, CPU)
    model = recipes.UNet(3, 3, 4)
    calls, fit = [], recipes.fit

    def watched(model, data, valid, *, epochs, **more):
        calls.append((len(data), epochs))
        return fit(model, data, valid, epochs=min(epochs, 2), **more)

    monkeypatch.setattr(recipes, "fit", watched)
    monkeypatch.setattr(recipes, "clock", itertools.count().__next__)
    for budget in (30, 90):
        recipes.fitted(model, job, budget, max_lr=1e-3, batch_size=8)
    (_, trial), (whole, few), _, (_, many) = calls
    assert trial == 2
    assert whole == 32
    assert few > 1
    assert many in range(3 * few, 3 * few + 3)


# ---- on a GPU


@pytest.mark.process
def test_a_part_without_time_left_is_ended_with_its_children(tmp_path, capfd):
    child = f"import time; time.sleep(3); open({str(tmp_path / 'late')!r}, 'w')"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert gpu.run(gpu.Part("sleep", ("-c", code), 0), 1, {}) == "ended after 1 s, unfinished"
    assert gpu.run(gpu.Part("fails", ("-c", "raise SystemExit(3)"), 0), 60, {}).startswith(
        "FAILED with exit code 3"
    )
    assert gpu.run(gpu.Part("works", ("-c", "print('done')"), 0), 60, {}).endswith(" s")
    time.sleep(3)
    assert not (tmp_path / "late").exists()
    assert "done" in capfd.readouterr().out


def test_scenes_stand_in_for_camvid_in_both_layouts(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "nothing"))
    few = lambda name, split, size, count=2: load(name, split, (32, 48), 2)  # noqa: E731
    monkeypatch.setattr(gpu, "load", few)
    place = tmp_path / "data"
    place.mkdir()
    assert gpu.with_stand_ins(place) == str(place)
    assert load("camvid", "test", (32, 48)).masks.shape == (2, 32, 48)
    folder = camvid_files("camvid")
    assert (folder / "codes.txt").read_text().split() == [*camvid.CLASSES, "Void"]
    assert len((folder / "valid.txt").read_text().split()) == 2


@pytest.mark.slow
@pytest.mark.process
def test_the_gpu_script_runs_on_a_cpu(smp, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--minutes", "60"],
        capture_output=True,
        text=True,
        env={**gpu.os.environ, "HF_HUB_OFFLINE": "1", "COURSE_DATA": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    table = done.stdout.split("\n\n")[-1]
    assert [line[:42].strip() for line in table.splitlines()] == [part.name for part in gpu.TINY]
    assert "left out" not in table


@pytest.mark.process
def test_what_has_no_time_is_left_out():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--minutes", "0"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert done.stdout.count("left out: no time") == len(gpu.TINY)


def test_make_bench_prints_one_table_of_all_parts(monkeypatch, capsys):
    row = Row("work", "old", "new", [2.0, 3.0], [1.0, 1.0])
    monkeypatch.setattr(bench, "PARTS", {"one": lambda n: [row] * n, "other": lambda n: [row]})
    bench.main(rounds=2, only=None)
    printed = capsys.readouterr().out
    assert printed.count("| work | old | 2.5 s | new | 1 s | **2.5** (2.0 to 3.0) |") == 3
    assert "cores of" in printed
    assert "2 rounds" in printed


@pytest.mark.process
@pytest.mark.parametrize("name", ["training", "training_step", "recipes", "gpu", "busy_machine"])
def test_every_benchmark_says_how_it_is_called(name):
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "Usage" in done.stdout


@pytest.mark.slow
@pytest.mark.process
def test_a_class_is_graded_by_each_way_to_the_same_marks():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.grading", "--lessons", "00", "--students", "2"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.split(" | ") for line in done.stdout.splitlines() if "00_start_here" in line]
    assert [row[1] for row in rows] == ["nbgrader", "anew", "forked"]
    assert [row[7 + (row[1] == "anew")] for row in rows[:2]] == ["1", "1 |"]


@pytest.mark.slow
@pytest.mark.process
def test_a_large_class_is_made_merged_and_reported():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ten_thousand", "--sizes", "12"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1].split()[0] == "12"
    assert "1 pages" in done.stdout
