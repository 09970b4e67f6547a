"""Figures of lesson 03: patches, the windows they are cut by, and what a net says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from course_utils.display import (
    AMBER,
    LINES,
    SILVER,
    add_legend,
    colours,
    enlarge,
    new_figure,
    overlay,
    show,
)
from course_utils.hand_in.sliding import patches as cut_patches

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def show_patches(
    patches: Sequence[np.ndarray],
    titles: Sequence[str],
    *,
    alt: str,
    columns: int = 8,
    title: str = "",
) -> None:
    """Show patches ``(w, w, 3)`` of any size, each with a frame around its centre pixel."""
    rows = -(-len(patches) // columns)
    figure, axes = new_figure(1.3 * columns, 1.6 * rows + (0.35 if title else 0), rows, columns)
    figure.suptitle(title, fontsize=12)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, patch, name in zip(axes.flat, patches, titles, strict=False):
        _patch(axis, patch, name)
    show(figure, alt)


def _patch(axes: Axes, patch: np.ndarray, title: str) -> None:
    from matplotlib.patches import Rectangle

    axes.imshow(patch, interpolation="nearest")
    half = len(patch) // 2
    axes.add_patch(Rectangle((half - 0.5, half - 0.5), 1, 1, fill=False, color=AMBER, lw=1.5))
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def show_windows(
    image: np.ndarray, centre: tuple[int, int], windows: Sequence[int], *, alt: str
) -> None:
    """Show a picture with squares around one pixel, and the patch that each of them cuts out.

    Parameters
    ----------
    image
        ``(H, W, 3)`` uint8.
    centre
        Row and column of the pixel.
    windows
        Sides of the patches around it.
    """
    ratios = {"width_ratios": [2.2, *[1] * len(windows)]}
    figure, (axes,) = new_figure(10.4, 2.4, 1, 1 + len(windows), gridspec_kw=ratios)
    axes[0].imshow(image, interpolation="nearest")
    axes[0].set_axis_off()
    for number, (window, axis) in enumerate(zip(windows, axes[1:], strict=True)):
        _frame(axes[0], centre, window, LINES[number % len(LINES)])
        patch = cut_patches(image, window)[centre].transpose(1, 2, 0)
        _patch(axis, patch, f"window {window}")
    axes[0].set_title("the same pixel, and windows around it", fontsize=10)
    show(figure, alt)


def _frame(axes: Axes, centre: tuple[int, int], window: int, colour: str) -> None:
    from matplotlib.patches import Rectangle

    row, column = centre
    corner = (column - window / 2, row - window / 2)
    axes.add_patch(Rectangle(corner, window, window, fill=False, color="white", lw=3))
    axes.add_patch(Rectangle(corner, window, window, fill=False, color=colour, lw=1.6))


def window_figure(
    image: np.ndarray,
    centre: tuple[int, int],
    patch: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    truth: str,
) -> Figure:
    """Return a picture with its window, the patch in it, and the probability of each class."""
    ratios = {"width_ratios": [2.0, 1.3, 1.5]}
    figure, ((left, middle, right),) = new_figure(10.4, 3.0, 1, 3, gridspec_kw=ratios)
    left.imshow(image, interpolation="nearest")
    left.set(title="the window", xticks=[], yticks=[])
    left.grid(False)
    _frame(left, centre, len(patch), AMBER)
    left.set_xlim(-0.5, image.shape[1] - 0.5)
    left.set_ylim(image.shape[0] - 0.5, -0.5)
    _patch(middle, patch, "what the classifier sees")
    table = colours(len(classes)) / 255
    right.barh(range(len(classes)), probabilities, color=table, edgecolor="black", lw=0.6)
    right.set_yticks(range(len(classes)), classes)
    right.invert_yaxis()
    right.set(xlim=(0, 1), xlabel="probability")
    best = int(np.argmax(probabilities))
    right.set_title(f"it says {classes[best]} ({probabilities[best]:.2f}); truth: {truth}")
    return figure


def show_shares(
    shares: Mapping[str, np.ndarray], classes: Sequence[str], *, title: str, alt: str
) -> None:
    """Show what share of something each class has, one bar for each name."""
    figure, ((axes,),) = new_figure(7.5, 1.3 + len(classes) * (0.12 + 0.16 * len(shares)))
    height = 0.8 / len(shares)
    looks = zip((SILVER, *LINES), ("", "////", "....", "xxxx"), strict=False)
    for k, ((name, values), (colour, hatch)) in enumerate(zip(shares.items(), looks, strict=False)):
        y = np.arange(len(classes)) - 0.4 + height * (k + 0.5)
        look = {"color": colour, "hatch": hatch, "edgecolor": "black", "linewidth": 0.6}
        axes.barh(y, values, height * 0.92, label=name, **look)
        for position, value in zip(y, values, strict=True):
            axes.text(value + 0.003, position, f"{value:.1%}", va="center", fontsize=8)
    axes.set_yticks(range(len(classes)), classes)
    axes.invert_yaxis()
    axes.set(title=title, xlabel="share")
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set_xlim(right=1.15 * max(max(values) for values in shares.values()))
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=len(shares), frameon=False)
    numbers = "; ".join(
        f"{name}: " + ", ".join(f"{c} {v:.1%}" for c, v in zip(classes, values, strict=True))
        for name, values in shares.items()
    )
    show(figure, f"{alt} {numbers}.")


def masks_figure(
    image: np.ndarray, masks: Mapping[str, np.ndarray], classes: Sequence[str]
) -> Figure:
    """Return a picture beside masks of it by name, as a figure to play with."""
    figure, axes = new_figure(10.4, 3.4, 1, 1 + len(masks))
    big = enlarge(image, 4)
    shown = {"image": big} | {n: overlay(big, enlarge(m, 4)) for n, m in masks.items()}
    for axis, (name, picture) in zip(axes[0], shown.items(), strict=True):
        axis.imshow(picture)
        axis.set_title(name)
        axis.set_axis_off()
    add_legend(figure, classes, list(masks.values()))
    return figure
