"""Figures of lesson 00: a mask as it is saved, places in it, shares of classes, masks halved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from course_utils import display


def _show_pictures(titled: dict[str, np.ndarray], alt: str, legend: tuple | None = None) -> None:
    """Show pictures by title side by side; ``legend`` as :func:`display.add_legend` takes it."""
    figure, axes = display.new_figure(10.4, 10.4 / len(titled) * 0.75 + 0.5, 1, len(titled))
    for axis, (title, picture) in zip(axes[0], titled.items(), strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set(title=title, xticks=[], yticks=[])  # with a frame: some are white at their edge
        axis.spines[:].set_visible(True)
    if legend:
        display.add_legend(figure, *legend)
    display.show(figure, alt)


def show_as_saved(image: np.ndarray, mask: np.ndarray, classes: Sequence[str]) -> None:
    """Show an image, its mask ``(H, W)`` as a viewer of pictures does, and the mask in colours."""
    titled = {
        "the image": image,
        "the mask as a viewer shows it": np.stack([mask] * 3, axis=-1),
        "the mask in colours": display.overlay(image, mask, alpha=1),
    }
    alt = "A street scene, its mask as numbers (black, void white), and in colours."
    _show_pictures(titled, alt, (classes, [mask]))


def show_places(image: np.ndarray, places: Sequence[tuple[int, int]], names: Sequence[str]) -> None:
    """Show an image with (row, column) places, each with its name."""
    figure, ((axes,),) = display.new_figure(6.5, 4.9)
    axes.imshow(image, alpha=0.8)
    for (row, column), name in zip(places, names, strict=True):
        axes.plot(column, row, "o", color="white", markeredgecolor="black")
        text = f"mask[{row}, {column}]: {name}"
        axes.text(column, row - 3, text, ha="center", va="bottom", backgroundcolor="white")
    axes.set(xlabel="column", ylabel="row", title="Rows count from the top")
    axes.grid(False)
    display.show(figure, alt=f"A street scene with three places named: {', '.join(names)}.")


def show_shares(share: np.ndarray, classes: Sequence[str], title: str) -> None:
    """Show what part of the labelled pixels each class has, ``(C,)`` in percent, as bars."""
    figure, ((axes,),) = display.new_figure(7, 3.4)
    axes.bar(classes, share, color=display.colours(len(classes)) / 255, edgecolor="black")
    for position, percent in enumerate(share):
        axes.text(position, percent + 0.5, f"{percent:.1f}", ha="center")
    axes.set(ylabel="% of the labelled pixels", title=title)
    axes.margins(y=0.12)
    axes.tick_params(axis="x", labelrotation=40)
    text = ", ".join(f"{c} {percent:.1f}" for c, percent in zip(classes, share, strict=True))
    display.show(figure, alt=f"Bars of each class's share in percent: {text}.")


def show_invented(image: np.ndarray, averaged: np.ndarray, invented: np.ndarray) -> None:
    """Show a mask ``(H, W)`` that was resized by averaging, and where that invented a class."""
    titled = {
        "a mask, resized as if it were a picture": display.overlay(
            image, averaged, alpha=1, contours=False
        ),
        "in black: classes out of nowhere": np.where(invented[..., None], 0, np.full(3, 255)),
    }
    _show_pictures(titled, "A bilinearly resized mask; wrong classes line most edges.")


def show_halved(
    pair: tuple[np.ndarray, np.ndarray],
    small: tuple[np.ndarray, np.ndarray],
    classes: Sequence[str],
) -> None:
    """Show the mask of an (image, mask) pair, and beside it that of the pair at half the size."""
    titled = {
        f"{mask.shape[0]} x {mask.shape[1]}": display.overlay(image, mask, alpha=1, contours=False)
        for image, mask in (pair, small)
    }
    alt = "The mask, and the mask at half the size: coarser, but no new class."
    _show_pictures(titled, alt, (classes, [pair[1]]))
