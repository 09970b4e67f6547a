"""nbgrader in a student's JupyterLab: Validate answers in sentences, and the rest is not there."""

import json
import time
import urllib.request

import pytest
from test_lab_in_browser import cells, open_notebook

LESSONS = ["00_start_here", "06_unet_from_scratch"]


def notebook(lesson):
    return f"lessons/{lesson}/{lesson}.ipynb"


def files(folder):
    """Return what lies in a folder, hidden files left out, with the notebook's cells."""
    found = {path.name: path.read_bytes() for path in folder.glob("[!.]*") if path.is_file()}
    return {
        name: [cell["source"] for cell in json.loads(content)["cells"]]
        if name.endswith(".ipynb")
        else content
        for name, content in found.items()
    }


def click_validate(page):
    bar = page.get_by_role("toolbar", name="main area toolbar")
    bar.get_by_text("Validate", exact=True).click()


def seconds_to_answer(lab):
    """Return how long the server takes to say how it is."""
    started = time.monotonic()
    with urllib.request.urlopen(lab.address("api/status"), timeout=30) as answer:
        answer.read()
    return time.monotonic() - started


@pytest.mark.parametrize("lesson", LESSONS)
def test_validate_says_what_is_open_while_the_server_answers_others(page, lab, lesson):
    folder = lab.root / "lessons" / lesson
    before = files(folder)
    open_notebook(page, lab, notebook(lesson))
    click_validate(page)
    page.get_by_text("Validating...").wait_for()
    dialog = page.locator(".jp-Dialog")
    waits = []
    while dialog.count() == 0:
        waits.append(seconds_to_answer(lab))
        page.wait_for_timeout(100)
        assert len(waits) < 1000, "Validate does not end"
    assert len(waits) > 5, "it was over before anything was asked"
    assert max(waits) < 3, f"the server answered after {max(waits):.1f} s"
    text = dialog.inner_text()
    assert "The following cell failed" in text
    assert "not solved: the stub is still there" in text
    assert ("no trained model yet: run the training cell" in text) == lesson.startswith("06")
    assert "Traceback" not in text
    assert files(folder) == before
    page.locator(".jp-Dialog .jp-mod-accept").click()


def test_validate_praises_a_notebook_that_is_solved(page, lab):
    source = lab.root / "lessons" / "00_start_here"
    folder = lab.root / "lessons" / "00_solved"
    folder.mkdir(exist_ok=True)
    content = json.loads((source / "00_start_here.ipynb").read_text(encoding="utf-8"))
    wanted = {"imports", "class-at", "test-class-at"}
    content["cells"] = [cell for cell in content["cells"] if cell["id"] in wanted]
    for cell in content["cells"]:
        if cell["id"] == "class-at":
            stub = "".join(cell["source"])
            head = stub[: stub.index("    raise NotImplementedError")]
            cell["source"] = (
                f"{head}    number = mask[row, column]\n"
                "    return 'void' if number == VOID else classes[number]"
            )
    (folder / "00_solved.ipynb").write_text(json.dumps(content), encoding="utf-8")
    open_notebook(page, lab, "lessons/00_solved/00_solved.ipynb")
    click_validate(page)
    page.get_by_text("Your notebook passes all the tests").wait_for()
    page.locator(".jp-Dialog .jp-mod-accept").click()


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_that_was_only_opened_is_not_marked_as_changed(page, lab, lesson):
    open_notebook(page, lab, notebook(lesson))
    page.wait_for_timeout(2000)
    changed = page.locator(".lm-TabBar-tab.jp-mod-dirty")
    assert changed.count() == 0
    cells(page).first.locator(".cm-content").click()
    page.keyboard.type("#")
    changed.first.wait_for()  # so that is what it would look like
    page.keyboard.press("Backspace")
    page.keyboard.press("Control+s")


def nbgraders(page):
    return {
        "menu": page.locator(".lm-MenuBar-item").get_by_text("Nbgrader", exact=True).count(),
        "create": page.locator('.lm-TabBar-tab[data-id*="nbgrader-create"]').count(),
        "validate": page.locator(".validate-button").count(),
    }


def test_a_student_sees_of_nbgrader_validate_alone(page, lab):
    open_notebook(page, lab, notebook("00_start_here"))
    assert nbgraders(page) == {"menu": 0, "create": 0, "validate": 1}


def test_an_instructor_sees_all_of_nbgrader(instructors_lab, page):
    open_notebook(page, instructors_lab, notebook("00_start_here"))
    assert nbgraders(page) == {"menu": 1, "create": 1, "validate": 1}
    page.locator(".lm-MenuBar-item").get_by_text("Nbgrader", exact=True).click()
    page.locator(".lm-Menu-itemLabel").get_by_text("Formgrader", exact=True).wait_for()
    page.keyboard.press("Escape")
