"""A net that labels one patch: slid by one function, bounded, and marked like any other."""

import copy
import json

import numpy as np
import pytest
from scipy import ndimage

from course_utils.errors import CourseError
from course_utils.grading.marking.scorer import score_model_file
from course_utils.hand_in import record, sliding, tasks
from course_utils.hand_in.gate import Refused, check_model_bytes
from course_utils.hand_in.inference import open_model, predict
from tests.model_files import patch_model, settings_of, small_model


def setup_module():
    global export, fit_patches, load_weights, Middle, nn, predict_patches, torch, train_once
    import torch
    from torch import nn

    from course_utils.hand_in.export import export
    from course_utils.training import fit_patches, load_weights, predict_patches, train_once
    from tests.nets import Middle


NAME = "sliding_window"
SECRET = 0x1234_5678_9ABC_DEF0_1234_5678_9ABC_DEF0
WINDOW = 33  # the scorer's process reads it from the tasks file itself


@pytest.fixture(autouse=True)
def few_images(tmp_path, monkeypatch):
    """Work in an empty lesson's folder, with a few images."""
    entries = copy.deepcopy(tasks._entries())
    few = {"stride": 8, "train": 6, "valid": 4, "hidden": 6, "seconds": 20}
    entries[NAME]["quick"] |= few
    monkeypatch.setattr(tasks, "_entries", lambda: entries)
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    folder = tmp_path / "03_sliding_window"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder
    tasks._hidden_set.cache_clear()


def draw(data, count, rng):
    """Draw patches of one image."""
    n, r, c = rng.integers(len(data)), rng.integers(0, 60, count), rng.integers(0, 90, count)
    labels = np.minimum(data.masks[n, r, c], 9)
    return sliding.patches(data.images[n], WINDOW)[r, c], labels


# ------------------------------------------------------------------------------ how it is slid


def test_the_middle_of_each_patch_is_its_pixel_and_the_border_is_mirrored():
    image = np.random.default_rng(0).integers(0, 256, (7, 10, 3), dtype=np.uint8)
    cut = sliding.patches(image, 5)
    assert cut.shape == (7, 10, 3, 5, 5)
    np.testing.assert_array_equal(cut[..., 2, 2], image)
    np.testing.assert_array_equal(cut[0, 0, :, 0, 0], image[2, 2])  # two beyond: the second inside
    np.testing.assert_array_equal(cut[6, 9, :, 2, 4], image[6, 7])
    np.testing.assert_array_equal(sliding.patches(image, 5, 3), cut[::3, ::3])


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_scores_between_the_pixels_are_interpolated_and_those_on_them_stay(stride):
    full = np.random.default_rng(0).normal(size=(3, 13, 18)).astype(np.float32)
    some = full[:, ::stride, ::stride]
    found = sliding.enlarge(some, (13, 18), stride)
    np.testing.assert_allclose(found[:, ::stride, ::stride], some, atol=1e-6)
    places = np.meshgrid(np.arange(13) / stride, np.arange(18) / stride, indexing="ij")
    wanted = [ndimage.map_coordinates(one, places, order=1, mode="nearest") for one in some]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_what_is_slid_does_not_depend_on_batches(monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)

    def means(x):
        return x.mean(axis=(2, 3))

    whole = sliding.slide(means, image, 3, 2)
    monkeypatch.setattr(sliding, "BATCH_PIXELS", 9 * 4)
    sizes = []
    parts = sliding.slide(lambda x: sizes.append(len(x)) or means(x), image, 3, 2)
    np.testing.assert_array_equal(whole, parts)
    assert max(sizes) == 4
    assert sum(sizes) == 5 * 7
    wanted = ndimage.uniform_filter(image / 255, (3, 3, 0), mode="mirror")[::2, ::2]
    np.testing.assert_allclose(parts[:, ::2, ::2].transpose(1, 2, 0), wanted, atol=1e-5)


def test_a_model_file_and_torch_give_the_same_masks():
    task = tasks.get_task(NAME, "quick")
    model = patch_model(task)
    weight = np.frombuffer(model.graph.initializer[0].raw_data, np.float32)
    net = nn.Sequential(nn.Conv2d(3, 10, WINDOW, bias=False), nn.Flatten())
    net[0].weight.data = torch.from_numpy(weight.copy()).reshape(10, 3, WINDOW, WINDOW)
    images = task.load("valid").images[:2]
    session = open_model(model.SerializeToString())
    found = predict(session, images, 10, window=WINDOW, stride=8)
    np.testing.assert_array_equal(found, predict_patches(net, images, WINDOW, 8))
    assert found.shape == images.shape[:3]


# ------------------------------------------------------------------------------ what is refused


def refusal(model) -> str:
    with pytest.raises(Refused) as caught:
        check_model_bytes(model.SerializeToString(), tasks.get_task(NAME, "quick"), "m.onnx")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_right_net_passes_the_gate_and_its_cost_is_that_of_one_patch():
    task = tasks.get_task(NAME, "quick")
    facts = check_model_bytes(patch_model(task).SerializeToString(), task)
    assert facts.multiplications == 10 * 3 * WINDOW**2


def test_a_net_that_costs_too_much_a_patch_is_refused_with_one_line(few_images):
    entry = tasks._entries()[NAME]["quick"]
    entry["max_multiplications"] = 10 * 3 * WINDOW**2
    model = patch_model(tasks.get_task(NAME, "quick"))
    check_model_bytes(model.SerializeToString(), tasks.get_task(NAME, "quick"))
    entry["max_multiplications"] -= 1
    assert "million multiplications for one patch, allowed are" in refusal(model)


def test_a_net_of_whole_images_or_of_another_window_is_refused():
    task = tasks.get_task(NAME, "quick")
    assert "takes input of shape" in refusal(
        small_model(tasks.get_task("unet", "quick"), task=NAME)
    )
    maps = small_model(task)  # scores for each pixel of the patch
    assert "A patch has one class, that of its centre" in refusal(maps)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 8}, "window is 8; it must be odd"),
        ({"window": -1}, "window is -1; it must be above 0"),
        ({"stride": 0}, "stride is 0"),
        ({"max_multiplications": 0}, "max_multiplications is 0"),
    ],
)
def test_a_mistake_in_the_tasks_file_is_named(change, message):
    tasks._entries()[NAME]["quick"] |= change
    with pytest.raises(CourseError, match=message):
        tasks.get_task(NAME, "quick")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda *_: None, "must return two arrays"),
        (lambda d, n, r: (draw(d, n, r)[0][:, :, 1:], draw(d, n, r)[1]), "draw gives patches"),
        (lambda d, n, r: (draw(d, n, r)[0] / 255, draw(d, n, r)[1]), "float64; wanted"),
        (lambda d, n, r: (draw(d, n, r)[0], draw(d, n, r)[1] + 255), "draw gives labels"),
    ],
)
def test_patches_that_are_none_are_named_before_anything_is_trained(wrong, message):
    task = tasks.get_task(NAME, "quick")
    train, valid = task.load("train"), task.load("valid")
    with pytest.raises(CourseError, match=message):
        fit_patches(Middle(WINDOW), train, valid, wrong, window=WINDOW, epochs=1, steps=1)


def test_a_net_that_labels_pixels_is_told_that_a_patch_has_one_class():
    task = tasks.get_task(NAME, "quick")
    train = task.load("train")
    net = nn.Conv2d(3, 10, 3, padding=1)
    with pytest.raises(CourseError, match="A patch has one class, that of its centre"):
        fit_patches(net, train, train, draw, window=WINDOW, epochs=1, steps=1)


# ------------------------------------------------------------------------------ the whole way


def train_model(model, checkpoint):
    task = tasks.get_task(NAME)
    settings = {"window": WINDOW, "stride": 8, "epochs": 2, "steps": 4, "batch_size": 8}
    train, watched = task.load("train"), task.load("valid").subset(2)
    return fit_patches(model, train, watched, draw, **settings, checkpoint=checkpoint)


@pytest.mark.long
@pytest.mark.process
def test_a_patch_classifier_is_trained_exported_loaded_and_marked(few_images, tmp_path, capsys):
    torch.manual_seed(0)
    model = Middle(WINDOW)
    history = train_once(NAME, model, train_model)
    assert len(history) == 2
    export(NAME, model, history)
    told = capsys.readouterr().out
    assert "agree on 100.00%" in told
    assert "Careful" not in told  # it has watched two images only
    stated = json.loads(record.record_path(NAME).read_text())
    loaded = Middle(WINDOW)
    load_weights(NAME, loaded)
    images = tasks.get_task(NAME).load("valid").images
    masks = predict_patches(loaded, images, WINDOW, 8)
    np.testing.assert_array_equal(masks, predict_patches(model, images, WINDOW, 8))
    score = score_model_file(few_images, NAME, settings_of(tmp_path, SECRET))
    assert score.reason == ""
    assert score.images == 6
    assert abs(score.iou - stated["validation"]["mean IoU"]) < 0.2


@pytest.mark.long
def test_an_interrupted_training_ends_as_if_it_had_not_been(tmp_path):
    task = tasks.get_task(NAME)
    train, watched = task.load("train"), task.load("valid").subset(2)
    settings = {"window": WINDOW, "stride": 8, "epochs": 2, "steps": 3, "batch_size": 8}
    drawn = []

    def stops(data, count, rng):
        drawn.append(count)
        if drawn.count(8) == 5:  # in the second epoch
            raise KeyboardInterrupt
        return draw(data, count, rng)

    models = []
    for number, some in enumerate((draw, stops, draw)):
        torch.manual_seed(0)
        models.append(Middle(WINDOW))
        file = tmp_path / f"{min(number, 1)}.pt"
        if some is stops:
            with pytest.raises(CourseError, match="stopped in epoch 2 of 2"):
                fit_patches(models[-1], train, watched, some, **settings, checkpoint=file)
        else:
            fit_patches(models[-1], train, watched, some, **settings, checkpoint=file)
    whole, _, resumed = (model.state_dict() for model in models)
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value)
