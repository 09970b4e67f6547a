"""A student at an exercise: a stub, a wrong answer, a hint, a right one; and where he stands."""

import json
import shutil

import pytest
from test_lab_in_browser import cells, open_notebook, run_all

LESSON = "lessons/00_start_here"
SWAPPED = "def class_at(mask, row, column, classes):\n    return classes[mask[column, row]]"
RIGHT = """def class_at(mask, row, column, classes):
    return "void" if mask[row, column] == VOID else classes[mask[row, column]]"""
# The contrast of two colours by WCAG 2; behind a text lies the nearest ground that is not clear.
CONTRAST = """element => {
    const light = color => {
        const [r, g, b] = color.match(/[\\d.]+/g).map(Number).map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    let behind = element;
    while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)")
        behind = behind.parentElement;
    const pair = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor]
        .map(light).sort((a, b) => b - a);
    return (pair[0] + 0.05) / (pair[1] + 0.05);
}"""


@pytest.fixture
def exercise(page, lab):
    """Open a copy of lesson 00, which has a kernel of its own, and run it up to the first stub."""
    name = f"{LESSON}/mine.ipynb"
    shutil.copy(lab.root / LESSON / "00_start_here.ipynb", lab.root / name)
    (lab.root / "progress.json").unlink(missing_ok=True)
    open_notebook(page, lab, name)
    run_all(page)
    card(page, "class_at: still a stub").wait_for()
    return name


def card(page, told):
    return page.locator(f'.jp-NotebookPanel:visible .course-card[aria-label="Check of {told}"]')


def cell_with(page, text):
    return cells(page).filter(has_text=text).first


def write(page, cell, source):
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(source)
    page.keyboard.press("Shift+Enter")


def ask(page):
    cell_with(page, "checks.class_at(class_at)").locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")


def test_from_a_stub_to_a_right_answer_and_what_status_says(page, lab, exercise):
    check = cell_with(page, "checks.class_at(class_at)")
    error = check.locator('.jp-OutputArea-output[data-mime-type$="stderr"]')
    assert error.inner_text().strip() == "NotImplementedError: class_at, see the card above."
    assert "hints" not in card(page, "class_at: still a stub").inner_text()

    stub = cell_with(page, "def class_at(")
    write(page, stub, SWAPPED)
    ask(page)
    wrong = card(page, "class_at: not yet right")
    wrong.wait_for()
    assert "row and column are swapped" in wrong.inner_text()
    assert "Two hints lie folded under the stub." in wrong.inner_text()
    assert "class_at = checks.class_at.lent()" in wrong.inner_text()
    assert error.inner_text().strip() == "CheckFailed: class_at, see the card above."

    hint = page.locator(".jp-NotebookPanel:visible details").filter(has_text="Hint 1").first
    inside = hint.get_by_text("What turns that number into a name")
    assert not inside.is_visible()
    hint.locator("summary").click()
    assert inside.is_visible()

    write(page, stub, RIGHT)
    ask(page)
    right = card(page, "class_at: passed")
    right.wait_for()
    assert "1 of 4 exercises passed, 1 of 5 points so far" in right.inner_text()
    assert error.count() == 0
    assert json.loads((lab.root / "progress.json").read_text())["00_start_here"]["test_class_at"]

    status = cell_with(page, "status.show()")
    status.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    row = status.locator("tr", has_text="00_start_here")
    row.wait_for()
    assert "1 of 4" in row.inner_text()
    status.get_by_role("link", name="02_metrics").click()
    page.get_by_role("tab", name="02_metrics.ipynb", selected=True).wait_for()


def test_an_answer_that_is_lent_lets_all_cells_run(page, lab, exercise):
    write(page, cell_with(page, "def class_at("), "class_at = checks.class_at.lent()")
    run_all(page)
    lent = card(page, "class_at: lent")
    lent.wait_for()
    assert "earns no points" in lent.inner_text()
    card(page, "count_pixels: still a stub").wait_for()  # the first that stops them


@pytest.fixture(params=["JupyterLab Light", "JupyterLab Dark"])
def theme(request, page, lab):
    address = lab.address("lab/api/settings/@jupyterlab/apputils-extension:themes")

    def choose(name):
        done = page.request.put(address, data={"raw": json.dumps({"theme": name})})
        assert done.ok, done.text()

    choose(request.param)
    yield request.param
    choose("JupyterLab Light")


def test_a_card_is_legible_in_both_themes(theme, page, exercise):
    shown = card(page, "class_at: still a stub")
    is_light = page.evaluate("document.body.dataset.jpThemeLight")
    assert is_light == str(theme == "JupyterLab Light").lower()
    assert shown.locator("div").first.evaluate(CONTRAST) > 4.5
    for answer, told in ((RIGHT, "passed"), (SWAPPED, "not yet right")):
        write(page, cell_with(page, "def class_at("), answer)
        ask(page)
        shown = card(page, f"class_at: {told}")
        shown.wait_for()
        shown.scroll_into_view_if_needed()
        assert shown.locator("span").first.evaluate(CONTRAST) > 3, told
        assert shown.locator("div").first.evaluate(CONTRAST) > 4.5, told


def test_a_word_of_a_lesson_leads_to_the_glossary(page, lab, exercise):
    page.locator(".jp-NotebookPanel:visible a", has_text="mask").first.click()
    heading = page.locator(".jp-MarkdownViewer h2", has_text="mask").first
    heading.wait_for()
    page.wait_for_timeout(500)
    assert 0 < heading.bounding_box()["y"] < 900
