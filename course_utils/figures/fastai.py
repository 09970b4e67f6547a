"""Figures of lesson 07: the finder's curve, rates by layer group, and what fastai draws itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from course_utils.display import AMBER, BLUE, GREEN, LINES, SKY, new_figure, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@contextlib.contextmanager
def drawn(alt: str) -> Iterator[None]:
    """Show what fastai draws inside of the block, with a text for who cannot see it.

    fastai draws by pyplot; a figure that stayed open there would be shown once more.
    """
    import matplotlib

    before = matplotlib.get_backend()
    import matplotlib.pyplot as plt

    plt.close("all")
    with contextlib.suppress(ValueError, ImportError):
        plt.switch_backend("agg")
    try:
        yield
        if plt.get_fignums():
            show(plt.gcf(), alt)
    finally:
        plt.close("all")
        with contextlib.suppress(ValueError, ImportError):
            plt.switch_backend(before)


def _curve(axes: Axes, rates: Sequence[float], losses: Sequence[float]) -> None:
    axes.plot(rates, losses, color=BLUE)
    axes.set_xscale("log")
    low, high = min(losses), losses[0]
    axes.set_ylim(low - 0.15 * (high - low), high + 0.6 * (high - low))
    axes.set(xlabel="learning rate", ylabel="loss, smoothed")


def points(rates: Sequence[float], losses: Sequence[float]) -> dict[str, float]:
    """Return four rates of a finder's curve by letter: flat, falling, lowest, above the start.

    Parameters
    ----------
    rates, losses
        One of each a step, as fastai's recorder has them; the rates grow.
    """
    rates, losses = np.asarray(rates), np.asarray(losses)
    lowest = int(losses.argmin())
    falling = np.interp(np.log(3e-3), np.log(rates), np.arange(len(rates)))
    above = np.flatnonzero(losses[lowest:] > losses[0])
    last = lowest + int(above[0]) if len(above) else len(rates) - 1
    chosen = [len(rates) // 5, min(int(falling), lowest - 1), lowest, last]
    return {letter: float(rates[at]) for letter, at in zip("abcd", chosen, strict=True)}


def show_finder(rates: Sequence[float], losses: Sequence[float]) -> None:
    """Show the loss of a training whose rate grows with each step, with four points a to d."""
    figure, ((axes,),) = new_figure(7.4, 3.6)
    _curve(axes, rates, losses)
    marked = points(rates, losses)
    bottom, top = axes.get_ylim()
    steps = np.geomspace(marked["c"], marked["d"], 1000)
    rising = np.interp(np.log(steps), np.log(rates), losses)
    for letter, rate in marked.items():
        height = float(np.interp(rate, rates, losses))
        if height > top - 0.12 * (top - bottom):  # the point is above: mark the way up to it
            height = top - 0.12 * (top - bottom)
            rate = steps[int((rising >= height).argmax())] if letter == "d" else rate
        axes.plot(rate, height, "o", color="black", ms=5)
        axes.annotate(letter, (rate, height), (4, 7), textcoords="offset points", fontsize=12)
    axes.set_title("The finder: one step at each rate, from small to large")
    text = ", ".join(f"{letter} at {rate:.1e}" for letter, rate in marked.items())
    show(
        figure,
        f"The loss over the learning rate, both axes from small to large: flat, then falling from "
        f"{losses[0]:.2f} to {min(losses):.2f}, then rising steeply. Points: {text}.",
    )


def trial_figure(
    rates: Sequence[float],
    losses: Sequence[float],
    trials: Mapping[float, Sequence[float]],
    power: float,
) -> Figure:
    """Return the finder's curve with a rate marked, beside what training does at that rate.

    Parameters
    ----------
    trials
        From a rate to the loss of each step of a short training at this rate alone.
    power
        The logarithm of the rate to mark; the trial nearest to it is shown.
    """
    rate = min(trials, key=lambda one: abs(np.log10(one) - power))
    figure, ((left, right),) = new_figure(9, 3.4, 1, 2)
    _curve(left, rates, losses)
    left.axvline(rate, color=AMBER, lw=2)
    left.set_title(f"rate {rate:.0e} on the finder's curve")
    for other, steps in trials.items():
        right.plot(range(1, len(steps) + 1), steps, color="0.8", lw=1, zorder=1 + (other == rate))
    right.plot(range(1, len(trials[rate]) + 1), trials[rate], color=AMBER, lw=2.5, zorder=3)
    first, end, count = losses[0], trials[rate][-1], len(trials[rate])
    right.set(xlabel="step", ylabel="loss, smoothed", ylim=(0.8 * first, 1.15 * first))
    went = f"the loss is {end:.1e}" if end > 2 * first else "grey: the other rates"
    right.set_title(f"{count} steps at this rate ({went})")
    return figure


def show_rates(groups: Mapping[str, tuple[int, float]]) -> None:
    """Show what rate each layer group learns at, and how many parameters it has.

    Parameters
    ----------
    groups
        From a name to (parameters, learning rate).
    """
    figure, ((axes,),) = new_figure(7, 2.6)
    names = [f"{name}\n{count:,} parameters" for name, (count, _) in groups.items()]
    rates = [rate for _, rate in groups.values()]
    places = range(len(names))[::-1]
    axes.barh(places, rates, color=[SKY, GREEN, AMBER], edgecolor="black", hatch="")
    for place, rate in zip(places, rates, strict=True):
        axes.text(rate * 1.1, place, f"{rate:.1e}", va="center")
    axes.set_xscale("log")
    axes.set_xlim(min(rates) / 3, max(rates) * 5)
    axes.set_yticks(places, names)
    axes.set(xlabel="learning rate at the peak of the cycle")
    axes.set_title("The nearer to the image, the smaller the steps")
    text = "; ".join(
        f"{n}: {count:,} parameters, {rate:.1e}" for n, (count, rate) in groups.items()
    )
    show(figure, f"Bars of the peak learning rate by layer group, on a logarithmic scale. {text}.")


def show_starts(histories: Mapping[str, Sequence[float]], ylabel: str, title: str) -> None:
    """Show a score by epoch for several starts, a line and a marker each."""
    figure, ((axes,),) = new_figure(6.4, 3.2)
    for k, (name, values) in enumerate(histories.items()):
        epochs = range(1, len(values) + 1)
        axes.plot(epochs, values, color=LINES[k], marker="os^D"[k], label=name)
    axes.set_xticks(range(1, max(map(len, histories.values())) + 1))
    axes.set(xlabel="epoch", ylabel=ylabel, ylim=(0, None), title=title)
    axes.legend()
    text = "; ".join(f"{n}: " + ", ".join(f"{v:.3f}" for v in vs) for n, vs in histories.items())
    show(figure, f"{title}. {ylabel} by epoch. {text}.")
