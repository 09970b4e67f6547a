"""Lesson 03 says what its solution computes, and keeps its promises of time, memory and IoU.

The first half runs the solution's own functions in this process. The second half reads the
notebook that ``course solve 03`` has run, training included (slow).
"""

import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import binom

from course_utils.data import VOID
from course_utils.hand_in import sliding
from tests.executed import executed, without_pictures


def setup_module():
    global nn, torch
    import torch
    from torch import nn


NAME = "03_sliding_window"
NOTEBOOK = Path(__file__).parent.parent / "solutions" / NAME / f"{NAME}.ipynb"
CELLS = {cell["id"]: cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells}
PARTS = [
    *("imports", "settings", "patch-at", "sampling-shares", "sampling-figure", "draw-centres"),
    *("drawer", "map-sizes", "patch-net", "net-figure", "multiply-adds", "cost", "seconds"),
    *("slide", "correct-prior"),
]


@pytest.fixture(scope="module")
def lesson():
    """The solution's functions, and what its cells up to the training compute."""
    namespace = {}
    with pytest.MonkeyPatch.context() as patch:
        without_pictures(patch)
        patch.delenv("COURSE_PROFILE", raising=False)
        for name in PARTS:
            exec(compile(CELLS[name].source, name, "exec"), namespace)
    return SimpleNamespace(**namespace)


def text(*names):
    return " ".join(" ".join(CELLS[name].source.split()) for name in names)


@pytest.mark.long
def test_the_text_says_how_often_256_patches_show_a_class(lesson):
    balanced = lesson.sampling_shares(lesson.shares, 0.5)
    counts = {
        name: (round(256 * a), round(256 * b))
        for name, a, b in zip(lesson.classes, lesson.shares, balanced, strict=True)
    }
    assert counts["road"] == (73, 48)
    assert counts["building"][0] == 61
    assert counts["pole"] == (8, 16)
    assert counts["sign"] == (5, 12)
    assert "256 patches of a step 73 show road, 61 a building, 8 a pole and 5 a sign" in text(
        "sampling-why"
    )
    assert "16 poles and 12 signs. Road falls from 73 to 48" in text("sampling-picture")
    gains = balanced / lesson.shares
    assert (np.argsort(gains) == np.argsort(-lesson.shares)).all()  # "the rarer, the more"
    pole = lesson.classes.index("pole")
    assert round(1 / balanced[pole]) == 16  # "one in sixteen"
    assert round(1 / lesson.shares[pole]) in (30, 31)  # "one in thirty"
    assert 7.0e6 < (lesson.train.masks != VOID).sum() < 7.5e6  # "seven million"


@pytest.mark.long
def test_the_text_says_how_many_of_sixteen_patches_are_road(lesson):
    road = lesson.classes.index("road")
    chance = lesson.chances["train"][road]
    _, labels = lesson.drawer(lesson.WINDOW)(lesson.train, 16, np.random.default_rng(1))
    assert (labels == road).sum() == 6
    assert round(100 * chance) == 19
    assert round(16 * chance) == 3
    assert round(100 * binom.sf(5, 16, chance)) == 6  # of a hundred draws show six or more


@pytest.mark.long
def test_what_is_drawn_is_labelled_by_its_centre(lesson):
    patches, labels = lesson.drawer(9)(lesson.train, 200, np.random.default_rng(0))
    assert patches.shape == (200, 3, 9, 9)
    centres = lesson.draw_centres(
        lesson.places["train"], lesson.chances["train"], 200, np.random.default_rng(0)
    )
    for patch, label, (n, row, column) in zip(patches, labels, centres, strict=True):
        assert label == lesson.train.masks[n, row, column] != VOID
        np.testing.assert_array_equal(patch[:, 4, 4], lesson.train.images[n, row, column])


@pytest.mark.long
def test_the_text_says_where_the_weights_and_the_multiply_adds_are(lesson):
    weights = [conv.weight.numel() for conv in lesson.convolutions]
    assert sum(p.numel() for p in lesson.net.parameters()) == 33_946
    assert sum(p.numel() for p in lesson.net.head.parameters()) == 10_250
    assert weights[2] == 18_432 == 4 * weights[1]
    costs = [cost for *_, cost in lesson.rows]
    assert max(costs) == costs[1]
    assert round(lesson.patch_cost / 1e6, 1) == 1.5
    assert round(lesson.pixels * lesson.patch_cost / 1e9) == 18
    assert lesson.pixels == 12_288
    assert lesson.pixels * lesson.WINDOW**2 * 3 == pytest.approx(40e6, rel=0.01)
    assert lesson.task.max_multiplications == 6_000_000


@pytest.mark.long
def test_the_sizes_are_those_of_the_network_and_the_window_is_all_it_sees(lesson):
    for window in (9, 17, 33, 65):
        net, x, seen = lesson.PatchNet(3, window).eval(), torch.rand(1, 3, window, window), []
        for layer in net.features:
            x = layer(x)
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
                seen.append(x.shape[-1])
        assert seen == lesson.map_sizes(window)
        # Averages in place of maxima: then a gradient comes from every pixel that is looked at.
        for k, layer in enumerate(net.features):
            if isinstance(layer, nn.MaxPool2d):
                net.features[k] = nn.AvgPool2d(layer.kernel_size, 2)
            if isinstance(layer, nn.ReLU):
                net.features[k] = nn.Identity()
        x = torch.rand(1, 3, window, window, requires_grad=True)
        net(x).square().sum().backward()
        assert (x.grad != 0).any(dim=1).all(), "no row or column is left over"


@pytest.mark.long
def test_the_students_window_slides_as_the_graders_does(lesson):
    image = lesson.valid.images[3][:33, :46]

    def classify(patches):  # as the lesson's, (B, w, w, 3)
        return patches[:, ::4, ::2].reshape(len(patches), -1)[:, :7].astype(np.float32)

    def same(patches):  # as the grader's, (B, 3, w, w) in [0, 1]
        return classify((patches * 255).round().transpose(0, 2, 3, 1))

    for stride in (1, 4):
        scores = lesson.slide(classify, image, 9, stride)
        wanted = sliding.slide(same, image, 9, stride)
        found = sliding.enlarge(scores, image.shape[:2], stride)
        np.testing.assert_allclose(found, wanted, atol=1e-3)


@pytest.mark.long
def test_a_window_of_means_is_a_blurred_picture(lesson):
    namespace = {"np": np}
    source = CELLS["slide-figure"].source
    exec(source[: source.index("blurred =")], namespace)
    image = lesson.valid.images[9]
    found = lesson.slide(namespace["mean_colour"], image, 9, 1).transpose(1, 2, 0)
    wanted = ndimage.uniform_filter(image.astype(float), (9, 9, 0), mode="mirror")
    np.testing.assert_allclose(found, wanted, atol=1e-6)


# --- the notebook as it was run


@pytest.fixture(scope="module")
def run(solved):
    """Each cell's printed text and the texts that stand for its figures, by cell id."""
    return executed(solved(NAME), NAME)


def rows_of(printed):
    """Return the numbers of each line of a table: {first column: [numbers]}."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines()]
    table = {}
    for first, *rest in lines:
        if rest and re.fullmatch(r"[\d.,]+", rest[-1]):
            table[first] = [float(value.replace(",", "")) for value in rest]
    return table


@pytest.mark.slow
def test_solve_03_has_all_marks_in_time_and_memory(run):
    assert not run.result.failures
    assert run.result.marks == run.result.points == 21
    assert run.result.peak_bytes < 4e9
    (task,) = run.result.tasks.values()
    assert task["iou"] >= task["high"]


@pytest.mark.slow
def test_the_classifiers_own_row_predicts_the_time_and_the_machines_best_does_not(run):
    machine, own = map(float, re.findall(r"(\d+\.\d+) s", run.texts["seconds-run"]))
    measured = float(re.search(r"measured (\d+\.\d+) s", run.texts["measure"])[1])
    assert machine < own / 1.3
    assert machine < measured / 1.3
    assert measured / 3 < own < 3 * measured


@pytest.mark.slow
def test_balanced_drawing_makes_rare_classes_expected_too_often_until_it_is_corrected(run):
    true, expected, corrected = (
        {name: float(value) for name, value in re.findall(r"(\w+) ([\d.]+)%", part)}
        for part in re.split("true share: |expected: |corrected: ", run.texts["prior-figure"])[1:]
    )
    assert max(true, key=lambda name: true[name] - expected[name]) in ("road", "building")
    for name in ("pole", "sign", "fence"):
        assert 1.1 * true[name] < expected[name] < 2 * true[name]
    off = [sum(abs(some[name] - true[name]) for name in true) for some in (expected, corrected)]
    assert off[1] < off[0]


@pytest.mark.slow
def test_the_powers_are_best_for_what_the_text_says(run):
    table = rows_of(run.texts["prior-table"])
    accuracy, recall, iou = (
        {power: values[k] for power, values in table.items()} for k in range(3)
    )
    assert max(accuracy, key=accuracy.get) in ("0.75", "1.00", "1.25")
    assert max(recall, key=recall.get) in ("0.00", "0.25")
    assert max(iou, key=iou.get) in ("0.75", "1.00", "1.25")
    assert iou["1.00"] > iou["0.50"]
    assert 0.02 < iou["1.00"] - iou["0.00"] < 0.09


@pytest.mark.slow
def test_context_helps_the_inside_and_detail_stays_hard(run):
    table = rows_of(run.texts["windows-run"])
    cost, inside, edges, tree, road, pavement, mean = (
        [values[k] for values in table.values()] for k in range(7)
    )
    assert len(table) == 4
    assert mean == sorted(mean)
    assert round(cost[3] / cost[2]) == 6
    assert inside[3] - inside[0] > edges[3] - edges[0] + 0.05
    assert 0.6 < inside[0] < 0.72
    assert 0.85 < inside[3] < 0.93
    assert 0.4 < edges[3] < 0.6
    assert tree[3] - tree[0] < 0.1 < min(road[3] - road[0], pavement[3] - pavement[0])
    (task,) = run.result.tasks.values()
    assert mean[3] < task["iou"] - 0.05  # what 65 would reach at the cost of the lesson's network


@pytest.mark.slow
def test_stride_4_costs_little_and_stride_16_loses_the_poles(run):
    table = rows_of(run.texts["strides"])
    mean, pole = ({s: values[k] for s, values in table.items()} for k in (2, 3))
    assert table["1"][0] == 16 * table["4"][0]
    assert mean["1"] - mean["4"] < 0.04
    assert mean["1"] - mean["16"] > 0.1
    assert pole["16"] < 0.5 * pole["1"]
