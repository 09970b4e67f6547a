"""Lesson 08: answers to its exercises, and what its text claims."""

import json
import re
import statistics
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms.v2 import functional as v2f

from benchmarks.transfer import table
from course_utils.checks import lesson_08
from course_utils.data import load
from course_utils.errors import CourseError
from course_utils.hand_in.tasks import get_task
from course_utils.models import depths
from course_utils.models.encoders import imagenet_encoder
from course_utils.training import transfer
from tests.executed import executed

NAME = "08_transfer_learning"
ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "solutions" / NAME / f"{NAME}.ipynb"
CELLS = {cell["id"]: cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells}
RIGHT: dict = {}
WRONG: dict = {}

# --- Pets, and what transfer buys ---


def prepared_by_v2(image, trimap, mean, std):
    x = v2f.normalize(v2f.to_dtype(v2f.to_image(image), torch.float32, scale=True), mean, std)
    classes = torch.tensor([255, 0, 1, 2])
    return torch.Tensor(x), classes[torch.from_numpy(trimap).long()]


def prepared_by_numpy(image, trimap, mean, std):
    x = (image / 255.0 - np.asarray(mean)) / np.asarray(std)
    labels = (trimap - np.uint8(1)).astype(np.int64)  # where 0 becomes 255 of itself
    return torch.tensor(x.transpose(2, 0, 1), dtype=torch.float32), torch.from_numpy(labels)


def tapped_in_a_row(net, names, images):
    made, found = {}, dict(net.named_modules())
    hooks = [
        found[name].register_forward_hook(lambda *seen, at=name: made.update({at: seen[2]}))
        for name in names
    ]
    with torch.no_grad():
        net(images)
    [hook.remove() for hook in hooks]
    return tuple(made[name] for name in names)


def tapped_one_by_one(net, names, images):
    maps = []
    for name in names:
        kept = []
        hook = net.get_submodule(name).register_forward_hook(
            lambda layer, given, output, kept=kept: kept.append(output)
        )
        net(images)
        hook.remove()
        maps += kept
    return maps


class FrozenByFalse(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.body = encoder.eval()
        for weight in encoder.parameters():
            weight.requires_grad_(False)

    def train(self, mode=True):
        return super().train(False)

    @torch.no_grad()
    def forward(self, x):
        return self.body(x)


class FrozenInForward(nn.Module):
    """Sets the mode each time that it is called, and keeps train as it is."""

    def __init__(self, encoder):
        super().__init__()
        self.body = encoder.requires_grad_(False)

    def forward(self, x):
        return self.body.eval()(x)


def cached_in_place(encoder, images, batch_size=16):
    encoder.train(False)
    whole = None
    for first in range(0, len(images), batch_size):
        part = np.moveaxis(images[first : first + batch_size], 3, 1).astype(np.float32) / 255
        maps = [one.detach() for one in encoder(torch.from_numpy(part))]
        if whole is None:
            whole = [torch.empty(len(images), *one.shape[1:]).half() for one in maps]
        for all_of_them, one in zip(whole, maps, strict=True):
            all_of_them[first : first + len(part)] = one
    return whole


def cached_one_by_one(encoder, images, batch_size=16):
    encoder.eval().requires_grad_(False)
    rows = [encoder(torch.tensor(image / 255).permute(2, 0, 1)[None].float()) for image in images]
    return tuple(torch.vstack(depth).half() for depth in zip(*rows, strict=True))


def work_by_loops(encoder, decoder, images, epochs):
    learns = frozen = kept = 0
    for epoch in range(epochs):
        for _ in range(images):
            learns += encoder + decoder + 2 * (encoder + decoder)
            frozen += encoder + decoder + 2 * decoder
            kept += 3 * decoder + (encoder if epoch == 0 else 0)
    return [learns, frozen, kept]


def groups_from_the_end(parts, rate, factor):
    groups = []
    for part in reversed(parts):
        groups.append({"lr": rate, "params": part.parameters()})
        rate /= factor
    return groups[::-1]


def interval_by_statistics(scores):
    quantile = {1: 12.706, 2: 4.302653, 3: 3.182446, 4: 2.776445, 6: 2.446912}[len(scores) - 1]
    half = quantile * statistics.stdev(scores) / len(scores) ** 0.5
    return np.array([statistics.fmean(scores) - half, statistics.fmean(scores) + half])


def interval_by_scipy(scores):
    from scipy import stats

    return stats.t.interval(0.95, len(scores) - 1, np.mean(scores), stats.sem(scores))


RIGHT |= {
    "prepared": [prepared_by_v2, prepared_by_numpy],
    "tapped": [tapped_in_a_row, tapped_one_by_one],
    "frozen": [FrozenByFalse, FrozenInForward],
    "cached": [cached_in_place, cached_one_by_one],
    "work": [
        work_by_loops,
        lambda e, d, n, t: np.array([[3 * t, 3 * t], [t, 3 * t], [1, 3 * t]]) @ [e * n, d * n],
    ],
    "rate_groups": [
        groups_from_the_end,
        lambda parts, rate, factor: [
            {"params": [*part.parameters()], "lr": lr}
            for part, lr in zip(
                parts, rate * np.power(float(factor), np.arange(1 - len(parts), 1)), strict=True
            )
        ],
    ],
    "interval": [interval_by_statistics, interval_by_scipy],
}


def late_bound(net, names, images):
    maps, hooks = {}, []
    for name in names:
        hooks.append(
            net.get_submodule(name).register_forward_hook(
                lambda layer, given, made: maps.update({name: made})  # noqa: B023
            )
        )
    net(images)
    for hook in hooks:
        hook.remove()
    return [maps[name] for name in names]


def hooks_that_stay(net, names, images):
    maps = {}
    for name in names:
        net.get_submodule(name).register_forward_hook(
            lambda *seen, at=name: maps.update({at: seen[2]})
        )
    net(images)
    return [maps[name] for name in names]


def one_argument(net, names, images):
    hooks = [net.get_submodule(name).register_forward_hook(lambda made: None) for name in names]
    try:
        net(images)
    finally:
        [hook.remove() for hook in hooks]


class Recursive(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def train(self, mode=True):
        self.train(mode)


class NoSuper(nn.Module):
    def __init__(self, encoder):
        self.encoder = encoder


class NoMode(FrozenByFalse):
    def train(self):
        return super().train(False)


class ReturnsNothing(FrozenByFalse):
    def train(self, mode=True):
        super().train(False)


class OtherOutput(FrozenByFalse):
    def forward(self, x):
        return self.body(x).mean()


WRONG |= {
    "prepared": {
        "must return two tensors": lambda image, trimap, mean, std: prepared_by_v2(
            image, trimap, mean, std
        )[0],
        "x is a ndarray": lambda image, trimap, mean, std: (image / 255, trimap),
        "x is float64; it must be float32": lambda image, trimap, mean, std: (
            torch.from_numpy(image / 255),
            torch.from_numpy(trimap),
        ),
        "labels is uint8; it must be int64": lambda *given: (
            prepared_by_v2(*given)[0],
            torch.from_numpy(given[1] - 1),
        ),
        r"bring them to the shape \(3, 1, 1\)": lambda image, trimap, mean, std: (
            torch.from_numpy(image).permute(2, 0, 1) / 255 - torch.tensor(mean)
        ),
        "x .3, H, W. float32": lambda *given: (
            prepared_by_v2(*given)[0].permute(1, 2, 0),
            prepared_by_v2(*given)[1],
        ),
    },
    "tapped": {
        "no map was kept under a name": late_bound,
        r"leaves 3 hook\(s\) in the network": hooks_that_stay,
        "a hook is called with three arguments": one_argument,
        "get_submodule.name. goes the way": lambda net, names, images: [
            getattr(net, name) for name in names
        ],
        "it returned a dict": lambda net, names, images: {},
        "returns 1 maps for 3 names": lambda net, names, images: [net(images)],
    },
    "frozen": {
        "train calls itself": Recursive,
        r"call super\(\).__init__\(\) first": NoSuper,
        "train is called with a mode": NoMode,
        "it must `return self`": ReturnsNothing,
        "must give what encoder.x. gives": OtherOutput,
        "must be a class Frozen": lambda encoder: lambda x: encoder(x),
    },
    "cached": {
        "hangs on the encoder": lambda encoder, images, batch_size: [
            one * encoder.first[0].weight.mean() for one in cached_in_place(encoder, images)
        ],
        "7 images at once|6 images at once": lambda encoder, images, batch_size: cached_in_place(
            encoder, images, 99
        ),
        "has moved batch norm's running mean": lambda encoder, images, batch_size: (
            cached_in_place(encoder.train(), images, batch_size)
            if encoder.train() is None
            else [one.detach().half() for one in encoder.train()(batch(images[:batch_size]))]
        ),
        "keep float16": lambda *given: [one.float() for one in cached_in_place(*given)],
        "each is computed once": lambda encoder, images, batch_size: (
            cached_in_place(encoder, images, batch_size),
            cached_in_place(encoder, images, batch_size),
        )[0],
        "wanted is one tensor a depth": lambda encoder, images, batch_size: [
            one for k in range(len(images)) for one in cached_in_place(encoder, images[k : k + 1])
        ],
        "colour first": lambda encoder, images, batch_size: encoder(torch.from_numpy(images) / 255),
    },
    "work": {"three numbers: all learns": lambda e, d, n, t: 3 * (e + d) * n * t},
    "rate_groups": {
        "must return a list of dictionaries": lambda parts, rate, factor: [rate] * len(parts),
        "an optimizer knows no other names": lambda parts, rate, factor: [
            {"params": part.parameters(), "rate": rate} for part in parts
        ],
        "a weight stands in two groups": lambda parts, rate, factor: [
            {"params": parts[0].parameters(), "lr": rate} for _ in parts
        ],
        r"part.parameters\(\), not the part": lambda parts, rate, factor: [
            {"params": part, "lr": rate} for part in parts
        ],
    },
    "interval": {"two numbers, the lower end": lambda scores: np.mean(scores)},
}


def batch(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


# --- what the text says about depths, frozen encoders and caches


@pytest.fixture(scope="module")
def lite0():
    name, weights = imagenet_encoder("lite0")
    return depths.encoder_of(name, weights).eval()


@pytest.mark.parametrize("name", depths.NAMED)
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


@pytest.mark.parametrize("name", depths.NAMED)
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


@pytest.mark.parametrize("name", depths.NAMED)
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


@pytest.mark.parametrize("way", transfer.WAYS)
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


RECORD = transfer.record()


@pytest.mark.parametrize("data", RECORD)
def test_buys_the_record_is_whole(data):
    assert set(RECORD[data]) == set(transfer.WAYS)
    for by_count in RECORD[data].values():
        assert set(by_count) == {8, 32, 128}
        assert all(len(scores) >= 3 for scores in by_count.values())


# --- the notebook as it was run


@pytest.fixture(scope="module")
def run(solved):
    """Each cell's printed text and the texts that stand for its figures, by cell id."""
    return executed(solved(NAME), NAME)


def numbers(text):
    return [float(number) for number in re.findall(r"[-+]?\d+\.\d+", text)]


@pytest.mark.slow
def test_pets_reach_their_bounds_on_an_unseen_seed(run):
    task = run.result.tasks["pets"]
    assert task["iou"] >= task["high"]


@pytest.mark.slow
def test_pets_untrained_is_far_below_a_third(run):
    score, accuracy = numbers(run.texts["pets-untrained"])[:2]
    assert 0.03 < score < 0.28
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
def test_buys_what_is_measured_in_the_lesson_lies_where_the_record_does(run):
    rows = re.findall(r"(?m)^(\w+, \w+), (\d+) images: mean IoU (\d\.\d+)", run.texts["buys-run"])
    assert len(rows) == 6
    for way, count, score in rows:
        scores = RECORD["drawn_pets"][way][int(count)]
        assert min(scores) - 0.05 < float(score) < max(scores) + 0.05
