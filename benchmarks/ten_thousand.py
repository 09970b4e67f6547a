"""A class of ten thousand: the single writer, the marks read back, the report, at three sizes.

``python -m benchmarks.ten_thousand`` makes so many hand-ins of the tiny course of the tests and a
recorded result of each, as jobs leave them, without grading. Then the real ``course grade`` finds
nothing to grade, checks and merges all, and is run again with nothing to do; the real report is
written, and opened in Chromium at the width of a phone, where there is one. Each size has a process
of its own, so that its greatest memory is its own.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from course_utils.files import tree_hash
from course_utils.grading import grade as grade_module
from course_utils.grading.marking import samples, task_marks
from course_utils.grading.marking.settings import Settings
from course_utils.grading.report import report
from course_utils.hand_in.tasks import get_task
from course_utils.machine import processors
from tests.mini_course import (
    MINI,
    NET,
    make_course,
    record_result,
    solved_text,
    task_record,
)

SIZES = (2_500, 5_000, 10_000)
PHONE = {"width": 390, "height": 844}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def make_class(root: Path, size: int) -> None:
    """Make the course, and of each student one hand-in with its recorded result."""
    make_course(root)
    shown = [_samples(seed) for seed in range(16)]
    names, hashes = {}, {}
    for number in range(size):
        student, lesson = f"student-{number:05d}", (MINI, NET)[number % 2]
        names[student] = {"platform": "folder", "name": f"Somebody {number:05d}", "numbers": {}}
        folder = root / "grading" / "submitted" / student / lesson
        folder.mkdir(parents=True)
        (folder / f"{lesson}.ipynb").write_text(solved_text(lesson))
        hashes[student, lesson] = tree_hash(folder)
    (root / "grading" / "students.json").write_text(json.dumps(names))
    places = grade_module.result_folders(root, hashes, Settings(root))
    for number, ((student, lesson), place) in enumerate(places.items()):
        outcome = {"hand_in_hash": hashes[student, lesson]}
        if lesson == NET:
            iou = 0.3 + number % 97 / 200
            task = task_record(iou, sha256=f"{number:064x}", samples=shown[number % 16])
            task["per_class"] = dict.fromkeys(get_task("unet", "quick").classes, iou)
            outcome["tasks"] = {"task_unet": task}
            task_marks.update_marks(outcome["tasks"])
        if number % 500 == 0:
            outcome["tampered"] = ["course_utils.metrics.iou"]
        record_result(place, student, lesson, double=2 * (number % 3 > 0), **outcome)


def _samples(seed: int) -> dict:
    """Return what the report shows of a model, as noisy as a trained net's masks."""
    import numpy as np

    task = get_task("unet", "quick")
    truth = samples.sample_pictures(task).masks
    rng = np.random.default_rng(seed)
    guess = np.where(rng.random(truth.shape) < 0.02, rng.integers(0, 10, truth.shape), truth)
    return samples.sample_record(guess.astype(np.uint8), truth, task)


class Watch:
    """The memory that this process holds while something runs, in MB, by its progress."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self._end = threading.Event()

    def __enter__(self) -> "Watch":
        def look() -> None:
            while not self._end.wait(0.1):
                self.seen.append(_held())

        self.seen.append(_held())
        self._thread = threading.Thread(target=look)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._end.set()
        self._thread.join()


def _held() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


class Clock:
    """Seconds by the clock, and of processor time, which a busy machine changes little."""

    def __enter__(self) -> "Clock":
        self._began = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_) -> None:
        ended = time.perf_counter(), time.process_time()
        self.wall, self.own = (b - a for a, b in zip(self._began, ended, strict=True))


def measure(size: int, place: Path) -> dict:
    """Return times and memory of one size."""
    root = place / "course"
    make_class(root, size)
    found = {"size": size}
    real = grade_module._merge_all

    def merge_all(*arguments):
        with Clock() as clock, Watch() as watch:
            failures = real(*arguments)
        seen = watch.seen
        found["writer"] = [clock.own, clock.wall]
        found["memory"] = [seen[len(seen) * k // 10] for k in (1, 5, 9)]
        return failures

    grade_module._merge_all = merge_all
    for name in ("first", "again"):
        with contextlib.redirect_stdout(io.StringIO()) as told, Clock() as clock:
            marked = grade_module.grade(root=root)
        assert len(marked) == size
        del marked
        found[name] = [clock.own, clock.wall]
        if name == "first":
            found["writing"], found["held"] = found.pop("writer"), found.pop("memory")
    found["lines"] = told.getvalue().count("\n")
    with contextlib.redirect_stdout(io.StringIO()), Clock() as clock:
        path = report(root=root)
    found["report"] = [clock.own, clock.wall]
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    pages = [path, *(root / "grading" / "report").glob("*.html")]
    sizes = [page.stat().st_size / 1e6 for page in pages]
    found["pages"] = [len(pages), sizes[0], max(sizes)]
    found["phone"] = phone(pages)
    return found


def phone(pages: list[Path]) -> dict:
    """Return the processor time of a page's main thread until it can be used at a phone's width.

    A phone takes about four times as long, as Chromium's own tools assume.
    """
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        return {}
    largest = max(pages, key=lambda page: page.stat().st_size)
    found = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        for name, path in (("first", pages[0]), ("largest", largest)):
            page = browser.new_page(viewport=PHONE)
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable", {"timeDomain": "threadTicks"})
            page.set_default_timeout(600_000)
            page.goto(path.as_uri())
            # It can be used when two frames could be drawn after all was there.
            page.evaluate("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")
            found[name] = _busy(session)
            found[f"{name}_wide"] = page.evaluate("document.documentElement.scrollWidth")
            search = page.locator("input[type=search]")
            if search.count():
                search.fill("Somebody 02")
                page.locator("#found a").first.wait_for()
                found["search"] = round(_busy(session) - found[name], 3)
            page.close()
        browser.close()
    return found


def _busy(session) -> float:
    """Return the processor time that a page's main thread has taken: to read, lay out, run."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return round(next(one["value"] for one in metrics if one["name"] == "TaskDuration"), 3)


def row(found: dict) -> str:
    """Return a line of the table."""
    held = " ".join(f"{mb:.0f}" for mb in found["held"])
    count, first, largest = found["pages"]
    own = {key: found[key][0] for key in ("writing", "first", "again", "report")}
    each = 1e3 * own["writing"] / found["size"]
    return (
        f"{found['size']:>6} {own['writing']:8.1f} {each:8.2f} {held:>12} {own['first']:8.1f} "
        f"{own['again']:8.1f} {own['report']:8.1f} {found['peak']:6.0f}   {count} pages, the first "
        f"{first:.2f} MB, the largest {largest:.2f} MB; phone: {found['phone']}; by the clock: "
        + ", ".join(f"{key} {found[key][1]:.0f} s" for key in own)
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--place", help="where the class is made; default: for temporary files")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        with tempfile.TemporaryDirectory(dir=options.place) as place:
            print("\n" + json.dumps(measure(options.one, Path(place))), flush=True)
        return
    print(f"{processors()} cores, load {os.getloadavg()[0]:.1f}; seconds of processor time")
    print("  size   writer  ms each  MB at 10 50 90 %  first run   again   report   peak MB")
    for size in options.sizes:
        line = [sys.executable, "-m", "benchmarks.ten_thousand", "--one", str(size)]
        line += ["--place", options.place] if options.place else []
        done = subprocess.run(line, stdout=subprocess.PIPE, check=True, text=True)
        print(row(json.loads(done.stdout.splitlines()[-1])), flush=True)


if __name__ == "__main__":
    main()
