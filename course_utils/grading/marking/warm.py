"""Warm processes: forked from one that has imported all they need, instead of started anew.

A kernel that imports torch and fastai needs seconds before its first cell, a job as long for
nbgrader. Here a `forkserver` imports once what the processes of a run have in common, and each
of them is a fork of it: with its own folder, streams and random numbers, under the same isolation.

Where this does not work (macOS, Windows, isolation by bubblewrap, a server that cannot start), the
same processes are started as usual.
"""

import ast
import atexit
import contextlib
import json
import os
import secrets
import select
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from course_utils.grading.marking import launcher, sandbox
from course_utils.grading.marking.forked import (
    JOB,
    KERNEL,
    PLACES,
    PROBE,
    READY,
    SCORER,
    Forked,
)

SWITCH = "COURSE_WARM"
"""The variable that is 0 where every process is to be started as usual."""
_SECONDS = 180
"""How long a server may import, on a machine that is very busy."""
_JOB_IMPORTS = """
import course_utils.grading.marking.preprocessors
import course_utils.grading.marking.function_marks
import course_utils.grading.marking.plain_markdown
import course_utils.grading.marking.shown
from course_utils.grading.marking import sandbox, scorer
from course_utils.grading.marking.feedback_page import rehearse
import nbgrader.apps
sandbox.isolation_level()
rehearse()
"""
"""Also what a job would find out or compile at first, where no thread is begun for it."""
_SCORER_IMPORTS = """
import onnx
import onnxruntime
import course_utils.hand_in.gate
import course_utils.hand_in.inference
"""
_KERNEL_IMPORTS = """
import IPython.core.completerlib, IPython.core.debugger, IPython.core.logger, IPython.core.oinspect
import IPython.extensions.storemagic, IPython.utils.wildcard, matplotlib.pyplot, sqlite3
import course_utils.grading.marking.guard, encodings.idna, encodings.utf_16_be, resource
import tornado.gen, tornado.locks, tornado.platform.asyncio, tornado.queues
import matplotlib.backends.backend_agg, PIL.BmpImagePlugin, PIL.GifImagePlugin, PIL.ImageDraw
import PIL.ImageFont, PIL.JpegImagePlugin, PIL.PngImagePlugin, PIL.PpmImagePlugin
"""
"""Beside what a lesson's notebook imports: what a kernel does by itself, sooner or later."""
_MORE_IMPORTS = f"from {KERNEL} import import_more\nimport_more()"


class Server:
    """A `forkserver` of one program, which listens at ``path``."""

    def __init__(self, folder: Path, program: str, imports: str, environment: dict[str, str]):
        self.path = folder / secrets.token_hex(4)
        self.users = 0
        argv = [sys.executable, "-I", "-m", "course_utils.grading.marking.forkserver"]
        self._process = subprocess.Popen(
            [*argv, str(self.path), program, imports],
            stdin=subprocess.PIPE,  # never written to: it ends with this process
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        self._lock = threading.Lock()
        self._answer: str | None = None

    def ready(self) -> bool:
        """Wait until it can fork; tell whether it can."""
        with self._lock:
            if self._answer is None:
                waiting = select.poll()
                waiting.register(self._process.stdout, select.POLLIN)
                if waiting.poll(_SECONDS * 1000):
                    self._answer = self._process.stdout.readline().decode().strip()
                else:
                    self._answer = "it takes too long to import"
                    self.close()
            return self._answer == READY and self._process.poll() is None

    def lost(self) -> bool:
        """Tell whether it could fork, and is gone: the system may have killed it."""
        return self._answer == READY and self._process.poll() is not None

    def close(self) -> None:
        """End it and all its children."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@dataclass(frozen=True)
class Ready:
    """What runs for a job: what forks jobs, and the variables that tell it of the other servers."""

    jobs: Path | None = None
    variables: dict[str, str] = field(default_factory=dict)

    def start_job(
        self, specification: str, log: IO[str], environment: dict[str, str], cwd: Path
    ) -> "Forked | subprocess.Popen":
        """Start the process of a job, which ends when its standard input is closed."""
        if self.jobs:
            request = {"environment": environment, "argv": [specification], "cwd": str(cwd)}
            with contextlib.suppress(OSError):
                return Forked(self.jobs, request, (subprocess.PIPE, log, log))
        return subprocess.Popen(
            [sys.executable, "-I", "-m", JOB, specification],
            stdin=subprocess.PIPE,  # never written to: it is closed when this process ends
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=cwd,
            env=environment,
        )


class _Servers:
    """The servers of this process; of those for kernels, one a lesson, the last few."""

    _MOST = 2

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._folder: Path | None = None
        self._common: dict[str, Server] = {}
        self._kernels: dict[tuple, Server] = {}

    def begin(
        self, course: Path, lesson: str, environment: dict[str, str]
    ) -> tuple[Server, dict[str, Server]]:
        """Begin what does not run yet; return the server of a lesson's kernels, and the others."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="w-")).resolve()
            (self._folder / PROBE).touch(mode=0o600)
        for servers in (self._common, self._kernels):
            for key in [key for key, server in servers.items() if server.lost()]:
                servers.pop(key).close()
        home = launcher.minimal_environment(str(self._folder))
        own = environment | {"OPENBLAS_NUM_THREADS": "1"}  # a thread could not be forked
        for program, imports, variables in (
            (JOB, _JOB_IMPORTS, own),
            (SCORER, _SCORER_IMPORTS, home),
        ):
            if program not in self._common:
                self._common[program] = Server(self._folder, program, imports, variables)
        variables = kernel_variables(environment, Path(environment["COURSE_DATA"]).expanduser())
        key = lesson, course, *variables.items()
        if key in self._kernels:
            self._kernels[key] = self._kernels.pop(key)  # the last one used, by order
        else:
            idle = [old for old, server in self._kernels.items() if not server.users]
            for old in idle[: max(0, len(self._kernels) + 1 - self._MOST)]:
                self._kernels.pop(old).close()
            imports = f"{_KERNEL_IMPORTS}\n{lesson_imports(course, lesson)}\n{_MORE_IMPORTS}"
            self._kernels[key] = Server(self._folder, KERNEL, imports, home | variables)
        return self._kernels[key], dict(self._common)

    def close(self) -> None:
        """End all servers and what they have forked."""
        with self.lock:
            for server in [*self._kernels.values(), *self._common.values()]:
                server.close()
            self._kernels, self._common = {}, {}
            if self._folder:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None


_SERVERS = _Servers()
close = _SERVERS.close
atexit.register(close)


@contextlib.contextmanager
def ready(course: Path, lesson: str, environment: dict[str, str]) -> Iterator[Ready]:
    """Give a job of a lesson what runs for it; what does not run yet begins, and is waited for.

    Parameters
    ----------
    course
        The course's folder.
    lesson
        Full name.
    environment
        That of the job.
    """
    if os.environ.get(SWITCH) == "0" or sandbox.isolation_level() != sandbox.LANDLOCK:
        yield Ready()
        return
    with _SERVERS.lock:
        kernel, others = _SERVERS.begin(course, lesson, environment)
        kernel.users += 1
    try:
        running = {p: s.path for p, s in [(KERNEL, kernel), *others.items()] if s.ready()}
        places = {PLACES[p]: str(path) for p, path in running.items() if p in PLACES}
        yield Ready(running.get(JOB), places)
    finally:
        with _SERVERS.lock:
            kernel.users -= 1


def kernel_variables(environment: Mapping[str, str], data: Path) -> dict[str, str]:
    """Return what every notebook's kernel of a run is told beyond the sandbox's own environment."""
    kept = ("COURSE_PROFILE", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    return {
        **{name: environment[name] for name in kept if name in environment},
        "COURSE_DATA": str(data),
        "COURSE_STATIC": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "NBGRADER_EXECUTION": "autograde",
    }


def lesson_imports(course: Path, lesson: str) -> str:
    """Return the import statements of a lesson's own notebook, a line each."""
    path = course / "solutions" / lesson / f"{lesson}.ipynb"
    with contextlib.suppress(OSError, ValueError):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        return "\n".join(dict.fromkeys(line for source in sources for line in _imports(source)))
    return ""


def _imports(source: str) -> list[str]:
    try:
        tree = ast.parse(source)
    except SyntaxError:  # such as a line for IPython
        return []
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return [ast.unparse(node) for node in found]
