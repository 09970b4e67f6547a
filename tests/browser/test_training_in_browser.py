"""The figure of a training: one output that changes, ends as a picture, and can be stopped."""

import os
import re
from pathlib import Path

import pytest
from test_lab_in_browser import cells, open_notebook, run_all, write_notebook

NET = """
import time
from torch import nn
from course_utils.data import scenes
from course_utils.training import fit
data = scenes.scenes(range(12), size=(48, 64))

class Slow(nn.Conv2d):
    def forward(self, x):
        time.sleep(0.15 * self.training)
        return super().forward(x)
"""
TRAINING = "history = fit(Slow(3, len(data.classes), 3, padding=1), data, data, batch_size=4, "


@pytest.fixture
def output(page, lab, request):
    """Open and run a notebook that trains; return the output area of its training."""
    name, last = request.param
    open_notebook(page, lab, write_notebook(lab, name, NET, TRAINING + last))
    run_all(page)
    return cells(page).nth(1).locator(".jp-OutputArea").first


def keep(page, name):
    if folder := os.environ.get("COURSE_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


@pytest.mark.parametrize("output", [("trains", "epochs=16)")], indirect=True)
def test_a_training_is_one_output_that_changes_and_stays_as_a_picture(page, output):
    bar = output.locator("progress")
    bar.wait_for()
    first = output.inner_text()
    assert re.match(r"epoch [1-3] of 16", first)
    page.wait_for_function("() => document.querySelector('progress')?.value > 0.2")
    assert output.locator(".jp-OutputArea-child").count() == 1
    text = output.inner_text()
    assert re.search(r"epoch \d+ of 16.* left", text), text
    assert "prediction" in output.locator("img").get_attribute("alt")
    keep(page, "training-runs")
    bar.wait_for(state="detached")
    assert output.locator(".jp-OutputArea-child").count() == 1
    assert "16 epochs in" in output.locator("img").get_attribute("alt")
    keep(page, "training-ended")


@pytest.mark.parametrize("output", [("stopped", "epochs=99, checkpoint='stop.pt')")], indirect=True)
def test_stop_keeps_what_was_done(page, lab, output):
    page.wait_for_function("() => document.querySelector('progress')?.value > 0.03")
    page.get_by_role("button", name="Interrupt the kernel").click()
    message = output.get_by_text("run this again to go on from there")
    message.wait_for()
    assert output.locator("progress").count() == 0
    assert "stopped after" in output.locator("img").get_attribute("alt")
    assert (lab.root / "stop.pt").exists()
    keep(page, "training-stopped")
