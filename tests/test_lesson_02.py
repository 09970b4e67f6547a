"""Lesson 02 says what its solution computes; its functions agree with other libraries.

The solution's cells run once, in this process. A test of a claim that fails after a change of the
scenes means that the sentence in the notebook has to change with it.
"""

from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import directed_hausdorff
from skimage.metrics import hausdorff_distance as skimage_hausdorff

from course_utils import metrics
from course_utils.checks import CheckFailed
from course_utils.checks import lesson_02 as checks
from course_utils.data import VOID
from tests.executed import without_pictures
from tests.test_wrong_answers import checked_in


def setup_module():
    global RIGHT, torch
    import torch

    from tests.wrong_answers.lesson_02 import RIGHT


ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "solutions" / "02_metrics" / "02_metrics.ipynb"


def run(replace=None):
    """Run the cells of the solution; after each cell its functions give way to ``replace``."""
    namespace = {}
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, cell.id, "exec"), namespace)
            namespace |= {n: f for n, f in (replace or {}).items() if n in namespace}
    return SimpleNamespace(**namespace)


@pytest.fixture(scope="module")
def lesson():
    with pytest.MonkeyPatch.context() as patch:
        without_pictures(patch)
        return run()


def rank(values):
    return sorted(values, key=values.get)


# --- what the text says


def test_forgetful_beats_coarse_in_accuracy_and_finds_no_pedestrian(lesson):
    person = lesson.classes.index("pedestrian")
    assert lesson.accuracy["forgetful"] > lesson.accuracy["coarse"] > 0.9
    assert lesson.confusion["forgetful"][person, person] == 0
    assert lesson.confusion["coarse"][person, person] > 0
    assert lesson.classes[lesson.confusion["forgetful"][person].argmax()] == "pavement"
    assert lesson.mean_iou["forgetful"] < lesson.mean_iou["coarse"] - 0.1
    missing = lesson.iou_per_class(lesson.confusion["forgetful"]) == 0
    assert np.flatnonzero(missing).tolist() == sorted(lesson.rare)
    assert lesson.share[lesson.rare].sum() < 1 / 15


def test_the_first_picture_shows_people_signs_and_fences_that_forgetful_misses(lesson):
    for label in lesson.rare:
        assert (lesson.truth[lesson.example] == label).sum() > 200, lesson.classes[label]
        assert (lesson.predictions["coarse"][lesson.example] == label).sum() > 150
        assert (lesson.predictions["forgetful"][lesson.example] == label).sum() == 0
    assert lesson.scenes.images[lesson.example].mean() > 120  # by day


def test_floors_are_what_the_text_says(lesson):
    assert 0.25 < lesson.accuracy["all road"] < 0.35
    assert lesson.accuracy["location"] > 0.5
    assert lesson.accuracy["colour"] > lesson.accuracy["location"]
    assert lesson.no_person > 0.97
    floors = [lesson.mean_iou[name] for name in ("all road", "location", "colour")]
    assert max(floors) < 0.45


def test_a_shift_by_one_pixel_costs_the_poles_most_and_less_on_larger_images(lesson):
    names = lesson.classes
    one = lesson.shift_iou[1]
    assert np.allclose(lesson.shift_iou[0], 1)
    assert (np.diff(lesson.shift_iou, axis=0) < 0).all()
    assert one[names.index("pole")] < 0.75
    assert one[names.index("road")] > 0.95
    assert lesson.large_iou > one.mean() + 0.03
    assert lesson.shift_iou[:, names.index("pole")].argmin() == 4


def test_shifted_moves_masks_down_and_to_the_right(lesson):
    mask = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    assert lesson.shifted(mask, 0, 1)[0].tolist() == [[0, 0, 1, 2], [4, 4, 5, 6], [8, 8, 9, 10]]
    assert lesson.shifted(mask, -1, 0)[0].tolist() == [[4, 5, 6, 7], [8, 9, 10, 11], [8, 9, 10, 11]]


def test_steady_and_moody_swap_places(lesson):
    (steady_iou, steady_dice), (moody_iou, moody_dice) = (
        lesson.mean_of_images[name] for name in ("steady", "moody")
    )
    assert moody_iou > steady_iou + 0.005
    assert moody_dice < steady_dice - 0.005
    a, b = np.array(lesson.start_a), np.array(lesson.start_b)  # where the figure starts
    assert a.mean() > b.mean()
    assert (2 * a / (1 + a)).mean() < (2 * b / (1 + b)).mean()


def test_0_17_is_the_least_unevenness_on_the_sliders_that_swaps_places(lesson):
    titles = [axes.get_title() for axes in lesson.draw_swap(0.39, 0.56, 0.56, *[0.5] * 3).axes]
    assert titles == ["mean IoU: A leads by 0.003", "mean Dice: B leads by 0.001"]
    low, middle, high = np.mgrid[30:52, 0:17, 0:17]  # hundredths: the lowest, and steps above it
    a = np.stack([low, low + middle, low + high]) / 100
    leads = a.mean(axis=0) > 0.5 + 5e-4
    assert not (leads & ((2 * a / (1 + a)).mean(axis=0) < 2 / 3 - 5e-4)).any()


def test_dice_is_furthest_above_iou_at_0_41():
    iou = np.linspace(0, 1, 1001)
    gap = 2 * iou / (1 + iou) - iou
    assert iou[gap.argmax()] == pytest.approx(np.sqrt(2) - 1, abs=1e-3)
    assert gap.max() == pytest.approx(0.17, abs=5e-3)


def test_the_rules_for_absent_classes_keep_their_order(lesson):
    for name, matrices in lesson.per_image.items():
        zero, skip, one = (lesson.mean_iou_per_image(matrices, r) for r in ("zero", "skip", "one"))
        assert zero <= skip <= one, name


def test_absent_classes_cost_the_perfect_prediction_and_give_presents(lesson):
    held = [len(np.unique(mask[mask != VOID])) for mask in lesson.truth]
    assert np.mean(np.array(held) < lesson.C) == pytest.approx(0.5, abs=0.06)
    perfect = np.stack([lesson.confusion_matrix(t, t, lesson.C) for t in lesson.truth])
    assert lesson.mean_iou_per_image(perfect, "zero") == pytest.approx(0.92, abs=5e-3)
    road, colour = lesson.per_image["all road"], lesson.per_image["colour"]
    assert lesson.mean_iou_per_image(road, "zero") == pytest.approx(0.03, abs=5e-3)
    assert lesson.mean_iou_per_image(road, "skip") == pytest.approx(0.03, abs=5e-3)
    assert lesson.mean_iou_per_image(road, "one") == pytest.approx(0.11, abs=5e-3)
    assert len({lesson.mean_iou_per_image(colour, rule) for rule in ("zero", "skip", "one")}) == 1
    for truth, prediction in zip(lesson.truth, lesson.predictions["colour"], strict=True):
        assert set(np.unique([truth, prediction])) >= set(range(lesson.C))


def test_micro_iou_is_accuracy_in_disguise(lesson):
    for name, (micro, _) in lesson.averages.items():
        assert micro == pytest.approx(lesson.accuracy[name] / (2 - lesson.accuracy[name]))
    assert lesson.disguised == pytest.approx(0.851, abs=5e-4)
    assert max(lesson.averages, key=lesson.averages.get) == "forgetful"
    assert rank({n: micro for n, (micro, _) in lesson.averages.items()}) == rank(lesson.accuracy)


def test_one_prediction_has_eight_numbers_from_a_half_to_three_quarters(lesson):
    values = sorted(lesson.numbers.values())
    assert 0.5 < values[0] < 0.55
    assert values[-1] > 0.75
    # far enough apart to be told by four digits
    assert np.diff(values).min() > 0.0015
    assert lesson.matched == pytest.approx(
        checks._numbers(lesson.truth, lesson.mystery, lesson.C), abs=1e-9
    )


def test_boundary_iou_of_cars_falls_faster_than_iou(lesson):
    scores = np.array(list(lesson.car_scores.values()))
    assert scores[0].tolist() == [1, 1]
    assert (np.diff(scores, axis=0) < 0).all()
    assert (scores[1:, 1] < scores[1:, 0] - 0.2).all()
    assert lesson.car_scores[4][0] == pytest.approx(0.91, abs=5e-3)


def test_shapes_of_equal_iou_differ_in_every_other_measure(lesson):
    four = ["small", "shifted", "ragged", "bitten"]
    iou, boundary, f1, hausdorff = (
        dict(zip(lesson.shape_scores, column, strict=True))
        for column in zip(*lesson.shape_scores.values(), strict=True)
    )
    assert all(0.845 < iou[name] < 0.855 for name in four)
    assert max(four, key=boundary.get) == "bitten"
    assert min(four, key=boundary.get) == "small"
    assert max(four, key=hausdorff.get) == "bitten"
    assert hausdorff["bitten"] > 5 * max(hausdorff[name] for name in four[:3])
    assert f1["small"] == 1
    assert hausdorff["small"] <= 3
    stray = lesson.shape_scores["one stray pixel"]
    assert min(stray[:3]) > 0.995
    assert stray[3] > hausdorff["bitten"]


def test_the_bootstrap_tells_c_from_a_but_not_a_from_b(lesson):
    intervals = {k: np.percentile(d, [2.5, 97.5]) for k, d in lesson.differences.items()}
    contains_0 = {k: bool(low < 0 < high) for k, (low, high) in intervals.items()}
    assert contains_0 == {
        ("A", "B", 10): True,
        ("A", "B", 60): True,
        ("C", "A", 10): True,
        ("C", "A", 60): False,
    }
    width = {k: high - low for k, (low, high) in intervals.items()}
    for pair in (("A", "B"), ("C", "A")):
        assert width[*pair, 60] < width[*pair, 10]
        assert width[*pair, 60] > 2 * 0.02  # "a lead of 0.02 on a small test set is no result"
    assert lesson.differences["C", "A", 60].std() < 0.9 * lesson.separate.std()


def test_losses_start_at_ln_c_and_miss_a_small_object_differently(lesson):
    assert lesson.start == pytest.approx({c: np.log(c) for c in (2, 10, 32)}, abs=1e-5)
    assert lesson.missed["cross-entropy"] < 0.06
    assert 0.45 < lesson.missed["soft Dice loss"] < 0.55
    p = lesson.all_background(0.01).softmax(1)[0]
    object_ = lesson.small[0] == 1
    for c, where, low, high in ((0, ~object_, 0.98, 1), (1, object_, 0, 0.02)):
        dice = 2 * float(p[c][where].sum()) / (float(p[c].sum()) + int(where.sum()))
        assert low < dice < high
    assert float(lesson.small.float().mean()) == pytest.approx(0.009, abs=5e-4)


def test_soft_dice_lets_go_and_focal_loss_moves_the_pull_to_the_object(lesson):
    pull, part = lesson.pull, lesson.part
    assert pull["soft Dice"][-1] < pull["soft Dice"].max() / 5
    assert (np.diff(pull["soft Dice"][2:]) < 0).all()
    assert (np.diff(pull["cross-entropy"]) > 0).all()
    sure = slice(2, None)  # p <= 0.1
    assert (part["focal, gamma 2"][sure] > part["cross-entropy"][sure]).all()
    assert part["focal, gamma 2"][2] > 0.7
    assert part["cross-entropy"][2] < 0.1


def test_the_focal_figure_draws_the_derivative_of_its_loss(lesson):
    figure = lesson.figures.focal_figure(2.0, 0.8)
    p, pull = figure.axes[1].lines[0].get_data()
    z = torch.from_numpy(np.log(p / (1 - p))).requires_grad_()
    logits = torch.stack([z, torch.zeros_like(z)])[None, :, None]
    loss = lesson.focal_loss(logits, torch.zeros(1, 1, len(p), dtype=torch.long), 2.0) * len(p)
    loss.backward()
    assert pull == pytest.approx(-z.grad.numpy(), abs=1e-6)


# --- the functions against other libraries, and by their properties

labels = arrays(np.uint8, (2, 6, 5), elements=st.integers(0, 4))
masks = arrays(bool, (9, 11), elements=st.booleans())
counts = arrays(np.int64, (4, 4), elements=st.integers(0, 30))


@pytest.mark.long
@settings(max_examples=60)
@given(truth=labels, prediction=labels, void=arrays(bool, (2, 6, 5)))
def test_matrix_and_scores_equal_torchmetrics(lesson, truth, prediction, void):
    # Not on top: it takes as long to import as torch.
    import torchmetrics.functional.classification as tm

    truth = np.where(void, VOID, truth).astype(np.uint8)
    confusion = lesson.confusion_matrix(truth, prediction, 5)
    assert confusion.sum() == (~void).sum()
    t, p = torch.from_numpy(truth).long(), torch.from_numpy(prediction).long()
    options = {"num_classes": 5, "ignore_index": VOID}
    theirs = tm.multiclass_confusion_matrix(p, t, **options).numpy()
    assert np.array_equal(confusion, theirs)
    if void.all():
        return
    iou, dice = lesson.iou_per_class(confusion), lesson.dice_per_class(confusion)
    present = ~np.isnan(iou)
    theirs = tm.multiclass_jaccard_index(p, t, average=None, **options).numpy()
    assert iou[present] == pytest.approx(theirs[present], abs=1e-6)
    theirs = tm.multiclass_f1_score(p, t, average=None, **options).numpy()
    assert dice[present] == pytest.approx(theirs[present], abs=1e-6)
    micro, weighted = lesson.pixel_averages(confusion)
    for value, average in ((micro, "micro"), (weighted, "weighted")):
        theirs = float(tm.multiclass_jaccard_index(p, t, average=average, **options))
        assert value == pytest.approx(theirs, abs=1e-6)


@given(confusion=counts)
def test_dice_follows_from_iou_and_is_never_below_it(lesson, confusion):
    iou, dice = lesson.iou_per_class(confusion), lesson.dice_per_class(confusion)
    assert np.allclose(dice, 2 * iou / (1 + iou), equal_nan=True)
    assert (dice >= iou)[~np.isnan(iou)].all()
    assert np.array_equal(lesson.iou_per_class(confusion.T), iou, equal_nan=True)


@given(confusions=arrays(np.int64, (3, 4, 4), elements=st.integers(0, 30)))
def test_skipped_mean_per_image_equals_the_package(lesson, confusions):
    confusions = confusions + np.eye(4, dtype=np.int64)[[0]] * [[1], [0], [0], [0]]
    expected = metrics.mean_iou(confusions).mean()
    assert lesson.mean_iou_per_image(confusions, "skip") == pytest.approx(expected)


@settings(max_examples=60)
@given(truth=masks, prediction=masks)
def test_boundary_scores_are_symmetric_and_agree_with_scipy_and_skimage(lesson, truth, prediction):
    pair = (truth, prediction)
    contours = [lesson.inner_boundary(mask, 1) for mask in pair]
    for mask, contour in zip(pair, contours, strict=True):
        assert not (contour & ~mask).any()
        assert (lesson.inner_boundary(mask, 2) | contour).sum() == lesson.inner_boundary(
            mask, 2
        ).sum()
    distance = lesson.hausdorff_distance(*pair)
    assert np.array_equal(distance, lesson.hausdorff_distance(*pair[::-1]), equal_nan=True)
    f1 = [lesson.boundary_f1(*pair, tolerance) for tolerance in (0, 1, 3)]
    if truth.any() and prediction.any():
        points = [np.argwhere(contour) for contour in contours]
        both_ways = [directed_hausdorff(*points)[0], directed_hausdorff(*points[::-1])[0]]
        assert distance == pytest.approx(max(both_ways))
        assert distance == pytest.approx(skimage_hausdorff(*contours))
        assert 0 <= f1[0] <= f1[1] <= f1[2] <= 1
        assert lesson.boundary_f1(*pair, distance) == 1
    elif truth.any() or prediction.any():
        assert distance == np.inf
        assert f1 == [0, 0, 0]
    else:
        assert np.isnan([distance, *f1]).all()
    assert lesson.boundary_f1(truth, truth, 0) == 1 or not truth.any()


def test_bootstrap_interval_equals_the_package(lesson):
    a, _ = checks._two_models(np.random.default_rng(2))
    perfect = np.zeros_like(a) + np.eye(3, dtype=int)
    low, high = np.percentile(lesson.bootstrap_differences(a, perfect, 3000, 1), [2.5, 97.5]) + 1
    theirs = metrics.bootstrap_interval(a, seed=2, repeats=3000)
    assert (low, high) == pytest.approx(theirs, abs=0.01)


def test_focal_loss_is_cross_entropy_at_gamma_0_and_falls_with_gamma(lesson):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 6, 7, generator=generator)
    target = torch.randint(0, 5, (2, 6, 7), generator=generator)
    target[0, :2] = VOID
    values = [float(lesson.focal_loss(logits, target, gamma)) for gamma in (0.0, 0.5, 2.0, 5.0)]
    plain = torch.nn.functional.cross_entropy(logits, target, ignore_index=VOID)
    assert values[0] == pytest.approx(float(plain), abs=1e-6)
    assert values == sorted(values, reverse=True)


def test_soft_dice_of_hard_predictions_is_the_dice_of_the_counts(lesson):
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 4, (2, 3, 8, 9))
    logits = 200.0 * torch.nn.functional.one_hot(torch.from_numpy(prediction), 4)
    loss = lesson.soft_dice_loss(logits.permute(0, 3, 1, 2), torch.from_numpy(truth), smooth=0.0)
    dice = lesson.dice_per_class(lesson.confusion_matrix(truth, prediction, 4))
    assert float(loss) == pytest.approx(1 - dice.mean(), abs=1e-6)


# --- the check's own numbers, and the lesson with other answers


def test_the_bootstrap_check_expects_what_drawing_images_gives():
    a, b = checks._two_models(np.random.default_rng(2))
    draws = np.random.default_rng(7).integers(0, len(a), (40_000, len(a)))
    difference = metrics.mean_iou(a[draws].sum(1)) - metrics.mean_iou(b[draws].sum(1))
    expected = checks.bootstrap_differences.right(a, b, 40_000, 0)
    assert difference.std() == pytest.approx(expected.std(), rel=0.02)
    assert difference.mean() == pytest.approx(expected.mean(), abs=5e-4)
    # what the check's message says: both models find the same images hard
    unpaired = checks._unpaired(checks._of_drawn)(a, b, 4000, 0)
    assert unpaired.std() > 3 * expected.std()


@pytest.mark.long
def test_the_lesson_runs_with_other_right_answers(monkeypatch):
    without_pictures(monkeypatch)
    others = {name: right[1] for name, right in RIGHT.items()}
    others.pop("match_definitions")  # its letters are the same for any right answer
    run(replace=others)


@pytest.mark.parametrize("name", checked_in("02"))
@pytest.mark.parametrize(
    "junk",
    [None, "0.5", [], {}, {"A": 1}, object(), 0.5, -1, np.nan, [[1, 2], [3]], np.eye(2), ("a", 1)],
    ids=lambda junk: type(junk).__name__,
)
def test_a_check_refuses_whatever_else_is_returned_in_one_line(name, junk):
    with pytest.raises(CheckFailed) as refusal:
        vars(checks)[name](lambda *args, **kwargs: junk)
    assert "\n" not in str(refusal.value)


def test_a_shift_is_forgiven_by_boundary_f1_and_specks_by_iou(lesson):
    def scores(thing, **damage):
        bars = lesson.draw_damage(thing, **damage).axes[1].patches
        iou, _, _, f1 = (bar.get_width() for bar in bars)
        return pytest.approx((iou, f1), abs=5e-3)

    assert scores("pole", shift=2, grow=0, specks=0) == (0.56, 1)
    assert scores("car", shift=2, grow=0, specks=0) == (0.92, 1)
    assert scores("tree", shift=0, grow=0, specks=20) == (0.94, 0.72)
    title = lesson.draw_damage("tree", shift=0, grow=0, specks=20).axes[1].get_title()
    assert title == "Hausdorff distance 53.0 px"


@pytest.mark.parametrize("thing", ["car", "pole", "pedestrian", "tree"])
def test_the_damage_figure_draws_at_its_extremes(lesson, thing):
    for shift, grow, specks in ((-8, -3, 0), (8, 3, 20), (0, 0, 0)):
        figure = lesson.draw_damage(thing, shift, grow, specks)
        lengths = [bar.get_width() for bar in figure.axes[1].patches]
        assert len(lengths) == 4
        assert all(0 <= length <= 1 for length in lengths)
    assert lengths == [1, 1, 1, 1]  # undamaged
    picture = figure.axes[0].images[0].get_array()
    assert picture.mean() > 80  # a scene by day: the mask can be seen


def test_the_swap_figure_names_who_leads(lesson):
    figure = lesson.draw_swap(0.95, 0.6, 0.1, 0.5, 0.5, 0.5)
    assert [axes.get_title() for axes in figure.axes] == [
        "mean IoU: A leads by 0.050",
        "mean Dice: B leads by 0.031",
    ]
    equal = lesson.draw_swap(0, 0, 0, 0, 0, 0)
    assert "nobody leads" in equal.axes[0].get_title()
