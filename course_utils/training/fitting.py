"""fit, predict and evaluate: a net is trained and used on images that are in memory."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.data.segmentation_set import VOID, SegmentationSet, data_hash
from course_utils.errors import CourseError
from course_utils.metrics import ConfusionMatrix
from course_utils.training.allocation import freed_memory_kept
from course_utils.training.checkpoint import State, behaviour, resume, save
from course_utils.training.devices import (
    Mode,
    as_device,
    describe,
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
    require_finite,
    require_images,
    require_layers_seen,
    require_logits,
    require_module,
    require_shape,
    require_weights,
)
from course_utils.training.history import History
from course_utils.training.threads import Pace, limited_threads
from course_utils.training.watching import Look, Progress, Watcher, as_watcher, ending


def class_weights(masks: np.ndarray, num_classes: int, offset: float = 1.1) -> torch.Tensor:
    """Return a weight for each class that grows as the class gets rarer, ``(C,)`` float32.

    ``1 / ln(offset + share)``, where void does not count for the shares. With 1.1, a class that is
    hardly there weighs three times as much as one of a quarter of the pixels; the nearer the
    offset is to 1, the more rare classes weigh, until they are seen where they are not.

    References
    ----------
    Paszke et al.: ENet. arXiv:1606.02147, section 5.2 (there with 1.02).

    Examples
    --------
    >>> class_weights(np.array([[0, 0, 0, 1], [255, 255, 255, 255]]), 3)
    tensor([ 1.6255,  3.3322, 10.4921])
    """
    counts = np.bincount(np.asarray(masks).ravel(), minlength=256)[:num_classes]
    share = counts / max(counts.sum(), 1)
    return torch.tensor(1 / np.log(offset + share), dtype=torch.float32)


def fit(
    model: nn.Module,
    train: SegmentationSet,
    valid: SegmentationSet,
    *,
    epochs: int,
    max_lr: float = 3e-3,
    weight_decay: float = 1e-2,
    batch_size: int = 16,
    class_weights: torch.Tensor | np.ndarray | None = None,
    augment: bool | Callable = True,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    device: torch.device | str | None = None,
    watch: bool = True,
    on_step: Callable | None = None,
    on_epoch: Callable | None = None,
) -> History:
    """Train a net with AdamW, one cycle of the learning rate, and cross-entropy without void.

    Computes in mixed precision and channels_last where the device is faster so, and on as many
    threads of a CPU as are faster at the moment. The model is trained in place and left in eval
    mode on the device.

    Parameters
    ----------
    model
        From float32 ``(B, 3, H, W)`` in [0, 1] to logits ``(B, C, H, W)``.
    train, valid
        What to learn from, and what to measure on after every epoch.
    epochs
        Passes over the training set.
    max_lr, weight_decay, batch_size
        The peak of the one-cycle schedule; AdamW's decay (of matrices and kernels only, not of
        biases and batch norm); images a step.
    class_weights
        ``(C,)``, for the cross-entropy, such as :func:`class_weights` gives.
    augment
        Flip images with their masks left to right at random. Or what
        :func:`course_utils.data.transforms.augmenting` gives, for more than a flip.
    seed
        Of the order of images and of the augmentation, whatever ran before. The same seed gives the
        same weights to the last bit as long as the number of threads is the same: another one adds
        in another order. To have that on a busy machine too, start with ``OMP_NUM_THREADS=1``.
    checkpoint
        File that is renewed after every epoch. If it is there and fits, training goes on from
        it, and ends as if it had not been interrupted; a finished one is just loaded.
    device
        Default: :func:`pick_device`.
    watch
        Show how it goes: a figure that changes in a notebook, a bar in a terminal, a few lines of
        text in a file, nothing in grading. False: nothing anywhere. The weights do not depend on
        it. What else is to happen while it trains is for the next two.
    on_step
        ``on_step(step, loss)`` is called after each step of an epoch, counted from 1; the loss is a
        tensor of one number.
    on_epoch
        ``on_epoch(model, history, confusion)`` is called after each epoch, with the confusion
        matrix of the validation set.

    Raises
    ------
    CourseError
        If data or model are not as described, memory runs out, the loss becomes NaN, or the
        training is interrupted. The checkpoint of the last whole epoch stays, and the model keeps
        what it has learnt.
    """
    watch = as_watcher(watch)
    device = pick_device() if device is None else as_device(device)
    require_data(train)
    require_data(valid, len(train.classes))
    weight = require_weights(class_weights, len(train.classes))
    require_layers_seen(model)
    settings = {
        "epochs": as_number("epochs", epochs, int, 1),
        "max_lr": as_number("max_lr", max_lr, float, 0),
        "weight_decay": as_number("weight_decay", weight_decay, float, 0),
        "batch_size": as_number("batch_size", batch_size, int, 1),
        "class_weights": None if weight is None else [round(w, 4) for w in weight.tolist()],
        "augment": augment if isinstance(augment, bool) else repr(augment),
        "seed": as_number("seed", seed, int),
        "training data": described(train),
        "validation data": described(valid),
    }
    calls = (on_step, on_epoch)
    augment = _flip_some if augment is True else _each(augment) if augment else None
    return _train(model, train, valid, weight, settings, augment, checkpoint, device, watch, calls)


def _train(
    model: nn.Module,
    train: SegmentationSet,
    valid: SegmentationSet,
    weight: torch.Tensor | None,
    settings: dict,
    augment: Callable | None,
    checkpoint: str | Path | None,
    device: torch.device,
    watch: Watcher | None,
    calls: tuple[Callable | None, Callable | None],
) -> History:
    """Train from the checkpoint, or from the start, to the last epoch."""
    mode = fastest_mode(device)
    images, masks = _labelled(train)
    batch_size = min(settings["batch_size"], len(images))
    steps = len(images) // batch_size
    load_compiler()
    with limited_threads(), freed_memory_kept(), memory_advice(batch_size, train.size):
        model.to(device, memory_format=mode.memory_format)
        weight = weight if weight is None else weight.to(device)
        for data in (train, valid):  # which may differ in size
            few = _as_channels_first(data.images[:2])
            require_logits(model, _to_input(few, device, mode), len(train.classes))
        settings["network"] = behaviour(model, train.size, device)

        def batches(epoch):
            order = torch.randperm(len(images))[: steps * batch_size].split(batch_size)
            return (
                _batch(images[chosen], masks[chosen], augment, device, mode) for chosen in order
            )

        work = Work(
            steps,
            batches,
            measure=lambda shown: _validate(model, valid, weight, batch_size, mode, shown),
            predict=lambda pictures: _predict(model, pictures, 1, device),
            trial=_trial(model, images[: min(4, batch_size)], device, mode),
        )
        return run_epochs(model, work, valid, weight, settings, checkpoint, mode, watch, calls)


class Work(NamedTuple):
    """What an epoch consists of, for images or for patches of them.

    Attributes
    ----------
    steps
        Batches an epoch.
    batches
        From the number of an epoch to a net's inputs with their labels.
    measure
        From the number of a validation picture to loss, confusion matrix, and what the net makes
        of this picture ``(H, W)``.
    predict
        From images to masks.
    trial
        Some work of the net that leaves no trace, to measure how fast it is.
    """

    steps: int
    batches: Callable[[int], Iterator[tuple[torch.Tensor, torch.Tensor]]]
    measure: Callable[[int], tuple[float, ConfusionMatrix, np.ndarray]]
    predict: Callable[[np.ndarray], np.ndarray]
    trial: Callable[[], object]


def run_epochs(
    model: nn.Module,
    work: Work,
    valid: SegmentationSet,
    weight: torch.Tensor | None,
    settings: dict,
    checkpoint: str | Path | None,
    mode: Mode,
    watch: Watcher | None,
    calls: tuple[Callable | None, Callable | None] = (None, None),
) -> History:
    """Train from the checkpoint, or from the start, to the last epoch."""
    epochs, device = settings["epochs"], device_of(model)
    state = _start(model, settings, epochs * work.steps, device, mode)
    history = state.history
    if checkpoint is not None:
        resume(Path(checkpoint), state, settings)
    shown = _telling(valid)
    progress = Progress(history, epochs, work.steps, valid.classes, *valid[shown])
    if len(history) == epochs and watch is not None:
        with own_randomness(device):
            progress.prediction = work.predict(progress.image[None])[0]
    left = (epochs - len(history)) * work.steps
    look = Look(watch, progress, Pace(work.trial, left), device)
    with own_randomness(device), ending(model, checkpoint, look):
        for epoch in range(len(history), epochs):
            started = time.perf_counter()
            # Seeded anew for every epoch: an interrupted run goes on as it would have.
            torch.manual_seed((settings["seed"] * 1_000_003 + epoch) % 2**63)
            loss, rate = _train_epoch(state, work.batches(epoch), weight, mode, look, calls[0])
            valid_loss, confusion, prediction = work.measure(shown)
            history.add(loss, valid_loss, confusion, rate, time.perf_counter() - started)
            if calls[1] is not None:
                calls[1](model, history, confusion)
            if checkpoint is not None:
                save(Path(checkpoint), state, settings)
            look.epoch(prediction)
    return history


def _start(model: nn.Module, settings: dict, steps: int, device: torch.device, mode: Mode) -> State:
    """Return the state of a training before its first step."""
    optimizer = _optimizer(model, settings["max_lr"], settings["weight_decay"])
    return State(
        model,
        optimizer,
        torch.optim.lr_scheduler.OneCycleLR(optimizer, settings["max_lr"], total_steps=steps),
        torch.amp.GradScaler(device.type, enabled=mode.scaled),
        History(settings=settings | describe(device, mode) | {"run": secrets.token_hex(8)}),
    )


def _telling(data: SegmentationSet) -> int:
    """Return the number of the first picture among those that show the most classes."""
    return int(np.argmax([len(np.setdiff1d(mask, VOID)) for mask in data.masks]))


def _trial(model: nn.Module, images: torch.Tensor, device, mode: Mode) -> Callable[[], None]:
    """Return some work of the net to measure: it changes no weight and no random number."""

    def trial() -> None:
        fast = torch.autocast(device.type, mode.dtype, enabled=mode.dtype is not None)
        with own_randomness(device), evaluating(model), fast:
            model(_to_input(images, device, mode))

    return trial


def predict(
    model: nn.Module,
    images: np.ndarray,
    *,
    batch_size: int = 16,
    device: torch.device | str | None = None,
) -> np.ndarray:
    """Return the most likely class of every pixel, ``(N, H, W)`` uint8.

    Parameters
    ----------
    model
        Used in eval mode, in float32, and given back in the mode that it was in.
    images
        ``(N, H, W, 3)`` uint8.
    device
        Default: where the model is.
    """
    return _predict(model, images, batch_size, device)


def _predict(model, images, batch_size, device, num_classes: int | None = None) -> np.ndarray:
    """Predict; where the number of classes is known, refuse logits of another shape."""
    batch_size = as_number("batch_size", batch_size, int, 1)
    require_images(images)
    require_module(model)
    device = device_of(model) if device is None else as_device(device)
    model.to(device)
    mode = fastest_mode(device)._replace(dtype=None)
    masks = []
    with limited_threads(), memory_advice(batch_size, images.shape[1:3]), evaluating(model):
        for batch in _as_channels_first(images).split(batch_size):
            x = _to_input(batch, device, mode)
            logits = forward(model, x)
            require_shape(logits, x, num_classes)
            if logits.isnan().any():
                raise CourseError(
                    "the model returns NaN. If it was trained, the training diverged: start anew "
                    "with a smaller max_lr. If not, look for a division in forward."
                )
            masks.append(logits.argmax(1).to(torch.uint8).cpu().numpy())
    return np.concatenate(masks) if masks else np.zeros(images.shape[:3], np.uint8)


def evaluate(
    model: nn.Module,
    data: SegmentationSet,
    *,
    batch_size: int = 16,
    device: torch.device | str | None = None,
) -> ConfusionMatrix:
    """Return the confusion matrix of a model over a data set, void ignored."""
    require_data(data)
    prediction = _predict(model, data.images, batch_size, device, len(data.classes))
    return ConfusionMatrix(len(data.classes), VOID).update(prediction, data.masks)


def _train_epoch(
    state: State,
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]],
    weight: torch.Tensor | None,
    mode: Mode,
    look: Look,
    on_step: Callable | None = None,
) -> tuple[float, float]:
    """Take one step a batch; return the mean loss and the last learning rate."""
    model, optimizer, scheduler, scaler, history = state
    model.train()
    total, steps, rate = 0.0, 0, 0.0
    for x, y in batches:
        with torch.autocast(x.device.type, mode.dtype, enabled=mode.dtype is not None):
            logits = model(x)
        loss = F.cross_entropy(logits.float(), y, weight, ignore_index=VOID)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        rate = scheduler.get_last_lr()[0]
        scheduler.step()
        total, steps = total + loss.detach(), steps + 1
        if on_step is not None:
            on_step(steps, loss.detach())
        look.step(total, steps)
    return require_finite(total, history) / steps, rate


def _validate(
    model: nn.Module,
    data: SegmentationSet,
    weight: torch.Tensor | None,
    batch_size: int,
    mode: Mode,
    shown: int,
) -> tuple[float, ConfusionMatrix, np.ndarray]:
    """Return mean loss and confusion matrix over a data set, and the prediction of one picture."""
    device = device_of(model)
    confusion = ConfusionMatrix(len(data.classes), VOID)
    total, count = torch.zeros((), device=device), torch.zeros((), device=device)
    with evaluating(model):
        images, masks = _as_channels_first(data.images), _as_tensor(data.masks)
        for x, y in zip(images.split(batch_size), masks.split(batch_size), strict=True):
            y = y.to(device).long()
            with torch.autocast(device.type, mode.dtype, enabled=mode.dtype is not None):
                logits = model(_to_input(x, device, mode))
            sums = F.cross_entropy(logits.float(), y, weight, ignore_index=VOID, reduction="none")
            total += sums.sum()
            labelled = y != VOID
            count += labelled.sum() if weight is None else weight[y[labelled]].sum()
            labels = logits.argmax(1)
            confusion.update(labels, y)
            if 0 <= shown < len(x):
                prediction = labels[shown].to(torch.uint8).cpu().numpy()
            shown -= len(x)
    return float(total / count), confusion, prediction


def _batch(
    images: torch.Tensor, masks: torch.Tensor, augment: Callable | None, device, mode: Mode
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a net's input and its labels ``(B, H, W)`` int64, augmented together."""
    if augment is not None:
        images, masks = augment(images, masks)
    return _to_input(images, device, mode), masks.to(device).long()


def _flip_some(images: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Flip each image of a batch with its mask, or neither: as ``augmenting()`` does, in one go."""
    chosen = torch.rand(len(images)) < 0.5
    images[chosen], masks[chosen] = images[chosen].flip(-1), masks[chosen].flip(-1)
    return images, masks


def _each(augment: Callable) -> Callable:
    """Return an augmentation of one image and its mask as one of batches."""

    def augmented(images: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images, masks = zip(*map(augment, images, masks), strict=True)
        return torch.stack(images), torch.stack(masks)

    return augmented


def _optimizer(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return AdamW that decays kernels and matrices, but no bias and no batch norm."""
    learnt = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": [w for w in learnt if w.ndim > 1], "weight_decay": weight_decay},
        {"params": [w for w in learnt if w.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = all(weight.device.type in ("cpu", "cuda") for weight in learnt)
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, fused=fused)


def described(data: SegmentationSet) -> str:
    """Return a name of a data set that changes with any of its bytes."""
    return f"{data.name} {data.split}, {len(data)} images, sha256 {data_hash(data)}"


def _as_tensor(array: np.ndarray) -> torch.Tensor:
    """Return an array as a tensor; a copy where torch needs one (read-only or flipped arrays)."""
    return torch.from_numpy(np.require(array, requirements="CW"))


def _as_channels_first(images: np.ndarray) -> torch.Tensor:
    """Return ``(N, H, W, 3)`` uint8 as a tensor ``(N, 3, H, W)``."""
    return _as_tensor(images).permute(0, 3, 1, 2)


def _to_input(images: torch.Tensor, device: torch.device, mode: Mode) -> torch.Tensor:
    """Return uint8 images as a net's input, float32 in [0, 1]."""
    return images.to(device).float().div_(255).contiguous(memory_format=mode.memory_format)


def _labelled(data: SegmentationSet) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images and masks, without those that are void all over: they have no loss."""
    labelled = (data.masks != VOID).any(axis=(1, 2))
    if not labelled.any():
        raise CourseError(f"every pixel of {data.name!r} is void: there is nothing to learn from.")
    return _as_channels_first(data.images[labelled]), _as_tensor(data.masks[labelled])
