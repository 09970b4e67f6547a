"""The first lesson and the figures to play with, in a real JupyterLab and a real browser."""

import json
import re

import pytest
from conftest import code_notebook

IDLE = "Python 3 (ipykernel) | Idle"


def open_notebook(page, lab, path):
    """Open a notebook, without the tabs of earlier tests, and wait until its kernel answers."""
    page.goto(lab.address(f"lab/tree/{path}") + "&reset")
    wait_for_kernel(page)


def wait_for_kernel(page):
    cells(page).first.wait_for()
    page.get_by_text(IDLE).wait_for()


def cells(page):
    return page.locator(".jp-NotebookPanel:visible .jp-CodeCell")


def run_all(page):
    """Run all cells; again if JupyterLab dropped the wish, as it does while it still connects."""
    prompt = cells(page).first.locator(".jp-InputPrompt")
    for _ in range(10):
        page.get_by_text("Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        page.wait_for_timeout(1000)
        if prompt.inner_text().strip() != "[ ]:":
            return
    pytest.fail("JupyterLab did not run the cells")


def write_notebook(lab, name, *sources):
    (lab.root / f"{name}.ipynb").write_text(json.dumps(code_notebook(*sources)))
    return f"{name}.ipynb"


def test_first_lesson_is_in_front_and_its_cells_run(page, lab):
    page.goto(lab.address())
    wait_for_kernel(page)
    # the address follows what is in front, a moment later
    page.wait_for_url("**/lab/tree/lessons/00_start_here/00_start_here.ipynb*")
    assert page.get_by_text("Would you like to get notified").count() == 0
    run_all(page)
    # a picture appears, and the first error is the first stub, which is the reader's to fill
    page.locator(".jp-NotebookPanel:visible .jp-OutputArea img").first.wait_for()
    errors = page.locator('.jp-OutputArea-output[data-mime-type$="stderr"]')
    errors.first.wait_for()
    assert errors.count() == 1
    assert "NotImplementedError" in errors.inner_text()


def test_terminal_of_jupyterlab_knows_the_course_command(page, lab):
    path = write_notebook(lab, "shell", "!course data --help")
    open_notebook(page, lab, path)
    run_all(page)
    output = cells(page).first.locator(".jp-OutputArea-output")
    output.get_by_text("Data sets").wait_for()


@pytest.fixture
def explorer(page, lab):
    path = write_notebook(
        lab,
        "explorer",
        "import numpy as np\n"
        "from course_utils.data import scenes\n"
        "from course_utils.widgets import overlay_explorer\n"
        "data = scenes.scenes(range(3), size=(96, 128))\n"
        "predictions = np.where(data.masks == 255, 0, np.roll(data.masks, 3, axis=2)) % 10\n"
        "overlay_explorer(data.images, data.masks, predictions, data.classes)",
    )
    open_notebook(page, lab, path)
    run_all(page)
    figure = page.locator(".jp-OutputArea-output:has(.course-play)").first
    figure.locator("img").wait_for()
    return figure


def picture(figure):
    """Return the address of the picture: it changes when the kernel has sent a new one."""
    return figure.locator("img").get_attribute("src")


def wait_for_another_picture(page, figure, old):
    for _ in range(100):
        if picture(figure) != old:
            return
        page.wait_for_timeout(100)
    pytest.fail("the picture did not change within 10 s")


def test_sliders_and_class_picker_change_the_picture(page, explorer):
    assert "mean IoU" in explorer.inner_text()
    assert explorer.locator("img").bounding_box()["width"] > 600
    for label in ("opacity", "image"):
        before = picture(explorer)
        slider = explorer.locator(".widget-slider", has_text=label).locator(".noUi-handle")
        slider.focus()
        page.keyboard.press("ArrowRight")
        wait_for_another_picture(page, explorer, before)
    before = picture(explorer)
    explorer.locator("select").select_option("road")
    wait_for_another_picture(page, explorer, before)
    text = explorer.inner_text()
    assert re.search(r"road \(class 2|3\): \d+ pixels true", text), text
