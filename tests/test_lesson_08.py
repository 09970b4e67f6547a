"""Lesson 08: what its text claims.

The first half trains nothing. The second reads the notebook that ``course solve 08`` has run.
"""

import itertools
import json
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

from course_utils.data import load
from course_utils.errors import CourseError
from course_utils.hand_in.tasks import get_task
from tests.executed import executed, numbers
from tests.test_data_sets import make_pets, make_supervisely


def setup_module():
    global depths, encoders, imagenet_encoder, interval_by_scipy, lesson_08, nn, Normalised
    global table, tapped_one_by_one, torch, transfer, v2
    import torch
    from torch import nn
    from torchvision.transforms import v2

    from benchmarks.transfer import table
    from course_utils.checks import lesson_08
    from course_utils.models import depths, encoders
    from course_utils.models.encoders import imagenet_encoder
    from course_utils.models.normalised import Normalised
    from course_utils.training import transfer
    from tests.wrong_answers.lesson_08 import interval_by_scipy, tapped_one_by_one


NAME = "08_transfer_learning"
ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "solutions" / NAME / f"{NAME}.ipynb"
CELLS = {cell["id"]: cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells}
ENCODERS = ["tu-tf_efficientnet_lite0", "mobilenet_v2"]
WAYS = [
    "pretrained, frozen",
    "random, frozen",
    "fine-tuned",
    "fine-tuned, slower below",
    "from scratch",
]


def test_what_is_tested_by_its_name_is_all_there_is():
    assert list(depths.NAMED) == ENCODERS
    assert list(transfer.WAYS) == WAYS


# --- the encoder and the net


def test_every_weight_of_lite0_fits_smps_encoder_and_its_maps_are_timms():
    import segmentation_models_pytorch as smp

    name, weights = imagenet_encoder("lite0")
    net = smp.Unet(name, encoder_weights=None, classes=1).eval()
    random = {key: value.clone() for key, value in net.encoder.state_dict().items()}
    assert set(random) == set(weights)
    net.encoder.load_state_dict(weights)
    kernels = [key for key, value in random.items() if value.ndim > 1]
    assert not any(torch.equal(random[key], weights[key]) for key in kernels)
    x = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, *maps = net.encoder(x)
        whole = encoders.lite0().eval()
        for layer in whole:
            x = layer(x)
            for found in [m for m in maps if m.shape == x.shape]:
                assert torch.equal(found, x)
                maps = [m for m in maps if m is not found]
    assert not maps, "each map of smp's encoder is one of timm's"


def test_a_key_that_does_not_fit_stops_the_loading():
    import segmentation_models_pytorch as smp

    name, weights = imagenet_encoder("lite0")
    encoder = smp.encoders.get_encoder(name, weights=None)
    first = next(iter(weights))
    with pytest.raises(RuntimeError, match="Missing key"):
        encoder.load_state_dict({key: value for key, value in weights.items() if key != first})


def test_an_encoder_that_cannot_be_had_falls_back_in_one_line(monkeypatch, capsys):
    from segmentation_models_pytorch import encoders as smps

    real = smps.get_encoder

    def offline(name, weights=None, **more):
        if weights:
            raise OSError("no route to huggingface.co and no copy here")
        return real(name, weights=weights, **more)

    monkeypatch.setattr(smps, "get_encoder", offline)
    name, weights = imagenet_encoder("efficientnet-b3")
    assert name == "tu-tf_efficientnet_lite0"
    assert len(weights) > 200
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines()[-1] == (
        "The weights of efficientnet-b3 cannot be had here (no route to huggingface.co): the "
        "lesson goes on with lite0, whose weights came with the course."
    )
    with pytest.raises(CourseError, match=r"smp has no encoder 'b3'.*efficientnet-b3"):
        imagenet_encoder("b3")


def test_the_normalisation_is_inside_of_the_net():
    net = Normalised(nn.Identity())
    x = torch.rand(2, 3, 4, 5)
    wanted = v2.functional.normalize(x, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(net(x), wanted)
    assert set(net.state_dict()) == {"mean", "std"}


@pytest.mark.process
def test_marked_cells_need_neither_smp_nor_timm():
    """The grader runs them in a process of its own: seconds a hand-in are saved."""
    code = [f"import os, sys; os.chdir({str(NOTEBOOK.parent)!r})"]
    for cell in CELLS.values():
        if cell.cell_type == "code" and "show" not in cell.metadata.get("tags", []):
            code.append(cell.source)
    heavy = {"segmentation_models_pytorch", "timm", "fastai"}
    code.append(f"print({heavy} & {{name.split('.')[0] for name in sys.modules}})")
    done = subprocess.run(
        [sys.executable, "-c", "\n\n".join(code)],
        capture_output=True,
        text=True,
        env={**os.environ, "NBGRADER_EXECUTION": "autograde", "COURSE_STATIC": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "set()"
    assert done.stderr == ""


# --- what the text says, without training


def cell(number):
    return CELLS[number].source


def test_a_cut_of_logits_at_one_half_asks_for_062():
    assert round(1 / (1 + math.exp(-0.5)), 2) == 0.62
    assert "a probability of 0.62" in cell("accuracy-why")


@pytest.mark.long
def test_nobody_is_right_at_three_pixels_of_four():
    task = get_task("people", "quick")
    masks = load(task.data, "valid", size=task.size, count=40).masks
    assert 0.72 < (masks == 0).mean() < 0.79


def test_the_bounds_leave_the_floor_far_below():
    for profile in ("quick", "full"):
        task = get_task("people", profile)
        assert task.judged == ("person",)
        assert all(side % 32 == 0 for side in task.size), "smp wants multiples of 32"
        assert task.floor <= task.high / 2


# --- under full


def run_under_full(place, names, changes, also=""):
    """Run code cells as a student with a GPU runs them, the changes made, in a lesson's folder."""
    code = "\n\n".join(CELLS[name].source for name in names if CELLS[name].cell_type == "code")
    for before, after in changes.items():
        assert before in code
        code = code.replace(before, after)
    script = place / NAME / "run.py"
    script.parent.mkdir()
    script.write_text(code + textwrap.dedent(also))
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        cwd=script.parent,
        env=os.environ
        | {"COURSE_PROFILE": "full", "COURSE_DATA": str(place / "data"), "COURSE_STATIC": "1"}
        | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(place / "hub"), "CUDA_VISIBLE_DEVICES": ""}
        | {"TORCH_HOME": str(place / "torch")},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_notebooks_own_cells_train_on_the_supervisely_layout(tmp_path):
    """But for epochs, pictures, and the encoder, which is not to be had offline."""
    make_supervisely(tmp_path / "data")
    told = run_under_full(
        tmp_path,
        [*CELLS][: [*CELLS].index("export") + 1],
        {
            "BATCH = 16 if quick else 64": "BATCH = 8",
            "EPOCHS = 7 if quick else 10": "EPOCHS = 1",
            "chosen = [4, 9, 18]": "chosen = [0, 1, 2]",
            "valid.images[9], valid.masks[9], logits[9, 0]": (
                "valid.images[1], valid.masks[1], logits[1, 0]"
            ),
        },
        """
        assert train.name == "supervisely_person" and SIZE == (256, 192), (train, SIZE)
        assert model(torch.rand(2, 3, *SIZE)).shape == (2, 2, *SIZE)
        assert len(history) == 1
        print("trained", history)
        """,
    )
    assert "The weights of efficientnet-b3 cannot be had here" in told
    assert "All keys matched successfully" in told
    assert "trained 1 epochs" in told
    assert (tmp_path / NAME / "models" / "people.onnx").is_file()


@pytest.mark.slow
def test_the_notebooks_own_cells_train_on_the_pets_layout(tmp_path):
    make_pets(tmp_path / "data")
    names, begins = [*CELLS], [*CELLS].index("pets-settings")
    told = run_under_full(
        tmp_path,
        ["imports", "settings", "net", *names[begins : names.index("pets-scores") + 1]],
        {
            "(20, 64, 2e-3)": "(1, 8, 2e-3)",
            "imagenet_encoder(ENCODER)": 'imagenet_encoder("lite0")',
            "are_pet, five, 6": "are_pet, five, 1",
            "export(": "from course_utils.hand_in.export import export\nexport(",
            "pets_valid[6]": "pets_valid[1]",
            "some = [2, 6, 14, 17]": "some = [0, 1]",
            "chosen = [12, 14, 19]": "chosen = [0, 1]",
        },
        """
        assert pets_train.name == "pets" and pets_task.size == (128, 128)
        assert pets_net(torch.rand(2, 3, 128, 128)).shape == (2, 3, 128, 128)
        print("trained", pets_history)
        """,
    )
    assert "mobilenet_v2 cannot be had here" in told
    assert "the same maps as the course's own: True" in told
    assert "trained 1 epochs" in told
    assert (tmp_path / NAME / "models" / "pets.onnx").is_file()


# --- the notebook as it was run


@pytest.fixture(scope="module")
def run(solved):
    """Each cell's printed text and the texts that stand for its figures, by cell id."""
    return executed(solved(NAME), NAME)


@pytest.mark.slow
def test_solve_08_has_all_marks_in_memory(run):
    assert not run.result.failures
    assert run.result.marks == run.result.points
    assert run.result.peak_bytes < 4e9


@pytest.mark.slow
def test_the_models_are_as_good_as_the_bounds_ask_on_an_unseen_seed(run):
    for task in run.result.tasks.values():
        assert task["iou"] >= task["high"]
        assert task["floor"] <= task["iou"] / 2


@pytest.mark.slow
def test_nothing_floods_the_output_or_goes_to_stderr(run, solved):
    for one in nbformat.read(solved(NAME).folder / f"{NAME}.ipynb", as_version=4).cells:
        for out in one.get("outputs", []):
            assert out.get("name") != "stderr", (one["id"], out["text"][:200])
        told = "".join(out.get("text", "") for out in one.get("outputs", []))
        assert told.count("\n") < 40, one["id"]  # a bar is one line: "\r" goes back to its start


@pytest.mark.slow
def test_all_keys_of_the_encoder_were_loaded(run):
    assert "All keys matched successfully" in run.texts["net"]


@pytest.mark.slow
def test_the_mean_over_batches_is_too_low_and_lowest_for_single_pictures(run):
    whole, *averaged = numbers(run.texts["dice-figure"])
    assert averaged[0] == min(averaged)
    assert averaged[0] < whole - 0.01
    assert max(averaged) <= whole + 0.0011


@pytest.mark.slow
def test_an_untrained_net_is_sure_and_wrong(run):
    loss, accuracy, dice = numbers(run.texts["untrained"])
    assert loss > 0.69
    assert accuracy < 0.8
    assert dice < 0.4


@pytest.mark.slow
def test_it_learns_and_half_is_near_the_best_cut(run):
    loss, _, accuracy, dice = [
        numbers(line) for line in run.texts["train"].splitlines() if line.startswith("epoch")
    ][-1]
    assert accuracy > 0.85
    assert dice > 0.7
    assert loss < 0.4
    _, at_half, _, best = numbers(run.texts["cut"])[:4]
    assert best - at_half < 0.02


@pytest.mark.slow
def test_the_two_lies_and_the_rotation_are_what_the_image_of_itself_shows(run):
    shares = [float(n) for n in re.findall(r"at +([\d.]+)%", run.texts["misaligned-figure"])]
    flip, alone, by_luck, shift, rotated, crop = shares
    assert flip == shift == crop == 0
    assert 0.35 * alone < by_luck < 0.65 * alone
    assert 1 < rotated < 8
    assert alone > 40


@pytest.mark.slow
def test_masks_resized_smoothly_are_what_the_text_says(run):
    others, strange = re.findall(
        r"([\d.]+)% (?:of the labels are others|are no class)", run.texts["mask-figure"]
    )
    assert 11 < float(others) < 14
    assert 0.5 < float(strange) < 4
    assert re.search(r"mean IoU of 0\.(6[5-9]|7[0-4])", run.texts["mask-figure"])


@pytest.mark.slow
def test_a_lie_costs_dice_and_raises_nothing(run):
    none, flip, alone = (
        numbers(re.search(rf" {name}: ([\d., ]+)", run.texts["lies-train"])[1])[-1]
        for name in ("none", "flip", "flip, image alone")
    )
    assert alone < 0.7 * none
    assert -0.05 < flip - none < 0.1


@pytest.mark.slow
def test_a_split_at_random_flatters_who_only_remembers(run):
    (near, copied), (far, honest) = (
        (float(a), float(b))
        for a, b in re.findall(
            r"image (\d+) grey .*mean IoU of ([\d.]+)", run.texts["audit-figure"]
        )[:2]
    )
    assert near < 0.7 * far
    assert 0.6 < copied < 0.7
    assert honest < 0.2
    assert get_task("unet", "quick").floor == 0.32


# --- what the text says about depths, frozen encoders and caches


@pytest.fixture(scope="module")
def lite0():
    name, weights = imagenet_encoder("lite0")
    return depths.encoder_of(name, weights).eval()


@pytest.mark.parametrize("name", ENCODERS)
def test_pets_the_five_depths_have_the_channels_and_strides_of_the_table(name):
    encoder = depths.encoder_of(name).eval()
    with torch.no_grad():
        shapes = [tuple(one.shape) for one in encoder(torch.zeros(1, 3, 128, 128))]
    rows = re.findall(r"(?m)^\| (\d+) \| .* \| (\d+), (\d+) \|$", CELLS["pets-depths-why"].source)
    column = 1 if name == "mobilenet_v2" else 2
    told = [(1, int(row[column]), 128 // int(row[0]), 128 // int(row[0])) for row in rows]
    assert shapes == told
    for layer in depths.NAMED[name]:
        assert f"`{layer.removeprefix('model.')}`" in CELLS["pets-depths-why"].source


@pytest.mark.parametrize("name", ENCODERS)
def test_pets_four_depths_are_expansions_before_the_map_is_halved(name):
    layers = dict(depths.encoder_of(name).net.net.named_modules())
    for place in depths.NAMED[name][:4]:
        block = layers[place.rpartition(".")[0].removesuffix(".conv")]
        convolutions = [one for one in block.modules() if isinstance(one, nn.Conv2d)]
        expand, filters, project = convolutions
        assert expand.out_channels == 6 * expand.in_channels
        assert filters.stride == (2, 2)
        assert filters.groups == filters.in_channels == expand.out_channels
        assert project.out_channels < expand.out_channels


def test_pets_the_five_maps_are_what_hooks_see(lite0):
    images = torch.rand(2, 3, 64, 96)
    names = [f"net.net.{name}" for name in lite0.net.names]
    with torch.no_grad():
        for mine, theirs in zip(
            tapped_one_by_one(lite0, names, images), lite0(images), strict=True
        ):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", ENCODERS)
def test_pets_parts_hold_each_weight_once_from_the_image_on(name):
    net = depths.encoder_of(name).net
    held = [id(weight) for part in net.parts() for weight in part]
    assert held == [id(weight) for weight in net.parameters()]
    for place, part in zip(net.names, net.parts(), strict=True):
        last = list(net.net.get_submodule(place).parameters())[-1]
        assert any(weight is last for weight in part)


def test_pets_an_unknown_encoder_or_layer_is_one_line():
    with pytest.raises(CourseError, match=r"no five layers of 'resnet34' are named"):
        depths.encoder_of("resnet34")
    with pytest.raises(CourseError, match=r"no layer 'blocks.9'"):
        depths.FiveDepths(nn.Conv2d(3, 3, 1), ["blocks.9"])


def test_pets_a_mask_as_it_is_on_disk_looks_black():
    trimap = load("drawn_pets", "valid", count=1).masks + 1
    assert set(np.unique(trimap)) == {1, 2, 3}
    assert trimap.max() / 255 < 0.02


def test_pets_the_outline_is_five_pixels_wide():
    """Straight through an upright edge."""
    from course_utils.data.drawn_pets import trimap

    animal = np.zeros((128, 128), bool)
    animal[:, 64:] = True
    row = trimap(animal)[64].tolist()
    # the band is grown on one side and shrunk on the other
    assert row.count(2) in (4, 5, 6)
    assert "five pixels of 128" in CELLS["pets-look-why"].source


def test_pets_bounds_and_floor_fit_each_other():
    for profile in ("quick", "full"):
        task = get_task("pets", profile)
        assert task.size == (128, 128)
        assert len(task.classes) == 3
        assert task.floor <= task.high / 2 + 0.02


# --- what is trained alike


@pytest.fixture
def few():
    return load("drawn_pets", "train", size=(64, 64), count=5)


def small_encoder(pretrained):
    """Return a net that has what a FiveDepths has: five maps and their parts."""

    class Five(nn.Module):
        def __init__(self):
            super().__init__()
            pairs = [(3, 4), (4, 5), (5, 6), (6, 7), (7, 8)]
            self.layers = nn.ModuleList(
                nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.BatchNorm2d(o), nn.ReLU())
                for i, o in pairs
            )

        def forward(self, x):
            maps = []
            for layer in self.layers:
                x = layer(x)
                maps.append(x)
            return maps

        def parts(self):
            return list(self.layers)

    whole = nn.Sequential()
    whole.net = Five()
    whole.forward = lambda x: whole.net(x)
    if pretrained:
        for weight in whole.parameters():
            nn.init.constant_(weight, 0.05)
    return whole


def test_buys_each_way_of_a_seed_begins_with_the_same_decoder(few):
    starts = [
        transfer.begin(way, small_encoder, few, seed=3)[1].state_dict()
        for way in transfer.WAYS.values()
    ]
    for other in starts[1:]:
        assert all(torch.equal(starts[0][name], other[name]) for name in other)
    other = transfer.begin(transfer.WAYS["from scratch"], small_encoder, few, seed=4)[1]
    assert not torch.equal(other.head.weight, starts[0]["head.weight"])


def test_buys_kept_maps_are_those_of_the_image_or_its_mirror_image(few):
    encoder = small_encoder(False).eval()
    kept, live = (make(encoder, few.images) for make in (transfer.kept_maps, transfer.live_maps))
    chosen, flipped = torch.tensor([4, 0, 4]), torch.tensor([True, False, False])
    for one, other in zip(kept(chosen, flipped), live(chosen, flipped), strict=True):
        assert torch.allclose(one, other, atol=5e-3)


def test_buys_all_images_are_seen_equally_often_and_alike_for_each_way():
    steps = list(transfer.batches(12, steps=9, batch_size=4, seed=1))
    seen = torch.cat([chosen for chosen, _ in steps])
    assert torch.bincount(seen).tolist() == [3] * 12
    again = list(transfer.batches(12, steps=9, batch_size=4, seed=1))
    assert all(
        torch.equal(a, b)
        for one, two in zip(steps, again, strict=True)
        for a, b in zip(one, two, strict=True)
    )


@pytest.mark.parametrize("way", WAYS)
def test_buys_what_is_frozen_stays_and_what_learns_moves(way, few):
    kind = transfer.WAYS[way]
    before = transfer.begin(kind, small_encoder, few, seed=0)[0].state_dict()
    net = transfer.train_way(
        kind, small_encoder, few, transfer.rates_by_part, seed=0, steps=3, batch_size=4
    )
    after = net[0].state_dict()
    same = [torch.equal(before[name], after[name]) for name in before]
    assert all(same) if kind.frozen else not all(same)
    assert not net.training


def test_buys_a_random_encoder_that_is_frozen_has_the_statistics_of_its_images(few):
    encoder, _ = transfer.begin(transfer.WAYS["random, frozen"], small_encoder, few, seed=0)
    maps = encoder.net.layers[0][:2](transfer.as_input(few.images, torch.device("cpu")))
    assert maps.mean((0, 2, 3)).abs().max() < 0.05
    assert (maps.var((0, 2, 3)) - 1).abs().max() < 0.05


def test_buys_slower_below_slows_each_part_once_more():
    kind = transfer.WAYS["fine-tuned, slower below"]
    parts = [nn.Conv2d(1, k, 1) for k in range(1, 7)]
    mine = transfer.rates_by_part(parts, 5e-3, kind.factor)
    theirs = lesson_08.rate_groups.right(parts, 5e-3, kind.factor)
    assert [group["lr"] for group in mine] == pytest.approx([group["lr"] for group in theirs])


def test_buys_of_one_seed_few_images_are_among_many(few):
    small, large = (transfer.drawn(few, count, seed=2) for count in (2, 4))
    assert np.array_equal(small.images, large.images[:2])
    assert not np.array_equal(small.images, transfer.drawn(few, 2, seed=3).images)


# --- the record, and what the lesson says of it


def test_buys_the_page_has_the_record():
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    for data, scores in json.loads(transfer.RECORD.read_text("utf-8")).items():
        assert table(data, scores) in page


@pytest.fixture(scope="module")
def record():
    return transfer.record()


def test_buys_the_record_is_whole(record):
    for data, counts in (("drawn_pets", {8, 32, 128}), ("people", {8})):
        assert set(record[data]) == set(transfer.WAYS)
        for by_count in record[data].values():
            assert set(by_count) >= counts
            assert all(len(scores) >= 3 for scores in by_count.values())


def test_buys_with_few_photographs_of_people_two_differences_of_ten_are_sure(record):
    told, scores = CELLS["buys-people"].source, record["people"]
    means = [f"{means_of(scores, way)[8]:.2f}" for way in scores]
    assert f"reach a mean IoU of {min(means)} to {max(means)}" in told
    apart = {
        pair: np.subtract(*(scores[way][8] for way in pair))
        for pair in itertools.combinations(scores, 2)
    }
    assert len(apart) == 10
    sure = [pair for pair, values in apart.items() if abs(values.mean()) >= half_of(values)]
    assert sure == [
        ("random, frozen", "fine-tuned"),
        ("random, frozen", "fine-tuned, slower below"),
    ]
    behind = [f"{-apart[pair].mean():.3f}" for pair in sure]
    assert f"behind both fine-tuned ways, by {' and '.join(behind)}" in told


# --- the notebook as it was run


@pytest.mark.slow
def test_pets_reach_their_bounds_on_an_unseen_seed(run):
    task = run.result.tasks["task_pets"]
    assert task["iou"] >= task["high"]


@pytest.mark.slow
def test_pets_untrained_is_far_below_a_third(run):
    score, accuracy = numbers(run.texts["pets-untrained"])[:2]
    assert 0.03 < score < 0.15
    assert accuracy > score


@pytest.mark.slow
def test_pets_deep_maps_say_most_about_pets_and_random_ones_nothing_more(run):
    text = run.texts["pets-tapped-figure"]
    assert "the same maps as the course's own: True" in text
    told = [float(x) for x in re.findall(r"stride \d+, \d+ x \d+: (\d\.\d\d)", text)]
    assert told[3] == max(told) > 0.5
    assert max(told[:3]) < 0.4
    random = numbers(re.search(r"with random weights: (.*)", text)[1])
    assert max(random) < 0.3


@pytest.mark.slow
def test_pets_the_border_comes_last_and_stays_lowest(run):
    scores = re.search(
        r"pet (\d\.\d+), background (\d\.\d+), border (\d\.\d+)", run.texts["pets-scores"]
    )
    pet, background, border = map(float, scores.groups())
    assert border < pet < background


@pytest.mark.slow
def test_pets_the_film_begins_untrained_and_gets_better(run):
    told = re.search(r"Mean IoU of the picture: (.*)\.", run.texts["pets-film"])[1]
    assert told.startswith("untrained")
    scores = numbers(told)
    assert len(scores) == 6
    assert scores[0] < scores[1] < scores[-1]


@pytest.mark.slow
def test_pets_count_and_clock_agree_that_kept_maps_are_cheapest(run):
    text = run.texts["pets-work-figure"]
    rows = re.findall(r"([\d,]+) billion multiply-adds, ([\d.]+) s", text)
    counted = [float(a.replace(",", "")) for a, _ in rows]
    measured = [float(b) for _, b in rows]
    assert counted == sorted(counted, reverse=True)
    assert measured == sorted(measured, reverse=True)
    assert measured[1] / measured[0] < counted[1] / counted[0], "the clock is kinder to freezing"


@pytest.mark.slow
def test_pets_statistics_that_drift_cost_something(run):
    trained, drifted = numbers(run.texts["pets-drift"])
    assert drifted < trained - 0.01


@pytest.mark.slow
def test_pets_most_mistakes_lie_near_the_border(run, solved):
    from scipy.ndimage import binary_dilation

    from course_utils.hand_in.inference import open_model, predict

    task = get_task("pets", "quick")
    valid = task.load("valid")
    content = (solved(NAME).folder / "models" / "pets.onnx").read_bytes()
    found = predict(open_model(content), valid.images, len(task.classes))
    near = np.stack([binary_dilation(mask == 2, iterations=2) for mask in valid.masks])
    wrong = found != valid.masks
    assert (wrong & near).sum() / wrong.sum() > 0.5
    assert near.mean() < 0.3


@pytest.mark.slow
def test_buys_what_is_measured_in_the_lesson_lies_where_the_record_does(run, record):
    rows = re.findall(r"(?m)^(.+), (\d+) images: mean IoU (\d\.\d+)", run.texts["buys-run"])
    assert len(rows) == 9
    for way, count, score in rows:
        scores = record["drawn_pets"][way][int(count)]
        assert min(scores) - 0.05 < float(score) < max(scores) + 0.05


def means_of(scores, way):
    return {count: float(np.mean(values)) for count, values in scores[way].items()}


def half_of(values):
    low, high = interval_by_scipy(values)
    return (high - low) / 2


def test_buys_what_the_lesson_reads_off_the_record_is_in_it(record):
    told, scores = CELLS["buys-read"].source, record["drawn_pets"]
    frozen, random, scratch = (
        means_of(scores, way) for way in ("pretrained, frozen", "random, frozen", "from scratch")
    )
    ahead = {count: f"{frozen[count] - random[count]:.2f}" for count in frozen}
    assert f"by {ahead[8]} with 8 images, and by {ahead[32]} with 32 and with 128" in told
    assert ahead[32] == ahead[128]
    for count in frozen:
        pairs = zip(
            scores["pretrained, frozen"][count], scores["random, frozen"][count], strict=True
        )
        assert all(one > other for one, other in pairs)
    assert f"8 images give {frozen[8]:.2f}; from scratch, 128 give {scratch[128]:.2f}" in told
    assert min(scores["pretrained, frozen"][8]) > max(scores["from scratch"][128])
    ways = [means_of(scores, way) for way, kind in transfer.WAYS.items() if kind.pretrained]
    apart = max(max(way[n] for way in ways) - min(way[n] for way in ways) for n in frozen)
    assert f"the means differ by {apart:.2f} at most" in told
    more = [f"{scratch[count] - random[count]:.2f}" for count in frozen]
    assert f"({min(more)} to {max(more)})" in told


def test_buys_pairs_of_one_start_are_surer_than_their_means(record):
    told, scores = CELLS["buys-paired-why"].source, record["drawn_pets"]
    frozen, slower = (
        np.array(scores[way][128]) for way in ("pretrained, frozen", "fine-tuned, slower below")
    )
    apart = frozen - slower
    assert f"by {apart.mean():.3f}, give or take {half_of(apart):.3f}" in told
    assert {f"{half_of(one):.2f}" for one in (frozen, slower)} <= {"0.06", "0.07"}
    few = [np.array(scores[way][8]) for way in ("pretrained, frozen", "random, frozen")]
    assert half_of(few[0] - few[1]) > max(map(half_of, few))
