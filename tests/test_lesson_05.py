"""Lesson 05: what its text claims."""

import contextlib
import io
import math
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest

from course_utils.data import VOID
from course_utils.figures import networks, upsampling
from course_utils.metrics import ConfusionMatrix
from tests.executed import without_pictures
from tests.test_idd_lite import make_idd_lite


def setup_module():
    global History, torch
    import torch

    from course_utils.training import History


# --- what the text says

NAME = "05_encoder_decoder"
ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "solutions" / NAME / f"{NAME}.ipynb"
CELLS = {cell["id"]: cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells}
TRAINED = ("train", "curves", "export", "look", "scores", "edges")


@pytest.fixture(scope="module")
def lesson():
    """What the solution's cells leave, but for the training and what needs it."""
    namespace, printed = {}, {}
    with pytest.MonkeyPatch.context() as patch:
        without_pictures(patch)
        for name, cell in CELLS.items():
            if cell.cell_type == "code" and name not in (*TRAINED, "idd", "idd-look"):
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    exec(compile(cell.source, name, "exec"), namespace)
                printed[name] = out.getvalue()
    return SimpleNamespace(**namespace, printed=printed)


def test_the_smooth_way_up_gains_eight_hundredths(lesson):
    repeated, smooth = (confusion.mean_iou() for confusion in lesson.ways.values())
    assert round(repeated, 2) == 0.69
    assert round(smooth, 2) == 0.77
    assert round(smooth - repeated, 2) == 0.08


def test_unpooling_lights_one_pixel_in_sixteen(lesson):
    assert (lesson.back > 0).mean() == 1 / 16


def test_sizes_are_those_of_torch(lesson):
    *_, table = lesson.printed["size-figure"].partition("-\n")
    rows = [line.split() for line in table.splitlines() if line.split()[0].isdigit()]
    assert len(rows) == 4
    assert all(row[-1] == row[-2] for row in rows)


def test_discs_are_brightest_where_they_overlap(lesson):
    assert [part.max() for part in lesson.stamped] == [3, 5, 6]
    assert (lesson.stamped[2] == 6).any(axis=0).sum() == 1  # "in one column"


def test_the_matrix_transposed_gives_the_stamps_and_is_no_inverse(lesson):
    assert lesson.difference < 1e-12
    assert lesson.changed > 0.1


def test_two_of_the_five_pairs_are_no_transposes(lesson):
    failing = {name for name, gap in lesson.gaps.items() if abs(gap) > 1e-3}
    assert len(lesson.gaps) == 5
    assert failing == {"convolution / transposed, turned", "average / bilinear, divided by 4"}
    assert all(abs(gap) < 1e-12 for name, gap in lesson.gaps.items() if name not in failing)


def test_stamped_tents_are_bilinear_but_for_a_frame_of_two_pixels(lesson):
    assert lesson.apart[2:-2, 2:-2].max() < 1e-6
    assert lesson.apart[1, 2:-2].max() > 0.01
    frame = lesson.mine[0, 8:-8] / lesson.torchs[0, 8:-8]
    assert frame.max() < 1  # "they fade to dark"


@pytest.mark.parametrize("kernel", range(1, 8))
@pytest.mark.parametrize("stride", range(1, 5))
def test_coverage_is_even_inside_where_the_stride_divides_the_kernel(lesson, kernel, stride):
    inside = lesson.coverage(20, kernel, stride)[kernel:-kernel]
    assert (np.ptp(inside) == 0) == (kernel % stride == 0)


@pytest.mark.parametrize(
    ("kernel", "stride", "title"),
    [
        (3, 2, "kernel 3, stride 2, uneven: a checkerboard"),
        (4, 2, "kernel 4, stride 2, even inside: 2 each"),
        (1, 4, "kernel 1, stride 4, uneven: a checkerboard"),
        (7, 1, "kernel 7, stride 1"),  # 6 pixels are too few to have an inside
    ],
)
def test_the_figure_of_overlaps_says_whether_the_inside_is_even(lesson, kernel, stride, title):
    assert lesson.show_overlap(kernel, stride).axes[0].get_title() == title


@pytest.mark.parametrize(
    ("probability", "title"),
    [(0.1, "p = 0.1: -ln p = 2.30, 1 - p = 0.90"), (1.0, "p = 1: -ln p = 0.00, 1 - p = 0.00")],
)
def test_the_figure_of_unhappiness_says_its_numbers(probability, title):
    assert upsampling.draw_unhappiness(probability).axes[0].get_title() == title


@pytest.mark.parametrize(("power", "probability"), [(-1.0, "0.1"), (-2.0, "0.01"), (-3.0, "0.001")])
def test_the_slider_of_unhappiness_is_a_power_of_ten(lesson, power, probability):
    title = lesson.show_unhappiness(power).axes[0].get_title()
    assert title.startswith(f"p = {probability}:")


def test_maps_in_grey_share_one_scale(monkeypatch):
    drawn = []
    monkeypatch.setattr(networks, "show", lambda figure, alt: drawn.append(figure))
    networks.show_maps([np.eye(2), 3 * np.eye(2)], ["dark", "bright"], "two maps", white=6)
    images = [image for axes in drawn[0].axes for image in axes.images]
    assert [image.get_cmap().name for image in images] == ["gray", "gray"]
    assert [image.get_clim() for image in images] == [(0, 6), (0, 6)]


def test_kernel_3_at_stride_2_covers_some_pixels_four_times_as_often(lesson):
    counts = lesson.coverage(6, 3, 2)
    assert set(np.outer(counts, counts)[3:-3, 3:-3].ravel()) == {1, 2, 4}


def test_only_kernel_3_peaks_at_half_a_cycle(lesson):
    ends = {
        name: upsampling.spectrum(part[0, 0, 4:-4, 4:-4].numpy())[1][-1]
        for name, part in lesson.ups.items()
    }
    first, *others = ends.values()
    assert first == pytest.approx(1 / 3, abs=0.02)  # neighbours of 1 and 2
    assert max(others) < 0.01


def test_checkerboards_of_equal_and_of_random_weights(lesson):
    equal, chance = zip(*lesson.shares.values(), strict=True)
    assert equal == pytest.approx((0, 0.19, 0, 0), abs=1e-6)
    assert chance[:3] == pytest.approx((0.75, 0.75, 0.75), abs=0.03)
    assert chance[3] == 0


def test_kernel_3_has_a_tent_that_makes_up_for_its_coverage(lesson):
    tent = torch.tensor([[0.5, 1, 0.5]])
    up = lesson.ways_up["kernel 3, stride 2"][1]
    assert lesson.checkerboard(up, tent.T @ tent[None]) == 0


def test_the_decoder_has_less_than_a_tenth_of_erfnet(lesson):
    assert lesson.count(lesson.paper) == 2_064_256
    assert lesson.count(lesson.paper.decoder) < 0.1 * lesson.count(lesson.paper)


def test_each_level_costs_what_was_predicted(lesson):
    assert "NOT" not in lesson.printed["levels-table"]
    assert lesson.printed["levels-table"].count(" both ") == 6
    assert lesson.whole[0] == lesson.count(lesson.net)


def test_what_blows_the_memory_is_not_what_the_parameters_are_in(lesson):
    parameters = {name: cost.parameters for name, cost in lesson.measured.items()}
    kept = {name: cost.kept for name, cost in lesson.measured.items()}
    assert max(parameters, key=parameters.get) == "down, 1/8"
    assert parameters["down, 1/8"] / sum(parameters.values()) == pytest.approx(2 / 3, abs=0.03)
    assert max(kept, key=kept.get) == "up, 1/2"
    assert parameters["up, 1/2"] / sum(parameters.values()) == pytest.approx(1 / 20, abs=0.01)
    assert 1.5 < sum(kept.values()) / lesson.whole[2] < 1.8
    into_the_last = 4 * lesson.SHAPE["channels"][0] * (lesson.height // 2) * (lesson.width // 2)
    assert kept["up, 1"] == into_the_last < lesson.predicted["up, 1"][2]


def test_each_tenth_of_the_probability_costs_the_same():
    p = np.array([0.1, 0.01, 0.001])
    assert np.diff(-np.log(p)).round(1).tolist() == [2.3, 2.3]
    assert np.diff(1 - p).round(3).tolist() == [0.09, 0.009]


def test_an_untrained_network_is_about_as_unhappy_as_one_that_guesses(lesson):
    yours, log_c, torchs = map(float, re.findall(r"\d\.\d{4}", lesson.printed["loss-figure"]))
    assert yours == pytest.approx(torchs, abs=1e-3)
    assert yours == pytest.approx(log_c, abs=0.35)


def test_void_as_a_class_gives_the_same_loss_only_if_it_is_never_chosen(lesson):
    never, alike, ignored = lesson.losses.values()
    assert never == pytest.approx(ignored, abs=1e-4)
    assert alike > ignored + 0.05


def test_colours_lead_back_to_classes_and_mixed_ones_are_refused(lesson):
    assert "the same mask" in lesson.printed["colours-figure"]
    share = re.search(r"neighbour: (\d+\.\d)% of the pixels", lesson.printed["colours-figure"])
    assert 2 < float(share[1]) < 30


def test_what_a_shift_uncovers_is_black_and_void(lesson):
    torch.manual_seed(0)
    for _ in range(20):
        image, mask = lesson.move(*lesson.pair)
        uncovered = (mask == VOID) & (image == 0).all(dim=0)
        if uncovered[0].all() or uncovered[-1].all() or uncovered[:, 0].all():
            return
    pytest.fail("no shift in 20 rolls")


@pytest.mark.parametrize(
    ("score", "code"), [(0.05, 31), (0.3, 33), (0.5, 34), (0.7, 36), (0.9, 32), (1.0, 32)]
)
def test_a_score_has_the_colour_of_its_value(lesson, score, code):
    assert lesson.coloured(score) == f"\033[{code}m{score:.2f}\033[0m"
    assert lesson.coloured(math.nan) == "-"


def test_the_best_weights_are_kept_and_no_later_ones(lesson, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    model, history = torch.nn.Linear(1, 1, bias=False), History(settings={"run": "a"})
    confusion = ConfusionMatrix(10).update(np.zeros((2, 2), int), np.zeros((2, 2), int))
    for value, score in [(1.0, 0.2), (2.0, 0.5), (3.0, 0.4)]:
        torch.nn.init.constant_(model.weight, value)
        history.mean_iou.append(score)
        history.train_loss.append(1.0)
        lesson.say_iou(model, history, confusion)
    lesson.take_best(model, History(settings={"run": "another"}))
    assert model.weight.item() == 3
    lesson.take_best(model, history)
    assert model.weight.item() == 2
    assert ["best" in line for line in capsys.readouterr().out.splitlines()] == [True, True, False]


@pytest.mark.long
def test_the_lesson_trains_on_idd_lite_unchanged(lesson, tmp_path, monkeypatch, capsys):
    make_idd_lite(tmp_path)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    without_pictures(monkeypatch)
    names = dict(vars(lesson))
    for name in ("idd", "idd-look"):
        exec(compile(CELLS[name].source, name, "exec"), names)
    out = capsys.readouterr().out
    assert "<SegmentationSet idd_lite/train: 3 images of 112x160, 7 classes>" in out
    assert "3 epochs" in out
    assert all(name in out for name in ("drivable", "roadside objects", "sky"))


def test_without_idd_lite_the_lesson_says_how_to_get_it(lesson, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    names = dict(vars(lesson))
    for name in ("idd", "idd-look"):
        exec(compile(CELLS[name].source, name, "exec"), names)
    assert "Register at https://idd.insaan.iiit.ac.in/" in capsys.readouterr().out


# --- the notebook as it was run


# --- the fair fight: what the text says is what docs/performance.md records


def recorded(*words):
    """Return the rows of the record that hold some words, each with its numbers but intervals."""
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    page = page.split("## Three ways to label every pixel")[1].split("\n## ")[0]
    rows = [line for line in page.splitlines() if line.startswith("|")]
    rows = [row for row in rows if all(f"| {word} |" in row for word in words)]
    return [
        [float(x) for x in re.findall(r"[+-]?\d\.\d{3}", re.sub(r"\[.*?\]", "", row))]
        for row in rows
    ]


def span(values):
    low, high = (f"{value:.2f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


WAYS = ("stack at full resolution", "strided, enlarged", "down and up, no skips", "U-Net")


def test_the_table_of_the_fair_fight_is_the_recorded_one():
    told = CELLS["fair-fight"].source
    ((*window, _, _),) = recorded("window")
    assert f"| window | {span(window)} | |" in told
    for way in WAYS:
        (*time, _, _), (*cost, _, _) = recorded(way)[:2]
        assert len(time) == len(cost) == 3
        assert f"| {way} | {span(time)} | {span(cost)} |" in told


def test_what_all_seeds_say_is_in_the_record():
    told = " ".join(CELLS["fair-fight-says"].source.split())
    window, stack, no_skips = (
        np.array(recorded(way)[0][:3]) for way in ("window", WAYS[0], WAYS[2])
    )
    assert (window > stack).all()
    assert (window > no_skips).all()
    assert "with equal time the window beats both" in told
    thin = recorded("U-Net", WAYS[2], "thin classes", "time")[0]
    assert f"{span(thin)} of IoU at equal time" in told
    thin = recorded("U-Net", WAYS[2], "thin classes", "multiply-adds")[0]
    assert f"{span(thin)} at equal multiply-adds" in told
    assert f"beats the stack by {span(recorded('U-Net', WAYS[0], 'multiply-adds')[0])}" in told
    lost = [-value for value in recorded(WAYS[2], WAYS[0], "multiply-adds")[0]]
    assert f"*loses* to the stack by {span(lost)}" in told
    ahead = recorded("U-Net", WAYS[1], "mean IoU", "time")[0]
    assert f"**U-Net is best**, {span(ahead)} ahead of the strided one" in told
    even = recorded("U-Net", WAYS[1], "mean IoU", "multiply-adds")[0]
    assert min(even) < 0 <= max(even) < 0.02  # one seed each way, and all near 0


@pytest.fixture(scope="module")
def run(solved):
    """Each cell's printed text, by cell id."""
    done = solved(NAME)
    cells = nbformat.read(done.folder / f"{NAME}.ipynb", as_version=4).cells
    texts = {c["id"]: "".join(o.get("text", "") for o in c.get("outputs", [])) for c in cells}
    return SimpleNamespace(result=done.result, texts=texts)


@pytest.mark.slow
def test_solve_05_has_all_marks_in_memory(run):
    assert not run.result.failures
    assert run.result.marks == run.result.points == 23
    assert run.result.peak_bytes < 4e9


@pytest.mark.slow
def test_the_training_says_its_loss_and_every_epochs_iou(run):
    text = run.texts["train"]
    assert len(re.findall(r"step +\d+: loss \d\.\d{3}", text)) == 14 * 3
    assert len(re.findall(r"epoch \d+: mean IoU \x1b\[3\dm0\.\d\d\x1b\[0m", text)) == 14


@pytest.mark.slow
def test_erfnet_reaches_what_the_text_says_and_small_things_suffer_most(run):
    rows = re.findall(r"^(\w+) +[\d.]+% +(\d\.\d{3})", run.texts["scores"], re.M)
    scores = {name: float(score) for name, score in rows}
    mean = float(re.search(r"^mean +(\d\.\d{3})", run.texts["scores"], re.M)[1])
    assert 0.62 < mean < 0.68
    assert min(scores, key=scores.get) == "pedestrian"
    assert set(sorted(scores, key=scores.get)[:4]) == {"pedestrian", "pole", "sign", "fence"}
    assert scores["road"] > 0.88


@pytest.mark.slow
def test_lesson_04s_network_is_not_beaten_by_this_one(run, solved):
    (mine,) = run.result.tasks.values()
    (strided,) = solved("04_fully_convolutional").result.tasks.values()
    assert strided["iou"] > mine["iou"]


@pytest.mark.slow
def test_most_wrong_pixels_lie_near_edges(run):
    everywhere, wrong = map(int, re.findall(r"(\d+)%", run.texts["edges"]))
    assert wrong > everywhere + 25
