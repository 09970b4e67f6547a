"""Walls around a process that runs what a student has written.

One mechanism does the work on Linux, and needs nothing installed and no
privilege: Landlock (which files) together with seccomp (which system calls).
Both survive ``exec`` and cannot be taken off again. A process behind them

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

This file is also the launcher: ``python -I sandbox.py [options] -- argv`` puts
the walls around itself and becomes ``argv``. It therefore imports nothing but
the standard library.
"""

import argparse
import contextlib
import ctypes
import functools
import os
import platform
import selectors
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LANDLOCK = "L3 Landlock + seccomp"
BUBBLEWRAP = "L2 bubblewrap + seccomp"
LIMITS = "L1 limits only"

MEMORY = 4 << 30
"""Default limit of a process's own memory, in bytes."""

_FAILED = 125
"""Exit code of the launcher when it could not put up the walls."""

_SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d"),
    *("/etc/fonts", "/etc/localtime", "/etc/mime.types"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat"),
    "/proc/sys/vm/overcommit_memory",
    *("/sys/devices/system/cpu", "/sys/devices/system/node"),
    *("/dev/random", "/dev/urandom", "/dev/zero"),
)
"""What any program may read: libraries, fonts, what the machine is."""


@functools.cache
def isolation_level() -> str:
    """Return the strongest walls that work here: `LANDLOCK`, `BUBBLEWRAP` or `LIMITS`.

    They are tried, once a process: a child behind them must fail to read a file.
    """
    if sys.platform != "linux" or platform.machine() not in _SYSCALLS:
        return LIMITS
    # A file of one's own, so that only the walls can be what keeps it from being read.
    with tempfile.NamedTemporaryFile(prefix="course-probe-") as secret:
        probe = f"import sys\ntry: open({secret.name!r})\nexcept OSError: sys.exit(0)\nsys.exit(1)"
        for level in (LANDLOCK, BUBBLEWRAP):
            if level == BUBBLEWRAP and not shutil.which("bwrap"):
                continue
            done = run([sys.executable, "-I", "-c", probe], seconds=20, level=level)
            if done.failure is None:
                return level
    return LIMITS


def require_isolation() -> str:
    """Return :func:`isolation_level`, or raise if there are no walls to be had.

    Raises
    ------
    CourseError
        If only limits work on this machine.
    """
    level = isolation_level()
    if level == LIMITS:
        from course_utils.errors import CourseError

        raise CourseError(
            "isolation is required, but this machine offers neither Landlock (Linux 5.13 or "
            "later) nor a working bubblewrap. Grade on such a machine, or install bubblewrap."
        )
    return level


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
    readable = [Path(place).resolve() for place in (*_SYSTEM, *python_paths(), *read)]
    for path in map(Path.resolve, private):
        if inside := next((place for place in readable if path.is_relative_to(place)), None):
            from course_utils.errors import CourseError

            raise CourseError(
                f"{path} lies in {inside}, which students' notebooks may read. Move the course "
                "(or this folder) elsewhere, such as below your home, and grade there."
            )


def python_paths() -> list[Path]:
    """Return what a process must read to run this Python with the course's package."""
    package = Path(__file__).resolve().parent.parent
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
    """Return the command line that runs ``argv`` behind the walls.

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
    If the walls cannot be put up as ``level`` says, the command exits with 125 and
    does not run ``argv``.
    """
    level = level or isolation_level()
    write = [os.path.realpath(path) for path in write]
    read = [os.fspath(path) for path in (*python_paths(), *read)]
    options = ["--level", level.split()[0], "--memory", str(memory), "--cpu", str(cpu)]
    options += ["--file-size", str(file_size)] + ["--sockets"] * sockets
    for flag, paths in (("--read", read), ("--write", write)):
        for path in paths:
            options += [flag, path]
    for name, value in (env or {}).items():
        options += ["--env", f"{name}={value}"]
    if cwd is not None:
        options += ["--cwd", os.fspath(cwd)]
    # -I: neither the working folder nor PYTHONPATH can put modules of their own in front.
    launch = [sys.executable, "-I", os.path.realpath(__file__), *options, "--", *map(str, argv)]
    return _bubblewrap(read, write) + launch if level == BUBBLEWRAP else launch


@dataclass(frozen=True)
class Finished:
    """How a process behind the walls has ended.

    Attributes
    ----------
    failure
        None if it exited with 0, else ``"time"``, ``"output"`` (too much of it),
        ``"memory"``, ``"walls"`` (the launcher could not put them up) or ``"crash"``.
    level
        The walls that it ran behind.
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
    level: str | None = None,
) -> Finished:
    """Run ``argv`` behind the walls, write to its stdin, and collect what it prints.

    It gets an empty folder of its own, no environment, no socket. After ``seconds``,
    or when it prints more than ``max_output`` bytes, its process group is killed.

    Parameters
    ----------
    send
        Buffers written to its standard input one after another.
    max_output
        Most bytes that it may write to its standard output.
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
            cpu=int(seconds) + 5,
            file_size=1 << 20,
            level=level,
        )
        process = subprocess.Popen(
            launch,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=_minimal_environment(folder),
            start_new_session=True,
        )
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


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[str]:
    """Give an empty folder to what may be hostile; afterwards it is gone, whatever lies in it."""
    folder = tempfile.mkdtemp(prefix=prefix)
    try:
        yield folder
    finally:
        remove_tree(folder)


def remove_tree(folder: str | os.PathLike) -> None:
    """Remove a folder that hostile code could write to: very deep ones too, and locked ones."""
    if os.name == "posix":  # shutil gives up on very deep folders
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
            subprocess.run([*command, folder], check=False, stderr=subprocess.DEVNULL)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def kill_group(process: subprocess.Popen) -> None:
    """Kill a process that was started with ``start_new_session=True``, and its whole group."""
    if os.name == "posix":
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
    if returncode == _FAILED:
        return "walls"
    if returncode == -getattr(signal, "SIGXCPU", 24):
        return "time"
    if any(word in stderr for word in (b"MemoryError", b"bad_alloc", b"ailed to allocate")):
        return "memory"
    return "crash"


def _minimal_environment(home: str) -> dict[str, str]:
    """Return an environment that says nothing about who runs the grader."""
    fixed = {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": home,
        "TMPDIR": home,
        "USER": "student",
        "MPLCONFIGDIR": os.path.join(home, ".matplotlib"),
        "IPYTHONDIR": os.path.join(home, ".ipython"),
        "ORT_DISABLE_TELEMETRY": "1",
        # A GPU is behind the wall: without this, torch warns on stderr that it cannot reach it.
        "CUDA_VISIBLE_DEVICES": "",
        # OpenBLAS has a thread for every core, each of 40 MB: on 24 cores numpy alone would fill
        # the scorer's memory, and the mark would depend on the machine.
        "OPENBLAS_NUM_THREADS": "1",
        # glibc reserves 64 MB for every thread otherwise.
        "MALLOC_ARENA_MAX": "2",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if os.name != "posix":  # Windows needs these to start anything
        fixed |= {k: os.environ[k] for k in ("SYSTEMROOT", "PATH") if k in os.environ}
    return fixed


def _bubblewrap(read: Sequence[str], write: Sequence[str]) -> list[str]:
    """Return the command that shows only these files, in namespaces of its own."""
    argv = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent", "--new-session"]
    argv += ["--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    for path in dict.fromkeys((*_SYSTEM, *read)):
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


# ---------------------------------------------------------------- the launcher


def _launch(arguments: Sequence[str]) -> None:
    """Put the walls up around this process as the options say, then become the program."""
    parser = argparse.ArgumentParser(prog="sandbox.py", description=__doc__.splitlines()[0])
    parser.add_argument("--level", choices=["L1", "L2", "L3"], required=True)
    parser.add_argument("--read", action="append", default=[])
    parser.add_argument("--write", action="append", default=[])
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("--cwd")
    parser.add_argument("--memory", type=int, default=MEMORY)
    parser.add_argument("--cpu", type=int, default=600)
    parser.add_argument("--file-size", type=int, default=64 << 20)
    parser.add_argument("--sockets", action="store_true")
    parser.add_argument("argv", nargs="+")
    options = parser.parse_args(arguments)
    home = options.write[0] if options.write else "/nonexistent"
    environment = _minimal_environment(home) | dict(pair.split("=", 1) for pair in options.env)
    # A notebook's kernel ends by itself when this one is gone.
    environment["JPY_PARENT_PID"] = str(os.getppid())
    try:
        if options.cwd:
            os.chdir(options.cwd)
        _limit(options.memory, options.cpu, options.file_size)
        if options.level != "L1":
            _die_with_parent()
            _drop_privileges()
            if options.level == "L3":
                _landlock([*_SYSTEM, *options.read], [*options.write, "/dev/null"], options.sockets)
            _seccomp(options.sockets)
    except Exception as error:
        print(f"sandbox: {error}", file=sys.stderr)
        sys.exit(_FAILED)
    program = options.argv[0]
    if os.name != "posix":  # exec would return to the caller at once there
        sys.exit(subprocess.run(options.argv, env=environment, check=False).returncode)
    try:
        os.execvpe(program, options.argv, environment)
    except OSError as error:
        print(f"sandbox: {program}: {error}", file=sys.stderr)
        sys.exit(_FAILED)


def _limit(memory: int, cpu: int, file_size: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    limits = {
        # Private memory, not address space: a torch with CUDA reserves many GB of the latter.
        "RLIMIT_DATA": memory,
        "RLIMIT_CPU": cpu,
        "RLIMIT_FSIZE": file_size,
        "RLIMIT_NOFILE": 1024,
        "RLIMIT_CORE": 0,
    }
    for name, value in limits.items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (value, value))
        except (ValueError, OSError):
            if sys.platform == "linux":
                raise


# prctl(2), capabilities(7)
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 22, 24, 38
_CAPABILITY_VERSION_3 = 0x20080522


def _die_with_parent() -> None:
    parent = os.getppid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died in between
        os._exit(_FAILED)


def _drop_privileges() -> None:
    """Give up every capability: as root, permission bits bind like anyone else's.

    A kernel cannot be started as another user instead: its files belong to root.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    for capability in range(64):
        if _libc().prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            break  # beyond the last one, or not root: then there is nothing to give up
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _syscall("capset", header, bytes(24))


def _libc():
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}: {os.strerror(ctypes.get_errno())}")


def _syscall(name: str, *arguments) -> int:
    number = _SYSCALLS[platform.machine()][name]
    # Every argument is a whole register: plain ints would be passed as 32 bits.
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = _libc().syscall(ctypes.c_long(number), *wide)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return result


# Landlock: https://docs.kernel.org/userspace-api/landlock.html, linux/landlock.h
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK, _MAKE_SYM = (1 << n for n in (6, 9, 10, 11, 12))
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_CREATE_RULESET_VERSION, _RULE_PATH_BENEATH = 1, 1


def _landlock(read: Sequence[str], write: Sequence[str], sockets: bool) -> None:
    """Let this process read and write no file but these, from now on and after any exec."""
    abi = _syscall("landlock_create_ruleset", None, 0, _CREATE_RULESET_VERSION)
    handled = (1 << 13) - 1
    for version, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV)):
        if abi >= version:
            handled |= right
    network = 0b11 if abi >= 4 else 0  # TCP bind and connect
    scoped = 0b11 if abi >= 6 else 0  # abstract Unix sockets and signals
    # Older kernels know only the first fields of the struct.
    attribute = struct.pack("QQQ", handled, network, scoped)[
        : 8 if abi < 4 else 16 if abi < 6 else 24
    ]
    ruleset = _syscall("landlock_create_ruleset", attribute, len(attribute), 0)
    everything = handled & ~(_MAKE_CHAR | _MAKE_BLOCK | _MAKE_FIFO | _MAKE_SYM | _IOCTL_DEV)
    if not sockets:
        everything &= ~_MAKE_SOCK
    try:
        for paths, rights in ((read, _EXECUTE | _READ_FILE | _READ_DIR), (write, everything)):
            for path in paths:
                _landlock_rule(ruleset, path, rights)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _syscall("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _landlock_rule(ruleset: int, path: str, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # of the system's paths, each machine has only some
    try:
        if not os.path.isdir(path):
            rights &= _OF_FILES
        rule = struct.pack("=Qi", rights, handle)
        _syscall("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(handle)


# System call numbers of (x86_64, aarch64); None: that machine does not have the call.
_NUMBERS = {
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
    "capset": (126, 91),
    # no other process, neither new nor another's
    "fork": (57, None),
    "vfork": (58, None),
    "clone": (56, 220),
    "clone3": (435, 435),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "prlimit64": (302, 261),
    "setpriority": (141, 140),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "fcntl": (72, 25),
    "ioprio_set": (251, 30),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    "prctl": (157, 167),
    # no socket but a listening Unix one, and pairs of them
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    # nothing shared beside files
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "mmap": (9, 222),
    # no names that lead elsewhere
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "mknod": (133, None),
    "mknodat": (259, 33),
    # what Landlock does not watch
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
    "truncate": (76, 45),
    "ioctl": (16, 29),
    # doors into the kernel that no lesson needs
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "syslog": (103, 116),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    "fanotify_init": (300, 262),
}
_SYSCALLS = {
    machine: {name: pair[column] for name, pair in _NUMBERS.items() if pair[column] is not None}
    for column, machine in enumerate(("x86_64", "aarch64"))
}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# Done, says the filter, and does nothing: shutil.copy and the like then still work.
_PRETENDED = (
    *("chmod", "fchmod", "fchmodat", "fchmodat2"),
    *("chown", "lchown", "fchown", "fchownat"),
    *("utime", "utimes", "futimesat", "utimensat"),
)
_NEEDED = ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "capset")

# Classic BPF, linux/filter.h and linux/seccomp.h: opcode, jump if true, if false, operand.
_LOAD, _JUMP_EQUAL, _JUMP_ABOVE, _JUMP_BITS, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS, _EOPNOTSUPP = 1, 38, 95
_NUMBER, _ARCHITECTURE = 0, 4
_MODE_FILTER = 2


_REFUSE, _PERMIT = (_RETURN, 0, 0, _ERRNO | _EPERM), (_RETURN, 0, 0, _ALLOW)


def _argument(index: int) -> int:
    """Return where the low half of a call's argument lies (both machines are little-endian)."""
    return 16 + 8 * index


def _refuse_values(index: int, values: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """Return the instructions that refuse a call if this argument has one of these values."""
    # Each jumps over the rest and the allowance to the refusal.
    tests = [(_JUMP_EQUAL, len(values) - at, 0, value) for at, value in enumerate(values)]
    return [(_LOAD, 0, 0, _argument(index)), *tests, _PERMIT, _REFUSE]


def filter_program(machine: str, pid: int, sockets: bool) -> bytes:
    """Return the seccomp filter as a classic BPF program.

    Parameters
    ----------
    machine
        ``"x86_64"`` or ``"aarch64"``.
    pid
        The process's own number: the only one that it may signal.
    sockets
        Whether it may make Unix stream sockets to listen on.
    """
    calls = _SYSCALLS[machine]
    program = [(_LOAD, 0, 0, _ARCHITECTURE), (_JUMP_EQUAL, 1, 0, _AUDIT_ARCH[machine])]
    program += [(_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NUMBER)]
    if machine == "x86_64":  # the x32 calls: the same kernel under other numbers
        program += [(_JUMP_ABOVE, 0, 1, 0x40000000), (_RETURN, 0, 0, _KILL)]

    refuse, allow, pretend = _REFUSE, _PERMIT, (_RETURN, 0, 0, _ERRNO)
    # libzmq aborts on most errors, but takes this one as a machine without a network.
    no_network = (_RETURN, 0, 0, _ERRNO | _EOPNOTSUPP)
    special = {
        # Threads only. clone3 hides its flags from a filter; libc falls back to clone.
        "clone": [(_LOAD, 0, 0, _argument(0)), (_JUMP_BITS, 0, 1, 0x00010000), allow, refuse],
        "clone3": [(_RETURN, 0, 0, _ERRNO | _ENOSYS)],
        "kill": [(_LOAD, 0, 0, _argument(0)), (_JUMP_EQUAL, 0, 1, pid), allow, refuse],
        "tgkill": [(_LOAD, 0, 0, _argument(0)), (_JUMP_EQUAL, 0, 1, pid), allow, refuse],
        "prlimit64": [
            (_LOAD, 0, 0, _argument(0)),
            (_JUMP_EQUAL, 1, 0, 0),
            (_JUMP_EQUAL, 0, 1, pid),
            allow,
            refuse,
        ],
        # AF_UNIX (1), SOCK_STREAM (1) beside its flags.
        "socket": [
            (_LOAD, 0, 0, _argument(0)),
            (_JUMP_EQUAL, 0, 4, 1),
            (_LOAD, 0, 0, _argument(1)),
            (_AND, 0, 0, 0xF),
            (_JUMP_EQUAL, 0, 1, 1),
            allow,
            no_network,
        ]
        if sockets
        else [no_network],
        # A datagram socket sends to any path that a process outside listens on, also one of a pair.
        "socketpair": [
            (_LOAD, 0, 0, _argument(1)),
            (_AND, 0, 0, 0xF),
            (_JUMP_EQUAL, 0, 1, 1),
            allow,
            refuse,
        ],
        # PR_SET_PDEATHSIG: it would outlive the grader that is killed.
        "prctl": _refuse_values(0, (_PR_SET_PDEATHSIG,)),
        # MAP_SHARED | MAP_ANONYMOUS: memory that RLIMIT_DATA does not count.
        "mmap": [
            (_LOAD, 0, 0, _argument(3)),
            (_AND, 0, 0, 0x21),
            (_JUMP_EQUAL, 0, 1, 0x21),
            refuse,
            allow,
        ],
        # TIOCSTI and TIOCLINUX type into a terminal; FIOSETOWN and SIOCSPGRP are F_SETOWN again.
        "ioctl": _refuse_values(1, (0x5412, 0x541C, 0x8901, 0x8902)),
        # F_SETOWN, F_SETSIG and F_SETOWN_EX: the kernel itself would send a signal to anyone.
        "fcntl": _refuse_values(1, (8, 10, 15)),
    }
    # 0 is the calling thread. Other threads have numbers that a filter cannot know from those
    # of other processes; libzmq aborts and onnxruntime complains if it is refused for these.
    for name in ("sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr"):
        special[name] = [(_LOAD, 0, 0, _argument(0)), (_JUMP_EQUAL, 0, 1, 0), allow, pretend]
    for name, number in calls.items():
        if name in _NEEDED:
            continue
        plain = pretend if name in _PRETENDED else refuse
        block = special.get(name, [plain])
        # A block leaves by a return, so the number is still loaded where it is skipped.
        program += [(_JUMP_EQUAL, 0, len(block), number), *block]
    program.append(allow)
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


def _seccomp(sockets: bool) -> None:
    code = filter_program(platform.machine(), os.getpid(), sockets)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    pointer = ctypes.create_string_buffer(header, len(header))
    if _libc().prctl(_PR_SET_SECCOMP, _MODE_FILTER, pointer, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    _launch(sys.argv[1:])
