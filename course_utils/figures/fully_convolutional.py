"""Figures of lesson 04: windows, what a pixel sees, how that grows, the ceiling of a stride.

A ``show_...`` function displays a figure with a text that stands for it; a ``..._figure`` function
returns it, for :func:`course_utils.widgets.play`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from course_utils.data.segmentation_set import VOID
from course_utils.display import (
    AMBER,
    BLUE,
    GREEN,
    PINK,
    VERMILION,
    add_legend,
    enlarge,
    error_map,
    new_figure,
    overlay,
    show,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LINES = (("black", "o-"), (BLUE, "s--"), (VERMILION, "^:"), (GREEN, "d-."), (PINK, "v-"))


def show_windows(image: np.ndarray, centres: Sequence[tuple[int, int]], size: int) -> None:
    """Show an image (H, W, 3) with square windows around pixels (row, column)."""
    from matplotlib.patches import Rectangle

    figure, ((axes,),) = new_figure(5.4, 4.2)
    axes.imshow(image, interpolation="nearest")
    axes.set_axis_off()
    for (row, column), (colour, style) in zip(
        centres, ((AMBER, "-"), ("white", "--")), strict=False
    ):
        corner = (column - size / 2, row - size / 2)
        axes.add_patch(Rectangle(corner, size, size, fill=False, edgecolor=colour, lw=2, ls=style))
        axes.plot(column, row, "x", color=colour, ms=7, mew=2)
    axes.set_title(f"windows of {size} x {size} around two pixels that are neighbours")
    show(
        figure,
        f"A street scene with two windows of {size} by {size} pixels, one pixel apart: they "
        "overlap nearly all over.",
    )


def show_seen(
    maps: Mapping[str, np.ndarray], fields: Mapping[str, float], centre: tuple[int, int]
) -> None:
    """Show gradient maps (H, W), each on its own scale, with the derived field as a box.

    Parameters
    ----------
    maps
        By name: how much each pixel of the input moves one pixel of the output.
    fields
        By the same names: the side of the receptive field, derived from the layers.
    centre
        Row and column in the input that the output's pixel lies at.
    """
    from matplotlib.patches import Rectangle

    figure, axes = new_figure(4.2 * len(maps), 4, 1, len(maps))
    said = []
    for axis, (name, seen) in zip(axes[0], maps.items(), strict=True):
        side = fields[name]
        axis.imshow(seen / seen.max(), cmap="magma", interpolation="nearest")
        corner = (centre[1] - side / 2, centre[0] - side / 2)
        axis.add_patch(
            Rectangle(corner, side, side, fill=False, edgecolor="white", lw=1.5, ls="--")
        )
        axis.set_title(f"{name}: field {side:g} px (dashed)", fontsize=10)
        axis.grid(False)
        axis.set(xlabel="column (px)", ylabel="row (px)")
        said.append(f"{name}, in a box of {side:g} pixels")
    text = "; ".join(said)
    show(
        figure, f"Where the output of one pixel changes with the input, bright where most: {text}."
    )


def growth_figure(fields: Mapping[str, Sequence[float]], wanted: float) -> Figure:
    """Return a figure of receptive fields by layer, with a line at the one that is wanted."""
    figure, ((axes,),) = new_figure(7, 3.8)
    for (name, field), (colour, style) in zip(fields.items(), _LINES, strict=False):
        axes.plot(range(len(field)), field, style, color=colour, label=name)
    axes.axhline(wanted, color="0.4", lw=1, ls=(0, (1, 1)), label=f"wanted: {wanted:g} px")
    axes.set(xlabel="3x3 convolutions", ylabel="receptive field (px)", ylim=(0, 2 * wanted))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_title("How far a pixel sees")
    axes.legend(fontsize=9)
    return figure


def ceiling_figure(
    image: np.ndarray, coarse: np.ndarray, truth: np.ndarray, classes: Sequence[str], title: str
) -> Figure:
    """Return a figure of the truth, of what is left of it at a stride, and of what is lost."""
    coarse = np.where(truth == VOID, VOID, coarse)  # where nothing is asked, nothing is shown
    figure, axes = new_figure(10.5, 3.3, 1, 3)
    factor = max(1, round(480 / image.shape[1]))
    large, small, true = (enlarge(a, factor) for a in (image, coarse, truth))
    panels = {
        "truth": overlay(large, true, 0.8),
        title: overlay(large, small, 0.8),
        "red: lost": error_map(large, small, true),
    }
    for axis, (name, panel) in zip(axes[0], panels.items(), strict=True):
        axis.imshow(panel, interpolation="nearest")
        axis.set_axis_off()
        axis.set_title(name, fontsize=10)
    add_legend(figure, classes, [truth, coarse])
    return figure


def show_ceilings(strides: Sequence[int], series: Mapping[str, Sequence[float]]) -> None:
    """Show IoUs by output stride, one line a name."""
    figure, ((axes,),) = new_figure(7, 3.8)
    for (name, values), (colour, style) in zip(series.items(), _LINES, strict=False):
        axes.plot(strides, values, style, color=colour, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(strides, [str(stride) for stride in strides])
    axes.set(xlabel="output stride (px)", ylabel="IoU", ylim=(0, 1.03))
    axes.set_title("The best that a net can do that answers at a stride")
    axes.legend(fontsize=9)
    said = "; ".join(
        f"{name} " + ", ".join(f"{value:.3f}" for value in values)
        for name, values in series.items()
    )
    numbers = ", ".join(map(str, strides))
    show(figure, f"IoU of the truth at strides {numbers}, enlarged again: {said}.")
