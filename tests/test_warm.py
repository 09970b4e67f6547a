"""What is forked from a warm process is as alone as what is started anew, and as good."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from course_utils.grading.marking import forked, preprocessors, sandbox, warm
from tests import forked_program
from tests.forked_program import begun
from tests.mini_course import MINI, make_course

ROOT = Path(__file__).resolve().parent.parent
PYTHON = forked_program.COMMAND

pytestmark = pytest.mark.process


@pytest.fixture(scope="module", autouse=True)
def landlock(processes):
    if sandbox.isolation_level() != sandbox.LANDLOCK:
        pytest.skip("processes are forked where Landlock works")


@pytest.fixture(scope="module")
def torch_server():
    """Return a server that has imported torch and is told of two threads."""
    two = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    with begun("import numpy\nimport torch\nimport course_utils.metrics", two) as server:
        assert server.ready()
        yield server


@pytest.fixture
def run(torch_server, monkeypatch):
    """Return a function that runs source in a forked process, and its outcome."""
    forked_program.known(monkeypatch, torch_server)

    def run(source, **options):
        return sandbox.run([*PYTHON, textwrap.dedent(source)], **{"seconds": 60} | options)

    return run


class Sibling:
    """Another forked process, with a folder of its own, that waits."""

    def __init__(self, folder, secret):
        self.folder = folder
        folder.mkdir()
        code = "open('mine', 'w').write('4711'); print('up', flush=True); import time\n"
        code += "import socket; s = socket.socket(socket.AF_UNIX); s.bind('s'); s.listen()\n"
        code += "print('heard', flush=True); time.sleep(100)"
        command = sandbox.command(
            [*PYTHON, code], write=[folder], cwd=folder, sockets=True, env={"SECRET": secret}
        )
        pipes = dict.fromkeys(("stdin", "stderr"), subprocess.DEVNULL)
        self.process = forked.fork(command, cwd=folder, stdout=subprocess.PIPE, **pipes)
        for word in (b"up\n", b"heard\n"):
            assert self.process.stdout.read(len(word)) == word

    def close(self):
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture
def sibling(run, tmp_path):
    other = Sibling(tmp_path / "sibling", "the secret of another student")
    yield other
    other.close()


# ------------------------------------------------------------------- out of each other's reach

CALL = "ctypes.CDLL(None, use_errno=True).syscall(*map(ctypes.c_long, [{}]))"
REACH = {
    "read its file": "open(FOLDER + '/mine').read()",
    "list its folder": "os.listdir(FOLDER)",
    "write into its folder": "open(FOLDER + '/x', 'w')",
    "connect to its socket": "socket.socket(socket.AF_UNIX).connect(FOLDER + '/s')",
    "connect to the server": "socket.socket(socket.AF_UNIX).connect(SERVER)",
    "list the server's folder": "os.listdir(os.path.dirname(SERVER))",
}
OF_PROCESS = {
    "signal": "os.kill({pid}, 0)",
    "kill": "os.kill({pid}, 9)",
    "kill its group": "os.killpg({pid}, 9)",
    "read its memory": "open('/proc/{pid}/mem', 'rb')",
    "see where its memory is": "open('/proc/{pid}/maps').read()",
    "see its environment": "open('/proc/{pid}/environ').read()",
    "list its files": "os.listdir('/proc/{pid}/fd')",
    "go into its folder": "os.listdir('/proc/{pid}/cwd')",
    "go through its root": "open('/proc/{pid}/root' + FOLDER + '/mine')",
    "limit it": "resource.prlimit({pid}, resource.RLIMIT_CPU, (1, 1))",
    "hold it": "os.pidfd_open({pid})",
    "schedule it": "before = os.sched_getscheduler({pid});"
    " os.sched_setscheduler({pid}, os.SCHED_BATCH, os.sched_param(0));"
    " assert os.sched_getscheduler({pid}) != before",
    "trace it": f"assert {CALL.format('101, 16, {pid}, 0, 0')} == 0",
    "read it": f"assert {CALL.format('310, {pid}, 0, 0, 0, 0, 0')} == 0",
    "write to it": f"assert {CALL.format('311, {pid}, 0, 0, 0, 0, 0')} == 0",
}
for who in ("SIBLING", "PARENT"):
    REACH |= {
        f"{name}: {who.lower()}": source.replace("{pid}", f"%({who})d")
        for name, source in OF_PROCESS.items()
    }
TRY = """
import ctypes, json, os, resource, socket, sys
for name, source in json.loads(sys.stdin.read()).items():
    try:
        exec(source)
    except (OSError, AssertionError):
        continue
    print("DONE", name)
"""


def attempts(sibling, server, parent):
    """Return what a process tries, with names for all that it may know."""
    places = {"SIBLING": sibling.process.pid, "PARENT": parent}
    known = f"FOLDER, SERVER = {str(sibling.folder)!r}, {str(server)!r}\n"
    return {
        name: known + (source % places if "%(" in source else source)
        for name, source in REACH.items()
    }


def test_a_forked_process_reaches_neither_its_sibling_nor_the_warm_process(
    run, sibling, torch_server
):
    tried = attempts(sibling, torch_server.path, torch_server._process.pid)
    done = run(TRY, send=[json.dumps(tried).encode()])
    assert (done.failure, done.stdout) == (None, b""), done.stderr
    assert sibling.process.poll() is None
    assert torch_server.ready()


@pytest.mark.skipif(os.getuid() != 0, reason="what is tried needs root where nothing isolates")
def test_without_isolation_it_would_reach_them(run, sibling, torch_server):
    """Else the test above would show nothing. Of what kills, only what can be seen is tried."""
    tried = attempts(sibling, torch_server.path, torch_server._process.pid)
    tried = {name: source for name, source in tried.items() if not name.startswith(("kill", "lim"))}
    names = {name for name in tried if "trace" not in name and "write to" not in name}
    tried = {name: tried[name] for name in names}
    done = run(TRY, send=[json.dumps(tried).encode()], level=sandbox.LIMITS)
    reached = {line.removeprefix("DONE ") for line in done.stdout.decode().splitlines()}
    assert reached == names, done.stderr


def test_no_file_of_the_server_or_a_sibling_is_open(run, sibling):
    code = """
        import fcntl, os, stat
        for number in range(3, 5000):
            try: mode = os.fstat(number).st_mode
            except OSError: continue
            flags = fcntl.fcntl(number, fcntl.F_GETFL)
            own = os.readlink(f"/proc/self/fd/{number}").startswith(f"/proc/{os.getpid()}/")
            if not (flags & os.O_PATH and own):
                print(number, stat.filemode(mode), os.readlink(f"/proc/self/fd/{number}"))
    """
    done = run(code)
    assert (done.failure, done.stdout) == (None, b""), done.stderr


def test_nothing_that_a_sibling_was_told_is_in_the_memory(run, sibling):
    """Its request passed by the server, which must not have read it."""
    code = """
        import ctypes, os
        find = ctypes.CDLL(None).memmem
        find.restype = ctypes.c_void_p
        find.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t
        def held(backwards):
            word = ctypes.create_string_buffer(len(backwards))
            for at, sign in enumerate(reversed(backwards)): word[at] = sign
            own = ctypes.addressof(word)
            count = 0
            for line in open("/proc/self/maps"):
                place, rights = line.split()[:2]
                if not rights.startswith("rw"): continue
                at, end = (int(number, 16) for number in place.split("-"))
                while at < end and (there := find(at, end - at, own, len(backwards))):
                    count += there != own
                    at = there + 1
            return count
        kept = "".join(["forty", "-seven eleven"]).encode()
        print(held(b"neve" b"le neves-ytrof"), held(b"tneduts rehto" b"na fo terces eht"))
    """
    done = run(code)
    assert done.failure is None, done.stderr
    own, others = map(int, done.stdout.split())
    assert own > 0  # so that the search finds what is there
    assert others == 0


def test_no_memory_is_shared(run, sibling):
    code = """
        import course_utils.metrics, numpy
        course_utils.metrics.iou = numpy.pi = None
        for line in open("/proc/self/maps"):
            rights = line.split()[1]
            if "w" in rights and "s" in rights: print(line)
    """
    assert run(code).stdout == b""
    code = "import course_utils.metrics as m, numpy; print(m.iou is None, numpy.pi is None)"
    assert run(code).stdout == b"False False\n"


def test_it_has_no_variable_of_the_server_or_the_grader(run, monkeypatch):
    monkeypatch.setenv("GRADER_TOKEN", "4711")
    done = run("import os; print(sorted(os.environ))")
    assert b"GRADER" not in done.stdout
    assert b"TESTS" not in done.stdout
    anew = sandbox.run([sys.executable, "-I", "-B", "-c", "import os; print(sorted(os.environ))"])
    assert done.stdout == anew.stdout


@pytest.mark.parametrize("broken", ["_landlock", "_seccomp", "_drop_privileges"])
def test_where_the_isolation_cannot_be_put_up_nothing_runs(monkeypatch, broken):
    source = (
        f"from course_utils.grading.marking import launcher\nlauncher.{broken} = lambda *_: [][0]\n"
    )
    with begun(source) as server:
        assert server.ready()
        forked_program.known(monkeypatch, server)
        done = sandbox.run([*PYTHON, "print('ran')"], seconds=20)
    assert (done.failure, done.returncode, done.stdout) == ("isolation", 125, b"")


def test_where_the_isolation_is_none_nothing_runs(monkeypatch):
    """A file that must not be read is tried, whatever has been put up."""
    source = (
        "from course_utils.grading.marking import launcher\nlauncher._landlock = lambda *_: None\n"
    )
    with begun(source) as server:
        assert server.ready()
        forked_program.known(monkeypatch, server)
        done = sandbox.run([*PYTHON, "print('ran')"], seconds=20)
    assert (done.failure, done.stdout) == ("isolation", b"")
    assert "can be read" in done.stderr


# ----------------------------------------------------------------------- as good as begun anew


def test_it_is_a_child_of_the_server(run, torch_server):
    told = run("import os, sys; print(os.getppid(), 'torch' in sys.modules)").stdout.split()
    assert told == [str(torch_server._process.pid).encode(), b"True"]


def test_each_has_its_own_random_numbers(run):
    code = """
        import random, numpy, torch
        print(random.random(), numpy.random.rand(), torch.rand(1).item())
    """
    first, second = (run(code).stdout.split() for _ in range(2))
    assert len(first) == len(second) == 3
    assert not set(first) & set(second)


def test_torch_computes_with_both_threads(run):
    """What OpenMP had begun before the fork would hang in the child."""
    code = """
        import torch
        net = torch.nn.Conv2d(3, 64, 3)
        net(torch.rand(8, 3, 128, 128)).sum().backward()
        print(torch.get_num_threads(), bool(net.weight.grad.isfinite().all()))
    """
    done = run(code)
    assert (done.failure, done.stdout) == (None, b"2 True\n"), done.stderr


def test_exit_codes_and_signals_are_told(run):
    assert run("import sys; sys.exit(3)").returncode == 3
    assert run("raise ValueError('so')").returncode == 1
    assert "ValueError: so" in run("raise ValueError('so')").stderr
    assert run("import os; os.abort()").returncode == -signal.SIGABRT
    assert run("while True: pass", seconds=1).failure == "time"
    assert run("while True: pass", seconds=20, cpu=1).failure == "time"
    assert run("bytearray(2 << 30)", memory=1 << 30).failure == "memory"


def test_one_that_the_system_kills_is_told_from_one_that_ends_itself(sibling):
    assert sibling.process.poll() is None
    os.kill(sibling.process.pid, signal.SIGKILL)
    assert sandbox.was_killed(sibling.process.wait(10))


def gone(pid):
    deadline = time.monotonic() + 10
    state = Path(f"/proc/{pid}/stat")
    with contextlib.suppress(OSError):
        while ") Z" not in state.read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        return ") Z" in state.read_text()
    return True


def test_it_ends_with_whoever_asked_for_it(torch_server):
    code = f"""
import sys
sys.path.append({str(ROOT)!r})
import subprocess, time, pytest
from types import SimpleNamespace
from pathlib import Path
from tests import forked_program
from tests.forked_program import begun
from course_utils.grading.marking import forked, sandbox
patch = pytest.MonkeyPatch()
forked_program.known(patch, SimpleNamespace(path={str(torch_server.path)!r}))
silent = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
command = sandbox.command([*forked_program.COMMAND, "import time; time.sleep(100)"])
print(forked.fork(command, cwd="/", **silent).pid, flush=True)
time.sleep(100)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as grader:
        pid = int(grader.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        grader.kill()
    assert gone(pid)


@pytest.mark.parametrize("end", ["close", "kill"])
def test_it_ends_with_the_server(monkeypatch, end):
    with begun() as server:
        assert server.ready()
        forked_program.known(monkeypatch, server)
        command = sandbox.command([*PYTHON, "import time; time.sleep(100)"])
        silent = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        child = forked.fork(command, cwd="/", **silent)
        server.close() if end == "close" else os.kill(server._process.pid, signal.SIGKILL)
        assert child.wait(10) == -signal.SIGKILL
        assert gone(child.pid)
        assert not server.ready()
        assert sandbox.run([*PYTHON, "print(1)"], seconds=20).stdout == b"1\n"  # begun anew


def test_many_at_once_are_kept_apart(run):
    from concurrent.futures import ThreadPoolExecutor

    def one(number):
        return run(f"import time; time.sleep({number % 3} / 10); print({number})").stdout

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, range(64))) == [f"{number}\n".encode() for number in range(64)]


@pytest.mark.parametrize(
    "imports",
    [
        "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), daemon=1).start()",
        "import mmap, sys\nsys.kept = mmap.mmap(-1, 4096)",
    ],
)
def test_a_server_that_is_not_whole_to_fork_says_so(imports):
    with begun(imports) as server:
        assert not server.ready()
        assert server._answer == "2 threads run" or server._answer.startswith("memory is shared")


def test_a_server_that_imports_ends_at_once(alone):
    with begun("import time\ntime.sleep(60)") as server:
        time.sleep(0.5)
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < 5


def test_what_a_library_prints_is_no_answer():
    with begun("import os\nprint('hello', flush=True)\nos.write(1, b'there')") as server:
        assert server.ready()


@pytest.mark.parametrize("level", [sandbox.LIMITS, sandbox.BUBBLEWRAP])
def test_behind_another_isolation_nothing_is_forked(run, level):
    command = sandbox.command([*PYTHON, "pass"], level=level)
    silent = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    assert forked.fork(command, cwd="/", **silent) is None
    other = sandbox.command([sys.executable, "-c", "pass"])
    assert forked.fork(other, cwd="/", **silent) is None


# ------------------------------------------------------------------------------- the servers


def test_what_a_lessons_notebook_imports_is_found(tmp_path):
    cells = [
        "%matplotlib inline\nimport no",
        "import numpy as np\ndef f():\n    from torch import nn",
    ]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    folder = tmp_path / "solutions" / "90_x"
    folder.mkdir(parents=True)
    nbformat.write(nb, folder / "90_x.ipynb")
    assert warm.lesson_imports(tmp_path, "90_x") == "import numpy as np\nfrom torch import nn"
    assert warm.lesson_imports(tmp_path, "91_none") == ""


@pytest.fixture
def servers(monkeypatch, tmp_path):
    """Return the variables of a job, and a course; afterwards no server is left."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(warm, "_KERNEL_IMPORTS", "")
    warm.close()
    yield {**os.environ, "OMP_NUM_THREADS": "1"}, make_course(tmp_path / "course")
    warm.close()


def test_servers_are_kept_for_the_last_lessons_that_nobody_uses(servers):
    environment, course = servers
    own = warm._SERVERS
    with warm.ready(course, "01", environment), warm.ready(course, "02", environment):
        with warm.ready(course, "03", environment):
            assert len(own._kernels) == 3
        with warm.ready(course, "04", environment):
            assert [key[0] for key in own._kernels] == ["01", "02", "04"]
        first = next(iter(own._kernels.values()))
    with warm.ready(course, "01", environment):
        assert own._kernels[next(key for key in own._kernels if key[0] == "01")] is first
    pids = [server._process.pid for server in own._kernels.values()]
    place = own._folder
    warm.close()
    assert all(map(gone, pids))
    assert not place.exists()


def test_a_server_that_was_killed_is_begun_anew(servers):
    environment, course = servers
    with warm.ready(course, MINI, environment) as ready:
        assert set(ready.variables) == set(forked.PLACES.values())
    for server in [*warm._SERVERS._kernels.values(), *warm._SERVERS._common.values()]:
        os.kill(server._process.pid, signal.SIGKILL)
        assert gone(server._process.pid)
    with warm.ready(course, MINI, environment) as again:
        assert set(again.variables) == set(ready.variables)
        assert not set(again.variables.values()) & set(ready.variables.values())
        assert again.jobs not in (None, ready.jobs)


def test_it_can_be_switched_off(servers, monkeypatch):
    monkeypatch.setenv(warm.SWITCH, "0")
    with warm.ready(servers[1], MINI, servers[0]) as ready:
        assert ready == warm.Ready()


def executed(work, sources):
    class Manager(preprocessors.KernelManager):
        def __init__(self, **options):
            super().__init__(work, 60, 5, **options)

    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nb = nbformat.v4.new_notebook(cells=cells)
    resources = {"metadata": {"path": str(work)}}
    options = {"kernel_manager_class": Manager, "shutdown_kernel": "immediate"}
    NotebookClient(nb, allow_errors=True, resources=resources, **options).execute()
    return nb.cells


SOURCES = [
    "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()",
    "import os, sys\nprint(sorted(os.environ), os.getcwd(), sys.path, sys.argv[0][-9:], __name__)",
    "!ls",
    "from course_utils.checks import lesson_00\nopen('left', 'w').write('x')",
    "import tempfile\nprint(os.path.dirname(tempfile.mkdtemp()) == os.environ['HOME'])",
    "1 / 0",
    "get_ipython().kernel.iopub_socket is not None",
]


def test_a_warm_kernel_is_like_one_that_is_started_anew(servers, tmp_path, monkeypatch):
    environment, course = servers
    monkeypatch.setattr(warm, "_KERNEL_IMPORTS", "import matplotlib.pyplot")
    kernels = []
    real = forked.Forked
    monkeypatch.setattr(forked, "Forked", lambda *a: kernels.append(real(*a)) or kernels[-1])
    work = tmp_path / "work"
    work.mkdir()
    anew = executed(work, SOURCES)
    assert not kernels
    with warm.ready(course, MINI, environment) as ready:
        for name, value in ready.variables.items():
            monkeypatch.setenv(name, value)
        same = executed(work, SOURCES)
    assert len(kernels) == 1
    assert gone(kernels[0].pid)
    for one, other in zip(anew, same, strict=True):
        assert plain(one.outputs) == plain(other.outputs), one.source


def plain(outputs):
    """Return outputs without what differs from run to run."""
    kept = json.loads(json.dumps(outputs))
    for out in kept:
        out.pop("traceback", None)
        if "image/png" in out.get("data", {}):
            out["data"]["image/png"] = "a picture"
    return kept


def test_a_request_that_ends_early_ends_its_child_alone(torch_server):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(torch_server.path))
        pid = int(connection.recv(100))
        connection.sendall(b"\1")
        connection.shutdown(socket.SHUT_WR)
        assert gone(pid)
    assert torch_server.ready()
