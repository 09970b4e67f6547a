"""fit_patches and predict_patches: a net that labels one patch, trained and slid over images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.data.segmentation_set import VOID, SegmentationSet
from course_utils.errors import CourseError
from course_utils.hand_in.logits import shape_fault
from course_utils.hand_in.sliding import slide
from course_utils.metrics import ConfusionMatrix
from course_utils.training.allocation import freed_memory_kept
from course_utils.training.checkpoint import behaviour
from course_utils.training.devices import (
    as_device,
    device_of,
    fastest_mode,
    load_compiler,
    own_randomness,
    pick_device,
)
from course_utils.training.faults import (
    as_number,
    evaluating,
    forward,
    memory_advice,
    require_data,
    require_images,
    require_layers_seen,
    require_module,
)
from course_utils.training.fitting import Work, described, run_epochs
from course_utils.training.history import History
from course_utils.training.threads import limited_threads
from course_utils.training.watching import as_watcher

Draw = Callable[[SegmentationSet, int, np.random.Generator], tuple[np.ndarray, np.ndarray]]
_LOSS_PATCHES = 512


def fit_patches(
    model: nn.Module,
    train: SegmentationSet,
    valid: SegmentationSet,
    draw: Draw,
    *,
    window: int,
    stride: int = 1,
    epochs: int,
    steps: int,
    max_lr: float = 5e-3,
    weight_decay: float = 1e-2,
    batch_size: int = 256,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    device: torch.device | str | None = None,
    watch: bool = True,
) -> History:
    """Train a net that labels one patch, as :func:`fit` trains one that labels an image.

    Parameters
    ----------
    model
        From float32 patches ``(B, 3, window, window)`` in [0, 1] to logits ``(B, C)``.
    train, valid
        What patches are drawn from, and what is measured on after every epoch, by sliding.
    draw
        ``draw(data, count, rng)`` returns patches ``(count, 3, window, window)`` uint8 and the
        classes of their centres ``(count,)``.
    window, stride
        Side of the patches; on ``valid`` every ``stride``-th pixel is labelled by the net.
    epochs, steps, batch_size
        Number of epochs, of steps in each, of patches a step.
    max_lr, weight_decay, seed, checkpoint, device, watch
        As of :func:`fit`.

    Raises
    ------
    CourseError
        As :func:`fit`, or if ``draw`` does not return what it should.
    """
    watch = as_watcher(watch)
    device = pick_device() if device is None else as_device(device)
    require_data(train)
    require_data(valid, len(train.classes))
    require_layers_seen(model)
    settings = {
        "epochs": as_number("epochs", epochs, int, 1),
        "steps": as_number("steps", steps, int, 1),
        "max_lr": as_number("max_lr", max_lr, float, 0),
        "weight_decay": as_number("weight_decay", weight_decay, float, 0),
        "batch_size": as_number("batch_size", batch_size, int, 1),
        "window": as_number("window", window, int, 1),
        "stride": as_number("stride", stride, int, 1),
        "seed": as_number("seed", seed, int),
        "training data": described(train),
        "validation data": described(valid),
    }
    classes, size = len(train.classes), (window, window)
    first = _drawn(draw, train, 16, _generator(seed, epochs), window, classes)
    settings["patches"] = hashlib.sha256(b"".join(a.tobytes() for a in first)).hexdigest()[:16]
    mode = fastest_mode(device)
    load_compiler()

    def to_net(patches, labels):
        x = torch.from_numpy(patches).to(device).float().div_(255)
        return x.contiguous(memory_format=mode.memory_format), torch.from_numpy(labels).to(device)

    def batches(epoch):
        rng = _generator(seed, epoch)
        for _ in range(steps):
            yield to_net(*_drawn(draw, train, batch_size, rng, window, classes))

    def measure(shown):
        x, y = to_net(*_drawn(draw, valid, _LOSS_PATCHES, _generator(seed, 0), window, classes))
        with evaluating(model):
            loss = F.cross_entropy(model(x).float(), y)
        masks = predict_patches(model, valid.images, window, stride)
        confusion = ConfusionMatrix(classes, VOID).update(masks, valid.masks)
        return float(loss), confusion, masks[shown]

    def trial():
        with own_randomness(device), evaluating(model):
            model(to_net(*first)[0])

    with limited_threads(), freed_memory_kept(), memory_advice(batch_size, size):
        model.to(device, memory_format=mode.memory_format)
        with evaluating(model):
            logits = forward(model, to_net(*first)[0])
        _require_logits(logits, len(first[0]), classes, size)
        settings["network"] = behaviour(model, size, device)
        work = Work(
            steps,
            batches,
            measure,
            predict=lambda images: predict_patches(model, images, window, stride),
            trial=trial,
        )
        return run_epochs(model, work, valid, None, settings, checkpoint, mode, watch)


def predict_patches(
    model: nn.Module, images: np.ndarray, window: int, stride: int = 1
) -> np.ndarray:
    """Return the most likely class of every pixel, ``(N, H, W)`` uint8, by sliding the net.

    Parameters
    ----------
    model
        Labels one patch; used in eval mode, in float32, and given back in the mode that it was in.
    images
        ``(N, H, W, 3)`` uint8.
    window, stride
        See :func:`course_utils.hand_in.sliding.slide`.
    """
    require_images(images)
    require_module(model)
    device = device_of(model)
    layout = fastest_mode(device).memory_format

    def classify(patches):
        x = torch.from_numpy(patches).to(device).contiguous(memory_format=layout)
        logits = forward(model, x)
        _require_logits(logits, len(x), None, (window, window))
        return logits.float().cpu().numpy()

    masks = np.empty(images.shape[:3], np.uint8)
    with limited_threads(), memory_advice(1, (window, window)), evaluating(model):
        for k, image in enumerate(images):
            masks[k] = slide(classify, image, window, stride).argmax(0)
    return masks


def _generator(seed: int, epoch: int) -> np.random.Generator:
    return np.random.default_rng([seed % 2**32, epoch])


def _drawn(draw: Draw, data, count: int, rng, window: int, classes: int):
    """Return what ``draw`` gives, surely patches and their classes."""
    drawn = draw(data, count, rng)
    if not isinstance(drawn, tuple) or len(drawn) != 2:
        raise CourseError(
            "draw(data, count, rng) must return two arrays, patches and labels; it returned "
            f"{type(drawn).__name__}."
        )
    patches, labels = np.ascontiguousarray(drawn[0]), np.asarray(drawn[1])
    wanted = (count, 3, window, window)
    if patches.shape != wanted or patches.dtype != np.uint8:
        raise CourseError(
            f"draw gives patches {patches.shape} {patches.dtype}; wanted are {wanted} uint8."
        )
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or labels.max() >= classes:
        raise CourseError(
            f"draw gives labels {labels.shape} {labels.dtype} up to {labels.max(initial=0)}; "
            f"wanted are ({count},) classes 0..{classes - 1}, and no void."
        )
    return patches, labels.astype(np.int64)


def _require_logits(logits: torch.Tensor, count: int, classes: int | None, size) -> None:
    wanted = (count, classes or "C")
    if fault := shape_fault(tuple(logits.shape), wanted, "the data set"):
        raise CourseError(f"for input {(count, 3, *size)} the model {fault}")
