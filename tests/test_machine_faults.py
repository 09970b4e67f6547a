"""A fault of the machine costs nobody a mark: tried once more, then told, and nothing is stored."""

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy.exc import OperationalError

from course_utils.errors import CourseError
from course_utils.files import file_hashes, tree_hash
from course_utils.grading import grade as grade_module
from course_utils.grading.grade import grade
from course_utils.grading.gradebook import class_marks, register
from course_utils.grading.marking import job as job_module
from course_utils.grading.marking import (
    machine_faults,
    nbgrader_setup,
    preprocessors,
    sandbox,
    warm,
)
from course_utils.grading.marking.machine_faults import MachineFault, disk_fault, told_fault
from course_utils.grading.marking.scorer import score_model_file
from course_utils.grading.marking.settings import Settings
from course_utils.hand_in.tasks import get_task
from tests.mini_course import (
    MINI,
    code,
    hand_in,
    make_course,
    merge_result,
    save,
    tiny_model,
)
from tests.waiting import wait_until

FULL = "the disk of / is full (3 MB are free)"


@pytest.fixture
def root(tmp_path):
    return make_course(tmp_path / "course")


@pytest.fixture(scope="module")
def warm_processes(processes):
    """End what has been warmed up for this module's tests."""
    yield
    warm.close()


@pytest.fixture(params=["forked", "anew"])
def marked(request, root, tmp_path, monkeypatch, warm_processes):
    """Return a function that grades a hand-in in this process, so that faults can be put into it.

    ``left`` lists what it has put into its folder for the result.
    """
    monkeypatch.setenv(warm.SWITCH, str(int(request.param == "forked")))
    environment = {**os.environ, "COURSE_DATA": str(root / "data" / "cache")}
    with warm.ready(root, MINI, environment) as ready:
        for name, value in ready.variables.items():
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(job_module, "_PAUSE", 0)
    monkeypatch.setattr(tempfile, "tempdir", tempfile.gettempdir())
    output, place = tmp_path / "output", tmp_path / "job"

    def marked(**sources):
        folder = hand_in(root, "ada", **sources)
        register(root, [MINI])
        for made in (output, place):
            made.mkdir()
        job = job_module.Job(
            student="ada",
            lesson=MINI,
            handed_in=str(folder),
            hand_in_hash=tree_hash(folder),
            gradebook=str(root / "grading" / "gradebook.db"),
            output=str(output),
            settings=Settings(root, cell_seconds=20, notebook_seconds=60),
        )
        result = job_module.run(job, place)
        return {name: entry["score"] for name, entry in result["exercises"].items()}, result

    marked.left = lambda: list(output.iterdir())
    return marked


def kill_kernels(monkeypatch, times):
    """Have the system kill the kernel, so many times, in the first cell of a notebook."""
    real, killed = preprocessors.SandboxedExecute._run_cell, []

    def run(self, *arguments):
        if len(killed) < times and self.code_cells_executed == 0:
            killed.append(1)
            os.kill(self.km.provisioner.pid, signal.SIGKILL)
        return real(self, *arguments)

    monkeypatch.setattr(preprocessors.SandboxedExecute, "_run_cell", run)
    return killed


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_kernel_that_the_system_kills_is_run_once_more(marked, monkeypatch):
    killed = kill_kernels(monkeypatch, times=1)
    scores, result = marked()
    assert killed == [1]
    assert scores == {"test_double": 2, "test_share": 3, "why": None}
    assert result["stopped"] is None


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_kernel_that_is_always_killed_gives_no_mark_at_all(marked, monkeypatch):
    killed = kill_kernels(monkeypatch, times=9)
    with pytest.raises(MachineFault, match="the system killed the notebook's kernel"):
        marked()
    assert len(killed) == 2
    assert marked.left() == []


@pytest.mark.process
def test_a_full_disk_gives_no_mark_at_all(marked, monkeypatch):
    monkeypatch.setattr(preprocessors, "disk_fault", lambda folder: FULL)
    with pytest.raises(MachineFault, match=r"is full .* Free some space"):
        marked()
    assert marked.left() == []


@pytest.mark.slow
def test_who_only_says_that_the_disk_is_full_is_marked_the_second_time(marked, monkeypatch):
    full = "import os\ndef share():\n    raise OSError(28, os.strerror(28))"
    real, tries = preprocessors.SandboxedExecute.preprocess, []

    def preprocess(self, *arguments, **more):
        tries.append(self.first_try)
        return real(self, *arguments, **more)

    monkeypatch.setattr(preprocessors.SandboxedExecute, "preprocess", preprocess)
    scores, result = marked(share=full)
    assert tries == [True, False]
    assert scores == {"test_double": 2, "test_share": 0, "why": None}
    assert result["problem"] is None


@pytest.mark.process
@pytest.mark.parametrize(
    ("logs", "fault"),
    [
        (["sqlite3.OperationalError: database or disk is full"] * 2, "disk is full"),
        (["KeyError: 'a'", "ValueError: b"], "twice, and not alike"),
        (["MemoryError"] * 2, "the memory does not suffice"),
        (["KeyError: 'a'"] * 2, None),
    ],
)
def test_only_what_fails_twice_alike_is_the_notebooks_fault(marked, monkeypatch, logs, fault):
    real, told = nbgrader_setup.make_api, list(logs)

    def make_api(config):
        api = real(config)
        autograde = api.autograde

        def fails(*arguments, **options):
            return (
                {"success": False, "log": told.pop(0)} if told else autograde(*arguments, **options)
            )

        api.autograde = fails
        return api

    monkeypatch.setattr(nbgrader_setup, "make_api", make_api)
    if fault:
        with pytest.raises(MachineFault, match=fault):
            marked()
        assert marked.left() == []
    else:
        scores, result = marked()
        assert "save it again" in result["problem"]
        assert scores["test_double"] == 0


def test_a_disk_is_full_before_the_last_byte_is_used(tmp_path, monkeypatch):
    disk = SimpleNamespace(f_bavail=10**6, f_frsize=4096, f_files=10**6, f_favail=10**5)
    monkeypatch.setattr(machine_faults.os, "statvfs", lambda folder: disk, raising=False)
    assert disk_fault(tmp_path) is None
    disk.f_files = disk.f_favail = 0  # a file system that does not count files
    assert disk_fault(tmp_path) is None
    disk.f_files, disk.f_favail = 10**6, 3
    assert disk_fault(tmp_path).endswith("can hold no more files")
    disk.f_bavail = 10
    assert disk_fault(tmp_path).endswith("is full (0 MB are free)")


def test_a_fault_is_found_in_nbgraders_log():
    assert told_fault("KeyError: 'x'") is None
    full = f"OSError: [Errno 28] {os.strerror(errno.ENOSPC)}: 'a'"
    assert told_fault(f"Traceback\n{full}\nmore") == full


def test_a_model_whose_process_the_system_kills_gives_no_mark_at_all(root, tmp_path, monkeypatch):
    killed = sandbox.Finished(b"", "", -9, "killed", 0.1, sandbox.LANDLOCK)
    monkeypatch.setattr(sandbox, "run", lambda *_, **__: killed)
    monkeypatch.setattr(sandbox, "isolation_level", lambda: sandbox.LANDLOCK)
    (tmp_path / "unet.onnx").write_bytes(tiny_model())
    with pytest.raises(MachineFault, match="the system killed the process that runs models/unet"):
        score_model_file(tmp_path / "unet.onnx", "unet", Settings(root))


@pytest.mark.skipif(os.name != "posix", reason="limits")
def test_a_job_has_a_limit_of_memory_and_its_kernel_its_own(monkeypatch):
    import resource

    set_to = []
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: set_to.append((kind, limits)))
    job_module._limit_memory()
    ((kind, (soft, hard)),) = set_to
    assert kind == resource.RLIMIT_DATA
    assert 0 < soft <= 3 << 30
    assert hard == resource.getrlimit(kind)[1]  # from which the launcher takes the kernel's


# --------------------------------------------------------------------- the whole run


def test_a_job_that_the_system_kills_is_run_once_more(root, tmp_path, monkeypatch):
    monkeypatch.setattr(grade_module, "_job_process", lambda job, threads: -9)
    job = SimpleNamespace(output=str(tmp_path / "output"))
    (tmp_path / "output").mkdir()
    with pytest.raises(RuntimeError, match=r"ended twice by SIGKILL.* --jobs 1"):
        grade_module._run_job(job, tmp_path / "target", 1)
    codes = [-9, 0]

    def process(job, threads):
        for name in ("job.json", "result.json") if len(codes) == 1 else ("part.ipynb",):
            (tmp_path / "output" / name).write_text("{}")
        return codes.pop(0)

    monkeypatch.setattr(grade_module, "_job_process", process)
    grade_module._run_job(job, tmp_path / "target", 1)
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["result.json"]


@pytest.mark.process
def test_a_gradebook_that_is_locked_during_a_merge_costs_no_other_its_merge(
    root, tmp_path, monkeypatch
):
    for student in ("ada", "bob", "eve", "tom"):
        hand_in(root, student)
    patience = []

    def job(job, target, threads):
        target.mkdir(parents=True)
        (target / "result.json").write_text("{}")

    def merge(root, folder, seconds, *opened):
        patience.append(seconds)
        if folder.parent.name == "bob":
            raise OperationalError("INSERT", {}, Exception("database is locked"))
        if folder.parent.name == "eve":
            raise RuntimeError("something else\nwith more lines")

    monkeypatch.setattr(grade_module, "_run_job", job)
    monkeypatch.setattr(grade_module, "merge", merge)
    monkeypatch.setattr(grade_module, "class_marks", lambda root: [])
    with pytest.raises(CourseError, match=r"2 of 4 .*bob/.*, eve/.* another program has locked"):
        grade(root=root)
    assert len(patience) == 4
    assert patience[2] < patience[0]  # not a minute for each of a class
    log = (root / "grading" / "failures.log").read_text()
    assert "RuntimeError: something else" in log
    assert "more lines" not in log


@pytest.mark.process
def test_merging_reads_no_notebook(root, monkeypatch):
    for student in ("ada", "bob"):
        merge_result(root, student, MINI)
    result = root / "results" / "ada" / MINI
    notebook, told = result / f"{MINI}.ipynb", result / "result.json"
    notebook.write_bytes(b"\xff" * 1000)  # a reader would fail
    changed = json.loads(told.read_text())
    changed["files"] |= file_hashes([notebook])
    told.write_text(json.dumps(changed))
    grade_module.merge(root, result)
    found = {one.student: one for one in class_marks(root)}
    assert found["ada"].total == found["bob"].total == 5
    assert list(found["ada"].marks) == ["test_double", "test_share", "why"]


@pytest.mark.process
def test_marks_that_nbgrader_alone_has_made_since_count(root):
    merge_result(root, "ada", MINI, stopped="an earlier cell ended the kernel")
    path = root / "grading" / "autograded" / "ada" / MINI / f"{MINI}.ipynb"
    assert class_marks(root)[0].stopped
    path.write_text(path.read_text().replace("an earlier cell ended the kernel", "anew"))
    assert class_marks(root)[0].stopped == "anew"


@pytest.mark.process
@pytest.mark.parametrize("name", ["what?", "50%20 #1?", "a;b=c&d"])
def test_the_gradebook_lies_in_the_course_whatever_its_folders_name(tmp_path, name):
    root = make_course(tmp_path / name)
    merge_result(root, "ada", MINI)
    assert class_marks(root)[0].total == 5
    assert (root / "grading" / "gradebook.db").stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.process
def test_feedback_is_made_anew_whatever_the_courses_folders_name(tmp_path):
    from nbgrader.api import Gradebook

    root = make_course(tmp_path / "a[b]?c")
    merge_result(root, "ada", MINI)
    with Gradebook(nbgrader_setup.gradebook_url(root)) as gradebook:
        gradebook.find_grade("why", MINI, MINI, "ada").manual_score = 0.5
        gradebook.db.commit()
    grade_module.merge(root, root / "results" / "ada" / MINI)
    page = root / "grading" / "feedback" / "ada" / MINI / f"{MINI}.html"
    assert "Score: 5.5 / 6.0" in page.read_text()


@pytest.mark.process
@pytest.mark.skipif(os.name != "posix", reason="sockets")
def test_temporary_files_lie_where_a_sockets_path_is_not_too_long(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 96)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with grade_module._scratch(tmp_path):
        place = Path(tempfile.gettempdir())
        assert len(str(place / "j-01234567" / "k-01234567" / "k-10")) <= 103
        assert place.stat().st_mode & 0o77 == 0
    assert not place.exists()
    assert tempfile.gettempdir() == str(long)
    monkeypatch.setattr(sandbox.os, "access", lambda path, mode: False)
    with pytest.raises(CourseError, match="Set TMPDIR to a folder with a shorter path"):
        sandbox.short_temporary_folder(room=10)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_run_that_is_killed_leaves_no_process_and_the_next_one_no_file(root, tmp_path):
    places = Path(tempfile.mkdtemp(prefix="t-"))
    try:
        for student in ("ada", "bob"):
            hand_in(root, student, double="import time\ntime.sleep(60)\n")
        line = (
            "from pathlib import Path; from course_utils.grading.grade import grade;"
            f"grade(root=Path({str(root)!r}), jobs=2)"
        )
        environment = os.environ | {"TMPDIR": str(places)}
        argv = [sys.executable, "-c", line]
        with subprocess.Popen(argv, env=environment, stderr=subprocess.DEVNULL) as run:
            wait_until(lambda: len(list(places.glob("course-*/j-*/k-*/k.json"))) == 2)
            run.kill()
        wait_until(lambda: not processes_below(places), seconds=10)
        assert list(places.iterdir())
        with grade_module._scratch(root / "grading"):
            assert list(places.iterdir()) == []
    finally:
        sandbox.remove_tree(places)


def processes_below(folder):
    """Return the processes whose command line or variables name a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            told = (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in told:
            found.append(place.name)
    return found


# ---------------------------------------------------------------- what is within reach


FUNCTION = get_task("classical").lesson
CELLS = {
    "start": "import os, time\nfrom course_utils.hand_in.function_task import run_function_task\n"
    "def segment(image): time.sleep(PAUSE); return image.mean(axis=2) > image.mean()\n"
    "def looks():\n    open('masks_classical.bin', 'wb').write(b'forged')\n"
    "    return os.path.exists('hidden_classical.npy')\nbefore = looks()",
    "task_classical": "run_function_task('classical', segment)",
    "after": "after = looks()",
    "reach": "float(not before and not after)",
}


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True])
def test_a_function_has_the_hidden_images_in_its_own_cell_and_by_the_graders_clock(
    root, tmp_path, monkeypatch, late
):
    points = {"task_classical": get_task("classical").points, "reach": 1}
    cells = [
        code(name, text, **({"grade_id": name, "points": points[name]} if name in points else {}))
        for name, text in CELLS.items()
    ]
    cells[0]["source"] = f"PAUSE = {0.2 if late else 0}\n{CELLS['start']}"
    if late:
        monkeypatch.setattr(preprocessors, "_GRACE", 3 - get_task("classical").seconds)
    folder = root / "grading" / "submitted" / "ada" / FUNCTION
    for place in (root / "solutions" / FUNCTION, folder):
        save(place / f"{FUNCTION}.ipynb", cells)
    register(root, [FUNCTION])
    for name in ("output", "job"):
        (tmp_path / name).mkdir()
    job = job_module.Job(
        student="ada",
        lesson=FUNCTION,
        handed_in=str(folder),
        hand_in_hash=tree_hash(folder),
        gradebook=str(root / "grading" / "gradebook.db"),
        output=str(tmp_path / "output"),
        settings=Settings(root),
    )
    result = job_module.run(job, tmp_path / "job")
    assert result["exercises"]["reach"]["score"] == 1
    task = result["tasks"]["task_classical"]
    assert (task["iou"] is None) == late
    assert ("took longer than the 60 s" in task["reason"]) == late


def test_what_was_made_within_reach_of_hidden_images_is_not_in_the_feedback():
    from nbformat import from_dict
    from nbformat.v4 import new_output

    def cell(name, **meta):
        made = code(name, f"{name}()", **meta)
        made["outputs"] = [new_output("stream", name="stdout", text=f"printed by {name}\n")]
        return made

    nb = {"metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    nb["cells"] = [
        cell("before"),
        cell("tested", grade_id="t", points=1),
        cell("task", grade_id=get_task("classical").grade_id, points=10),
        cell("after"),
        cell("solution", grade_id="s", solution=True),
    ]
    nb["cells"][1]["source"] = "f()\n### BEGIN HIDDEN TESTS\nsecret()\n### END HIDDEN TESTS"
    resources = {"nbgrader": {"assignment": get_task("classical").lesson}}
    nb, _ = preprocessors.HideTests().preprocess(from_dict(nb), resources)
    assert grade_module._shows_images(FUNCTION)  # then the instructor is told to draw new ones
    assert not grade_module._shows_images(MINI)
    told = [[out.text for out in cell.outputs] for cell in nb.cells]
    assert told[0] == ["printed by before\n"]
    assert told[1] == []  # the tested function may have printed the test
    assert told[2] == ["printed by task\n"]  # the scorer's words, in their place by now
    assert "Not shown" in told[3][0]
    assert "Not shown" in told[4][0]
    assert nb.cells[1].source == "f()\n"
