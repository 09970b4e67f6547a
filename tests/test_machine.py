"""The limits of a container are seen, where Python itself would count the whole machine."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from course_utils import doctor, machine
from course_utils.grading import grade
from course_utils.machine import Memory, memory, processors

GIB = 1 << 30


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Return a function that sets the files of the control groups, on a machine of 16 cores."""
    monkeypatch.setattr(machine, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    state = psutil.virtual_memory()._replace(total=64 * GIB, available=50 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: state)

    def write(own, files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            file = tmp_path / "cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")

    return write


def test_without_control_groups_it_is_the_machine(groups):
    assert processors() == 16
    assert memory() == (64 * GIB, 50 * GIB)


def test_container_of_version_2(groups):
    stat = f"anon 5\ninactive_file {GIB // 2}\nactive_file 7"
    used = {"memory.max": 2 * GIB, "memory.current": GIB, "memory.stat": stat}
    groups("0::/", {"cpu.max": "200000 100000", **used})
    assert processors() == 2
    assert memory() == (2 * GIB, 1.5 * GIB)


def test_container_of_version_1_that_names_its_groups_as_the_host_does(groups):
    own = "9:memory:/docker/ab12\n5:cpu,cpuacct:/docker/ab12\n1:name=systemd:/docker/ab12"
    used = {"memory.limit_in_bytes": 3 * GIB, "memory.usage_in_bytes": 2 * GIB}
    stat = f"inactive_file 9\ntotal_inactive_file {GIB}"
    cpu = {"cpu.cfs_quota_us": 350000, "cpu.cfs_period_us": 100000}
    files = {f"cpu/{name}": text for name, text in cpu.items()}
    groups(own, files | {f"memory/{name}": text for name, text in used.items()})
    assert processors() == 3, "three and a half: the fourth thread would hold up the others"
    assert memory() == (3 * GIB, GIB)
    groups(own, {"memory/memory.stat": stat})
    assert memory() == (3 * GIB, 2 * GIB)


def test_the_narrowest_of_nested_groups_counts(groups):
    inner, outer = "user.slice/student.scope", "user.slice"
    groups(
        "0::/user.slice/student.scope",
        {
            f"{inner}/cpu.max": "max 100000",
            f"{outer}/cpu.max": "400000 100000",
            f"{inner}/memory.max": "max",
            f"{inner}/memory.current": 5,
            f"{outer}/memory.max": 8 * GIB,
            f"{outer}/memory.current": 2 * GIB,
        },
    )
    assert processors() == 4
    assert memory() == (8 * GIB, 6 * GIB)


def test_groups_of_others_do_not_count(groups):
    files = {"other/cpu.max": "100000 100000", "other/memory.max": GIB, "other/memory.current": 1}
    groups("0::/mine", files)
    assert processors() == 16
    assert memory().total == 64 * GIB


def test_groups_without_limits_do_not_count(groups):
    files = {
        "cpu/cpu.cfs_quota_us": -1,
        "cpu/cpu.cfs_period_us": 100000,
        "memory/memory.limit_in_bytes": 9223372036854771712,
        "memory/memory.usage_in_bytes": 12345,
    }
    groups("4:memory:/\n1:cpu:/", files)
    assert processors() == 16
    assert memory() == (64 * GIB, 50 * GIB)


def test_half_a_core_is_one_and_an_overfull_group_has_nothing_free(groups):
    used = {"memory.max": GIB, "memory.current": 2 * GIB}
    groups("0::/", {"cpu.max": "50000 100000", **used})
    assert processors() == 1
    assert memory() == (GIB, 0)


def test_doctor_tells_what_the_container_grants(monkeypatch):
    monkeypatch.setattr(machine, "processors", lambda: 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(machine, "memory", lambda: Memory(int(2e9), int(1.5e9)))
    assert doctor.processor().found == "2 cores (of 64 in the machine)"
    assert doctor.memory().found == "1.5 GB free of 2.0 GB"
    assert "can take 2 GB" in doctor.memory().problem


def test_hand_ins_are_graded_as_the_container_grants(monkeypatch):
    monkeypatch.setattr(grade, "processors", lambda: 8)
    monkeypatch.setattr(grade, "memory", lambda: Memory(64 * GIB, GIB))
    assert grade.default_jobs() == 8
    monkeypatch.setattr(grade, "memory", lambda: Memory(7 * GIB, GIB))
    assert grade.default_jobs() == 2


@contextlib.contextmanager
def control_group(controller, files):
    """Make a real control group with limits, and yield its folder; skip where that is barred."""
    own = re.search(rf"^\d+:{controller}:(.*)$|\Z", Path("/proc/self/cgroup").read_text(), re.M)
    try:
        folder = Path(tempfile.mkdtemp(dir=f"/sys/fs/cgroup/{controller}{own[1] or ''}"))
    except OSError:
        pytest.skip(f"no control group of version 1 can be made here for {controller}")
    try:
        for name, text in files.items():
            (folder / name).write_text(str(text))
        yield folder
    finally:
        folder.rmdir()


def run_inside(folder, code, **environment):
    """Run Python code in a control group; return what it printed."""
    enter = f"open({str(folder / 'cgroup.procs')!r}, 'w').write('0')\n"
    command = [sys.executable, "-c", enter + code]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux'")
def test_real_control_group_limits_processors_and_threads_of_torch():
    code = (
        "from course_utils.machine import processors; import course_utils.training, torch\n"
        "print(processors(), torch.get_num_threads())"
    )
    with control_group("cpu", {"cpu.cfs_quota_us": 100000}) as folder:
        assert run_inside(folder, code, OMP_NUM_THREADS="4") == ["1", "1"]


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux'")
def test_real_control_group_limits_memory():
    code = "from course_utils.machine import memory; print(*memory())"
    with control_group("memory", {"memory.limit_in_bytes": GIB}) as folder:
        total, available = map(int, run_inside(folder, code))
    assert total == GIB
    assert GIB / 2 < available <= GIB


@pytest.mark.process
def test_torch_takes_no_more_threads_than_there_are_cores_and_no_more_than_it_was_told():
    code = (
        "from course_utils import machine; machine.processors = lambda: 2\n"
        "import torch; before = torch.get_num_threads()\n"
        "from course_utils.training.threads import limited_threads\n"
        "assert torch.get_num_threads() == before\n"
        "with limited_threads(): print(torch.get_num_threads())\n"
        "assert torch.get_num_threads() == before"
    )
    for told, taken in (("4", "2"), ("1", "1")):
        environment = os.environ | {"OMP_NUM_THREADS": told, "MKL_NUM_THREADS": told}
        command = [sys.executable, "-c", code]
        assert subprocess.check_output(command, env=environment, text=True).strip() == taken
