"""Models beside each other: what they do on the same images, and what they cost."""

import numpy as np
import pytest

from course_utils.checks import CheckFailed
from course_utils.comparison import Compared, compare, comparison_table
from course_utils.data import load
from course_utils.hand_in.tasks import get_task
from tests.model_files import small_model

CLASSES = ("road", "tree", "pole")


def model(scores=(0.9, 0.8, 0.3), multiplications=100, count=1):
    """Return a model with the given IoU of each class: of 1000 pixels, those are right."""
    right = np.diag([round(1000 * score) for score in scores])
    wrong = np.diag([1000 - round(1000 * score) for score in scores])
    matrix = np.zeros((4, 4), np.int64)
    matrix[:3, :3], matrix[:3, 3] = right, wrong.sum(1)  # taken for a class that is not there
    return Compared(
        np.stack([matrix] * count), (*CLASSES, "car"), 10, multiplications, 50, seconds=0.01
    )


def test_files_are_run_on_the_same_images_and_what_is_missing_is_told(tmp_path, capsys):
    task, data = get_task("unet"), load("scenes", "valid", count=3)
    path = tmp_path / "unet.onnx"
    path.write_bytes(small_model(task).SerializeToString())
    models = {"a 1x1 convolution": ("unet", path), "later": ("fcn", tmp_path / "fcn.onnx")}
    (one,) = compare(models, data).values()
    pixels = data.masks[0].size
    assert one.multiplications == pixels * 3 * len(task.classes)
    assert one.activations == pixels * len(task.classes)
    assert one.parameters == 4 * len(task.classes)
    assert one.matrices.shape == (3, 10, 10)
    assert one.matrices.sum() == (data.masks != 255).sum()
    assert one.seconds > 0
    assert "later: " in capsys.readouterr().out
    assert compare({"later": models["later"]}, data) == {}


def test_a_window_costs_what_all_its_places_cost(tmp_path):
    """Counted of one patch, a sliding window would look like the cheapest of all."""
    from onnx import helper

    task, data = get_task("sliding_window"), load("scenes", "valid", count=1)
    nodes = [
        helper.make_node("Conv", ["images", "head.weight", "head.bias"], ["x"]),
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
    ]
    logits = helper.make_tensor_value_info("logits", 1, ["batch", len(task.classes)])
    made = small_model(task, nodes=nodes, outputs=logits)
    for side in made.graph.input[0].type.tensor_type.shape.dim[2:]:
        side.dim_value = task.window
    path = tmp_path / "sliding_window.onnx"
    path.write_bytes(made.SerializeToString())
    (one,) = compare({"window": ("sliding_window", path)}, data).values()
    height, width = data.size
    places = (height // task.stride) * (width // task.stride)
    assert one.multiplications == places * task.window**2 * 3 * len(task.classes)


def test_the_table_has_scores_intervals_and_costs():
    table = comparison_table({"net": model(multiplications=12_000_000, count=4)})
    assert "0.500  0.500 to 0.500" in table  # of four classes, one is never right
    assert "0.30" in table
    assert " 12 " in table


SURE = {"dearest is best": False, "thin ones differ more": True, "a window costs tenfold": True}


def sentences(mine, **models):
    from course_utils.checks.lesson_05 import three_sentences

    compared = {
        "sliding window": model((0.9, 0.8, 0.3), 1000),
        "strided, enlarged": model((0.9, 0.8, 0.5), 100),
    }
    three_sentences(mine, compared | models)


def test_three_sentences_are_judged_by_the_students_own_models(capsys):
    sentences(SURE)
    assert "dearest is the sliding window, best the strided, enlarged" in capsys.readouterr().out
    sentences(SURE | {"dearest is best": True}, better=model((1, 1, 1), 5000))
    for sentence, value in SURE.items():
        with pytest.raises(CheckFailed, match=f"{sentence}.*you wrote {not value}"):
            sentences(SURE | {sentence: not value})
        with pytest.raises(CheckFailed, match="write True or False"):
            sentences(SURE | {sentence: None})


def test_sentences_wait_for_the_models_that_they_speak_of_and_for_an_answer(capsys):
    from course_utils.checks.lesson_05 import three_sentences

    three_sentences(SURE, {"encoder-decoder": model()})
    assert "lessons 03 and 04" in capsys.readouterr().out
    sentences(dict.fromkeys(SURE))
    assert "Write True or False" in capsys.readouterr().out
