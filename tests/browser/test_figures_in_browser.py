"""The figures to play with of lessons from 03 on follow mouse and keyboard in a real JupyterLab.

A notebook of the solution's own cells: what a figure needs, then the figure. In place of a trained
model stands a fresh one: what it says is not looked at here, but that each control is heard.
"""

import contextlib
import json
import os
from itertools import cycle
from pathlib import Path

import nbformat
import pytest
from conftest import code_notebook
from test_lab_in_browser import open_notebook, picture, run_all, wait_for_another_picture

SOLUTIONS = Path(__file__).parents[2] / "solutions"
UNTRAINED = """
model = PatchNet(C, WINDOW)
shares = np.bincount(valid.masks[valid.masks != VOID], minlength=C) / (valid.masks != VOID).sum()
sampled = sampling_shares(shares, POWER)
size = task.size[0] // STRIDE, task.size[1] // STRIDE
logits = np.random.default_rng(0).normal(size=(12, *size, C))
"""
FINDER = """
rates = np.geomspace(1e-6, 1, 60)
losses = 3 - 0.1 * np.log10(1e6 * rates)
trials = {rate: np.linspace(3, 3 + np.log10(rate) / 5, 12) for rate in np.geomspace(1e-5, 1e-1, 9)}
valid = task.load("valid")
prediction = (valid.masks + 1) % len(task.classes)
"""
STRANGER = """
from types import SimpleNamespace
images = torch.from_numpy(valid.images).permute(0, 3, 1, 2) / 255
valid_loader, device = [(images, None)], "cpu"
torch.manual_seed(0)
model = SimpleNamespace(net=nn.Conv2d(3, 1, 9, padding=4))
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
    "05_encoder_decoder": [
        *("imports", "settings", "upsampled-size", "coverage", "overlap-figure", "loss-play"),
    ],
    "07_fastai_unet": ["imports", "settings", FINDER, "trials-figure", "play"],
    "08_transfer_learning": [
        *("imports", "settings", "data", STRANGER, "logit-of", "dice", "cut", "lost", "lost-play"),
        *("pets-settings", "pets-data", "pets_prediction = 2 - pets_valid.masks", "pets-play"),
    ],
}


def notebook(lesson: str) -> dict:
    """Return a notebook of some cells of a solution, and of cells that are given as they are."""
    cells = nbformat.read(SOLUTIONS / lesson / f"{lesson}.ipynb", as_version=4).cells
    sources = {cell.id: cell.source for cell in cells}
    return code_notebook(
        *(sources.get(name, name) for name in CELLS[lesson]), "print('at the end')"
    )


@contextlib.contextmanager
def changing(page, figure):
    """Do something, then wait until the kernel has sent another picture."""
    before = picture(figure)
    yield
    wait_for_another_picture(page, figure, before)
    assert "Not drawn" not in figure.inner_text()


def keep(figure, name: str) -> None:
    if folder := os.environ.get("COURSE_SCREENSHOTS"):
        figure.screenshot(path=Path(folder) / f"{name}.png")


@pytest.mark.parametrize(
    ("lesson", "theme"), [*zip(CELLS, cycle(("light", "dark")))], indirect=["theme"]
)
def test_each_control_changes_its_figure_by_keyboard_and_by_mouse(page, lab, theme, lesson):
    path = Path("lessons") / lesson / "figures.ipynb"
    (lab.root / path).write_text(json.dumps(notebook(lesson)))
    open_notebook(page, lab, path)
    run_all(page)
    figures = page.locator(".jp-OutputArea-output:has(.course-play)")
    errors = page.locator('.jp-OutputArea-output[data-mime-type$="stderr"]')
    end = page.locator(".jp-OutputArea-output", has_text="at the end")
    errors.or_(end).first.wait_for(timeout=120_000)  # until then the kernel hears no control
    assert errors.all_inner_texts() == []
    assert figures.count() == (3 if lesson == "08_transfer_learning" else 2)
    for number, figure in enumerate(figures.all()):
        keep(figure, f"{lesson}-{number}-before")
        for slider in figure.locator(".widget-slider").all():
            bar, value = slider.locator(".noUi-base"), slider.locator(".widget-readout")
            start = value.inner_text()
            handle = slider.locator(".noUi-handle")
            now, low, high = (
                float(handle.get_attribute(f"aria-value{name}")) for name in ("now", "min", "max")
            )
            with changing(page, figure):
                handle.press("ArrowLeft" if now > low else "ArrowRight")
            pressed = value.inner_text()
            far = 0.8 if now < (low + high) / 2 else 0.2
            with changing(page, figure):
                bar.click(position={"x": far * bar.bounding_box()["width"], "y": 2})
            assert len({start, pressed, value.inner_text()}) == 3
        for choice in figure.locator("select").all():
            with changing(page, figure):
                choice.select_option(index=3)
        keep(figure, f"{lesson}-{number}-after")
