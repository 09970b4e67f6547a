"""The walls hold against what a hostile notebook or net would try, and fail closed.

Every attempt is also made with limits only, where it must succeed: an attempt that
would fail anywhere shows nothing about the walls.
"""

import contextlib
import functools
import json
import os
import platform
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import nbformat
import pytest

from course_utils.errors import CourseError
from course_utils.grading.marking import launcher, sandbox
from tests import forked_program

LINUX = sys.platform == "linux"
LEVELS = [
    pytest.param(sandbox.LANDLOCK, id="landlock"),
    pytest.param(sandbox.BUBBLEWRAP, id="bubblewrap"),
]
FORKED = "forked"
"""Behind Landlock, and forked from a warm process instead of started anew."""
PYTHON = [sys.executable, "-I", "-c"]

# Each prints DONE if it has got what it must not get.
ATTEMPTS = {
    "read the secret seed": "print('DONE' if '4711' in open(SECRET).read() else '')",
    "read it through a symbolic link": "os.symlink(SECRET, 'l'); open('l').read(); print('DONE')",
    "read it through a hard link": "os.link(SECRET, 'h'); open('h').read(); print('DONE')",
    "read it through /proc": "open(f'/proc/{os.getpid()}/root' + SECRET).read(); print('DONE')",
    "move it": "os.rename(SECRET, SECRET + '.moved'); print('DONE')",
    "delete it": "os.remove(SECRET); print('DONE')",
    "empty it": "os.truncate(SECRET, 0); print('DONE')",
    "list the grader's folder": "os.listdir(os.path.dirname(SECRET)); print('DONE')",
    "write beside it": "open(SECRET + '.x', 'w'); print('DONE')",
    "open its mode to all": (
        "os.chmod(SECRET, 0o777); print('DONE' if os.stat(SECRET).st_mode & 0o777 == 0o777 else '')"
    ),
    "backdate it": (
        "os.utime(SECRET, (1, 1)); print('DONE' if os.stat(SECRET).st_mtime == 1 else '')"
    ),
    "write into the package": "open(PACKAGE + '/x.py', 'w').close(); print('DONE')",
    "signal another process": "os.kill(VICTIM, 9); print('DONE')",
    "let the kernel signal another process": (
        "import fcntl; fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, VICTIM); print('DONE')"
    ),
    "change another process's schedule": (
        "os.sched_setscheduler(VICTIM, os.SCHED_BATCH, os.sched_param(0));"
        " print('DONE' if os.sched_getscheduler(VICTIM) == os.SCHED_BATCH else '')"
    ),
    "see what is mounted": "print('DONE' if open('/proc/mounts').read() else '')",
    "see it by its thread": (
        "print('DONE' if open(f'/proc/self/task/{os.getpid()}/mountinfo').read() else '')"
    ),
    "see the network's state": "print('DONE' if open('/proc/net/dev').read() else '')",
    "see another process's environment": "open(f'/proc/{VICTIM}/environ').read(); print('DONE')",
    "change another process's limits": (
        "import resource; resource.prlimit(VICTIM, resource.RLIMIT_CPU, (9, 9)); print('DONE')"
    ),
    "open a TCP connection": "socket.create_connection(('127.0.0.1', PORT), 5); print('DONE')",
    "send a datagram": (
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT));"
        " print('DONE')"
    ),
    "connect to another program's socket": (
        "socket.socket(socket.AF_UNIX).connect(SOCKET); print('DONE')"
    ),
    "connect to an abstract socket": (
        "socket.socket(socket.AF_UNIX).connect('\\0' + ABSTRACT); print('DONE')"
    ),
    "send a letter from one of a pair of sockets": (
        "a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM); a.sendto(b'x', LETTERS);"
        " print('DONE')"
    ),
    "outlive the grader": (
        "import ctypes; print('DONE' if ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) == 0 else '')"
    ),
    "fork": "pid = os.fork()\nif pid: os.waitpid(pid, 0); print('DONE')\nelse: os._exit(0)",
    "start a program": "subprocess.run(['/bin/true'], check=True); print('DONE')",
    "start a program by posix_spawn": "os.posix_spawn('/bin/true', ['true'], {}); print('DONE')",
    "make a symbolic link": "os.symlink('a', 'b'); print('DONE')",
    "make a hard link": "open('a', 'w').close(); os.link('a', 'b'); print('DONE')",
    "make a pipe with a name": "os.mkfifo('p'); print('DONE')",
    "make a socket with a name": "socket.socket(socket.AF_UNIX).bind('s'); print('DONE')",
    "take shared memory that no limit counts": "mmap.mmap(-1, 1 << 20); print('DONE')",
    "take memory as a nameless file": "os.memfd_create('x'); print('DONE')",
}


CALL = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall(*map(ctypes.c_long, [{}])), ctypes.get_errno())
"""
SYSTEM_CALLS = {
    "ptrace": CALL.format("101, 16, VICTIM, 0, 0"),
    "process_vm_readv": CALL.format("310, VICTIM, 0, 0, 0, 0, 0"),
    "unshare a user namespace": CALL.format("272, 0x10000000"),
    "mount": CALL.format("165, 0, 0, 0, 0, 0"),
    "bpf": CALL.format("321, 0, 0, 0"),
    "io_uring": CALL.format("425, 1, 0"),
    "perf": CALL.format("298, 0, 0, 0, 0, 0"),
    "pidfd_open": CALL.format("434, VICTIM, 0"),
    "setsid": CALL.format("112"),
}

# All attempts in one process, each in a folder and among variables of its own. What an attempt
# raises is shown; one that ended the process would leave the outcomes of the later ones out.
TRY_ALL = """
import contextlib, io, json, mmap, os, socket, subprocess, sys
OUTCOMES = {}
for NUMBER, (NAME, SOURCE, VARIABLES) in enumerate(json.load(sys.stdin)):
    os.mkdir(str(NUMBER))
    os.chdir(str(NUMBER))
    with contextlib.redirect_stdout(io.StringIO()) as PRINTED:
        try:
            exec(SOURCE, globals() | VARIABLES)
        except BaseException as ERROR:
            print(repr(ERROR))
    OUTCOMES[NAME] = PRINTED.getvalue()
    os.chdir("..")
print(json.dumps(OUTCOMES))
"""


@pytest.fixture(scope="module")
def fork_server(tmp_path_factory, processes):
    """Return a warm process of which any source can be forked."""
    with forked_program.begun() as server:
        assert server.ready()
        yield server


@pytest.fixture
def level(request, processes, monkeypatch):
    """Return the level, or skip where it does not work; asked for here, not while collecting."""
    if request.param == sandbox.BUBBLEWRAP:
        works = bubblewrap_works()
    else:
        works = LINUX and sandbox.isolation_level() == sandbox.LANDLOCK
    if not works:
        pytest.skip(f"no {request.param} here")
    if request.param == FORKED:
        forked_program.known(monkeypatch, request.getfixturevalue("fork_server"))
        return sandbox.LANDLOCK
    return request.param


at_each_level = pytest.mark.parametrize("level", LEVELS, indirect=True)
at_each_level_and_forked = pytest.mark.parametrize("level", [*LEVELS, FORKED], indirect=True)


@functools.cache
def bubblewrap_works() -> bool:
    if not shutil.which("bwrap"):
        return False
    argv = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"]
    return not subprocess.run(argv, capture_output=True, check=False).returncode


@pytest.fixture(scope="module")
def scene(tmp_path_factory, processes):
    """Make a grader's machine in small: secrets, processes, sockets to reach.

    It is a function that makes all attempts in one process behind the walls of a level, and
    returns what each printed. The victim of each attempt is its own.
    """
    folder = tmp_path_factory.mktemp("scene")
    package = folder / "course_utils"
    package.mkdir()
    abstract = f"course-test-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_UNIX) as nameless,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as letters,
        contextlib.ExitStack() as victims,
    ):
        unix.bind(str(folder / "s"))
        unix.listen()
        nameless.bind("\0" + abstract)
        nameless.listen()
        letters.bind(str(folder / "d"))

        def variables(attempt):
            secret = Path(tempfile.mkdtemp(dir=folder)) / "grading" / "secret_seed"
            secret.parent.mkdir()
            secret.write_text("4711\n")
            secret.chmod(0o600)
            names = {
                "SECRET": str(secret),
                "PACKAGE": str(package),
                "PORT": tcp.getsockname()[1],
                "SOCKET": str(folder / "s"),
                "ABSTRACT": abstract,
                "LETTERS": str(folder / "d"),
            }
            if "VICTIM" in attempt:
                victim = victims.enter_context(subprocess.Popen(["sleep", "60"]))
                victims.callback(victim.kill)
                names["VICTIM"] = victim.pid
            return names

        @functools.cache
        def outcomes(level, forked=False):
            attempts = ATTEMPTS if level == sandbox.LIMITS else ATTEMPTS | SYSTEM_CALLS
            tried = [(name, source, variables(source)) for name, source in attempts.items()]
            done = sandbox.run(
                [*PYTHON, TRY_ALL], send=[json.dumps(tried).encode()], seconds=60, level=level
            )
            assert done.failure is None, done
            return json.loads(done.stdout)

        yield lambda level: outcomes(level, forked_program.PLACE in os.environ)


@pytest.mark.skipif(not LINUX, reason="walls are Linux's")
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_every_attempt_succeeds_without_walls(scene, attempt):
    assert scene(sandbox.LIMITS)[attempt] == "DONE\n"


@at_each_level_and_forked
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_no_attempt_gets_through_the_walls(scene, attempt, level):
    if level == sandbox.BUBBLEWRAP and attempt.startswith("see") and "process" not in attempt:
        pytest.skip("bubblewrap shows the mounts and the network of its own namespace")
    assert "DONE" not in scene(level)[attempt]


@at_each_level_and_forked
@pytest.mark.parametrize("call", SYSTEM_CALLS)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers are x86_64's")
def test_dangerous_system_calls_are_refused(scene, level, call):
    assert scene(level)[call] == "-1 1\n"  # EPERM


@at_each_level_and_forked
def test_what_a_lesson_needs_works_behind_the_walls(level):
    code = """
        import os, shutil, tempfile, threading, socket
        import numpy, matplotlib
        matplotlib.use("agg")
        import matplotlib.pyplot as plt
        plt.plot([1, 2]); plt.savefig("figure.png")
        open("a", "w").write("x"); shutil.copy2("a", "b"); os.rename("b", "c")
        with tempfile.TemporaryDirectory() as folder: open(folder + "/x", "w")
        thread = threading.Thread(target=print, args=("thread",)); thread.start(); thread.join()
        os.urandom(3), os.cpu_count(), os.kill(os.getpid(), 0)
        socket.socketpair()
        import course_utils.hand_in.tasks
        print(sorted(os.listdir(".")), "HOME" in os.environ, len(os.environ) < 16)
    """
    done = sandbox.run([*PYTHON, textwrap.dedent(code)], seconds=60, level=level)
    assert done.failure is None, done.stderr
    assert done.stdout.decode().startswith("thread\n['.matplotlib', 'a', 'c', 'figure.png'] True")
    assert done.stderr == ""


@at_each_level_and_forked
def test_torch_computes_behind_the_walls_without_a_word_on_stderr(level):
    code = (
        "import torch; x = torch.rand(2, 3, 32, 32); n = torch.nn.Conv2d(3, 4, 3);"
        "n(x).sum().backward(); print(torch.cuda.is_available())"
    )
    done = sandbox.run([*PYTHON, code], seconds=120, level=level)
    assert (done.failure, done.stdout, done.stderr) == (None, b"False\n", "")


@at_each_level_and_forked
def test_threads_of_torch_and_onnxruntime_work_behind_the_walls(level):
    code = """
        import torch, onnxruntime
        from onnx import helper
        torch.set_num_threads(2)
        x = torch.rand(400, 400)
        x = float((x @ x).sum())
        one = helper.make_tensor_value_info("x", 1, [1])
        two = helper.make_tensor_value_info("y", 1, [1])
        graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [one], [two])
        net = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        for threads in (0, 2):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            session = onnxruntime.InferenceSession(net.SerializeToString(), options)
            print(torch.get_num_threads(), session.run(None, {"x": torch.ones(1).numpy()})[0][0])
    """
    done = sandbox.run([*PYTHON, textwrap.dedent(code)], seconds=120, level=level)
    assert (done.failure, done.stdout) == (None, b"2 -1.0\n2 -1.0\n"), done.stderr
    assert "affinity" not in done.stderr


@pytest.mark.process
def test_no_variable_of_the_grader_is_inherited(monkeypatch):
    monkeypatch.setenv("GRADER_TOKEN", "4711")
    done = sandbox.run([*PYTHON, "import os; print(sorted(os.environ.values()))"], seconds=20)
    assert done.failure is None
    assert "4711" not in done.stdout.decode()


@pytest.mark.process
def test_memory_does_not_grow_with_the_number_of_cores(monkeypatch):
    """OpenBLAS takes 40 MB a thread, and without this variable a thread a core."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "64")
    script = "import os; print(os.environ['OPENBLAS_NUM_THREADS'])"
    assert sandbox.run([*PYTHON, script], seconds=20).stdout.split() == [b"1"]


@pytest.mark.skipif(os.name != "posix", reason="limits")
def test_a_terminal_with_lower_limits_than_a_notebooks_is_told(monkeypatch):
    import resource

    limits = {}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits.get(kind, (-1, -1)))
    sandbox.require_limits()
    for name, soft, hard in (("AS", 1 << 30, -1), ("DATA", 1 << 30, 1 << 30), ("CPU", 60, 60)):
        limits.clear()
        limits[getattr(resource, f"RLIMIT_{name}")] = soft, hard
        with pytest.raises(CourseError, match=r"limits \(ulimit -[vdt]\) are below"):
            sandbox.require_limits()
    limits.clear()
    limits[resource.RLIMIT_DATA] = 1 << 20, -1  # which the launcher raises
    sandbox.require_limits()


def test_what_must_stay_unread_may_not_lie_where_notebooks_read(tmp_path):
    sandbox.require_out_of_reach([tmp_path / "grading"], [tmp_path / "data"])
    with pytest.raises(CourseError, match=r"course/grading lies in /usr, .* Move the course"):
        sandbox.require_out_of_reach([Path("/usr/src/course/grading")], [])
    with pytest.raises(CourseError, match="grading lies in"):
        sandbox.require_out_of_reach([tmp_path / "grading"], [tmp_path])


# ------------------------------------------------------------------------- limits


def test_a_process_that_takes_too_long_is_killed_with_what_it_started(alone):
    code = (
        "import subprocess, sys, time;"
        "child = subprocess.Popen(['sleep', '60']);"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    started = time.monotonic()
    done = sandbox.run([*PYTHON, code], seconds=1.5, level=sandbox.LIMITS)
    assert done.failure == "time"
    assert time.monotonic() - started < 5
    state = Path(f"/proc/{int(done.stdout)}/stat")
    deadline = time.monotonic() + 5
    while state.exists() and ") Z" not in state.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not state.exists() or ") Z" in state.read_text()


@pytest.mark.process
def test_a_process_that_hangs_up_and_lives_on_is_killed():
    code = "import os, time; os.close(0); os.close(1); os.close(2); time.sleep(60)"
    assert sandbox.run([*PYTHON, code], seconds=1).failure == "time"


@pytest.mark.process
def test_a_process_that_reads_nothing_does_not_block_the_parent():
    done = sandbox.run([*PYTHON, "print(1)"], send=[bytes(10_000_000)], seconds=20)
    assert (done.failure, done.stdout) == (None, b"1\n")


@pytest.mark.process
def test_a_flood_of_output_is_cut_off():
    code = "import sys\nwhile True: sys.stdout.write('a' * 65536)"
    done = sandbox.run([*PYTHON, code], max_output=100_000, seconds=20)
    assert done.failure == "output"
    assert len(done.stdout) <= 100_000


@pytest.mark.process
def test_a_flood_of_errors_does_not_stop_the_answer():
    code = "import sys\nfor _ in range(100): sys.stderr.write('e' * 65536)\nprint(1)"
    done = sandbox.run([*PYTHON, code], seconds=20)
    assert (done.failure, done.stdout) == (None, b"1\n")
    assert len(done.stderr) <= 1 << 16


@pytest.mark.process
def test_memory_beyond_the_limit_is_refused_and_named():
    code = "x = bytearray(600 << 20); print(len(x))"
    assert sandbox.run([*PYTHON, code], memory=1 << 30, seconds=20).failure is None
    assert sandbox.run([*PYTHON, code], memory=1 << 29, seconds=20).failure == "memory"


@pytest.mark.process
def test_processor_time_of_all_threads_is_limited():
    argv = sandbox.command([*PYTHON, "while True: pass"], cpu=1)
    done = subprocess.run(argv, capture_output=True, timeout=20, check=False)
    assert done.returncode < 0


@pytest.mark.process
def test_a_process_that_the_system_kills_is_told_from_one_that_ends_itself(monkeypatch):
    """As the system does when it is out of memory: with SIGKILL, and not the grader's."""
    real = sandbox._converse

    def kill(process, *others):
        os.kill(process.pid, signal.SIGKILL)
        return real(process, *others)

    monkeypatch.setattr(sandbox, "_converse", kill)
    assert sandbox.run([*PYTHON, "while True: pass"], seconds=20).failure == "killed"
    monkeypatch.undo()
    abort = sandbox.run([*PYTHON, "import os; os.abort()"], seconds=20)
    assert abort.failure == "crash"


@at_each_level_and_forked
def test_no_process_can_end_as_if_the_system_had_killed_it(level):
    code = """
        import os, resource, signal
        for end in (
            lambda: os.kill(os.getpid(), signal.SIGKILL),
            lambda: signal.raise_signal(signal.SIGKILL),
            lambda: resource.setrlimit(resource.RLIMIT_CPU, (1, 1)),
        ):
            try: end()
            except OSError: print("refused")
        for _ in range(40_000_000): pass
        os.abort()
    """
    done = sandbox.run([*PYTHON, textwrap.dedent(code)], seconds=30, level=level)
    assert done.failure == "crash"


@pytest.mark.process
def test_too_much_processor_time_is_told_from_a_killed_process():
    done = sandbox.run([*PYTHON, "while True: pass"], seconds=20, cpu=1)
    assert done.failure == "time"


@pytest.mark.process
def test_a_file_cannot_grow_without_limit(tmp_path):
    code = "f = open('x', 'wb')\nfor _ in range(9): f.write(bytes(1 << 20)); f.flush()"
    argv = sandbox.command([*PYTHON, code], write=[tmp_path], cwd=tmp_path, file_size=1 << 20)
    assert subprocess.run(argv, capture_output=True, timeout=20, check=False).returncode
    assert (tmp_path / "x").stat().st_size == 1 << 20


# --------------------------------------------------------------------- fail closed


@pytest.mark.parametrize("level", LEVELS[:1], indirect=True)
def test_the_program_does_not_start_if_the_walls_cannot_be_put_up(tmp_path, level):
    argv = sandbox.command([*PYTHON, "print('ran')"], cwd=tmp_path / "absent", level=level)
    done = subprocess.run(argv, capture_output=True, timeout=20, check=False)
    assert done.returncode == 125
    assert done.stdout == b""


def test_without_working_walls_the_level_says_so(monkeypatch):
    broken = sandbox.Finished(b"", "", 125, "isolation", 0.0, "")
    monkeypatch.setattr(sandbox, "run", lambda *_, **__: broken)
    sandbox.isolation_level.cache_clear()
    try:
        assert sandbox.isolation_level() == sandbox.LIMITS
        with pytest.raises(CourseError, match="isolation is required"):
            sandbox.require_isolation()
    finally:
        monkeypatch.undo()
        sandbox.isolation_level.cache_clear()


@pytest.mark.parametrize("kills", [2, 9])
def test_a_level_that_cannot_be_tried_now_is_not_taken_for_one_that_does_not_work(
    monkeypatch, kills
):
    tried = []

    def run(argv, level, **options):
        tried.append(level)
        failure = "killed" if len(tried) <= kills else None
        return sandbox.Finished(b"", "", 0, failure, 0.0, level)

    monkeypatch.setattr(sandbox, "run", run)
    monkeypatch.setattr(sandbox.sys, "platform", "linux")
    sandbox.isolation_level.cache_clear()
    try:
        if kills == 2:
            assert sandbox.isolation_level() == sandbox.LANDLOCK
        else:
            with pytest.raises(CourseError, match="cannot be tried now"):
                sandbox.isolation_level()
    finally:
        monkeypatch.undo()
        sandbox.isolation_level.cache_clear()


@pytest.mark.process
def test_walls_that_let_a_file_be_read_do_not_count(monkeypatch):
    real = sandbox.run
    monkeypatch.setattr(
        sandbox, "run", lambda argv, **options: real(argv, **options | {"level": sandbox.LIMITS})
    )
    sandbox.isolation_level.cache_clear()
    try:
        assert sandbox.isolation_level() == sandbox.LIMITS
    finally:
        monkeypatch.undo()
        sandbox.isolation_level.cache_clear()


@pytest.mark.skipif(
    not LINUX or os.getuid() != 0 or not shutil.which("setpriv"), reason="root becomes nobody here"
)
@at_each_level
def test_the_walls_need_no_privilege(tmp_path_factory, level):
    """The launcher alone, run by an ordinary user with the system's Python."""
    python = "/usr/bin/python3"
    if not Path(python).exists():
        pytest.skip("no Python that every user may run")
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        alone = folder / "launcher.py"
        alone.write_bytes(Path(launcher.__file__).read_bytes())
        secret = folder / "secret_seed"
        secret.write_text("4711")
        home = folder / "home"
        home.mkdir()
        for path in (secret, home):
            os.chown(path, 65534, 65534)
        code = (
            "import os, sys; sys.path.insert(0, '.')\n"
            "try: open('/etc/passwd'); print('passwd')\nexcept OSError: pass\n"
            f"try: open({str(secret)!r}); print('secret')\nexcept OSError: pass\n"
            "try: os.fork(); print('forked')\nexcept OSError: pass\n"
            "open('x', 'w'); print('ran as', os.getuid())"
        )
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        options = ["--level", level[:2], "--read", str(alone), "--write", str(home)]
        argv = [python, "-I", str(alone), *options, "--cwd", str(home), "--"]
        argv += [python, "-I", "-c", code]
        if level == sandbox.BUBBLEWRAP:
            argv = sandbox._bubblewrap([str(alone)], [str(home)]) + argv
        done = subprocess.run([*user, *argv], capture_output=True, timeout=30, check=False)
        if level == sandbox.BUBBLEWRAP and b"namespace" in done.stderr:
            pytest.skip("ordinary users may not make namespaces here")
        assert done.stdout == b"ran as 65534\n", done.stderr


# ------------------------------------------------------------- the filter, by itself

ALLOW, KILL, EPERM, ENOSYS, NO_NETWORK, PRETENDED = (
    *(0x7FFF0000, 0x80000000),
    *(0x00050000 | number for number in (1, 38, 95, 0)),
)
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def verdict(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """Run a classic BPF program on one system call, as the kernel does."""
    call = struct.pack("<IIQ6Q", number, arch, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    code = list(struct.iter_unpack("HBBI", program))
    position = accumulator = 0
    while True:
        operation, true, false, operand = code[position]
        position += 1
        match operation:
            case 0x20:
                accumulator = struct.unpack_from("<I", call, operand)[0]
            case 0x54:
                accumulator &= operand
            case 0x15:
                position += true if accumulator == operand else false
            case 0x35:
                position += true if accumulator >= operand else false
            case 0x45:
                position += true if accumulator & operand else false
            case 0x06:
                return operand
            case _:
                raise AssertionError(f"unknown instruction {operation:#x}")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_decides_by_arguments(machine):
    calls = launcher.SYSCALLS[machine]
    arch, pid = ARCH[machine], 1234
    listening = launcher.filter_program(machine, pid, sockets=True)
    silent = launcher.filter_program(machine, pid, sockets=False)

    def decide(name, *arguments, program=listening):
        return verdict(program, arch, calls[name], *arguments)

    thread = 0x3D0F00
    assert decide("clone", thread) == ALLOW
    assert decide("clone", 17) == EPERM
    assert decide("clone3") == ENOSYS
    for name in ("kill", "tgkill"):
        assert decide(name, 1, 9) == EPERM
        assert decide(name, 2**64 - 1, 9) == EPERM  # kill(-1): everyone
        assert decide(name, 0, 9) == EPERM  # kill(0): the grader's own group
    assert decide("kill", pid, 15) == decide("tgkill", pid, pid, 6) == ALLOW
    # What ends by SIGKILL was killed from outside, such as by a system without memory.
    assert decide("kill", pid, 9) == decide("tgkill", pid, pid, 9) == EPERM
    assert decide("timer_create") == decide("seccomp") == decide("prctl", 22) == EPERM
    assert decide("setrlimit") == decide("prlimit64", 0, 0, 1 << 40) == PRETENDED
    assert decide("prlimit64", 0) == decide("prlimit64", pid) == ALLOW
    assert decide("prlimit64", pid, 0, 1 << 4) == PRETENDED
    assert decide("prlimit64", 1) == EPERM
    assert decide("socket", 1, 1 | 0o2000000) == ALLOW  # AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC
    assert decide("socket", 1, 2) == decide("socket", 2, 1) == decide("socket", 16, 3) == NO_NETWORK
    assert decide("socket", 1, 1, program=silent) == NO_NETWORK
    assert decide("connect", 3) == EPERM
    assert decide("mmap", 0, 4096, 3, 0x22) == ALLOW
    assert decide("mmap", 0, 4096, 3, 0x21) == decide("mmap", 0, 4096, 3, 0x23) == EPERM
    assert decide("ioctl", 0, 0x5401) == ALLOW
    for command in (0x5412, 0x541C, 0x8901, 0x8902):  # the last two: FIOSETOWN, SIOCSPGRP
        assert decide("ioctl", 0, command) == EPERM
    for command, answer in {1: ALLOW, 4: ALLOW, 8: EPERM, 10: EPERM, 15: EPERM}.items():
        assert decide("fcntl", 3, command, 1) == answer
    for name in ("sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr"):
        assert decide(name, 0) == ALLOW
        assert decide(name, 1) == decide(name, pid) == PRETENDED
    for name in ("linkat", "symlinkat", "mknodat"):
        assert decide(name) == EPERM
    assert decide("fchmod", 3, 0) == PRETENDED
    assert decide("ptrace") == decide("unshare") == decide("bpf") == EPERM
    getpid = {"x86_64": 39, "aarch64": 172}[machine]
    assert verdict(listening, arch, getpid) == ALLOW
    assert verdict(listening, ARCH["aarch64" if machine == "x86_64" else "x86_64"], 0) == KILL
    if machine == "x86_64":  # the same calls under the numbers of the x32 interface
        assert verdict(listening, arch, 0x40000000 | calls["fork"]) == KILL


def test_system_call_numbers_are_those_of_the_kernel_headers():
    """Against Linux's own lists, where they are installed."""
    import re

    headers = {
        "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        "aarch64": Path("/usr/include/asm-generic/unistd.h"),
    }
    compared = 0
    for machine, header in headers.items():
        if header.exists():
            listed = dict(
                re.findall(r"#define __NR(?:3264)?_(?:3264_)?(\w+)\s+(\d+)", header.read_text())
            )
            for name, number in launcher.SYSCALLS[machine].items():
                if name in listed:
                    assert int(listed[name]) == number, (machine, name)
                    compared += 1
    if not compared:
        pytest.skip("no kernel headers here")
    assert compared > 50


# ------------------------------------------------------------------ a notebook's kernel


@at_each_level
def test_a_notebook_runs_in_a_kernel_behind_the_walls(tmp_path, level):
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    secret = tmp_path / "grading" / "secret_seed"
    secret.parent.mkdir()
    secret.write_text("4711")
    work = tmp_path / "work"
    work.mkdir()
    # Short: the path of a Unix socket may have about 100 characters.
    with tempfile.TemporaryDirectory(dir="/tmp") as sockets:

        class Kernel(AsyncKernelManager):
            def __init__(self, **options):
                place = {"connection_file": f"{sockets}/k.json", "ip": f"{sockets}/k"}
                super().__init__(transport="ipc", **place, **options)

            def format_kernel_cmd(self, extra_arguments=None):
                launch = [sys.executable, "-I", "-m", "ipykernel_launcher"]
                return sandbox.command(
                    [*launch, "-f", self.connection_file],
                    write=[sockets, work],
                    cwd=work,
                    sockets=True,
                    level=level,
                )

        sources = [
            "open('result', 'w').write('here'); 6 * 7",
            f"open({str(secret)!r}).read()",
            "import socket; socket.create_connection(('127.0.0.1', 80))",
            "import os; os.kill(os.getppid(), 15)",
            "'still here'",
        ]
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in sources]
        )
        NotebookClient(
            notebook, kernel_manager_class=Kernel, allow_errors=True, shutdown_kernel="immediate"
        ).execute()
    outcomes = [cell.outputs[-1] for cell in notebook.cells]
    assert outcomes[0].data["text/plain"] == "42"
    assert [outcome.get("ename") for outcome in outcomes[1:4]] in (
        ["PermissionError", "OSError", "PermissionError"],
        ["FileNotFoundError", "OSError", "PermissionError"],  # bubblewrap hides it altogether
    )
    assert outcomes[4].data["text/plain"] == "'still here'"
    assert (work / "result").read_text() == "here"
