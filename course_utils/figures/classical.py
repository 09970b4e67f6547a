"""Figures of lesson 01: pictures with regions painted over, histograms with thresholds, a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from course_utils import display, table
from course_utils.display import LINES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TINT = np.array((255, 150, 0))
LABELS = np.array(  # bright, since pictures are dark; neighbours in number differ most
    [(230, 159, 0), (86, 180, 233), (240, 228, 66), (0, 158, 115), (213, 94, 0), (204, 121, 167)]
)


def painted(picture: np.ndarray, region: np.ndarray | None = None) -> np.ndarray:
    """Return a picture with a region painted over it, enlarged so that lines are thin.

    Parameters
    ----------
    picture
        (H, W) or (H, W, 3); bool, uint8, or float (stretched from its least to its greatest value).
    region
        (H, W) bool: tinted orange and outlined; or integers: one colour a label, 0 left alone.

    Returns
    -------
    numpy.ndarray
        uint8, (factor * H, factor * W, 3).
    """
    picture = np.asarray(picture)
    if picture.dtype == bool:
        picture = picture * np.uint8(255)
    elif picture.dtype != np.uint8:
        picture = picture.astype(float)
        span = np.ptp(picture) or 1.0
        picture = np.uint8(255 * (picture - picture.min()) / span)
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    factor = max(1, round(720 / picture.shape[1]))
    picture = display.enlarge(picture, factor)
    if region is None:
        return picture
    region = display.enlarge(np.asarray(region), factor)
    if region.dtype == bool:
        paint, opacity = np.broadcast_to(TINT, picture.shape), 0.35
    else:
        paint, opacity = LABELS[(region.astype(np.int64) - 1) % len(LABELS)], 0.55
    inside = (region > 0)[..., None]
    result = np.where(inside, picture * (1 - opacity) + paint * opacity, picture)
    edge = np.zeros(region.shape, bool)
    across, down = region[:, 1:] != region[:, :-1], region[1:] != region[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    result[edge] = (0, 0, 0) if region.dtype != bool else (255, 90, 0)
    return np.uint8(result)


def panels(*items: tuple, columns: int = 4, title: str = "") -> Figure:
    """Return a figure of pictures side by side.

    Parameters
    ----------
    items
        (title, picture) or (title, picture, region), as :func:`painted` takes them.
    columns
        Most pictures in a row.
    """
    columns = min(columns, len(items))
    rows = -(-len(items) // columns)
    width = 10.4 / max(columns, 2)
    height = max(item[1].shape[0] / item[1].shape[1] for item in items) * width
    figure, axes = display.new_figure(
        width * columns, rows * (height + 0.35) + (0.35 if title else 0), rows, columns
    )
    for axis in axes.flat[len(items) :]:
        axis.set_axis_off()
    for axis, item in zip(axes.flat, items, strict=False):
        axis.imshow(painted(*item[1:]), interpolation="nearest")
        axis.set_title(item[0])
        axis.set_axis_off()
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def show_panels(*items: tuple, alt: str, columns: int = 4, title: str = "") -> None:
    """Show :func:`panels`, with a text for who cannot see them."""
    display.show(panels(*items, columns=columns, title=title), alt)


def threshold_figure(
    image: np.ndarray, thresholds: Sequence[int], mask: np.ndarray, title: str
) -> Figure:
    """Return the histogram with its thresholds beside the picture with its mask."""
    figure, ((left, right),) = display.new_figure(10.4, 3.9, 1, 2)
    left.fill_between(
        range(256), np.bincount(image.ravel(), minlength=256), step="mid", color="0.6"
    )
    for number, threshold in enumerate(thresholds):
        left.axvline(threshold + 0.5, color=LINES[1], label=None if number else "threshold")
    left.set(xlabel="grey value", ylabel="pixels", xlim=(0, 255), title="Histogram")
    left.set_ylim(bottom=0)
    left.legend(frameon=False)
    right.imshow(painted(image, mask), interpolation="nearest")
    right.set_title(title)
    right.set_axis_off()
    return figure


def show_curves(
    curves: Mapping[str, tuple[Sequence, Sequence]], *, alt: str, title: str, **labels
) -> None:
    """Show lines by name, each of (x, y); ``labels`` as ``Axes.set`` takes them."""
    figure, ((axes,),) = display.new_figure(7, 3.2)
    styles = ("-", "--", ":", "-.")
    for number, (name, (x, y)) in enumerate(curves.items()):
        axes.plot(x, y, styles[number % 4], color=LINES[number % len(LINES)], label=name, lw=2)
    axes.set(title=title, **labels)
    if len(curves) > 1:
        axes.legend(frameon=False)
    display.show(figure, alt)


def text_table(scores: Mapping[str, Mapping[str, float]], corner: str = "") -> str:
    """Return a text table: a line a row name, a column a column name, the best of each starred.

    >>> print(text_table({"a": {"x": 0.5, "y": 1.0}, "b": {"x": 0.75, "y": 0.0}}, "IoU"))
    IoU       x       y
    ---  ------  ------
    a    0.500   1.000*
    b    0.750*  0.000
    """
    columns = list(next(iter(scores.values())))
    best = {column: max(row[column] for row in scores.values()) for column in columns}
    rows = [
        [name, *(f"{row[c]:.3f}{'*' if row[c] == best[c] else ' '}" for c in columns)]
        for name, row in scores.items()
    ]
    return table.text_table([corner, *columns], rows)
