"""Figures of models beside each other: what they reach against what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from course_utils.display import AMBER, BLUE, LINES, new_figure, show

if TYPE_CHECKING:
    from course_utils.comparison import Compared


def show_comparison(compared: Mapping[str, Compared]) -> None:
    """Show mean IoU against multiply-adds, and who pays; without models, nothing."""
    if not compared:
        return
    figure, ((left, right),) = new_figure(10, 3.8, 1, 2, width_ratios=(1.2, 1))
    dearest = max(one.multiplications for one in compared.values())
    for k, (name, one) in enumerate(compared.items()):
        low, high = one.interval
        cost, score = one.multiplications / 1e6, one.mean_iou
        bars = [[score - low], [high - score]]
        colour, marker = LINES[k % len(LINES)], "osD^v"[k % 5]
        left.errorbar(cost, score, bars, color=colour, marker=marker, markersize=8, capsize=4)
        # at the right end there is no room on the right
        end = len(compared) > 1 and one.multiplications == dearest
        place = {"xytext": (-9 if end else 9, 4), "ha": "right" if end else "left", "fontsize": 9}
        left.annotate(name, (cost, score), textcoords="offset points", **place)
    left.set_xscale("log")
    left.margins(x=0.3)
    left.set(xlabel="million multiply-adds an image", ylabel="mean IoU, with 95 % interval")
    left.set_title("What is reached, and for how much work")
    y = np.arange(len(compared))
    for shift, group, colour in ((-0.2, "thin", AMBER), (0.2, "large", BLUE)):
        scores = [getattr(one, group) for one in compared.values()]
        right.barh(y + shift, scores, 0.36, color=colour, label=f"{group} classes")
        for position, score in zip(y + shift, scores, strict=True):
            right.text(score + 0.01, position, f"{score:.2f}", va="center", fontsize=9)
    right.set_yticks(y, list(compared))
    right.invert_yaxis()
    right.set(xlim=(0, 1.12), xlabel="mean IoU of the classes", title="Who pays")
    right.grid(axis="y", visible=False)
    right.legend(
        fontsize=9, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2
    )
    text = "; ".join(
        f"{name}: mean IoU {one.mean_iou:.2f} for {one.multiplications / 1e6:,.0f} million "
        f"multiply-adds, thin classes {one.thin:.2f}, large ones {one.large:.2f}"
        for name, one in compared.items()
    )
    show(figure, f"Models by cost and score. {text}.")
