"""Lesson 07: what its text claims.

The first half needs no fastai. The second half runs the notebook's own cells on the real CamVid,
where it lies on this machine, and reads the notebook that ``course solve 07`` has run (slow).
"""

import math
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import nbformat
import numpy as np
import pytest

from course_utils.data import camvid, load
from course_utils.data.camvid_files import TRAIN, VALID, write_layout
from course_utils.errors import CourseError
from course_utils.figures import fastai as figures
from course_utils.hand_in.tasks import get_task
from tests.executed import executed, numbers


def setup_module():
    global choose_encoder, lesson_07, nn, torch
    import torch
    from torch import nn

    from course_utils.checks import lesson_07
    from course_utils.models.encoders import choose_encoder


NAME = "07_fastai_unet"
NOTEBOOK = Path(__file__).parent.parent / "solutions" / NAME / f"{NAME}.ipynb"
CELLS = {cell["id"]: cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells}

# --- what the text says, without fastai


@pytest.mark.process
def test_marked_cells_need_no_fastai():
    """The grader runs them in a process of its own: four seconds a hand-in are saved."""
    code = ["import sys", "import builtins", f"import os; os.chdir({str(NOTEBOOK.parent)!r})"]
    for cell in CELLS.values():
        if cell.cell_type == "code" and "show" not in cell.metadata.get("tags", []):
            code.append(cell.source)
    code.append("print({'fastai', 'timm'} & {name.split('.')[0] for name in sys.modules})")
    done = subprocess.run(
        [sys.executable, "-c", "\n\n".join(code)],
        capture_output=True,
        text=True,
        env={**os.environ, "NBGRADER_EXECUTION": "autograde", "COURSE_STATIC": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "set()"
    assert done.stderr == ""


@pytest.mark.long
def test_the_shares_are_those_of_the_text():
    masks = np.concatenate(
        [load("scenes", "train", count=TRAIN).masks, load("scenes", "valid", count=VALID).masks]
    )
    classes = get_task("fastai_unet", "quick").classes
    counts = np.bincount(masks.ravel(), minlength=256)
    assert 0.015 < counts[255] / masks.size < 0.025
    share = dict(zip(classes, counts[: len(classes)] / counts[: len(classes)].sum(), strict=True))
    top = sorted(share, key=share.get)[-3:]
    assert set(top) == {"road", "building", "sky"}
    assert 0.66 < sum(share[name] for name in top) < 0.74
    for name in ("pole", "sign", "fence"):
        assert 0.01 < share[name] < 0.035


def test_the_task_is_told_in_the_notebook():
    task = get_task("fastai_unet", "quick")
    assert task.train == TRAIN
    assert "200 pictures are few" in CELLS["encoder-why"].source
    assert "12 million numbers" in CELLS["hand-in"].source
    assert task.max_parameters == 12_000_000


@pytest.mark.long
def test_a_frozen_encoder_whose_batch_norms_learn_keeps_its_maps_all_along():
    encoder = choose_encoder("lite0")(pretrained=False)

    def kept(moves):
        for layer in encoder.modules():
            for weight in layer.parameters(recurse=False):
                weight.requires_grad_(moves(layer))
        tensors = []
        with torch.autograd.graph.saved_tensors_hooks(tensors.append, lambda _: None):
            encoder(torch.rand(2, 3, 48, 64))
        weights = {weight.data_ptr() for weight in encoder.parameters()}
        maps = {t.data_ptr(): t.numel() for t in tensors if t.data_ptr() not in weights}
        return sum(maps.values())

    assert kept(lambda layer: False) == 0
    frozen = kept(lambda layer: isinstance(layer, nn.BatchNorm2d))
    assert frozen > 0.95 * kept(lambda layer: True)


@pytest.mark.parametrize(("end", "factor"), [(0, 0.9), (1, 1.1)])
def test_rates_at_the_edge_of_what_is_good_pass_and_beyond_do_not(end, factor):
    bound = lesson_07.GOOD[end]
    inside = {"a": 1, "b": 2, "c": 3, "d": 4, "rate": bound}
    lesson_07.reading(inside)
    with pytest.raises(CourseError, match=r"your rate"):
        lesson_07.reading(inside | {"rate": bound * factor})


def test_the_four_points_of_a_curve_are_flat_falling_lowest_and_above_the_start():
    rates = np.geomspace(1e-7, 10, 81)
    losses = 2.5 - 0.2 / (1 + (1e-3 / rates) ** 2) + (rates / 0.3) ** 2
    a, b, c, d = (figures.points(rates, losses)[letter] for letter in "abcd")
    at = dict(zip(rates, losses, strict=True))
    assert abs(at[a] - losses[0]) < 0.001
    assert b < c == rates[losses.argmin()]
    assert at[c] < at[b] < losses[0]
    assert at[d] > losses[0]
    assert d > c


# --- the real CamVid

REAL = Path(os.environ.get("COURSE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
CAMVID = REAL / "camvid" / "CamVid"
on_camvid = pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not on this machine")
CODES = ["Sky", "Building", "Column_Pole", "Road", "Sidewalk", "Tree", "SignSymbol", "Fence"]
CODES += ["Car", "Pedestrian", "Bicyclist", "Void"]


@pytest.mark.long
@on_camvid
def test_a_frame_has_a_twin_in_a_random_split_and_none_in_the_given_one():
    train, valid = (camvid.files(name, CAMVID).load((48, 64)) for name in ("train", "valid"))
    images = np.concatenate([train.images, valid.images]).astype(np.float32)
    chosen = np.random.default_rng(0).permutation(len(images))[: len(valid)]
    given = np.arange(len(train), len(images))

    def with_a_twin(held):
        rest = np.delete(images, held, axis=0)
        apart = [np.abs(rest - image).mean((1, 2, 3)).min() for image in images[held]]
        return np.mean(np.array(apart) < 10)

    assert 0.25 < with_a_twin(chosen) < 0.4
    assert with_a_twin(given) == 0


@pytest.mark.slow
@on_camvid
def test_the_notebooks_own_cells_train_on_camvid_in_fastais_layout(tmp_path):
    """As a student with a GPU runs them, but for epochs and the number of pictures."""
    place = tmp_path / "data" / "camvid-fastai"
    parts = [
        camvid.files(name, CAMVID).load((96, 144), n) for name, n in (("train", 12), ("valid", 5))
    ]
    write_layout(place, *parts, codes=CODES)
    changes = {
        "EPOCHS = (4, 4, 1, 3) if quick else (10, 12, 10, 12)": "EPOCHS = (1, 1, 1, 1)",
        "SIZE, HALF = task.size, tuple(side // 2 for side in task.size)": (
            "SIZE, HALF = (96, 144), (48, 72)"
        ),
        'ENCODER = "lite0" if quick else "resnet34"': 'ENCODER = "lite0"',
        "num_it=60": "num_it=10",
        "num_it=12": "num_it=6",
        "fit_one_cycle(12, 3e-3)": "fit_one_cycle(1, 3e-3)",
        "chosen = [4, 9, 18]": "chosen = [0, 1, 2]",
    }
    code = "\n\n".join(cell.source for cell in CELLS.values() if cell.cell_type == "code")
    for before, after in changes.items():
        assert before in code
        code = code.replace(before, after)
    code += textwrap.dedent(
        """
        assert codes[-1] == "Void" and len(codes) == 12, codes
        assert model(torch.rand(2, 3, *SIZE)).shape == (2, 11, *SIZE)
        assert len(history) == 4
        print("trained", history)
        """
    )
    script = tmp_path / NAME / "run.py"
    script.parent.mkdir()
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        cwd=script.parent,
        env=os.environ
        | {"COURSE_PROFILE": "full", "COURSE_DATA": str(tmp_path / "data"), "COURSE_STATIC": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "trained 4 epochs" in done.stdout
    assert "from scratch: accuracy" in done.stdout
    assert (script.parent / "models" / "fastai_unet.onnx").is_file()


# --- the notebook as it was run


@pytest.fixture(scope="module")
def run(solved):
    """Each cell's printed text and the texts that stand for its figures, by cell id."""
    return executed(solved(NAME), NAME)


@pytest.mark.slow
def test_solve_07_has_all_marks_in_memory(run):
    assert not run.result.failures
    assert run.result.marks == run.result.points == 20
    assert run.result.peak_bytes < 4e9


@pytest.mark.slow
def test_the_model_is_as_good_as_the_bounds_ask_on_an_unseen_seed(run):
    (task,) = run.result.tasks.values()
    assert task["iou"] >= task["high"]


@pytest.mark.slow
def test_no_progress_bar_floods_a_training_and_nothing_goes_to_stderr(run, solved):
    for cell in nbformat.read(solved(NAME).folder / f"{NAME}.ipynb", as_version=4).cells:
        for out in cell.get("outputs", []):
            assert out.get("name") != "stderr", (cell["id"], out["text"][:200])
        if cell["id"] in ("frozen", "unfrozen", "full", "full-unfrozen", "finder", "random"):
            assert run.texts[cell["id"]].count("\n") < 20


@pytest.mark.slow
def test_masks_move_along_but_for_their_edges(run):
    differ, alone = re.findall(r"at ([\d.]+)%", run.texts["carry-figure"])
    assert float(differ) < 5
    assert float(alone) > 20


@pytest.mark.slow
def test_accuracy_with_void_is_lower(run):
    for cell in ("frozen", "unfrozen", "full", "full-unfrozen"):
        rows = re.findall(r"(?m)^ +\d+ +[\d.]+ +[\d.]+ +([\d.]+) +([\d.]+) +", run.texts[cell])
        assert rows
        assert all(0.005 < float(without) - float(counted) < 0.04 for without, counted in rows)


@pytest.mark.slow
def test_the_finder_and_its_trials_say_what_the_text_says(run):
    trials = re.findall(
        r"rate ([\d.e+-]+): loss ([\d.e+inf]+) -> ([\d.e+inf]+) in", run.texts["trials"]
    )
    fell = {round(math.log10(float(rate)), 1): (float(a), float(b)) for rate, a, b in trials}
    assert abs(fell[-5.0][1] - fell[-5.0][0]) < 0.08, "steps so small move nothing"
    assert fell[-3.0][1] < fell[-3.0][0] - 0.15, "a thousandth goes down"
    for log_rate in (-2.0, -1.5, -1.0):
        assert fell[log_rate][1] > 10, "a hundredth explodes from the start"
    lowest = float(re.search(r"c at ([\d.e+-]+)", run.texts["finder"])[1])
    assert 0.003 < lowest < 0.1  # runs differ: 0.0046, 0.012, 0.029 were seen


@pytest.mark.slow
def test_frozen_is_what_the_cells_count(run):
    assert "6,353,888 of 9,273,280 parameters move (69%)" in run.texts["moving-figure"]
    assert "9,273,280 of 9,273,280 parameters move" in run.texts["unfrozen-moving"]
    assert "fastai's are the same" in run.texts["rates-figure"]
    assert (
        "you find [5, 3, 2, 1], DynamicUnet has hooks on [5, 3, 2, 1]"
        in run.texts["find-skips-figure"]
    )


@pytest.mark.slow
def test_the_pretrained_start_is_ahead(run):
    pretrained, fresh = re.findall(r"(?:pretrained|random): ([\d., ]+)", run.texts["random"])
    pretrained, fresh = numbers(pretrained), numbers(fresh)
    assert fresh[-1] < pretrained[-1] - 0.06
    assert fresh[-1] < pretrained[1] + 0.01, "not yet where the other was after two epochs"


@pytest.mark.slow
def test_forgetting_the_normalisation_costs_much(run):
    good, forgotten = numbers(run.texts["ship-forgotten"])
    assert forgotten < 0.75 * good


@pytest.mark.slow
def test_training_parts_the_rows_of_a_square(run):
    apart = [int(n) for n in re.findall(r"differ by (\d+)%", run.texts["icnr-trained"])]
    assert len(apart) >= 4
    assert 0 < min(apart) <= max(apart) < 20
