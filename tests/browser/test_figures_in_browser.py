"""The figures to play with of lessons 03 to 05 follow mouse and keyboard in a real JupyterLab.

A notebook of the solution's own cells: what a figure needs, then the figure. In place of a trained
model stands a fresh one: what it says is not looked at here, but that each control is heard.
"""

import json
from pathlib import Path

import nbformat
import pytest
from conftest import code_notebook

SOLUTIONS = Path(__file__).parents[2] / "solutions"
UNTRAINED = """
model = PatchNet(C, WINDOW)
shares = np.bincount(valid.masks[valid.masks != VOID], minlength=C) / (valid.masks != VOID).sum()
sampled = sampling_shares(shares, POWER)
size = task.size[0] // STRIDE, task.size[1] // STRIDE
logits = np.random.default_rng(0).normal(size=(2, *size, C))
"""
CELLS = {
    "03_sliding_window": [
        *("imports", "settings", "patch-at", "sampling-shares", "map-sizes", "patch-net"),
        *("seconds", "correct-prior", UNTRAINED, "play", "prior-play"),
    ],
    "04_fully_convolutional": [
        *("imports", "settings", "receptive-field", "roads-play", "coarse-labels"),
        *("ceiling-figure", "ceiling-play-figure"),
    ],
    "05_encoder_decoder": ["imports", "settings", "coverage", "overlap-figure", "loss-play"],
}


def notebook(lesson: str) -> dict:
    """Return a notebook of some cells of a solution, and of cells that are given as they are."""
    cells = nbformat.read(SOLUTIONS / lesson / f"{lesson}.ipynb", as_version=4).cells
    sources = {cell.id: cell.source for cell in cells}
    return code_notebook(*(sources.get(name, name) for name in CELLS[lesson]))


def wait_for_another_picture(page, figure, before: str) -> None:
    image = figure.locator("img").element_handle()
    page.wait_for_function("([image, src]) => image.src !== src", arg=[image, before])
    assert "Not drawn" not in figure.inner_text()


@pytest.mark.parametrize(
    ("lesson", "theme"),
    zip(CELLS, ("light", "dark", "dark"), strict=True),
    indirect=["theme"],
)
def test_each_control_changes_its_figure_by_mouse_and_by_keyboard(page, lab, theme, lesson):
    (lab.root / "lessons" / lesson / "figures.ipynb").write_text(json.dumps(notebook(lesson)))
    page.goto(lab.address(f"lab/tree/lessons/{lesson}/figures.ipynb") + "&reset")
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.locator(".jp-NotebookPanel:visible .jp-CodeCell").first.click()
    page.get_by_text("Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    figures = page.locator(".jp-OutputArea-output:has(.course-play)")
    figures.nth(1).locator("img").wait_for(timeout=120_000)
    assert page.locator('[data-mime-type$="stderr"]').count() == 0
    for figure in figures.all():
        figure.scroll_into_view_if_needed()
        for slider in figure.locator(".widget-slider").all():
            bar, handle = slider.locator(".noUi-base"), slider.locator(".noUi-handle")
            for press in (
                lambda handle=handle: handle.press("ArrowLeft"),
                lambda bar=bar: bar.click(
                    position={"x": 0.3 * bar.bounding_box()["width"], "y": 2}
                ),
            ):
                before = figure.locator("img").get_attribute("src")
                said = slider.locator(".widget-readout").inner_text()
                press()
                wait_for_another_picture(page, figure, before)
                assert slider.locator(".widget-readout").inner_text() != said
        for choice in figure.locator("select").all():
            before = figure.locator("img").get_attribute("src")
            choice.select_option(index=3)
            wait_for_another_picture(page, figure, before)
