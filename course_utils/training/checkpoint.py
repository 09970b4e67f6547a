"""The state of a training in a file: written after each epoch, taken up only where it fits."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.errors import CourseError
from course_utils.paths import previous_name
from course_utils.training.faults import evaluating
from course_utils.training.history import History


class State(NamedTuple):
    """What a training consists of, and a checkpoint holds."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    history: History


def behaviour(model: nn.Module, size: tuple[int, int], device: torch.device) -> list:
    """Return what tells one network from another: its weights, which are frozen, and its output.

    The output is that for fixed weights and a fixed image. So a mistake mended in ``forward`` makes
    another network, though its layers are the same, and other initial weights do not.
    """
    generator = torch.Generator().manual_seed(0)
    weights = [*model.parameters(), *model.buffers()]
    before = [weight.detach().clone() for weight in weights]
    try:
        with evaluating(model):
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
    maps = logits.cpu() if logits.ndim > 2 else logits.cpu()[..., None, None]  # of a patch
    sample = F.adaptive_avg_pool2d(maps, 2)[0].flatten()  # MPS pools no odd sizes
    shapes = {name: list(weight.shape) for name, weight in model.state_dict().items()}
    frozen = [name for name, weight in model.named_parameters() if not weight.requires_grad]
    text = json.dumps([shapes, frozen]) + repr(model)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return [digest, sample.tolist()]


def same_setting(key: str, one, other) -> bool:
    """Tell whether a setting is that of a checkpoint; networks agree but for rounding."""
    if key == "network" and one and other and one[0] == other[0]:
        # not equal to the last bit on another device or with another number of threads
        return np.allclose(one[1], other[1], rtol=0, atol=0.01 * np.abs(one[1]).max())
    return one == other


def save(file: Path, state: State, settings: dict) -> None:
    """Write the checkpoint of a training that `fit` does."""
    content = {
        "settings": settings,
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scheduler": state.scheduler.state_dict(),
        "scaler": state.scaler.state_dict(),
        "history": asdict(state.history),
    }
    write(file, content)


def write(file: Path, content: dict) -> None:
    """Write a checkpoint; a kill at any moment leaves the old one or the new one whole."""
    temporary = file.with_suffix(".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, temporary)
        os.replace(temporary, file)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise CourseError(f"cannot write {file} ({error}). Is the disk full?") from error


def resume(file: Path, state: State, settings: dict) -> None:
    """Load a checkpoint of the same training; put one of another training aside."""
    if (content := read(file, settings)) is None:
        return
    state.model.load_state_dict(content["model"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.scheduler.load_state_dict(content["scheduler"])
    if content["scaler"]:  # empty, if it comes from a device that needs no scaling
        state.scaler.load_state_dict(content["scaler"])
    take_up(file, content, state.history, settings["epochs"])


def read(file: Path, settings: dict) -> dict | None:
    """Return the checkpoint of the same training, if there is one; put another's aside."""
    if file.is_dir():
        raise CourseError(f"checkpoint must be a file, and {file} is a folder.")
    if not file.exists():
        return None
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        before = content["settings"]
        changed = [key for key in settings if not same_setting(key, settings[key], before.get(key))]
    except MemoryError:
        raise
    except PermissionError as error:
        raise CourseError(
            f"{file} cannot be read ({error}). Close what else uses it and run this again, or move "
            "it away to train anew."
        ) from error
    except Exception as error:
        print(f"{file} cannot be read ({type(error).__name__}): training starts anew.")
        set_aside(file)
        return None
    if changed:
        print(f"{file} is of a training with other {', '.join(changed)}: training starts anew.")
        set_aside(file)
        return None
    return content


def take_up(file: Path, content: dict, history: History, epochs: int) -> None:
    """Fill a history from a checkpoint, and say how far the training is."""
    for name, value in content["history"].items():
        setattr(history, name, value)
    done = len(history)
    if done == epochs:
        print(f"Already trained, loaded from {file}.")
    else:
        print(f"Going on after epoch {done} of {epochs}, from {file}.")


def set_aside(file: Path) -> None:
    """Rename a checkpoint; none of an earlier training is overwritten."""
    kept = previous_name(file)
    os.replace(file, kept)
    print(f"The old one is kept as {kept}; to go back, rename it to {file.name}.")
