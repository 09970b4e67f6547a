"""The gate: what a model file must be before anything loads it.

A model file is ONNX, which is data: a list of operators and their weights. The
gate reads it from bytes and refuses everything that could read files, call
foreign code, or fill memory; then it holds the file against its task. Students
run the same gate when they export and when they hand in.
"""

import io
import os
import stat
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from course_utils.errors import CourseError
from course_utils.hand_in.logits import shape_fault, shape_text
from course_utils.hand_in.tasks import PROFILES, Task, get_task

if TYPE_CHECKING:
    import onnx

MAX_NODES = 4000
MAX_VALUES = 1 << 26
"""Most values of one tensor inside a net, for one image (a quarter of a GB of float32)."""
_MAX_SHAPE_VALUES = 1024  # tensors that say a shape are smaller, weights are larger
MAX_STRUCTURE = 4_000_000
"""Most bytes beside the weights: read, an empty operator of 2 bytes takes 160 of memory."""
MAX_OPSET, MAX_IR = 23, 11
"""Newest ONNX that the oldest onnxruntime of pyproject.toml reads (1.23); export() writes older."""

_ALLOWED = """
Conv ConvTranspose BatchNormalization InstanceNormalization GroupNormalization LayerNormalization
MaxPool AveragePool GlobalAveragePool GlobalMaxPool Resize DepthToSpace SpaceToDepth
Gemm MatMul Einsum LRN
Relu LeakyRelu PRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Tanh Softmax LogSoftmax
Softplus Softsign Gelu Erf Mish Clip
Add Sub Mul Div Pow Sqrt Reciprocal Exp Log Abs Neg Floor Ceil Round Mod Min Max Sum Mean Sin Cos
Equal Greater GreaterOrEqual Less LessOrEqual And Or Not Where
Sign IsNaN IsInf
ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceProd ReduceLogSum ReduceLogSumExp
ReduceSumSquare CumSum Range
Identity Constant Cast CastLike Shape Size Reshape Flatten Transpose Squeeze Unsqueeze Concat
Split Slice Gather GatherElements GatherND ScatterND Pad Expand Tile ConstantOfShape Trilu
"""
_OPERATORS = frozenset(_ALLOWED.split())
_HINTS = {
    "MaxUnpool": "unpooling by given places; F.max_unpool2d is taken as export() writes it",
    "GridSample": "F.grid_sample; use F.interpolate",
    "NonZero": "indexing by a mask of True and False; use torch.where",
    "ScatterElements": "scatter; use torch.where",
    "TopK": "a sort or topk; use max, mean or a threshold",
    "DFT": "a Fourier transform; use convolutions",
    "Dropout": "dropout that is on; call model.eval() before, or use export(), which does",
    "If": "a branch ('if' on a tensor's values in forward)",
    "Loop": "a loop over a tensor's values in forward",
    "Scan": "a loop over a tensor's values in forward",
    "RandomNormal": "random numbers, so it gives other masks each time",
    "RandomNormalLike": "random numbers, so it gives other masks each time",
    "RandomUniform": "random numbers, so it gives other masks each time",
    "RandomUniformLike": "random numbers, so it gives other masks each time",
    "ArgMax": "an argmax; give logits (B, C, H, W), the grader takes the argmax",
}


class Refused(CourseError):
    """A hand-in that is not what it must be: its author's fault, and worth no marks."""


@dataclass(frozen=True)
class ModelFacts:
    """What the gate has found in a model file that it let through.

    Attributes
    ----------
    parameters
        Number of stored weights and statistics.
    multiplications
        For one image (or one patch), in convolutions and matrix products.
    activations
        Values that the layers give for it: what training keeps in memory.
    """

    parameters: int
    nodes: int
    multiplications: int
    activations: int
    megabytes: float


def check_model_file(path: Path | str, task: Task | str) -> ModelFacts:
    """Return the facts about a model file that is fit for its task; else raise.

    Raises
    ------
    Refused
        If there is no such file, or it is not taken: one line that says what it is,
        and what to do.
    """
    task = get_task(task) if isinstance(task, str) else task
    path = Path(path)
    return check_model_bytes(read_plain_file(path, task.max_megabytes), task, str(path))


def read_plain_file(
    path: Path,
    max_megabytes: float,
    name: str | None = None,
    *,
    writer: str = "export(...)",
    smaller: str = "Use fewer channels or levels.",
) -> bytes:
    """Return the content of a regular file that has one name, following no link.

    Whoever checks a file and whoever uses it must both use these bytes: then the
    file cannot change in between.

    Parameters
    ----------
    name
        What to call the file in messages. Default: its path.
    writer, smaller
        What writes such a file, and what to do where one is too large.

    Raises
    ------
    Refused
        If it is missing, a link, no regular file, empty or too large.
    """
    name = name or str(path)
    # NONBLOCK: opening a named pipe would wait for ever.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    flags |= getattr(os, "O_BINARY", 0)
    if path.is_symlink():
        raise Refused(f"{name} is a link to another file; hand in the file itself.")
    try:
        handle = os.open(path, flags)
    except FileNotFoundError:
        raise Refused(
            f"there is no file {name}. Run the lesson's {writer} cell, in the lesson's folder."
        ) from None
    except OSError as error:
        raise Refused(f"{name} cannot be read: {error.strerror}.") from None
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise Refused(f"{name} is not a plain file; hand in the file that {writer} wrote.")
        if facts.st_nlink > 1:
            raise Refused(f"{name} is a hard link, one file with two names; hand in a copy.")
        _refuse_size(facts.st_size, max_megabytes, name, smaller)
        with open(handle, "rb", closefd=False) as file:
            content = file.read(facts.st_size + 1)
    finally:
        os.close(handle)
    if not content:
        raise Refused(f"{name} is empty: {writer} was interrupted. Run it again.")
    if len(content) > facts.st_size:
        raise Refused(f"{name} grew while it was read; try again.")
    return content


def _refuse_size(size: int, max_megabytes: float, name: str, smaller: str) -> None:
    if size > max_megabytes * 1e6:
        raise Refused(
            f"{name} is too large: {size / 1e6:.1f} MB, allowed are {max_megabytes:g} MB. {smaller}"
        )


def check_model_bytes(content: bytes, task: Task, name: str = "the model file") -> ModelFacts:
    """Check the content of a model file, see :func:`check_model_file`.

    Parameters
    ----------
    name
        What to call the file in messages.
    """
    _refuse_size(len(content), task.max_megabytes, name, "Use fewer channels or levels.")
    model = _parse(content, task.name, name)
    _refuse_foreign(model, name)
    parameters = _refuse_large(model, task, name)
    _hold_against_task(model, task, name)
    nodes = len(model.graph.node)
    return ModelFacts(parameters, nodes, *_cost(model, task, name), len(content) / 1e6)


def stated_profile(content: bytes, task: str, name: str = "the model file") -> str:
    """Return the profile that a model file says it was trained under."""
    model = _parse(content, task, name)
    profile = _metadata(model).get("profile")
    if profile not in PROFILES:
        raise Refused(
            f"{name} does not say for which profile it was trained. "
            f'Write it with export("{task}", model).'
        )
    return profile


def _parse(content: bytes, task: str, name: str) -> "onnx.ModelProto":
    import onnx
    from google.protobuf.message import DecodeError

    cure = f'Write it with export("{task}", model).'
    found = _foreign_format(content)
    if found:
        raise Refused(f"{name} is {found}, not ONNX. {cure}")
    _refuse_bulky(content, name, cure)
    model = onnx.ModelProto()
    try:
        # From bytes, and without onnx.load: nothing can name another file to be read.
        model.ParseFromString(content)
    except DecodeError:
        raise Refused(f"{name} is not ONNX, or is damaged. {cure}") from None
    if not model.graph.node or not model.opset_import:
        raise Refused(f"{name} is not ONNX: it holds no net. {cure}")
    return model


# Where a protobuf holds the weights: model.graph.initializer, and in it the fields of values.
_GRAPH, _INITIALIZER, _VALUES = (7,), (7, 5), {(7, 5, field) for field in (4, 5, 7, 9, 10, 11)}


def _refuse_bulky(content: bytes, name: str, cure: str) -> None:
    """Refuse a file that is mostly structure, before a reader makes an object of every piece.

    Source: the encoding of protocol buffers, https://protobuf.dev/programming-guides/encoding,
    and the field numbers of onnx.proto.
    """
    structure = 0
    waiting = [((), 0, len(content))]
    while waiting:
        path, at, end = waiting.pop()
        while at < end:
            first, (key, at) = at, _varint(content, at, end)
            kind, inner = key & 7, (*path, key >> 3)
            if kind == 2:
                length, at = _varint(content, at, end)
            elif kind == 0:
                length = _varint(content, at, end)[1] - at
            else:
                length = {1: 8, 5: 4}.get(kind, len(content))
            if at + length > end:
                raise Refused(f"{name} is not ONNX, or is damaged. {cure}")
            is_message = kind == 2 and inner in (_GRAPH, _INITIALIZER)
            structure += at - first + (0 if is_message or inner in _VALUES else length)
            if structure > MAX_STRUCTURE:
                raise Refused(
                    f"{name} holds more than {MAX_STRUCTURE / 1e6:g} MB beside its weights, which "
                    f"no plain net needs. {cure}"
                )
            if is_message:
                waiting.append((path, at + length, end))
                path, end = inner, at + length
            else:
                at += length


def _varint(content: bytes, at: int, end: int) -> tuple[int, int]:
    """Return a number of 7 bits a byte, and where it ends; past ``end`` if it is cut off."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte, at = content[at], at + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    return 0, end + 1


def _foreign_format(content: bytes) -> str | None:
    """Say what a file is that people hand in instead of ONNX; None if nothing known."""
    if content.startswith(b"PK"):
        try:
            names = zipfile.ZipFile(io.BytesIO(content)).namelist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError):
            names = []
        inside = " ".join(name.partition("/")[2] or name for name in names[:1000])
        if "code/" in inside or "constants.pkl" in inside:
            return "TorchScript (torch.jit.save), which runs code when loaded"
        if "archive_format" in inside or "models/model.json" in inside:
            return "a .pt2 archive (torch.export.save), which runs code when loaded"
        if "data.pkl" in inside:
            return "a pickle (torch.save, or learn.export of fastai), which runs code when loaded"
        return "a zip archive"
    if content[:1] == b"\x80" and content[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a pickle (torch.save, learn.export or pickle.dump), which runs code when loaded"
    known = {
        b"\x89HDF": "an HDF5 file (Keras)",
        b"\x93NUMPY": "a NumPy array",
        b"\x1f\x8b": "a gzip archive",
        b"version https://git-lfs": "a Git LFS pointer instead of the file",
        b"<": "a web page (a download that failed?)",
        b"{": "a text file",
    }
    for start, what in known.items():
        if content.startswith(start):
            return what
    if content[8:10] == b'{"' and int.from_bytes(content[:8], "little") < len(content):
        return "a safetensors file"
    return None


def _metadata(model: "onnx.ModelProto") -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def _refuse_foreign(model: "onnx.ModelProto", name: str) -> None:
    """Refuse whatever is not a flat list of known operators with weights inside the file."""
    if model.functions or model.training_info:
        raise Refused(f"{name} defines functions of its own; only plain nets are taken.")
    foreign = [o.domain for o in model.opset_import if o.domain not in ("", "ai.onnx")]
    if foreign:
        raise Refused(f"{name} uses operators of {foreign[0]!r:.60}; only standard ONNX is taken.")
    opset = max(entry.version for entry in model.opset_import)
    for what, found, known in (
        ("opset", opset, MAX_OPSET),
        ("IR version", model.ir_version, MAX_IR),
    ):
        if found > known:
            raise Refused(
                f"{name} is of ONNX {what} {found}, newer than this grader knows ({known}): "
                "export it with the course's own versions."
            )
    if len(model.graph.node) > MAX_NODES:
        raise Refused(
            f"{name} has {len(model.graph.node)} operators, allowed are {MAX_NODES}: "
            "is there a loop in forward that grows?"
        )
    for node in model.graph.node:
        if node.op_type not in _OPERATORS or node.domain not in ("", "ai.onnx"):
            hint = _HINTS.get(
                node.op_type,
                "which the grader does not take; use convolutions, pooling, F.interpolate and "
                "arithmetic in forward",
            )
            raise Refused(f"{name} has the operator {node.op_type!r:.60}: {hint}.")
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                raise Refused(f"{name} has a branch or a loop inside; only plain nets.")
    for tensor in _tensors(model):
        if tensor.data_location or tensor.external_data:
            raise Refused(
                f"{name} keeps its weights in another file; hand in one file, as export() writes."
            )
    if model.graph.sparse_initializer or any(
        attribute.HasField("sparse_tensor") or attribute.sparse_tensors
        for node in model.graph.node
        for attribute in node.attribute
    ):
        raise Refused(f"{name} has sparse weights, which the scorer does not take.")


def _tensors(model: "onnx.ModelProto"):
    """Give all stored tensors: weights, and constants inside of operators."""
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _refuse_large(model: "onnx.ModelProto", task: Task, name: str) -> int:
    """Return the number of stored values, unless it is too many or a tensor lies about it."""
    from onnx import TensorProto

    total = 0
    for tensor in _tensors(model):
        if any(side < 0 for side in tensor.dims):
            raise Refused(f"{name} is damaged: a tensor has a negative size.")
        if tensor.data_type == TensorProto.STRING:
            raise Refused(f"{name} holds text among its weights; only plain nets are taken.")
        total += _count(tensor.dims)
    if total > task.max_parameters:
        raise Refused(
            f"{name} has {total:,} parameters, allowed are {task.max_parameters:,}. "
            "Use fewer channels or levels."
        )
    return total


def _hold_against_task(model: "onnx.ModelProto", task: Task, name: str) -> None:
    """Refuse a net of another task, or with other inputs and outputs than the task's."""
    from onnx import TensorProto

    said = _metadata(model)
    cure = f'Write it with export("{task.name}", model).'
    if "task" not in said:
        raise Refused(f"{name} does not say for which task it is. {cure}")
    if said["task"] != task.name:
        raise Refused(
            f"{name} is a model of task {said['task']!r:.40}, not of {task.name!r}. "
            "Were two files mixed up?"
        )
    if said.get("profile") != task.profile:
        raise Refused(
            f"{name} was trained under profile {said.get('profile')!r:.20}, not {task.profile!r}. "
            f"Set COURSE_PROFILE={said.get('profile')!s:.20} to use it, or train again."
        )
    height, width = task.input_size
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    wanted = [None, 3, height, width]
    if len(inputs) != 1 or inputs[0].name != "images" or len(graph.output) != 1:
        found = [repr(value.name) for value in (*inputs, *graph.output)]  # a damaged one is bytes
        raise Refused(
            f"{name} must have one input 'images' and one output 'logits', "
            f"found {', '.join(found[:4]):.80}. {cure}"
        )
    kind = inputs[0].type.tensor_type.elem_type
    if kind != TensorProto.FLOAT or _shape(inputs[0]) != wanted:
        raise Refused(
            f"{name} takes input of shape {shape_text(_shape(inputs[0]))}, {_type_name(kind)}; "
            f"task {task.name!r} gives (batch, 3, {height}, {width}) with a free batch, float32. "
            f"{cure}"
        )
    output = graph.output[0]
    if output.name != "logits":
        raise Refused(f"{name} must give 'logits', not {output.name!r:.40}. {cure}")
    kind = output.type.tensor_type.elem_type
    if kind != TensorProto.FLOAT:
        raise Refused(
            f"{name} gives logits of type {_type_name(kind)}; they must be float32: end forward "
            "with .float()."
        )
    _check_logits_shape(_shape(output), task, name)


def _check_logits_shape(shape: list[int | None], task: Task, name: str) -> None:
    """Refuse logits that are not (batch, C, H, W) of the task; of patches (batch, C)."""
    wanted = ("batch", *task.output_shape)
    if fault := shape_fault(shape, wanted, f"the task {task.name!r}"):
        raise Refused(f"{name} {fault}")


def _shape(value: "onnx.ValueInfoProto") -> list[int | None]:
    return [
        side.dim_value if side.HasField("dim_value") else None
        for side in value.type.tensor_type.shape.dim
    ]


def _type_name(kind: int) -> str:
    from onnx import TensorProto

    return TensorProto.DataType.Name(kind).lower() if kind in TensorProto.DataType.values() else "?"


def _count(sides: Iterable[int]) -> int:
    """Return how many values a tensor has, at most 2**63: larger numbers fill lines, not memory."""
    count = 1
    for side in sides:
        count = min(count * max(side, 0), 1 << 63)
    return count


def _cost(model: "onnx.ModelProto", task: Task, name: str) -> tuple[int, int]:
    """Return multiplications and values for one image; refuse tensors that would fill memory.

    The model is changed: it is of no more use.
    """
    graph = model.graph
    # Sizes that follow from the batch become numbers when the batch is one image.
    for value in graph.input:
        if value.name == "images":
            value.type.tensor_type.shape.dim[0].dim_value = 1
    # A file may claim any size: only what follows from its operators counts.
    del graph.value_info[:]
    graph.output[0].type.tensor_type.ClearField("shape")
    for tensor in graph.initializer:
        if _count(tensor.dims) > _MAX_SHAPE_VALUES:
            tensor.ClearField("raw_data")  # inference copies what it is given
    plain = _infer(model, name, data_prop=False).graph
    _sizes(plain, name)  # first, for the values that follow from constants may fill memory, too
    _take_numbers_as_given(graph, plain)
    graph = _infer(model, name, data_prop=True).graph
    shapes = _sizes(graph, name)
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    total = sum(_multiplications(node, shapes) for node in graph.node)
    if total > task.max_multiplications:
        scale, unit = (1e6, "million") if task.window else (1e9, "billion")
        raise Refused(
            f"{name} needs {total / scale:,.0f} {unit} multiplications for one "
            f"{'patch' if task.window else 'image'}, allowed are "
            f"{task.max_multiplications / scale:,.0f}. Use fewer channels."
        )
    shape = shapes.get("logits")
    if shape and None not in shape:
        _check_logits_shape([None, *shape[1:]], task, name)
    made = [shapes.get(output) for node in graph.node for output in node.output[:1]]
    return total, sum(_count(shape) for shape in made if shape and None not in shape)


def _infer(model: "onnx.ModelProto", name: str, data_prop: bool) -> "onnx.ModelProto":
    """Return the model with the sizes that follow from its operators."""
    import onnx

    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=data_prop, strict_mode=True)
    except MemoryError:
        raise Refused(f"{name} makes a tensor of more values than memory has room for.") from None
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Refused(f"{name} is damaged, its operators do not fit: {reason:.200}") from None


def _sizes(graph: "onnx.GraphProto", name: str) -> dict[str, list[int | None]]:
    """Return the shapes of what is computed; refuse what would fill memory.

    Where a size cannot be told beforehand, the child's memory limit decides.
    """
    values = (*graph.input, *graph.value_info, *graph.output)
    shapes = {value.name: _shape(value) for value in values}
    largest = max((_count(shape) for shape in shapes.values() if None not in shape), default=0)
    if largest > MAX_VALUES:
        raise Refused(
            f"{name} makes a tensor of {largest:,} values for one image, allowed are "
            f"{MAX_VALUES:,}."
        )
    return shapes


def _take_numbers_as_given(graph: "onnx.GraphProto", inferred: "onnx.GraphProto") -> None:
    """Make inputs of what Range gives, since inference would write down each of its numbers."""
    numbers = {output for node in graph.node if node.op_type == "Range" for output in node.output}
    for value in inferred.value_info:
        if value.name in numbers:
            if _count(side or 0 for side in _shape(value)) > _MAX_SHAPE_VALUES:
                value.type.tensor_type.shape.dim[0].Clear()
            graph.input.append(value)
    others = [node for node in graph.node if node.op_type != "Range"]
    del graph.node[:]
    graph.node.extend(others)


def _multiplications(node: "onnx.NodeProto", shapes: dict[str, list[int | None]]) -> int:
    """Return those of a convolution or a matrix product with known shapes, else 0."""
    known = [shapes.get(value) for value in (*node.input[:2], *node.output[:1])]
    if len(known) < 3 or any(not shape or None in shape for shape in known):
        return 0
    image, weight, output = known
    if node.op_type == "Conv":  # weight (out, in / groups, ...)
        return _count(output) * _count(weight[1:])
    if node.op_type == "ConvTranspose":  # weight (in, out / groups, ...)
        return _count(image) * _count(weight[1:])
    if node.op_type in ("MatMul", "Gemm"):
        return _count(output) * image[-1]
    return 0
