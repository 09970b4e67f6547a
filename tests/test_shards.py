"""Shards of a class, merged, give the records of a local run; what is lost or damaged is told."""

import json
import os
import shutil
import signal
import sqlite3
import threading
from pathlib import Path

import pytest

from course_utils.errors import CourseError
from course_utils.files import file_hashes
from course_utils.grading import grade as grade_module
from course_utils.grading import shards
from course_utils.grading.grade import grade, result_folder
from course_utils.grading.gradebook import class_marks, open_gradebook, register
from course_utils.grading.marking import task_marks
from course_utils.grading.results import MAX_RESULT, Unsound, read_result
from course_utils.grading.shards import Shard
from tests.mini_course import (
    MINI,
    NET,
    add_model,
    hand_in,
    make_course,
    record_result,
    task_record,
    tiny_model,
)

STUDENTS = ("ada", "bob", "cleo", "dan", "eve")


def recorded(job, target, threads):
    """Stand for ``_run_job``: the result of a job that nobody had to wait for."""
    double = 0 if job.student in ("bob", "eve") else 2
    tasks = {"task_unet": task_record()} if job.lesson == NET else {}
    task_marks.update_marks(tasks)
    record_result(
        target, job.student, job.lesson, double, hand_in_hash=job.hand_in_hash, tasks=tasks
    )


@pytest.fixture(scope="module")
def entered(tmp_path_factory, processes):
    """Return a course whose lessons are in a gradebook already, to be copied."""
    root = make_course(tmp_path_factory.mktemp("entered") / "course")
    for student in STUDENTS:
        for lesson in (MINI, NET):
            hand_in(root, student, lesson)
    register(root, [MINI, NET])
    return root


@pytest.fixture
def root(entered, tmp_path, monkeypatch):
    """Return a class of ten hand-ins, whose jobs take no time."""
    root = tmp_path / "course"
    shutil.copytree(entered, root)
    real = grade_module.register

    def quick(root, lessons, url=None):
        if url is None:
            real(root, lessons)

    monkeypatch.setattr(grade_module, "register", quick)  # the jobs' own gradebooks are not used
    monkeypatch.setattr(grade_module, "_run_job", recorded)
    return root


def records(root: Path) -> dict:
    """Return all that a class's records hold, but when and by which file they were written."""
    found = {}
    for name in ("autograded", "feedback"):
        for path in sorted((root / "grading" / name).rglob("*")):
            if path.is_file():
                content = path.read_bytes()
                if path.name == "marked.json":
                    told = json.loads(content)
                    content = {k: v for k, v in told.items() if k not in ("file", "merged")}
                found[str(path.relative_to(root))] = content
    with sqlite3.connect(root / "grading" / "gradebook.db") as database:
        found["marks"] = database.execute(
            "SELECT a.student_id, l.name, c.name, g.auto_score, g.manual_score, g.extra_credit, "
            "g.needs_manual_grade FROM grade g JOIN base_cell c ON c.id = g.cell_id "
            "JOIN submitted_notebook n ON n.id = g.notebook_id "
            "JOIN submitted_assignment a ON a.id = n.assignment_id "
            "JOIN assignment l ON l.id = a.assignment_id ORDER BY 1, 2, 3"
        ).fetchall()
    return found


def times(root: Path) -> dict:
    return {
        str(path): path.stat().st_mtime_ns
        for name in ("autograded", "feedback", "results", "gradebook.db")
        for path in [root / "grading" / name, *(root / "grading" / name).rglob("*")]
    }


def test_the_shares_of_an_array_are_the_class_and_of_one_size():
    pairs = sorted((f"s{k:02d}", lesson) for k in range(7) for lesson in (MINI, NET))
    for of in (1, 2, 5, 20):
        shares = [Shard(number, of).share(pairs) for number in range(1, of + 1)]
        assert sorted(pair for share in shares for pair in share) == pairs
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        for lesson in (MINI, NET):  # not one with all the slow ones
            counts = [sum(pair[1] == lesson for pair in share) for share in shares]
            assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(
    "text", ["", "3", "0/4", "5/4", "a/b", "1/2/3", "-1/4", "1/99999", "1 / 2"]
)
def test_what_names_no_share_is_told(text):
    with pytest.raises(CourseError, match=r"names no share\..* --shard 3/16"):
        Shard.parse(text)


def test_a_shard_is_not_merged_at_once(tmp_path):
    with pytest.raises(CourseError, match="give one of them"):
        grade(shard="1/2", merge_only=True, root=tmp_path)


@pytest.mark.process
def test_shards_and_their_merge_leave_the_records_of_a_local_run(root, tmp_path, capsys):
    local = tmp_path / "local" / "course"
    shutil.copytree(root, local)
    grade(root=local)
    book = (root / "grading" / "gradebook.db").stat().st_mtime_ns
    for number in (1, 2, 3):
        assert grade(root=root, shard=f"{number}/3") == []
    assert (root / "grading" / "gradebook.db").stat().st_mtime_ns == book  # only the merge writes
    assert not (root / "grading" / "autograded").exists()
    marked = grade(root=root, merge_only=True)
    assert len(marked) == 10
    assert records(root) == records(local)
    assert not list((root / "grading" / "shards").glob("*.json"))
    assert "Shard 3/3: 3 of 3 hand-ins have a result in" in capsys.readouterr().out


@pytest.mark.process
def test_a_shard_or_a_merge_that_is_run_twice_changes_nothing(root, monkeypatch):
    for number in (1, 2):
        grade(root=root, shard=f"{number}/2")
    grade(root=root, merge_only=True)
    before = records(root), times(root)
    monkeypatch.setattr(grade_module, "_run_job", lambda *_: pytest.fail("a job was started"))
    monkeypatch.setattr(grade_module, "merge", lambda *_: pytest.fail("it was merged again"))
    grade(root=root, shard="1/2")
    grade(root=root, merge_only=True)
    grade(root=root)
    assert (records(root), times(root)) == before


def interrupted(*_):
    raise KeyboardInterrupt  # what SIGTERM becomes


@pytest.mark.process
def test_a_shard_that_was_lost_is_told_and_run_again(root, monkeypatch):
    with pytest.raises(CourseError, match=r"10 of 10 .* no shard has begun"):
        grade(root=root, merge_only=True)
    grade(root=root, shard="1/3")
    with monkeypatch.context() as patch:
        patch.setattr(grade_module, "_run_jobs", interrupted)
        with pytest.raises(KeyboardInterrupt):
            grade(root=root, shard="2/3")
    words = (
        r"are not in place: .*not ended: shard 2/3 \(.*\); not begun: shard 3/3.*shards 2,3 of 3"
    )
    with pytest.raises(CourseError, match=words):
        grade(root=root, merge_only=True)
    assert len(class_marks(root)) == 4  # what is there is in place
    for number in (2, 3):
        grade(root=root, shard=f"{number}/3")
    assert len(grade(root=root, merge_only=True)) == 10


@pytest.mark.process
def test_an_array_of_another_size_goes_on_where_one_was_lost(root, monkeypatch):
    grade(root=root, shard="2/5")
    done = []
    monkeypatch.setattr(
        grade_module, "_run_job", lambda job, *rest: (done.append(job), recorded(job, *rest))
    )
    grade(root=root, shard="1/1")
    assert len(done) == 8
    assert len(grade(root=root, merge_only=True)) == 10


@pytest.mark.process
def test_a_fault_of_a_machine_is_no_mark_but_a_reason(root, monkeypatch):
    def full(job, target, threads):
        if job.student == "ada":
            raise RuntimeError("MachineFault: the disk of /tmp is full (3 MB are free)")
        recorded(job, target, threads)

    monkeypatch.setattr(grade_module, "_run_job", full)
    failed = 0
    for number in (1, 2):
        try:
            grade(root=root, shard=f"{number}/2")
        except CourseError as error:
            failed += 1
            assert "the disk of /tmp is full" in str(error)  # noqa: PT017 - of one of the two
    assert failed
    words = r"2 of 10 hand-ins are not in place: ada/.*because the disk of /tmp is full"
    with pytest.raises(CourseError, match=words):
        grade(root=root, merge_only=True)
    assert "ada" not in {one.student for one in class_marks(root)}
    assert len(class_marks(root)) == 8


@pytest.mark.process
@pytest.mark.parametrize("what", ["by hand", "page", "bound", "time", "name", "nbgrader", "gone"])
def test_what_has_changed_since_is_merged_again_and_nothing_else(root, monkeypatch, what):
    merged, rendered, real = [], [], grade_module.merge

    def merge(root, folder, *more):
        merged.append(folder.parent.name)
        real(root, folder, *more)

    grade(root=root)
    monkeypatch.setattr(grade_module, "merge", merge)
    monkeypatch.setattr(grade_module, "_render_feedback", lambda *of: rendered.append(of[1:]))
    place = root / "grading"
    book = place / "autograded" / "ada" / NET / f"{NET}.ipynb"
    if what == "by hand":
        with sqlite3.connect(place / "gradebook.db") as database:
            database.execute(
                "UPDATE grade SET manual_score = 9 WHERE auto_score > 0 AND notebook_id IN (SELECT "
                "n.id FROM submitted_notebook n JOIN submitted_assignment a ON a.id = "
                "n.assignment_id JOIN notebook b ON b.id = n.notebook_id WHERE a.student_id = "
                "'ada' AND b.name = ?)",
                [NET],
            )
    elif what == "page":
        (place / "feedback" / "ada" / NET / f"{NET}.html").write_text("another")
    elif what == "bound":
        facts = book.with_name("marked.json")
        facts.write_text(facts.read_text().replace('"high": ', '"high": 0.0'))
    elif what == "time":
        stamp = place / "submitted" / "ada" / NET / "timestamp.txt"
        stamp.write_text("2026-01-01 00:00:00 UTC\n")
    elif what == "name":
        student = {"platform": "moodle", "name": "Ada L.", "numbers": {}}
        (place / "students.json").write_text(json.dumps({"ada": student}))
    elif what == "nbgrader":
        book.write_text(book.read_text() + "\n")
    else:
        book.unlink()
    marked = grade(root=root)
    assert len(marked) == 10
    assert merged == (["ada", "ada"] if what == "name" else ["ada"])
    assert rendered == ([("ada", NET)] if what == "by hand" else [])
    grade(root=root)
    assert len(merged) <= 2
    if what != "name":
        assert len(merged) == 1  # once, and not at each run


@pytest.mark.process
def test_the_marks_of_one_hand_in_are_found_without_those_of_all_others(root):
    with open_gradebook(root, 1):
        pass
    with sqlite3.connect(root / "grading" / "gradebook.db") as database:
        for table, column in [("grade", "notebook_id"), ("submitted_notebook", "assignment_id")]:
            told = f"EXPLAIN QUERY PLAN SELECT * FROM {table} WHERE {column} = 'x'"
            assert "USING INDEX" in str(database.execute(told).fetchall())


def broken(place: Path, how: str) -> None:
    """Damage a result as a lost machine, a full disk or a stranger might."""
    page, told = place / f"{MINI}.html", place / "result.json"
    result = json.loads(told.read_text())
    if how == "half a page":
        page.write_bytes(page.read_bytes()[:5])
    elif how == "an empty file":
        told.write_text("")
    elif how == "no page":
        page.unlink()
    elif how == "a link":
        page.rename(place / "elsewhere")
        page.symlink_to(place / "elsewhere")
    elif how == "too large":
        told.write_text(json.dumps(result) + " " * MAX_RESULT)
    elif how == "no number":
        told.write_text(json.dumps(result).replace('"score": 3', '"score": NaN'))
    elif how == "a huge number":
        told.write_text(json.dumps(result).replace('"score": 3', '"score": 1e999'))
    else:
        change = {
            "more points": lambda: result["exercises"]["test_share"].update(score=3.5),
            "more points possible": lambda: result["exercises"]["test_share"].update(
                score=30, points=30
            ),
            "a text": lambda: result["exercises"]["test_share"].update(score="3"),
            "another's": lambda: result.update(student="bob"),
            "another lesson's": lambda: result.update(lesson="../../etc"),
            "an older hand-in's": lambda: result.update(hand_in_hash="0" * 64),
            "no mark": lambda: result["exercises"].pop("test_share"),
            "a task that is not": lambda: result["tasks"].update(task_unet=task_record()),
            "something more": lambda: result.update(also=1),
            "no list": lambda: result.update(tampered="all"),
            "a file elsewhere": lambda: result["files"].update(
                {"../../../../secret_seed": "0" * 64}
            ),
        }
        change[how]()
        told.write_text(json.dumps(result))


DAMAGE = [
    *("half a page", "an empty file", "no page", "a link", "too large", "no number"),
    *("a huge number", "more points", "more points possible", "a text", "another's"),
    *("another lesson's", "an older hand-in's", "no mark", "a task that is not"),
    *("something more", "no list", "a file elsewhere"),
]


@pytest.mark.process
@pytest.mark.parametrize("how", DAMAGE)
def test_nothing_is_believed_of_a_result_that_is_not_as_it_must_be(root, how):
    for number in (1, 2):
        grade([MINI], root=root, shard=f"{number}/2")
    place = result_folder(root, "ada", MINI)
    broken(place, how)
    with pytest.raises(CourseError, match=r"1 of 5 .*: ada/.* its stored result was damaged"):
        grade([MINI], root=root, merge_only=True)
    marked = {one.student: one for one in class_marks(root)}
    assert "ada" not in marked  # neither a zero nor a mark
    assert marked["bob"].total == 3
    assert not place.exists()
    with pytest.raises(CourseError, match=r"1 of 5 .*ada/.* no shard has marked it"):
        grade([MINI], root=root, merge_only=True)
    for number in (1, 2):
        grade([MINI], root=root, shard=f"{number}/2")
    assert len(grade([MINI], root=root, merge_only=True)) == 5


@pytest.mark.process
def test_a_shard_makes_a_half_written_result_anew(root):
    grade([MINI], root=root, shard="1/1")
    place = result_folder(root, "ada", MINI)
    (place / f"{MINI}.ipynb").write_text("")
    grade([MINI], root=root, shard="1/1")
    read_result(place)
    assert len(grade([MINI], root=root, merge_only=True)) == 5


@pytest.mark.process
def test_of_a_tasks_result_the_iou_counts_and_not_the_marks(root, monkeypatch):
    def boasts(job, target, threads):
        task = task_record(0.575, marks=10.0, low=0.0, high=0.1)
        more = {"tasks": {"task_unet": task}} if job.lesson == NET else {}
        record_result(target, job.student, job.lesson, hand_in_hash=job.hand_in_hash, **more)

    monkeypatch.setattr(grade_module, "_run_job", boasts)
    monkeypatch.setattr(grade_module, "_render_feedback", lambda *_: None)
    grade([NET], root=root, shard="1/1")
    grade([NET], root=root, merge_only=True)
    (one, *_) = class_marks(root)
    assert 0 < one.total < 10


def test_a_result_is_as_its_schema_says(tmp_path):
    record_result(tmp_path, "ada", NET, tasks={"task_unet": task_record(0.6, sha256="a" * 64)})
    assert read_result(tmp_path)["tasks"]["task_unet"]["iou"] == 0.6
    told = (tmp_path / "result.json").read_text()
    for wrong in ("1.1", "-0.1", '"0.6"', "true", "Infinity"):
        (tmp_path / "result.json").write_text(told.replace('"iou": 0.6', f'"iou": {wrong}'))
        with pytest.raises(Unsound, match="damaged"):
            read_result(tmp_path)
    with pytest.raises(Unsound, match=r"no file result\.json"):
        read_result(tmp_path / "nowhere")


def test_notes_are_told_and_never_believed(tmp_path):
    assert shards.progress(tmp_path) is None
    shards.note(tmp_path, Shard(1, 3), 4)
    shards.note(tmp_path, Shard(2, 3), 4, {("ada", MINI): "the disk\nis full"})
    found = shards.progress(tmp_path)
    assert (found.of, [*found.begun], found.absent) == (3, [1], [3])
    assert shards.missing([("ada", MINI)], found) == {("ada", MINI): "the disk is full"}
    folder = tmp_path / "grading" / "shards"
    for text in ("", "[]", '{"shard": "2/3"}', '{"shard": 3, "failures": 3}', "\xff"):
        (folder / "2-of-3.json").write_text(text)
        assert shards.progress(tmp_path).absent == [2, 3]
    shutil.copy(folder / "1-of-3.json", folder / "9-of-9.json")
    assert shards.progress(tmp_path).of == 3
    shards.forget(tmp_path)
    assert shards.progress(tmp_path) is None


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_the_batch_systems_signal_stops_a_shard_as_ctrl_c_does():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), shards.stopped_by_the_system():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_real_jobs_in_shards_give_the_marks_and_pages_of_a_local_run(tmp_path):
    root = make_course(tmp_path / "course")
    hand_in(root, "ada")
    hand_in(root, "bob", double="def double(x):\n    return 0")
    hand_in(root, "exit", share="import os; os._exit(0)")
    add_model(hand_in(root, "ada", NET), tiny_model(3))
    local = tmp_path / "local"
    shutil.copytree(root, local)
    from course_utils.grading.workplace import secret_seed

    secret_seed(root)
    shutil.copy(root / "grading" / "secret_seed", local / "grading")
    for number in (1, 2):
        grade(root=root, shard=f"{number}/2")
    told = {one.student: one.remarks for one in grade(root=root, merge_only=True)}
    assert told == {one.student: one.remarks for one in grade(root=local)}
    assert records(root)["marks"] == records(local)["marks"]
    assert {*records(root)} == {*records(local)}
    for path in (root / "grading" / "results").glob("*/*/*"):
        names = [path / f"{path.parts[-3]}.{kind}" for kind in ("ipynb", "html")]
        assert json.loads((path / "result.json").read_text())["files"] == file_hashes(names)
