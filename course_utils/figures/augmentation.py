"""Figures of lesson 08: where to cut, what averages do, lost classes, twins in a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from course_utils.data.segmentation_set import VOID
from course_utils.display import (
    AMBER,
    BLUE,
    LINES,
    SKY,
    VERMILION,
    add_legend,
    colours,
    new_figure,
    show,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def show_averaged(whole: float, averaged: Mapping[int, float]) -> None:
    """Show Dice over the data set beside the mean of the batches' Dice, by the size of a batch."""
    figure, ((axes,),) = new_figure(6.4, 2.8)
    places = range(len(averaged))
    axes.plot(places, list(averaged.values()), "o", color=BLUE, ms=9)
    for place, value in zip(places, averaged.values(), strict=True):
        axes.text(place, value - 0.005, f"{value:.3f}", ha="center", va="top")
    axes.axhline(whole, color=VERMILION, linestyle="--", label=f"over the data set: {whole:.3f}")
    low = min(*averaged.values(), whole)
    axes.set(
        xlabel="pictures in a batch",
        ylabel="Dice",
        xlim=(-0.5, len(averaged) - 0.5),
        ylim=(max(0.0, low - 0.03), max(*averaged.values(), whole) + 0.01),
        title="One answer, five means of its batches' Dice",
    )
    axes.set_xticks(places, map(str, averaged))
    axes.legend(loc="lower right", framealpha=1)
    text = "; ".join(f"batches of {size}: {value:.3f}" for size, value in averaged.items())
    show(figure, f"Dice over the data set is {whole:.3f}; the mean over {text}.")


def cut_figure(
    image: np.ndarray,
    truth: np.ndarray,
    probability: np.ndarray,
    curve: Mapping[float, float],
    cut: float,
) -> Figure:
    """Return a figure of what is found at a cut of the probability, and of Dice over the cut.

    Parameters
    ----------
    image, truth, probability
        ``(H, W, 3)`` uint8; ``(H, W)`` of 0 and 1; ``(H, W)`` in 0 to 1.
    curve
        From a cut to Dice over all pictures.
    """
    figure, ((left, middle, right),) = new_figure(
        10.4, 3.4, 1, 3, gridspec_kw={"width_ratios": [1, 1, 1.8]}
    )
    left.imshow(image)
    for mask, colour, style in ((truth, AMBER, "-"), (probability > cut, BLUE, "--")):
        if mask.any() and not mask.all():
            left.contour(mask, [0.5], colors=[colour], linestyles=style, linewidths=2)
    found = probability > cut
    left.set_title("amber: truth, blue: found")
    drawn = middle.imshow(probability, cmap="cividis", vmin=0, vmax=1)
    middle.set_title("probability of person")
    figure.colorbar(drawn, ax=middle, shrink=0.8)
    for axes in (left, middle):
        axes.set_axis_off()
    right.plot(list(curve), list(curve.values()), color=BLUE)
    nearest = min(curve, key=lambda at: abs(at - cut))
    right.plot([nearest], [curve[nearest]], "o", color=VERMILION, ms=9)
    both = (found & (truth == 1)).sum()
    here = 2 * both / max(found.sum() + (truth == 1).sum(), 1)
    right.set(xlabel="cut", ylabel="Dice, all pictures", xlim=(0, 1), ylim=(0, 1))
    right.set_title(f"cut {cut:.2f}: Dice {curve[nearest]:.3f}, of this picture {here:.2f}")
    return figure


def show_scores(
    series: Mapping[str, Sequence[float]], ylabel: str, title: str, *, first: int = 1
) -> None:
    """Show a score by epoch for several trainings, a line and a marker each."""
    figure, ((axes,),) = new_figure(6.8, 3.2)
    for k, (name, values) in enumerate(series.items()):
        epochs = range(first, first + len(values))
        axes.plot(epochs, values, color=LINES[k], marker="os^D"[k % 4], label=name)
    axes.set_xticks(range(first, first + max(map(len, series.values()))))
    axes.set(xlabel="epoch", ylabel=ylabel, title=title)
    axes.legend(framealpha=1)
    text = "; ".join(f"{n}: " + ", ".join(f"{v:.3f}" for v in vs) for n, vs in series.items())
    show(figure, f"{title}. {ylabel} by epoch. {text}.")


def crop_figure(
    image: np.ndarray, mask: np.ndarray, losing: Mapping[float, float], crop: float
) -> Figure:
    """Return a figure of where a crop may begin without losing its class, and of how many do.

    Parameters
    ----------
    image, mask
        ``(H, W, 3)`` uint8 and ``(H, W)`` of 0 and 1.
    losing
        From a crop's share of the sides to the share of all crops that hold nothing of the class.
    crop
        One of these shares.
    """
    from matplotlib.patches import Rectangle

    height, width = (max(1, int(crop * side)) for side in mask.shape)
    windows = np.lib.stride_tricks.sliding_window_view(mask > 0, (height, width))
    held = windows.any(axis=(-1, -2))
    shade = np.full(mask.shape, 0.35)
    shade[: held.shape[0], : held.shape[1]] = np.where(held, 1.0, 0.35)
    figure, ((left, right),) = new_figure(9.0, 3.6, 1, 2, gridspec_kw={"width_ratios": [1, 1.9]})
    left.imshow((image * shade[..., None]).astype(np.uint8))
    if mask.any():
        left.contour(mask, [0.5], colors=[AMBER], linewidths=2)
    y, x = (side // 2 for side in held.shape)
    held_here = held[y, x]
    left.add_patch(_frame(x, y, width, height, BLUE if held_here else VERMILION))
    for x, y, wide, high in (  # where a crop would reach over the edge
        (held.shape[1], 0, mask.shape[1] - held.shape[1], mask.shape[0]),
        (0, held.shape[0], held.shape[1], mask.shape[0] - held.shape[0]),
    ):
        area = {"fill": False, "hatch": "///", "edgecolor": "#bbbbbb", "linewidth": 0}
        left.add_patch(Rectangle((x - 0.5, y - 0.5), wide, high, **area))
    one = "does" if held_here else "does not"
    left.set_title(
        f"bright: a crop begun here\nholds somebody (framed: one that {one})", fontsize=9
    )
    left.set_axis_off()
    right.plot(list(losing), list(losing.values()), color=BLUE, marker="o")
    nearest = min(losing, key=lambda at: abs(at - crop))
    right.plot([nearest], [losing[nearest]], "o", color=VERMILION, ms=9)
    right.set(xlabel="side of the crop / side of the picture", ylabel="crops with nobody")
    right.set(xlim=(0, 1), ylim=(0, 1))
    right.set_title(f"crops of {height}x{width}: {losing[nearest]:.0%} of all hold nobody")
    return figure


def _frame(x: int, y: int, width: int, height: int, colour: str):
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), width - 1, height - 1, fill=False, edgecolor=colour, linewidth=2)


def show_resized(
    image: np.ndarray, right: np.ndarray, wrong: np.ndarray, classes: Sequence[str]
) -> None:
    """Show a mask of the nearest pixels, one that was resized smoothly, and where they part."""
    known = wrong < len(classes)
    figure, axes = new_figure(10.4, 2.8, 1, 3)
    painted = colours(256)[np.where(known, wrong, 0)]
    painted[~known & (wrong < VOID)] = (255, 0, 255)  # no class of the set
    painted[wrong == VOID] = 128
    parted = np.where((right != wrong)[..., None], (213, 60, 0), (image * 0.4 + 140).astype(int))
    nearest = colours(256)[np.where(right == VOID, 0, right)]
    nearest[right == VOID] = 128
    share = (right != wrong).mean()
    strange = (~known & (wrong < VOID)).mean()
    for axis, picture, title in zip(
        axes[0],
        (nearest, painted, parted),
        ("nearest pixel", "smoothly; pink: no class", f"others: {share:.1%} of the labels"),
        strict=True,
    ):
        axis.imshow(picture.astype(np.uint8), interpolation="nearest")
        axis.set_title(title)
        axis.set_axis_off()
    add_legend(figure, classes, [right])
    show(
        figure,
        f"A mask halved to the nearest pixel; halved smoothly, {strange:.1%} of it no class; and "
        f"where the two differ, at {share:.1%} of the labels, along edges.",
    )


def show_audit(
    audited: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray, float]],
) -> None:
    """Show for each split a validation image, its nearest training image, and all distances.

    Parameters
    ----------
    audited
        From a split's name to an image, its nearest, the distance of each validation image to its
        nearest in grey values, and the mean IoU of the nearest's masks.
    """
    rows = len(audited)
    figure, axes = new_figure(10.4, 2.5 * rows, rows, 3, gridspec_kw={"width_ratios": [1, 1, 1.3]})
    last = max(away.max() for *_, away, _ in audited.values())
    texts = []
    for row, (name, (image, twin, away, score)) in zip(axes, audited.items(), strict=True):
        for axis, picture, title in (
            (row[0], image, f"split {name}: to measure on"),
            (row[1], twin, "nearest to train on"),
        ):
            axis.imshow(picture)
            axis.set_title(title)
            axis.set_axis_off()
        row[2].hist(away, bins=np.linspace(0, last, 25), color=SKY, edgecolor="black")
        row[2].set(xlabel="grey values to the nearest", ylabel="images")
        row[2].set_title(f"masks of the nearest: mean IoU {score:.2f}")
        texts.append(
            f"split {name}: the nearest is {np.median(away):.0f} grey values away, its masks have "
            f"a mean IoU of {score:.2f}"
        )
    show(figure, f"An image, its nearest, and all distances. {'; '.join(texts)}.")
