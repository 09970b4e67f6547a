"""Figures of lesson 02: scores as bars and curves, confusion matrices, outlines of masks.

A ``show_...`` function displays a figure with a text that stands for it; a ``..._figure`` function
returns it, for :func:`course_utils.widgets.play`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from course_utils.display import (
    AMBER,
    BLUE,
    GREEN,
    SILVER,
    SKY,
    VERMILION,
    add_legend,
    enlarge,
    new_figure,
    overlay,
    show,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FILLS = ((SKY, ""), (AMBER, "////"), (GREEN, "...."), (SILVER, "xxxx"))
_LINES = (("black", "o-"), (BLUE, "s--"), (VERMILION, "^:"), (GREEN, "d-."))
_LIGHT = (120, 200, 255)


def _grouped_bars(axes: Axes, labels: Sequence[str], series: Mapping[str, Sequence[float]]) -> None:
    width = 0.8 / len(series)
    for k, ((name, values), (fill, hatch)) in enumerate(zip(series.items(), _FILLS, strict=False)):
        places = np.arange(len(labels)) + width * (k - (len(series) - 1) / 2)
        bars = axes.bar(
            places, values, 0.94 * width, color=fill, hatch=hatch, edgecolor="black", label=name
        )
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
    axes.set_xticks(range(len(labels)), labels, fontsize=9)
    axes.set_ylim(0, 1.18)
    axes.set_yticks(np.arange(0, 1.1, 0.2))
    axes.grid(axis="x", visible=False)
    axes.legend(loc="upper center", ncols=len(series), fontsize=9)


def show_masks_of(
    image: np.ndarray, masks: Mapping[str, np.ndarray], classes: Sequence[str]
) -> None:
    """Show an image (H, W, 3), and named masks (H, W) laid over it, three in a row."""
    rows = (len(masks) + 3) // 3
    figure, axes = new_figure(10.5, 2.6 * rows + 0.5, rows, 3)
    factor = max(1, round(480 / image.shape[1]))
    picture = enlarge(image, factor)
    panels = [picture] + [overlay(picture, enlarge(m, factor), 1.0) for m in masks.values()]
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, panel, title in zip(axes.flat, panels, ["the image", *masks], strict=False):
        axis.imshow(panel)
        axis.set_title(title)
    add_legend(figure, classes, list(masks.values()))
    show(figure, f"A street scene, and over it these masks: {', '.join(masks)}.")


def show_confusions(confusions: Mapping[str, np.ndarray], classes: Sequence[str]) -> None:
    """Show confusion matrices (C, C) side by side, each row divided by its sum."""
    figure, axes = new_figure(5.5 * len(confusions), 5.2, 1, len(confusions), sharey=True)
    said = []
    for axis, (name, matrix) in zip(axes.flat, confusions.items(), strict=True):
        part = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axis.imshow(part, cmap="Blues", vmin=0, vmax=1)
        axis.grid(False)
        for row, column in np.argwhere(part >= 0.03):
            value = part[row, column]
            axis.text(
                column,
                row,
                f"{value:.2f}".lstrip("0"),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if value > 0.5 else "black",
            )
        axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
        axis.set_yticks(range(len(classes)), classes)
        axis.set(title=f"{name}: where do a class's pixels go?", xlabel="predicted")
        found = zip(classes, part.diagonal(), strict=True)
        said.append(f"{name} finds " + ", ".join(f"{c} {value:.2f}" for c, value in found))
    axes[0, 0].set_ylabel("true")
    show(figure, "Confusion matrices, each row divided by its sum. " + "; ".join(said) + ".")


def show_bars(
    labels: Sequence[str], series: Mapping[str, Sequence[float]], title: str, measure: str
) -> None:
    """Show one group of bars a label, one bar a series; values in 0..1."""
    figure, ((axes,),) = new_figure(9.5, 3.8)
    _grouped_bars(axes, labels, series)
    axes.set(title=title, ylabel=measure)
    plain = [label.split("\n")[0] for label in labels]
    said = (
        f"{name}: " + ", ".join(f"{p} {v:.2f}" for p, v in zip(plain, values, strict=True))
        for name, values in series.items()
    )
    show(figure, f"{title}. Bars of {measure}. " + "; ".join(said) + ".")


def show_ranking(values: Mapping[str, float], reference: str, title: str) -> None:
    """Show named scores as bars from high to low, with a line at the one named ``reference``."""
    ordered = sorted(values.items(), key=lambda item: item[1])
    names, numbers = zip(*ordered, strict=True)
    figure, ((axes,),) = new_figure(8, 3.4)
    fills = [AMBER if name == reference else SKY for name in names]
    bars = axes.barh(names, numbers, color=fills, edgecolor="black")
    axes.axvline(values[reference], color="0.2", linestyle="--", zorder=0)
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axes.bar_label(bars, fmt="%.3f", padding=4, bbox=ground)
    axes.set(xlim=(0, 1), xlabel=f"score (dashed: {reference})", title=title)
    axes.grid(axis="y", visible=False)
    said = ", ".join(f"{name} {value:.3f}" for name, value in reversed(ordered))
    show(figure, f"{title}. From high to low: {said}.")


def _lines(axes: Axes, x: np.ndarray, series: Mapping[str, np.ndarray]) -> None:
    for (name, values), (colour, style) in zip(series.items(), _LINES, strict=False):
        axes.plot(x, values, style, color=colour, label=name)
    axes.legend(fontsize=9)


def show_shifts(series: Mapping[str, np.ndarray]) -> None:
    """Show IoUs over the shift of the truth by 0, 1, 2, ... pixels."""
    steps = np.arange(len(next(iter(series.values()))))
    figure, ((axes,),) = new_figure(7.5, 4)
    _lines(axes, steps, series)
    axes.set(xlabel="shift of the truth (pixels)", ylabel="IoU", ylim=(0, 1.03), xticks=steps)
    axes.set_title("The truth against itself, shifted")
    said = "; ".join(
        f"{n} " + ", ".join(f"{v:.2f}" for v in values) for n, values in series.items()
    )
    show(figure, f"IoU of the truth against itself, shifted by 0, 1, 2, ... pixels: {said}.")


def show_dice_over_iou(iou: np.ndarray, dice: np.ndarray, label: str) -> None:
    """Show measured pairs of IoU and Dice (C,) on the curve 2J / (1 + J)."""
    x = np.linspace(0, 1, 101)
    figure, ((axes,),) = new_figure(5.2, 4)
    axes.plot(x, 2 * x / (1 + x), color=BLUE, label="2J / (1 + J)")
    axes.plot(x, x, "k:", label="equal")
    axes.plot(iou, dice, "o", color=VERMILION, label=label)
    axes.set(xlabel="IoU  J", ylabel="Dice  D", title="Dice is never below IoU")
    axes.legend()
    show(figure, f"Dice over IoU: a curve above the diagonal that meets it at 0 and 1; {label}.")


def swap_figure(a: Sequence[float], b: Sequence[float]) -> Figure:
    """Return bars of the IoU and of the Dice of two models on the same images, and both means."""
    figure, axes = new_figure(9.5, 3.3, 1, 2, sharey=True)
    labels = [f"image {k + 1}" for k in range(len(a))] + ["mean"]
    iou = {"A": np.array(a), "B": np.array(b)}
    for axis, measure in zip(axes.flat, ("IoU", "Dice"), strict=True):
        scores = iou if measure == "IoU" else {n: 2 * v / (1 + v) for n, v in iou.items()}
        means = {name: values.mean() for name, values in scores.items()}
        _grouped_bars(axis, labels, {n: [*v, means[n]] for n, v in scores.items()})
        lead = means["A"] - means["B"]
        leader = "nobody leads" if abs(lead) < 5e-4 else f"{'A' if lead > 0 else 'B'} leads"
        axis.set_title(f"mean {measure}: {leader} by {abs(lead):.3f}")
    return figure


def show_outlines(
    truth: np.ndarray,
    masks: Mapping[str, np.ndarray],
    strips: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Show masks (H, W) by title, with the outline of the truth; their strips, if any, darker."""
    rows, columns = np.nonzero(np.any([truth, *masks.values()], axis=0))
    height, width = np.ptp(rows) + 9, np.ptp(columns) + 9
    lines = max(title.count("\n") + 1 for title in masks)
    tall = 11.5 / len(masks) * height / width + 0.24 * lines + 0.1
    figure, axes = new_figure(11.5, tall, 1, len(masks))
    for axis, (title, mask) in zip(axes.flat, masks.items(), strict=True):
        dark = 0 if strips is None else strips[title]
        axis.imshow(mask.astype(int) + dark, cmap="Greys", vmin=0, vmax=3)
        axis.contour(truth, [0.5], colors=VERMILION, linewidths=1.5)
        for row, column in _lone_pixels(mask):  # too small to be seen without a ring
            axis.plot(column, row, "s", color="black", markersize=3)
            axis.plot(column, row, "o", color=BLUE, fillstyle="none", markersize=10)
        axis.set_title(title, fontsize=11)
        axis.set_xlim(columns.min() - 4.5, columns.max() + 4.5)
        axis.set_ylim(rows.max() + 4.5, rows.min() - 4.5)
        axis.set_axis_off()
    said = "; ".join(title.replace("\n", ", ") for title in masks)
    show(figure, f"Masks with the outline of the truth. {said}.")


def _lone_pixels(mask: np.ndarray) -> np.ndarray:
    """Return (row, column) of the pixels of a mask (H, W) that none of their 8 neighbours joins."""
    neighbours = ndimage.convolve(mask.astype(int), np.ones((3, 3), int), mode="constant")
    return np.argwhere(mask & (neighbours == 1))


def damage_figure(
    image: np.ndarray,
    truth: np.ndarray,
    mask: np.ndarray,
    scores: Mapping[str, float],
    distance: float,
) -> Figure:
    """Return a mask (H, W) over its image with the outline of the truth, and its scores."""
    figure, ((left, right),) = new_figure(9.5, 3.3, 1, 2, width_ratios=(1.3, 1))
    # one light blue for every class: the palette's car is as dark as many a car
    light = np.round(0.3 * image + 0.7 * np.array(_LIGHT)).astype(np.uint8)
    left.imshow(enlarge(np.where(mask[..., None], light, image), 4))
    left.contour(enlarge(truth, 4), [0.5], colors=VERMILION, linewidths=1.5)
    left.set_title("the damaged mask (line: truth)")
    left.set_axis_off()
    numbers = np.nan_to_num(list(scores.values()))
    bars = right.barh(list(scores), numbers, color=SKY, edgecolor="black")
    right.bar_label(bars, fmt="%.2f", padding=3)
    right.set(xlim=(0, 1.15), title=f"Hausdorff distance {distance:.1f} px")
    right.grid(axis="y", visible=False)
    right.invert_yaxis()
    return figure


def show_differences(differences: Mapping[str, np.ndarray]) -> None:
    """Show histograms of bootstrap differences by title, two in a row, with 95 % intervals."""
    rows = len(differences) // 2
    figure, axes = new_figure(10, 2.4 * rows + 0.4, rows, 2, sharex=True)
    said = []
    for axis, (title, values) in zip(axes.flat, differences.items(), strict=True):
        low, high = np.percentile(values, [2.5, 97.5])
        axis.axvspan(low, high, color=AMBER, alpha=0.3, label="95 % interval")
        axis.hist(values, 30, color=BLUE, edgecolor="white")
        axis.axvline(0, color="black", linestyle="--", label="no difference")
        text = f"{title}: {low:+.3f} to {high:+.3f}"
        axis.set_title(text)
        axis.set_yticks([])
        said.append(text)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9)
    for axis in axes[:, 0]:
        axis.set_ylabel("draws")
    for axis in axes[-1]:
        axis.set_xlabel("difference in mean IoU")
    show(figure, f"Histograms of differences with 95 % intervals. {'; '.join(said)}.")


def show_pull(
    surety: np.ndarray, pull: Mapping[str, np.ndarray], part: Mapping[str, np.ndarray], share: float
) -> None:
    """Show what losses pull at, over the probability p that is predicted for a missed object.

    Parameters
    ----------
    surety
        (N,) probabilities p(object), falling.
    pull, part
        For each loss (N,): the gradient at one of the object's pixels, and the object's part
        of all gradient.
    share
        The object's part of the pixels.
    """
    figure, ((left, right),) = new_figure(10, 3.8, 1, 2)
    _lines(left, surety, pull)
    _lines(right, surety, part)
    right.get_legend().remove()
    right.axhline(share, color="0.4", linewidth=1)
    note = f"the object's part of the pixels: {share:.1%}"
    right.text(surety[-1], share + 0.015, note, ha="right", fontsize=9)
    left.set(yscale="log", title="Pull at a pixel of the object", ylabel="|gradient|")
    right.set(title="The object's part of all pull", ylim=(0, 1.05))
    for axis in (left, right):
        axis.set(xscale="log", xlabel="p(object), predicted everywhere; surely missed on the right")
        axis.invert_xaxis()
    said = "; ".join(
        f"{name}: pull from {values[0]:.1e} to {values[-1]:.1e}, "
        f"part from {part[name][0]:.2f} to {part[name][-1]:.2f}"
        for name, values in pull.items()
    )
    show(figure, f"Gradient of each loss as the network gets surer of its mistake. {said}.")


def focal_figure(gamma: float, p: float) -> Figure:
    """Return the focal loss and its gradient over the probability of the right class."""
    x = np.linspace(0.005, 0.995, 199)
    curves = {
        "loss of a pixel": (lambda q, g: -((1 - q) ** g) * np.log(q), 3.0),
        # minus the derivative by the logit of the right class, of two
        "pull at its logit": (lambda q, g: (1 - q) ** g * (1 - q - g * q * np.log(q)), 1.4),
    }
    figure, axes = new_figure(9.5, 3.2, 1, 2)
    for axis, (title, (curve, top)) in zip(axes.flat, curves.items(), strict=True):
        axis.plot(x, curve(x, gamma), color=BLUE, label=f"focal, gamma {gamma:.1f}")
        axis.plot(x, curve(x, 0), "k:", label="cross-entropy")
        axis.plot(p, curve(p, gamma), "o", color=VERMILION, label=f"p = {p:.2f}")
        axis.set(title=title, xlabel="probability p of the right class", ylim=(-0.03 * top, top))
        axis.legend(fontsize=9)
    return figure
