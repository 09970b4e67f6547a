"""Figures of a network: its shapes as a U, its feature maps, what it loses without a part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from course_utils.display import AMBER, BLUE, GREEN, SKY, new_figure, show
from course_utils.errors import CourseError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def sketch_unet(depth: int = 4) -> None:
    """Show the parts of a U-Net as named boxes in a U: how they hang together, and no sizes.

    Parameters
    ----------
    depth
        Number of encoders; there are as many decoders.
    """
    names = [
        *(f"encoder {k}" for k in range(depth)),
        "bottleneck",
        *(f"decoder {k}" for k in range(depth)),
    ]
    heights = [2 ** max(k, 2 * depth - k) for k in range(2 * depth + 1)]
    figure, axes = _draw_u(heights, names, (7.4, 3.6))
    axes.set_title("blue: smaller by pooling, green: enlarged, dashed: the skips")
    text = (
        f"A U of {len(names)} boxes. On the way down {depth} encoders, each smaller than the one "
        f"before; at the bottom the bottleneck; on the way up {depth} decoders, each larger. "
        "From each encoder a dashed arrow, its skip, leads to the decoder of the same size."
    )
    show(figure, text)


def draw_unet(shapes: Sequence[tuple[int, int, int]]) -> None:
    """Show the levels of a U-Net as boxes in a U, with the ways that the maps take.

    Parameters
    ----------
    shapes
        (channels, height, width) of each encoder from the top down, of the bottleneck, and of
        each decoder from the bottom up. A box is as high as the map, on a logarithmic scale.
    """
    if len(shapes) % 2 == 0 or any(len(shape) != 3 for shape in shapes):
        raise CourseError(
            f"a U has an odd number of levels, each (channels, height, width): found {shapes}."
        )
    labels = [f"{channels} × {height} × {width}" for channels, height, width in shapes]
    figure, axes = _draw_u([height for _, height, _ in shapes], labels, (9, 4.4))
    axes.set_title("channels × height × width; blue: max pooling, green: transposed convolution")
    text = ", ".join(f"{c} x {h} x {w}" for c, h, w in shapes)
    show(figure, f"A U of {len(shapes)} boxes, from the upper left down and up again: {text}.")


def _draw_u(
    heights: Sequence[int], labels: Sequence[str], size: tuple[float, float]
) -> tuple[Figure, Axes]:
    """Return a figure of boxes in a U, joined by arrows and skips, each with its label."""
    depth = len(heights) // 2
    figure, ((axes,),) = new_figure(*size)
    axes.set_axis_off()
    places = []
    for k, (height, label) in enumerate(zip(heights, labels, strict=True)):
        level = min(k, len(heights) - 1 - k)
        x, y = 2.0 * k, -1.25 * level
        box = 0.5 * (1 - np.log2(heights[0] / max(height, 1)) / 12)
        colour = SKY if k < depth else AMBER if k == depth else GREEN
        axes.bar(x, 2 * box, 0.5, bottom=y - box, color=colour, edgecolor="black")
        side = ("right", -0.45) if k < depth else ("left", 0.45)
        if k == depth:
            axes.text(x, y - box - 0.12, label, ha="center", va="top")
        else:
            axes.text(x + side[1], y - 0.3, label, ha=side[0], va="center")
        places.append((x, y, box))
    arrow = {"arrowstyle": "->", "lw": 1.4, "shrinkA": 2, "shrinkB": 2}
    for k in range(2 * depth):
        (x0, y0, _), (x1, y1, _) = places[k], places[k + 1]
        colour = BLUE if k < depth else "#007050"
        axes.annotate("", (x1 - 0.25, y1), (x0 + 0.25, y0), arrowprops=arrow | {"color": colour})
    for k in range(depth):
        (x0, y0, _), (x1, y1, _) = places[k], places[-1 - k]
        dashed = arrow | {"color": "0.4", "linestyle": "--"}
        axes.annotate("", (x1 - 0.25, y1 + 0.2), (x0 + 0.25, y0 + 0.2), arrowprops=dashed)
        axes.text((x0 + x1) / 2, y0 + 0.24, f"skip {k}", ha="center", va="bottom", color="0.3")
    axes.set_xlim(-3, places[-1][0] + 3)
    axes.set_ylim(places[depth][1] - 1.1, 1.0)
    return figure, axes


def show_steps(losses: Sequence[float], untrained: float, num_classes: int) -> None:
    """Show the loss of each step of a training on one batch, against that of an untrained net."""
    figure, ((axes,),) = new_figure(7, 3)
    axes.plot(losses, color=BLUE, label="your loop, on two pictures")
    axes.axhline(untrained, color="0.4", linestyle="--", label=f"ln {num_classes}: knows nothing")
    axes.set(xlabel="step", ylabel="cross-entropy (nats)", ylim=(0, None))
    axes.set_title("Two pictures, learned by heart")
    axes.legend()
    show(figure, f"The loss falls from {losses[0]:.2f} to {losses[-1]:.2f} in {len(losses)} steps.")


def show_maps(
    maps: Sequence[np.ndarray], titles: Sequence[str], alt: str, *, white: float | None = None
) -> None:
    """Show pictures ``(H, W, 3)`` and feature maps ``(H, W)`` in a row.

    Each map has its own scale of colours; with ``white``, all have the same greys, from black at 0
    to white at this value.
    """
    look = {"cmap": "viridis"} if white is None else {"cmap": "gray", "vmin": 0, "vmax": white}
    figure, axes = new_figure(2.5 * len(maps), 2.3, 1, len(maps))
    for axis, values, title in zip(axes[0], maps, titles, strict=True):
        axis.imshow(np.asarray(values), interpolation="nearest", **look)
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    show(figure, alt)


def show_losses(
    losses: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str
) -> None:
    """Show a table ``(R, C)`` of what each column loses in each row, dark where much is lost."""
    figure, ((axes,),) = new_figure(1.6 + 0.85 * len(columns), 1.4 + 0.42 * len(rows))
    axes.imshow(losses, cmap="Oranges", vmin=0, vmax=max(0.01, np.nanmax(losses)), aspect="auto")
    for (row, column), loss in np.ndenumerate(losses):
        text = "-" if np.isnan(loss) else _change(loss)
        dark = loss > 0.65 * np.nanmax(losses)
        axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(len(columns)), columns, rotation=35, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    axes.grid(False)
    axes.set_title(title)
    text = "; ".join(
        f"{name}: " + ", ".join(f"{c} {_change(x)}" for c, x in zip(columns, row, strict=True))
        for name, row in zip(rows, losses, strict=True)
    )
    show(figure, f"{title}. {text}.")


def _change(loss: float) -> str:
    """Return a loss as the change that it is, such as ``-0.12``; never ``-0.00``."""
    return f"{round(-loss, 2) + 0.0:+.2f}"
