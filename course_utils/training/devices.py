"""Where and in which precision a net is computed fastest, and what is drawn at random there."""

from __future__ import annotations

import contextlib
import functools
import platform
import random
import sys
import threading
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from course_utils.errors import CourseError


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


@contextlib.contextmanager
def own_randomness(device: torch.device):
    """Leave the random generators of the CPU and of a CUDA device as they were before."""
    devices = []
    if device.type == "cuda":
        devices = [torch.cuda.current_device() if device.index is None else device.index]
    with torch.random.fork_rng(devices=devices):
        yield


def load_compiler() -> None:
    """Import torch's compiler, which the first step of an optimizer needs.

    Interrupted there it would stay half imported, and no training would start any more. It is
    imported in a thread, which an interrupt does not reach.
    """
    if "torch._dynamo" not in sys.modules:
        thread = threading.Thread(target=torch.compiler.reset)
        thread.start()
        thread.join()


def as_device(device: torch.device | str) -> torch.device:
    """Return the device, with its number, or say why it cannot be used here."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise CourseError(
            f"device {device!r} cannot be used here ({str(error).splitlines()[0]}). Leave it out "
            "to take the fastest there is; course doctor tells what that is."
        ) from None


def device_of(model: nn.Module) -> torch.device:
    """Return where a model's weights are; the CPU for one without weights."""
    return next((weight.device for weight in model.parameters()), torch.device("cpu"))


def describe(device: torch.device, mode: Mode) -> dict[str, str]:
    """Return device and precision in words, for the history."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        threads = f"up to {torch.get_num_threads()} threads"
        name = f"{platform.processor() or platform.machine()}, {threads}"
    precision = str(mode.dtype or torch.float32).removeprefix("torch.")
    return {"device": f"{device.type}: {name}", "precision": precision}
