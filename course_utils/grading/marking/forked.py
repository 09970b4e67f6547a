"""A process that a `forkserver` begins, instead of a program that is started anew.

`fork` takes the same command line of `sandbox.command` that would start it, so that whichever way
is taken, the program and its isolation are the same.
"""

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from course_utils.grading.marking import launcher

KERNEL, SCORER, JOB = (
    f"course_utils.grading.marking.{name}" for name in ("kernel", "scorer_child", "job")
)
"""The programs that are forked, by their module's name."""
PLACES = {KERNEL: "COURSE_WARM_KERNEL", SCORER: "COURSE_WARM_SCORER"}
"""The variables that tell a job where the servers for its own processes are."""
PROBE = "probe"
"""A file beside a server's socket that nothing in a sandbox can read."""
READY = "ready"
"""What a server says when it can fork."""
LENGTH = struct.Struct("<Q")
"""In front of a request, which is JSON; with it come the three standard streams."""
_COMMANDS = {
    KERNEL: [sys.executable, "-I", "-m", KERNEL],
    SCORER: [sys.executable, "-I", str(Path(__file__).with_name("scorer_child.py"))],
}


class Forked:
    """A process that a server has forked: of `subprocess.Popen` what the grader needs.

    Attributes
    ----------
    pid
        Its number, and that of its group.
    stdin, stdout, stderr
        This end of its pipes, where it has some.
    """

    def __init__(self, server: Path, request: dict, streams: Sequence[int | object]):
        """Begin a process; its streams are those of `subprocess.Popen`: PIPE, DEVNULL or a file.

        Raises
        ------
        OSError
            If the server does not answer.
        """
        self.returncode: int | None = None
        self._said = b""
        self._lock = threading.Lock()
        given, kept, made = [], [], []
        self._connection = socket.socket(socket.AF_UNIX)
        try:
            for number, stream in enumerate(streams):
                theirs, ours = _ends(stream, reads=number == 0)
                given.append(theirs)
                kept.append(ours)
                made += [theirs] * (stream in (subprocess.PIPE, subprocess.DEVNULL))
            self._connection.connect(str(server))
            body = json.dumps(request).encode()
            socket.send_fds(self._connection, [LENGTH.pack(len(body))], given)
            self._connection.sendall(body)
            self._connection.settimeout(30)
            while b"\n" not in self._said:
                self._said += self._connection.recv(100) or b"\n"
            first, _, self._said = self._said.partition(b"\n")
            if not first:
                raise ConnectionError("the server has ended")
            self.pid = int(first)
            self._connection.settimeout(None)
        except BaseException:
            self._connection.close()
            for ours in filter(None, kept):
                ours.close()
            raise
        finally:
            for theirs in made:
                os.close(theirs)
        self.stdin, self.stdout, self.stderr = kept

    def poll(self) -> int | None:
        """Return its exit code, negative if a signal has ended it; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; return its exit code."""
        with self._lock:
            if self.returncode is not None:
                return self.returncode
            readable = select.poll()
            readable.register(self._connection, select.POLLIN)
            limit = None if timeout is None else int(max(0, timeout) * 1000)
            if b"\n" not in self._said and not readable.poll(limit):
                raise subprocess.TimeoutExpired("a forked process", timeout)
            try:
                while b"\n" not in self._said:
                    self._said += self._connection.recv(100) or b"\n"
            except OSError:
                self._said = b"\n"
            # Without a word the server is gone, and with it all its children.
            self.returncode = int(self._said.split(b"\n")[0] or -signal.SIGKILL)
            self._connection.close()
            return self.returncode

    def kill(self) -> None:
        """Kill it and its group."""
        # The server does it, which knows whether the number is still that process's.
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def send_signal(self, number: int) -> None:
        """Kill it, whatever the signal: a kernel is interrupted by a message."""
        self.kill()


def _ends(stream: object, reads: bool) -> tuple[int, object | None]:
    """Return the child's end of a stream, and this process's where it is a pipe."""
    if stream == subprocess.DEVNULL:
        return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), None
    if stream != subprocess.PIPE:
        return stream if isinstance(stream, int) else stream.fileno(), None
    reading, writing = os.pipe()
    if reads:
        return reading, open(writing, "wb", buffering=0)
    return writing, open(reading, "rb", buffering=0)


def fork(command: Sequence[str], *, stdin, stdout, stderr, cwd) -> Forked | None:
    """Fork what a `sandbox.command` says; None where no server for its program is known or answers.

    Streams and folder are those of `subprocess.Popen`.
    """
    if (found := _server_for(command)) is None:
        return None
    server, isolation, argv = found
    request = {"isolation": isolation, "argv": argv, "cwd": os.fspath(cwd)}
    request["probe"] = str(server.with_name(PROBE))
    with contextlib.suppress(OSError):
        return Forked(server, request, (stdin, stdout, stderr))
    return None


def _server_for(command: Sequence[str]) -> tuple[Path, list[str], list[str]] | None:
    """Return the server of a command's program, the options of its isolation, and its arguments."""
    launch = [sys.executable, "-I", os.path.realpath(launcher.__file__)]
    if command[: len(launch)] != launch or "--" not in command:
        return None
    at = command.index("--")
    isolation, argv = command[len(launch) : at], command[at + 1 :]
    for program, beginning in _COMMANDS.items():
        server = os.environ.get(PLACES[program])
        if server and argv[: len(beginning)] == beginning and isolation[:2] == ["--level", "L3"]:
            return Path(server), isolation, argv[len(beginning) :]
    return None
