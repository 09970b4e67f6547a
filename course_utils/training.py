"""Training a segmentation net: fit, predict, evaluate, and train once for a task.

Nets take float32 images ``(B, 3, H, W)`` in [0, 1] and give logits ``(B, C, H, W)``. Data is in
memory (see :class:`course_utils.data.SegmentationSet`), so there are no loader processes, which
notebooks on Windows and macOS cannot start.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
import platform
import random
import re
import secrets
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch._dynamo  # by now, not at the first step: interrupted there, it stays half imported
from torch import nn
from torch.nn import functional as F

import course_utils
from course_utils.data.segmentation_set import VOID, SegmentationSet
from course_utils.errors import CourseError
from course_utils.machine import processors
from course_utils.metrics import ConfusionMatrix
from course_utils.paths import previous_name

# Of itself torch starts a thread for each core of the machine, also where a container grants fewer.
if torch.get_num_threads() > processors():
    torch.set_num_threads(processors())

MODELS = Path("models")


@dataclass
class History:
    """What happened in a training: one number an epoch in each list.

    Attributes
    ----------
    train_loss, valid_loss
        Mean cross-entropy in nats, weighted as in training.
    mean_iou, pixel_accuracy
        On the validation set.
    learning_rate
        At the end of the epoch.
    seconds
        Wall-clock time of the epoch, validation included.
    settings
        How ``fit`` was called, on which device, in which precision, and the name of the run.
    """

    train_loss: list[float] = field(default_factory=list)
    valid_loss: list[float] = field(default_factory=list)
    mean_iou: list[float] = field(default_factory=list)
    pixel_accuracy: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    settings: dict = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.train_loss)

    def __str__(self) -> str:
        if not len(self):
            return "no epoch trained"
        seconds = sum(self.seconds)
        return (
            f"{len(self)} epochs in {seconds:.0f} s: validation mean IoU {self.mean_iou[-1]:.3f}, "
            f"pixel accuracy {self.pixel_accuracy[-1]:.3f}, loss {self.valid_loss[-1]:.3f}"
        )


class Mode(NamedTuple):
    """The precision and memory layout in which a device computes convolutions fastest."""

    dtype: torch.dtype | None
    memory_format: torch.memory_format
    scaled: bool = False


def pick_device() -> torch.device:
    """Return the fastest device of this machine: CUDA, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available() and _cuda_computes():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


@functools.cache
def _cuda_computes() -> bool:
    """Return whether this torch has code for the card: its wheels leave out old generations."""
    try:
        torch.ones(1, device="cuda").add_(1).item()
    except torch.OutOfMemoryError:
        return True  # full, not foreign: the training says what to do
    except RuntimeError:
        return False
    return True


def fastest_mode(device: torch.device) -> Mode:
    """Return how to compute on a device: mixed precision only where the hardware has it.

    bfloat16 on a CPU without instructions for it is slower than float32, so the CPU is asked.
    """
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if torch.version.hip or capability >= (8, 0):
            return Mode(torch.bfloat16, torch.channels_last)
        if capability >= (7, 0):  # the first with tensor cores
            return Mode(torch.float16, torch.channels_last, scaled=True)
        return Mode(None, torch.channels_last)
    if device.type == "cpu":
        asked = (
            getattr(torch.cpu, name, bool)()
            for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        )
        return Mode(torch.bfloat16 if any(asked) else None, torch.channels_last)
    return Mode(None, torch.contiguous_format)


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's random generators, so that a run can be repeated."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - students' code may use it
    torch.manual_seed(seed)


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
    augment: bool = True,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    device: torch.device | str | None = None,
) -> History:
    """Train a net with AdamW, one cycle of the learning rate, and cross-entropy without void.

    Computes in mixed precision and channels_last where the device is faster so. The model is
    trained in place and left in eval mode on the device.

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
        Flip images with their masks left to right at random.
    seed
        Of the order of images and of the augmentation, whatever ran before.
    checkpoint
        File that is renewed after every epoch. If it is there and fits, training goes on from
        it, and ends as if it had not been interrupted; a finished one is just loaded.
    device
        Default: :func:`pick_device`.

    Raises
    ------
    CourseError
        If data or model are not as described, memory runs out, the loss becomes NaN, or the
        training is interrupted. The checkpoint of the last whole epoch stays.
    """
    device = pick_device() if device is None else _as_device(device)
    mode = fastest_mode(device)
    epochs = _number("epochs", epochs, int, 1)
    batch_size = _number("batch_size", batch_size, int, 1)
    seed = _number("seed", seed, int)
    max_lr = _number("max_lr", max_lr, float, 0)
    weight_decay = _number("weight_decay", weight_decay, float, 0)
    _require_data(train)
    _require_data(valid, len(train.classes))
    size = train.images.shape[1:3]
    weight = _require_weights(class_weights, len(train.classes))
    _require_layers_seen(model)
    settings = {
        "epochs": epochs,
        "max_lr": max_lr,
        "weight_decay": weight_decay,
        "batch_size": batch_size,
        "class_weights": None if weight is None else [round(w, 4) for w in weight.tolist()],
        "augment": augment,
        "seed": seed,
        "training data": _digest(train),
        "validation data": _digest(valid),
    }
    images, masks = _labelled(train)
    batch_size = min(batch_size, len(images))
    steps = len(images) // batch_size
    with _memory_advice(batch_size, size):
        model.to(device, memory_format=mode.memory_format)
        weight = weight if weight is None else weight.to(device)
        for data in (train, valid):  # which may differ in size
            few = _as_channels_first(data.images[:2])
            _require_logits(model, _to_input(few, device, mode), len(train.classes))
        settings["network"] = _behaviour(model, size, device)

    optimizer = _optimizer(model, max_lr, weight_decay)
    state = _State(
        model,
        optimizer,
        torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr, total_steps=epochs * steps),
        torch.amp.GradScaler(device.type, enabled=mode.scaled),
        History(settings=settings | _describe(device, mode) | {"run": secrets.token_hex(8)}),
    )
    history = state.history
    if checkpoint is not None:
        _resume(Path(checkpoint), state, settings)
    bar = _progress(total=epochs * steps, initial=len(history) * steps)
    try:
        with bar, _memory_advice(batch_size, size), _own_randomness(device):
            for epoch in range(len(history), epochs):
                started = time.perf_counter()
                bar.set_description(f"epoch {epoch + 1}/{epochs}")
                # Seeded anew for every epoch: an interrupted run goes on as it would have.
                torch.manual_seed((seed * 1_000_003 + epoch) % 2**63)
                order = torch.randperm(len(images))[: steps * batch_size].split(batch_size)
                batches = (
                    (_to_input(images[chosen], device, mode), masks[chosen].to(device).long())
                    for chosen in order
                )
                loss, rate = _train_epoch(state, batches, weight, augment, mode, bar)
                valid_loss, confusion = _validate(model, valid, weight, batch_size, mode)
                history.train_loss.append(loss)
                history.valid_loss.append(valid_loss)
                history.mean_iou.append(confusion.mean_iou())
                history.pixel_accuracy.append(confusion.pixel_accuracy())
                history.learning_rate.append(rate)
                history.seconds.append(time.perf_counter() - started)
                bar.set_postfix(_bar_text(loss, history))
                if checkpoint is not None:
                    _save(Path(checkpoint), state, settings)
    except KeyboardInterrupt:
        kept = (
            f"{checkpoint} keeps what was done before it: run this again to go on from there"
            if checkpoint is not None and len(history)
            else "no epoch was kept: run this again to start anew"
        )
        raise CourseError(
            f"training was stopped in epoch {len(history) + 1} of {epochs}; {kept}."
        ) from None
    finally:
        model.eval()
    return history


class _State(NamedTuple):
    """What a training consists of, and a checkpoint holds."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    history: History


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
    batch_size = _number("batch_size", batch_size, int, 1)
    _require_images(images)
    _require_module(model)
    device = _device_of(model) if device is None else _as_device(device)
    model.to(device)
    mode = fastest_mode(device)._replace(dtype=None)
    masks = []
    with _memory_advice(batch_size, images.shape[1:3]), _evaluating(model):
        for batch in _as_channels_first(images).split(batch_size):
            x = _to_input(batch, device, mode)
            logits = _forward(model, x)
            _require_shape(logits, x, num_classes)
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
    _require_data(data)
    prediction = _predict(model, data.images, batch_size, device, len(data.classes))
    return ConfusionMatrix(len(data.classes), VOID).update(prediction, data.masks)


def train_once(
    task: str,
    model: nn.Module,
    train: Callable[[nn.Module, Path], History],
    *,
    restart: bool = False,
) -> History:
    """Train a task's model on this machine, or take its weights from the model file in grading.

    The first call trains. A later one finds ``models/<task>.checkpoint.pt`` and goes on, or
    returns at once if the training was complete. The grader never trains: there the weights come
    out of ``models/<task>.onnx``, see :func:`load_weights`.

    Parameters
    ----------
    task
        The task's name, such as ``"unet"``.
    model
        The net; it has the trained weights afterwards.
    train
        ``train(model, checkpoint)`` trains it, by a call of :func:`fit` with that checkpoint, and
        returns the history.
    restart
        Train anew, even if there is a checkpoint. The old one is kept under another name.

    Returns
    -------
    History
        Also written to the training record ``models/<task>.json``.
    """
    from course_utils.hand_in.tasks import get_task

    record_file = MODELS / f"{task}.json"
    if os.environ.get("NBGRADER_EXECUTION"):
        load_weights(task, model)
        print(f"No training here: the weights come from {_model_file(task)}.")
        return _read_history(record_file)
    get_task(task)  # what is no task is told now, not after the training
    try:
        MODELS.mkdir(exist_ok=True)
    except OSError as error:
        raise CourseError(
            f"cannot make the folder {MODELS.resolve()} ({error.strerror})."
        ) from None
    checkpoint = MODELS / f"{task}.checkpoint.pt"
    if restart and checkpoint.exists():
        _set_aside(checkpoint)
        print("Take restart=True out now: with it, each run of this cell trains anew.")
    history = train(model, checkpoint)
    if not isinstance(history, History):
        raise CourseError(
            f"train(model, checkpoint) must return the history that fit returns; "
            f"it returned {type(history).__name__}. Is a 'return' missing?"
        )
    # A record that tells of this very training may have been completed by the export: keep it.
    if _read_history(record_file) != history:
        _write_record(record_file, task, history)
    return history


def load_weights(task: str, model: nn.Module) -> None:
    """Load the weights in ``models/<task>.onnx`` into a model of the same architecture.

    The file is read as data, nothing in it is run. Weights are matched by their names in
    ``model.state_dict()``.

    Raises
    ------
    CourseError
        If the file is missing or unreadable, or its weights are not those of this model.
    """
    import onnx

    file = _model_file(task)
    if not file.is_file():
        raise CourseError(
            f"there is no model file {file}. Train and export the task first, and hand the file in."
        )
    try:
        graph = onnx.load_model_from_string(file.read_bytes()).graph
        stored = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
        size = [axis.dim_value for axis in graph.input[0].type.tensor_type.shape.dim][1:]
    except Exception as error:
        raise CourseError(f"{file} cannot be read as ONNX: export the model again.") from error
    wanted = model.state_dict()
    strange = sorted(
        name
        for name, value in stored.items()
        if name in wanted and tuple(wanted[name].shape) != value.shape
    )
    if strange:
        name = strange[0]
        raise _other_network(
            file, f"{name} has shape {stored[name].shape} there, {tuple(wanted[name].shape)} here"
        )
    first_name = {id(weight): name for name, weight in model.named_parameters()}
    every_name = dict(model.named_parameters(remove_duplicate=False))
    found = {first_name[id(weight)] for name, weight in every_name.items() if name in stored}
    missing = _used_weights(model, size) - found
    if missing:
        raise _other_network(file, f"it holds no {min(missing)}")
    with torch.no_grad():
        for name, value in wanted.items():
            if name in stored:
                value.copy_(torch.from_numpy(np.array(stored[name])))
    model.eval()


def _other_network(file: Path, difference: str) -> CourseError:
    return CourseError(
        f"{file} does not belong to this network: {difference}. "
        "The network was changed after the export: train and export it again."
    )


def _used_weights(model: nn.Module, size: list[int]) -> set[str]:
    """Return the names of the weights that matter for what the model computes.

    A layer that ``forward`` does not use is not in the model file, and need not be. Of weights
    that two layers share, the first name counts.
    """
    weights = dict(model.named_parameters())
    learnt = [weight.requires_grad for weight in weights.values()]
    with _evaluating(model), torch.enable_grad():
        model.requires_grad_(True)
        logits = model(torch.zeros(1, *size, device=_device_of(model)))
        gradients = torch.autograd.grad(logits.sum(), weights.values(), allow_unused=True)
    for weight, before in zip(weights.values(), learnt, strict=True):
        weight.requires_grad = before
    return {name for name, grad in zip(weights, gradients, strict=True) if grad is not None}


def _model_file(task: str) -> Path:
    return MODELS / f"{task}.onnx"


def _read_history(record_file: Path) -> History:
    """Return the history in a training record; an empty one if there is none."""
    try:
        return History(**json.loads(record_file.read_text())["history"])
    except (OSError, ValueError, KeyError, TypeError):
        return History()


def _write_record(file: Path, task: str, history: History) -> None:
    from course_utils.hand_in.tasks import profile

    settings = history.settings
    record = {
        "task": task,
        "profile": profile(),
        "data": settings.get("training data"),
        "seed": settings.get("seed"),
        "epochs": len(history),
        "seconds": round(sum(history.seconds), 1),
        "device": settings.get("device"),
        "versions": {
            "course_utils": course_utils.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "history": asdict(history),
    }
    temporary = file.with_suffix(".json.part")
    temporary.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(temporary, file)


# One epoch


def _train_epoch(
    state: _State,
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]],
    weight: torch.Tensor | None,
    augment: bool,
    mode: Mode,
    bar,
) -> tuple[float, float]:
    """Take one step a batch; return the mean loss and the last learning rate."""
    model, optimizer, scheduler, scaler, history = state
    model.train()
    total, steps, rate = 0.0, 0, 0.0
    for x, y in batches:
        if augment:
            x, y = _augment(x, y)
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
        bar.update()
        if steps % 10 == 0:  # to read the loss is to wait for the GPU, hence not in each step
            bar.set_postfix(_bar_text(_require_finite(total, history) / steps, history))
    return _require_finite(total, history) / steps, rate


def _validate(
    model: nn.Module,
    data: SegmentationSet,
    weight: torch.Tensor | None,
    batch_size: int,
    mode: Mode,
) -> tuple[float, ConfusionMatrix]:
    """Return the mean loss and the confusion matrix over a data set."""
    device = _device_of(model)
    confusion = ConfusionMatrix(len(data.classes), VOID)
    total, count = torch.zeros((), device=device), torch.zeros((), device=device)
    with _evaluating(model):
        images, masks = _as_channels_first(data.images), _as_tensor(data.masks)
        for x, y in zip(images.split(batch_size), masks.split(batch_size), strict=True):
            y = y.to(device).long()
            with torch.autocast(device.type, mode.dtype, enabled=mode.dtype is not None):
                logits = model(_to_input(x, device, mode))
            sums = F.cross_entropy(logits.float(), y, weight, ignore_index=VOID, reduction="none")
            total += sums.sum()
            labelled = y != VOID
            count += labelled.sum() if weight is None else weight[y[labelled]].sum()
            confusion.update(logits.argmax(1), y)
    return float(total / count), confusion


def _augment(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Flip half of the images left to right, each with its mask."""
    # Random numbers come from the CPU, so that a seed means the same on every device.
    flip = (torch.rand(len(x), 1, 1, 1) < 0.5).to(x.device)
    return torch.where(flip, x.flip(-1), x), torch.where(flip[:, 0], y.flip(-1), y)


def _optimizer(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return AdamW that decays kernels and matrices, but no bias and no batch norm."""
    learnt = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": [w for w in learnt if w.ndim > 1], "weight_decay": weight_decay},
        {"params": [w for w in learnt if w.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = all(weight.device.type in ("cpu", "cuda") for weight in learnt)
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, fused=fused)


# Data


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


def _digest(data: SegmentationSet) -> str:
    """Return a name of a data set that changes with any of its bytes."""
    digest = hashlib.sha256()
    for array in (data.images, data.masks):
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array))
    return f"{data.name} {data.split}, {len(data)} images, sha256 {digest.hexdigest()[:16]}"


# What can be wrong with data and nets


def _require_images(images: np.ndarray) -> None:
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
        found = f"{getattr(images, 'dtype', type(images).__name__)} {getattr(images, 'shape', '')}"
        hint = ""
        if getattr(images, "dtype", None) != np.uint8:
            hint = " Give them as they are loaded: the division by 255 is done here."
        elif images.ndim == 3 and images.shape[-1] == 3:
            hint = " For one image use images[None]."
        raise CourseError(
            f"images must be a uint8 array (N, H, W, 3), found {found.strip()}.{hint}"
        )
    if images.shape[-1] != 3:
        raise CourseError(f"images must be (N, H, W, 3), colour last; found {images.shape}.")


def _number(name: str, value, kind: type, least: float = -math.inf) -> int | float:
    """Return a setting as Python's own int or float, which a checkpoint can hold."""
    fits = isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    if not fits or not least <= value < math.inf:
        whole = "a whole number" if kind is int else "a number"
        bound = f" from {least:g} up" if math.isfinite(least) else ""
        raise CourseError(f"{name} must be {whole}{bound}, found {value!r}.")
    return kind(value)


def _require_data(data: SegmentationSet, num_classes: int | None = None) -> None:
    """Refuse what is no data set, or has labels beyond ``num_classes`` (default: its own)."""
    if not isinstance(data, SegmentationSet):
        raise CourseError(
            "data must be a SegmentationSet, such as load('scenes', 'train') gives; "
            f"found {type(data).__name__}."
        )
    num_classes = num_classes or len(data.classes)
    _require_images(data.images)
    if data.masks.dtype != np.uint8 or data.masks.shape != data.images.shape[:3]:
        raise CourseError(
            f"masks of {data.name!r} must be uint8 {data.images.shape[:3]} like their images, "
            f"found {data.masks.dtype} {data.masks.shape}."
        )
    if not len(data):
        raise CourseError(f"{data.name!r} has no image.")
    present = np.flatnonzero(np.bincount(data.masks.ravel(), minlength=256))
    strange = [int(label) for label in present if label >= num_classes and label != VOID]
    if strange:
        raise CourseError(
            f"masks of {data.name!r} hold the label {strange[0]}, which is no class: labels are "
            f"0..{num_classes - 1}, and {VOID} for void. Were they resized with interpolation, or "
            "are they 0/255 instead of 0/1?"
        )


def _require_weights(weights, num_classes: int) -> torch.Tensor | None:
    if weights is None:
        return None
    weights = torch.as_tensor(weights, dtype=torch.float32)
    if weights.shape != (num_classes,) or not (weights.isfinite() & (weights >= 0)).all():
        raise CourseError(
            f"class_weights must be {num_classes} finite numbers, one a class, none negative; "
            f"found {weights.tolist()}."
        )
    return weights


def _require_module(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        getattr(model, "parameters", None)  # a NotYet says here what comes first
        raise CourseError(
            f"model must be a torch.nn.Module, found {type(model).__name__}. "
            "Did you pass the class itself? Make an object of it first."
        )


def _require_layers_seen(model: nn.Module) -> None:
    """Refuse layers in plain lists: torch neither trains nor moves nor saves them."""
    _require_module(model)
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute.startswith("_"):
                continue
            items = value.values() if isinstance(value, dict) else value
            if not isinstance(value, (list, tuple, dict)):
                continue
            if any(isinstance(item, (nn.Module, nn.Parameter)) for item in items):
                place = ".".join(part for part in (name, attribute) if part)
                raise CourseError(
                    f"{place} is a plain {type(value).__name__} of layers, which torch does not "
                    "see: they would not be trained. Use nn.ModuleList or nn.Sequential."
                )
    if not any(weight.requires_grad for weight in model.parameters()):
        raise CourseError(
            "the model has no weights to train: no layers, or requires_grad is False everywhere."
        )


def _require_logits(model: nn.Module, x: torch.Tensor, num_classes: int) -> None:
    """Run two images through the net and refuse an output that is not one logit a class."""
    with _evaluating(model):
        logits = _forward(model, x)
    _require_shape(logits, x, num_classes)
    if not logits.is_floating_point():
        raise CourseError(
            f"the model must return float logits, found {logits.dtype}. Leave argmax to predict()."
        )
    if not logits.isfinite().all():
        raise CourseError(
            "the untrained model returns NaN or infinite logits: look for a division."
        )
    sums = logits.float().sum(1)
    if num_classes > 1 and (logits >= 0).all() and torch.allclose(sums, torch.ones_like(sums)):
        raise CourseError(
            "the model returns probabilities that sum to 1. Leave softmax out of forward: the "
            "cross-entropy takes logits and applies it itself."
        )


def _require_shape(logits: torch.Tensor, x: torch.Tensor, num_classes: int | None) -> None:
    """Refuse what is not one score a class and pixel; None: of any number of classes."""
    channels = num_classes or (logits.shape[1] if logits.ndim == 4 else "C")
    wanted = (len(x), channels, *x.shape[2:])
    if tuple(logits.shape) != wanted:
        if logits.ndim == 4 and logits.shape[1] != channels:
            cure = f"The last layer must have {channels} output channels, one a class."
        elif logits.ndim == 4:
            cure = "Height and width must come out as they went in: check padding and upsampling."
        else:
            cure = "Return the scores of all classes, not their argmax."
        shape = ", ".join(map(str, wanted))
        raise CourseError(
            f"for input {tuple(x.shape)} the model must return logits ({shape}), one score a class "
            f"and pixel; it returned {tuple(logits.shape)}. {cure}"
        )


def _forward(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return ``model(x)``, or explain an error that comes from dtypes, devices or sizes."""
    try:
        logits = model(x)
    except RuntimeError as error:
        text = str(error)
        kinds = {weight.dtype for weight in model.parameters() if weight.is_floating_point()}
        if strange := kinds - {x.dtype}:
            raise CourseError(
                f"the model has weights of {strange.pop()}, and images come as {x.dtype}. Take "
                "model.float() first; mixed precision is switched on where it helps."
            ) from error
        if any(
            words in text
            for words in ("same device", "should be the same", "not on the expected device")
        ):
            raise CourseError(
                f"the model cannot compute on {x.device}: a tensor in it stays on another "
                "device. Make it an nn.Parameter or register_buffer, or create it in forward "
                "with device=x.device."
            ) from error
        if found := re.search(r"to have (\d+) channels, but got 3 channels", text):
            raise CourseError(
                f"the model's first layer takes {found[1]} channels, but images have 3."
            ) from error
        if "Sizes of tensors must match" in text and any(side % 16 for side in x.shape[2:]):
            raise CourseError(
                f"the model cannot take images of {x.shape[2]}x{x.shape[3]} pixels: maps that it "
                "joins differ in size. Each pooling halves height and width and drops what is "
                "odd: crop or resize the images to multiples of 2 per pooling, 16 for four of them."
            ) from error
        raise
    if not isinstance(logits, torch.Tensor):
        raise CourseError(
            f"the model must return one tensor of logits; it returned {type(logits).__name__}. "
            "Is a 'return' missing in forward?"
        )
    return logits


def _require_finite(total: torch.Tensor, history: History) -> float:
    """Return the sum of losses as a float, or explain why it is none."""
    value = float(total)
    if not math.isfinite(value):
        settings = history.settings
        raise CourseError(
            f"the loss became {value} in epoch {len(history) + 1}: training diverged. Lower max_lr "
            f"(now {settings['max_lr']}), for example to {settings['max_lr'] / 10:g}; if it comes "
            "again, look for a log or a division in forward."
        )
    return value


@contextlib.contextmanager
def _memory_advice(batch_size: int, size: tuple[int, int]):
    """Turn 'out of memory' into what to do about it."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        text = str(error).lower()
        short = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
            re.search("out of memory|not enough memory|allocate memory", text)
        )
        if not short:
            raise
        # The notebook keeps the error, and with it the failed step's tensors, unless they go here.
        traceback.clear_frames(error.__traceback__)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        elif torch.backends.mps.is_available():
            torch.mps.empty_cache()
        raise CourseError(
            f"memory ran out with batch_size={batch_size} at {size[0]}x{size[1]} pixels. "
            f"Try batch_size={max(1, batch_size // 2)}, or smaller images (half the height and "
            "width take a quarter of the memory); restart the kernel if other models fill it."
        ) from None


# Modes, devices, randomness, progress


@contextlib.contextmanager
def _evaluating(model: nn.Module):
    """Put a model in eval mode without gradients; give every module its own mode back after."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        # not inference_mode: a tensor that forward keeps could then never be trained with
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def _own_randomness(device: torch.device):
    """Leave the random generators of the CPU and of a CUDA device as they were before."""
    devices = []
    if device.type == "cuda":
        devices = [torch.cuda.current_device() if device.index is None else device.index]
    with torch.random.fork_rng(devices=devices):
        yield


def _as_device(device: torch.device | str) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise CourseError(
            f"device {device!r} cannot be used here ({str(error).splitlines()[0]}). Leave it out "
            "to take the fastest there is; course doctor tells what that is."
        ) from None


def _device_of(model: nn.Module) -> torch.device:
    return next((weight.device for weight in model.parameters()), torch.device("cpu"))


def _describe(device: torch.device, mode: Mode) -> dict[str, str]:
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    precision = str(mode.dtype or torch.float32).removeprefix("torch.")
    return {"device": f"{device.type}: {name}", "precision": precision}


def _progress(total: int, initial: int):
    """Return a progress bar on stdout (nbgrader takes stderr as a failure), none in grading."""
    from tqdm.auto import tqdm

    return tqdm(
        total=total,
        initial=initial,
        unit="step",
        file=sys.stdout,
        disable=bool(os.environ.get("NBGRADER_EXECUTION")) or initial == total,
    )


def _bar_text(loss: float, history: History) -> dict[str, str]:
    text = {"loss": f"{loss:.3f}"}
    if len(history):
        text["valid mIoU"] = f"{history.mean_iou[-1]:.3f}"
    return text


# Checkpoints


def _behaviour(model: nn.Module, size: tuple[int, int], device: torch.device) -> list:
    """Return what tells one network from another: its weights, which are frozen, and its output.

    The output is that for fixed weights and a fixed image. So a mistake mended in ``forward`` makes
    another network, though its layers are the same, and other initial weights do not.
    """
    generator = torch.Generator().manual_seed(0)
    weights = [*model.parameters(), *model.buffers()]
    before = [weight.detach().clone() for weight in weights]
    try:
        with _evaluating(model):
            for weight in weights:
                if weight.is_floating_point():
                    value = torch.rand(weight.shape, generator=generator)
                    # kernels as when a training starts; scales and variances positive, around 1
                    scale = (12 / weight[0].numel()) ** 0.5 if weight.ndim > 1 else 1.0
                    weight.copy_((value - 0.5) * scale if weight.ndim > 1 else value + 0.5)
            logits = model(torch.rand(1, 3, *size, generator=generator).to(device)).float()
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, before, strict=True):
                weight.copy_(value)
    sample = F.adaptive_avg_pool2d(logits.cpu(), 2)[0].flatten()  # MPS pools no odd sizes
    shapes = {name: list(weight.shape) for name, weight in model.state_dict().items()}
    frozen = [name for name, weight in model.named_parameters() if not weight.requires_grad]
    text = json.dumps([shapes, frozen]) + repr(model)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return [digest, sample.tolist()]


def _same(key: str, one, other) -> bool:
    if key == "network" and one and other and one[0] == other[0]:
        # not equal to the last bit on another device or with another number of threads
        return np.allclose(one[1], other[1], rtol=0, atol=0.01 * np.abs(one[1]).max())
    return one == other


def _save(file: Path, state: _State, settings: dict) -> None:
    """Write a checkpoint; a kill at any moment leaves the old one or the new one whole."""
    temporary = file.with_suffix(".part")
    content = {
        "settings": settings,
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scheduler": state.scheduler.state_dict(),
        "scaler": state.scaler.state_dict(),
        "history": asdict(state.history),
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, temporary)
        os.replace(temporary, file)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise CourseError(f"cannot write {file} ({error}). Is the disk full?") from error


def _resume(file: Path, state: _State, settings: dict) -> None:
    """Load a checkpoint of the same training; put one of another training aside."""
    if file.is_dir():
        raise CourseError(f"checkpoint must be a file, and {file} is a folder.")
    if not file.exists():
        return
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        before = content["settings"]
        changed = [key for key in settings if not _same(key, settings[key], before.get(key))]
    except MemoryError:
        raise
    except PermissionError as error:
        raise CourseError(
            f"{file} cannot be read ({error}). Close what else uses it and run this again, or move "
            "it away to train anew."
        ) from error
    except Exception as error:
        print(f"{file} cannot be read ({type(error).__name__}): training starts anew.")
        _set_aside(file)
        return
    if changed:
        print(f"{file} is of a training with other {', '.join(changed)}: training starts anew.")
        _set_aside(file)
        return
    state.model.load_state_dict(content["model"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.scheduler.load_state_dict(content["scheduler"])
    if content["scaler"]:  # empty, if it comes from a device that needs no scaling
        state.scaler.load_state_dict(content["scaler"])
    for name, value in content["history"].items():
        setattr(state.history, name, value)
    done, epochs = len(state.history), settings["epochs"]
    if done == epochs:
        print(f"Already trained, loaded from {file}.")
    else:
        print(f"Going on after epoch {done} of {epochs}, from {file}.")


def _set_aside(file: Path) -> None:
    """Rename a checkpoint; none of an earlier training is overwritten."""
    kept = previous_name(file)
    os.replace(file, kept)
    print(f"The old one is kept as {kept}; to go back, rename it to {file.name}.")
