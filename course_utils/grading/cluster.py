"""A class marked on the workers of a dask cluster: ``course grade --cluster ADDRESS``.

The command stays the one writer: it hands jobs to the scheduler at that address and merges what
comes of them. A worker runs a job as a local run does, in a child process of its own, and puts
its result into ``grading/results`` in one step; so a job that runs twice, because a worker was
taken for lost, leaves one result. Nothing but "done" or an error comes back over the network.

The course's folder lies on a disk that all machines see, at one path.
"""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError
from dataclasses import replace
from pathlib import Path

from course_utils.errors import CourseError, last_error
from course_utils.grading.marking import sandbox
from course_utils.grading.marking.job import Job
from course_utils.machine import processors
from course_utils.table import printable

RETRIES = 2
"""How often a job that has failed on one worker is tried again, on the same or on another."""
_SECONDS = 10
"""How long to wait for the scheduler to answer."""


@contextlib.contextmanager
def workers_at(address: str, version_of: Callable[[str], str]) -> Iterator[Executor]:
    """Give an executor whose jobs run on a cluster's workers.

    Parameters
    ----------
    address
        The scheduler's, such as ``tcp://node01:8786``, or the file that it writes where it was
        started with ``--scheduler-file``.
    version_of
        Tells by a lesson's name which grader is installed where it is called.

    Raises
    ------
    CourseError
        If distributed is not installed, or no scheduler answers there.
    """
    try:
        from distributed import Client
    except ImportError:
        raise CourseError(
            "--cluster needs dask.distributed, here and on the workers: pip install distributed "
            "(requirements.lock has the tested version)."
        ) from None

    class ClosingClient(Client):
        """Closes itself where no scheduler answers.

        distributed leaves it to the garbage collector after most errors, and that may come while
        the next client starts: closing then waits for ever for a lock that its own thread holds.
        """

        def start(self, **options):
            try:
                super().start(**options)
            except Exception:
                self.close()
                raise

    for name in ("distributed", "distributed.client"):  # a line tells what they would
        logging.getLogger(name).setLevel(logging.CRITICAL)
    file = Path(address)
    where = {"scheduler_file": str(file)} if file.is_file() else {"address": address}
    try:
        client = ClosingClient(**where, timeout=_SECONDS, set_as_default=False)
    except Exception as error:  # each transport has errors of its own
        raise CourseError(
            f"no scheduler answers at {printable(address, 200)} ({last_error(str(error))}). Start "
            "one with `dask scheduler`, and give the address that it prints."
        ) from None
    with client:
        if not client.scheduler_info(n_workers=0)["n_workers"]:
            print(
                "The cluster has no worker yet; marking begins with the first: "
                f"dask worker {client.scheduler.address} --nthreads 2",
                flush=True,  # who has sent the output to a file waits for it
            )
        yield _Workers(client, version_of)


class _Workers(Executor):
    """Submits what runs one job, such as the grader's own ``_run_job``.

    dask's own executor fetches each result by the scheduler; where that is lost meanwhile, it
    never tells. Here a job has no result but its end.
    """

    def __init__(self, client, version_of: Callable[[str], str]):
        self._client, self._version_of = client, version_of

    def submit(self, run: Callable, job: Job, target: Path, threads: int) -> Future:
        """Have a job run on a worker; ``threads`` there are the worker's own share of its cores."""
        version = self._version_of(job.lesson)
        remote = self._client.submit(
            _on_worker, run, self._version_of, version, job, target, pure=False, retries=RETRIES
        )
        local = Future()
        local.add_done_callback(lambda _: remote.cancel() if local.cancelled() else None)
        remote.add_done_callback(lambda _: _end(local, remote))
        return local


def _end(local: Future, remote) -> None:
    """Pass on how a job has ended."""
    with contextlib.suppress(InvalidStateError):  # it was cancelled here
        if remote.status == "finished":
            local.set_result(None)
        elif remote.status == "error":
            local.set_exception(remote.exception())
        elif local.cancel():
            local.set_running_or_notify_cancel()  # whoever waits for it


def _on_worker(run: Callable, version_of: Callable, version: str, job: Job, target: Path) -> None:
    """Run a job here, if this worker has the same course and grader."""
    from distributed import get_worker

    worker = get_worker()
    told = None
    try:
        _run_here(worker, run, version_of, version, job, target)
    except Exception as error:
        told = str(error)[-4000:]
    if told is not None:
        # Without its context: of an error that cannot be sent the run would never hear.
        raise RuntimeError(told)


def _run_here(worker, run, version_of, version: str, job: Job, target: Path) -> None:
    scratch = Path(job.output)
    if not scratch.is_dir():
        raise CourseError(
            f"the worker {worker.name} does not see {scratch}. The course's folder must lie "
            "on a disk that all machines see, at one path; or the run that asked for this has ended"
        )
    if version_of(job.lesson) != version:
        raise CourseError(
            f"the worker {worker.name} has another version of the course. Start it with the "
            "`.venv` of the course's folder"
        )
    # dask tidies up this folder of its own when a worker was lost; a socket's path must be short.
    tempfile.tempdir = str(sandbox.short_temporary_folder(sandbox.JOB_ROOM, worker.local_directory))
    output = tempfile.mkdtemp(dir=scratch)  # a worker that was taken for lost may write still
    run(replace(job, output=output), target, max(1, processors() // worker.state.nthreads))


def why(error: BaseException) -> str:
    """Return why a job of a cluster has failed, in words for ``failures.log``."""
    if type(error).__name__ == "KilledWorker":
        return (
            "each worker that ran it was lost. Look at the workers' logs; most often their memory "
            "does not suffice"
        )
    if isinstance(error, CancelledError):
        return "the scheduler was lost. Start it and its workers again"
    return str(error)
