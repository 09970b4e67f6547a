"""Lesson 04 says what its solution computes, and keeps its promises of time, memory and IoU.

The first half runs the solution's own functions in this process. The second half reads
the notebook that ``course solve 04`` has run, training included (slow).
"""

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest

from course_utils.metrics import ConfusionMatrix
from tests.executed import executed, shown, without_pictures
from tests.test_notebooks import names_of


def setup_module():
    global FlopCounterMode, torch
    import torch
    from torch.utils.flop_counter import FlopCounterMode


NAME = "04_fully_convolutional"
NOTEBOOK = Path(__file__).parent.parent / "solutions" / NAME / f"{NAME}.ipynb"
CELLS = {cell["id"]: cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells}
PARTS = [
    *("imports", "settings", "classifier", "multiply-adds", "cost-table-figure", "cost-predict"),
    *("as-convolution", "shift-and-stitch", "dense", "interior", "receptive-field"),
    *("gradient-map", "helper", "small-unet", "smallest-counterexample", "coarse-labels"),
    *("conv-layer", "fcn", "roads"),
]
FUNCTIONS = {  # of cells that do more
    "slide": "slide",
    "extent": "probe-figure",
    "draw_growth": "roads-play",
    "draw_ceiling": "ceiling-play-figure",
}


@pytest.fixture(scope="module")
def lesson():
    """The solution's classes and functions; its patch classifier has random weights."""
    namespace = {}
    with pytest.MonkeyPatch.context() as patch:
        without_pictures(patch)
        for name in PARTS:
            exec(compile(CELLS[name].source, name, "exec"), namespace)
    for name, cell in FUNCTIONS.items():
        (function,) = [
            node
            for node in ast.parse(CELLS[cell].source).body
            if isinstance(node, ast.FunctionDef) and node.name == name
        ]
        exec(compile(ast.Module([function], []), cell, "exec"), namespace)
    namespace["truth"] = torch.from_numpy(namespace["valid"].masks).long()
    kernel = namespace["as_convolution"](namespace["classifier"], 16, 4)
    namespace["kernel"] = kernel.to(namespace["device"])
    namespace["convolutional"] = torch.nn.Sequential(namespace["features"], namespace["kernel"])
    namespace["stitch"] = lambda x: namespace["shift_and_stitch"](namespace["convolutional"], x, 4)
    return SimpleNamespace(**namespace)


def million(run, *given):
    """Return how many million multiply-adds PyTorch counts."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(*given)
    return counter.get_total_flops() / 2e6


def test_windows_stitching_and_dilation_are_one_function_whatever_the_weights(lesson):
    with torch.no_grad():
        padded = torch.rand(1, 3, 24 + 32, 20 + 32)
        by_window = lesson.slide(padded)
        assert by_window.shape == (lesson.C, 24, 20)
        for scores in (lesson.stitch(padded)[0], lesson.dense(padded)[0]):
            torch.testing.assert_close(scores, by_window, atol=1e-5, rtol=1e-5)
        coarse = lesson.convolutional(padded)[0]
        torch.testing.assert_close(coarse, by_window[:, ::4, ::4], atol=1e-5, rtol=1e-5)


def test_zeros_in_each_layer_change_the_border_and_nothing_else(lesson):
    with torch.no_grad():
        picture = torch.rand(1, 3, 40, 44)
        padded = torch.nn.functional.pad(picture, 4 * [16], mode="reflect")
        apart = (lesson.dense(picture, zeros=True)[0] - lesson.slide(padded)).abs().amax(0).numpy()
        inside = lesson.interior(40, 44, 33)
        assert apart[inside].max() < 1e-5
        assert apart[~inside].max() > 1e-2
        # no pixel of the ring beside it agrees: the interior is not drawn too small
        ring = lesson.interior(40, 44, 31) & ~inside
        assert apart[ring].max() > 1e-5
        assert 1 - lesson.interior(96, 128, 33).mean() == 0.5  # "half of the picture is border"


def test_what_is_counted_by_hand_is_what_torch_counts(lesson):
    padded = torch.rand(1, 3, 96 + 32, 128 + 32)
    assert million(lesson.convolutional, padded) == pytest.approx(lesson.at_once.sum() / 1e6)
    windows = 96 * 128 * lesson.count(33, 33).sum() / 1e6
    dilated = million(lesson.dense, padded)
    assert 85 < windows / dilated < 115  # "about a hundredth"
    # "each weight is used once for each pixel": the border makes up for the rest
    weights = sum(p.numel() for p in lesson.convolutional.parameters() if p.ndim > 1)
    assert 1 < dilated / (96 * 128 * weights / 1e6) < 1.4


def test_the_first_convolution_saves_most_and_the_end_nothing(lesson):
    saved = lesson.by_windows / lesson.at_once
    assert [*saved] == sorted(saved, reverse=True)
    assert saved[-1] == 1
    assert 25 < lesson.factor < 32


def test_the_window_net_sees_its_window_derived_and_measured(lesson):
    window_net = [(3, 1), (3, 2), (3, 1), (3, 2), (3, 1), (4, 1)]
    assert lesson.receptive_field(window_net) == 33
    seen = lesson.gradient_map(lesson.convolutional, torch.rand(30, 3, 65, 65), 4, 4)
    assert lesson.extent(seen) == 33
    rows = torch.nonzero(seen.sum(dim=1)).flatten()
    assert (rows.min(), rows.max()) == (16, 48)


def test_the_helper_is_wrong_and_the_probe_says_what_the_text_says(lesson):
    helper = [lesson.published_field(lesson.unet_layers(depth)) for depth in (2, 3, 4, 5)]
    derived = [lesson.receptive_field(lesson.unet_layers(depth)) for depth in (2, 3, 4, 5)]
    assert helper == [22, 64, 164, 396]
    assert derived == [18, 44, 96, 200]
    assert round(helper[-1] / derived[-1]) == 2  # "twice what is true"
    measured = []
    for depth in (2, 3, 4):
        probed, picture = lesson.SmallUNet(depth), torch.rand(1, 1, 160, 160)
        rows = range(80, 80 + 2 ** (depth - 1))
        found = [lesson.extent(lesson.gradient_map(probed, picture, row, row)) for row in rows]
        measured.append((min(found), max(found)))
    assert measured == [(18, 18), (44, 44), (92, 100)]


def test_the_counterexample_is_the_smallest(lesson):
    layers = lesson.smallest_counterexample()
    assert lesson.published_field(layers) != lesson.receptive_field(layers)
    for shorter in ([], [(3, 1)], [(2, 2)]):
        assert lesson.published_field(shorter) == lesson.receptive_field(shorter)


def test_a_stack_needs_27_layers_to_see_what_the_fcn_sees(lesson):
    assert lesson.receptive_field([(3, 1)] * 16) == 33
    assert lesson.receptive_field(lesson.fcn_layers) == 54
    assert lesson.receptive_field([(3, 1)] * 26) < 54 <= lesson.receptive_field([(3, 1)] * 27)


@pytest.mark.parametrize(("pool_after", "needed"), [(99, 16), (3, 8), (1, 4)])
def test_fewer_layers_see_33_pixels_with_poolings_between(lesson, pool_after, needed):
    fields, layers = [1], []
    for number in range(1, 17):
        layers.append((3, 1))
        fields.append(lesson.receptive_field(layers))
        if number % pool_after == 0:
            layers.append((2, 2))
    assert min(n for n, field in enumerate(fields) if field >= 33) == needed


def test_the_stack_costs_three_times_the_fcn_with_a_seventh_of_its_parameters(lesson):
    x = torch.rand(1, 3, 96, 128)
    stack, fcn = (lesson.cost(net, net, x) for net in (lesson.stack, lesson.fcn))
    assert 2.7 < stack[0] / fcn[0] < 3.3
    assert 3.7 < stack[1] / fcn[1] < 4.5
    sizes = [sum(p.numel() for p in net.parameters()) for net in (lesson.stack, lesson.fcn)]
    assert sizes == [35_674, 242_218]
    assert million(lesson.stitch, torch.rand(1, 3, 128, 160)) > stack[0]


def test_the_fcn_sees_62_pixels_with_its_enlargement(lesson):
    torch.manual_seed(0)
    net = lesson.FCN(3, 4, 4).eval()
    for layer in net.modules():  # so that no gradient is lost on its way
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.constant_(layer.weight, 0.1)
    seen = lesson.gradient_map(net, torch.rand(60, 3, 96, 96), 51, 51)
    assert lesson.extent(seen) == lesson.receptive_field(lesson.fcn_layers) + 8


@pytest.mark.parametrize(("wide", "kept"), [(1, {0}), (4, {0}), (5, {0, 1}), (8, {0, 1}), (9, {1})])
def test_at_stride_8_a_pole_is_kept_as_the_text_says(lesson, wide, kept):
    found = set()
    for left in range(32, 40):
        labels = torch.zeros(1, 64, 96, dtype=torch.long)
        labels[:, :, left : left + wide] = 1
        coarse = lesson.coarse_labels(labels, 8, 2)
        found.add(int((coarse * labels).any()))
    assert found == kept


@pytest.fixture(scope="module")
def ceilings(lesson):
    return {
        stride: ConfusionMatrix(lesson.C).update(
            lesson.coarse_labels(lesson.truth, stride, lesson.C).numpy().astype(np.uint8),
            lesson.valid.masks,
        )
        for stride in (4, 8, 16)
    }


@pytest.mark.long
def test_the_ceiling_falls_below_0_8_at_stride_8_and_poles_pay_most(lesson, ceilings):
    assert ceilings[4].mean_iou() > 0.8 > ceilings[8].mean_iou()
    assert ceilings[8].mean_iou() == pytest.approx(0.77, abs=0.01)
    for stride in (8, 16):
        scores = dict(zip(lesson.classes, ceilings[stride].iou(), strict=True))
        assert min(scores, key=scores.get) == "pole"
        assert max(scores, key=scores.get) == "road"
    assert scores["pole"] == pytest.approx(0.25, abs=0.03)
    scores = dict(zip(lesson.classes, ceilings[8].iou(), strict=True))
    assert scores["pole"] == pytest.approx(0.5, abs=0.06)
    assert scores["road"] == pytest.approx(0.95, abs=0.005)


@pytest.mark.parametrize(("convolutions", "pool_after_every"), [(1, 1), (16, 8), (16, 1)])
def test_the_growth_is_drawn_wherever_its_controls_stand(lesson, convolutions, pool_after_every):
    (axes,) = lesson.draw_growth(convolutions, pool_after_every).axes
    assert axes.get_ylim() == (0, 66)  # the same wherever the sliders stand
    stack, pooled, wanted = axes.lines
    assert stack.get_ydata()[-1] == 2 * convolutions + 1
    assert len(pooled.get_ydata()) == convolutions + 1
    assert set(wanted.get_ydata()) == {33}


@pytest.mark.parametrize(("stride", "picture"), [("1", 0), ("8", 9), ("32", 99)])
def test_the_ceiling_is_drawn_wherever_its_controls_stand(lesson, stride, picture):
    axes = lesson.draw_ceiling(stride, picture).axes
    assert len(axes) == 3
    assert f"at stride {stride}: mean IoU" in axes[1].get_title()
    assert ("1.00" in axes[1].get_title()) == (stride == "1")


def used_by(code):
    """Return the names that code and the functions in it take from elsewhere."""
    inner = (used_by(part) for part in code.co_consts if hasattr(part, "co_names"))
    return set(code.co_names).union(*inner)


def test_what_counts_needs_nothing_of_the_cells_that_only_show():
    """Grading leaves cells with the tag "show" out."""
    cells = [cell for cell in CELLS.values() if cell.cell_type == "code"]
    made, needed = {True: set(), False: set()}, set()
    for cell in cells:
        only_shows = "show" in cell.metadata.get("tags", [])
        made[only_shows] |= names_of(ast.parse(cell.source).body, ast.Store)
        if not only_shows:
            nodes = ast.walk(ast.parse(cell.source))
            names = {node.id for node in nodes if isinstance(node, ast.Name)}  # no attributes
            needed |= names & used_by(compile(cell.source, cell["id"], "exec"))
    assert made[True] - made[False]
    assert not needed & (made[True] - made[False])


# --- the notebook as it was run


@pytest.fixture(scope="module")
def run(solved):
    """Each cell's printed text and the texts that stand for its figures, by cell id."""
    return executed(solved(NAME), NAME)


@pytest.mark.slow
def test_solve_04_has_all_marks_in_time_and_memory(run):
    assert not run.result.failures
    assert run.result.marks == run.result.points == 24
    assert run.result.peak_bytes < 4e9


@pytest.mark.slow
def test_the_fcn_reaches_its_bound_with_some_room_on_scenes_of_an_unseen_seed(run):
    (task,) = run.result.tasks.values()
    assert task["iou"] >= task["high"] + 0.02


@pytest.mark.slow
def test_the_same_masks_hundreds_of_times_faster(run):
    rows = dict(
        re.findall(r"^(windows|shift and stitch|dilated|one pass) +(.*)$", run.texts["ways"], re.M)
    )
    assert len(rows) == 4
    parts = {name: row.split() for name, row in rows.items()}
    for _, _, _, apart, same in parts.values():
        assert float(apart) < 1e-3
        assert float(same.rstrip("%")) > 99.9
    million = {name: float(row[1]) for name, row in parts.items()}
    taken = {name: float(row[2]) for name, row in parts.items()}
    assert 85 < million["windows"] / million["dilated"] < 115
    assert taken["windows"] > 100 * taken["dilated"]
    assert taken["windows"] > 300 * taken["one pass"]
    assert taken["windows"] > taken["shift and stitch"] > taken["dilated"] > taken["one pass"]


def scores(text, name):
    """Return the IoU of each class in the text of bars."""
    part = text.split(f"{name}: ")[1].split(", mean")[0]
    return {key: float(value) for key, value in re.findall(r"(\w+) (\d\.\d+)", part)}


@pytest.mark.slow
def test_poles_are_at_the_ceiling_signs_are_not(run):
    text = run.texts["against-ceiling-figure"]
    fcn, ceiling = scores(text, "your FCN"), scores(text, "ceiling of stride 8")
    below = {name: ceiling[name] - fcn[name] for name in fcn}
    assert below["pole"] < 0.1
    assert below["road"] < 0.1
    assert min(below["sign"], below["pedestrian"], below["fence"]) > 0.08
    fcn_finds, perfect_finds = [int(n) for n in re.findall(r"(\d+)%", text.split("picture 9")[1])]
    assert fcn_finds > perfect_finds + 10  # "your network draws it"
    assert max(below, key=below.get) in ("sign", "pedestrian", "fence")


@pytest.mark.slow
def test_half_of_what_is_seen_lies_in_a_quarter_of_the_field(run):
    shares = [int(n) for n in re.findall(r"(\d+)% of the field", run.texts["effective"])]
    assert len(shares) == 2
    assert max(shares) < 30


@pytest.mark.slow
def test_under_the_grader_nothing_is_trained(demo_run):
    """The hurried student of the demo hands in a net that was trained for an epoch."""
    graded = demo_run.place / "grading" / "autograded" / "Ben-Hurried" / NAME / f"{NAME}.ipynb"
    texts = [shown(cell) for cell in nbformat.read(graded, as_version=4).cells]
    said = "No training here: the weights come from models/fcn.onnx."
    assert sum(said in text for text in texts) == 1
