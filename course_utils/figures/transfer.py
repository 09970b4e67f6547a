"""Figures of transfer learning: one picture through a training, what it costs, what it buys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from course_utils.display import (
    AMBER,
    BLUE,
    GREEN,
    LINES,
    SKY,
    add_legend,
    enlarge,
    new_figure,
    overlay,
    show,
)
from course_utils.metrics import ConfusionMatrix

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes

MARKERS = "osD^v"


def show_film(
    image: np.ndarray,
    truth: np.ndarray,
    film: Mapping[int, np.ndarray],
    classes: Sequence[str],
    most: int = 6,
) -> None:
    """Show what a net makes of one picture as it learns.

    Parameters
    ----------
    image, truth
        ``(H, W, 3)`` and ``(H, W)`` uint8.
    film
        From the number of an epoch to the prediction ``(H, W)`` after it; 0 is untrained.
    most
        So many predictions are shown: the first and the last, and early ones rather than late.
    """
    epochs = sorted(film)
    if len(epochs) > most:
        chosen = np.geomspace(1, len(epochs) - 1, most - 1).round().astype(int)
        epochs = [epochs[k] for k in sorted({0, *chosen.tolist()})]
    factor = max(1, round(320 / image.shape[1]))
    big = enlarge(image, factor)
    titles = ["image", "truth"]
    pictures = [big, overlay(big, enlarge(truth, factor), 0.7)]
    scores = []
    for epoch in epochs:
        confusion = ConfusionMatrix(len(classes)).update(film[epoch], truth)
        scores.append(confusion.mean_iou())
        titles.append(f"{f'epoch {epoch}' if epoch else 'untrained'}: {scores[-1]:.2f}")
        pictures.append(overlay(big, enlarge(film[epoch], factor), 0.7))
    columns = 4
    rows = -(-len(pictures) // columns)
    figure, axes = new_figure(9.6, rows * (2.35 * image.shape[0] / image.shape[1] + 0.3) + 0.7)
    figure.clear()
    axes = figure.subplots(rows, columns, squeeze=False)
    for place in axes.flat:
        place.set_axis_off()
    for place, picture, title in zip(axes.flat, pictures, titles, strict=False):
        place.imshow(picture, interpolation="nearest")
        place.set_title(title, fontsize=10)
    figure.suptitle("The same picture, epoch after epoch (its mean IoU)", fontsize=12)
    add_legend(figure, classes, [truth, *(film[epoch] for epoch in epochs)])
    text = ", ".join(
        f"{f'epoch {e}' if e else 'untrained'} {s:.2f}" for e, s in zip(epochs, scores, strict=True)
    )
    show(figure, f"One picture, its truth, and predictions. Mean IoU of the picture: {text}.")


def show_trimap(image: np.ndarray, trimap: np.ndarray, classes: Sequence[str]) -> None:
    """Show an image, its trimap as a picture viewer shows it, and its trimap in colours."""
    figure, axes = new_figure(8.2, 2.6 * image.shape[0] / image.shape[1] + 0.8, 1, 3)
    factor = max(1, round(320 / image.shape[1]))
    big, labels = enlarge(image, factor), enlarge(trimap, factor).astype(np.int16) - 1
    titles = ["image", "its trimap, in a picture viewer", "its trimap, a colour a number"]
    pictures = [
        big,
        np.repeat(enlarge(trimap, factor)[..., None], 3, -1),
        overlay(big, labels, 1.0),
    ]
    for place, picture, title in zip(axes[0], pictures, titles, strict=True):
        place.imshow(picture, interpolation="nearest", vmin=0, vmax=255)
        place.set_axis_off()
        place.set_title(title, fontsize=10)
    add_legend(figure, [f"{k + 1} {name}" for k, name in enumerate(classes)], [labels])
    found = ", ".join(map(str, np.unique(trimap)))
    show(
        figure,
        f"An image of a pet; its trimap, which holds {found} and looks black; and the trimap with "
        "a colour for each number.",
    )


def show_work(counted: Mapping[str, float], seconds: Mapping[str, float]) -> None:
    """Show what ways to train cost as they were counted, beside the seconds that they took.

    Parameters
    ----------
    counted
        From a way to its multiply-adds.
    seconds
        From the same ways to seconds; both are shown as parts of the dearest.
    """
    figure, ((axes,),) = new_figure(7.6, 0.9 + 0.75 * len(counted))
    places = np.arange(len(counted))
    for shift, values, colour, hatch, name in (
        (-0.19, counted, BLUE, "", "multiply-adds, counted"),
        (0.19, seconds, AMBER, "////", "seconds, measured"),
    ):
        whole = max(values.values())
        parts = [values[way] / whole for way in counted]
        look = {"edgecolor": "black", "linewidth": 0.8, "hatch": hatch}
        axes.barh(places + shift, parts, 0.36, color=colour, label=name, **look)
        for place, part, way in zip(places + shift, parts, counted, strict=True):
            value = values[way]
            told = f"{value:.1f} s" if values is seconds else f"{value / 1e9:,.0f} billion"
            axes.text(part + 0.01, place, told, va="center", fontsize=9)
    axes.set_yticks(places, list(counted))
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.25), xlabel="part of the dearest way")
    axes.grid(axis="y", visible=False)
    axes.set_title("One training, three ways: what it costs")
    axes.legend(frameon=False, loc="lower right", fontsize=9)
    text = "; ".join(
        f"{way}: {counted[way] / 1e9:,.0f} billion multiply-adds, {seconds[way]:.1f} s"
        for way in counted
    )
    show(figure, f"Bars of what three ways to train cost. {text}.")


def show_rates(names: Sequence[str], groups: Sequence[Mapping]) -> None:
    """Show the learning rate of each part of a net, the part at the image first.

    Parameters
    ----------
    names
        Of the parts.
    groups
        What an optimizer is given: ``params`` and ``lr`` of each.
    """
    figure, ((axes,),) = new_figure(7.4, 0.9 + 0.42 * len(names))
    sizes = [sum(weight.numel() for weight in group["params"]) for group in groups]
    rates = [float(group["lr"]) for group in groups]
    places = np.arange(len(names))
    colours = [SKY] * (len(names) - 1) + [GREEN]
    axes.barh(places, rates, color=colours, edgecolor="black", linewidth=0.8)
    for place, rate in zip(places, rates, strict=True):
        axes.text(rate * 1.08, place, f"{rate:.1e}", va="center", fontsize=9)
    labels = [f"{name} ({size:,})" for name, size in zip(names, sizes, strict=True)]
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set(xlim=(min(rates) / 3, max(rates) * 5), xlabel="learning rate at the peak of the cycle")
    axes.grid(axis="y", visible=False)
    axes.set_title("Slower, the nearer to the image (in brackets: parameters)")
    text = "; ".join(
        f"{name}: {size:,} parameters, {rate:.1e}"
        for name, size, rate in zip(names, sizes, rates, strict=True)
    )
    show(figure, f"Bars of the learning rate of each part, on a logarithmic scale. {text}.")


Scores = Mapping[str, Mapping[int, Sequence[float]]]
"""From a way to the number of training images to the score of each seed."""


def show_buys(
    records: Mapping[str, Scores],
    interval,
    *,
    guess: Mapping[str, Mapping[int, float]] | None = None,
    here: Scores | None = None,
) -> None:
    """Show what ways to begin reach with few and with many images, with intervals over seeds.

    Parameters
    ----------
    records
        From what the images show to the scores of each way.
    interval
        From the scores of the seeds to the two ends of an interval.
    guess
        From a way to what somebody expects of it, drawn into the first panel.
    here
        What was measured just now, drawn into the first panel as crosses.
    """
    wide = max(7.2, 5.0 * len(records))  # the legend wants room
    figure, axes = new_figure(wide, 4.6, 1, len(records), sharey=True)
    texts = []
    for k, (place, (title, scores)) in enumerate(zip(axes[0], records.items(), strict=True)):
        texts.append(f"{title}: {_curves(place, scores, interval)}")
        if k == 0:
            _beside(place, scores, guess or {}, here or {})
        counts = sorted({count for by_count in scores.values() for count in by_count})
        place.set_xscale("log", base=2)
        place.set_xticks(counts, list(map(str, counts)))
        place.minorticks_off()
        place.set(xlabel="training images", title=title)
    axes[0, 0].set(ylabel="validation mean IoU, 95 % over seeds")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    show(figure, f"Mean IoU over the number of training images. {' '.join(texts)}")


def _curves(axes: Axes, scores: Scores, interval) -> str:
    """Draw a line a way, with its intervals; return it in words."""
    told = []
    for k, (way, by_count) in enumerate(scores.items()):
        counts = sorted(by_count)
        means = [float(np.mean(by_count[count])) for count in counts]
        ends = np.array([interval(by_count[count]) for count in counts], float)
        bars = np.abs(ends.T - means)
        places = np.array(counts) * 1.035 ** (k - len(scores) // 2)  # bars beside each other
        look = {"color": LINES[k], "marker": MARKERS[k], "markersize": 6, "capsize": 3}
        axes.errorbar(places, means, bars, lw=1.6, label=way, **look)
        told.append(f"{way} " + ", ".join(f"{m:.2f}" for m in means))
    return "; ".join(told) + "."


def _beside(axes: Axes, scores: Scores, guess: Mapping, here: Scores) -> None:
    """Draw what was guessed as dotted lines, and what was just measured as crosses."""
    named = set()

    def label(name: str) -> str | None:
        first = name not in named
        named.add(name)
        return name if first else None

    for k, way in enumerate(scores):
        if guessed := {n: v for n, v in guess.get(way, {}).items() if v is not None}:
            counts = sorted(guessed)
            values = [guessed[count] for count in counts]
            look = {"color": LINES[k], "ls": ":", "marker": MARKERS[k], "mfc": "white"}
            axes.plot(counts, values, label=label("your guess"), **look)
        for count, values in here.get(way, {}).items():
            x = [count * 1.035 ** (k - len(scores) // 2)] * len(values)
            look = {"color": LINES[k], "marker": "x", "ls": "", "ms": 9, "mew": 2.2}
            axes.plot(x, values, label=label("measured just now"), **look)


def show_telling(
    images: np.ndarray, things: np.ndarray, maps: Sequence[torch.Tensor], chosen: int
) -> None:
    """Show of each depth the channel that says most about where a thing is.

    Parameters
    ----------
    images, things
        ``(N, H, W, 3)`` uint8, and ``(N, H, W)`` bool.
    maps
        ``(N, C, h, w)`` of each depth.
    chosen
        The number of the image to show.
    """
    figure, axes = new_figure(1.75 * (len(maps) + 1), 2.35, 1, len(maps) + 1)
    axes[0, 0].imshow(images[chosen])
    axes[0, 0].set_title("image", fontsize=10)
    told = []
    for k, (place, one) in enumerate(zip(axes[0, 1:], maps, strict=True), 1):
        channel, correlation = most_telling(one, things)
        values = one[chosen, channel].numpy() * np.sign(correlation)
        size = " x ".join(map(str, one.shape[2:]))
        place.imshow(values, cmap="viridis", interpolation="nearest")
        place.set_title(
            f"stride {2**k}: {size}\nchannel {channel} of {one.shape[1]}\n"
            f"correlation {abs(correlation):.2f}",
            fontsize=9,
        )
        told.append(f"stride {2**k}, {size}: {abs(correlation):.2f}")
    for place in axes[0]:
        place.set_axis_off()
    show(
        figure,
        "An image, and of each depth the channel that correlates most with where the thing is: "
        f"{'; '.join(told)}.",
    )


def most_telling(one: torch.Tensor, things: np.ndarray) -> tuple[int, float]:
    """Return the channel that correlates most with where things are, and how much, -1 to 1.

    Parameters
    ----------
    one
        Maps of one depth, ``(N, C, h, w)``.
    things
        ``(N, H, W)`` bool; averaged to the maps' size.
    """
    from torch.nn.functional import adaptive_avg_pool2d

    there = np.ascontiguousarray(things, np.float32)[:, None]
    share = adaptive_avg_pool2d(one.new_tensor(there), one.shape[2:])
    rows = one.transpose(0, 1).flatten(1).double()
    rows = rows - rows.mean(1, keepdim=True)
    wanted = (share - share.mean()).flatten().double()
    norms = rows.norm(dim=1) * wanted.norm()
    found = (rows @ wanted) / norms.clamp_min(1e-12)
    channel = int(found.abs().argmax())
    return channel, float(found[channel])
