"""The gate lets honest nets through, and names what is wrong with all others in one line."""

import contextlib
import gzip
import io
import os
import pickle
import re
import socket
import warnings
import zipfile

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from course_utils.errors import CourseError
from course_utils.hand_in.gate import Refused, check_model_bytes, check_model_file, stated_profile
from course_utils.hand_in.tasks import get_task
from tests.model_files import bombs, growing_at_run_time, small_model, tensor, then

TASK = get_task("unet", "quick")
HEIGHT, WIDTH = TASK.size
COUNT = len(TASK.classes)


def refusal(model) -> str:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(Refused) as caught:
        check_model_bytes(content, TASK, "models/unet.onnx")
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


def test_a_right_model_passes_and_its_facts_are_told(tmp_path):
    path = tmp_path / "unet.onnx"
    path.write_bytes(small_model(TASK).SerializeToString())
    facts = check_model_file(path, "unet")
    assert facts.parameters == COUNT * 3 + COUNT
    assert facts.multiplications == HEIGHT * WIDTH * COUNT * 3
    assert facts.nodes == 1
    assert facts.megabytes == path.stat().st_size / 1e6


def test_the_stated_profile_is_read():
    content = small_model(get_task("unet", "full")).SerializeToString()
    assert stated_profile(content, "unet") == "full"
    with pytest.raises(Refused, match="does not say for which profile"):
        stated_profile(small_model(TASK, profile="huge").SerializeToString(), "unet")


# ------------------------------------------------------------------ not a plain file


def test_a_missing_file_names_the_cell_to_run(tmp_path):
    with pytest.raises(Refused, match=r"there is no file .*unet.onnx. Run .*export"):
        check_model_file(tmp_path / "unet.onnx", TASK)


def test_links_pipes_sockets_and_folders_are_refused(tmp_path, monkeypatch):
    real = tmp_path / "real.onnx"
    real.write_bytes(small_model(TASK).SerializeToString())
    (tmp_path / "symbolic.onnx").symlink_to(real)
    (tmp_path / "dangling.onnx").symlink_to("/nowhere")
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with socket.socket(socket.AF_UNIX) as unix:
        monkeypatch.chdir(tmp_path)  # the path of a socket is short
        unix.bind("socket.onnx")
    for name, message in {
        "symbolic": "is a link",
        "dangling": "is a link",
        "pipe": "not a plain file",
        "folder": "not a plain file|cannot be read",
        "socket": "not a plain file|cannot be read",
    }.items():
        with pytest.raises(Refused, match=message):
            check_model_file(tmp_path / f"{name}.onnx", TASK)
    os.link(real, tmp_path / "hard.onnx")
    with pytest.raises(Refused, match="hard link"):
        check_model_file(tmp_path / "hard.onnx", TASK)


def test_a_file_that_is_empty_or_too_large_is_refused_unread(tmp_path):
    path = tmp_path / "unet.onnx"
    path.touch()
    with pytest.raises(Refused, match="is empty"):
        check_model_file(path, TASK)
    with open(path, "wb") as file:
        file.truncate(10**12)  # sparse: reading it would fill memory
    with pytest.raises(Refused, match=r"too large: 1000000.0 MB, allowed are 40 MB"):
        check_model_file(path, TASK)


# ------------------------------------------------------------------------ not ONNX


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch /tmp/course-evil",)


def saved(function, value) -> bytes:
    buffer = io.BytesIO()
    function(value, buffer)
    return buffer.getvalue()


def foreign_files():
    import torch

    class Net(torch.nn.Module):
        def forward(self, x):
            return x + 1

    exported = torch.export.export(Net(), (torch.zeros(1),))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("notes.txt", "hello")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = saved(torch.jit.save, torch.jit.script(Net()))
    return {
        "pickle": (pickle.dumps(Evil()), "is a pickle"),
        "old pickle": (pickle.dumps(Evil(), protocol=2), "is a pickle"),
        "torch.save": (saved(torch.save, {"w": torch.zeros(2)}), r"is a pickle \(torch.save, or"),
        "old torch.save": (
            saved(
                lambda v, f: torch.save(v, f, _use_new_zipfile_serialization=False),
                {"w": torch.zeros(2)},
            ),
            "is a pickle",
        ),
        "TorchScript": (script, "is TorchScript"),
        "pt2": (saved(torch.export.save, exported), r"is a \.pt2 archive"),
        "zip": (archive.getvalue(), "is a zip archive"),
        "numpy": (saved(lambda v, f: np.save(f, v), np.zeros(3)), "is a NumPy array"),
        "gzip": (gzip.compress(b"x"), "is a gzip archive"),
        "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(9), "is an HDF5 file"),
        "safetensors": (
            (len(b'{"w":{}}')).to_bytes(8, "little") + b'{"w":{}}' + bytes(9),
            "is a safetensors file",
        ),
        "web page": (b"<!DOCTYPE html><html>", "is a web page"),
        "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        "text": (b"my model", "is not ONNX"),
        "zeros": (bytes(1000), "is not ONNX"),
        "half a file": (small_model(TASK).SerializeToString()[:-40], "is not ONNX"),
    }


@pytest.mark.process
def test_other_formats_are_named_never_loaded_and_the_cure_is_told():
    for name, (content, message) in foreign_files().items():
        with pytest.raises(Refused, match=message) as caught:
            check_model_bytes(content, TASK, "models/unet.onnx")
        assert 'export("unet", model)' in str(caught.value), name
    assert not os.path.exists("/tmp/course-evil")


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_file_is_refused_in_words_or_still_right(data):
    """Bytes flipped anywhere: never another exception than the gate's own."""
    content = bytearray(small_model(TASK).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Refused):
        check_model_bytes(bytes(content), TASK)


# ------------------------------------------------------------ ONNX that is no plain net


def branch() -> onnx.ModelProto:
    side = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "side",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    return then(
        TASK,
        helper.make_node("If", ["yes"], ["logits"], then_branch=side, else_branch=side),
        weights=[tensor("yes", np.array(True))],
    )


def loop() -> onnx.ModelProto:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["c"], ["again"]),
            helper.make_node("Identity", ["v"], ["w"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
        ],
    )
    return then(
        TASK,
        helper.make_node("Loop", ["turns", "yes", "x"], ["logits"], body=body),
        weights=[tensor("turns", np.int64(1 << 62)), tensor("yes", np.array(True))],
    )


def hidden_branch() -> onnx.ModelProto:
    """A subgraph as an attribute of an operator that is allowed."""
    model = small_model(TASK)
    model.graph.node[0].attribute.append(helper.make_attribute("g", branch().graph))
    return model


def external_weights() -> onnx.ModelProto:
    model = small_model(TASK)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "/etc/passwd")
    return model


def external_constant() -> onnx.ModelProto:
    value = tensor("c", np.zeros(COUNT, np.float32).reshape(1, COUNT, 1, 1))
    model = then(
        TASK,
        helper.make_node("Constant", [], ["c"], value=value),
        helper.make_node("Add", ["x", "c"], ["logits"]),
    )
    inside = model.graph.node[1].attribute[0].t
    onnx.external_data_helper.set_external_data(inside, "../../grading/secret_seed")
    return model


def own_function() -> onnx.ModelProto:
    model = small_model(TASK)
    model.functions.append(
        helper.make_function(
            "own", "Conv", ["a"], ["b"], [helper.make_node("Identity", ["a"], ["b"])], []
        )
    )
    return model


def foreign_domain() -> onnx.ModelProto:
    model = then(TASK, helper.make_node("Relu", ["x"], ["logits"], domain="com.microsoft"))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def undeclared_domain() -> onnx.ModelProto:
    return then(TASK, helper.make_node("Relu", ["x"], ["logits"], domain="evil"))


def sparse() -> onnx.ModelProto:
    model = small_model(TASK)
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(tensor("v", np.float32([1])), tensor("i", [0]), [1 << 40])
    )
    return model


def text_weights() -> onnx.ModelProto:
    model = small_model(TASK)
    model.graph.initializer.append(helper.make_tensor("s", TensorProto.STRING, [1], [b"x"]))
    return model


def negative_size() -> onnx.ModelProto:
    model = small_model(TASK)
    model.graph.initializer[0].dims[0] = -10
    return model


def ring() -> onnx.ModelProto:
    return small_model(
        TASK,
        [
            helper.make_node("Relu", ["b"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Conv", ["a", "head.weight", "head.bias"], ["logits"]),
        ],
    )


def many_operators() -> onnx.ModelProto:
    return then(TASK, *[helper.make_node("Relu", ["x"], [f"r{i}"]) for i in range(5000)])


def newer(opset: int = 18, ir_version: int = 10) -> onnx.ModelProto:
    model = small_model(TASK)
    model.opset_import[0].version, model.ir_version = opset, ir_version
    return model


def training_info() -> onnx.ModelProto:
    model = small_model(TASK)
    model.training_info.add()
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (branch, r"operator 'If': a branch"),
        (loop, r"operator 'Loop': a loop"),
        (hidden_branch, "a branch or a loop inside"),
        (external_weights, "keeps its weights in another file"),
        (external_constant, "keeps its weights in another file"),
        (own_function, "functions of its own"),
        (training_info, "functions of its own"),
        (lambda: newer(opset=99), r"ONNX opset 99, newer than this grader knows \(23\): export"),
        (lambda: newer(ir_version=99), r"ONNX IR version 99, newer than this grader knows \(11\)"),
        (foreign_domain, "operators of 'com.microsoft'"),
        (undeclared_domain, "operator 'Relu'"),
        (sparse, "sparse weights"),
        (text_weights, "text among its weights"),
        (negative_size, "negative size"),
        (ring, "damaged, its operators do not fit"),
        (many_operators, r"has 5001 operators, allowed are 4000"),
        (
            lambda: then(TASK, helper.make_node("Dropout", ["x"], ["logits"])),
            r"'Dropout': .*call model.eval\(\)",
        ),
        (
            lambda: then(TASK, helper.make_node("RandomNormalLike", ["x"], ["logits"])),
            "random numbers",
        ),
        (lambda: then(TASK, helper.make_node("ArgMax", ["x"], ["logits"])), "give logits"),
        (
            lambda: then(TASK, helper.make_node("TfIdfVectorizer", ["x"], ["logits"])),
            "grader does not take; use convolutions, pooling",
        ),
        (lambda: then(TASK, helper.make_node("GridSample", ["x"], ["logits"])), "F.interpolate"),
        (lambda: then(TASK, helper.make_node("NonZero", ["x"], ["logits"])), r"use torch\.where"),
        (lambda: then(TASK, helper.make_node("TopK", ["x"], ["logits"])), "use max, mean"),
        (lambda: then(TASK, helper.make_node("MaxUnpool", ["x"], ["logits"])), "F.max_unpool2d"),
    ],
)
def test_what_is_no_plain_net_is_refused(make, message):
    assert re.search(message, refusal(make()))


@pytest.mark.parametrize("name", bombs(TASK))
def test_a_net_that_would_fill_memory_is_refused_before_it_runs(name):
    assert "makes a tensor of" in refusal(bombs(TASK)[name])


def huge(name: str, *sides: int) -> onnx.TensorProto:
    """Return a weight of a few bytes that claims any size."""
    weight = tensor(name, np.zeros(1, np.float32))
    weight.dims[:] = sides
    return weight


@pytest.mark.parametrize("sides", [[1 << 62] * 400, [1 << 62] * 5000, [3, 1 << 62, 1 << 62]])
def test_a_size_of_thousands_of_digits_is_refused_in_the_gates_own_words(sides):
    model = small_model(TASK)
    model.graph.initializer.append(huge("unused", *sides))
    assert "parameters, allowed are" in refusal(model)
    model = then(TASK, helper.make_node("Constant", [], ["c"], value=huge("c", *sides)))
    assert "parameters, allowed are" in refusal(model)


@pytest.mark.long
@pytest.mark.parametrize("operator", ["Add", "MatMul", "Gemm", "Conv", "ConvTranspose", "Concat"])
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_size_of_a_tensor_makes_another_error_than_the_gates_own(operator, data):
    """Empty tensors too: 0 times anything is 0 parameters, and the rest may be of any size."""
    side = st.sampled_from([0, 1, 2, 3, COUNT, HEIGHT, WIDTH, 1 << 31, 1 << 62, (1 << 63) - 1])
    sides = data.draw(st.lists(side, max_size=6))
    more = data.draw(st.sampled_from([0, 0, 0, 400]))
    order = data.draw(st.permutations(["x", "w"]))
    node = helper.make_node(operator, order, ["logits"])
    if operator == "Concat":
        node.attribute.append(helper.make_attribute("axis", 1))
    model = then(TASK, node, weights=[huge("w", *sides, *[1 << 62] * more)])
    with contextlib.suppress(Refused):
        check_model_bytes(model.SerializeToString(), TASK)


def test_a_claimed_small_size_does_not_hide_a_large_tensor():
    model = bombs(TASK)["Expand"]
    model.graph.value_info.append(helper.make_tensor_value_info("big", TensorProto.FLOAT, [1]))
    assert "makes a tensor of" in refusal(model) or "do not fit" in refusal(model)


def test_a_size_that_follows_from_pixels_is_left_to_the_childs_limits():
    check_model_bytes(growing_at_run_time(TASK).SerializeToString(), TASK)


def message(field: int, content: bytes) -> bytes:
    """Return a protobuf field that holds a message."""
    length, varint = len(content), bytearray()
    while length > 0x7F:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([field << 3 | 2, *varint, length]) + content


def with_graph(extra: bytes) -> bytes:
    """Return the small model, with more bytes at the end of its graph."""
    model = small_model(TASK)
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    return model.SerializeToString() + message(7, graph + extra)


@pytest.mark.long
def test_a_million_empty_operators_are_refused_quickly():
    assert "operators, allowed are" in refusal(with_graph(message(1, b"") * 1_000_000))


@pytest.mark.long
@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(message(1, b"") * 10_000_000, id="operators"),
        pytest.param(message(5, b"") * 10_000_000, id="weights"),
        pytest.param(message(5, message(13, b"") * 10_000_000), id="places of weights"),
        pytest.param(message(1, message(5, b"") * 10_000_000), id="attributes"),
    ],
)
def test_a_file_of_empty_pieces_is_refused_before_it_is_read_into_objects(extra):
    assert "beside its weights" in refusal(with_graph(extra))


# ------------------------------------------------------------------- not for this task


def output(*shape, name="logits", kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def eleven_classes() -> onnx.ModelProto:
    weights = [
        tensor("head.weight", np.zeros((11, 3, 1, 1), np.float32)),
        tensor("head.bias", np.zeros(11, np.float32)),
    ]
    return small_model(TASK, weights=weights, outputs=output("batch", 11, HEIGHT, WIDTH))


def eleven_classes_that_claims_ten() -> onnx.ModelProto:
    model = eleven_classes()
    model.graph.output[0].CopyFrom(output("batch", COUNT, HEIGHT, WIDTH))
    return model


def half_size() -> onnx.ModelProto:
    model = then(
        TASK,
        helper.make_node("MaxPool", ["x"], ["logits"], kernel_shape=[2, 2], strides=[2, 2]),
    )
    model.graph.output[0].CopyFrom(output("batch", COUNT, HEIGHT // 2, WIDTH // 2))
    return model


def channels_last() -> onnx.ModelProto:
    model = then(TASK, helper.make_node("Transpose", ["x"], ["logits"], perm=[0, 2, 3, 1]))
    model.graph.output[0].CopyFrom(output("batch", HEIGHT, WIDTH, COUNT))
    return model


def other_input_size() -> onnx.ModelProto:
    model = small_model(TASK)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[2].dim_value = 64
    return model


def fixed_batch() -> onnx.ModelProto:
    model = small_model(TASK)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return model


def two_inputs() -> onnx.ModelProto:
    model = small_model(TASK)
    model.graph.input.append(helper.make_tensor_value_info("labels", TensorProto.FLOAT, [1]))
    return model


def other_names() -> onnx.ModelProto:
    content = small_model(TASK).SerializeToString()
    return onnx.ModelProto.FromString(content.replace(b"logits", b"output"))


def half_logits() -> onnx.ModelProto:
    model = then(TASK, helper.make_node("Cast", ["x"], ["logits"], to=TensorProto.FLOAT16))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


def half_images() -> onnx.ModelProto:
    model = small_model(TASK)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


def many_axes() -> onnx.ModelProto:
    model = small_model(TASK)
    model.graph.output[0].CopyFrom(output("batch", COUNT, *[1 << 62] * 400))
    return model


def many_axes_of_images() -> onnx.ModelProto:
    model = small_model(TASK)
    shape = ["batch", 3, *[1 << 62] * 400]
    value = helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)
    model.graph.input[0].CopyFrom(value)
    return model


def too_many_parameters() -> onnx.ModelProto:
    model = small_model(TASK)
    model.graph.initializer.append(tensor("unused", np.zeros(5_000_000, np.float16)))
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (eleven_classes, r"has 11 outputs, the task 'unet' has 10 classes"),
        (eleven_classes_that_claims_ten, r"11 outputs|do not fit"),
        (half_size, r"gives \(batch, 10, 48, 64\).*as they went in, 96 x 128"),
        (channels_last, r"gives \(batch, 96, 128, 10\).*classes must be axis 1"),
        (other_input_size, r"takes input of shape \(batch, 3, 64, 128\), .*\(batch, 3, 96, 128\)"),
        (fixed_batch, r"\(1, 3, 96, 128\).*with a free batch"),
        (two_inputs, "one input 'images' and one output 'logits', found 'images', 'labels'"),
        (other_names, "must give 'logits', not 'output'"),
        (half_logits, r"gives logits of type float16; they must be float32: end .*\.float\(\)"),
        (
            half_images,
            r"takes input of shape \(batch, 3, 96, 128\), float16; .* free batch, float32",
        ),
        (many_axes, r"gives \(batch, 10, 4611686018427387904, .*\.\.\.\); wanted"),
        (many_axes_of_images, r"takes input of shape \(batch, 3, 4611686018427387904, .*\.\.\.\)"),
        (too_many_parameters, r"has 5,000,040 parameters, allowed are 4,000,000"),
        (lambda: small_model(TASK, task="pets"), "is a model of task 'pets', not of 'unet'"),
        (lambda: small_model(TASK, task=None), "does not say for which task it is"),
        (
            lambda: small_model(TASK, profile="full"),
            "trained under profile 'full', not 'quick'. Set COURSE_PROFILE=full",
        ),
    ],
)
def test_a_model_that_does_not_fit_its_task_is_told_why(make, message):
    assert re.search(message, refusal(make()))


def test_messages_quote_no_more_than_a_line_of_what_the_file_says():
    message = refusal(small_model(TASK, task="x" * 10_000 + "\n\x1b[2J"))
    assert len(message) < 300
    assert "\x1b" not in message


def test_a_refusal_is_an_error_for_people():
    assert issubclass(Refused, CourseError)
