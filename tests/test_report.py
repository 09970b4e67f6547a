"""The class report says every mark, its reason and how it was made, in terminal and page."""

import os
import time
from html.parser import HTMLParser

import pytest
from nbgrader.api import Gradebook

from course_utils.errors import CourseError
from course_utils.files import write_atomic
from course_utils.grading import grade as grade_module
from course_utils.grading.export_marks import export_marks
from course_utils.grading.gradebook import Mark, Marked, class_marks
from course_utils.grading.marking.nbgrader_setup import gradebook_url
from course_utils.grading.report import bar, html_report, not_graded, report, sign, text_report
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
        if tag not in ("meta", "line", "path", "circle"):
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
    return Page(html_report(marked, waiting=["eve/90_mini"]))


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
        assert tag not in ("script", "link", "img", "iframe")
        assert "://" not in "".join(v or "" for v in attributes.values())
        if tag == "a":
            assert attributes["href"].startswith("#")


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
