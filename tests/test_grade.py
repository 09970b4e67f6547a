"""Every hand-in gets the mark that it deserves and a reason, and none stops the others.

What follows from a notebook's cells alone is tested without kernels in ``test_marking.py``.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from PIL import Image
from traitlets.config import Config

from course_utils.errors import CourseError
from course_utils.files import tree_hash
from course_utils.grading import grade as grade_module
from course_utils.grading.grade import default_jobs, grade, result_folder
from course_utils.grading.gradebook import class_marks, register
from course_utils.grading.marking import job as job_module
from course_utils.grading.marking import nbgrader_setup, sandbox, warm
from course_utils.grading.marking.preprocessors import RemoveLinks
from course_utils.grading.marking.settings import Settings
from course_utils.grading.report import not_graded
from course_utils.grading.results import read_result
from course_utils.grading.workplace import marking_data, secret_seed
from course_utils.hand_in import tasks
from tests.mini_course import (
    HIDDEN,
    MINI,
    NET,
    add_model,
    code,
    hand_in,
    make_course,
    merge_result,
    mini_cells,
    net_cells,
    record_result,
    save,
    tiny_model,
)

pytestmark = pytest.mark.slow

RIGHT = "def double(x):\n    return 2 * x"
WRONG = "def double(x):\n    return 0"
SWALLOW = """
async def run_code(code, *result, **more):
    try:
        exec(code, shell.user_ns)
    except BaseException:
        pass
    return False
shell = get_ipython()
shell.run_code = run_code"""
SPY = """
import glob, os, socket, sys
def share():
    for place in ("/", "/tmp", "/root", "/home", {root!r}, {root!r} + "/grading", "..", "../..",
                  "../../.."):
        try:
            names = os.listdir(place)
        except OSError:
            continue
        for name in ("secret_seed", "gradebook.db", "solutions", "submitted"):
            if name in names:
                raise RuntimeError("sees " + place + "/" + name)
    for path in ({root!r} + "/grading/secret_seed", {root!r} + "/grading/gradebook.db",
                 "../../../gradebook.db", {root!r} + "/solutions/90_mini/90_mini.ipynb",
                 "/proc/%d/environ" % os.getppid()):
        try:
            open(path, "rb").read(1)
        except OSError:
            continue
        raise RuntimeError("reads " + path)
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.socket(family).connect(("127.0.0.1" if family == socket.AF_INET else "::1", 9))
        except ConnectionRefusedError:
            pass
        except OSError:
            continue
        raise RuntimeError("has a network")
    return 3.0
"""


# What a notebook may leave in its folder, or send, to stop or to fool what comes after it.
TRICKS = {
    "plants": "try:\n    os.remove(name)\n    os.symlink(kept, name)\n"
    "    os.symlink(kept, 'notes.txt')\nexcept PermissionError:\n    pass",
    "blocks": "os.remove(name)\nos.mkdir(name)",
    "buries": "os.chdir(os.path.expanduser('~'))\nfor _ in range(1500):\n    os.mkdir('d')\n"
    "    os.chdir('d')",
    "pipes, scripts and digs": "try:\n    os.mkfifo('pipe')\nexcept PermissionError:\n    pass\n"
    "from IPython.display import HTML, display\n"
    "display(HTML('<script>mischief()</script>'))\n"
    "size = {'width': '1 onload=mischief()', 'height': 7, 'alt': 'a dot'}\n"
    "display({'image/png': 'iVBORw0KGgo='}, raw=True, metadata={'image/png': size})\n"
    "for _ in range(1500):\n    os.mkdir('d')\n    os.chdir('d')",
}


def nothing_but_sources(notebook: dict) -> dict:
    """Return what a script makes of a notebook."""
    notebook["metadata"] = {"kernelspec": None}
    for cell in notebook["cells"]:
        for key in ("outputs", "execution_count", "id"):
            cell.pop(key, None)
    del notebook["cells"][0]["metadata"]
    return notebook


# What runs in a student's own Jupyter, and so must not cost a mark here.
HARMLESS = {
    "prints": "import builtins, sys\nbuiltins.print = lambda *args, **more: None\n"
    "class Tee:\n    def write(self, text): pass\n"
    "sys.stdout = Tee()\nsys.stderr = None",
    "clears, updates and shows": "from IPython.display import clear_output, display\n"
    "print('before')\nbar = display('0 %', display_id=True)\nprint('after')\n"
    "def told(x):\n    clear_output(wait=True); bar.update('50 %'); clear_output()\n"
    "    try: 1 / 0\n    except Exception: get_ipython().showtraceback()\n    return 2 * x",
    "installs, writes and moves": "!pip install -q numpy\n%pip install numpy\n"
    "files = !ls\nlen(files)\n"
    "open('my_helpers.py', 'w').write('two = 2')\nimport my_helpers\n"
    "import os\nos.makedirs('figures', exist_ok=True)\nos.chdir('figures')\n"
    "open('n.txt', 'w').write('3')",
}

SHOWN = "def share():\n    bar.update('100 %')\n    told(1)\n    return 3.0"
# Where the text of a test lies while it runs.
READS = """import linecache
shell = get_ipython()
told = [In, linecache.cache, shell.history_manager.input_hist_raw, shell.last_execution_result]
found = "the secret of the" + " universe" in str(told)
def share():
    return 0.0 if found else 3.0"""
ANSWERS = """kernel = get_ipython().kernel
def share():
    told, ident = {"status": "ok", "execution_count": 1}, kernel._parent_ident["shell"]
    kernel.session.send(kernel.shell_stream, "execute_reply", told, kernel.get_parent(), ident)
    raise ValueError"""
THREADS = """import threading, time
threading.stack_size(1 << 16)
for _ in range(1500):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
time.sleep(3)"""

# What a browser would run if it were shown as the markdown that it is, and a picture that is gone.
MARKUP = """Because <script>mischief()</script> <img src=x onerror=mischief()>
[a](java&#115;cript:mischief()) [b](javascript:mischief()) $\\href{javascript:mischief()}{x}$
![image.png](attachment:image.png)

```mermaid
<img src=x onerror=mischief()>
```"""


def bounds(monkeypatch, folder: Path, low: float, high: float) -> None:
    """Put other bounds into this process's tasks.toml."""
    text = (Path(tasks.__file__).parent / "tasks.toml").read_text()
    head, _, tail = text.partition("[unet.quick]")
    first, _, rest = tail.partition("[unet.full]")
    lines = [line for line in first.splitlines() if not line.startswith(("floor", "low", "high"))]
    middle = "\n".join(lines) + f"\nfloor = 0.001\nlow = {low}\nhigh = {high}\n"
    path = folder / f"tasks-{low}.toml"
    path.write_text(f"{head}[unet.quick]{middle}\n[unet.full]{rest}")
    monkeypatch.setattr(tasks, "_FILE", path)
    tasks._entries.cache_clear()


@pytest.fixture(scope="module")
def monkeymodule():
    with pytest.MonkeyPatch.context() as patch:
        yield patch
    tasks._entries.cache_clear()


@pytest.fixture(scope="module", params=["forked", "anew"])
def course(request, tmp_path_factory, monkeymodule):
    """Return a course whose class of good, hurried and hostile students has been graded."""
    monkeymodule.setenv(warm.SWITCH, str(int(request.param == "forked")))
    root = make_course(tmp_path_factory.mktemp("course"))
    short = partial(Settings, cell_seconds=10, notebook_seconds=60)
    monkeymodule.setattr(grade_module, "Settings", short)
    hand_in(root, "good", double=RIGHT)
    hand_in(root, "stub", double="def double(x):\n    raise NotImplementedError()")
    hand_in(root, "exit", share="import os; os._exit(0)")
    hand_in(root, "sysexit", share="import sys; sys.exit(0)")
    hand_in(root, "loop", share="while True: pass")
    hand_in(
        root,
        "stubborn",
        share="while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    )
    hand_in(root, "fills", share="for i in range(10**6): open(str(i), 'w').close()")
    # ... and in so short a time that nobody looks in between.
    hand_in(root, "bursts", share="import os\nfor i in range(21_000): os.mkdir(str(i))")
    for name, value in {
        "text": "'3.0'",
        "long": "'3' * 3_000_000",
        "endless": "'3' * 60_000_000",
    }.items():
        hand_in(root, f"odd-{name}", share=f"def share(): return {value}")
    hand_in(
        root, "noisy", share="import sys\ndef share():\n    sys.stderr.write('hm')\n    return 1.5"
    )
    hand_in(root, "spy", share=SPY.format(root=str(root)))
    hand_in(
        root,
        "empties",
        double=WRONG + "\nget_ipython().input_transformers_post.append(lambda lines: [])",
    )
    hand_in(root, "swallows", double=WRONG + SWALLOW)
    hand_in(
        root,
        "patches",
        double=RIGHT
        + "\nfrom course_utils.metrics import ConfusionMatrix\n"
        + "ConfusionMatrix.mean_iou = lambda self: 1.0",
    )
    damaged = mini_cells()
    damaged[1]["source"] = WRONG
    damaged[2]["metadata"]["tags"] = ["skip-execution"]
    damaged[2]["metadata"]["nbgrader"]["points"] = 100
    damaged[2]["source"] = "pass"
    save(root / "grading/submitted/skips" / MINI / f"{MINI}.ipynb", damaged)
    imports = mini_cells()
    imports.insert(1, code("imports", "import no_such_module\nimport math"))
    imports[4]["source"] = "def share(): return math.sqrt(9)"
    save(root / "grading/submitted/imports" / MINI / f"{MINI}.ipynb", imports)
    hand_in(root, "broken")
    (root / "grading/submitted/broken" / MINI / f"{MINI}.ipynb").write_text('{"cells": [')
    folder = hand_in(root, "shadow", share="import random\ndef share():\n    return random.three()")
    (folder / "random.py").write_text("def three(): return 3.0\n")
    secret_seed(root)
    (folder / "seed.txt").symlink_to(root / "grading" / "secret_seed")
    (root / "kept.txt").write_text("the instructor's")
    for name, trick in TRICKS.items():
        before = f"import os\nname, kept = '{MINI}.ipynb', {str(root / 'kept.txt')!r}\n"
        hand_in(root, name, double=f"{before}{trick}\n{RIGHT}", why=MARKUP)
    for name, lines in HARMLESS.items():
        hand_in(root, name, double=f"{lines}\n{RIGHT}")
    shows = "clears, updates and shows"
    hand_in(root, shows, double=f"{HARMLESS[shows]}\ndouble = told", share=SHOWN)
    hand_in(root, "hurries", share="import os, time\ndef share(): time.sleep(1); os._exit(0)")
    hand_in(root, "reads tests", share=READS)
    hand_in(root, "answers", share=ANSWERS)
    hand_in(root, "threads", share=THREADS)
    hand_in(root, "breaks", share="get_ipython().kernel.do_execute = None")
    moves = "installs, writes and moves"
    reads = "def share():\n    return float(open('n.txt').read())"
    hand_in(root, moves, double=f"{HARMLESS[moves]}\n{RIGHT}", share=reads)
    script = hand_in(root, "script", double=RIGHT) / f"{MINI}.ipynb"
    script.write_text(json.dumps(nothing_but_sources(json.loads(script.read_text()))))
    odd = hand_in(root, "odd", double=RIGHT) / f"{MINI}.ipynb"
    notebook = json.loads(odd.read_text())
    notebook["cells"][0] |= {"cell_type": "markdown", "attachments": {"picture": 3}}
    notebook["cells"].insert(0, {"cell_type": "slide", "source": 3})
    odd.write_text(json.dumps(notebook))

    add_model(hand_in(root, "good", NET), tiny_model(3))
    add_model(hand_in(root, "claims", NET, train="print('IoU 1.0')\nscore = 1"), tiny_model(0))
    hand_in(root, "nomodel", NET)
    folder = hand_in(root, "pickle", NET)
    (folder / "models").mkdir()
    (folder / "models" / "unet.onnx").write_bytes(b"\x80\x04K\x01.")
    folder = hand_in(root, "renamed", NET)
    (folder / "models").mkdir()
    (folder / "models" / "unet.pth").write_bytes(b"\x80\x04K\x01.")
    (folder / "models" / "<img src=x onerror=mischief()>.pt").write_bytes(b"\x80\x04K\x01.")
    folder = hand_in(root, "onlymodel", NET)
    add_model(folder, tiny_model(3))
    (folder / f"{NET}.ipynb").unlink()
    bounds(monkeymodule, root, 0.01, 0.06)
    marked = grade(root=root)
    return root, {(one.student, one.lesson): one for one in marked}


def score(course, student, cell, lesson=MINI):
    return course[1][student, lesson].marks[cell].score


def test_each_exercise_counts_for_itself(course):
    assert score(course, "good", "test_double") == 2
    assert score(course, "good", "test_share") == 3
    assert score(course, "stub", "test_double") == 0
    assert score(course, "stub", "test_share") == 3
    assert "stub is still there" in "; ".join(course[1]["stub", MINI].remarks)


def test_a_name_that_is_missing_is_traced_to_the_cell_that_stops(course):
    told = "; ".join(course[1]["imports", MINI].remarks)
    assert "test_share: NameError: name 'math' is not defined; an earlier cell stops: Mod" in told


def test_an_answer_in_words_waits_for_a_person(course):
    assert course[1]["good", MINI].needs_hand
    assert score(course, "good", "why") is None


@pytest.mark.parametrize("student", ["exit", "loop", "stubborn"])
def test_what_ends_the_kernel_costs_only_what_came_after(course, student):
    assert score(course, student, "test_double") == 2
    assert score(course, student, "test_share") == 0
    assert course[1][student, MINI].remarks


def test_who_ends_the_kernel_inside_a_test_does_not_pass_it(course):
    assert score(course, "hurries", "test_double") == 2
    assert score(course, "hurries", "test_share") == 0
    assert "the kernel ended in this cell" in "; ".join(course[1]["hurries", MINI].remarks)


def test_the_text_of_a_hidden_test_is_out_of_reach_after_it(course):
    assert score(course, "reads tests", "test_share") == 3


def test_an_answer_that_a_cell_gives_itself_does_not_pass_a_test(course):
    assert score(course, "answers", "test_double") == 2
    assert score(course, "answers", "test_share") == 0
    assert course[1]["answers", MINI].tampered == ["the kernel's answer"]


def test_a_kernel_that_ends_its_cells_without_an_answer_is_not_waited_for(course):
    assert score(course, "breaks", "test_double") == 2
    told = "an earlier cell broke the kernel, which answers no more"
    assert course[1]["breaks", MINI].remarks[0] == told


def test_a_flood_of_threads_is_stopped_and_told(course):
    assert score(course, "threads", "test_double") == 2
    assert course[1]["threads", MINI].remarks == ["an earlier cell started more than 1,000 threads"]


@pytest.mark.parametrize("student", ["fills", "bursts"])
def test_a_notebook_that_writes_without_end_is_stopped(course, student):
    assert score(course, student, "test_double") == 2
    assert score(course, student, "test_share") == 0
    told = "an earlier cell wrote more than 2 GB or 20,000 files"
    assert course[1][student, MINI].remarks == [told]


def test_sys_exit_costs_its_own_exercise(course):
    assert score(course, "sysexit", "test_double") == 2
    assert score(course, "sysexit", "test_share") == 0


def test_a_text_as_value_of_a_test_cell_gives_nothing(course):
    assert score(course, "odd-text", "test_share") == 0
    assert "the test gave" in "; ".join(course[1]["odd-text", MINI].remarks)


def test_a_plain_number_gives_part_of_the_points_and_warnings_cost_nothing(course):
    assert score(course, "noisy", "test_share") == 1.5


def test_a_notebook_sees_neither_secret_nor_gradebook_nor_network(course):
    if sandbox.isolation_level() == sandbox.LIMITS:
        pytest.skip("no sandbox on this machine")
    assert score(course, "spy", "test_share") == 3, course[1]["spy", MINI].remarks


def test_emptied_test_cells_give_nothing(course):
    assert score(course, "empties", "test_double") == 0
    assert "did not run as written" in "; ".join(course[1]["empties", MINI].remarks)


def test_a_shell_that_swallows_errors_gives_nothing_and_is_named(course):
    assert course[1]["good", MINI].tampered == []
    assert course[1]["swallows", MINI].tampered == ["IPython's run_code"]
    assert score(course, "swallows", "test_double") == 0


def test_a_patched_metric_is_named(course):
    assert course[1]["patches", MINI].tampered == ["course_utils.metrics.ConfusionMatrix.mean_iou"]
    assert score(course, "patches", "test_double") == 2


def test_tags_points_and_sources_are_restored(course):
    assert score(course, "skips", "test_double") == 0
    assert course[1]["skips", MINI].points == 6


def test_a_broken_notebook_is_told_and_scores_nothing(course):
    assert "not a whole notebook" in course[1]["broken", MINI].problem
    assert course[1]["broken", MINI].total == 0


def test_a_module_beside_the_notebook_shadows_nothing(course):
    assert score(course, "shadow", "test_share") == 0


def test_a_link_brings_no_file_of_the_instructor(course):
    root, marked = course
    assert ("shadow", MINI) in marked
    seed = str(secret_seed(root)).encode()
    for name in ("results", "autograded", "feedback"):
        for path in (root / "grading" / name).rglob("*"):
            assert path.is_dir() or seed not in path.read_bytes(), path


@pytest.mark.parametrize("student", TRICKS)
def test_what_a_notebook_leaves_behind_harms_nobody(course, student):
    root, _ = course
    assert score(course, student, "test_double") == 2
    assert score(course, student, "test_share") == 3
    assert (root / "kept.txt").read_text() == "the instructor's"
    require_harmless(root / "grading" / "feedback" / student / MINI / f"{MINI}.html")


def test_the_name_of_a_file_harms_nobody(course):
    require_harmless(course[0] / "grading" / "feedback" / "renamed" / NET / f"{NET}.html")


def test_formgrader_shows_nothing_that_runs(course):
    """It shows the executed notebook by the same exporter, inside of the instructor's Jupyter."""
    from nbconvert.exporters import HTMLExporter
    from nbgrader.server_extensions.formgrader import formgrader

    root, _ = course
    config = Config()
    nbgrader_setup.configure(config, root)
    templates = Path(formgrader.__file__).parent / "templates"
    exporter = HTMLExporter(
        config=config, template_name="formgrade", extra_template_basedirs=[str(templates)]
    )
    path = root / "grading" / "autograded" / "pipes, scripts and digs" / MINI / f"{MINI}.ipynb"
    require_harmless(exporter.from_filename(str(path), resources={"index": 0, "total": 1})[0])


def require_harmless(page):
    text = page.read_text() if isinstance(page, Path) else page
    assert "mischief" in text
    soup = BeautifulSoup(text, "html.parser")
    for tag in soup.find_all(True):
        told = " ".join(str(value) for key, value in tag.attrs.items() if key != "alt")
        assert "mischief" not in told, tag
        assert tag.name != "script" or "mischief" not in tag.text
    assert ",Safe" in text  # MathJax's own extension


def test_a_notebook_that_cannot_be_read_is_told_to_the_student(course):
    page = course[0] / "grading" / "feedback" / "broken" / MINI / f"{MINI}.html"
    assert "This notebook was not marked:" in page.read_text()


@pytest.mark.parametrize("student", ["script", "odd", *HARMLESS])
def test_what_other_programs_and_harmless_lines_do_costs_nothing(course, student):
    found = course[1][student, MINI]
    assert (score(course, student, "test_double"), score(course, student, "test_share")) == (2, 3)
    assert not found.problem
    assert not found.tampered


def test_values_are_cut_and_never_dropped(course):
    assert score(course, "odd-long", "test_share") == 0
    assert score(course, "odd-endless", "test_share") == 0


def test_a_task_is_marked_by_its_model_file_whatever_the_notebook_prints(course):
    good, claims = course[1]["good", NET], course[1]["claims", NET]
    (record,) = good.tasks
    assert 0.01 < record["iou"] < 0.06
    assert good.marks["task_unet"].score == pytest.approx(10 * (record["iou"] - 0.01) / 0.05)
    assert 0 < good.marks["task_unet"].score < 10
    assert claims.tasks[0]["iou"] != record["iou"]
    assert record["interval"][0] <= record["iou"] <= record["interval"][1]


@pytest.mark.parametrize(
    ("student", "reason"),
    [
        ("nomodel", "no file models/unet.onnx"),
        ("pickle", "a pickle"),
        ("renamed", "unet.pth: a pickle"),
    ],
)
def test_a_refused_model_file_gets_its_reason(course, student, reason):
    assert score(course, student, "task_unet", NET) == 0
    assert reason in "; ".join(course[1][student, NET].remarks)


def test_a_model_without_its_notebook_still_counts(course):
    one = course[1]["onlymodel", NET]
    assert one.problem.startswith("there is no 06_unet_from_scratch.ipynb")
    assert one.marks["task_unet"].score == score(course, "good", "task_unet", NET)


def test_equal_model_files_are_told(course):
    assert course[1]["good", NET].same_model_as == ["onlymodel"]


def test_feedback_shows_reasons_but_no_hidden_test(course):
    root, _ = course
    for student, lesson in [("stub", MINI), ("good", MINI), ("skips", MINI)]:
        page = (root / "grading/feedback" / student / lesson / f"{lesson}.html").read_text()
        assert "secret of the universe" not in page
        assert HIDDEN not in page
        assert "double(21)" not in page
    page = (root / "grading/feedback/good" / NET / f"{NET}.html").read_text()
    assert "mean IoU 0.0" in page
    assert "max-width: 100%" in page  # figures fit a narrow window


def test_a_second_run_grades_nothing_again(course, monkeypatch):
    root, marked = course

    def never(*_):
        raise AssertionError("a job was started")

    monkeypatch.setattr(grade_module, "_run_job", never)
    again = {(one.student, one.lesson): one for one in grade(root=root)}
    assert {key: one.total for key, one in again.items()} == {
        key: one.total for key, one in marked.items()
    }


def test_another_bound_changes_marks_without_running_a_model(course, monkeypatch, tmp_path):
    root, marked = course
    monkeypatch.setattr(grade_module, "_run_job", None)
    try:
        bounds(monkeypatch, tmp_path, 0.002, 0.003)
        changed = f"good/{NET} (the task's points or bounds have changed since)"
        assert changed in not_graded(root, class_marks(root))
        again = {(one.student, one.lesson): one for one in grade([NET], root=root)}
        assert changed not in not_graded(root, class_marks(root))
        assert again["good", NET].total == 10 > marked["good", NET].total
        page = (root / "grading/feedback/good" / NET / f"{NET}.html").read_text()
        assert "10 of 10 points" in page
        assert "full at 0.003" in page
        assert "full at 0.06" not in page  # neither in the cell nor in the comment
    finally:
        monkeypatch.undo()
        tasks._entries.cache_clear()
        grade([NET], root=root)


def test_a_mark_by_hand_survives(course):
    from nbgrader.api import Gradebook

    root, _ = course
    with Gradebook(nbgrader_setup.gradebook_url(root)) as gradebook:
        gradebook.find_grade("why", MINI, MINI, "good").manual_score = 0.5
        gradebook.find_grade("test_double", MINI, MINI, "stub").manual_score = 1
        gradebook.db.commit()
    grade([MINI], root=root)
    again = {one.student: one for one in class_marks(root) if one.lesson == MINI}
    assert again["good"].marks["why"].score == 0.5
    assert again["stub"].marks["test_double"].score == 1


def test_a_hand_in_that_is_replaced_while_the_class_is_graded_is_told(course):
    """Its files may be older than the grader's: what was marked is known by its hash."""
    root, _ = course
    path = root / "grading" / "submitted" / "stub" / MINI / f"{MINI}.ipynb"
    before, facts = path.read_text(), path.stat()
    words = f"stub/{MINI} (handed in anew, the mark is of the old one)"
    assert words not in not_graded(root, class_marks(root))
    path.write_text(before + "\n")
    os.utime(path, (facts.st_atime, facts.st_mtime))
    try:
        assert words in not_graded(root, class_marks(root))
    finally:
        path.write_text(before)


def test_a_job_whose_hand_in_has_changed_leaves_no_result(tmp_path, monkeypatch):
    root = make_course(tmp_path / "course")
    path = hand_in(root, "good") / f"{MINI}.ipynb"
    real = grade_module._run_job

    def late(*arguments):
        path.write_text(path.read_text() + "\n")
        real(*arguments)

    monkeypatch.setattr(grade_module, "_run_job", late)
    with pytest.raises(CourseError, match=r"good/.* because a newer hand-in took its place"):
        grade(root=root)
    assert not list((root / "grading" / "results").rglob("result.json"))


def test_a_hand_in_replaced_before_its_job_is_made_is_not_stored_as_the_old_one(
    tmp_path, monkeypatch
):
    root = make_course(tmp_path / "course")
    path = hand_in(root, "good") / f"{MINI}.ipynb"
    old, real = result_folder(root, "good", MINI), grade_module.register

    def register(*arguments):
        real(*arguments)
        if len(arguments) == 3:  # the last step before the jobs
            path.write_text(path.read_text() + "\n")

    monkeypatch.setattr(grade_module, "register", register)
    with pytest.raises(CourseError, match="a newer hand-in took its place"):
        grade(root=root)
    assert not old.exists()


def test_a_failure_of_the_machine_costs_nobody_his_marks(tmp_path, monkeypatch):
    root = make_course(tmp_path / "course")
    folder = hand_in(root, "good")
    register(root, [MINI])
    real, tries = nbgrader_setup.make_api, []

    def make_api(config):
        api = real(config)
        autograde = api.autograde

        def once_full(*arguments, **options):
            tries.append(1)
            if len(tries) == 1:
                return {"success": False, "log": "OSError: No space left on device"}
            return autograde(*arguments, **options)

        api.autograde = once_full
        return api

    monkeypatch.setattr(nbgrader_setup, "make_api", make_api)
    (tmp_path / "output").mkdir()
    (tmp_path / "job").mkdir()
    result = job_module.run(
        job_module.Job(
            student="good",
            lesson=MINI,
            handed_in=str(folder),
            hand_in_hash=tree_hash(folder),
            gradebook=str(root / "grading" / "gradebook.db"),
            output=str(tmp_path / "output"),
            settings=Settings(root),
        ),
        tmp_path / "job",
    )
    assert result["problem"] is None
    assert [one["score"] for one in result["exercises"].values()] == [2, 3, None]


@pytest.mark.parametrize("student", ["good", "claims", "pickle", "nomodel"])
def test_plain_nbgrader_gives_the_same_marks(course, student, monkeypatch):
    from nbgrader.api import Gradebook
    from nbgrader.apps import AutogradeApp

    root, marked = course
    shutil.copy(Path(__file__).parents[1] / "nbgrader_config.py", root)
    url = nbgrader_setup.gradebook_url(root)
    with Gradebook(url) as gradebook:
        gradebook.find_grade("task_unet", NET, NET, student).auto_score = None
        gradebook.db.commit()
    monkeypatch.chdir(root)
    app = AutogradeApp()
    app.initialize([NET, "--student", student, "--force"])
    app.start()
    with Gradebook(url) as gradebook:
        found = gradebook.find_grade("task_unet", NET, NET, student).auto_score
    assert found == pytest.approx(marked[student, NET].marks["task_unet"].score)


def test_a_wrong_mask_in_the_instructors_folder_is_told_before_anything_runs(tmp_path, monkeypatch):
    root = make_course(tmp_path / "course")
    hand_in(root, "good")
    add_model(hand_in(root, "good", NET))
    monkeypatch.setattr(grade_module, "_run_job", lambda *job: pytest.fail("a job was started"))
    for folder in ("images", "masks"):
        (tmp_path / "own" / folder).mkdir(parents=True)
    Image.new("RGB", (48, 32)).save(tmp_path / "own" / "images" / "a.png")
    for value, words in ((77, r"masks/a\.png.*77"), (255, "every pixel of every mask is void")):
        Image.new("L", (48, 32), value).save(tmp_path / "own" / "masks" / "a.png")
        with pytest.raises(CourseError, match=words):
            grade(data=tmp_path / "own", root=root)
        assert marking_data(root) is None


def test_the_folder_to_mark_on_is_kept_for_later_runs_and_for_nbgrader(tmp_path, monkeypatch):
    root = make_course(tmp_path / "course")
    hand_in(root, "good")
    hand_in(root, "good", NET)
    own, given = tmp_path / "own", []
    for folder in ("images", "masks"):
        (own / folder).mkdir(parents=True)
    Image.new("RGB", (48, 32)).save(own / "images" / "a.png")
    Image.new("L", (48, 32), 1).save(own / "masks" / "a.png")

    def job(job, target, threads):
        given.append(job.settings.data)
        raise RuntimeError("enough")

    monkeypatch.setattr(grade_module, "_run_job", job)
    monkeypatch.chdir(tmp_path)
    for data in (None, Path("own"), None):
        with pytest.raises(CourseError, match="enough"):
            grade([NET], data=data, root=root)
    assert given == [None, own, own]
    config = Config()
    nbgrader_setup.configure(config, root)
    assert config.ScoreTasks.settings.data == own
    assert own in config.SandboxedExecute.settings.private_places
    own.rename(tmp_path / "elsewhere")
    with pytest.raises(CourseError, match=r"own is no folder.*delete .*marking_data to mark on"):
        grade([NET], root=root)
    with pytest.raises(CourseError, match="enough"):
        grade([MINI], root=root)  # it has no model
    assert given[-1] is None


def test_a_job_that_fails_is_told_and_the_others_are_graded(tmp_path, monkeypatch):
    root = make_course(tmp_path / "course")
    hand_in(root, "good")
    hand_in(root, "unlucky")
    real = grade_module._run_job

    def sometimes(job, target, threads):
        if job.student == "unlucky":
            raise RuntimeError("out of memory")
        real(job, target, threads)

    monkeypatch.setattr(grade_module, "_run_job", sometimes)
    with pytest.raises(CourseError, match=r"graded: unlucky/.* The first because out of memory"):
        grade(root=root)
    assert "out of memory" in (root / "grading" / "failures.log").read_text()
    assert [one.student for one in class_marks(root)] == ["good"]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_kills_the_jobs_and_says_how_to_go_on(tmp_path, monkeypatch, capsys, request):
    # what a shell starts in the background ignores it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    root = make_course(tmp_path / "course")
    places = Path(tempfile.mkdtemp(prefix="t-"))
    monkeypatch.setattr(tempfile, "tempdir", str(places))
    hand_in(root, "ada")
    hand_in(root, "bob")
    children = []

    def interrupt():
        deadline = time.monotonic() + 60
        while not any(places.glob("course-*/j-*/*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        children.extend(grade_module._children)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        grade(root=root, jobs=1)
    assert [child.poll() for child in children] == [-signal.SIGKILL]
    assert not grade_module._children
    assert not list((root / "grading").glob(".grade-*"))
    places.rmdir()  # nothing is left in it
    assert "Stopped; 0 of 2 hand-ins are done and kept. Run the" in capsys.readouterr().out


def test_an_executor_of_the_caller_is_left_running(tmp_path, monkeypatch):
    root = make_course(tmp_path / "course")
    hand_in(root, "ada")

    def broken(futures):
        raise RuntimeError("broken")

    monkeypatch.setattr(grade_module, "_run_job", lambda *job: None)
    monkeypatch.setattr(grade_module, "as_completed", broken)
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(RuntimeError, match="broken"):
            grade(root=root, executor=pool)
        assert pool.submit(int).result() == 0


@pytest.mark.skipif(os.name != "posix", reason="locks")
def test_what_a_killed_run_has_left_is_removed_but_not_a_living_runs(tmp_path):
    (tmp_path / ".grade-killed").mkdir()
    (tmp_path / ".grade-killed" / "x").write_text("x")
    with grade_module._scratch(tmp_path) as first:
        assert [path for path in tmp_path.iterdir() if path.is_dir()] == [first]
        with grade_module._scratch(tmp_path) as second:
            assert first.exists()
            assert second != first
    assert [path.name for path in tmp_path.iterdir()] == [".grade.lock"]


def test_a_damaged_result_does_not_stop_the_merging_of_others(tmp_path, monkeypatch):
    root = make_course(tmp_path / "course")
    for student in ("ada", "bob", "eve"):
        hand_in(root, student)
    merged = []

    def job(job, target, threads):
        record_result(target, job.student, job.lesson)
        if job.student == "bob":
            (target / "result.json").write_text("{")

    def merge(root, folder, *opened):
        read_result(folder)
        merged.append(folder.parent.name)

    monkeypatch.setattr(grade_module, "_run_job", job)
    monkeypatch.setattr(grade_module, "merge", merge)
    monkeypatch.setattr(grade_module, "class_marks", lambda root: [])
    with pytest.raises(CourseError, match=r"1 of 3 .*: bob/.* its stored result was damaged"):
        grade(root=root)
    assert merged == ["ada", "eve"]
    assert not result_folder(root, "bob", MINI).exists()
    assert result_folder(root, "ada", MINI).exists()


def test_links_are_removed_before_plain_nbgrader_follows_them(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    folder = tmp_path / "submitted" / "ada" / MINI
    folder.mkdir(parents=True)
    (folder / "a.txt").symlink_to(secret)
    (folder / "b").symlink_to(tmp_path)
    (folder / "c.txt").write_text("c")
    RemoveLinks(tmp_path / "submitted")(assignment=MINI, student="*", notebooks=[])
    assert [path.name for path in folder.iterdir()] == ["c.txt"]
    assert secret.exists()


def test_marked_cells_cannot_change_under_graded_hand_ins(tmp_path):
    root = make_course(tmp_path / "course")
    hand_in(root, "good")
    merge_result(root, "good", MINI)
    save(root / "solutions" / MINI / f"{MINI}.ipynb", mini_cells()[:3])
    with pytest.raises(CourseError, match="gained or lost marked cells"):
        grade(root=root)


def test_points_that_differ_from_the_tasks_cell_stop_the_grading(tmp_path, monkeypatch):
    root = make_course(tmp_path / "course")
    hand_in(root, "good", NET)
    register(root, [NET])  # and graded, before the points were changed
    result_folder(root, "good", NET).mkdir(parents=True)
    (result_folder(root, "good", NET) / "result.json").write_text("{}")
    text = (Path(tasks.__file__).parent / "tasks.toml").read_text()
    head, unet, rest = text.partition("[unet]")
    (tmp_path / "tasks.toml").write_text(
        head + unet + rest.replace("points = 10", "points = 20", 1)
    )
    monkeypatch.setattr(tasks, "_FILE", tmp_path / "tasks.toml")
    monkeypatch.setattr(grade_module, "merge", lambda *_: pytest.fail("marks were merged"))
    tasks._entries.cache_clear()
    try:
        with pytest.raises(CourseError, match=r"task_unet of 20 points \(found 10\)"):
            grade(root=root)
    finally:
        monkeypatch.undo()
        tasks._entries.cache_clear()


def test_a_changed_hand_in_has_another_result(tmp_path):
    root = make_course(tmp_path / "course")
    folder = hand_in(root, "good")
    before = result_folder(root, "good", MINI)
    (folder / "timestamp.txt").write_text("2026-01-01 00:00:00 UTC\n")
    assert result_folder(root, "good", MINI) == before
    for place in (folder, root / "solutions" / MINI):  # opened in JupyterLab
        (place / ".ipynb_checkpoints").mkdir()
        (place / ".ipynb_checkpoints" / f"{MINI}-checkpoint.ipynb").write_text("{}")
    assert result_folder(root, "good", MINI) == before
    (folder / "more.txt").write_text("more")
    assert result_folder(root, "good", MINI) != before


def test_other_limits_of_a_task_make_another_result(tmp_path, monkeypatch):
    root = make_course(tmp_path / "course")
    hand_in(root, "good", NET)
    before = result_folder(root, "good", NET)
    text = (Path(tasks.__file__).parent / "tasks.toml").read_text()
    changed = re.sub(r"(?m)^max_megabytes = .*$", "max_megabytes = 99", text)
    assert changed != text
    (tmp_path / "tasks.toml").write_text(changed)
    monkeypatch.setattr(tasks, "_FILE", tmp_path / "tasks.toml")
    tasks._entries.cache_clear()
    try:
        assert result_folder(root, "good", NET) != before
    finally:
        monkeypatch.undo()
        tasks._entries.cache_clear()


def test_a_job_has_time_for_a_model_of_either_profile():
    seconds = tasks.get_task("unet", "full").seconds
    assert grade_module._time_limit(NET, 900) > 2 * 900 + seconds


def test_a_folder_of_images_matters_to_lessons_with_a_model_only(tmp_path, monkeypatch):
    root = make_course(tmp_path / "course")
    for lesson in (MINI, NET):
        hand_in(root, "good", lesson)
    own = tmp_path / "own"
    own.mkdir()
    (own / "image.png").write_bytes(b"")
    assert result_folder(root, "good", MINI, own) == result_folder(root, "good", MINI)
    assert result_folder(root, "good", NET, own) != result_folder(root, "good", NET)
    monkeypatch.chdir(tmp_path)  # a folder is the same by any of its names
    assert result_folder(root, "good", NET, Path("own")) == result_folder(root, "good", NET, own)


def test_nothing_handed_in_is_told(tmp_path):
    root = make_course(tmp_path / "course")
    with pytest.raises(CourseError, match="course collect"):
        grade(root=root)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("students.json", '{"ada": {"na', "students.json is damaged.*course collect"),
        ("gradebook.db", "no database at all", r"gradebook.db is damaged.*course grade"),
    ],
)
def test_a_damaged_file_of_the_grader_is_told_in_one_line(tmp_path, name, content, words):
    root = make_course(tmp_path / "course")
    hand_in(root, "good")
    (root / "grading" / name).write_text(content)
    with pytest.raises(CourseError, match=words):
        grade(root=root)
    with pytest.raises(CourseError, match=words):
        class_marks(root)


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_the_secret_seed_is_the_owners_only_and_stays(tmp_path):
    root = make_course(tmp_path / "course")
    seed = secret_seed(root)
    path = root / "grading" / "secret_seed"
    assert path.stat().st_mode & 0o777 == 0o600
    assert seed == secret_seed(root) == int(path.read_text())
    assert seed.bit_length() > 100
    assert [p.name for p in path.parent.iterdir()] == ["secret_seed"]


def test_two_graders_at_once_draw_one_seed(tmp_path):
    root = make_course(tmp_path / "course")
    line = (
        "from pathlib import Path; from course_utils.grading.workplace import secret_seed;"
        f"print(secret_seed(Path({str(root)!r})))"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", line], stdout=subprocess.PIPE) for _ in range(6)
    ]
    assert len({child.communicate()[0] for child in children}) == 1


def test_jobs_fit_the_machine():
    assert 1 <= default_jobs() <= (os.cpu_count() or 1)


def test_results_are_plain_json(course):
    root, _ = course
    path = result_folder(root, "good", NET) / "result.json"
    result = json.loads(path.read_text())
    assert result["tasks"]["task_unet"]["isolation"] == sandbox.isolation_level()
    assert len(net_cells()) == 3
