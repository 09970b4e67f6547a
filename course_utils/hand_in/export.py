"""``export``: from a trained net to the model file that is handed in.

The file holds the net in eval mode as ONNX, its weights under their names in
``state_dict()``, and of which task and profile it is. Before it is written, it
must give in onnxruntime what the net gives in torch, and pass the grader's gate.
"""

import contextlib
import copy
import hashlib
import io
import json
import linecache
import logging
import os
import platform
import re
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from tqdm import tqdm

from course_utils.checks import NotYet
from course_utils.data.segmentation_set import SegmentationSet, data_hash
from course_utils.errors import CourseError
from course_utils.execution import run_by
from course_utils.files import write_atomic
from course_utils.hand_in.gate import ModelFacts, check_model_bytes, read_plain_file
from course_utils.hand_in.inference import BATCH_PIXELS, open_model, predict, run
from course_utils.hand_in.logits import shape_fault
from course_utils.hand_in.record import model_path, read_record, record_path, write_record
from course_utils.hand_in.sliding import patches
from course_utils.hand_in.tasks import Task, get_task
from course_utils.hand_in.wrapped import never_run, unwrapped
from course_utils.metrics import ConfusionMatrix
from course_utils.models.shipped import Shipped
from course_utils.paths import previous_name

_OPSET = 18
_HALF_FROM_MEGABYTES = 32
"""Larger files keep their weights as float16: half the size at the same speed."""
_COMPARED = 8
"""Number of validation images on which onnxruntime is held against torch."""


def export(task: str, model: nn.Module, history: Any = None) -> None:
    """Write ``models/<task>.onnx`` and ``models/<task>.json``, and print what they are worth.

    The model itself stays as it is: its device, its mode, its weights. Under the grader and
    under Validate nothing is written, because the file that is there is marked.

    Parameters
    ----------
    task
        The task's name, such as ``"unet"``.
    model
        Any net from float32 images ``(B, 3, H, W)`` in [0, 1] to logits ``(B, C, H, W)``; for a
        task with a window, from patches to logits ``(B, C)``. The plain net inside of
        ``torch.compile``, DataParallel and AveragedModel is exported, in float32 also where
        forward uses autocast.
    history
        What ``train_once`` or ``fit`` has returned; goes into the training record.

    Raises
    ------
    CourseError
        If the net is not fit for the task, or cannot be exported: which line of
        ``forward`` is the cause.
    """
    facts_of_task = get_task(task)
    if run_by() != "student":
        print(f"{model_path(task)} is marked as it was handed in; nothing is exported here.")
        return
    _require_net(task, model)
    if isinstance(history, NotYet):
        bool(history)  # which says what has to be run first
    valid = facts_of_task.load("valid")
    still = _copy_for_export(model)
    known = _known_record(facts_of_task, history)
    x = _compared(facts_of_task, valid.images[:_COMPARED])
    with _without_autocast():
        logits = _compute_logits(still, x, facts_of_task)
        content = _to_onnx(still, facts_of_task, _run_of(known))
    name = str(model_path(task))
    facts = check_model_bytes(content, facts_of_task, name)
    session = open_model(content)
    agreement = _compare(session, x, logits)
    started = time.perf_counter()
    confusion = _validate(session, valid, facts_of_task)
    seconds = (time.perf_counter() - started) / len(valid)
    _require_speed(seconds, facts_of_task)

    record = _record(facts_of_task, content, facts, confusion, known)
    _keep_better(facts_of_task, content, confusion, valid)
    write_atomic(model_path(task), content)
    write_record(record_path(task), record)
    _report(facts_of_task, facts, agreement, float(facts_of_task.iou(confusion.matrix)), seconds)
    _warn_of_another_model(record.get("history"), confusion.mean_iou(), valid)


# ------------------------------------------------------------------------ torch


def _is_fastais(model: nn.Module) -> bool:
    """Tell whether a net is that of a fastai learner, with nothing around it."""
    kinds = {type(layer).__name__ for layer in model.modules()}
    return "ToTensorBase" in kinds and Shipped.__name__ not in kinds


def _require_net(task: str, model: Any) -> None:
    """Refuse what is no net that can be exported, and say what to give instead."""
    if not isinstance(model, nn.Module):
        inside = getattr(model, "model", None)  # of a learner, such as fastai's
        advice = " Give its .model." if isinstance(inside, nn.Module) else ""
        if advice and _is_fastais(inside):
            advice = " Give Shipped(learn.model, codes, classes), see lesson 07."
        raise CourseError(
            f'export("{task}", model) takes the net, a torch.nn.Module; found '
            f"{type(model).__name__}.{advice}"
        )
    if _is_fastais(model):
        raise CourseError(
            f'export("{task}", model) is given the net of a fastai learner as it is, which wants '
            "normalised images and gives Void a score. Give Shipped(learn.model, codes, classes), "
            "see lesson 07."
        )
    if any(isinstance(layer, torch.jit.ScriptModule) for layer in model.modules()):
        raise CourseError(
            f'export("{task}", model) takes the net itself; found TorchScript in it. Give the net '
            "without torch.jit.script and torch.jit.trace."
        )
    if lazy := next(never_run(model), None):
        raise CourseError(
            f"the layer {lazy} has no weights: a lazy layer gets them when it first runs. Run the "
            "net on a batch before it is trained, and take out a layer that forward does not use."
        )


def _copy_for_export(model: nn.Module) -> nn.Module:
    """Return a copy on the CPU, in float32 and eval mode; the model is not touched."""
    try:
        still = copy.deepcopy(unwrapped(model))
    except Exception as error:
        raise CourseError(
            f"the model cannot be copied ({type(error).__name__}: {error}). Does it keep a tensor "
            "of a forward pass as an attribute? Keep such values local to forward."
        ) from error
    still = still.cpu().float().to(memory_format=torch.contiguous_format).eval()
    return still.requires_grad_(False)


@contextlib.contextmanager
def _without_autocast() -> Iterator[None]:
    """Compute in float32, also where forward, or who calls export, says autocast.

    The weights are float32, and onnxruntime has no convolution of bfloat16 on a CPU.
    """
    with (
        torch.autocast("cpu", enabled=False),
        mock.patch.object(torch.autocast, "__enter__", return_value=None),
        mock.patch.object(torch.autocast, "__exit__", return_value=None),
    ):
        yield


def _compared(task: Task, images: np.ndarray) -> torch.Tensor:
    """Return inputs of the net, images or patches of them, ``(B, 3, H, W)`` in [0, 1]."""
    if task.window is None:
        return torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous() / 255
    far = max(task.size) // 4
    some = np.concatenate([patches(image, task.window, far) for image in images])
    some = some.reshape(-1, 3, task.window, task.window)
    return torch.from_numpy(np.ascontiguousarray(some)).float() / 255


def _compute_logits(model: nn.Module, x: torch.Tensor, task: Task) -> torch.Tensor:
    """Return the logits of torch, or say what about the net's output is wrong."""
    try:
        with torch.inference_mode():
            logits = model(x)
    except NotImplementedError:
        raise
    except Exception as error:
        raise CourseError(
            f"the model fails on images of shape {tuple(x.shape)}{_where(error)}: "
            f"{type(error).__name__}: {_first_line(error)}"
        ) from error
    wanted = (len(x), *task.output_shape)
    if not isinstance(logits, torch.Tensor):
        raise CourseError(
            f"the model gives a {type(logits).__name__}; it must return one tensor of logits "
            f"(B, {', '.join(map(str, task.output_shape))})."
        )
    if fault := shape_fault(tuple(logits.shape), wanted, f"the task {task.name!r}"):
        raise CourseError(f"for input {tuple(x.shape)} the model {fault}")
    if logits.dtype != torch.float32:
        raise CourseError(
            f"the model gives logits of type {str(logits.dtype).removeprefix('torch.')}; they must "
            "be float32: end forward with .float()."
        )
    if not torch.isfinite(logits).all():
        raise CourseError(
            "the model's logits are not finite (NaN or infinity): the training has diverged. "
            "Train again with a lower learning rate."
        )
    with torch.inference_mode():  # one by one: a batch must make no difference
        return torch.cat([model(image) for image in x.split(1)])


def _to_onnx(model: nn.Module, task: Task, run: str) -> bytes:
    """Return the model file: the net, its weights, its task, profile and training run.

    With the run, only copies have equal bytes: two students with one seed on one server may
    well train the same weights.
    """
    x = torch.zeros(2, 3, *task.input_size, dtype=torch.float32, device="cpu")
    batch = torch.export.Dim("batch", min=1, max=4096)
    with _silence():
        try:
            program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},), strict=False)
        except Exception as error:
            raise _untraceable(error) from error
        try:
            exported = torch.onnx.export(
                program,
                (x,),
                dynamo=True,
                optimize=False,  # see _fold_constants
                opset_version=_OPSET,
                input_names=["images"],
                output_names=["logits"],
                verbose=False,
            )
            proto = _fold_constants(exported.model)
        except Exception as error:
            raise CourseError(
                f"the model cannot be written as ONNX: {_unwritable(error)}. Use layers of "
                "torch.nn with sizes that are plain numbers."
            ) from error
    _strip(proto)
    _complete_weights(proto, model)
    if proto.ByteSize() > _HALF_FROM_MEGABYTES * 1e6:
        _halve(proto)
    proto.producer_name = "course-utils"
    about = {"task": task.name, "profile": task.profile, "classes": ", ".join(task.classes)}
    helper.set_model_props(proto, about | ({"run": run} if run else {}))
    return proto.SerializeToString(deterministic=True)


def _fold_constants(model) -> onnx.ModelProto:
    """Compute what does not depend on the image, such as shapes; leave every layer as it is."""
    import onnx_ir
    from onnxscript.optimizer import fold_constants, remove_unused_nodes

    fold_constants(model)  # optimize() would melt batch norm into convolutions, names and all
    remove_unused_nodes(model)
    return onnx_ir.to_proto(model)


def _strip(proto: onnx.ModelProto) -> None:
    """Take out notes of the exporter: they hold paths and code of the student's machine."""
    graph = proto.graph
    del proto.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    proto.doc_string = graph.doc_string = ""
    graph.name = "model"
    for item in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        del item.metadata_props[:]
        item.doc_string = ""


def _complete_weights(proto: onnx.ModelProto, model: nn.Module) -> None:
    """Add what the exporter has left out, so that ``state_dict()`` can be read back whole."""
    present = {tensor.name for tensor in proto.graph.initializer}
    used = {name for node in proto.graph.node for name in (*node.input, *node.output)}
    for name, value in model.state_dict().items():
        if name not in present | used:
            proto.graph.initializer.append(numpy_helper.from_array(value.numpy(), name))


def _halve(proto: onnx.ModelProto) -> None:
    """Keep large weights as float16, under their names, each with a Cast back to float32."""
    graph = proto.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < 1024:
            continue
        values = numpy_helper.to_array(tensor)
        if np.abs(values).max() > np.finfo(np.float16).max:
            continue
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
        wide = f"{tensor.name}/float32"
        casts.append(helper.make_node("Cast", [tensor.name], [wide], to=TensorProto.FLOAT))
        for node in graph.node:
            for i, name in enumerate(node.input):
                if name == tensor.name:
                    node.input[i] = wide
    layers = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *layers])


# ------------------------------------------------------------------- its worth


def _compare(session, x: torch.Tensor, logits: torch.Tensor) -> float:
    """Return the share of labels on which onnxruntime and torch agree, if it is nearly all."""
    size = max(1, BATCH_PIXELS // (x.shape[2] * x.shape[3]))
    batches, wanted = x.split(size), logits.shape[1:]
    found = np.concatenate([run(session, some.numpy(), *wanted).argmax(1) for some in batches])
    agreement = float(np.mean(found == logits.argmax(1).numpy()))
    if agreement < 0.99:
        raise CourseError(
            f"onnxruntime and torch agree on {agreement:.1%} of the pixels only. Does forward "
            "depend on the batch (batch norm without running statistics?) or on random numbers?"
        )
    return agreement


def _validate(session, valid: SegmentationSet, task: Task) -> ConfusionMatrix:
    # On stdout, because nbgrader takes stderr for a failure; only if it takes a while.
    progress = partial(tqdm, desc="validation", file=sys.stdout, delay=2, leave=False)
    sliding = {"window": task.window, "stride": task.stride}
    masks = predict(session, valid.images, len(valid.classes), progress, **sliding)
    return ConfusionMatrix(len(valid.classes)).update(masks, valid.masks)


def _require_speed(seconds: float, task: Task) -> None:
    """Refuse a net that the grader would stop; CamVid's test split has 233 images."""
    needed = seconds * (task.hidden or 233)
    if needed > task.seconds:
        raise CourseError(
            f"the model is too slow: {seconds:.2f} s an image, so about {needed:.0f} s for the "
            f"hidden ones; the grader stops after {task.seconds:g} s. Use fewer channels."
        )


def _keep_better(
    task: Task, content: bytes, confusion: ConfusionMatrix, valid: SegmentationSet
) -> None:
    """Keep a copy of the model file that is there, if it is better than the one to be written."""
    path = model_path(task.name)
    try:
        there = read_plain_file(path, task.max_megabytes)
        facts = check_model_bytes(there, task, str(path))
    except CourseError:
        return  # none, or of another profile
    before = confusion if there == content else _validate(open_model(there), valid, task)
    old, new = float(task.iou(before.matrix)), float(task.iou(confusion.matrix))
    if old <= new + 0.02:
        return
    kept = previous_name(path)
    write_atomic(kept, there)
    record = _record(task, there, facts, before, {})
    write_record(kept.with_suffix(".json"), record)
    print(
        f"The model that was here is better: {task.measure} {old:.3f}, this one "
        f"{new:.3f}. It is kept: to hand that one in, rename {kept.name} and "
        f"{kept.with_suffix('.json').name} in {kept.parent}/ to {path.name} and "
        f"{path.with_suffix('.json').name}."
    )


def _warn_of_another_model(history: Any, measured: float, valid: SegmentationSet) -> None:
    """Say so if the training that the record tells of ended elsewhere than this model is."""
    settings = history.get("settings", {}) if isinstance(history, dict) else {}
    if data_hash(valid) not in settings.get("validation data", data_hash(valid)):
        return  # it has watched fewer images
    told = history.get("mean_iou") if isinstance(history, dict) else None
    # the last epoch's weights, or the best that were kept
    if told and min(abs(told[-1] - measured), abs(max(told) - measured)) > 0.02:
        print(
            f"Careful: the history ends at a validation mean IoU of {told[-1]:.3f}, this model has "
            f"{measured:.3f}. Is it the model that was trained, and is the training finished?"
        )


def _known_record(task: Task, history: Any) -> dict[str, Any]:
    """Return what the training has written into the record; a history that is given counts more."""
    known = read_record(record_path(task.name))
    if (known.get("task"), known.get("profile")) != (task.name, task.profile):
        known = {}
    if history is not None:
        told = asdict(history) if is_dataclass(history) else history
        known["history"] = json.loads(json.dumps(told, default=str))
    return known


def _run_of(known: dict[str, Any]) -> str:
    """Return which training run a record tells of; empty if of none."""
    try:
        return str(known["history"]["settings"]["run"])
    except (KeyError, TypeError):
        return ""


def _record(
    task: Task, content: bytes, facts: ModelFacts, confusion: ConfusionMatrix, known: dict[str, Any]
) -> dict[str, Any]:
    """Return the training record: what the training has written, and what was exported."""
    scores = zip(task.classes, confusion.iou(), strict=True)
    return known | {
        "task": task.name,
        "profile": task.profile,
        "data": known.get("data", task.data),
        "validation": {
            "mean IoU": round(confusion.mean_iou(), 6),
            "pixel accuracy": round(confusion.pixel_accuracy(), 6),
            "IoU": {name: None if np.isnan(v) else round(float(v), 6) for name, v in scores},
        },
        "parameters": facts.parameters,
        "megabytes": round(facts.megabytes, 3),
        "sha256": hashlib.sha256(content).hexdigest(),
        "versions": known.get("versions", {})
        | {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "onnx", "onnxruntime", "numpy")},
        },
    }


def _report(task: Task, facts: ModelFacts, agreement: float, score: float, seconds: float) -> None:
    print(
        f"{model_path(task.name)}: {facts.parameters:,} weights and statistics, "
        f"{facts.megabytes:.1f} MB, "
        f"{1000 * seconds:.0f} ms an image\n"
        f"onnxruntime and torch agree on {agreement:.2%} of the pixels; the grader's gate is "
        f"passed\n"
        f"validation {task.measure} {score:.3f}   (floor {task.floor:.3f}, "
        f"marks from {task.low:.2f}, full marks at {task.high:.2f})\n"
        f"marks to expect on the hidden images: about {task.marks(score):.1f} of {task.points:g}"
    )
    if Path.cwd().name != task.lesson:
        print(f"note: the hand-in is made of the folder {task.lesson}; this is {Path.cwd().name}.")


# ------------------------------------------------------------------ in plain words


@contextlib.contextmanager
def _silence():
    """Keep the exporter's chatter off the notebook: any line on stderr costs marks there."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _untraceable(error: Exception) -> CourseError:
    where = _where(error)
    text = str(error)
    if "data-dependent" in text or "GuardOnDataDependent" in type(error).__name__:
        what = "what it computes depends on the values of a tensor; use no if or while on them"
    elif "batch" in text and ("Constraint" in text or "specialized" in text.lower()):
        what = "it works for one batch size; take that from x.shape[0], not len(x), or flatten(1)"
    else:
        what = f"{type(error).__name__}: {_first_line(error)}"
    return CourseError(f"forward cannot be exported{where}: {what}.")


def _unwritable(error: BaseException) -> str:
    """Return the first cause of the exporter's error, such as a function that ONNX has not."""
    while error.__cause__ is not None:
        error = error.__cause__
        if told := re.search(r"torch\.ops\.aten\.(\w+)", str(error)):
            return f"{told[1]} is not known there"
    return _first_line(error)


def _where(error: BaseException) -> str:
    """Return `` in line 7, `x = x.view(2, -1)` `` for the innermost line of the student's code."""
    found = ""
    frames = traceback.extract_tb(error.__traceback__)
    for frame in frames:
        inside = ("site-packages", "dist-packages", os.sep + "torch" + os.sep, __file__, "<frozen")
        if not any(part in frame.filename for part in inside) and frame.name != "<module>":
            line = frame.line or linecache.getline(frame.filename, frame.lineno).strip()
            if os.sep + "course_utils" + os.sep not in frame.filename:
                found = f" in line {frame.lineno} of {frame.name}, `{line}`"
    if not found:  # torch.export tells of the code in its message only
        told = re.findall(r'File "[^"]+", line (\d+), in (\w+)\n\s+(.+)', str(error))
        if told:
            found = " in line {} of {}, `{}`".format(*told[-1])
    return found


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")[:300]
