"""A class marked by dask's workers has the records of a local run, whoever is lost on the way."""

import builtins
import pickle
import shutil
import signal
import tempfile
import threading
import time
from types import SimpleNamespace

import pytest

from course_utils.errors import CourseError
from course_utils.grading import cluster
from course_utils.grading.grade import grade
from course_utils.grading.marking.job import Job
from course_utils.grading.marking.settings import Settings
from tests.lost_workers import cluster as local_cluster
from tests.lost_workers import command, lose, marks, results
from tests.mini_course import MINI, NET, add_model, hand_in, make_course
from tests.waiting import wait_until

pytest.importorskip("distributed")
STUDENTS = ("ada", "bob", "cleo", "dan")


def deep(*_):
    """Fail with what pickle cannot take apart."""
    deep()


def test_what_cannot_be_meant_with_a_cluster_is_told(tmp_path):
    for other in ({"shard": "1/2"}, {"merge_only": True}, {"jobs": 2}):
        with pytest.raises(CourseError, match="as many at a time as these have threads"):
            grade(cluster="tcp://127.0.0.1:8786", root=tmp_path, **other)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a class of honest, broken and hostile hand-ins, and the marks of a local run."""
    root = make_course(tmp_path_factory.mktemp("cluster") / "course")
    for student in STUDENTS:
        hand_in(root, student)
    hand_in(root, "eve", share="import os; os._exit(0)")
    hand_in(root, "fay", double="def double(x)\n    return 2 * x")
    add_model(hand_in(root, "ada", NET))
    assert grade(root=root)
    return root, marks(root)


@pytest.fixture
def root(made, tmp_path):
    root = tmp_path / "course"
    shutil.copytree(made[0], root)
    shutil.rmtree(root / "grading" / "results")
    return root


@pytest.mark.process
def test_a_client_without_a_scheduler_is_closed_and_not_left_to_the_garbage_collector():
    threads = set(threading.enumerate())
    with pytest.raises(CourseError, match="no scheduler answers"):
        cluster.workers_at("here", str).__enter__()
    assert set(threading.enumerate()) <= threads


@pytest.mark.process
def test_who_names_no_scheduler_is_told_what_to_start(root, monkeypatch):
    for address in ("tcp://127.0.0.1:1", "here", "tcp://"):
        with pytest.raises(CourseError, match=r"no scheduler answers at .*`dask scheduler`"):
            grade(cluster=address, root=root)
    assert not list((root / "grading").glob(".grade-*"))
    real = builtins.__import__

    def without(name, *rest):
        if name == "distributed":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        CourseError,
        match=r"--cluster needs dask\.distributed, here and on the workers: pip install",
    ):
        grade(cluster="tcp://127.0.0.1:1", root=root)


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_and_gets_another_marks_as_a_local_run(root, made):
    with local_cluster() as running:
        run, log = command(root, root / "log", "--cluster", str(running.file)), root / "log"
        wait_until(lambda: "The cluster has no worker yet" in log.read_text(), log=log)
        first = running.worker()
        while not results(root) and run.poll() is None:
            time.sleep(0.1)
        lose(first)
        running.worker(threads=2)
        assert run.wait(300) == 0, log.read_text()
    assert marks(root) == made[1]
    assert len(results(root)) == len(made[1])


@pytest.mark.slow
def test_a_job_that_takes_every_worker_with_it_is_one_failure(root, tmp_path, made):
    (tmp_path / "poison.py").write_text(
        "import os\nfrom course_utils.grading import grade\n"
        "if not hasattr(grade, 'real'):  # dask loads it twice\n"
        "    grade.real = grade._run_job\n"
        "def run(job, *rest):\n"
        "    os._exit(1) if job.student == 'bob' else grade.real(job, *rest)\n"
        "run.__module__, run.__qualname__ = grade.__name__, '_run_job'\ngrade._run_job = run\n"
    )
    with local_cluster() as running:
        running.worker("--preload", str(tmp_path / "poison.py"))
        run = command(root, root / "log", "--cluster", str(running.file))
        assert run.wait(300) == 1
    told = (root / "log").read_text()
    assert "1 of 7 hand-ins could not be graded: bob/90_mini" in told
    assert "each worker that ran it was lost" in told
    assert len(results(root)) == len(made[1]) - 1
    assert grade(root=root)  # nothing of it is kept
    assert marks(root) == made[1]


@pytest.mark.slow
def test_a_worker_with_another_course_marks_nothing(root, tmp_path):
    (tmp_path / "other.py").write_text(
        "from course_utils.grading import grade\n"
        "def grader_version(lesson): return 'another'\n"
        "grader_version.__module__ = grade.__name__\ngrade.grader_version = grader_version\n"
    )
    with local_cluster() as running:
        running.worker("--preload", str(tmp_path / "other.py"))
        with pytest.raises(CourseError, match=r"7 of 7 .* has another version of the course"):
            grade(cluster=str(running.file), root=root)
    assert not results(root)


def test_an_error_that_cannot_be_sent_is_told_in_words(tmp_path, monkeypatch):
    worker = SimpleNamespace(
        name="w", local_directory=str(tmp_path), state=SimpleNamespace(nthreads=1)
    )
    monkeypatch.setattr("distributed.get_worker", lambda: worker)
    monkeypatch.setattr(tempfile, "tempdir", None)
    job = Job("ada", MINI, "", "", "", str(tmp_path), Settings(tmp_path))
    with pytest.raises(RuntimeError, match="maximum recursion depth") as told:
        cluster._on_worker(deep, str, MINI, job, tmp_path)
    assert len(pickle.dumps(told.value)) < 1000
    assert len(told.traceback) == 2


@pytest.mark.slow
def test_a_scheduler_that_is_lost_is_told_and_what_is_done_is_kept(root, made):
    with local_cluster() as running:
        running.worker()
        run = command(root, root / "log", "--cluster", str(running.file))
        while not results(root) and run.poll() is None:
            time.sleep(0.1)
        lose(running.scheduler)
        assert run.wait(120) == 1
    told = (root / "log").read_text()
    assert "the scheduler was lost" in told
    assert "Traceback" not in told
    kept = len(results(root))
    assert 0 < kept < 7
    assert grade(root=root)
    assert marks(root) == made[1]


@pytest.mark.slow
def test_ctrl_c_ends_the_jobs_on_the_workers_too(root, request):
    # What starts the tests may ignore it, as a shell does for what runs in its background.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    slow = "import time\ntime.sleep(60)\ndef double(x):\n    return 2 * x"
    hand_in(root, "aaron", double=slow)
    with local_cluster() as running:
        running.worker()
        run = command(root, root / "log", "--cluster", str(running.file))
        wait_until(lambda: any(running.folder.glob("**/j-*")))
        run.send_signal(signal.SIGINT)
        run.wait(30)
        wait_until(lambda: not any(running.folder.glob("**/j-*")), seconds=20)
    assert "are done and kept" in (root / "log").read_text()
    assert not list((root / "grading").glob(".grade-*"))
