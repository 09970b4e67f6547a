"""Figures to play with, each with a static form for graders, printed pages and screen readers.

Under nbgrader and with ``COURSE_STATIC=1`` no widget is made at all, so
that nothing can wait for a front end. Elsewhere the output holds the widget and a picture of its
first state; a reader without widgets shows the picture.
"""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from course_utils.data.segmentation_set import VOID
from course_utils.display import (
    colours,
    enlarge,
    error_map,
    mimebundle,
    overlay,
    picture_html,
    to_png,
)
from course_utils.errors import CourseError
from course_utils.execution import is_static
from course_utils.metrics import ConfusionMatrix

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# ipywidgets gives the handle of a slider no name that a screen reader could say, so the picture
# beside it does, each time that it is loaded: the text of the slider's label.
_NAME_SLIDERS = """
const name = () => document.querySelectorAll('.course-play .widget-slider').forEach(slider =>
    slider.querySelector('[role=slider]')?.setAttribute('aria-label',
        slider.querySelector('label').textContent));
name(); setTimeout(name, 300);
"""


def play(
    draw: Callable[..., Figure], *, alt: str, per_row: int | None = None, **controls: Sequence
) -> None:
    """Show a figure with a control for each argument of the function that draws it.

    Parameters
    ----------
    draw
        Called with one value a control; returns a matplotlib figure.
    alt
        What the figure shows, for who cannot see it.
    per_row
        So many controls stand in a row; default: as many as fit.
    controls
        ``name=(low, high, step, start)`` makes a slider, of integers if all four are;
        ``name=["a", "b"]`` a choice that starts with its first.

    Examples
    --------
    ::

        play(draw_threshold, alt="Histogram and mask", threshold=(0, 255, 1, 128))
    """
    width = f"min(300px, {96 // (per_row or 1)}%)"
    widgets = {name: _control(name, choice, width) for name, choice in controls.items()}
    start = {
        name: choice[0] if isinstance(choice[0], str) else choice[3]
        for name, choice in controls.items()
    }
    _show(lambda **values: to_png(draw(**values)), start, widgets, alt, per_row=per_row)


def overlay_explorer(
    images: np.ndarray,
    truths: np.ndarray,
    predictions: np.ndarray | None,
    classes: Sequence[str],
) -> None:
    """Show image, truth, prediction and errors, with controls for image, class and opacity.

    Parameters
    ----------
    images
        ``(N, H, W, 3)`` uint8.
    truths, predictions
        ``(N, H, W)`` uint8; ``predictions`` may be ``None``.
    classes
        The C class names.
    """
    images, truths = np.asarray(images), np.asarray(truths)
    predictions = None if predictions is None else np.asarray(predictions)
    for name, masks in (("truths", truths), ("predictions", predictions)):
        if masks is not None and masks.shape != images.shape[:3]:
            raise CourseError(
                f"{name} must be (N, H, W) = {images.shape[:3]} like the images, "
                f"found {masks.shape}."
            )
    if images.dtype != np.uint8 or not images.size:
        raise CourseError(
            f"images must be one or more uint8 pictures (N, H, W, 3), found {images.dtype} "
            f"{images.shape}."
        )
    everything = "all classes"
    factor = max(1, round(384 / images.shape[2]))

    def draw(image: int, class_: str, opacity: float) -> bytes:
        only = None if class_ == everything else list(classes).index(class_)
        masks = [truths[image]] + ([] if predictions is None else [predictions[image]])
        picture = enlarge(images[image], factor)
        panels = [picture]
        panels += [overlay(picture, enlarge(mask, factor), opacity, only=only) for mask in masks]
        if predictions is not None:
            truth, prediction = (enlarge(mask, factor) for mask in masks)
            if only is not None:
                truth = np.where(truth == VOID, VOID, truth == only)
                prediction = prediction == only
            panels.append(error_map(picture, prediction, truth))
        gap = np.full((len(picture), 6, 3), 255, np.uint8)
        row = [part for panel in panels for part in (panel, gap)][:-1]
        return _png(np.concatenate(row, axis=1))

    def describe(image: int, class_: str, opacity: float) -> str:
        prediction = None if predictions is None else predictions[image]
        return _numbers(truths[image], prediction, classes, class_, everything)

    titles = ["image", "truth"] + ([] if predictions is None else ["prediction", "errors"])
    controls = {
        "image": (0, len(images) - 1, 1, 0),
        "class_": [everything, *classes],
        "opacity": (0.0, 1.0, 0.05, 0.6),
    }
    _show(
        draw,
        {"image": 0, "class_": everything, "opacity": 0.6},
        {name: _control(name, choice) for name, choice in controls.items()},
        f"From left to right: {', '.join(titles)}.",
        describe,
        _legend(classes, titles),
    )


def _show(
    draw: Callable[..., bytes],
    start: dict,
    make: dict[str, Callable],
    alt: str,
    describe: Callable[..., str] | None = None,
    legend: str = "",
    per_row: int | None = None,
) -> None:
    """Display a picture that follows its controls; the picture alone where it must be static."""
    from IPython.display import display

    first = draw(**start)
    text = describe(**start) if describe else ""
    data, metadata = mimebundle(first, f"{alt} {text}".strip())
    if legend or text:
        data["text/html"] = f"{data['text/html']}{legend}<p>{html.escape(text)}</p>"
    if is_static():
        display(data, metadata=metadata, raw=True)
        return
    import ipywidgets

    controls = {name: widget() for name, widget in make.items()}
    picture = ipywidgets.HTML(_live_picture(first, f"{alt} {text}".strip()))
    numbers = ipywidgets.HTML(html.escape(text))

    def redraw(_change) -> None:
        values = {name: control.value for name, control in controls.items()}
        try:
            png = draw(**values)
            said = describe(**values) if describe else ""
            picture.value = _live_picture(png, f"{alt} {said}".strip())
        except Exception as error:  # JupyterLab would show nothing at all
            said = f"Not drawn, {type(error).__name__}: {error}. Run the cells up to here again."
        numbers.value = html.escape(said)

    for control in controls.values():
        control.observe(redraw, "value")
    every, count = list(controls.values()), per_row or len(controls)
    bars = [
        ipywidgets.HBox(every[first : first + count], layout={"flex_flow": "row wrap"})
        for first in range(0, len(every), count)
    ]
    below = [ipywidgets.HTML(legend)] if legend else []
    box = ipywidgets.VBox([ipywidgets.VBox(bars), picture, *below, numbers])
    box.add_class("course-play")
    # The widget comes first in a front end that can show it; the picture is for the others.
    data["application/vnd.jupyter.widget-view+json"] = {
        "version_major": 2,
        "version_minor": 0,
        "model_id": box.model_id,
    }
    display(data, metadata=metadata, raw=True)


def _live_picture(png: bytes, alt: str) -> str:
    """Return a picture for a widget; it is decoded at once, so that dragging does not flicker."""
    return picture_html(png, alt, f'decoding="sync" onload="{html.escape(_NAME_SLIDERS)}" ')


def _control(name: str, choice: Sequence, width: str = "300px") -> Callable:
    """Return what makes the widget of a control, when it is known that one is wanted."""
    label = name.strip("_").replace("_", " ")

    def make():
        import ipywidgets

        look = {"description": label, "style": {"description_width": "initial"}}
        look["layout"] = {"width": width}
        if isinstance(choice[0], str):
            return ipywidgets.Dropdown(options=list(choice), **look)
        whole = all(isinstance(number, int) for number in choice)
        slider = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
        low, high, step, value = choice
        return slider(value=value, min=low, max=high, step=step, **look)

    return make


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


def _numbers(
    truth: np.ndarray,
    prediction: np.ndarray | None,
    classes: Sequence[str],
    class_: str,
    everything: str,
) -> str:
    """Return one line of numbers about an image, or about one class in it."""
    if class_ == everything:
        if prediction is None:
            present = [name for label, name in enumerate(classes) if (truth == label).any()]
            return f"Classes here: {', '.join(present)}. Void: {(truth == VOID).mean():.1%}."
        confusion = ConfusionMatrix(len(classes)).update(prediction, truth)
        return (
            f"All classes: mean IoU {confusion.mean_iou():.3f}, "
            f"pixel accuracy {confusion.pixel_accuracy():.3f}."
        )
    label = list(classes).index(class_)
    true = int((truth == label).sum())
    if prediction is None:
        return f"{class_} (class {label}): {true} pixels, {true / truth.size:.1%} of the image."
    counted = truth != VOID
    predicted = int(((prediction == label) & counted).sum())
    both = int(((prediction == label) & (truth == label)).sum())
    union = true + predicted - both
    score = f"IoU {both} / {union} = {both / union:.3f}" if union else "absent from both"
    return (
        f"{class_} (class {label}): {true} pixels true, {predicted} predicted, "
        f"{both} both; {score}."
    )


def _legend(classes: Sequence[str], titles: Sequence[str]) -> str:
    """Return the legend as HTML: a chip of colour and its name for every class."""
    chips = "".join(
        f'<span style="margin-right: 1em; white-space: nowrap"><span style="display: inline-block; '
        f"width: 1em; height: 1em; vertical-align: -0.15em; border: 1px solid; "
        f'background: rgb({red}, {green}, {blue})"></span> {html.escape(name)}</span>'
        for name, (red, green, blue) in zip(classes, colours(len(classes)), strict=True)
    )
    return f"<div>From left to right: {', '.join(titles)}.</div><div>{chips}</div>"
