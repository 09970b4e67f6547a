"""The launcher: ``python -I launcher.py [options] -- argv`` isolates itself and becomes ``argv``.

It imports the standard library only, since it runs before anything may be trusted. What the
isolation is, and who starts it, stands in `sandbox`.
"""

import argparse
import ctypes
import os
import platform
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence

MEMORY = 4 << 30
"""Default limit of a process's own memory, in bytes."""


FAILED = 125
"""Exit code of the launcher when it could not isolate itself."""


SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d"),
    *("/etc/fonts", "/etc/localtime", "/etc/mime.types"),
    *("/proc/cpuinfo", "/proc/meminfo", "/proc/stat"),
    "/proc/sys/vm/overcommit_memory",
    *("/sys/devices/system/cpu", "/sys/devices/system/node"),
    *("/dev/random", "/dev/urandom", "/dev/zero"),
)
"""What any program may read: libraries, fonts, what the machine is."""

OWN_PROC = ("cmdline", "comm", "limits", "maps", "smaps", "stat", "statm", "status")
"""Of ``/proc/self``: not the network's state, nor what is mounted where."""


def minimal_environment(home: str) -> dict[str, str]:
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
        # A GPU is out of reach: without this, torch warns on stderr that it cannot reach it.
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


def _launch(arguments: Sequence[str]) -> None:
    """Isolate this process as the options say, then become the program."""
    options = parse(arguments)
    environment = isolate_or_exit(options)
    program = options.argv[0]
    if os.name != "posix":  # exec would return to the caller at once there
        sys.exit(subprocess.run(options.argv, env=environment, check=False).returncode)
    try:
        os.execvpe(program, options.argv, environment)
    except OSError as error:
        print(f"sandbox: {program}: {error}", file=sys.stderr)
        sys.exit(FAILED)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return what the launcher's options say, and in ``argv`` what is to run."""
    parser = argparse.ArgumentParser(prog="launcher.py", description=__doc__.splitlines()[0])
    parser.add_argument("--level", choices=["L1", "L2", "L3"], required=True)
    parser.add_argument("--read", action="append", default=[])
    parser.add_argument("--write", action="append", default=[])
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("--cwd")
    parser.add_argument("--memory", type=int, default=MEMORY)
    parser.add_argument("--cpu", type=int, default=600)
    parser.add_argument("--file-size", type=int, default=64 << 20)
    parser.add_argument("--sockets", action="store_true")
    parser.add_argument("--parent", type=int, default=os.getppid())
    parser.add_argument("argv", nargs="+")
    return parser.parse_args(arguments)


def isolate_or_exit(options: argparse.Namespace) -> dict[str, str]:
    """Isolate this process as the options say; return the environment of what is to run.

    Whatever goes wrong ends the process with `FAILED`.
    """
    home = options.write[0] if options.write else "/nonexistent"
    environment = minimal_environment(home) | dict(pair.split("=", 1) for pair in options.env)
    # A notebook's kernel ends by itself when this one is gone.
    environment["JPY_PARENT_PID"] = str(os.getppid() if options.level == "L2" else options.parent)
    try:
        if options.cwd:
            os.chdir(options.cwd)
        _limit(options.memory, options.cpu, options.file_size)
        if options.level != "L1":
            die_with_parent(None if options.level == "L2" else options.parent)
            _drop_privileges()
            if options.level == "L3":
                _landlock([*SYSTEM, *options.read], [*options.write, "/dev/null"], options.sockets)
            _seccomp(options.sockets)
    except Exception as error:
        print(f"sandbox: {error}", file=sys.stderr)
        sys.exit(FAILED)
    return environment


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
        # Processor time: SIGXCPU first. SIGKILL, at the hard limit, would look like the system's.
        top = value + 5 if name == "RLIMIT_CPU" else value
        top = top if hard == resource.RLIM_INFINITY else min(top, hard)
        try:
            resource.setrlimit(kind, (value, top))
        except (ValueError, OSError):
            if sys.platform == "linux":
                raise


# prctl(2), capabilities(7)
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 22, 24, 38
_CAPABILITY_VERSION_3 = 0x20080522


def die_with_parent(parent: int | None) -> None:
    """End with the parent, whose number is not known where there are namespaces of numbers."""
    parent = parent or os.getppid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before
        os._exit(FAILED)


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
    number = SYSCALLS[platform.machine()][name]
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
        _landlock_rule(ruleset, "/proc/self", _READ_DIR)
        for name in OWN_PROC:
            # Kept open: a rule holds as long as the kernel does not make the file anew.
            _landlock_rule(ruleset, f"/proc/self/{name}", _READ_FILE, keep=True)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _syscall("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _landlock_rule(ruleset: int, path: str, rights: int, keep: bool = False) -> None:
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
        if keep:
            os.set_inheritable(handle, True)
        else:
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
    "setrlimit": (160, 164),
    "timer_create": (222, 107),
    "seccomp": (317, 277),
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
SYSCALLS = {
    machine: {name: pair[column] for name, pair in _NUMBERS.items() if pair[column] is not None}
    for column, machine in enumerate(("x86_64", "aarch64"))
}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# Done, says the filter, and does nothing: shutil.copy and the like then still work.
_PRETENDED = (
    *("chmod", "fchmod", "fchmodat", "fchmodat2"),
    *("chown", "lchown", "fchown", "fchownat"),
    *("utime", "utimes", "futimesat", "utimensat"),
    "setrlimit",
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


def _signal_itself(pid: int, index: int) -> list[tuple[int, int, int, int]]:
    """Return the instructions that allow any signal but SIGKILL (at this index) to itself.

    So a process that ends by SIGKILL was killed from outside, such as by a system without memory.
    """
    to_itself = [(_LOAD, 0, 0, _argument(0)), (_JUMP_EQUAL, 0, 3, pid)]
    return [*to_itself, (_LOAD, 0, 0, _argument(index)), (_JUMP_EQUAL, 1, 0, 9), _PERMIT, _REFUSE]


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
    calls = SYSCALLS[machine]
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
        "kill": _signal_itself(pid, 1),
        "tgkill": _signal_itself(pid, 2),
        # Of itself, and to read only: a limit of its own would end it as the system does.
        "prlimit64": [
            (_LOAD, 0, 0, _argument(0)),
            (_JUMP_EQUAL, 1, 0, 0),
            (_JUMP_EQUAL, 0, 6, pid),
            (_LOAD, 0, 0, _argument(2)),
            (_JUMP_EQUAL, 0, 3, 0),
            (_LOAD, 0, 0, _argument(2) + 4),
            (_JUMP_EQUAL, 0, 1, 0),
            allow,
            pretend,
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
        # PR_SET_PDEATHSIG: it would outlive the grader that is killed. PR_SET_SECCOMP: its strict
        # mode ends a process as the system does.
        "prctl": _refuse_values(0, (_PR_SET_PDEATHSIG, _PR_SET_SECCOMP)),
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
