"""Training: it learns, survives being killed, loads what was exported, explains what is wrong."""

import dataclasses
import gc
import json
import math
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils.data import VOID, SegmentationSet
from course_utils.errors import CourseError

ROOT = str(Path(__file__).resolve().parent.parent)


def setup_module():
    global augmenting, behaviour, boxes, CLASSES, Constant, devices, Elsewhere, evaluate, F, fit
    global fitting, History, InList, KeepsItsSkip, load_weights, nn, predict, quick_fit, Returns
    global same_setting, same_weights, TinyUNet, torch, train_once, WithSpareAndShared
    import torch
    from torch import nn
    from torch.nn import functional as F

    from course_utils.data.transforms import augmenting
    from course_utils.training import (
        History,
        devices,
        evaluate,
        fit,
        fitting,
        load_weights,
        predict,
        train_once,
    )
    from course_utils.training.checkpoint import behaviour, same_setting
    from tests.nets import (
        CLASSES,
        Constant,
        Elsewhere,
        InList,
        KeepsItsSkip,
        Returns,
        TinyUNet,
        WithSpareAndShared,
        boxes,
        quick_fit,
        same_weights,
    )


@pytest.fixture(autouse=True)
def quiet_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    torch.manual_seed(0)


@pytest.fixture
def model():
    return TinyUNet()


# Learning


@pytest.mark.long
def test_fit_learns_and_tells_what_happened(model):
    valid = boxes(8, seed=1)
    history = fit(model, boxes(48), valid, epochs=12, max_lr=2e-2, batch_size=8, device="cpu")
    assert len(history) == 12
    lengths = {len(v) for v in vars(history).values() if isinstance(v, list)}
    assert lengths == {12}
    assert history.train_loss[-1] < history.train_loss[0] / 3
    assert history.mean_iou[-1] > 0.9
    assert not model.training
    assert all(type(score) is float for score in history.mean_iou + history.valid_loss)
    assert evaluate(model, valid).mean_iou() == pytest.approx(history.mean_iou[-1], abs=0.02)


@pytest.mark.long
def test_fit_calls_back_after_each_step_and_each_epoch(model):
    steps, epochs = [], []
    history = quick_fit(
        model,
        epochs=2,
        batch_size=8,
        on_step=lambda step, loss: steps.append((step, loss.item())),
        on_epoch=lambda *given: epochs.append((len(given[1]), given[1].mean_iou[-1], given[2])),
    )
    assert [step for step, _ in steps] == [1, 2, 3, 1, 2, 3]
    assert np.mean([loss for _, loss in steps[3:]]) == pytest.approx(history.train_loss[1])
    assert [number for number, _, _ in epochs] == [1, 2]
    assert [confusion.mean_iou() for *_, confusion in epochs] == history.mean_iou


@pytest.mark.long
def test_learning_rate_makes_one_cycle(model):
    rates = quick_fit(model, epochs=6, max_lr=1e-2).learning_rate
    top = int(np.argmax(rates))
    assert 0 < top < 4
    assert rates[top] <= 1e-2
    assert rates[-1] < 1e-5


@pytest.mark.long
def test_images_that_are_void_all_over_are_left_out(model):
    data = boxes(16)
    padded = dataclasses.replace(
        data,
        images=np.concatenate([data.images, data.images[:3]]),
        masks=np.concatenate([data.masks, np.full_like(data.masks[:3], VOID)]),
    )
    twin = TinyUNet()
    twin.load_state_dict(model.state_dict())
    one = fit(model, data, data, epochs=2, batch_size=8, device="cpu")
    two = fit(twin, padded, data, epochs=2, batch_size=8, device="cpu")
    assert same_weights(model, twin)
    assert one.train_loss == two.train_loss


@pytest.mark.long
def test_valid_loss_is_the_weighted_cross_entropy_of_the_whole_set(model):
    weights = torch.tensor([0.5, 2.0, 3.0])
    history = quick_fit(model, class_weights=weights, epochs=1, batch_size=3)
    logits = model(torch.from_numpy(boxes(8, seed=1).images).permute(0, 3, 1, 2) / 255)
    target = torch.from_numpy(boxes(8, seed=1).masks).long()
    expected = F.cross_entropy(logits, target, weights, ignore_index=VOID).item()
    assert history.valid_loss[0] == pytest.approx(expected, rel=0.02)


@pytest.mark.long
def test_the_loss_is_blind_to_void(model):
    """Two trainings whose images differ under void only see the same first loss."""
    data = boxes(8)
    logits = torch.randn(8, 3, 16, 24)
    changed = logits.clone()
    changed[:, :, 0] += 5  # the frame of void
    still = {"augment": False, "device": "cpu"}
    first = [
        fit(Constant(values), data, data, epochs=1, max_lr=1e-9, batch_size=8, **still)
        for values in (logits, changed)
    ]
    assert first[0].train_loss == pytest.approx(first[1].train_loss, rel=1e-5)
    assert first[0].mean_iou == first[1].mean_iou


@pytest.mark.long
def test_the_shortest_training_is_one_step(model):
    data = boxes(3)
    for epochs in (1, 2, 3, 4):
        assert len(fit(model, data, data, epochs=epochs, device="cpu")) == epochs


@pytest.mark.long
def test_the_same_seed_gives_the_same_training_whatever_ran_before(model):
    twin = TinyUNet()
    twin.load_state_dict(model.state_dict())
    one = quick_fit(model, seed=3)
    torch.rand(5)
    state = torch.get_rng_state()
    two = quick_fit(twin, seed=3)
    assert one.train_loss == two.train_loss
    assert same_weights(model, twin)
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers are not touched"


def test_biases_and_batch_norm_are_not_decayed(model):
    groups = fitting._optimizer(model, 1e-3, 0.1).param_groups
    decays = {w.ndim > 1: group["weight_decay"] for group in groups for w in group["params"]}
    assert decays == {True: 0.1, False: 0.0}


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20)
def test_augmentation_moves_image_and_mask_together(seed):
    torch.manual_seed(seed)
    y = torch.randint(0, 3, (6, 5, 7))
    x = y[:, None].expand(-1, 3, -1, -1).byte()  # an image that shows its own mask
    for image, before in zip(x, y, strict=True):
        moved, labels = augmenting()(image, before)
        assert torch.equal(moved[0], labels.byte())
        assert torch.equal(labels, before) or torch.equal(labels, before.flip(-1))


def test_augmentation_flips_some_images_and_not_others():
    y = torch.randint(0, 3, (64, 5, 7))
    flip = augmenting()
    labels = [flip(torch.zeros(3, 5, 7), mask)[1] for mask in y]
    kept = sum(torch.equal(a, b) for a, b in zip(labels, y, strict=True))
    assert 16 < kept < 48


@given(seed=st.integers(0, 10**6), count=st.integers(1, 20))
@settings(max_examples=20)
def test_a_batch_is_flipped_as_its_pictures_are_one_by_one(seed, count):
    """To the last bit: what is drawn from a seed is the same."""
    x = torch.arange(count * 3 * 4 * 6).reshape(count, 3, 4, 6) % 251
    y = torch.arange(count * 4 * 6).reshape(count, 4, 6) % 5
    torch.manual_seed(seed)
    one_by_one = fitting._each(augmenting())(x.byte(), y.byte())
    after = torch.rand(1)
    torch.manual_seed(seed)
    batch = fitting._flip_some(x.byte(), y.byte())
    assert all(torch.equal(a, b) for a, b in zip(one_by_one, batch, strict=True))
    assert torch.equal(torch.rand(1), after)


def test_class_weights_grow_as_a_class_gets_rarer():
    masks = np.array([[[0, 0, 0, 0, 0, 0, 1, 255, 255, 255]]], np.uint8)
    weights = fitting.class_weights(masks, 3)
    expected = 1 / np.log(1.1 + np.array([6 / 7, 1 / 7, 0]))
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-6)


# Predicting


def test_predict_gives_labels_in_eval_mode_and_leaves_modes_alone(model):
    model.train()
    model.low.eval()
    images = boxes(5).images
    before = {name: value.clone() for name, value in model.state_dict().items()}
    masks = predict(model, images, batch_size=2)
    assert masks.dtype == np.uint8
    assert masks.shape == images.shape[:3]
    np.testing.assert_array_equal(masks, predict(model, images, batch_size=5))
    assert model.training
    assert not model.low.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    model.eval()
    logits = model(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
    np.testing.assert_array_equal(masks, logits.argmax(1).numpy())


def test_a_tensor_that_stays_on_another_device_is_explained():
    for use in (quick_fit, lambda model: predict(model, boxes(2).images)):
        with pytest.raises(CourseError, match=r"another device\. Make it an nn\.Parameter"):
            use(Elsewhere())


def test_sizes_that_cannot_be_halved_are_explained(model):
    with pytest.raises(CourseError, match=r"images of 15x24 pixels.*multiples of 2 per pooling"):
        predict(model, boxes(2).images[:, 1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y.argmax(1), r"logits \(2, C, 16, 24\).*not their argmax"),
        (lambda y: y[..., 1:], "Height and width must come out as they went in"),
        (lambda y: y / 0 * 0, "returns NaN.*training diverged"),
    ],
)
def test_predict_refuses_what_are_no_scores(change, message):
    for use in (predict, lambda model, images: evaluate(model, boxes(2))):
        with pytest.raises(CourseError, match=message.replace("C,", r"(C|3),")):
            use(Returns(change), boxes(2).images)


def test_predict_refuses_a_batch_of_nothing(model):
    with pytest.raises(CourseError, match="batch_size must be a whole number from 1 up"):
        predict(model, boxes(2).images, batch_size=0)


def test_predict_of_no_images_is_empty(model):
    assert predict(model, boxes(2).images[:0]).shape == (0, 16, 24)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images: images[0], r"images\[None\]"),
        (lambda images: images / 255, "float64"),
        (lambda images: images.transpose(0, 3, 1, 2), "colour last"),
    ],
)
def test_predict_refuses_what_is_no_batch_of_images(model, change, message):
    with pytest.raises(CourseError, match=message):
        predict(model, change(boxes(2).images))


# Checkpoints

LONG = """
import sys
sys.path.insert(0, {root!r})
import torch
from course_utils.training import fit
from tests.nets import TinyUNet, boxes
torch.set_num_threads(1)
for file in {files!r}:
    torch.manual_seed(0)
    fit(TinyUNet(), boxes(24), boxes(8, seed=1), epochs=100, batch_size=8, device="cpu",
        checkpoint=file)
"""


@pytest.mark.process
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_killed_and_restarted_it_ends_like_an_uninterrupted_training():
    """SIGKILL in the middle; the resumed run equals one that was never stopped, bit for bit."""

    def command(*files):
        return [sys.executable, "-c", LONG.format(root=ROOT, files=files)]

    checkpoint = Path("killed.pt")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command("killed.pt"), env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it was still at work"
    kept = len(torch.load(checkpoint, weights_only=True)["history"]["train_loss"])
    assert 0 < kept < 100

    second = subprocess.run(
        command("killed.pt", "whole.pt"),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"Going on after epoch {kept} of 100" in second.stdout
    resumed, whole = (torch.load(f, weights_only=True) for f in ("killed.pt", "whole.pt"))
    assert len(resumed["history"]["train_loss"]) == 100
    assert resumed["history"]["train_loss"] == whole["history"]["train_loss"]
    for name, value in resumed["model"].items():
        assert torch.equal(value, whole["model"][name]), name
    model = TinyUNet()
    model.load_state_dict(resumed["model"])
    assert evaluate(model, boxes(8, seed=1)).mean_iou() > 0.9


@pytest.mark.long
def test_a_finished_training_is_loaded_at_once(model, capsys, monkeypatch):
    one = quick_fit(model, checkpoint="m/tiny.pt")
    twin = TinyUNet()
    monkeypatch.setattr(fitting, "_train_epoch", None)
    two = quick_fit(twin, checkpoint="m/tiny.pt")
    assert same_weights(model, twin)
    assert one == two
    assert "Already trained" in capsys.readouterr().out


def change_forward(model):
    model.up.register_forward_hook(lambda module, inputs, output: output * 0)


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "change", "named"),
    [
        ({"epochs": 4}, None, "epochs"),
        ({"max_lr": 1e-2}, None, "max_lr"),
        ({"seed": 5}, None, "seed"),
        ({}, change_forward, "network"),
    ],
)
def test_changed_settings_train_anew_and_keep_the_old_file(model, capsys, options, change, named):
    quick_fit(model, checkpoint="tiny.pt")
    old = Path("tiny.pt").read_bytes()
    other = TinyUNet()
    if change:
        change(other)
    history = quick_fit(other, checkpoint="tiny.pt", **options)
    assert len(history) == options.get("epochs", 3)
    assert f"other {named}" in capsys.readouterr().out
    assert Path("tiny.previous-1.pt").read_bytes() == old


@pytest.mark.long
def test_changed_data_trains_anew(model, capsys):
    fit(model, boxes(8), boxes(4), epochs=1, checkpoint="tiny.pt", device="cpu")
    changed = boxes(8)
    changed.masks[3, 5, 5] = 1 - changed.masks[3, 5, 5]
    fit(TinyUNet(), changed, boxes(4), epochs=1, checkpoint="tiny.pt", device="cpu")
    assert "other training data" in capsys.readouterr().out


@pytest.mark.long
def test_a_damaged_checkpoint_is_put_aside(model, capsys):
    quick_fit(model, checkpoint="tiny.pt")
    Path("tiny.pt").write_bytes(Path("tiny.pt").read_bytes()[:-500])
    assert len(quick_fit(TinyUNet(), checkpoint="tiny.pt")) == 3
    assert "cannot be read" in capsys.readouterr().out
    assert Path("tiny.previous-1.pt").exists()


@pytest.mark.long
def test_a_checkpoint_with_code_in_it_runs_nothing(model, capsys):
    class Evil:
        def __reduce__(self):
            return (Path("ran").touch, ())

    torch.save({"settings": Evil()}, "tiny.pt")
    quick_fit(model, checkpoint="tiny.pt")
    assert not Path("ran").exists()
    assert "cannot be read" in capsys.readouterr().out


@pytest.mark.long
def test_an_interrupt_keeps_the_last_epoch_and_says_how_to_go_on(model, monkeypatch):
    whole = TinyUNet()
    whole.load_state_dict(model.state_dict())
    quick_fit(whole, checkpoint="whole.pt", epochs=4)
    real, calls = fitting._train_epoch, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(fitting, "_train_epoch", interrupted)
    with pytest.raises(CourseError, match=r"stopped in epoch 3 of 4; tiny\.pt .*run this again"):
        quick_fit(model, checkpoint="tiny.pt", epochs=4)
    resumed = TinyUNet()
    assert len(quick_fit(resumed, checkpoint="tiny.pt", epochs=4)) == 4
    assert same_weights(resumed, whole)


@pytest.mark.long
def test_a_checkpoint_without_a_scaler_goes_on_where_one_is_needed(model, monkeypatch):
    """From a CPU, a Mac or a bfloat16 GPU to a float16 GPU, which scales its losses."""
    real = fitting.save

    def stop(*arguments):
        real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "save", stop)
    with pytest.raises(CourseError, match="stopped"):
        quick_fit(model, checkpoint="tiny.pt", epochs=4)
    monkeypatch.setattr(fitting, "save", real)
    scaled = devices.Mode(torch.float16, torch.channels_last, scaled=True)
    monkeypatch.setattr(fitting, "fastest_mode", lambda device: scaled)
    history = quick_fit(model, checkpoint="tiny.pt", epochs=4)
    assert len(history) == 4
    assert history.train_loss[-1] < history.train_loss[0]
    assert torch.load("tiny.pt", weights_only=True)["scaler"]["scale"] > 1


@pytest.mark.long
def test_settings_may_be_numpys_numbers(model, capsys):
    """An argmin over rates gives such; a checkpoint that holds them could not be read again."""
    settings = {
        "max_lr": np.float32(1e-2),
        "weight_decay": np.float64(1e-2),
        "epochs": np.int64(2),
        "batch_size": np.int32(8),
        "seed": np.int64(3),
    }

    def train(model, checkpoint):
        return quick_fit(model, checkpoint=checkpoint, **settings)

    assert len(train_once("unet", model, train)) == 2
    assert len(train_once("unet", TinyUNet(), train)) == 2
    assert "Already trained" in capsys.readouterr().out


@pytest.mark.long
def test_any_whole_number_is_a_seed(model):
    for seed in (-1, 10**30):
        assert len(quick_fit(model, epochs=1, seed=seed)) == 1


@pytest.mark.long
def test_layers_unfrozen_make_another_training(model, capsys):
    model.down.requires_grad_(False)
    quick_fit(model, checkpoint="tiny.pt")
    model.down.requires_grad_(True)
    assert len(quick_fit(model, checkpoint="tiny.pt")) == 3
    assert "training with other network" in capsys.readouterr().out


@pytest.mark.long
def test_a_checkpoint_that_another_program_holds_is_kept(model, monkeypatch):
    quick_fit(model, checkpoint="tiny.pt")

    def held(*arguments, **options):
        raise PermissionError("used by another process")

    monkeypatch.setattr(torch, "load", held)
    with pytest.raises(CourseError, match=r"used by another process.*run this again"):
        quick_fit(model, checkpoint="tiny.pt")
    assert [path.name for path in Path().glob("*.pt")] == ["tiny.pt"]


# What a student can get wrong


def frozen():
    return TinyUNet().requires_grad_(False)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TinyUNet(classes=4), "3 output channels, one a class"),
        (lambda: Returns(lambda y: y[..., :-1]), "Height and width"),
        (lambda: Returns(lambda y: y.argmax(1)), "not their argmax"),
        (lambda: Returns(lambda y: y.softmax(1)), "Leave softmax out"),
        (lambda: Returns(lambda y: None), "'return' missing"),
        (lambda: Returns(lambda y: y * float("nan")), "NaN"),
        (lambda: Returns(lambda y: y.long()), "argmax to predict"),
        (lambda: InList(), "layers is a plain list of layers.*nn.ModuleList"),
        (frozen, "no weights to train"),
        (lambda: TinyUNet, "the class itself"),
    ],
)
def test_a_wrong_model_is_explained_before_training(make, message):
    with pytest.raises(CourseError, match=message):
        quick_fit(make())


@pytest.mark.parametrize("label", [3, 254])
def test_a_label_that_is_no_class_is_named(model, label):
    data = boxes(4)
    data.masks[2, 5, 5] = label
    with pytest.raises(CourseError, match=rf"label {label}, which is no class.*0\.\.2"):
        fit(model, data, boxes(4), epochs=1)


def test_nothing_but_void_is_refused(model):
    data = boxes(4)
    data.masks[:] = VOID
    with pytest.raises(CourseError, match="nothing to learn"):
        fit(model, data, boxes(4), epochs=1)


def test_wrong_class_weights_are_refused(model):
    with pytest.raises(CourseError, match="3 finite numbers"):
        quick_fit(model, class_weights=[1, 2])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number from 1 up, found 0"),
        ({"epochs": "3"}, "epochs must be a whole number from 1 up, found '3'"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1 up"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"max_lr": -1}, "max_lr must be a number from 0 up, found -1"),
        ({"max_lr": math.nan}, "max_lr must be a number"),
        ({"seed": None}, "seed must be a whole number, found None"),
        ({"device": "gpu"}, "device 'gpu' cannot be used here"),
        ({"valid": None}, "data must be a SegmentationSet.*found NoneType"),
        ({"train": (1, 2)}, "data must be a SegmentationSet.*found tuple"),
        ({"checkpoint": "folder"}, "checkpoint must be a file, and folder is a folder"),
    ],
)
def test_each_wrong_setting_is_one_line_before_anything_is_lost(model, given, message):
    Path("folder").mkdir()
    with pytest.raises(CourseError, match=message) as caught:
        fit(model, **{"train": boxes(4), "valid": boxes(4), "epochs": 1} | given)
    assert "\n" not in str(caught.value)
    assert Path("folder").is_dir()


def test_a_gpu_that_is_not_there_is_told(model):
    if torch.cuda.is_available():
        pytest.skip("here it can be used")
    for call in (
        lambda: predict(model, boxes(2).images, device="cuda"),
        lambda: evaluate(model, boxes(2), device="cuda"),
    ):
        with pytest.raises(CourseError, match="device 'cuda' cannot be used here"):
            call()


def test_validation_images_of_a_size_that_does_not_fit_are_told_before_the_training(model):
    odd = boxes(4)
    odd = dataclasses.replace(odd, images=odd.images[:, :-1], masks=odd.masks[:, :-1])
    with pytest.raises(CourseError, match="multiples of 2"):
        fit(model, boxes(4), odd, epochs=1)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_weights_of_another_dtype_are_not_called_another_device(model, dtype):
    model = model.to(getattr(torch, dtype))
    for call in (lambda: quick_fit(model), lambda: predict(model, boxes(2).images)):
        with pytest.raises(CourseError, match=f"weights of torch.{dtype}.*model.float"):
            call()


def test_evaluate_refuses_what_fit_refuses(model):
    data = boxes(4)
    for wrong, message in (
        (TinyUNet(len(data.classes) + 2), "output channels, one a class"),
        (nn.Flatten(), "wanted are logits"),
    ):
        with pytest.raises(CourseError, match=message):
            evaluate(wrong, data)
    with pytest.raises(CourseError, match="data must be a SegmentationSet"):
        evaluate(model, data.images)


@pytest.mark.long
def test_an_exploding_loss_stops_with_an_explanation_and_keeps_the_checkpoint(model, monkeypatch):
    real, calls = fitting._batch, []

    def explode(*given):
        calls.append(1)
        x, y = real(*given)
        return (x * float("inf") if len(calls) > 4 else x), y

    monkeypatch.setattr(fitting, "_batch", explode)
    with pytest.raises(CourseError, match=r"loss became nan in epoch 2.*Lower max_lr"):
        quick_fit(model, checkpoint="tiny.pt")
    state = torch.load("tiny.pt", weights_only=True)
    assert len(state["history"]["train_loss"]) == 1
    assert all(value.isfinite().all() for value in state["model"].values())


@pytest.mark.long
@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        lambda: RuntimeError(
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory"
        ),
        lambda: RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
        ),
        MemoryError,
    ],
)
def test_out_of_memory_says_what_to_do(model, monkeypatch, error):
    def full(*given):
        raise error()

    monkeypatch.setattr(fitting, "_batch", full)
    with pytest.raises(CourseError, match=r"batch_size=8 at 16x24.*Try batch_size=4"):
        quick_fit(model)


@pytest.mark.long
def test_out_of_memory_lets_go_of_the_failed_batch(model, monkeypatch):
    """A notebook keeps the last error; with it the tensors would fill the memory of the retry."""
    alive = []

    def full(images, *given):
        alive.append(weakref.ref(images))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(fitting, "_batch", full)
    with pytest.raises(CourseError, match="memory ran out") as kept:
        quick_fit(model)
    gc.collect()
    assert kept.value is not None
    assert alive[0]() is None


def test_an_error_in_forward_keeps_its_own_traceback():
    def broken(y):
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        quick_fit(Returns(broken))
    with pytest.raises(NotImplementedError):
        quick_fit(Returns(not_implemented))


def not_implemented(y):
    raise NotImplementedError


@pytest.mark.long
def test_flipped_and_read_only_arrays_are_taken(model):
    data = boxes(8)
    flipped = SegmentationSet(
        "boxes", "valid", CLASSES, data.images[:, :, ::-1], data.masks[:, :, ::-1]
    )
    fit(model, flipped, flipped, epochs=1, batch_size=4)
    data.images.setflags(write=False)
    assert fitting._as_tensor(data.images).numpy().flags.writeable


# Devices


def test_a_card_that_torch_has_no_code_for_is_left_alone(monkeypatch):
    def no_kernel(*size, device):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", no_kernel)
    assert devices._cuda_computes.__wrapped__() is False
    monkeypatch.setattr(devices, "_cuda_computes", lambda: False)
    assert devices.pick_device().type != "cuda"


def test_a_card_that_is_full_is_still_the_one_to_train_on(monkeypatch):
    def full(*size, device):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "ones", full)
    assert devices._cuda_computes.__wrapped__() is True


def test_bfloat16_only_where_the_cpu_has_it(monkeypatch):
    cpu = torch.device("cpu")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert devices.fastest_mode(cpu).dtype is None
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert devices.fastest_mode(cpu).dtype is torch.bfloat16


def test_apples_gpu_computes_in_float32():
    assert devices.fastest_mode(torch.device("mps")).dtype is None


def test_fit_on_cuda(model):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    data = boxes(48)
    history = fit(model, data, boxes(8, seed=1), epochs=12, max_lr=2e-2, batch_size=8)
    assert history.mean_iou[-1] > 0.85
    assert next(model.parameters()).is_cuda
    assert predict(model, data.images).shape == data.masks.shape


# A task


def export(model, file, **options):
    """Write a model file as the course's export does: every weight under its own name."""
    Path(file).parent.mkdir(exist_ok=True)
    modes = model.training
    model.eval()
    program = torch.onnx.export(
        model, (torch.rand(2, 3, 16, 24),), dynamo=True, verbose=False, **options
    )
    model.train(modes)
    proto = program.model_proto
    Path(file).write_bytes(proto.SerializeToString())
    return proto


def train(model, checkpoint):
    return quick_fit(model, checkpoint=checkpoint)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_train_once_trains_once_and_the_grader_loads_the_model_file(model, monkeypatch, capfd):
    history = train_once("unet", model, train)
    record = json.loads(Path("models/unet.json").read_text())
    assert record["task"] == "unet"
    assert record["epochs"] == 3
    assert record["history"]["mean_iou"] == history.mean_iou
    assert set(record) >= {"profile", "data", "seed", "seconds", "device", "versions"}
    export(model, "models/unet.onnx", optimize=False)
    Path("models/unet.json").write_text(json.dumps(record | {"sha256": "of the export"}))

    again = TinyUNet()
    assert train_once("unet", again, train) == history
    assert same_weights(again, model)
    assert "sha256" in Path("models/unet.json").read_text(), "a finished record is kept"

    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    Path("models/unet.checkpoint.pt").unlink()
    graded = TinyUNet()
    capfd.readouterr()
    loaded = train_once("unet", graded, lambda *_: pytest.fail("the grader never trains"))
    out, err = capfd.readouterr()
    assert loaded == history
    assert "No training here" in out
    assert not err
    assert not graded.training
    images = boxes(4).images
    np.testing.assert_array_equal(predict(graded, images), predict(model, images))
    for name, value in model.state_dict().items():
        if "num_batches" not in name:
            assert torch.equal(value, graded.state_dict()[name]), name


@pytest.mark.long
def test_restart_trains_anew_and_keeps_the_old_checkpoint(model):
    train_once("unet", model, train)
    calls = []

    def counted(model, checkpoint):
        calls.append(checkpoint.exists())
        return train(model, checkpoint)

    train_once("unet", TinyUNet(), counted, restart=True)
    assert calls == [False]
    assert Path("models/unet.checkpoint.previous-1.pt").exists()


def test_what_is_no_task_is_told_before_it_is_trained(model):
    with pytest.raises(CourseError, match=r"no task 'unnet'\. The tasks are: .*unet"):
        train_once("unnet", model, lambda *_: pytest.fail("it is not trained"))
    Path("models").write_text("a file where the folder should be")
    with pytest.raises(CourseError, match=r"cannot make .*models"):
        train_once("unet", model, lambda *_: pytest.fail("it is not trained"))


def test_train_must_return_the_history(model):
    with pytest.raises(CourseError, match="'return' missing"):
        train_once("unet", model, lambda model, checkpoint: None)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_weights_stored_as_float16_are_loaded(model):
    proto = export(model, "models/tiny.onnx", optimize=False)
    for item in proto.graph.initializer:
        value = onnx.numpy_helper.to_array(item)
        if value.dtype == np.float32:
            item.CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float16), item.name))
    Path("models/tiny.onnx").write_bytes(proto.SerializeToString())
    other = TinyUNet()
    load_weights("tiny", other)
    assert other.head.weight.dtype is torch.float32
    torch.testing.assert_close(other.head.weight, model.head.weight, atol=1e-3, rtol=1e-2)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_unused_layers_and_shared_weights_need_not_be_in_the_model_file():
    model = WithSpareAndShared()
    export(model, "models/tiny.onnx", optimize=False)
    other = WithSpareAndShared()
    load_weights("tiny", other)
    assert torch.equal(model.head.weight, other.head.weight)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_a_model_file_of_another_network_is_refused(model):
    with pytest.raises(CourseError, match=r"no model file models.tiny\.onnx"):
        load_weights("tiny", model)
    Path("models").mkdir()
    Path("models/tiny.onnx").write_bytes(b"PK\x03\x04 a pickle")
    with pytest.raises(CourseError, match="cannot be read as ONNX"):
        load_weights("tiny", model)
    export(model, "models/tiny.onnx", optimize=False)
    with pytest.raises(CourseError, match=r"shape .* there, .* here"):
        load_weights("tiny", TinyUNet(width=4))
    renamed = Returns(lambda y: y)
    with pytest.raises(CourseError, match="it holds no net"):
        load_weights("tiny", renamed)


def test_histories_speak_for_themselves():
    assert str(History()) == "no epoch trained"
    text = str(History([1.0], [0.5], [0.25], [0.75], [0.0], [2.0]))
    assert text == "1 epochs in 2 s: validation mean IoU 0.250, pixel accuracy 0.750, loss 0.500"


NOTEBOOK = """
import sys
sys.path.insert(0, {root!r})
from tests.nets import TinyUNet, quick_fit
quick_fit(TinyUNet(), checkpoint="tiny.pt")
"""


@pytest.mark.process
def test_in_a_notebook_nothing_goes_to_stderr():
    """A warning or a progress bar on stderr costs a student all points of the cell."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    cell = nbformat.v4.new_code_cell(NOTEBOOK.format(root=ROOT))
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    streams = {output.get("name") for output in cell.outputs if output.output_type == "stream"}
    assert "stderr" not in streams


def test_telling_networks_apart_leaves_them_as_they_were(model):
    """The fingerprint sees what forward does; not which weights, mode or hooks it starts from."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    device = torch.device("cpu")
    one = behaviour(model, (16, 24), device)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(weight.requires_grad for weight in model.parameters())
    assert model.training
    model.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]), persistent=False)
    behaviour(model, (16, 24), device)
    assert model.mean.tolist() == pytest.approx([0.485, 0.456, 0.406])
    other_start = TinyUNet()
    assert same_setting("network", one, behaviour(other_start, (16, 24), device))
    change_forward(other_start)
    assert not same_setting("network", one, behaviour(other_start, (16, 24), device))


@pytest.mark.long
def test_a_net_that_keeps_a_tensor_for_a_picture_can_be_trained_again():
    model = KeepsItsSkip()
    quick_fit(model, checkpoint="tiny.pt")
    predict(model, boxes(2).images)
    assert len(quick_fit(model, checkpoint="tiny.pt", epochs=1)) == 1
