"""What this course adds to nbgrader's autograding, step by step.

nbgrader trusts the notebook that it is given: metadata decide what is marked, the
kernel reads the whole disk, any odd value gives full points. These steps take the
metadata from the gradebook, run the kernel in a sandbox, read the test cells'
outcome strictly, and write the trusted scorer's marks over the tasks' cells.
"""

# Overridden methods say in their class's docstring what they do.
# ruff: noqa: D102

import contextlib
import math
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from queue import Empty
from time import monotonic

import zmq
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient.exceptions import CellExecutionComplete, DeadKernelError
from nbformat import NotebookNode, from_dict
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from nbgrader.api import Gradebook
from nbgrader.preprocessors import Execute, NbGraderPreprocessor
from nbgrader.utils import is_grade, is_solution
from traitlets import Any, Bool

from course_utils.checks.exercise import HIDDEN_SEED
from course_utils.grading.marking import forked, sandbox, task_marks, warm
from course_utils.grading.marking.machine_faults import MachineFault, disk_fault, tells_of_disk
from course_utils.grading.marking.outputs import NOTEBOOK_ROOM, Outputs
from course_utils.grading.marking.settings import hidden_test_seed
from course_utils.hand_in.function_task import images_path, masks_path
from course_utils.hand_in.tasks import task_names
from course_utils.machine import processors
from course_utils.paths import data_folder
from course_utils.table import printable

_MAX_MESSAGE, _MAX_WAITING = 32 << 20, 20
"""Bytes of a message, and messages that wait to be read: what a kernel can fill the memory with.

A kernel that sends more in one message is cut off; further messages wait in the kernel.
"""
_MAX_THREADS = 1000
_ANSWER_SECONDS = 5
"""How long after a cell's end its kernel may take to answer."""
_GRACE = 20
"""Seconds that the cell of a function task may take beyond the task's own, for all around it."""
_MAX_WRITTEN, _MAX_FILES = 2 << 30, 20_000
"""Bytes and files that a notebook may have on the disk at a time."""
_GONE = "# The cell of this exercise is not in the notebook."
_NOT_SOLVED = "not solved: "
_PLAIN_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


class RestoreCells(NbGraderPreprocessor):
    """First of all: take every cell's nbgrader metadata from the gradebook and drop all other.

    So a tag cannot skip a test, a copied cell or an old schema cannot stop the batch,
    points and cell types cannot be rewritten. Of copies the last one counts; cells
    that are gone come back as they were released, each after the one before it (the first
    ones before the first that is there, else at the end); but an exercise's cell comes back
    empty: its stub would undo what is solved in another cell.
    """

    def preprocess(self, nb, resources):
        nb.metadata = NotebookNode()  # widgets' states of other programs' make, wrong kernels
        where = resources["nbgrader"]
        with Gradebook(where["db_url"]) as gradebook:
            notebook = gradebook.find_notebook(where["notebook"], where["assignment"])
            points = {cell.name: cell.max_score for cell in notebook.grade_cells}
            solutions = {cell.name for cell in notebook.solution_cells}
            released = {
                cell.name: (cell.source, self._metadata(cell, points, solutions))
                for cell in notebook.source_cells
            }
        places: dict[str, NotebookNode] = {}
        for cell in reversed(nb.cells):
            claimed = cell.metadata.get("nbgrader")
            cell.metadata = NotebookNode()
            grade_id = claimed.get("grade_id") if isinstance(claimed, dict) else None
            if isinstance(grade_id, str) and grade_id in released and grade_id not in places:
                cell.metadata["nbgrader"] = released[grade_id][1]
                places[grade_id] = cell
        before = None
        known = [id(cell) for cell in places.values()]
        start = next((i for i, cell in enumerate(nb.cells) if id(cell) in known), len(nb.cells))
        for grade_id, (source, metadata) in released.items():
            if grade_id not in places:
                new = new_code_cell if metadata.cell_type == "code" else new_markdown_cell
                source = _GONE if metadata.solution and not metadata.grade else source
                cell = places[grade_id] = new(source, metadata={"nbgrader": metadata})
                at = next((i for i, other in enumerate(nb.cells, 1) if other is before), start)
                nb.cells.insert(at, cell)
            before = places[grade_id]
        return nb, resources

    @staticmethod
    def _metadata(cell, points: dict[str, float], solutions: set[str]) -> NotebookNode:
        """Return what nbgrader's metadata of a released cell must be."""
        grade = cell.name in points
        return NotebookNode(
            schema_version=3,
            grade_id=cell.name,
            grade=grade,
            solution=cell.name in solutions,
            task=False,
            cell_type=cell.cell_type,
            locked=cell.locked,
            checksum=cell.checksum,
            **({"points": points[cell.name]} if grade else {}),
        )


class KernelClient(AsyncKernelClient):
    """A client that begins as soon as a kernel is heard, instead of after a pause for safety."""

    async def wait_for_ready(self, timeout: float | None = None) -> None:
        """Wait until what the kernel tells about a first question has come in whole."""
        until = monotonic() + (math.inf if timeout is None else timeout)
        while True:
            asked = self.kernel_info()
            with contextlib.suppress(Empty):
                while not _ends(await self.iopub_channel.get_msg(timeout=1), asked):
                    pass
                return
            if not await self._async_is_alive():
                raise RuntimeError("it died before it answered")
            if monotonic() > until:
                raise RuntimeError(f"it did not answer in {timeout:g} s")


def _ends(message: dict, asked: str) -> bool:
    """Tell whether a message is the last one that a kernel publishes about a question."""
    idle = message["content"].get("execution_state") == "idle"
    return idle and message["parent_header"].get("msg_id") == asked


class KernelManager(AsyncKernelManager):
    """A kernel in the sandbox: own folder, no network, Unix sockets instead of ports.

    ``work`` is the only folder of the course that it can write to; hidden labels,
    gradebook, other hand-ins and solutions are in no folder that it can read. The hidden tests
    draw their input from ``seed``.
    """

    def __init__(self, work: Path, seconds: int, seed: int, **options):
        # Short, since the path of a Unix socket may have about 100 characters.
        place = sandbox.short_temporary_folder(room=len("/k-01234567/k-10"))
        sockets = Path(tempfile.mkdtemp(prefix="k-", dir=place))
        self.writable = [sockets, work]
        if os.name == "posix":
            options |= {"transport": "ipc", "ip": str(sockets / "k")}
        super().__init__(
            connection_file=str(sockets / "k.json"), client_factory=KernelClient, **options
        )
        self.context.setsockopt(zmq.MAXMSGSIZE, _MAX_MESSAGE)
        self.context.setsockopt(zmq.RCVHWM, _MAX_WAITING)
        python = [
            sys.executable,
            "-I",  # no PYTHON* variables, no module of the student's folder before the real one
            "-m",
            "course_utils.grading.marking.kernel",
            "-f",
            "{connection_file}",
            "--InteractiveShellApp.ignore_cwd=True",
        ]
        self._kernel_spec = KernelSpec(
            argv=sandbox.command(
                python,
                read=[folder for folder in [data_folder()] if folder.is_dir()],
                write=self.writable,
                cpu=2 * seconds * processors(),  # of all threads together
                file_size=256 << 20,
                sockets=True,
                env=_kernel_environment(seed),
            ),
            display_name="sandboxed",
            language="python",
            interrupt_mode="message",  # a signal does not reach into every sandbox
        )

    async def _async_launch_kernel(self, kernel_cmd: list[str], **options) -> None:
        # A student's text must not stand in the grader's log, where errors are looked for.
        silent = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        process = forked.fork(kernel_cmd, cwd=options.get("cwd") or os.getcwd(), **silent)
        if process is None:
            await super()._async_launch_kernel(kernel_cmd, **options | silent)
            return
        self.provisioner.process, self.provisioner.pid = process, process.pid
        self._reconcile_connection_info(self.provisioner.connection_info)

    _launch_kernel = _async_launch_kernel

    async def _async_wait(self, pollinterval: float = 0.1) -> None:
        await super()._async_wait(pollinterval / 10)  # a killed kernel is gone in a moment

    async def _async_cleanup_resources(self, restart: bool = False) -> None:
        await super()._async_cleanup_resources(restart)
        if not restart:
            sandbox.remove_tree(self.writable[0])

    cleanup_resources = _async_cleanup_resources


def _kernel_environment(seed: int) -> dict[str, str]:
    """Return what a student's kernel is told beyond the sandbox's own environment."""
    return warm.kernel_variables(os.environ, data_folder()) | {HIDDEN_SEED: str(seed)}


class SandboxedExecute(Execute):
    """Run the notebook in a sandboxed kernel, within a time for all; a dead kernel is an outcome.

    The outcome is told to the later steps in ``resources["course"]``: ``stopped``
    (why the kernel did not run to the end, or None), ``armed`` (grade ids whose
    test ran as written), ``tampered`` (names that the notebook had changed) and ``late`` (function
    tasks that took too long). What the machine is to blame for is no outcome but a `MachineFault`.
    """

    settings = Any(help="Of the run: time for all cells, isolation, what is private.").tag(
        config=True
    )
    first_try = Bool(help="Whether to try again where a cell tells of a full disk.").tag(
        config=True
    )

    def create_kernel_manager(self):
        work = Path(self.resources["metadata"]["path"]).resolve()
        where = self.resources["nbgrader"]
        seed = hidden_test_seed(self.settings.course, where["assignment"], where["student"])
        self.km = KernelManager(work, self.settings.notebook_seconds, seed, config=self.config)
        return self.km

    def preprocess(self, nb, resources, km=None):
        sandbox.require_out_of_reach(self.settings.private_places, [data_folder()])
        self._deadline = monotonic() + self.settings.notebook_seconds
        self._outcome = resources.setdefault("course", {})
        required = self.settings.require_isolation
        level = sandbox.require_isolation() if required else sandbox.isolation_level()
        self._outcome.update(stopped=None, armed=[], tampered=[], late=[], isolation=level)
        self._lesson = resources["nbgrader"]["assignment"]
        self._work = Path(resources["metadata"]["path"]).resolve()
        self._tasks = {
            grade_id: task
            for grade_id, task in task_marks.tasks_by_grade_id(self._lesson).items()
            if task.kind == "function"
        }
        self._room, self._said_of_disk, self._started = NOTEBOOK_ROOM, False, False
        self._fault = disk_fault(self._work)
        with tempfile.TemporaryDirectory(dir=self._work.parent, prefix=".masks-") as taken:
            self._taken = Path(taken)
            try:
                self._raise_fault()
                nb, resources = super().preprocess(nb, resources, km)
            except MachineFault:
                raise
            except Exception as error:
                if self._started:
                    raise
                raise MachineFault(f"the kernel did not start: {error}") from error
            finally:
                _sweep(self._work, self._taken)
        if self._said_of_disk and self.first_try:
            self._fault = self._fault or "a cell tells of a full disk"
        self._raise_fault()
        return nb, resources

    def _raise_fault(self) -> None:
        if self._fault:
            raise MachineFault(f"{self._fault}. Free some space, then run the command again.")

    def preprocess_cell(self, cell, resources, index):
        self._started = True
        if cell.cell_type != "code" or self._outcome["stopped"]:
            return cell, resources
        if monotonic() > self._deadline:
            self._outcome["stopped"] = (
                f"the notebook ran longer than {self.settings.notebook_seconds} s"
            )
            return cell, resources
        try:
            if is_grade(cell) and not is_solution(cell):
                self._run_test(cell, index)
            else:
                self._run_cell(cell, index)
            run_sync(self._async_check_alive)()  # of a short cell too
        except DeadKernelError:
            self._blame_for_end()
        except (OSError, MemoryError, MachineFault):
            raise
        except Exception:  # its kernel sends what is no message, or one of another make
            self._stop("an earlier cell made the kernel send what cannot be read")
        else:
            late = any(out.get("ename") == "CellTimeoutError" for out in cell.outputs)
            if late and not run_sync(self._answers)():
                self._stop("an earlier cell never ended and could not be stopped")
        return cell, resources

    def _stop(self, reason: str) -> None:
        self._require_unkilled()
        self._outcome["stopped"] = self._outcome["stopped"] or reason
        run_sync(self.km.shutdown_kernel)(now=True)

    def _blame_for_end(self) -> None:
        """Say why the kernel is gone; the system's doing is no outcome."""
        self._require_unkilled()
        self._outcome["stopped"] = self._outcome["stopped"] or "an earlier cell ended the kernel"

    def _require_unkilled(self) -> None:
        """Raise if it was the system, and not this process, that ended the kernel."""
        if self._outcome["stopped"] or not self.km.provisioner:
            return
        if sandbox.was_killed(run_sync(self.km.provisioner.poll)()):
            raise MachineFault(
                "the system killed the notebook's kernel. Most often the memory does not suffice: "
                "run the command again with --jobs 1."
            )

    def _run_cell(self, cell, index, token: str | None = None) -> bool:
        """Run a cell and put into it what has come of it; tell whether the kernel has answered."""
        self._said, self._reply, self._idle = Outputs(token, self._room), None, None
        cell.execution_count = self.code_cells_executed + 1
        source = cell.source
        try:
            # Nothing of a test stays in the history, from which a later cell could print it.
            self.execute_cell(cell, index, store_history=token is None)
        finally:
            self._idle = None
            cell.source = source
            cell.outputs = self._said.finish(self._reply)
            self._room -= self._said.size
            self._said_of_disk |= tells_of_disk(self._said.text)
        return self._reply is not None

    def _run_test(self, cell, index):
        """Run a test cell behind the guard, whose words are read as they arrive."""
        token, source = secrets.token_hex(16), cell.source
        grade_id = cell.metadata.nbgrader.grade_id
        task = self._tasks.get(grade_id)
        if task:
            task_marks.prepare(task, self._work, self.settings.course)
        self._seconds = task.seconds + _GRACE if task else None
        cell.source = (
            f"__import__('course_utils.grading.marking.guard', fromlist=['arm'])"
            f".arm(globals(), {self._lesson!r}, {token!r})\n{source}"
        )
        started, answered = monotonic(), False
        try:
            answered = self._run_cell(cell, index, token)
            if answered and run_sync(self._answered_again)():
                self._outcome["tampered"].append("the kernel's answer")
                cell.outputs.append(_refusal("Tampered", "the kernel answered twice"))
        finally:
            cell.source = source
            if task:
                self._take_masks(task, monotonic() - started)
            self._seconds = None
            lines = self._said.guard
            if token in lines and answered:
                self._outcome["armed"].append(grade_id)
            elif not answered:
                cell.outputs.append(_refusal("NotFinished", "the kernel ended in this cell"))
            for line in lines:
                name = printable(line.partition("!")[2], 200)
                if name and name not in self._outcome["tampered"]:
                    self._outcome["tampered"].append(name)

    def _take_masks(self, task, seconds: float) -> None:
        """Take a task's masks out of the kernel's reach, and the hidden images as well."""
        with contextlib.suppress(OSError):  # gone, or a folder by now
            (self._work / images_path(task.name)).unlink()
        masks = self._work / masks_path(task.name)
        if masks.is_file() and not masks.is_symlink():  # a copy: the kernel may have it open
            shutil.copyfile(masks, self._taken / masks.name, follow_symlinks=False)
        if seconds > self._seconds:
            self._outcome["late"].append(task.name)

    def _get_timeout(self, cell=None):
        limits = [self.timeout, self._deadline - monotonic()]
        if cell is not None and self._seconds:
            limits.append(self._seconds)
        return int(max(1, min(limits)))

    _seconds = None

    def process_message(self, msg, cell, cell_index):
        content = msg["content"]
        if msg["msg_type"] == "status":
            if content.get("execution_state") == "idle":
                self._idle = monotonic()
                raise CellExecutionComplete
            return
        self._said.take(msg)

    def on_cell_executed(self, **told):
        self._reply = told["execute_reply"]["content"]
        self._asked = told["execute_reply"]["parent_header"].get("msg_id")

    async def _answered_again(self) -> bool:
        """Tell whether a second answer to a cell has come: then the first may be a cell's own.

        On a busy machine it may still be on its way. So the kernel is asked something else: what it
        has answered before comes before that.
        """
        asked = self.kc.kernel_info()
        with contextlib.suppress(Empty):  # it answers no more, which the next cell tells
            while True:
                message = await self.kc.shell_channel.get_msg(timeout=_ANSWER_SECONDS)
                parent = message["parent_header"].get("msg_id")
                if parent in (asked, self._asked):
                    return parent == self._asked
        return False

    async def _async_check_alive(self) -> None:
        # Asked every second: what a notebook takes without end must not be missing for all.
        if self._outcome["stopped"] is None and (reason := self._exceeded()):
            self._outcome["stopped"] = reason
            await self.km.shutdown_kernel(now=True)
        await super()._async_check_alive()

    def _exceeded(self) -> str | None:
        """Return what the notebook has taken too much of, or that it answers no more."""
        self._fault = self._fault or disk_fault(self._work)
        if _too_much(self.km.writable):
            return (
                f"an earlier cell wrote more than {_MAX_WRITTEN >> 30} GB or {_MAX_FILES:,} files"
            )
        # With Landlock a kernel is one process; around bubblewrap's there are others.
        others = self._outcome["isolation"] != sandbox.LANDLOCK
        if (provisioner := self.km.provisioner) and _threads(
            provisioner.pid, others
        ) > _MAX_THREADS:
            return f"an earlier cell started more than {_MAX_THREADS:,} threads"
        if self._idle and self._reply is None and monotonic() > self._idle + _ANSWER_SECONDS:
            return "an earlier cell broke the kernel, which answers no more"
        return None

    async def _answers(self) -> bool:
        """Tell whether the kernel, just interrupted, still talks."""
        try:
            await self.kc.kernel_info(reply=True, timeout=10)
        except Exception:
            return False
        return True


def _threads(pid: int | None, children: bool) -> int:
    """Return how many threads a process, and its children, have; 0 if it is gone."""
    import psutil

    count = 0
    with contextlib.suppress(psutil.Error, OSError, TypeError):
        process = psutil.Process(pid)
        for one in (process, *(process.children(recursive=True) if children else ())):
            count += one.num_threads()
    return count


def _too_much(folders: list[Path]) -> bool:
    """Tell whether more lies in the folders than a notebook may write.

    This ends a notebook that runs away. One that hides what it writes, in a file that is
    deleted while it is open, is not found.
    """
    size = count = 0
    waiting = [str(folder) for folder in folders]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                count += 1
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    size += entry.stat(follow_symlinks=False).st_size
        if size > _MAX_WRITTEN or count > _MAX_FILES:
            return True
    return False


def _sweep(work: Path, kept: Path) -> None:
    """Replace the folder that the dead kernel could write to by one with a folder's files alone.

    What comes after the kernel is not isolated: it would write through a link that the
    notebook has left, wait for a pipe, or carry files into the feedback.
    """
    old = Path(tempfile.mkdtemp(dir=work.parent, prefix=".ran-"))
    os.rename(work, old / "work")
    work.mkdir()
    for path in kept.iterdir():
        os.rename(path, work / path.name)
    sandbox.remove_tree(old)


class JudgeCells(NbGraderPreprocessor):
    """Turn each test cell's outcome into one that nbgrader cannot read too kindly.

    nbgrader gives full points to a cell that printed ``True``, ``nan`` or a tuple,
    or that never ran. Here, such a cell gets an error that says why it has no
    points, and so nbgrader's zero.
    """

    def preprocess(self, nb, resources):
        outcome = resources["course"]
        tasks = task_marks.tasks_by_grade_id(resources["nbgrader"]["assignment"])
        reasons = outcome["reasons"] = {}
        broken = elsewhere = None
        for cell in nb.cells:
            if is_solution(cell) and cell.cell_type == "code":
                broken = _broken(cell)
            elif not is_grade(cell):
                errors = [_short(error) for error in _errors(cell)]
                found = next((e for e in errors if not e.startswith(_NOT_SOLVED)), None)
                elsewhere = elsewhere or found
            if not is_grade(cell) or is_solution(cell) or cell.cell_type != "code":
                continue
            grade_id = cell.metadata.nbgrader.grade_id
            if grade_id in tasks:
                cell.outputs = [_refusal("NotMarked", "the task was not marked")]
                continue
            ran = cell.execution_count is not None or cell.outputs
            if not ran:
                reason = f"not run: {outcome['stopped']}"
            elif grade_id not in outcome["armed"] and not _errors(cell):
                reason = "the test did not run as written"
            else:
                reason = refused_outcome(cell.outputs, cell.metadata.nbgrader.points)
            if reason and broken and reason.startswith(("NameError", _NOT_SOLVED)):
                reason = broken
            if reason and elsewhere and "NameError" in reason:
                reason = f"{reason}; an earlier cell stops: {elsewhere}"
            if reason and not _errors(cell):
                # In front: nbgrader goes by the first output that it can read.
                cell.outputs.insert(0, _refusal("NotMarked", reason))
            if reason:
                reasons[grade_id] = reason
        return nb, resources


def _broken(cell) -> str | None:
    """Return why an exercise's own cell left nothing to test, or None if it ran."""
    if cell.source == _GONE:
        return "its exercise's cell is gone from the notebook"
    error = next(map(_short, _errors(cell)), None)
    if error is None or error.startswith(_NOT_SOLVED):
        return error
    return f"its exercise's cell stops: {error}"


def refused_outcome(outputs: list, points: float) -> str | None:
    """Return why a test cell's outputs earn no points, or None if they do.

    Good outcomes are no value at all (full points) and one plain finite number in
    0..points, as ``repr`` of a Python float writes it.
    """
    for out in outputs:
        if out.output_type == "error":
            return _short(out)
    values = [
        out["data"].get("text/plain", "") for out in outputs if out.output_type == "execute_result"
    ]
    if not values:
        return None
    if len(values) > 1:
        return "the test gave several values"
    text = "".join(values[0])
    if not _PLAIN_NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        return f"the test gave {text[:60]!r}, which is no plain number"
    if not 0 <= float(text) <= points:
        return f"the test gave {text[:60]}, outside of 0..{points:g}"
    return None


class ScoreTasks(NbGraderPreprocessor):
    """Right after SaveAutoGrades: the trusted scorer's marks, whatever the notebook has printed.

    The mark goes into the gradebook; its reason goes into the cell's output, into the
    comment of the solution cell before it, and into ``nb.metadata["course"]``.
    """

    settings = Any(help="Of the run: secret seed, data, isolation.").tag(config=True)

    def preprocess(self, nb, resources):
        where = resources["nbgrader"]
        executed = Path(resources["metadata"]["path"]).resolve()
        results = {}
        for name in task_names(where["assignment"]):
            result = task_marks.mark_task(
                name,
                # What was handed in: the executed copy may have been written to by the notebook.
                handed_in=submitted_folder(executed),
                executed=executed,
                settings=self.settings,
                isolation=resources["course"]["isolation"],
                late=name in resources["course"].get("late", ()),
            )
            results[result["grade_id"]] = result
        with Gradebook(where["db_url"]) as gradebook:
            for result in results.values():
                task_marks.write_mark(gradebook, where, result)
            for grade_id, text in task_marks.task_comments(nb.cells, results).items():
                comment = gradebook.find_comment(
                    grade_id, where["notebook"], where["assignment"], where["student"]
                )
                comment.auto_comment = text
            gradebook.db.commit()
        for cell in nb.cells:
            grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
            if grade_id in results:
                cell.outputs = [from_dict(task_marks.output_of(results[grade_id]))]
        nb.metadata["course"] = {**resources["course"], "tasks": results}
        return nb, resources


def submitted_folder(executed: Path) -> Path:
    """Return ``submitted/<student>/<lesson>`` that belongs to ``autograded/<student>/<lesson>``."""
    return executed.parents[2] / "submitted" / executed.parent.name / executed.name


class HideTests(NbGraderPreprocessor):
    """Before feedback is written: neither hidden tests nor a traceback through them.

    Nor what was printed or drawn where a hidden test or hidden images were within reach: in the
    cell of a hidden test, and in all cells from a function task's on.
    """

    def preprocess(self, nb, resources):
        tasks = task_marks.tasks_by_grade_id(resources["nbgrader"]["assignment"])
        functions = {grade_id for grade_id, task in tasks.items() if task.kind == "function"}
        reached = False
        for cell in nb.cells:
            test = is_grade(cell) and not is_solution(cell)
            if reached and not test and cell.get("outputs"):
                text = "Not shown: made in grading, where the hidden images were within reach.\n"
                cell.outputs = [new_output("stream", name="stdout", text=text)]
            if test and cell.cell_type == "code":
                self._hide(cell)
            reached = reached or (test and cell.metadata.nbgrader.grade_id in functions)
        return nb, resources

    def _hide(self, cell):
        source = re.sub(
            r"(?ms)^[^\n]*BEGIN HIDDEN TESTS.*?(END HIDDEN TESTS[^\n]*\n?|\Z)", "", cell.source
        )
        if source != cell.source:
            decide = ("error", "execute_result")
            cell.source = source
            cell.outputs = [out for out in cell.outputs if out.output_type in decide]
        for out in _errors(cell):
            out.traceback = [_short(out)]


class RemoveLinks:
    """Before a batch: delete symbolic links from the hand-ins, which nbgrader would follow.

    A link to an instructor's file would bring it into the feedback.
    """

    def __init__(self, submitted: Path):
        self.submitted = submitted

    def __call__(self, **_: object) -> None:
        for folder, folders, files in os.walk(self.submitted):
            for name in folders + files:
                path = Path(folder, name)
                if path.is_symlink():
                    path.unlink()


def _errors(cell) -> list:
    return [out for out in cell.get("outputs", []) if out.output_type == "error"]


def _refusal(name: str, reason: str) -> NotebookNode:
    return NotebookNode(output_type="error", ename=name, evalue=reason, traceback=[reason])


def _short(error) -> str:
    """Return an error in one line, such as ``ValueError: no such axis``; a check's words alone."""
    if error.ename == "NotImplementedError":
        if error.evalue.startswith("first: "):  # a result that no cell has made yet
            return _NOT_SOLVED + printable(error.evalue.replace(":", "", 1), 100)
        return f"{_NOT_SOLVED}the stub is still there"
    if error.ename == "CellTimeoutError":
        return "the cell ran out of time"
    text = error.evalue if error.ename == "CheckFailed" else f"{error.ename}: {error.evalue}"
    return printable(" ".join(text.split()).removesuffix(":"), 300)
