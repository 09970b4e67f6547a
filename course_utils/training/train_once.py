"""Train a task's model on the student's machine once; under the grader take it from its file."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

import course_utils
from course_utils.errors import CourseError
from course_utils.execution import run_by
from course_utils.hand_in.record import model_path, read_record, record_path, write_record
from course_utils.hand_in.tasks import get_task, profile
from course_utils.hand_in.wrapped import never_run, unwrapped
from course_utils.training.checkpoint import set_aside
from course_utils.training.devices import device_of
from course_utils.training.faults import evaluating
from course_utils.training.history import History


def train_once(
    task: str,
    model: nn.Module,
    train: Callable[[nn.Module, Path], History],
    *,
    part: str = "",
    restart: bool = False,
) -> History:
    """Train a task's model on this machine, or take its weights from the model file in grading.

    The first call trains. A later one finds ``models/<task>.checkpoint.pt`` and goes on, or
    returns at once if the training was complete. The grader and Validate never train: there the
    weights come out of ``models/<task>.onnx``, see :func:`load_weights`.

    Parameters
    ----------
    task
        The task's name, such as ``"unet"``.
    model
        The net; it has the trained weights afterwards. Or a ``Learner`` of fastai.
    train
        ``train(model, checkpoint)`` trains it, by a call of :func:`fit` with that checkpoint, and
        returns the history. Of a learner: ``train(learn, kept)`` calls ``learn.fit_one_cycle(...,
        cbs=kept)``, or another of its fits.
    part
        Which part of a training in several parts, such as ``"1 frozen"``: a checkpoint each.
    restart
        Train anew, even if there is a checkpoint. The old one is kept under another name.

    Returns
    -------
    History
        Of all parts so far. Also written to the training record ``models/<task>.json``.
    """
    record_file, folder = record_path(task), model_path(task).parent
    learner = hasattr(model, "dls") and hasattr(model, "model")
    if run_by() != "student":
        load_weights(task, _net_of(model, task) if learner else model)
        print(f"No training here: the weights come from {model_path(task)}.")
        return _read_history(read_record(record_file))
    get_task(task)  # what is no task is told now, not after the training
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise CourseError(
            f"cannot make the folder {folder.resolve()} ({error.strerror})."
        ) from None
    checkpoint = folder / f"{task}{part and '.'}{part.replace(' ', '-')}.checkpoint.pt"
    if restart and checkpoint.exists():
        set_aside(checkpoint)
        print("Take restart=True out now: with it, each run of this cell trains anew.")
    if learner:
        from course_utils.training.learner import fit_learner

        history = fit_learner(model, train, checkpoint, get_task(task).classes)
    else:
        history = train(model, checkpoint)
    if not isinstance(history, History):
        raise CourseError(
            f"train(model, checkpoint) must return the history that fit returns; "
            f"it returned {type(history).__name__}. Is a 'return' missing?"
        )
    parts = {}
    if part:
        parts = _parts_so_far(read_record(record_file), part, history)
        history = _joined(parts)
    # A record that tells of this very training may have been completed by the export: keep it.
    if _read_history(read_record(record_file)) != history:
        write_record(record_file, _record(task, history) | ({"parts": parts} if parts else {}))
    return history


def _parts_so_far(record: dict, part: str, history: History) -> dict[str, dict]:
    """Return the histories of a training's parts up to this one, as the record has them."""
    kept = record.get("parts")
    kept = kept if isinstance(kept, dict) and record.get("profile") == profile() else {}
    names = list(kept)
    if part in names:
        if kept[part] == json.loads(json.dumps(asdict(history))):
            return kept  # loaded again: the later parts still go on from it
        names = names[: names.index(part)]
    return {name: kept[name] for name in names} | {part: asdict(history)}


def _joined(parts: dict[str, dict]) -> History:
    """Return the histories of all parts as one, with the settings of the last."""
    whole = History()
    for one in parts.values():
        for name, values in one.items():
            if name == "settings":
                whole.settings = dict(values)
            else:
                getattr(whole, name).extend(values)
    return whole


def _net_of(learn, task: str) -> nn.Module:
    """Return a learner's net as it is handed in."""
    from course_utils.models.shipped import Shipped
    from course_utils.training.learner import codes_of

    return Shipped(learn.model, codes_of(learn), get_task(task).classes)


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

    file = model_path(task)
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
    whole, model = model, unwrapped(model)
    if any(never_run(model)):  # lazy layers get their weights at the first run
        with evaluating(model), torch.no_grad():
            model(torch.zeros(1, *size, device=device_of(model)))
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
    whole.eval()


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
    with evaluating(model), torch.enable_grad():
        model.requires_grad_(True)
        logits = model(torch.zeros(1, *size, device=device_of(model)))
        gradients = torch.autograd.grad(logits.sum(), weights.values(), allow_unused=True)
    for weight, before in zip(weights.values(), learnt, strict=True):
        weight.requires_grad = before
    return {name for name, grad in zip(weights, gradients, strict=True) if grad is not None}


def _read_history(record: dict) -> History:
    """Return the history in a training record; an empty one if there is none."""
    try:
        return History(**record["history"])
    except (KeyError, TypeError):
        return History()


def _record(task: str, history: History) -> dict:
    """Return what a training record says of the training."""
    settings = history.settings
    return {
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
