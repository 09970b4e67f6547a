"""Model files made by code: a small right one, and hostile or mistaken variants of it."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from course_utils.grading.marking.settings import Settings
from course_utils.hand_in.tasks import Task


def tensor(name: str, values) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values), name)


def small_model(task: Task, /, nodes=None, weights=None, *, outputs=None, **changes):
    """Return a 1x1 convolution from image to logits, as a model file of ``task``.

    ``nodes`` and ``weights`` replace its layers; ``changes`` replace its metadata
    (None removes an entry).
    """
    height, width = task.input_size
    count = len(task.classes)
    rng = np.random.default_rng(0)
    if nodes is None:
        nodes = [helper.make_node("Conv", ["images", "head.weight", "head.bias"], ["logits"])]
    if weights is None:
        weights = [
            tensor("head.weight", rng.normal(size=(count, 3, 1, 1)).astype(np.float32)),
            tensor("head.bias", np.zeros(count, np.float32)),
        ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, height, width])
    logits = outputs or helper.make_tensor_value_info(
        "logits", TensorProto.FLOAT, ["batch", count, height, width]
    )
    graph = helper.make_graph(nodes, "model", [images], [logits], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    said = {"task": task.name, "profile": task.profile} | changes
    helper.set_model_props(model, {key: value for key, value in said.items() if value is not None})
    return model


def patch_model(task: Task, weight=None, **changes):
    """Return a net that labels a patch by its centre pixel's colour, as a model file of ``task``.

    ``weight`` is that of the convolution over the whole patch, ``(C, 3, window, window)``.
    """
    count, window = len(task.classes), task.window
    if weight is None:
        weight = np.zeros((count, 3, window, window), np.float32)
        weight[:, :, window // 2, window // 2] = np.random.default_rng(0).normal(size=(count, 3))
    nodes = [
        helper.make_node("Conv", ["images", "features.weight"], ["x"]),
        helper.make_node("Flatten", ["x"], ["logits"]),
    ]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", count])
    weights = [tensor("features.weight", weight)]
    return small_model(task, nodes, weights, outputs=logits, **changes)


def then(task: Task, *nodes, weights=()):
    """Return the small model with more operators after its convolution (``x`` to ``logits``)."""
    model = small_model(task)
    model.graph.node[0].output[0] = "x"
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(weights)
    return model


def bombs(task: Task) -> dict[str, onnx.ModelProto]:
    """Return nets that are small on disk and would fill memory when they run."""
    huge = np.int64(1 << 36)
    node = helper.make_node
    one = tensor("one", np.float32([1]))
    grown = (
        node("ReduceSum", ["big"], ["sum"], keepdims=0),
        node("Add", ["x", "sum"], ["logits"]),
    )
    square = tensor("square", np.array([1, 1, 1 << 18, 1 << 18]))
    return {
        "Expand": then(
            task,
            node("Expand", ["one", "size"], ["big"]),
            *grown,
            weights=[one, tensor("size", [huge])],
        ),
        "Range": then(
            task,
            node("Range", ["from", "to", "step"], ["numbers"]),
            node("Cast", ["numbers"], ["big"], to=TensorProto.FLOAT),
            *grown,
            weights=[
                tensor("from", np.int64(0)),
                tensor("to", huge),
                tensor("step", np.int64(1)),
            ],
        ),
        "ConstantOfShape": then(
            task,
            node("ConstantOfShape", ["size"], ["big"]),
            *grown,
            weights=[tensor("size", [huge])],
        ),
        "whole numbers": then(  # of which inference works out the values, too
            task,
            node("Expand", ["whole", "size"], ["twice"]),
            node("Add", ["twice", "whole"], ["more"]),
            node("Cast", ["more"], ["big"], to=TensorProto.FLOAT),
            *grown,
            weights=[tensor("whole", np.array([1])), tensor("size", [huge])],
        ),
        "Tile": then(
            task,
            node("Tile", ["one", "size"], ["big"]),
            *grown,
            weights=[one, tensor("size", [huge])],
        ),
        "Resize": then(
            task,
            node("Resize", ["x", "", "scales"], ["big"]),
            node("Resize", ["big", "", "", "back"], ["logits"]),
            weights=[
                tensor("scales", np.float32([1, 1, 4096, 4096])),
                tensor("back", np.array([1, len(task.classes), *task.size])),
            ],
        ),
        "Pad": then(
            task,
            node("Pad", ["x", "pads"], ["big"]),
            node("Slice", ["big", "start", "end", "axes"], ["logits"]),
            weights=[
                tensor("pads", np.array([0, 0, 0, 0, 0, 0, 1 << 18, 1 << 18])),
                tensor("start", np.array([0, 0])),
                tensor("end", np.array(task.size)),
                tensor("axes", np.array([2, 3])),
            ],
        ),
        "ConvTranspose": then(
            task,
            node("ConvTranspose", ["x", "w"], ["big"], strides=[9999, 9999]),
            node("Resize", ["big", "", "", "back"], ["logits"]),
            weights=[
                tensor("w", np.zeros((len(task.classes), len(task.classes), 1, 1), np.float32)),
                tensor("back", np.array([1, len(task.classes), *task.size])),
            ],
        ),
        "matrix of a line": then(
            task,
            node("Expand", ["one", "square"], ["big"]),
            *grown,
            weights=[one, square],
        ),
    }


def growing_at_run_time(task: Task) -> onnx.ModelProto:
    """Return a net whose size follows from pixel values, so that no gate can tell it."""
    node = helper.make_node
    return then(
        task,
        node("ReduceMax", ["images"], ["bright"], keepdims=0),
        node("Mul", ["bright", "factor"], ["scaled"]),
        node("Cast", ["scaled"], ["count"], to=TensorProto.INT64),
        node("Reshape", ["count", "axis"], ["size"]),
        node("Expand", ["one", "size"], ["big"]),
        node("ReduceSum", ["big"], ["sum"], keepdims=0),
        node("Add", ["x", "sum"], ["logits"]),
        weights=[
            tensor("factor", np.float32(1 << 34)),
            tensor("axis", [1]),
            tensor("one", np.float32([1])),
        ],
    )


def endless(task: Task, layers: int = 40) -> onnx.ModelProto:
    """Return a net that passes the gate's caps but computes for a long time."""
    node = helper.make_node
    rng = np.random.default_rng(0)
    wide = 96
    nodes = [node("Conv", ["images", "in"], ["a0"])]
    nodes += [node("Conv", [f"a{i}", "w"], [f"a{i + 1}"], pads=[3, 3, 3, 3]) for i in range(layers)]
    nodes += [node("Conv", [f"a{layers}", "out"], ["logits"])]
    weights = [
        tensor("in", rng.normal(size=(wide, 3, 1, 1)).astype(np.float32)),
        tensor("w", rng.normal(size=(wide, wide, 7, 7)).astype(np.float32) / 70),
        tensor("out", rng.normal(size=(len(task.classes), wide, 1, 1)).astype(np.float32)),
    ]
    return small_model(task, nodes, weights)


def settings_of(folder, secret, **options):
    """Return the settings of a course in a folder, with this secret seed."""
    course = folder / "course"
    for name in ("solutions", "grading"):
        (course / name).mkdir(parents=True, exist_ok=True)
    (course / "grading" / "secret_seed").write_text(f"{secret}\n")
    return Settings(course, **options)
