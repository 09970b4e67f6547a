"""Figures of ways up and of what they cost: overlaps, spectra, unhappiness, shares by level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from course_utils.display import AMBER, BLUE, GREEN, SILVER, SKY, VERMILION, new_figure, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from course_utils.models.erfnet import ERFNet


def draw_overlap(kernel: int, stride: int, counts: np.ndarray) -> Figure:
    """Return a figure of how kernels overlap, in one direction and in two.

    Parameters
    ----------
    counts
        How many kernels cover each pixel of the output.
    """
    counts = np.asarray(counts, int)
    figure, ((left, right),) = new_figure(9, 3.3, 1, 2, width_ratios=(2, 1))
    for pixel, start in enumerate(range(0, len(counts) - kernel + 1, stride)):
        look = {"edgecolor": "black", "linewidth": 0.8, "color": (SKY, AMBER)[pixel % 2]}
        left.barh(-1 - 0.55 * pixel, kernel, 0.45, left=start, **look)
    left.bar(np.arange(len(counts)) + 0.5, counts, 0.9, color=BLUE)
    left.axhline(0, color="0.3", linewidth=0.8)
    left.set_yticks([*range(counts.max() + 1)])
    left.set(xlabel="pixel of the output", ylabel="kernels that cover it")
    left.xaxis.get_major_locator().set_params(integer=True)
    inside = counts[kernel : len(counts) - kernel]
    even = inside.size and np.ptp(inside) == 0
    told = f"kernel {kernel}, stride {stride}, " + (
        f"even inside: {inside[0]} each" if even else "uneven: a checkerboard"
    )
    left.set_title(told if inside.size else f"kernel {kernel}, stride {stride}")
    grid = np.outer(counts, counts)
    right.imshow(grid, cmap="viridis", vmin=0, interpolation="nearest")
    right.set_title("in two directions")
    right.set_axis_off()
    return figure


def show_spectra(maps: Mapping[str, np.ndarray], alt: str) -> None:
    """Show maps ``(H, W)`` by name, and below each the spectrum of its rows.

    A spectrum is the mean over the rows of the amplitude at each frequency, in units of what is
    constant, which is left out.
    """
    figure, axes = new_figure(2.6 * len(maps), 4.4, 2, len(maps), height_ratios=(1.2, 1))
    spectra = {name: spectrum(values) for name, values in maps.items()}
    top = 1.1 * max(max(amplitude.max() for _, amplitude in spectra.values()), 0.05)
    for column, (name, values) in enumerate(maps.items()):
        axes[0, column].imshow(values, cmap="gray", vmin=0, interpolation="nearest")
        axes[0, column].set_title(name)
        axes[0, column].set_axis_off()
        frequency, amplitude = spectra[name]
        axes[1, column].plot(frequency, amplitude, color=BLUE, marker=".", markersize=4)
        axes[1, column].axvline(0.5, color=VERMILION, linestyle="--", linewidth=1)
        axes[1, column].set(xlabel="cycles a pixel", ylim=(0, top))
    axes[1, 0].set_ylabel("amplitude")
    show(figure, alt)


def spectrum(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return frequencies (cycles a pixel, up to 0.5) and the rows' mean amplitude at each.

    In units of the amplitude at 0, which is left out. The length of a row is even.

    >>> frequency, amplitude = spectrum(np.array([[1.0, 2, 1, 2, 1, 2]]))
    >>> float(frequency[-1]), round(float(amplitude[-1]), 3)
    (0.5, 0.333)
    """
    amplitude = np.abs(np.fft.rfft(values, axis=1)).mean(axis=0)
    return np.fft.rfftfreq(values.shape[1])[1:], amplitude[1:] / amplitude[0]


def draw_unhappiness(probability: float) -> Figure:
    """Return a figure of -ln p and of 1 - p, with a mark at a probability of the right class."""
    p = np.geomspace(1e-4, 1, 400)
    figure, ((axes,),) = new_figure(7, 3.3)
    axes.plot(p, -np.log(p), color=BLUE, label="cross-entropy, -ln p")
    axes.plot(p, 1 - p, color=VERMILION, linestyle="--", label="1 - p, never more than 1")
    mark, unhappy = {"color": "black", "zorder": 3}, abs(np.log(probability))
    axes.scatter([probability], [unhappy], marker="o", **mark)
    axes.scatter([probability], [1 - probability], marker="s", **mark)
    axes.set(xscale="log", xlabel="probability of the right class", ylim=(0, 9.5))
    axes.set_ylabel("unhappiness")
    axes.set_title(f"p = {probability:.4g}: -ln p = {unhappy:.2f}, 1 - p = {1 - probability:.2f}")
    axes.legend(frameon=False)
    return figure


def show_shares(levels: Sequence[str], costs: Mapping[str, Sequence[float]]) -> None:
    """Show which share of each cost is whose: bars by level, a colour and a hatch a cost."""
    figure, ((axes,),) = new_figure(8, 3.6)
    looks = ((BLUE, ""), (AMBER, "//"), (GREEN, ".."), (SILVER, "xx"))
    width, texts = 0.8 / len(costs), []
    for k, (name, values) in enumerate(costs.items()):
        shares = np.asarray(values, dtype=float) / np.sum(values)
        colour, hatch = looks[k]
        x = np.arange(len(levels)) - 0.4 + width * (k + 0.5)
        axes.bar(x, shares, 0.92 * width, color=colour, hatch=hatch, edgecolor="black", label=name)
        parts = ", ".join(f"{m} {s:.0%}" for m, s in zip(levels, shares, strict=True))
        texts.append(f"{name}: {parts}.")
    axes.set_xticks(range(len(levels)), levels)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set(ylabel="share of the whole network", title="Who holds, who computes, who remembers")
    axes.legend(frameon=False, ncols=2)
    show(figure, "Bars of each level's share. " + " ".join(texts))


def show_erfnet(net: ERFNet, size: tuple[int, int]) -> None:
    """Show the blocks of an ERFNet as bars, as high as their maps, with channels and dilations."""
    import torch

    from course_utils.models.erfnet import Downsampler, NonBottleneck1D

    figure, ((axes,),) = new_figure(9, 3.2)
    x, told = torch.zeros(1, 3, *size), []
    axes.bar(0, size[0], 0.7, color="white", edgecolor="black")
    axes.text(0, size[0] / 2 + 3, "3", ha="center", va="bottom")
    for place, block in enumerate([*net.encoder, *net.decoder], 1):
        with torch.no_grad():
            x = block.eval()(x)
        channels, height = x.shape[1:3]
        inner = isinstance(block, NonBottleneck1D)
        colour = SILVER if inner else BLUE if isinstance(block, Downsampler) else GREEN
        axes.bar(place, height, 0.7, bottom=-height / 2, color=colour, edgecolor="black")
        dilation = max(block.branch[5].dilation) if inner else 1
        if dilation > 1:
            axes.text(place, -height / 2 - 3, f"{dilation}", ha="center", va="top", fontsize=9)
        if not inner:
            axes.text(place, height / 2 + 3, f"{channels}", ha="center", va="bottom")
            told.append(f"{channels} x {height} x {x.shape[3]}")
    axes.patches[0].set_y(-size[0] / 2)
    axes.set_ylim(-0.6 * size[0], 0.68 * size[0])
    axes.set_axis_off()
    axes.set_title(
        "blue: half the size, grey: residual block (below: dilation), green: twice the size; "
        "above: channels"
    )
    show(figure, f"The blocks of ERFNet in a row; sizes after each change: {', '.join(told)}.")
