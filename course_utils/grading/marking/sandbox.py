"""Isolation of a process that runs what a student has written.

One mechanism does the work on Linux, and needs nothing installed and no
privilege: Landlock (which files) together with seccomp (which system calls).
Both survive ``exec`` and cannot be taken off again. A process under them

- reads the contents of the given folders only, and writes only the given ones (names,
  sizes and times of other files it can learn by stat, which Landlock does not watch);
- has no network, and reaches no socket of another program (it may only accept
  connections on sockets of its own, as a notebook's kernel does);
- starts no other process: so each limit of a process is a limit of the whole,
  and killing it kills everything;
- signals, traces, re-limits and re-schedules no other process;
- changes no mode, owner or time of any file (Landlock does not watch these), and makes
  no links, pipes or devices, which would lead a reader of its files elsewhere.

Where the kernel has no Landlock (before 5.13), bubblewrap gives the view of
the files instead, with the same seccomp filter. Elsewhere (macOS, Windows)
only the limits remain. `isolation_level` tries which one works.

`launcher`, a file that needs the standard library only, isolates itself in the child
process and becomes the program: Landlock's rules and the filter of system calls are there.
"""

import contextlib
import functools
import os
import platform
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import course_utils
from course_utils.errors import CourseError
from course_utils.grading.marking import forked, launcher
from course_utils.grading.marking.launcher import (
    FAILED,
    MEMORY,
    SYSCALLS,
    SYSTEM,
    minimal_environment,
)

LANDLOCK = "L3 Landlock + seccomp"
BUBBLEWRAP = "L2 bubblewrap + seccomp"
LIMITS = "L1 limits only"
_OF_THE_MACHINE = ("killed", "time", "memory")


@functools.cache
def isolation_level() -> str:
    """Return the strongest isolation that works here: `LANDLOCK`, `BUBBLEWRAP` or `LIMITS`.

    Each level is tried, once a process: a child in it must fail to read a file.

    Raises
    ------
    CourseError
        If trying is not possible now, such as for want of memory: that says nothing of the level.
    """
    if sys.platform != "linux" or platform.machine() not in SYSCALLS:
        return LIMITS
    # A file of one's own, so that only the isolation can be what keeps it from being read.
    with tempfile.NamedTemporaryFile(prefix="course-probe-") as secret:
        probe = f"import sys\ntry: open({secret.name!r})\nexcept OSError: sys.exit(0)\nsys.exit(1)"
        for level in (LANDLOCK, BUBBLEWRAP):
            if level == BUBBLEWRAP and not shutil.which("bwrap"):
                continue
            for _ in range(3):
                done = run([sys.executable, "-I", "-c", probe], seconds=20, level=level)
                if done.failure not in _OF_THE_MACHINE:
                    break
            else:
                raise CourseError(
                    f"the isolation cannot be tried now ({done.failure}). Look for too little "
                    "memory or a machine that is very busy, then run the command again."
                )
            if done.failure is None:
                return level
    return LIMITS


def require_isolation() -> str:
    """Return :func:`isolation_level`, or raise if there is none to be had.

    Raises
    ------
    CourseError
        If only limits work on this machine.
    """
    level = isolation_level()
    if level == LIMITS:
        raise CourseError(
            "isolation is required, but this machine offers neither Landlock (Linux 5.13 or "
            "later) nor a working bubblewrap. Grade on such a machine, or install bubblewrap."
        )
    return level


_LEAST = {
    "RLIMIT_DATA": (MEMORY, "d"),
    "RLIMIT_AS": (2 * MEMORY, "v"),
    "RLIMIT_FSIZE": (256 << 20, "f"),
    "RLIMIT_CPU": (3600, "t"),
}
"""What a notebook may take, by the system's name of the limit, and the option of ``ulimit``."""


def require_limits() -> None:
    """Raise if this process may take less than a notebook may: no mark may depend on it.

    Raises
    ------
    CourseError
        Which limit, and how to raise it.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    for name, (least, option) in _LEAST.items():
        found = resource.getrlimit(getattr(resource, name))
        # The launcher sets its own up to the second one, but none of address space.
        most = found[0] if name == "RLIMIT_AS" else found[1]
        if most not in (-1, resource.RLIM_INFINITY) and most < least:
            raise CourseError(
                f"this terminal's limits (ulimit -{option}) are below what a notebook may take. "
                f"Open another, or say `ulimit -{option} unlimited`, and grade there."
            )


def require_out_of_reach(private: Iterable[Path], read: Iterable[Path]) -> None:
    """Raise if one of the private files or folders lies where a command may read.

    Parameters
    ----------
    private
        What must stay unread.
    read
        What the command may read beside the system and Python.

    Raises
    ------
    CourseError
        Which one, and below what.
    """
    readable = [Path(place).resolve() for place in (*SYSTEM, *python_paths(), *read)]
    for path in map(Path.resolve, private):
        if inside := next((place for place in readable if path.is_relative_to(place)), None):
            raise CourseError(
                f"{path} lies in {inside}, which students' notebooks may read. Move the course "
                "(or this folder) elsewhere, such as below your home, and grade there."
            )


def python_paths() -> list[Path]:
    """Return what a process must read to run this Python with the course's package."""
    package = Path(course_utils.__file__).resolve().parent
    paths = [package, *(Path(p) for p in (sys.prefix, sys.base_prefix, sys.exec_prefix))]
    # Other editable installs and PYTHONPATH entries are left out on purpose.
    return [path for path in dict.fromkeys(paths) if path != Path("/")]


def command(
    argv: Sequence[str | os.PathLike],
    *,
    read: Iterable[str | os.PathLike] = (),
    write: Iterable[str | os.PathLike] = (),
    cwd: str | os.PathLike | None = None,
    memory: int = MEMORY,
    cpu: int = 600,
    file_size: int = 64 << 20,
    sockets: bool = False,
    env: dict[str, str] | None = None,
    level: str | None = None,
) -> list[str]:
    """Return the command line that runs ``argv`` in the sandbox.

    Parameters
    ----------
    argv
        What to run. `python_paths` and the system's libraries may be read by it.
    read, write
        Further files and folders that it may read, or read and write. They must exist.
        The first folder of ``write`` serves as home and for temporary files unless
        ``env`` says otherwise.
    cwd
        Folder to start in. Default: the caller's.
    memory
        Limit of private memory, in bytes.
    cpu
        Limit of processor time of all its threads together, in seconds.
    file_size
        Limit of each file that it writes, in bytes.
    sockets
        Whether it may listen on Unix sockets (a kernel with ``transport="ipc"`` must).
    env
        Its whole environment, beside PATH, LANG, HOME, TMPDIR and the like.
    level
        Default: :func:`isolation_level`.

    Notes
    -----
    If the isolation cannot be reached that ``level`` names, the command exits with 125 and
    does not run ``argv``.
    """
    level = level or isolation_level()
    write = [os.path.realpath(path) for path in write]
    read = [os.fspath(path) for path in (*python_paths(), *read)]
    options = ["--level", level.split()[0], "--memory", str(memory), "--cpu", str(cpu)]
    options += ["--file-size", str(file_size)] + ["--sockets"] * sockets
    options += ["--parent", str(os.getpid())]
    for flag, paths in (("--read", read), ("--write", write)):
        for path in paths:
            options += [flag, path]
    for name, value in (env or {}).items():
        options += ["--env", f"{name}={value}"]
    if cwd is not None:
        options += ["--cwd", os.fspath(cwd)]
    # -I: neither the working folder nor PYTHONPATH can put modules of their own in front.
    launch = [
        sys.executable,
        "-I",
        os.path.realpath(launcher.__file__),
        *options,
        "--",
        *map(str, argv),
    ]
    return _bubblewrap(read, write) + launch if level == BUBBLEWRAP else launch


@dataclass(frozen=True)
class Finished:
    """How a process in the sandbox has ended.

    Attributes
    ----------
    failure
        None if it exited with 0, else ``"time"``, ``"output"`` (too much of it),
        ``"memory"``, ``"isolation"`` (the launcher could not reach it), ``"killed"`` (from outside,
        as by a system that is out of memory) or ``"crash"``.
    level
        The isolation that it ran in.
    """

    stdout: bytes
    stderr: str
    returncode: int
    failure: str | None
    seconds: float
    level: str


def run(
    argv: Sequence[str | os.PathLike],
    *,
    send: Iterable[bytes | memoryview] = (),
    max_output: int = 1 << 20,
    seconds: float = 60,
    read: Iterable[str | os.PathLike] = (),
    memory: int = MEMORY,
    cpu: int | None = None,
    level: str | None = None,
) -> Finished:
    """Run ``argv`` in the sandbox, write to its stdin, and collect what it prints.

    It gets an empty folder of its own, no environment, no socket. After ``seconds``,
    or when it prints more than ``max_output`` bytes, its process group is killed.

    Parameters
    ----------
    send
        Buffers written to its standard input one after another.
    max_output
        Most bytes that it may write to its standard output.
    cpu
        Limit of processor time of all its threads together; by default some more than ``seconds``.
    """
    level = level or isolation_level()
    started = time.monotonic()
    with temporary_folder("course-") as folder:
        launch = command(
            argv,
            read=read,
            write=[folder],
            cwd=folder,
            memory=memory,
            cpu=cpu or int(seconds) + 5,
            file_size=1 << 20,
            level=level,
        )
        process = _start(launch, folder)
        try:
            stdout, stderr, stopped = _converse(process, send, max_output, started + seconds)
        finally:
            kill_group(process)
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                stream.close()
    failure = stopped or _cause(process.returncode, stderr)
    text = stderr.decode(errors="replace")
    return Finished(stdout, text, process.returncode, failure, time.monotonic() - started, level)


def _start(launch: list[str], folder: str) -> "subprocess.Popen | forked.Forked":
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    if process := forked.fork(launch, cwd=folder, **pipes):
        return process
    own = minimal_environment(folder)
    return subprocess.Popen(launch, cwd=folder, env=own, start_new_session=True, **pipes)


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[str]:
    """Give an empty folder to what may be hostile; afterwards it is gone, whatever lies in it."""
    folder = tempfile.mkdtemp(prefix=prefix)
    try:
        yield folder
    finally:
        remove_tree(folder)


def short_temporary_folder(room: int, usual: str | None = None) -> Path:
    """Return the folder for temporary files, or another where that one's path is too long.

    Parameters
    ----------
    room
        Bytes of path that come below it. A Unix socket's may have 103 on macOS, 107 on Linux.
    usual
        The one to take where its path is short enough; default: Python's.

    Raises
    ------
    CourseError
        If there is no such folder.
    """
    usual = usual or tempfile.gettempdir()
    for place in (usual, "/tmp", "/var/tmp"):
        path = os.path.realpath(place)
        short = len(os.fsencode(path)) + room <= 103 or os.name != "posix"
        if short and os.access(path, os.W_OK | os.X_OK):
            return Path(path)
    raise CourseError(
        f"the path of {usual} is too long for the sockets of notebooks' kernels. Set TMPDIR to a "
        "folder with a shorter path."
    )


def remove_tree(folder: str | os.PathLike) -> None:
    """Remove a folder that hostile code could write to: very deep ones too, and locked ones."""
    with contextlib.suppress(OSError):
        os.rmdir(folder)  # most often it is empty
        return
    if os.name == "posix":  # shutil gives up on very deep folders
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
            subprocess.run([*command, folder], check=False, stderr=subprocess.DEVNULL)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def kill_group(process: "subprocess.Popen | forked.Forked") -> None:
    """Kill a process that was started with ``start_new_session=True``, and its whole group."""
    if isinstance(process, forked.Forked):
        process.kill()
    elif os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()


def _converse(process, send, max_output, deadline):
    """Feed stdin and collect stdout and stderr until both end, or a limit is reached."""
    if os.name != "posix":
        return _converse_with_threads(process, send, max_output, deadline)
    pending = iter(send)
    chunk = memoryview(b"")
    collected = {process.stdout: bytearray(), process.stderr: bytearray()}
    limits = {process.stdout: max_output, process.stderr: 1 << 16}
    reading = set(collected)
    stopped = None
    with selectors.DefaultSelector() as selector:
        for stream in (process.stdin, process.stdout, process.stderr):
            os.set_blocking(stream.fileno(), False)
            event = selectors.EVENT_READ if stream in reading else selectors.EVENT_WRITE
            selector.register(stream, event)
        while reading and stopped is None:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                stopped = "time"
                break
            for key, _ in selector.select(remaining):
                stream = key.fileobj
                if stream is process.stdin:
                    try:
                        while not chunk:
                            chunk = memoryview(next(pending)).cast("B")
                        chunk = chunk[os.write(stream.fileno(), chunk[: 1 << 20]) :]
                    except (StopIteration, BrokenPipeError):
                        selector.unregister(stream)
                        stream.close()
                    continue
                data = os.read(stream.fileno(), 1 << 18)
                if not data:
                    selector.unregister(stream)
                    reading.remove(stream)
                elif len(collected[stream]) + len(data) <= limits[stream]:
                    collected[stream] += data
                elif stream is process.stdout:
                    stopped = "output"
    if stopped is None:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            stopped = "time"
    return bytes(collected[process.stdout]), bytes(collected[process.stderr]), stopped


def _converse_with_threads(process, send, max_output, deadline):
    # Pipes cannot be waited for on Windows; there the output is bounded after the fact.
    try:
        stdout, stderr = process.communicate(b"".join(send), deadline - time.monotonic())
    except subprocess.TimeoutExpired:
        return b"", b"", "time"
    if len(stdout) > max_output:
        return b"", stderr, "output"
    return stdout, stderr[: 1 << 16], None


def _cause(returncode: int, stderr: bytes) -> str | None:
    if returncode == 0:
        return None
    if returncode == FAILED:
        return "isolation"
    if returncode in _ended_by(getattr(signal, "SIGXCPU", 24)):
        return "time"
    if was_killed(returncode):
        return "killed"
    if any(word in stderr for word in (b"MemoryError", b"bad_alloc", b"ailed to allocate")):
        return "memory"
    return "crash"


def was_killed(returncode: int | None) -> bool:
    """Tell whether a process in the sandbox was killed by another; itself it cannot."""
    return os.name == "posix" and returncode in _ended_by(signal.SIGKILL)


def _ended_by(number: int) -> tuple[int, int]:
    """Return the exit codes of what a signal has ended: its own, and bubblewrap's for it."""
    return -number, 128 + number


def _bubblewrap(read: Sequence[str], write: Sequence[str]) -> list[str]:
    """Return the command that shows only these files, in namespaces of its own."""
    argv = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent", "--new-session"]
    argv += ["--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    for path in dict.fromkeys((*SYSTEM, *read)):
        if path.startswith(("/proc", "/dev")) or not os.path.exists(path):
            continue
        if os.path.islink(path):  # /lib -> usr/lib
            argv += ["--symlink", os.readlink(path), path]
            argv += ["--ro-bind-try", os.path.realpath(path), os.path.realpath(path)]
        else:
            argv += ["--ro-bind", path, path]
    for path in write:
        argv += ["--bind", path, path]
    return [*argv, "--"]
