"""Figures to play with: they follow their controls, and are plain pictures where they must be."""

import base64
import os
import re
import subprocess
import sys
import time

import IPython.display
import numpy as np
import pytest

from course_utils import widgets
from course_utils.data import VOID
from course_utils.display import new_figure
from course_utils.errors import CourseError

CLASSES = ("ground", "box", "bar")


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    monkeypatch.delenv("COURSE_STATIC", raising=False)
    outputs = []
    monkeypatch.setattr(
        IPython.display, "display", lambda data, metadata, raw: outputs.append((data, metadata))
    )
    return outputs


def scene():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 12, 16, 3)).astype(np.uint8)
    truths = np.zeros((3, 12, 16), np.uint8)
    truths[:, 4:8, 4:8] = 1
    truths[:, 0] = VOID
    predictions = truths.copy()
    predictions[:, 0] = 1
    predictions[:, 4:8, 4:6] = 0
    return images, truths, predictions


def box_of(data):
    from ipywidgets.widgets.widget import _instances  # what a front end's model_id stands for

    return _instances[data["application/vnd.jupyter.widget-view+json"]["model_id"]]


def controls_of(box):
    bars, picture, *below = box.children
    controls = [control for bar in bars.children for control in bar.children]
    return {control.description: control for control in controls}, picture, below


def png_in(text):
    """Return the PNG of an <img> that holds its picture itself."""
    return base64.b64decode(re.search(r'src="data:image/png;base64,([^"]+)"', text)[1])


def test_the_explorer_follows_every_control(shown):
    widgets.overlay_explorer(*scene(), CLASSES)
    ((data, _),) = shown
    controls, picture, below = controls_of(box_of(data))
    assert set(controls) == {"image", "class", "opacity"}
    assert controls["image"].max == 2
    assert controls["class"].options == ("all classes", *CLASSES)
    numbers = below[-1]
    for name, value in (("opacity", 0.1), ("class", "box"), ("image", 2)):
        before = picture.value
        controls[name].value = value
        assert picture.value != before, name
    assert "16 pixels true, 8 predicted, 8 both; IoU 8 / 16 = 0.500" in numbers.value


def test_the_picture_beside_the_widget_is_its_first_state(shown):
    widgets.overlay_explorer(*scene(), CLASSES)
    ((data, metadata),) = shown
    _, picture, _ = controls_of(box_of(data))
    assert base64.b64decode(data["image/png"]) == png_in(picture.value)
    assert "mean IoU" in metadata["image/png"]["alt"]
    assert "prediction" in metadata["image/png"]["alt"]


def test_the_text_of_a_picture_follows_its_numbers(shown):
    widgets.overlay_explorer(*scene(), CLASSES)
    controls, picture, below = controls_of(box_of(shown[0][0]))
    assert "All classes: mean IoU" in picture.value
    controls["class"].value = "box"
    text = re.search(r'alt="([^"]*)"', picture.value)[1]
    assert text.startswith("From left to right: image, truth, prediction, errors.")
    assert text.endswith(below[-1].value)


def test_controls_stand_in_rows_of_the_wanted_length(shown):
    def draw(**values):
        return new_figure(1, 1)[0]

    six = {name: (0.0, 1.0, 0.1, 0.5) for name in ("a1", "a2", "a3", "b1", "b2", "b3")}
    widgets.play(draw, alt="two models", per_row=3, **six)
    widgets.play(draw, alt="two models", **six)
    rows = [
        [[control.description for control in bar.children] for bar in box.children[0].children]
        for box in (box_of(data) for data, _ in shown)
    ]
    assert rows == [[["a1", "a2", "a3"], ["b1", "b2", "b3"]], [list(six)]]


def test_a_class_that_is_nowhere_is_said_to_be_absent(shown):
    widgets.overlay_explorer(*scene(), CLASSES)
    controls, _, below = controls_of(box_of(shown[0][0]))
    controls["class"].value = "bar"
    assert "absent from both" in below[-1].value


def test_without_predictions_it_shows_the_truth(shown):
    images, truths, _ = scene()
    widgets.overlay_explorer(images, truths, None, CLASSES)
    controls, _, below = controls_of(box_of(shown[0][0]))
    assert "Classes here: ground, box" in below[-1].value
    controls["class"].value = "box"
    assert "16 pixels" in below[-1].value


@pytest.mark.parametrize(
    ("variable", "value"), [("NBGRADER_EXECUTION", "autograde"), ("COURSE_STATIC", "1")]
)
def test_static_means_no_widget_at_all(shown, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    widgets.overlay_explorer(*scene(), CLASSES)
    widgets.play(lambda x: new_figure(3, 2)[0], alt="a figure", x=(0, 5, 1, 2))
    for data, metadata in shown:
        assert set(data) == {"text/html", "text/plain", "image/png"}
        assert metadata["image/png"]["alt"]


@pytest.mark.process
def test_static_does_not_even_import_ipywidgets():
    code = (
        "import sys, numpy as np\n"
        "from course_utils.widgets import overlay_explorer\n"
        "z = np.zeros((1, 4, 4), np.uint8)\n"
        "overlay_explorer(np.zeros((1, 4, 4, 3), np.uint8), z, z, ['a', 'b'])\n"
        "assert 'ipywidgets' not in sys.modules and 'torch' not in sys.modules"
    )
    environment = os.environ | {"COURSE_STATIC": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True)


def test_masks_of_another_size_are_refused(shown):
    images, truths, predictions = scene()
    with pytest.raises(CourseError, match=r"predictions must be .*\(3, 12, 16\).*\(3, 11, 16\)"):
        widgets.overlay_explorer(images, truths, predictions[:, 1:], CLASSES)


@pytest.mark.parametrize(
    ("images", "found"),
    [(np.zeros((1, 4, 4, 3)), "float64"), (np.zeros((0, 4, 4, 3), np.uint8), "0, 4")],
)
def test_what_is_no_picture_is_refused(shown, images, found):
    with pytest.raises(CourseError, match=f"uint8 pictures .*found .*{found}"):
        widgets.overlay_explorer(images, images[..., 0], None, CLASSES)


def test_redrawing_is_fast_enough_to_drag(shown):
    """At the size of the lesson's scenes, well under a tenth of a second."""
    images = np.zeros((2, 96, 128, 3), np.uint8)
    masks = np.random.default_rng(0).integers(0, 10, (2, 96, 128)).astype(np.uint8)
    widgets.overlay_explorer(images, masks, masks[::-1], [str(k) for k in range(10)])
    controls, _, _ = controls_of(box_of(shown[0][0]))
    started = time.process_time()
    for opacity in np.linspace(0.1, 0.9, 9):
        controls["opacity"].value = float(opacity)
    assert (time.process_time() - started) / 9 < 0.25


def test_play_draws_with_the_start_values_and_follows(shown):
    seen = []

    def draw(threshold, smoothing, mode):
        seen.append((threshold, smoothing, mode))
        figure, ((axes,),) = new_figure(3, 2)
        axes.set_title(f"{threshold} {smoothing} {mode}")
        return figure

    widgets.play(
        draw,
        alt="a title that tells the values",
        threshold=(0, 255, 1, 128),
        smoothing=(0.0, 4.0, 0.5, 1.0),
        mode=["otsu", "local"],
    )
    assert seen == [(128, 1.0, "otsu")]
    ((data, metadata),) = shown
    assert metadata["image/png"]["alt"] == "a title that tells the values"
    controls, picture, _ = controls_of(box_of(data))
    before = picture.value
    controls["threshold"].value = 7
    controls["mode"].value = "local"
    assert seen[1:] == [(7, 1.0, "otsu"), (7, 1.0, "local")]
    assert picture.value != before
    assert type(seen[1][0]) is int


@pytest.mark.process
def test_a_notebook_without_a_front_end_runs_through_and_keeps_a_picture(monkeypatch):
    for name in ("NBGRADER_EXECUTION", "COURSE_STATIC"):
        monkeypatch.delenv(name, raising=False)
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    cell = nbformat.v4.new_code_cell(
        "import numpy as np\n"
        "from course_utils.widgets import overlay_explorer\n"
        "z = np.zeros((2, 4, 4), np.uint8)\n"
        "overlay_explorer(np.zeros((2, 4, 4, 3), np.uint8), z, z, ['a', 'b'])"
    )
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    (output,) = cell.outputs
    assert output.output_type == "display_data"
    assert {"application/vnd.jupyter.widget-view+json", "image/png"} <= set(output.data)
    assert output.metadata["image/png"]["alt"]


def test_a_figure_that_cannot_be_drawn_any_more_says_so(shown):
    data = [1.0, 2.0]

    def draw(k):
        figure, ((axes,),) = new_figure(1, 1)
        axes.plot(data[k:])
        return figure

    widgets.play(draw, alt="a line", k=(0, 1, 1, 0))
    ((output, _),) = shown
    controls, picture, (words,) = controls_of(box_of(output))
    before, data = picture.value, None
    controls["k"].value = 1
    assert picture.value == before
    assert "TypeError" in words.value
    data = [3.0, 4.0]
    controls["k"].value = 0
    assert words.value == ""
