"""The figure of a training that runs: curves, one prediction, the time left, in one output."""

from __future__ import annotations

import html
import io
import time
import uuid

import numpy as np
from PIL import Image

from course_utils.data.segmentation_set import VOID
from course_utils.display import (
    RESOLUTION,
    STYLE,
    add_legend,
    draw_curves,
    enlarge,
    mimebundle,
    overlay,
    to_png,
)
from course_utils.execution import is_static
from course_utils.training.watching import Lines, Progress

PAUSE = 25
"""Between two drawings, at least, in times of what one took: no more than 4 % of a training."""
TITLES = ("image", "truth", "prediction")


class LiveFigure:
    """Shows a training in one output of a notebook, which changes while it runs.

    It gets a new picture after each epoch, and the line above it a new text in between. What
    stays in the notebook is a still picture. With ``COURSE_STATIC=1`` there are a few lines of text
    and that picture.

    ``fit`` makes one by itself in a notebook.
    """

    def __init__(self):
        self._name = None  # of the output
        self._picture = ""
        self._ground = None  # what does not change, and its layout
        self._drawn, self._took = -np.inf, 0.0
        self._lines = Lines()

    def __call__(self, progress: Progress) -> None:
        """Show where a training stands."""
        from IPython.display import display, update_display

        if progress.moment == "end":
            data, metadata = mimebundle(to_png(draw(progress)), describe(progress))
            if self._name is None:
                display(data, metadata=metadata, raw=True)
            else:
                update_display(data, metadata=metadata, raw=True, display_id=self._name)
            self._name = None
            return
        if is_static():
            self._lines(progress)
            return
        show = update_display
        if progress.moment == "start":
            self._name, self._drawn, show = uuid.uuid4().hex, -np.inf, display
            self._ground = None
        now = time.perf_counter()
        if progress.moment != "step" and now - self._drawn > PAUSE * self._took:
            self._picture = _steady(self._png(progress), describe(progress))
            self._drawn = time.perf_counter()
            # the first one takes longer, and says nothing of the next
            self._took = 0.0 if progress.moment == "start" else self._drawn - now
        text = str(progress)
        frame = {"text/html": _bar(progress, text) + self._picture, "text/plain": text}
        show(frame, raw=True, display_id=self._name)

    def _png(self, progress: Progress) -> bytes:
        """Return a PNG, in half the time that savefig takes: laid out once, packed loosely."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        if self._ground is None:
            self._ground = _ground(progress)
            _fill(self._ground[1], progress)
            FigureCanvasAgg(self._ground[0]).draw()
            self._ground[0].set_layout_engine("none")
        figure, axes = self._ground
        _fill(axes, progress)
        figure.canvas.draw()
        buffer = io.BytesIO()
        picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
        picture.save(buffer, format="png", compress_level=1)
        return buffer.getvalue()


def _steady(png: bytes, alt: str) -> str:
    """Return a picture as HTML that keeps its place: when it is renewed, nothing may jump."""
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))  # its header
    data, _ = mimebundle(png, alt)
    image = data["text/html"].replace("<img ", '<img decoding="sync" ', 1)
    style = f"max-width: {width * 100 // RESOLUTION}px; aspect-ratio: {width} / {height}"
    return f'<div style="{style}">{image}</div>'


def _bar(progress: Progress, text: str) -> str:
    """Return the line above the picture, and a bar."""
    share = progress.done / (progress.epochs * progress.steps)
    return (
        f'<div>{html.escape(text)}<br><progress aria-label="training" max="1" value="{share:.4f}" '
        'style="width: min(900px, 100%)"></progress></div>'
    )


def draw(progress: Progress):
    """Return a figure: the curves so far, below them a validation picture, truth, prediction."""
    figure, axes = _ground(progress)
    _fill(axes, progress)
    return figure


def _ground(progress: Progress):
    """Return a figure with what does not change in a training, and its axes by name."""
    import matplotlib
    from matplotlib.figure import Figure

    height, width = progress.truth.shape
    shown = [label for label in np.unique(progress.truth) if label != VOID]
    if len(progress.classes) <= 14:  # the prediction may bring any of them
        shown = list(range(len(progress.classes)))
    rows = (len(shown) - 1) // 7 + 1
    tall = 3 * height / width + 0.3
    with matplotlib.rc_context(STYLE):
        figure = Figure((9, 2.0 + tall + 0.28 * rows + 0.1), dpi=RESOLUTION, layout="constrained")
        axes = figure.subplot_mosaic(
            [["loss"] * 3 + ["score"] * 3, [name for name in TITLES for _ in range(2)]],
            height_ratios=[2.0, tall],
        )
    for name, picture in zip(TITLES, _pictures(progress), strict=True):
        axes[name].imshow(picture, interpolation="nearest")
        axes[name].set_axis_off()
        axes[name].set_title(name, fontsize=10)
    void = [VOID] if (progress.truth == VOID).any() else []
    add_legend(figure, progress.classes, [np.array([*shown, *void])])
    return figure, axes


def _fill(axes, progress: Progress) -> None:
    """Draw what changes from epoch to epoch: the curves, and the prediction."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        for name in ("loss", "score"):
            axes[name].clear()
        draw_curves(axes["loss"], axes["score"], {"": progress.history})
    last = len(progress.history) if progress.moment == "end" else progress.epochs
    for name in ("loss", "score"):
        axes[name].grid(True, alpha=STYLE["grid.alpha"])
        axes[name].set_xlim(1 if last > 1 else 0.5, max(last, 1.5))
    axes["prediction"].images[0].set_data(_pictures(progress)[2])
    epochs = len(progress.history)
    after = f"prediction after epoch {epochs}" if epochs else "prediction: after epoch 1"
    axes["prediction"].set_title(after, fontsize=10)


def _pictures(progress: Progress) -> list[np.ndarray]:
    """Return the image, and the image under its truth and under its prediction, enlarged alike."""
    factor = max(1, round(480 / progress.image.shape[1]))
    image, truth = enlarge(progress.image, factor), enlarge(progress.truth, factor)
    if progress.prediction is None:
        return [image, overlay(image, truth, 0.7), np.full_like(image, 235)]
    prediction = enlarge(progress.prediction, factor)
    return [image, overlay(image, truth, 0.7), overlay(image, prediction, 0.7)]


def describe(progress: Progress) -> str:
    """Return what the figure shows, for who cannot see it."""
    text = f"Curves of loss and scores by epoch: {progress}."
    if progress.prediction is None:
        return f"{text} Below, a validation picture and its truth; there is no prediction yet."
    labelled = progress.truth != VOID
    right = (progress.prediction == progress.truth)[labelled].mean()
    names = (c for k, c in enumerate(progress.classes) if k in progress.prediction)
    return (
        f"{text} Below, a validation picture, its truth, and the prediction, which is right on "
        f"{right:.0%} of the pixels and shows {', '.join(names)}."
    )
