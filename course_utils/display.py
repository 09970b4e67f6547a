"""Figures in one style: masks over images, predictions beside the truth, scores, learning curves.

Every figure has a white ground (legible in JupyterLab's dark theme too), a legend by class name,
and a text that stands for it where it cannot be seen. Classes are told apart by colours chosen for
colour-blind readers and by contours; void is hatched.
"""

from __future__ import annotations

import base64
import colorsys
import html
import io
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from course_utils.data.segmentation_set import VOID
from course_utils.errors import CourseError
from course_utils.metrics import ConfusionMatrix
from course_utils.table import text_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from course_utils.training import History

# In the order of CamVid's 11 classes. Found by a search that keeps all pairs, and most of all
# classes that touch in street scenes, apart for normal, protan, deutan and tritan sight
# (tests/test_display.py measures it); roughly the things' own colours.
PALETTE = np.array(
    [
        (78, 118, 254),
        (130, 24, 8),
        (166, 169, 158),
        (147, 129, 157),
        (209, 245, 189),
        (5, 102, 98),
        (239, 223, 8),
        (17, 6, 18),
        (60, 20, 101),
        (249, 89, 47),
        (96, 255, 253),
    ],
    dtype=np.uint8,
)
# Okabe and Ito's colours for lines and bars; markers, dashes and hatches say the same again.
# https://jfly.uni-koeln.de/color/ (tests/test_display.py measures these, too)
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
PINK, SKY, AMBER, SILVER = "#CC79A7", "#56B4E9", "#E69F00", "#BBBBBB"
LINES = (BLUE, VERMILION, GREEN, PINK, SKY)
VOID_GREY = 128
WRONG = np.array((213, 60, 0), dtype=np.uint8)
CONTOUR = np.array((20, 20, 20), dtype=np.uint8)
STYLE = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.axisbelow": True,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
}
RESOLUTION = 150  # dots per inch, shown at 100: sharp on dense screens
MAT = 8  # pixels of white around a figure: on a dark page no line ends at its very edge
MAT_STYLE = (
    f"background: white; padding: {MAT}px; border-radius: 6px; box-sizing: border-box; "
    "max-width: 100%"
)


def colours(num_classes: int) -> np.ndarray:
    """Return one colour a class, ``(C, 3)`` uint8: the palette, and beyond it made-up ones."""
    more = [
        np.round(255 * np.array(colorsys.hsv_to_rgb(0.618 * k % 1, 0.6, 0.55 + 0.4 * (k % 2))))
        for k in range(num_classes - len(PALETTE))
    ]
    return np.array([*PALETTE, *more], dtype=np.uint8)[:num_classes]


def enlarge(array: np.ndarray, factor: int) -> np.ndarray:
    """Repeat every pixel of ``(H, W, ...)`` ``factor`` times each way: no new value appears."""
    return array.repeat(factor, axis=0).repeat(factor, axis=1)


def overlay(
    image: np.ndarray,
    mask: np.ndarray,
    alpha: float = 0.6,
    *,
    only: int | None = None,
    contours: bool = True,
) -> np.ndarray:
    """Lay the colours of a mask over its image.

    Parameters
    ----------
    image
        ``(H, W, 3)`` uint8.
    mask
        ``(H, W)``, classes and :data:`course_utils.data.VOID`; void is hatched.
    alpha
        Opacity of the colours: 0 shows the image, 1 the mask alone.
    only
        Show this class alone: all else fades to grey, dark around a light colour and pale
        around a dark one.
    contours
        Draw a dark line around every region. For small images :func:`enlarge` both first, so
        that the lines are thin beside the things.

    Returns
    -------
    numpy.ndarray
        ``(H, W, 3)`` uint8.
    """
    image, mask = np.asarray(image), np.asarray(mask)
    if image.shape != (*mask.shape, 3):
        raise CourseError(
            f"image must be (H, W, 3) and mask (H, W), found {image.shape} and {mask.shape}."
        )
    if mask.dtype.kind not in "iu":
        raise CourseError(f"mask must hold class numbers (integers), found {mask.dtype}.")
    lookup = np.full((256, 3), VOID_GREY, dtype=np.uint8)
    lookup[:VOID] = colours(VOID)
    if only is not None:
        return _spotlight(image, mask == only, lookup[only], float(alpha), contours)
    paint = lookup[mask]
    rows, columns = np.indices(mask.shape, sparse=True)
    hatch = (mask == VOID) & ((rows + columns) % 8 < 2)
    paint[hatch] = 255
    result = image * (1 - alpha) + paint * alpha
    if contours and alpha > 0:
        result[_edges(mask.astype(np.int16))] = CONTOUR
    return np.round(result).astype(np.uint8)


def _spotlight(
    image: np.ndarray, shown: np.ndarray, colour: np.ndarray, alpha: float, outline: bool
) -> np.ndarray:
    """Return the image with one region in its colour, outlined, and all else faded to grey."""
    veil = np.sqrt(alpha)  # thicker than the colour: a thing of few pixels must be found at once
    ground = 0 if luminance(colour) > 0.18 else 255  # where white and black contrast alike
    grey = np.repeat(image.mean(-1, keepdims=True), 3, axis=-1)
    faded = image * (1 - veil) + (0.15 * grey + 0.85 * ground) * veil
    painted = image * (1 - alpha) + colour * alpha
    result = np.where(shown[..., None], painted, faded)
    if outline and alpha > 0:
        result[_around(shown)] = 255 - ground
    return np.round(result).astype(np.uint8)


def luminance(colour: np.ndarray) -> np.ndarray:
    """Return the relative luminance of sRGB ``(..., 3)`` uint8, 0 black to 1 white (WCAG 2).

    >>> luminance(np.uint8([255, 255, 255])).round(3)
    np.float64(1.0)
    """
    part = np.asarray(colour) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def _around(region: np.ndarray) -> np.ndarray:
    """Return the pixels outside of a region ``(H, W)`` bool that touch it, corners too."""
    grown = np.pad(region, 1)
    grown = grown[:-2] | grown[1:-1] | grown[2:]
    grown = grown[:, :-2] | grown[:, 1:-1] | grown[:, 2:]
    return grown & ~region


def _edges(labels: np.ndarray) -> np.ndarray:
    """Return where a pixel's right or lower neighbour has another label, ``(H, W)`` bool."""
    edges = np.zeros(labels.shape, bool)
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edges[:-1] |= labels[:-1] != labels[1:]
    return edges


def error_map(image: np.ndarray, prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the image in pale grey with the wrong pixels in red, ``(H, W, 3)`` uint8."""
    grey = 140 + image.mean(-1) * 0.45
    result = np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)
    result[(prediction != truth) & (truth != VOID)] = WRONG
    rows, columns = np.indices(truth.shape, sparse=True)
    result[(truth == VOID) & ((rows + columns) % 8 < 2)] = 255
    return result


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **subplots):
    """Return a figure and its ``(rows, columns)`` axes in the course's style, sizes in inches."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=RESOLUTION, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.05, h_pad=0.06)
        return figure, figure.subplots(rows, columns, squeeze=False, **subplots)


def to_png(figure: Figure) -> bytes:
    """Return a figure as a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=RESOLUTION, facecolor="white")
    return buffer.getvalue()


def show(figure: Figure, alt: str) -> None:
    """Show a figure with a text for who cannot see it, and close it.

    The text stands in the output's metadata, where nbconvert takes it from, and in the HTML form,
    which JupyterLab prefers and whose text screen readers read.
    """
    from IPython.display import display

    data, metadata = mimebundle(to_png(figure), alt)
    display(data, metadata=metadata, raw=True)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close(figure)


def mimebundle(png: bytes, alt: str) -> tuple[dict, dict]:
    """Return data and metadata of an output that holds a picture and the text that stands for it.

    The picture is shown at two thirds of its pixels, so that it is sharp on dense screens.
    """
    data = {
        "text/html": picture_html(png, alt),
        "image/png": base64.b64encode(png).decode(),
        "text/plain": alt,
    }
    return data, {"image/png": {"alt": alt, "width": _shown_width(png)}}


def picture_html(png: bytes, alt: str, more: str = "") -> str:
    """Return a picture as HTML, on a white mat with room around it: a page in a dark theme.

    Parameters
    ----------
    more
        Further attributes of the element.
    """
    code = base64.b64encode(png).decode()
    return (
        f'<img alt="{html.escape(alt)}" width="{_shown_width(png) + 2 * MAT}" {more}'
        f'style="{MAT_STYLE}" src="data:image/png;base64,{code}">'
    )


def _shown_width(png: bytes) -> int:
    return int(int.from_bytes(png[16:20], "big") * 100 / RESOLUTION)  # from the PNG's header


def add_legend(
    figure: Figure, classes: Sequence[str], masks: Sequence[np.ndarray], *, wrong: bool = False
) -> None:
    """Put a legend of the classes that are in ``masks`` under a figure."""
    from matplotlib.patches import Patch

    present = np.unique(np.concatenate([np.unique(mask) for mask in masks]))
    table = colours(len(classes)) / 255
    patches = [
        Patch(facecolor=table[label], edgecolor=CONTOUR / 255, label=classes[label])
        for label in present
        if label < len(classes)
    ]
    if VOID in present:
        patches.append(Patch(facecolor="0.5", edgecolor="white", hatch="////", label="void"))
    if wrong:
        patches.append(Patch(facecolor=WRONG / 255, label="wrong"))
    figure.legend(
        handles=patches,
        loc="outside lower center",
        ncols=min(len(patches), 7),
        handlelength=1.2,
        handleheight=1.2,
        columnspacing=1.4,
        frameon=False,
        fontsize=10,
    )


def _picture(axes: Axes, picture: np.ndarray, title: str = "") -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)


def _enlarged(*arrays: np.ndarray) -> list[np.ndarray]:
    """Enlarge small images and masks alike, so that contours are thin beside poles."""
    factor = max(1, round(480 / arrays[0].shape[1]))
    return [enlarge(np.asarray(array), factor) for array in arrays]


def show_masks(
    images: np.ndarray,
    masks: np.ndarray,
    classes: Sequence[str],
    *,
    alpha: float = 0.6,
    columns: int = 4,
    title: str = "",
) -> None:
    """Show images, each above the same image with its mask laid over it.

    Parameters
    ----------
    images, masks
        ``(N, H, W, 3)`` and ``(N, H, W)`` uint8; the first ``columns`` are shown.
    title
        What there is to see.
    """
    count = min(columns, len(images))
    aspect = images.shape[1] / images.shape[2]
    figure, axes = new_figure(2.6 * count, 5.2 * aspect + 0.8, 2, count)
    figure.suptitle(title, fontsize=12)
    for column in range(count):
        image, mask = _enlarged(images[column], masks[column])
        _picture(axes[0, column], image)
        _picture(axes[1, column], overlay(image, mask, alpha))
    add_legend(figure, classes, masks[:count])
    names = ", ".join(classes[label] for label in np.unique(masks[:count]) if label < len(classes))
    show(figure, f"{title} {count} images, and below each its mask laid over it: {names}.".strip())


def show_prediction(
    image: np.ndarray,
    prediction: np.ndarray,
    truth: np.ndarray,
    classes: Sequence[str],
    *,
    alpha: float = 0.7,
    title: str = "",
    name: str | Sequence[str] = "prediction",
) -> None:
    """Show image, truth, prediction and where they differ, side by side.

    Parameters
    ----------
    image, prediction, truth
        One of each, ``(H, W, 3)``, ``(H, W)``, ``(H, W)`` uint8; or N of each, one row an image.
    title
        What there is to see.
    name
        What the prediction is called; or what that of each row is.
    """
    images, predictions, truths = (
        np.asarray(array)[None] if np.ndim(array) == dimensions else np.asarray(array)
        for array, dimensions in ((image, 3), (prediction, 2), (truth, 2))
    )
    rows, aspect = len(images), images.shape[1] / images.shape[2]
    names = [name] * rows if isinstance(name, str) else name
    figure, axes = new_figure(10.4, rows * (2.6 * aspect + 0.28) + 0.6, rows, 4)
    figure.suptitle(title, fontsize=12)
    texts = []
    for row in range(rows):
        confusion = ConfusionMatrix(len(classes)).update(predictions[row], truths[row])
        score, wrong = confusion.mean_iou(), 1 - confusion.pixel_accuracy()
        picture, predicted, true = _enlarged(images[row], predictions[row], truths[row])
        _picture(axes[row, 0], picture, "image")
        _picture(axes[row, 1], overlay(picture, true, alpha), "truth")
        shown = overlay(picture, predicted, alpha)
        _picture(axes[row, 2], shown, f"{names[row]}: mean IoU {score:.2f}")
        _picture(axes[row, 3], error_map(picture, predicted, true), f"wrong: {wrong:.1%} of pixels")
        texts.append(f"mean IoU {score:.2f}, {wrong:.1%} of the pixels wrong")
    add_legend(figure, classes, [predictions, truths], wrong=True)
    told = ", then ".join(dict.fromkeys(names))
    show(figure, f"{title} Image, truth, {told}, errors: {'; '.join(texts)}.".strip())


def class_table(confusion: ConfusionMatrix, classes: Sequence[str]) -> str:
    """Return a text table of the scores: a line a class, then the means.

    >>> print(class_table(ConfusionMatrix(2).update(np.array([0, 1]), np.array([0, 0])), "ab"))
    class   share    IoU   Dice
    -----  ------  -----  -----
    a      100.0%  0.500  0.667
    b        0.0%  0.000  0.000
    mean           0.250  0.333
    pixel accuracy 0.500
    """
    share = confusion.matrix.sum(1) / max(confusion.matrix.sum(), 1)
    rows = [
        [name, f"{part:.1%}", *("-" if np.isnan(score) else f"{score:.3f}" for score in scores)]
        for name, part, *scores in zip(
            classes, share, confusion.iou(), confusion.dice(), strict=True
        )
    ]
    rows.append(["mean", "", f"{confusion.mean_iou():.3f}", f"{confusion.mean_dice():.3f}"])
    table = text_table(["class", "share", "IoU", "Dice"], rows)
    return f"{table}\npixel accuracy {confusion.pixel_accuracy():.3f}"


def show_class_scores(
    confusions: ConfusionMatrix | Mapping[str, ConfusionMatrix], classes: Sequence[str]
) -> None:
    """Show the IoU of each class as bars, and its share of the pixels.

    Parameters
    ----------
    confusions
        One, or several by name, whose bars then stand below each other to be compared.
    """
    from matplotlib.patches import Patch

    named = confusions if isinstance(confusions, Mapping) else {"": confusions}
    table, count = colours(len(classes)) / 255, len(named)
    share = next(iter(named.values())).matrix.sum(1)
    share = share / max(share.sum(), 1)
    figure, ((axes,),) = new_figure(7.5, 1.2 + len(classes) * (0.12 + 0.2 * count))
    opacities, hatches = (1, 0.55, 0.3, 0.1), ("", "////", "....", "xxxx")
    height, keys = 0.8 / count, []
    for k, (name, confusion) in enumerate(named.items()):
        scores = confusion.iou()
        y = np.arange(len(classes)) - 0.4 + height * (k + 0.5)
        label = f"{name} (mean {confusion.mean_iou():.3f})".strip()
        look = {"linewidth": 0.8, "hatch": hatches[k % 4], "edgecolor": CONTOUR / 255}
        fill = [(*colour, opacities[k % 4]) for colour in table]
        axes.barh(y, np.nan_to_num(scores), height * 0.92, color=fill, **look)
        keys.append(Patch(facecolor=("0.3", opacities[k % 4]), label=label, **look))
        for position, score in zip(y, scores, strict=True):
            text = "absent" if np.isnan(score) else f"{score:.2f}"
            place = (np.nan_to_num(score) + 0.008, position)
            ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
            axes.text(*place, text, va="center", fontsize=9, bbox=ground)
        axes.axvline(
            confusion.mean_iou(), color="0.25", zorder=0.5, linestyle=("--", ":", "-.")[k % 3]
        )
    axes.set_yticks(
        range(len(classes)),
        [f"{name}  {part:.1%}" for name, part in zip(classes, share, strict=True)],
    )
    axes.invert_yaxis()
    axes.set_xlim(0, 1.08)
    axes.set_xlabel("IoU (dashed line: mean)" if count == 1 else "IoU (lines: means)")
    axes.grid(axis="y", visible=False)
    first = next(iter(named.values()))
    axes.set_title(
        f"mean IoU {first.mean_iou():.3f}, pixel accuracy {first.pixel_accuracy():.3f}"
        if count == 1
        else "IoU of each class, and its share of the pixels"
    )
    if count > 1:
        figure.legend(handles=keys, loc="outside lower center", ncols=2, frameon=False)
    show(
        figure,
        "Bars of the IoU of each class. "
        + " ".join(
            f"{name + ': ' if name else ''}"
            + ", ".join(f"{c} {s:.2f}" for c, s in zip(classes, confusion.iou(), strict=True))
            + f", mean {confusion.mean_iou():.3f}."
            for name, confusion in named.items()
        ),
    )


def learning_curves(histories: History | Mapping[str, History]) -> None:
    """Show loss and scores by epoch of one training, or of several by name."""
    named = histories if isinstance(histories, Mapping) else {"": histories}
    figure, ((left, right),) = new_figure(9, 3.4, 1, 2)
    draw_curves(left, right, named)
    show(
        figure,
        "Learning curves. " + " ".join(f"{n + ': ' if n else ''}{h}." for n, h in named.items()),
    )


def draw_curves(left: Axes, right: Axes, histories: Mapping[str, History]) -> None:
    """Draw the losses of trainings by epoch into one pair of axes, their scores into the other."""
    for k, (name, history) in enumerate(histories.items()):
        epochs = np.arange(1, len(history) + 1)
        colour, prefix = LINES[k % len(LINES)], f"{name}, " if name else ""
        other = colour if name else LINES[1]
        left.plot(epochs, history.train_loss, color=colour, ls="--", label=f"{prefix}training")
        left.plot(epochs, history.valid_loss, color=other, label=f"{prefix}validation")
        right.plot(epochs, history.mean_iou, color=other, label=f"{prefix}mean IoU")
        right.plot(epochs, history.pixel_accuracy, color=colour, ls=":", label=f"{prefix}accuracy")
    weighted = any(history.settings.get("class_weights") for history in histories.values())
    loss = "weighted cross-entropy (nats)" if weighted else "cross-entropy (nats)"
    left.set(xlabel="epoch", ylabel=loss, title="Loss")
    right.set(xlabel="epoch", ylabel="score", ylim=(0, 1), title="On the validation set")
    for axes in (left, right):
        for line in axes.lines:
            if len(line.get_xdata()) == 1:  # nobody sees a line of one point
                line.set_marker("o")
        axes.legend(fontsize=9, frameon=False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    left.set_ylim(0, 1.05 * left.get_ylim()[1])  # room above a first point, near all that follow
