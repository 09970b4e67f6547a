"""A process that imports a program's modules once, and becomes that program by fork, many times.

``python -I -m course_utils.grading.marking.forkserver SOCKET PROGRAM IMPORTS`` says ``ready`` when
the program, a module, and all else is imported. Then each connection to the socket is one process:
it begins where the program would be after its imports. `warm` starts the server, and connects.

The server imports and does nothing else: threads, and what shares memory, would not be whole in a
child. It reads no request, so that no child finds in its memory what another was told: a child
reads its own, isolates itself by `launcher` (as the same program does that is started by its
command line), and only then runs. The server is told by the connection's end that nobody wants the
child any more, and by its own standard input's end that nobody wants the server.
"""

import builtins
import contextlib
import fcntl
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from pathlib import Path

from course_utils.grading.marking import launcher
from course_utils.grading.marking.forked import LENGTH, READY

_MOST_FILES = 1 << 20
_LOOK_FOR_A_SHELL = ("matplotlib_inline.backend_inline", "tqdm.auto", "tqdm.autonotebook")
"""Modules that behave by the shell that they find when they are imported: each child's own."""


def main() -> None:
    """Import, say whether that went well, and fork until standard input ends."""
    path, program, imports = sys.argv[1:]
    _end_with_input()
    # What a library prints must not get into the answer.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _import(imports)
    own = importlib.import_module(program)
    with answer, socket.socket(socket.AF_UNIX) as listener:
        if found := unfit():
            print(found, file=answer)
            return
        gc.collect()
        gc.freeze()  # else the first collection of each child would copy all of it
        listener.bind(path)
        listener.listen(128)
        print(READY, file=answer, flush=True)
        server = os.getpid()
        connection = serve(listener)
    _become(connection, own, server)


def _end_with_input() -> None:
    """Have the system end this process when its standard input ends, also while it imports.

    With it end all its children, see `launcher.die_with_parent`.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([0], [], [], 0)[0]:  # it had ended before
        sys.exit()


def _import(statements: str) -> None:
    """Run import statements, as in a notebook; what is not installed will fail in the child."""
    builtins.get_ipython = _Shell  # fastai's parts ask for the kind of shell when imported
    names: dict = {}
    for statement in statements.splitlines():
        with contextlib.suppress(Exception):
            exec(statement, names)
    del builtins.get_ipython
    for name in _LOOK_FOR_A_SHELL:
        sys.modules.pop(name, None)


class _Shell:
    """What fastcore and fastprogress go by: that it has this name."""


_Shell.__name__ = "ZMQInteractiveShell"


def unfit() -> str | None:
    """Return why no child of this process would be whole, or alone; None if it would."""
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        return f"{threads} threads run"
    maps = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines()]
    shared = [line[5] if len(line) > 5 else "" for line in maps if line[1][1::2] == "ws"]
    return f"memory is shared: {shared[0] or 'without a name'}" if shared else None


def serve(listener: socket.socket) -> socket.socket:
    """Fork a child for each connection and tell there how it ends; return only in a child."""
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    children: dict[int, tuple[int, int, socket.socket]] = {}
    while True:
        ready, _ = poller.poll()[0]  # one at a time: what follows may change what the others mean
        if ready == listener.fileno():
            connection, _ = listener.accept()
            if (pid := os.fork()) == 0:
                return connection
            child = pid, os.pidfd_open(pid), connection
            children[child[1]] = children[connection.fileno()] = child
            poller.register(child[1], select.POLLIN)
            poller.register(connection, select.POLLRDHUP)  # not what is for the child to read
            _tell(connection, pid)
        else:
            pid, handle, connection = children[ready]
            _kill(pid)  # it has ended, and so does its group; or nobody wants it any more
            poller.unregister(ready)
            if ready == handle:
                _, status = os.waitpid(pid, 0)
                _tell(connection, os.waitstatus_to_exitcode(status))
                del children[handle], children[connection.fileno()]
                with contextlib.suppress(KeyError):
                    poller.unregister(connection)
                connection.close()
                os.close(handle)


def _tell(connection: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # who asked is gone
        connection.sendall(f"{number}\n".encode())


def _kill(pid: int) -> None:
    """Kill a child that nobody has waited for yet, so that its number is still its own."""
    for kill in (os.killpg, os.kill):  # before the child's first steps it leads no group
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _become(connection: socket.socket, program, server: int) -> None:
    """Be the program that was asked for, to its end, or to the server's."""
    code = launcher.FAILED
    try:
        launcher.die_with_parent(server)
        request = _receive(connection)
        os.chdir(request["cwd"])
        environment = request.get("environment") or _isolate(request, server)
        os.environ.clear()
        os.environ.update(environment)
        _begin_anew()
        sys.argv = [program.__file__, *request["argv"]]
        code = 1
        program.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else code
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)  # without the end of Python, which takes torch a second


def _receive(connection: socket.socket) -> dict:
    """Read what this child is to do, take its streams, and let go of all that is another's."""
    head, streams, _, _ = socket.recv_fds(connection, LENGTH.size, 3)
    (left,) = LENGTH.unpack(head)
    parts = []
    while left:
        parts.append(connection.recv(min(left, 1 << 16)))
        if not parts[-1]:
            raise EOFError("the request ended early")
        left -= len(parts[-1])
    connection.close()
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, _MOST_FILES)  # the server's socket, other children's connections
    return json.loads(b"".join(parts))


def _isolate(request: dict, server: int) -> dict[str, str]:
    """Isolate this process as its command line would; return the program's environment.

    It ends unless a file that it must not read is then out of its reach.
    """
    options = launcher.parse([*request["isolation"], "--", "forked"])
    options.parent = server
    environment = launcher.isolate_or_exit(options)
    try:
        open(request["probe"]).close()
    except PermissionError:
        return environment
    except OSError:
        pass
    print("sandbox: what must not be read can be read", file=sys.stderr)
    sys.exit(launcher.FAILED)


def _begin_anew() -> None:
    """Undo what the libraries took from the server: random numbers, folders, its environment."""
    import random
    import tempfile

    random.seed()
    tempfile.tempdir = None
    loaded = sys.modules
    if "numpy" in loaded:
        loaded["numpy"].random.seed()
    if "torch" in loaded:
        loaded["torch"].default_generator.seed()


if __name__ == "__main__":
    main()
