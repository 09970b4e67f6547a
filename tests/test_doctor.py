"""`course doctor` names every problem of a machine, and the command that mends it."""

import re
import shlex
import subprocess
import sys
from importlib import metadata

import pytest

from course_utils import doctor
from course_utils.doctor import Finding
from course_utils.errors import CourseError

GOOD_CPU = {"device": "cpu", "cuda_built": False, "cuda_seen": False, "step": 0.1}


def versions(**changed):
    """Return a stand-in for metadata.version with some versions changed (None: absent)."""

    def version(name):
        found = changed.get(name, metadata.version(name) if name not in changed else None)
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    return version


def test_tested_set_is_no_problem():
    lock = {"torch": "2.14.0", "torchvision": "0.29.0"}
    installed = versions(torch="2.14.0", torchvision="0.29.0")
    assert not any(finding.problem for finding in doctor.packages(installed, lock))


def test_cpu_build_counts_as_the_locked_version():
    finding, _ = doctor.packages(versions(torch="2.14.0+cpu"), {"torch": "2.14.0"})
    assert finding.problem == ""


def test_supported_version_that_is_not_the_tested_one_is_no_fault():
    finding, _ = doctor.packages(versions(torch="2.12.1"), {"torch": "2.14.0"})
    assert finding.problem == "torch 2.12.1 (tested: 2.14.0)"
    assert not finding.needed


def test_too_old_and_missing_packages_are_faults_with_a_cure():
    finding, _ = doctor.packages(versions(torch="2.10.0", nbgrader=None), {})
    assert finding.needed
    assert "nbgrader not installed" in finding.problem
    assert re.search(r"torch 2\.10\.0 \(needed: >=2\.11\)", finding.problem)
    assert "pip install -r requirements.lock" in finding.cure


def test_package_of_the_dev_extra_is_not_asked_of_students():
    finding, _ = doctor.packages(versions(playwright=None, hypothesis=None), {})
    assert finding.problem == ""


def test_old_python_is_a_fault():
    assert doctor.python((3, 12, 4)).problem == ""
    old = doctor.python((3, 9, 2))
    assert ">=3.11" in old.problem
    assert "python.org" in old.cure


def test_full_disk_is_a_fault():
    assert doctor.disk(free=10**10).problem == ""
    assert "1 GB" in doctor.disk(free=10**8).problem


@pytest.mark.process
def test_broken_torch_is_reported_with_its_own_last_words():
    child = subprocess.Popen(
        [sys.executable, "-c", "raise RuntimeError('operator torchvision::nms does not exist')"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    found = doctor.read_torch_report(child)
    finding = doctor.gpu(found)
    assert "operator torchvision::nms does not exist" in finding.problem
    assert finding.needed
    assert "requirements.lock" in finding.cure
    assert "nothing can be trained" in doctor.advice(found)[0]


@pytest.mark.process
def test_torch_that_hangs_is_given_up():
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "no answer" in doctor.read_torch_report(child, seconds=0.2)["error"]
    assert child.poll() is not None


@pytest.mark.process
def test_torch_child_measures_this_machine():
    found = doctor.read_torch_report(doctor.start_torch_report())
    assert found["device"] in ("cpu", "cuda", "mps")
    assert 1e-5 < found["step"] < 30


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (GOOD_CPU, "none that torch can use"),
        ({"device": "mps", "cuda_built": False, "cuda_seen": False, "step": 0.1}, "Apple (MPS)"),
        (
            {"device": "cuda", "cuda_built": True, "step": 0.1, "name": "H1", "memory": 80e9},
            "H1 (CUDA), 80 GB",
        ),
    ],
)
def test_gpu_is_named(found, text, monkeypatch):
    monkeypatch.setattr(doctor, "nvidia_present", lambda: False)
    assert doctor.gpu(found) == Finding("GPU", text)


def test_nvidia_gpu_with_a_torch_for_the_cpu_is_pointed_out(monkeypatch):
    monkeypatch.setattr(doctor, "nvidia_present", lambda: True)
    finding = doctor.gpu(GOOD_CPU)
    assert "built for the CPU only" in finding.problem
    assert not finding.needed


def test_nvidia_gpu_that_the_installed_torch_has_no_code_for_is_pointed_out():
    finding = doctor.gpu(GOOD_CPU | {"cuda_built": True, "cuda_seen": True})
    assert "no code for its age" in finding.problem
    assert shlex.split(finding.cure)[-1].endswith("/cu126")
    assert "+" not in finding.cure
    assert "(" not in finding.cure
    assert not finding.needed


@pytest.mark.process
def test_the_cause_is_told_and_not_the_advice_that_torch_puts_below_it():
    child = doctor.subprocess.Popen(
        [
            doctor.sys.executable,
            "-c",
            "raise RuntimeError('CUDA error: no kernel image\\nFor debugging set X=1')",
        ],
        stdout=-1,
        stderr=-1,
        text=True,
    )
    assert doctor.read_torch_report(child) == {"error": "RuntimeError: CUDA error: no kernel image"}


def test_profile_full_is_advised_on_cuda_only():
    cuda = {"device": "cuda", "cuda_built": True, "step": 0.001, "name": "H1", "memory": 80e9}
    assert "COURSE_PROFILE=full" in "\n".join(doctor.advice(cuda))
    assert "meant for a CUDA GPU" in "\n".join(doctor.advice(GOOD_CPU))


def test_report_puts_what_is_needed_first_and_names_each_cure():
    text = doctor.report(
        [
            Finding("A", "fine"),
            Finding("B", "slow", "is slow", "speed up", needed=False),
            Finding("C", "broken", "is broken", "mend it"),
        ],
        ["For the lessons: something."],
    )
    assert text.index("! C: is broken") < text.index("mend it") < text.index("- B: is slow")
    assert "Nothing is wrong" not in text


def test_data_folder_that_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "nowhere"))
    problem = doctor.data_sets()[-1].problem
    assert "COURSE_DATA is" in problem
    assert "nowhere" in problem


def test_profile_full_without_its_data_is_a_problem(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert not doctor.data_sets()[-1].problem
    monkeypatch.setenv("COURSE_PROFILE", "full")
    assert "COURSE_PROFILE is full" in doctor.data_sets()[-1].problem
    assert doctor.data_sets()[-1].cure == "course data fetch camvid"


def test_camvid_is_found_where_it_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert "course data fetch camvid" in doctor.data_sets()[-1].found
    (tmp_path / "CamVid" / "trainannot").mkdir(parents=True)
    assert doctor.data_sets()[-1].found == f"camvid: {tmp_path / 'CamVid'}"


def test_doctor_has_something_to_say_outside_of_the_course(monkeypatch, tmp_path):
    def nowhere():
        raise CourseError("this is not inside a copy of the course. Change the folder.")

    monkeypatch.delenv("COURSE_DATA", raising=False)
    for module in (doctor, doctor.sys.modules["course_utils.paths"]):
        monkeypatch.setattr(module, "course_root", nowhere)
    assert "not inside a copy" in doctor.lessons().problem
    assert doctor.locked_versions() == {}
    assert [finding.problem for finding in doctor.data_sets()] == [""]
    assert doctor.disk().found


def test_missing_walls_matter_to_instructors_only(monkeypatch):
    from course_utils.grading.marking import sandbox

    monkeypatch.setattr(sandbox, "isolation_level", lambda: sandbox.LIMITS)
    monkeypatch.setattr(doctor.sys, "platform", "linux")
    finding = doctor.isolation()
    assert finding.cure == "sudo apt install bubblewrap"
    assert not finding.needed
    monkeypatch.setattr(doctor.sys, "platform", "darwin")
    assert "Linux 5.13" in doctor.isolation().found
    monkeypatch.setattr(sandbox, "isolation_level", lambda: sandbox.LANDLOCK)
    assert doctor.isolation() == Finding("Grading", "hand-ins run behind L3 Landlock + seccomp")


@pytest.fixture
def sound(monkeypatch):
    """Let the doctor find a sound machine, whatever this one is."""
    monkeypatch.setattr(doctor, "start_torch_report", lambda: None)
    monkeypatch.setattr(doctor, "read_torch_report", lambda child: GOOD_CPU)
    monkeypatch.setattr(doctor, "lessons", lambda: Finding("Lessons", "1: 00_start_here"))
    monkeypatch.setattr(doctor, "packages", lambda: [Finding("Packages", "torch 2.14.0")])
    monkeypatch.setattr(doctor, "disk", lambda: Finding("Disk", "20 GB free"))


@pytest.mark.process
def test_doctor_fits_on_one_screen_and_succeeds_on_a_sound_machine(sound, capsys):
    doctor.run()
    text = capsys.readouterr().out
    assert text.count("\n") <= 24
    for topic in ("Python", "Packages", "Processor", "Memory", "Disk", "GPU", "scenes", "camvid"):
        assert topic in text


@pytest.mark.process
def test_doctor_fails_if_something_needed_is_broken(sound, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "read_torch_report", lambda child: {"error": "ImportError: torch"})
    with pytest.raises(SystemExit) as ended:
        doctor.run()
    assert ended.value.code == 1
    assert "! GPU: torch does not work: ImportError: torch" in capsys.readouterr().out
