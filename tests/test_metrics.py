"""Scores from the confusion matrix: worked by hand, as properties, and against torchmetrics."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from course_utils import metrics
from course_utils.errors import CourseError
from course_utils.metrics import ConfusionMatrix

CLASSES = 4
labels = arrays(np.uint8, (3, 5, 6), elements=st.integers(0, CLASSES - 1))
labels_with_void = arrays(np.uint8, (3, 5, 6), elements=st.sampled_from([0, 1, 2, 3, 255]))


def as_array(x):
    return x


def as_tensor(x):
    return pytest.importorskip("torch").from_numpy(np.ascontiguousarray(x))


both_kinds = pytest.mark.parametrize("kind", [as_array, as_tensor], ids=["numpy", "torch"])


@both_kinds
def test_two_by_two_by_hand(kind):
    truth = np.array([[0, 0, 0], [1, 1, 255]], np.uint8)
    prediction = np.array([[0, 0, 1], [1, 0, 1]], np.uint8)
    confusion = ConfusionMatrix(2).update(kind(prediction), kind(truth))
    assert confusion.matrix.tolist() == [[2, 1], [1, 1]]
    assert confusion.matrix.dtype == np.int64
    confusion.matrix[:] = 99  # it is a copy
    assert confusion.pixel_accuracy() == 3 / 5
    assert confusion.iou().tolist() == [2 / 4, 1 / 3]
    assert confusion.mean_iou() == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert confusion.dice().tolist() == [4 / 6, 2 / 4]
    assert confusion.mean_dice() == pytest.approx((4 / 6 + 2 / 4) / 2)
    assert confusion.frequency_weighted_iou() == pytest.approx((3 * 1 / 2 + 2 * 1 / 3) / 5)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_labels_of_any_whole_type_count_the_same(dtype):
    truth, prediction = np.array([0, 1, 1], dtype), np.array([0, 1, 0], dtype)
    assert ConfusionMatrix(2).update(prediction, truth).matrix.tolist() == [[1, 0], [1, 1]]


def test_three_classes_one_only_predicted_one_absent():
    matrix = np.array([[3, 1, 0], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(metrics.iou(matrix), [0.75, 0.0, np.nan])
    assert metrics.mean_iou(matrix) == 0.375, "predicted-only counts as 0, absent is left out"
    np.testing.assert_allclose(metrics.dice(matrix), [6 / 7, 0.0, np.nan])


@both_kinds
def test_scores_are_plain_floats_so_that_nbgrader_reads_them(kind):
    confusion = ConfusionMatrix(2).update(kind(np.array([0, 1])), kind(np.array([0, 1])))
    scores = ("pixel_accuracy", "mean_iou", "mean_dice", "frequency_weighted_iou")
    assert all(type(getattr(confusion, name)()) is float for name in scores)


def test_without_a_counted_pixel_every_score_is_nan_and_nothing_warns(recwarn):
    confusion = ConfusionMatrix(3).update(np.zeros(4, np.uint8), np.full(4, 255, np.uint8))
    assert np.isnan([confusion.mean_iou(), confusion.pixel_accuracy(), confusion.mean_dice()]).all()
    assert np.isnan(confusion.frequency_weighted_iou())
    assert np.isnan(confusion.iou()).all()
    assert not recwarn


@both_kinds
@given(prediction=labels, truth=labels_with_void)
@settings(max_examples=60)
def test_equal_to_torchmetrics(kind, prediction, truth):
    torch = pytest.importorskip("torch")
    oracle = pytest.importorskip("torchmetrics.functional.classification")
    confusion = ConfusionMatrix(CLASSES).update(kind(prediction), kind(truth))
    t = torch.from_numpy(truth.astype(np.int64))
    p = torch.from_numpy(prediction.astype(np.int64))
    expected = oracle.multiclass_confusion_matrix(p, t, num_classes=CLASSES, ignore_index=255)
    np.testing.assert_array_equal(confusion.matrix, expected.numpy())
    present = ~np.isnan(confusion.iou())
    per_class = oracle.multiclass_jaccard_index(
        p, t, num_classes=CLASSES, ignore_index=255, average="none"
    ).numpy()
    f1 = oracle.multiclass_f1_score(
        p, t, num_classes=CLASSES, ignore_index=255, average="none"
    ).numpy()
    np.testing.assert_allclose(confusion.iou()[present], per_class[present], rtol=1e-6)
    np.testing.assert_allclose(confusion.dice()[present], f1[present], rtol=1e-6)
    if present.any():
        assert confusion.mean_iou() == pytest.approx(float(per_class[present].mean()), rel=1e-6)
        accuracy = oracle.multiclass_accuracy(
            p, t, num_classes=CLASSES, ignore_index=255, average="micro"
        )
        assert confusion.pixel_accuracy() == pytest.approx(float(accuracy), rel=1e-6)


@both_kinds
@given(prediction=labels, truth=labels_with_void, cut=st.integers(0, 3))
@settings(max_examples=30)
def test_many_updates_equal_one_big_update(kind, prediction, truth, cut):
    whole = ConfusionMatrix(CLASSES).update(kind(prediction), kind(truth))
    streamed = ConfusionMatrix(CLASSES)
    streamed.update(kind(prediction[:cut]), kind(truth[:cut]))
    streamed.update(kind(prediction[cut:]), kind(truth[cut:]))
    np.testing.assert_array_equal(whole.matrix, streamed.matrix)
    per_image = metrics.per_image_matrices(prediction, truth, CLASSES)
    np.testing.assert_array_equal(whole.matrix, per_image.sum(0))


@given(truth=labels_with_void)
@settings(max_examples=30)
def test_what_is_predicted_on_void_changes_nothing(truth):
    right = np.where(truth == 255, 0, truth)
    strange = truth
    np.testing.assert_array_equal(
        ConfusionMatrix(CLASSES).update(right, truth).matrix,
        ConfusionMatrix(CLASSES).update(strange, truth).matrix,
    )


@given(matrix=arrays(np.int64, (CLASSES, CLASSES), elements=st.integers(0, 10**9)))
def test_dice_is_2j_over_1_plus_j_and_micro_iou_follows_from_accuracy(matrix):
    j = metrics.iou(matrix)
    np.testing.assert_allclose(metrics.dice(matrix), 2 * j / (1 + j))
    accuracy = metrics.pixel_accuracy(matrix)
    if matrix.sum():
        right = np.trace(matrix)
        micro = right / (2 * matrix.sum() - right)
        assert micro == pytest.approx(accuracy / (2 - accuracy))


def test_functions_take_many_matrices_at_once():
    matrices = np.random.default_rng(0).integers(0, 9, (7, 2, CLASSES, CLASSES))
    for score in (metrics.iou, metrics.mean_iou, metrics.dice, metrics.frequency_weighted_iou):
        stacked = score(matrices)
        np.testing.assert_allclose(stacked[4, 1], score(matrices[4, 1]))


@both_kinds
@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        ([[0, 4]], [[0, 1]], "prediction holds the label 4"),
        ([[0, 1]], [[0, 9]], "target holds the label 9.*255 for void"),
        ([[0, 255]], [[0, 1]], "prediction holds the label 255"),
        ([[0, -1]], [[0, 1]], "prediction holds the label -1"),
        ([[0, 1, 1]], [[0, 1]], "one shape"),
        ([[[0, 1]]], [[0, 1]], "argmax"),
        ([[0.5, 1.0]], [[0, 1]], "integers"),
    ],
)
def test_wrong_labels_are_refused_with_a_reason(kind, prediction, truth, message):
    with pytest.raises(CourseError, match=message):
        ConfusionMatrix(CLASSES).update(kind(np.array(prediction)), kind(np.array(truth)))


@both_kinds
def test_without_an_ignore_index_every_label_must_be_a_class(kind):
    with pytest.raises(CourseError, match="target holds the label 255"):
        ConfusionMatrix(CLASSES, ignore_index=None).update(
            kind(np.array([0])), kind(np.array([255], np.uint8))
        )


def test_arrays_and_tensors_add_up_in_one_matrix():
    torch = pytest.importorskip("torch")
    confusion = ConfusionMatrix(2)
    confusion.update(np.array([0, 1]), np.array([0, 1]))
    confusion.update(torch.tensor([0]), np.array([1]))
    confusion.update(np.array([1]), np.array([1]))
    assert confusion.matrix.tolist() == [[1, 0], [1, 2]]


@pytest.mark.process
def test_no_torch_for_arrays():
    code = (
        "import sys, numpy as np\n"
        "from course_utils.metrics import ConfusionMatrix\n"
        "ConfusionMatrix(2).update(np.array([0, 1]), np.array([0, 1])).mean_iou()\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_bootstrap_interval_of_identical_images_is_a_point():
    matrices = np.tile(np.array([[3, 1], [1, 3]]), (20, 1, 1))
    assert metrics.bootstrap_interval(matrices) == (0.6, 0.6)


def test_bootstrap_interval_covers_the_score_of_the_population():
    """Draw many small sets; about 95 % of their intervals must hold the population's score."""
    rng = np.random.default_rng(0)
    quality = rng.uniform(0.5, 0.95, 3000)
    right = rng.binomial(200, quality[:, None], (3000, 2))
    population = np.zeros((3000, 2, 2), np.int64)
    population[:, [0, 1], [0, 1]] = right
    population[:, [0, 1], [1, 0]] = 200 - right
    truth = metrics.mean_iou(population.sum(0))
    covered = 0
    for trial in range(200):
        sample = population[rng.choice(3000, 40, replace=False)]
        low, high = metrics.bootstrap_interval(sample, seed=trial, repeats=300)
        covered += low <= truth <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_bootstrap_interval_is_reproducible_and_refuses_no_images():
    matrices = np.random.default_rng(1).integers(0, 50, (12, 3, 3))
    assert metrics.bootstrap_interval(matrices, seed=3) == metrics.bootstrap_interval(
        matrices, seed=3
    )
    with pytest.raises(CourseError, match="N > 0"):
        metrics.bootstrap_interval(matrices[:0])
