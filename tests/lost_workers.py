"""Grade a mixed class on a cluster whose workers are lost; marks and records are a local run's.

``python -m tests.lost_workers --rounds 3 --students 60`` makes hand-ins (honest, broken, hostile)
of the tiny course and grades them here. Then, so many times anew, a scheduler and two workers
grade them: both are killed midway, a third is started late. After each round every hand-in must
have one result and the marks of the local run, and nothing may be left on the disk.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.disturbed_class import make_class, marks, processes
from tests.waiting import wait_until


class Cluster:
    """A scheduler and workers, started as their users start them, each in a session of its own."""

    def __init__(self, folder: Path):
        self.folder, self._processes = folder, []
        self.file = folder / "scheduler.json"
        self.scheduler = self.start("scheduler", "--host", "127.0.0.1", "--port", "0")
        wait_until(self.file.exists, log=folder / "scheduler-0.log")

    def start(self, kind: str, *options: str, **environment: str) -> subprocess.Popen:
        """Start ``dask scheduler`` or ``dask worker``."""
        log = self.folder / f"{kind}-{len(self._processes)}.log"
        common = ["--no-dashboard", "--scheduler-file", str(self.file)]
        with open(log, "w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", kind, *common, *options],
                cwd=self.folder,
                env=os.environ | {"TMPDIR": str(self.folder)} | environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def worker(self, *options: str, threads: int = 1, **environment: str) -> subprocess.Popen:
        """Start a worker that runs so many jobs at a time."""
        place = str(self.folder)
        more = ("--nthreads", str(threads), "--local-directory", place, *options)
        return self.start("worker", *more, **environment)

    def stop(self) -> None:
        """End all that still runs."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            lose(process)


def lose(process: subprocess.Popen) -> None:
    """Kill a process and all of its session, as where a machine loses its power."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Give a cluster without workers, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="c-", ignore_cleanup_errors=True) as folder:
        running = Cluster(Path(folder))
        try:
            yield running
        finally:
            running.stop()


def command(root: Path, log: Path, *options: str) -> subprocess.Popen:
    """Start ``course grade``."""
    with open(log, "w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "course_utils.cli", "grade", *options],
            cwd=root,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def results(root: Path) -> list[Path]:
    return list((root / "grading" / "results").glob("*/*/*/result.json"))


def forget(root: Path) -> None:
    """Remove all that grading has made."""
    for name in ("results", "autograded", "feedback"):
        shutil.rmtree(root / "grading" / name, ignore_errors=True)
    for name in ("gradebook.db", "registered.json"):
        (root / "grading" / name).unlink(missing_ok=True)


def play(root: Path, expected: dict) -> list[str]:
    """Grade anew on a cluster that loses both its workers; return what is wrong afterwards."""
    forget(root)
    with cluster() as running:
        workers = [running.worker(), running.worker()]
        run = command(root, root / "cluster.log", "--cluster", str(running.file))
        for share, worker in zip((1 / 4, 1 / 2), workers, strict=True):
            while len(results(root)) < share * len(expected) and run.poll() is None:
                time.sleep(0.1)
            lose(worker)
            if share == 1 / 4:
                running.worker(threads=2)
        code = run.wait()
        wrong = [f"it ends with {code}"] if code else []
        count = len(results(root))
        wrong += [f"{count} results of {len(expected)} hand-ins"] if count != len(expected) else []
        found = marks(root)
        wrong += [
            f"{who}: {found.get(who)} instead of {mark}"
            for who, mark in expected.items()
            if found.get(who) != mark
        ]
        running.stop()
        return wrong + left_behind(root, running.folder)


def left_behind(root: Path, folder: Path) -> list[str]:
    """Return what a run has left: processes of workers, folders of its own.

    A lost worker's temporary files are dask's to remove: it does so where a worker starts again.
    """
    deadline = time.monotonic() + 15
    while (alive := processes(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    folders = (root / "grading").glob(".grade-*")
    return [f"process {pid} ({kind})" for pid, kind in alive.items()] + [str(f) for f in folders]


def main() -> None:
    """Make the class, grade it here, and play the rounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--students", type=int, default=60)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # and tidied up
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "course"
        make_class(root, options.students)
        started = time.monotonic()
        if command(root, root / "first.log").wait():
            sys.exit((root / "first.log").read_text())
        expected = marks(root)
        print(f"here: {time.monotonic() - started:.0f} s", flush=True)
        wrong = []
        for number in range(options.rounds):
            started = time.monotonic()
            found = play(root, expected)
            told = f"round {number}: {time.monotonic() - started:.0f} s, {len(found)} faults"
            print("\n".join([told, *found]), flush=True)
            if found:
                print((root / "cluster.log").read_text()[-3000:])
            wrong += found
    sys.exit(f"{len(wrong)} faults" if wrong else 0)


if __name__ == "__main__":
    main()
