"""What axe finds in what the course shows: nothing serious, in light and in dark.

axe-core tells what somebody cannot read or reach who sees little, or uses a keyboard or a screen
reader. JupyterLab's own frame is its authors' matter; asked here is what stands in a notebook.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import code_notebook

from course_utils.grading.gradebook import Mark, Marked
from course_utils.grading.report import html_pages
from course_utils.lab import lab_environment

LESSONS = sorted(path.name for path in (Path(__file__).parents[2] / "solutions").glob("[0-9]*"))
THEMES = ("light", "dark")
NET = "06_unet_from_scratch"
CONTENT = [".jp-NotebookPanel .jp-RenderedHTMLCommon", ".jp-NotebookPanel .jp-OutputArea-output"]
PLAY = """
import numpy as np
from course_utils import display
from course_utils.data import scenes
from course_utils.figures.metrics import swap_figure
from course_utils.widgets import overlay_explorer, play
data = scenes.scenes(range(3), size=(96, 128))
guess = np.where(data.masks == 255, 0, np.roll(data.masks, 3, axis=2)) % 10
overlay_explorer(data.images, data.masks, guess, data.classes)
play(lambda a1, a2, b1, b2: swap_figure((a1, a2), (b1, b2)), alt="two models", per_row=2,
     **{name: (0.0, 1.0, 0.01, 0.5) for name in ("a1", "a2", "b1", "b2")})
display.show_prediction(data.images[0], guess[0], data.masks[0], data.classes)
""".strip()


def found(page, *places):
    """Return what axe calls serious or critical in a page, or in some of its places."""
    axe = pytest.importorskip("axe_playwright_python")
    page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    problems = page.evaluate(
        "places => axe.run(places.length ? {include: places} : document,"
        " {resultTypes: ['violations']}).then(result => result.violations)",
        [[place] for place in places],
    )
    return [
        f"{one['impact']} {one['id']}: {node['html'][:200]} {node['failureSummary']}"
        for one in problems
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"][:3]
    ]


def without_network(page):
    """Give nothing for what nbconvert's pages fetch from elsewhere: MathJax and the like."""
    page.route(re.compile("^https?:"), lambda route: route.fulfill(body=""))


def switch_theme(page, name):
    """Choose JupyterLab's theme in its menu, and wait until it is there."""
    page.get_by_text("Settings", exact=True).click()
    page.get_by_text("Theme", exact=True).hover()
    page.get_by_text(f"JupyterLab {name}", exact=True).click()
    light = json.dumps(str(name == "Light").lower())
    page.wait_for_selector(f"body[data-jp-theme-light={light}]", state="attached")


@pytest.mark.parametrize("theme", THEMES, indirect=True)
def test_figures_to_play_with_have_names_and_texts_in_both_themes(page, lab, theme):
    (lab.root / "play.ipynb").write_text(json.dumps(code_notebook(PLAY)))
    page.goto(lab.address("lab/tree/play.ipynb") + "&reset")
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    light = json.dumps(str(theme == "light").lower())
    page.wait_for_selector(f"body[data-jp-theme-light={light}]", state="attached")
    page.locator(".jp-NotebookPanel:visible .jp-CodeCell").first.click()
    page.keyboard.press("Control+Enter")
    page.locator(".course-play").nth(1).locator("img").wait_for()
    page.get_by_role("slider", name="opacity").wait_for()
    assert found(page, ".jp-NotebookPanel .jp-OutputArea-output") == []
    for name in ("image", "a1", "a2", "b1", "b2"):
        assert page.get_by_role("slider", name=name, exact=True).count() == 1, name
    rows = [
        page.get_by_role("slider", name=name, exact=True).bounding_box()["y"]
        for name in ("a1", "a2", "b1", "b2")
    ]
    assert rows[0] == rows[1] < rows[2] == rows[3]
    picture = page.locator(".course-play img").first
    before = picture.get_attribute("alt")
    assert "mean IoU" in before
    page.get_by_role("combobox", name="class").select_option("pole")
    page.wait_for_function(
        "before => document.querySelector('.course-play img').alt !== before", arg=before
    )
    assert "pole (class" in picture.get_attribute("alt")


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_in_jupyterlab_in_both_themes(page, lab, kept, lesson):
    folder = lab.root / "executed"
    folder.mkdir(exist_ok=True)
    shutil.copy(kept.released(lesson) / "executed.ipynb", folder / f"{lesson}.ipynb")
    page.goto(lab.address(f"lab/tree/executed/{lesson}.ipynb") + "&reset")
    page.locator(".jp-NotebookPanel .jp-MarkdownOutput").nth(3).wait_for()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    assert page.locator(CONTENT[0]).count() > 10
    assert found(page, *CONTENT) == []
    switch_theme(page, "Dark")
    problems = found(page, *CONTENT)
    switch_theme(page, "Light")  # for the tests that follow
    assert problems == []


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_that_is_saved_as_html(page, kept, tmp_path, lesson):
    export = ["-m", "jupyter", "nbconvert", "--to", "html", f"--output-dir={tmp_path}"]
    subprocess.run(
        [sys.executable, *export, kept.released(lesson) / "executed.ipynb"],
        env=lab_environment(os.environ),
        check=True,
        capture_output=True,
    )
    without_network(page)
    page.goto((tmp_path / "executed.html").as_uri())
    assert page.locator("img").count() > 0
    assert found(page) == []


@pytest.mark.slow
def test_the_feedback(page, demo_run):
    without_network(page)
    for student in ("Ada-Excellent", "Cleo-Halfway", "Eve-Tamper"):
        path = demo_run.place / "grading" / "feedback" / student / NET / f"{NET}.html"
        page.goto(path.as_uri())
        assert page.locator("html").get_attribute("lang") == "en"
        assert found(page) == [], student


@pytest.mark.slow
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", [390, 800, 1400])
def test_the_class_report(page, demo_run, width, theme):
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=theme)
    page.goto((demo_run.place / "grading" / "report.html").as_uri())
    assert found(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    seen = page.locator(".bar, .classes, ul.wrong, figure img, td.total")
    assert seen.count() > 20
    for box in (one.bounding_box() for one in seen.all()):
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    for link in page.locator('a[href^="feedback/"]').all():
        assert (demo_run.place / "grading" / link.get_attribute("href")).exists()


@pytest.mark.parametrize("theme", THEMES)
def test_the_report_of_a_large_class_on_a_phone(page, tmp_path, theme):
    names = [f"Zoë {at:05d}" for at in range(10_000)]
    class_ = [Marked(f"s{at}", name, NET, {"a": Mark(1, 2)}, 1, 2) for at, name in enumerate(names)]
    class_[0].tampered = ["course_utils.metrics.iou"]
    for place, text in html_pages(class_, ["s1/06"]):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(text)
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme=theme)
    page.goto((tmp_path / "report.html").as_uri())
    page.get_by_role("searchbox", name="Find a student").fill("zoe 0999")
    assert page.locator("#told").inner_text() == "11 students"  # and 00999
    assert found(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#found a").nth(8).click()
    page.wait_for_url("**/report/students-*.html#s*")
    target = page.locator(":target")
    assert "Zoë 09997" in target.inner_text()
    assert target.bounding_box()["y"] < 844
    assert found(page) == []
    page.get_by_role("link", name=NET).first.click()
    page.wait_for_url(f"**/{NET}-*.html")
    assert found(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
