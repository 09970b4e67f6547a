"""Grade a mixed class on a machine that is disturbed at random; in the end every mark is right.

``python -m tests.disturbed_class --rounds 20`` makes forty hand-ins (honest, broken, hostile) of
the tiny course, grades them once undisturbed, and then so many times anew while the command, its
jobs and kernels are killed, temporary files fill their disk and the gradebook is locked. After each
round a quiet run must give the marks of the undisturbed one, and leave no file and no process.

Linux, as root for a small file system of temporary files; without one it is not filled.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from course_utils.grading.marking import sandbox
from tests.mini_course import MINI, NET, add_model, hand_in, make_course, tiny_model

RIGHT = "def double(x):\n    return 2 * x"
DISK = 400 << 20
"""Bytes of the file system of temporary files."""

# Of each kind: what replaces the cells of the tiny course's first lesson.
KINDS = {
    "honest": {},
    "own": {"double": RIGHT, "share": "def share():\n    return 3.0"},
    "half": {"share": "def share():\n    return 1.5"},
    "stub": {"double": "def double(x):\n    raise NotImplementedError()"},
    "syntax": {"double": "def double(x)\n    return 2 * x"},
    "writes": {"double": f"open('a', 'wb').write(bytes(5_000_000))\n{RIGHT}"},
    "figure": {"double": f"import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\n{RIGHT}"},
    "clears": {
        "double": "from IPython.display import clear_output, display\n"
        "bar = display('0 %', display_id=True)\n"
        "def double(x):\n    bar.update('1'); clear_output(); return 2 * x"
    },
    "exits": {"share": "import os; os._exit(0)"},
    "exits late": {"share": "import os, time\ndef share():\n    time.sleep(1); os._exit(0)"},
    "kills itself": {"share": "import os\ndef share():\n    os.kill(os.getpid(), 9); return 3.0"},
    "says full": {"share": "import os\ndef share():\n    raise OSError(28, os.strerror(28))"},
    "shouts": {"double": f"for _ in range(50): print('x' * 1_000_000)\n{RIGHT}"},
    "silent": {"double": f"import sys\nsys.stdout = None\n{RIGHT}"},
    "threads": {
        "share": "import threading, time\nthreading.stack_size(1 << 16)\nfor _ in range(2000):\n"
        "    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "time.sleep(3)\ndef share(): return 3.0"
    },
    "memory": {"share": "x = bytearray(6 << 30)\ndef share(): return 3.0"},
}
MODELS = {"model": tiny_model(3), "other model": tiny_model(0), "pickle": b"\x80\x04K\x01."}


def make_class(root: Path, students: int) -> None:
    """Make the course and its hand-ins: of each kind as many as there is room for."""
    make_course(root)
    kinds = [*KINDS, *MODELS, "no notebook", "no json"]
    for number in range(students):
        kind = kinds[number % len(kinds)]
        name = f"{number:02d} {kind}"
        if kind in MODELS:
            add_model(hand_in(root, name, NET), MODELS[kind])
        elif kind == "no notebook":
            folder = hand_in(root, name)
            (folder / f"{MINI}.ipynb").rename(folder / "other.ipynb")
        elif kind == "no json":
            (hand_in(root, name) / f"{MINI}.ipynb").write_text('{"cells": [')
        else:
            hand_in(root, name, **KINDS[kind])


def command(root: Path, places: Path, log: Path, jobs: int) -> subprocess.Popen:
    """Start ``course grade`` in a session of its own."""
    with open(log, "w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "course_utils.cli", "grade", "--jobs", str(jobs)],
            cwd=root,
            env=os.environ | {"TMPDIR": str(places)},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def marks(root: Path) -> dict[str, tuple]:
    """Return what everybody has, and why, from the gradebook."""
    line = (
        "import json, pathlib; from course_utils.grading.gradebook import class_marks;"
        "print(json.dumps({f'{o.student}/{o.lesson}': [o.total, o.stopped, o.problem]"
        f" for o in class_marks(pathlib.Path({str(root)!r}))}}))"
    )
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True)
    if done.returncode:
        print(done.stderr, flush=True)
    return json.loads(done.stdout or "{}")


def processes(places: Path) -> dict[int, str]:
    """Return the processes of a run by number: ``command``, ``job`` or ``kernel``."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            told = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            variables = (folder / "environ").read_bytes()
            if os.fsencode(places) in variables or str(places) in told:
                kinds = {"course_utils.cli grade": "command", "marking.job": "job"}
                names = (kind for name, kind in kinds.items() if name in told)
                found[int(folder.name)] = next(names, "kernel")  # or what runs a model
    return found


def disturb(run: subprocess.Popen, root: Path, places: Path, chance: random.Random) -> list[str]:
    """Disturb a run until it ends; return what was done."""
    done = []
    while run.poll() is None:
        time.sleep(chance.uniform(0.1, 2.5))
        what = chance.choice(["command", "job", "job", "kernel", "kernel", "disk", "lock"])
        if what == "disk":
            with full_disk(places):
                time.sleep(chance.uniform(0.2, 3))
        elif what == "lock":
            with locked(root / "grading" / "gradebook.db"):
                time.sleep(chance.uniform(0.2, 5))
        else:
            if what == "command" and chance.random() < 0.6:
                continue  # not too often: it ends the round
            numbers = [pid for pid, kind in processes(places).items() if kind == what]
            if not numbers:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(numbers), signal.SIGKILL)
        done.append(what)
    return done


@contextlib.contextmanager
def full_disk(places: Path) -> Iterator[None]:
    """Fill the file system of temporary files, if it is one of its own."""
    ballast = places.parent / places.name / "ballast"
    if not os.path.ismount(places):
        yield
        return
    with contextlib.suppress(OSError), open(ballast, "wb") as file:
        while True:
            file.write(bytes(1 << 20))
    try:
        yield
    finally:
        ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """Lock the gradebook as another program may that writes to it."""
    with contextlib.suppress(sqlite3.Error):
        there = f"{database.as_uri()}?mode=rw"  # never made anew: an empty one is a damaged one
        connection = sqlite3.connect(there, timeout=1, isolation_level=None, uri=True)
        try:
            connection.execute("BEGIN EXCLUSIVE")
            yield
            connection.execute("ROLLBACK")
            return
        finally:
            connection.close()
    yield


@contextlib.contextmanager
def small_disk() -> Iterator[Path]:
    """Give a folder for temporary files: a file system of its own where one can be mounted."""
    place = Path(tempfile.mkdtemp(prefix="t-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)]
    mounted = bool(shutil.which("mount")) and not subprocess.run(mount, check=False).returncode
    try:
        yield place
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(place)], check=False)
        sandbox.remove_tree(place)


def left_behind(root: Path, places: Path) -> list[str]:
    """Return what a run has left: processes, temporary files, its own folders."""
    deadline = time.monotonic() + 10
    while (alive := processes(places)) and time.monotonic() < deadline:
        time.sleep(0.2)
    folders = [*places.iterdir(), *(root / "grading").glob(".grade-*"), *root.glob(".release-*")]
    return [f"process {pid} ({kind})" for pid, kind in alive.items()] + [str(f) for f in folders]


def play(root: Path, places: Path, chance: random.Random, jobs: int, expected: dict) -> list[str]:
    """Play one round: grade anew and disturbed, then quietly; return what is wrong afterwards."""
    for name in ("results", "autograded", "feedback"):
        shutil.rmtree(root / "grading" / name, ignore_errors=True)
    for name in ("gradebook.db", "registered.json"):
        (root / "grading" / name).unlink(missing_ok=True)
    done = []
    for _ in range(4):  # a killed command is started again
        run = command(root, places, root / "disturbed.log", jobs)
        done += disturb(run, root, places, chance)
        if run.returncode == 0:
            break
    quiet = command(root, places, root / "quiet.log", jobs)
    code = quiet.wait()
    print(f"  {len(done)} disturbances: {', '.join(done)}", flush=True)
    wrong = [f"the quiet run ends with {code}"] if code else []
    found = marks(root)
    wrong += [
        f"{who}: {found.get(who)} instead of {mark}"
        for who, mark in expected.items()
        if found.get(who) != mark
    ]
    return wrong + left_behind(root, places)


def main() -> None:
    """Make the class, grade it undisturbed, and play the rounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--students", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # and tidied up
    with small_disk() as places, tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "course"
        make_class(root, options.students)
        started = time.monotonic()
        first = command(root, places, root / "first.log", options.jobs)
        if first.wait():
            sys.exit((root / "first.log").read_text())
        expected = marks(root)
        print("student" + (root / "first.log").read_text().partition("\nstudent")[2])
        print(f"undisturbed: {time.monotonic() - started:.0f} s", flush=True)
        wrong = left_behind(root, places)
        for number in range(options.rounds):
            started = time.monotonic()
            print(f"round {number}", flush=True)
            chance = random.Random(f"{options.seed}/{number}")
            found = play(root, places, chance, options.jobs, expected)
            print(f"  {time.monotonic() - started:.0f} s, {len(found)} faults", flush=True)
            wrong += found
            if found:
                print("\n".join(found), (root / "quiet.log").read_text()[-3000:], sep="\n")
    sys.exit(f"{len(wrong)} faults" if wrong else 0)


if __name__ == "__main__":
    main()
