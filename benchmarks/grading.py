"""Grade the same hand-ins with nbgrader, with processes started anew, and with forked ones.

    python -m benchmarks.grading [--full] [--lessons fastai 06] [--rounds 3] [--students 30]
    python -m benchmarks.grading --lessons 06 --before CLONE
    python -m benchmarks.grading --memory 500

``fastai`` is a lesson of two exercises that imports fastai; the others are the course's own, whose
models are trained for a moment. nbgrader runs as it is installed: its own executor, one hand-in
after the other, no isolation, no hidden tests, no model scored. The course's command does all that
it always does, two hand-ins at a time (``--jobs``). An older clone of the course, with its own
environment (``make setup`` in it), is a fourth way with ``--before``: it grades as many hand-ins of
its own version of the lesson, solved and trained alike. Everything is measured from the start of
the command to its end, in turns; "each further" leaves the start out: it is the time from the first
hand-in that is done to the last one, divided by how many came. Small size, the default: a few
hand-ins, one round.

With ``--memory`` so many hand-ins of the tests' tiny lesson are graded, and what the command and
the processes that it keeps hold in memory is told as hand-ins come in.
"""

import argparse
import contextlib
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.measuring import hardware
from course_utils.grading.demo import _train_in_a_hurry
from course_utils.paths import resolve_lesson
from tests.mini_course import code, hand_in, make_course, markdown, save

ROOT = Path(__file__).resolve().parent.parent
FASTAI = "80_fastai"
WAYS = ("nbgrader", "anew", "forked")
STOCK = """
c = get_config()
c.CourseDirectory.root = {root!r}
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "lessons"
c.CourseDirectory.submitted_directory = "grading/submitted"
c.CourseDirectory.autograded_directory = "grading/autograded"
"""


def fastai_cells() -> list[dict]:
    """Return a lesson that imports fastai, as a student has solved it."""
    return [
        markdown("title", "# A lesson with fastai"),
        code("imports", "import numpy as np\nimport torch\nfrom fastai.vision.all import *"),
        code(
            "share",
            "def share(mask):\n    ### BEGIN SOLUTION\n    return float(np.mean(mask))\n"
            "    ### END SOLUTION",
            grade_id="share",
            solution=True,
        ),
        code("test-share", "assert share(np.eye(4)) == 0.25", grade_id="test_share", points=2),
        code(
            "net",
            "def net(channels):\n    ### BEGIN SOLUTION\n"
            "    return nn.Sequential(ConvLayer(3, channels), nn.Conv2d(channels, 2, 1))\n"
            "    ### END SOLUTION",
            grade_id="net",
            solution=True,
        ),
        code(
            "test-net",
            "assert net(8)(torch.rand(1, 3, 32, 32)).shape == (1, 2, 32, 32)",
            grade_id="test_net",
            points=3,
        ),
    ]


def prepare(place: Path, lesson: str, solutions: Path) -> Path:
    """Make a lesson's solution in a course of its own; return what a student hands in."""
    place.mkdir()
    (place / "environment.yml").write_text("name: benchmark\n")
    solution = place / "solutions" / lesson
    if lesson == FASTAI:
        save(solution / f"{lesson}.ipynb", fastai_cells())
        return solution
    shutil.copytree(solutions / lesson, solution)
    if lesson.startswith("06"):
        _train_in_a_hurry(place, lesson, "EPOCHS = 1", None)
        return place / "hurried" / lesson
    return solution


def class_of(place: Path, lesson: str, handed_in: Path, way: str, students: int) -> Path:
    """Make a course in which so many students have handed the same in."""
    root = Path(tempfile.mkdtemp(dir=place, prefix=f"{way}-"))
    shutil.copy(place / "environment.yml", root)
    shutil.copytree(place / "solutions" / lesson, root / "solutions" / lesson)
    for number in range(students):
        shutil.copytree(handed_in, root / "grading" / "submitted" / f"s{number:03d}" / lesson)
    (root / "grading" / "secret_seed").write_text("4711\n")
    if way == "nbgrader":
        (root / "nbgrader_config.py").write_text(STOCK.format(root=str(root)))
        run(root, "nbgrader", "generate_assignment", lesson)
    return root


def run(root: Path, *command: str | Path, **variables: str) -> tuple[float, float]:
    """Run a command in a course: one of this environment's, or that of a path.

    Returns
    -------
    tuple of float
        Seconds by the clock, and of processor time with all that it has started.
    """
    binaries = Path(sys.executable).parent
    path = os.pathsep.join([str(binaries), os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": path, "COURSE_DATA": str(ROOT / "data" / "cache")}
    started, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [binaries / command[0], *command[1:]],  # of an absolute path, that
        cwd=root,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = done.stdout[-2000:] + done.stderr[-4000:]
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{said}")
    seconds, after = time.perf_counter() - started, os.times()
    return seconds, sum(after[2:4]) - sum(before[2:4])


def grade(root: Path, lesson: str, way: str, jobs: int, command: str | Path = "course") -> dict:
    """Grade a class; return what it took.

    Returns
    -------
    dict
        ``seconds`` in all, ``further`` for each hand-in after the first, ``own`` of processor time
        for each, ``scored`` for 100 pictures that a model is scored on (NaN where none is).
    """
    if way == "nbgrader":
        seconds, own = run(root, "nbgrader", "autograde", lesson)
        done = [*root.glob(f"grading/autograded/*/{lesson}/{lesson}.ipynb")]
    else:
        warm = str(int(way == "forked"))
        seconds, own = run(root, command, "grade", "--jobs", str(jobs), COURSE_WARM=warm)
        done = [*root.glob(f"grading/results/{lesson}/*/*/result.json")]
    times = sorted(path.stat().st_mtime for path in done)
    students = len(list(root.glob("grading/submitted/*")))
    if len(times) != students:
        raise SystemExit(f"{way}: {len(times)} of {students} hand-ins were graded")
    further = (times[-1] - times[0]) / (students - 1)
    results = [] if way == "nbgrader" else [json.loads(path.read_text()) for path in done]
    tasks = [task for result in results for task in result["tasks"].values() if task["images"]]
    scored = [100 * task["seconds"] / task["images"] for task in tasks]
    scored = statistics.median(scored or [math.nan])
    return {"seconds": seconds, "further": further, "own": own / students, "scored": scored}


def marks(root: Path, lesson: str) -> list:
    """Return all that the course's results say beside time."""
    told = []
    for path in sorted(root.glob(f"grading/results/{lesson}/*/*/result.json")):
        result = json.loads(path.read_text())
        tasks = {name: task | {"seconds": 0} for name, task in result["tasks"].items()}
        told.append([result["student"], result["isolation"], result["exercises"], tasks])
    return told


def measure(
    lesson: str, students: int, rounds: int, jobs: int, before: Path | None = None
) -> dict[str, list[dict]]:
    """Return what each way has taken in each round; the marks must be the same.

    With ``before``, the folder of an older clone, its command grades its own lesson, too.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        new, old = Path(name).resolve() / "new", Path(name).resolve() / "old"
        places = dict.fromkeys(WAYS, (new, prepare(new, lesson, ROOT / "solutions"), "course"))
        if before is not None:
            handed_in = prepare(old, lesson, before / "solutions")
            places["before"] = old, handed_in, before / ".venv" / "bin" / "course"
        ways, found, told = (*places,), {way: [] for way in places}, []
        for number in range(rounds):
            for way in (*ways[number % len(ways) :], *ways[: number % len(ways)]):
                place, handed_in, command = places[way]
                root = class_of(place, lesson, handed_in, way, students)
                found[way].append(grade(root, lesson, way, jobs, command))
                if way in ("anew", "forked"):
                    told.append(marks(root, lesson))
                print(f"  {lesson} {way}: {found[way][-1]['seconds']:.1f} s", file=sys.stderr)
                shutil.rmtree(root)
        if any(one != told[0] for one in told):
            raise SystemExit(f"{lesson}: the marks differ")
    return found


def held(students: int, jobs: int) -> list[str]:
    """Return the lines of the table of memory, by hand-ins that are done."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        root = make_course(Path(name).resolve() / "course")
        for number in range(students):
            hand_in(root, f"s{number:03d}")
        command = [Path(sys.executable).with_name("course"), "grade", "--jobs", str(jobs)]
        seen = []
        with subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL) as grader:
            process = psutil.Process(grader.pid)
            while grader.poll() is None:
                done = len(list(root.glob("grading/results/*/*/*/result.json")))
                with contextlib.suppress(psutil.Error):
                    kept = [child.memory_full_info().uss for child in process.children()]
                    seen.append((done, process.memory_info().rss, sum(kept)))
                time.sleep(0.5)
    lines = ["| hand-ins done | the command, MB | what it keeps for forks, MB |", "|---|---|---|"]
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        done, own, kept = min(seen, key=lambda one: abs(one[0] - share * students))
        lines.append(f"| {done} | {own / 1e6:.0f} | {kept / 1e6:.0f} |")
    return lines


def spread(values: list[float], form: str) -> str:
    """Return the median, and where there are several values the least and the greatest."""
    if len(values) == 1:
        return f"{values[0]:{form}}"
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def rows(lesson: str, students: int, found: dict[str, list[dict]]) -> list[str]:
    """Return the lines of the table for a lesson, with ratios within each round."""
    lines = []
    for way, times in found.items():
        seconds = [one["seconds"] for one in times]
        cells = [f"{lesson}, {students} hand-ins", way, spread(seconds, ".1f")]
        cells.append(spread([60 * students / s for s in seconds], ".1f"))
        cells += [
            spread([one[key] for one in times], ".2f") for key in ("further", "own", "scored")
        ]
        for other in [other for other in found if other != "forked"]:
            ratios = [
                spread([a[key] / b[key] for a, b in zip(found[other], times, strict=True)], ".1f")
                for key in ("seconds", "further")
            ]
            cells.append("; ".join(ratios) if way != other else "1")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="30 hand-ins, three rounds")
    parser.add_argument("--lessons", nargs="+", default=["fastai", "06"])
    parser.add_argument("--students", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--before", type=Path, metavar="CLONE")
    parser.add_argument("--memory", type=int, metavar="STUDENTS")
    options = parser.parse_args()
    if options.memory:
        print("\n".join(held(options.memory, options.jobs)))
        return
    students = options.students or (30 if options.full else 4)
    rounds = options.rounds or (3 if options.full else 1)
    print(f"{hardware()}; {options.jobs} at a time")
    others = [*WAYS[:2], *(["before"] if options.before else [])]
    print(
        "| hand-ins | way | seconds | a minute | each further, s | processor time each, s "
        "| 100 pictures scored, s | "
        + " | ".join(f"times {other}; each further" for other in others)
        + f" |\n{'|---' * (7 + len(others))}|"
    )
    before = options.before and options.before.resolve()
    for name in options.lessons:
        lesson = FASTAI if name == "fastai" else resolve_lesson(name, ROOT / "solutions")
        found = measure(lesson, students, rounds, options.jobs, before)
        print("\n".join(rows(lesson, students, found)), flush=True)
    print(f"load after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
