"""The class report says every mark, its reason and how it was made, in terminal and page."""

import base64
import io
import json
import os
import re
import time
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest
from nbgrader.api import Gradebook
from PIL import Image

from course_utils import display
from course_utils.errors import CourseError
from course_utils.files import write_atomic
from course_utils.grading import grade as grade_module
from course_utils.grading import gradebook as gradebook_module
from course_utils.grading import report as report_module
from course_utils.grading.export_marks import export_marks
from course_utils.grading.gradebook import Mark, Marked, class_marks, lesson_facts
from course_utils.grading.marking import samples
from course_utils.grading.marking.nbgrader_setup import gradebook_url
from course_utils.grading.report import (
    PAGE,
    bar,
    html_pages,
    html_report,
    least_solved,
    not_graded,
    report,
    sign,
    text_report,
)
from course_utils.hand_in.tasks import get_task
from course_utils.table import text_table
from tests.mini_course import MINI, NET, make_course, merge_result, task_record


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = make_course(tmp_path_factory.mktemp("course"))
    with pytest.MonkeyPatch.context() as patch:
        # Feedback pages whose marks have changed are another test's matter.
        patch.setattr(grade_module, "_render_feedback", lambda *_: None)
        merge_result(root, "ada", MINI, why=1)
        merge_result(root, "ada", NET, tasks={"task_unet": task_record(0.75, sha256="aa")})
        merge_result(root, "bob", MINI, double=0, tampered=["course_utils.metrics.iou"])
        merge_result(root, "bob", NET, tasks={"task_unet": task_record(None, "it is a pickle")})
        merge_result(root, "cleo", NET, tasks={"task_unet": task_record(0.4)})
        merge_result(root, "<b>dan</b>", NET, tasks={"task_unet": task_record(0.75, sha256="aa")})
    write_atomic(root / "grading/submitted/eve" / MINI / f"{MINI}.ipynb", "{}")
    return root


class Page(HTMLParser):
    """Collects tags, and checks that each is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.words = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "line", "path", "circle", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def page(root):
    marked = class_marks(root)
    pages = {("ada", MINI): "feedback/ada/page.html"}
    return Page(html_report(marked, waiting=["eve/90_mini"], pages=pages))


def test_the_terminal_shows_marks_intervals_and_reasons(root):
    text = text_report(class_marks(root))
    assert "0.750 (0.73-0.77)" in text
    assert "bob: it is a pickle" in text
    assert "bob: tampered with course_utils.metrics.iou" in text
    assert "bob: test_double: wrong" in text
    assert "cleo: task unet: IoU 0.400, marks begin at" in text
    assert "ada: same model file as <b>dan</b>" in text


@pytest.mark.process
def test_marks_by_hand_that_overrule_the_tests_leave_a_trace(tmp_path, monkeypatch):
    monkeypatch.setattr(grade_module, "_render_feedback", lambda *_: None)
    root = make_course(tmp_path / "course")
    merge_result(root, "ada", MINI)
    merge_result(root, "ada", NET, tasks={"task_unet": task_record(0.75)})
    with Gradebook(gradebook_url(root)) as gradebook:
        for lesson, cell, score in [
            (MINI, "test_double", 1.5),
            (MINI, "test_share", 3),  # what the test gives
            (MINI, "why", 1),  # no test gives anything
            (NET, "task_unet", 0),
        ]:
            gradebook.find_grade(cell, lesson, lesson, "ada").manual_score = score
        gradebook.db.commit()
    net, mini = class_marks(root)
    assert mini.remarks == ["test_double: 1.5 by hand (the tests give 2)"]
    assert net.remarks == ["task_unet: 0 by hand (the scorer gives 10)"]
    assert mini.remarks[0] in text_report([net, mini])
    assert mini.remarks[0] in html_report([net, mini], [])


@pytest.mark.process
def test_an_unreadable_notebook_is_not_said_to_have_stubs(tmp_path, monkeypatch):
    monkeypatch.setattr(grade_module, "_render_feedback", lambda *_: None)
    root = make_course(tmp_path / "course")
    merge_result(root, "ada", MINI, double=0, problem=f"{MINI}.ipynb is not a whole notebook.")
    (mini,) = class_marks(root)
    assert mini.remarks == [f"{MINI}.ipynb is not a whole notebook."]


def test_the_page_is_written_and_named(root, capsys):
    path = report(root=root)
    assert path == root / "grading" / "report.html"
    assert str(path) in capsys.readouterr().out
    assert "eve/90_mini" in path.read_text()


@pytest.fixture
def write_later(root):
    """Write files into a hand-in of ada's, as if a minute from now."""
    written = []

    def write(name):
        written.append(root / "grading" / "submitted" / "ada" / MINI / name)
        write_atomic(written[-1], "new")
        os.utime(written[-1], (time.time() + 60,) * 2)

    yield write
    for path in written:
        path.unlink()


def test_a_mark_of_an_older_hand_in_is_told(root, write_later, capsys, tmp_path):
    write_later(f"{MINI}.ipynb")
    words = f"ada/{MINI} (handed in anew, the mark is of the old one)"
    assert words in not_graded(root, class_marks(root))
    assert words in report(root=root).read_text()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if words in line]
    assert line.startswith("Not graded yet: ")
    export_marks("canvas", tmp_path / "marks.csv", root=root)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if words in line]
    assert line.startswith("Warning: not graded yet: ")


def test_a_gradebook_that_is_an_empty_file_is_told(tmp_path):
    root = make_course(tmp_path / "course")
    (root / "grading").mkdir()
    (root / "grading" / "gradebook.db").touch()
    with pytest.raises(CourseError, match=r"gradebook\.db is damaged \(it is empty"):
        class_marks(root)


def test_hidden_files_are_no_newer_hand_in(root, write_later):
    write_later(".ipynb_checkpoints/a-checkpoint.ipynb")
    write_later(".DS_Store")
    waiting = not_graded(root, class_marks(root))
    assert f"eve/{MINI}" in waiting
    assert not any("handed in anew" in one for one in waiting)


def test_the_page_stands_alone_and_is_sound(page):
    assert page.open == []
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe")
        assert "://" not in "".join(v or "" for v in attributes.values())
        if tag == "img":
            assert re.match("data:image/(png|jpeg);base64,", attributes["src"])
            assert attributes["alt"]
        if tag == "a":
            assert attributes["href"].startswith(("#", "feedback/"))


def test_tables_are_accessible(page):
    described = [a for tag, a in page.tags if tag == "table" and "aria-describedby" in a]
    captions = sum(tag == "caption" for tag, _ in page.tags)
    assert captions + len(described) == sum(tag == "table" for tag, _ in page.tags) == 3
    assert {a["aria-describedby"] for a in described} <= {a.get("id") for _, a in page.tags}
    scopes = [attributes.get("scope") for tag, attributes in page.tags if tag == "th"]
    assert set(scopes) == {"col", "row"}
    bars = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(bars) == 3
    assert all(attributes["role"] == "img" for attributes in bars)


def test_the_page_has_landmarks_and_parts_with_names(page):
    assert {"header", "main", "nav"} <= {tag for tag, _ in page.tags}
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    named = [a["aria-labelledby"] for tag, a in page.tags if tag == "section"]
    assert named == ["all", NET, MINI, "how"]
    inside = {a["href"][1:] for tag, a in page.tags if tag == "a" and a["href"].startswith("#")}
    assert {*named} == inside
    assert {*named} <= ids


def test_each_mark_leads_to_the_feedback_page_that_is_there(page, root):
    links = [a["href"] for tag, a in page.tags if tag == "a" and "feedback" in a["href"]]
    assert links == ["feedback/ada/page.html"] * 2  # from both tables
    strange = f"feedback/%3Cb%3Edan%3C/b%3E/{NET}/{NET}.html"
    assert strange not in report(root=root).read_text()
    write_atomic(root / "grading" / unquote(strange), "<p>feedback</p>")
    text = report(root=root).read_text()
    assert strange in text
    assert f"feedback/ada/{MINI}/{MINI}.html" in text
    (root / "grading" / unquote(strange)).unlink()


def test_what_the_class_has_lost_most_comes_first():
    marks = [
        {"easy": Mark(2, 2), "half": Mark(a, 2), "hard": Mark(b, 4)} for a, b in [(2, 1), (0, 0)]
    ]
    class_ = [Marked(f"s{i}", f"s{i}", MINI, m, 1, 8) for i, m in enumerate(marks)]
    assert least_solved(class_) == [(MINI, "hard", 0.125), (MINI, "half", 0.5)]
    class_[1].marks["half"] = Mark(None, 2)  # waits for a person
    assert least_solved(class_) == [(MINI, "hard", 0.125)]


def sampled(iou, noise=0.1, seed=0):
    """Return a task's record with IoU by class, and masks that are wrong at some pixels."""
    task = get_task("unet", "quick")
    public = samples.sample_pictures(task)
    rng = np.random.default_rng(seed)
    guess = np.roll(public.masks, rng.integers(1, 9), axis=2) % 10
    speck = rng.random(guess.shape) < noise
    guess[speck] = rng.integers(0, 10, speck.sum())
    return task_record(
        iou,
        per_class=dict.fromkeys(sorted(task.classes), iou) | {"pole": iou / 2, "sign": None},
        samples=samples.sample_record(guess, public.masks, task),
    )


def class_of(size, **task):
    names = [f"student-{number:03d}" for number in range(size)]
    return [
        Marked(
            student=name,
            name=f"Somebody <i>{name}</i>",
            lesson=NET,
            marks={
                **{
                    f"test_exercise_{k}": Mark(k % 2, 1, "the stub is still there")
                    for k in range(9)
                },
                "task_unet": Mark(5, 10, task=sampled(0.6, seed=number, **task)),
            },
            total=9,
            points=19,
        )
        for number, name in enumerate(names)
    ]


def test_the_iou_of_each_class_and_three_predictions_are_shown():
    page = Page(html_report(class_of(2), []))
    words = [word.strip() for word in page.words]
    assert words.count("▾ 0.30") == 2  # the pole
    assert words.count("absent") == 2  # the sign
    table = words[words.index("exercise 0") :]
    names = [word for word in table if word in get_task("unet", "quick").classes]
    assert names == [*get_task("unet", "quick").classes] * 2  # in their own order
    pictures = [a["src"] for tag, a in page.tags if tag == "img"]
    assert len(pictures) == 2 + 2  # the public ones and their truth, then a strip a model
    shown = Image.open(io.BytesIO(base64.b64decode(pictures[2].partition(",")[2]))).convert("RGB")
    assert shown.size == (3 * 128 + 2 * 4, 96)
    colours = {colour for _, colour in shown.getcolors()}
    assert colours <= {*map(tuple, display.colours(10).tolist()), (255, 255, 255)}


@pytest.mark.long
def test_the_page_of_a_class_of_300_stays_light():
    """Masks here are noisier than those of a trained net: most of the bytes are theirs."""
    page = html_report(class_of(300, noise=0.02), [])
    assert len(page.encode()) < 3_000_000
    assert "<i>student" not in page


def plain_class(size):
    """Return so many students, of which every other has handed in a second lesson."""
    return [
        Marked(f"s{at:04d}", f"</script> Zoë {at}", lesson, {"a": Mark(at % 3, 2)}, at % 3, 2)
        for at in range(size)
        for lesson in ((MINI, NET) if at % 2 else (MINI,))
    ]


def test_a_large_class_has_pages_and_a_summary_that_leads_to_them():
    class_ = plain_class(2 * PAGE + 1)
    class_[7].tampered = ["course_utils.metrics.iou"]
    feedback = {(one.student, one.lesson): "feedback/x.html" for one in class_}
    made = dict(html_pages(class_, ["somebody"] * 999, feedback))
    names = ["students", MINI, NET]
    expected = {f"report/{name}-{k:03d}.html" for name in names for k in (1, 2, 3)}
    assert {*made} == {"report.html", *expected} - {f"report/{NET}-003.html"}  # s0400 has none
    pages = {place: Page(text) for place, text in made.items()}
    assert all(page.open == [] for page in pages.values())
    ids = {place: [a["id"] for _, a in page.tags if "id" in a] for place, page in pages.items()}
    for name in ("students", MINI):
        rows = [i for place in sorted(ids) if name in place for i in ids[place] if i[1:].isdigit()]
        assert rows == [f"s{at}" for at in range(2 * PAGE + 1)]  # everybody, once
    for place, page in pages.items():
        for tag, attributes in page.tags:
            address, _, anchor = (attributes.get("href") or "").partition("#")
            if tag == "a" and "feedback" not in address:
                to = os.path.normpath(f"{place}/../{address}") if address else place
                assert to in made, (place, address)
                assert not anchor or anchor in ids[to]
    links = [a["href"] for tag, a in pages["report/students-002.html"].tags if tag == "a"]
    assert links.count("../feedback/x.html") == 3 * PAGE // 2
    words = " ".join(pages["report.html"].words)
    assert "tampered with course_utils.metrics.iou" in words
    assert words.count("somebody") == 50
    assert len(made["report.html"]) < 60_000


def test_only_the_summary_of_a_large_class_has_a_script_and_no_name_can_end_it():
    made = dict(html_pages(plain_class(PAGE + 1), []))
    assert made["report.html"].count("</script>") == 2
    assert all("<script" not in text for place, text in made.items() if place != "report.html")
    told = re.search('id="names">(.*?)</script>', made["report.html"], re.DOTALL)[1]
    assert json.loads(told)[3] == "</script> Zoë 3\ns0003"
    assert [place for place, _ in html_pages(plain_class(PAGE), [])] == ["report.html"]


def test_pages_of_a_class_that_has_shrunk_are_removed(root, monkeypatch):
    monkeypatch.setattr(report_module, "PAGE", 2)
    report(root=root)
    folder = root / "grading" / "report"
    assert len([*folder.glob("students-*.html")]) == 2
    monkeypatch.undo()
    report(root=root)
    assert not [*folder.iterdir()]


def test_the_terminal_says_of_a_large_class_what_holds_for_each_lesson():
    class_ = plain_class(PAGE + 1)
    text = text_report(class_, ["somebody"])
    assert len(text.splitlines()) < 10
    assert "s0001" not in text
    assert "somebody" in text
    facts = lesson_facts(class_)
    assert (facts[MINI].hand_ins, facts[NET].hand_ins) == (PAGE + 1, PAGE // 2)
    assert facts[MINI].full == facts[MINI].nothing == (PAGE + 1) // 3
    assert facts[MINI].mean == pytest.approx(1)


def test_a_model_file_that_a_whole_class_has_is_told_in_a_few_names():
    class_ = plain_class(900)
    for one in class_:
        one.marks["a"].task = task_record(0.6, sha256="ab")
    gradebook_module._tell_copies(class_)
    others = class_[0].same_model_as
    assert len(others) == 21
    assert others[-1].endswith(" more")
    assert class_[0].student not in others


def test_marks_of_all_lessons_have_the_colours_of_their_signs(page):
    tables = [i for i, (tag, _) in enumerate(page.tags) if tag == "table"]
    classes = [a.get("class") for tag, a in page.tags[tables[0] : tables[1]] if tag == "td"]
    assert {"mark full", "mark none"} <= {*classes}


def test_headings_stick_in_long_tables_only():
    def page_of(size):
        class_ = [Marked(f"s{i}", f"{i:0>100}", MINI, {"a": Mark(1, 2)}, 1, 2) for i in range(size)]
        return html_report(class_, [])

    assert page_of(25).count('class="scroll"') == page_of(26).count('class="scroll long"') == 2
    assert "scroll long" not in page_of(25)
    assert "max-width: 18rem; overflow-wrap: anywhere" in page_of(1)


def test_names_cannot_inject_markup(page):
    assert not any(tag == "b" and not page.words for tag, _ in page.tags)
    assert any("<b>dan</b>" in words for words in page.words)


def test_isolation_and_test_set_are_stated(page):
    text = " ".join(page.words)
    assert "L3 Landlock + seccomp" in text
    assert "200 hidden images of 'scenes'" in text
    assert "0123456789abcdef" in text
    assert "Public test set" not in text
    assert "Weak isolation" not in text


@pytest.mark.process
def test_a_public_test_set_and_weak_isolation_are_flagged(tmp_path, monkeypatch):
    monkeypatch.setattr(grade_module, "_render_feedback", lambda *_: None)
    root = make_course(tmp_path / "course")
    record = task_record(
        0.6, profile="full", source="233 images of the test split of 'camvid', which is public"
    )
    merge_result(root, "ada", NET, tasks={"task_unet": record}, isolation="L1 limits only")
    text = html_report(class_marks(root), [])
    assert "Public test set" in text
    assert "Weak isolation" in text


@pytest.mark.parametrize(
    ("score", "points", "expected"), [(2, 2, "✓"), (1, 2, "◐"), (0, 2, "✗"), (None, 2, "…")]
)
def test_marks_have_signs_beside_colours(score, points, expected):
    assert sign(score, points) == expected


def test_a_bar_says_its_numbers_in_words():
    text = bar(task_record(0.6))
    assert "mean IoU 0.600, 95 percent interval 0.580 to 0.620; floor 0.3" in text


def test_nothing_graded_is_told(tmp_path):
    with pytest.raises(CourseError, match="course grade"):
        report(root=make_course(tmp_path / "course"))


def test_a_browser_that_does_not_start_is_told(root, monkeypatch):
    monkeypatch.setattr("webbrowser.open", lambda _: False)
    with pytest.raises(CourseError, match=r"open .*report.html by hand"):
        report(open_page=True, root=root)


def test_text_tables_align_numbers_right():
    assert text_table(["a", "n"], [["x", 1], ["yy", 22]]).splitlines()[2:] == ["x    1", "yy  22"]
