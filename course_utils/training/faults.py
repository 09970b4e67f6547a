"""What can be wrong with data, settings and nets, each told in one line before it costs time."""

from __future__ import annotations

import contextlib
import math
import re
import traceback
from numbers import Integral, Real

import numpy as np
import torch
from torch import nn

from course_utils.data.segmentation_set import VOID, SegmentationSet
from course_utils.errors import CourseError
from course_utils.hand_in.logits import shape_fault
from course_utils.training.history import History


def require_images(images: np.ndarray) -> None:
    """Refuse what is no uint8 array ``(N, H, W, 3)``."""
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


def as_number(name: str, value, kind: type, least: float = -math.inf) -> int | float:
    """Return a setting as Python's own int or float, which a checkpoint can hold."""
    fits = isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    if not fits or not least <= value < math.inf:
        whole = "a whole number" if kind is int else "a number"
        bound = f" from {least:g} up" if math.isfinite(least) else ""
        raise CourseError(f"{name} must be {whole}{bound}, found {value!r}.")
    return kind(value)


def require_data(data: SegmentationSet, num_classes: int | None = None) -> None:
    """Refuse what is no data set, or has labels beyond ``num_classes`` (default: its own)."""
    if not isinstance(data, SegmentationSet):
        raise CourseError(
            "data must be a SegmentationSet, such as load('scenes', 'train') gives; "
            f"found {type(data).__name__}."
        )
    num_classes = num_classes or len(data.classes)
    require_images(data.images)
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


def require_weights(weights, num_classes: int) -> torch.Tensor | None:
    """Return class weights as a float32 tensor ``(C,)``, or None where there are none."""
    if weights is None:
        return None
    weights = torch.as_tensor(weights, dtype=torch.float32)
    if weights.shape != (num_classes,) or not (weights.isfinite() & (weights >= 0)).all():
        raise CourseError(
            f"class_weights must be {num_classes} finite numbers, one a class, none negative; "
            f"found {weights.tolist()}."
        )
    return weights


def require_module(model: nn.Module) -> None:
    """Refuse what is no net, such as a class of which no object was made."""
    if not isinstance(model, nn.Module):
        getattr(model, "parameters", None)  # a NotYet says here what comes first
        raise CourseError(
            f"model must be a torch.nn.Module, found {type(model).__name__}. "
            "Did you pass the class itself? Make an object of it first."
        )


def require_layers_seen(model: nn.Module) -> None:
    """Refuse layers in plain lists: torch neither trains nor moves nor saves them."""
    require_module(model)
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


def require_logits(model: nn.Module, x: torch.Tensor, num_classes: int) -> None:
    """Run two images through the net and refuse an output that is not one logit a class."""
    with evaluating(model):
        logits = forward(model, x)
    require_shape(logits, x, num_classes)
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


def require_shape(logits: torch.Tensor, x: torch.Tensor, num_classes: int | None) -> None:
    """Refuse what is not one score a class and pixel; None: of any number of classes."""
    wanted = (len(x), num_classes or "C", *x.shape[2:])
    if fault := shape_fault(tuple(logits.shape), wanted, "the data set"):
        raise CourseError(f"for input {tuple(x.shape)} the model {fault}")


def forward(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
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


def require_finite(total: torch.Tensor, history: History) -> float:
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
def memory_advice(batch_size: int, size: tuple[int, int]):
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


@contextlib.contextmanager
def evaluating(model: nn.Module):
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
