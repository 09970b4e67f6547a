"""Runs that take minutes, made once: for all tests, all workers, and until a source changes.

A run leaves files in a folder whose name ends in a hash of all that can change them: the
notebooks, the package, this file, the installed versions, the machine and the environment's
variables. So an old run is never taken for a new one. The folders lie in pytest's cache,
``.pytest_cache/d/runs``. (Delete it by hand: with ``--cache-clear`` a worker that takes the
place of one that crashed empties it while the others run.)
"""

import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest
from filelock import FileLock, ReadWriteLock

import course_utils
from course_utils.hand_in.tasks import get_task, task_names
from course_utils.machine import processors

ROOT = Path(__file__).resolve().parent.parent
DEMO_LESSONS = ("00_start_here", "06_unet_from_scratch")
_PACKAGE = Path(course_utils.__file__).resolve().parent
_NO_SOURCE = ("__pycache__", ".ipynb_checkpoints")
# What changes what a notebook computes. (Numbers of threads only change how long it takes.)
_TOLD = ("COURSE_", "CUDA_", "JUPYTER", "NBGRADER_", "PYTHON", "PYTORCH_", "TORCH_")


class KeptRuns:
    """Folders that hold what a run has left, by the run's name and its sources' hash."""

    def __init__(self, root: Path):
        self.root = root

    def alone(self) -> AbstractContextManager:
        """Return a lock to hold while a clock is read: nothing is trained or graded meanwhile."""
        return self._busy().write_lock()

    def together(self) -> AbstractContextManager:
        """Return a lock to hold while a model is trained or a class is graded; several may."""
        return self._busy().read_lock()

    def _busy(self) -> ReadWriteLock:
        self.root.mkdir(parents=True, exist_ok=True)
        return ReadWriteLock(self.root / "busy.db")

    def _kept(self, name: str, make: Callable[[Path], None], *sources: Path) -> Path:
        """Return the folder that ``make`` has filled, now or in an earlier session.

        Parameters
        ----------
        name
            What is run; of each name only the newest folder is kept.
        make
            Fills the empty folder that it is given. A run that fails leaves nothing.
        sources
            Files and folders that the run depends on, beside the package and this file.
        """
        place = self.root / f"{name}-{fingerprint(*sources)}"
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / f"{name}.lock"):  # another worker may be at it
            if not place.exists():
                for old in [*self.root.glob(f"{name}-*"), *self.root.glob(f".{name}-*")]:
                    shutil.rmtree(old, ignore_errors=True)
                made = Path(tempfile.mkdtemp(dir=self.root, prefix=f".{name}-"))
                make(made)
                made.rename(place)
        return place

    def solved(self, lesson: str) -> SimpleNamespace:
        """Return what ``course solve`` leaves of a lesson.

        ``result`` holds what it has come to; ``folder`` the executed notebook and ``models/``.
        """

        def make(place):
            with self.together():
                _solve(lesson, place)

        place = self._kept(f"solved_{lesson}", make, _source(lesson))
        result = SimpleNamespace(**json.loads((place / "result.json").read_text()))
        return SimpleNamespace(result=result, folder=place / lesson)

    def marks_without_show(self, lesson: str) -> dict:
        """Return what a solution's marks come to without the cells that only show.

        It is run like under the grader: a model is not trained but taken from ``solved``.
        """
        kinds = {get_task(name).kind for name in task_names(lesson)}
        trained = self.solved(lesson).folder if "model" in kinds else None
        make = functools.partial(_mark, lesson, trained)
        return json.loads(
            (self._kept(f"marks_{lesson}", make, _source(lesson)) / "marks.json").read_text()
        )

    def claims(self) -> dict:
        """Return what lesson 01 hands over in ``claims`` when its cells run in a bare process."""
        lesson = "01_classical"
        script = Path(__file__).with_name("run_cells.py")
        place = self._kept(
            "claims", functools.partial(_run_cells, script, lesson), _source(lesson), script
        )
        return json.loads((place / "claims.json").read_text())

    def released(self, lesson: str) -> Path:
        """Return a lesson as it is released, executed in ``executed.ipynb`` with all its errors."""
        sources = _source(lesson)
        return self._kept(f"released_{lesson}", functools.partial(_run_release, lesson), sources)

    def demo(self) -> Path:
        """Return the folder ``build/demo`` that ``course demo`` leaves."""
        solved = {lesson: self.solved(lesson) for lesson in DEMO_LESSONS}

        def make(place):
            with self.together():
                _run_demo(solved, place)

        return self._kept("demo", make, ROOT / "solutions", ROOT / "environment.yml") / "demo"


def _source(lesson: str) -> Path:
    return ROOT / "solutions" / lesson


def _solve(lesson: str, place: Path) -> None:
    from course_utils.grading.publishing.solve import solve

    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as environment:
        root = Path(name).resolve()
        shutil.copytree(_source(lesson), root / "solutions" / lesson)
        shutil.copy(ROOT / "environment.yml", root)
        environment.setenv("COURSE_DATA", str(root / "data" / "cache"))
        (solved,) = solve([lesson], keep=place, root=root)
    (place / "result.json").write_text(json.dumps(asdict(solved)))


def _mark(lesson: str, trained: Path | None, place: Path) -> None:
    from course_utils.grading.publishing.solve import run_lesson

    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as environment:
        root = Path(name).resolve()
        shutil.copy(ROOT / "environment.yml", root)
        folder = root / "solutions" / lesson
        shutil.copytree(_source(lesson), folder, ignore=shutil.ignore_patterns("models"))
        if trained is not None:
            shutil.copytree(trained / "models", folder / "models")
        path = folder / f"{lesson}.ipynb"
        content = json.loads(path.read_text(encoding="utf-8"))
        content["cells"] = [
            cell for cell in content["cells"] if "show" not in cell["metadata"].get("tags", [])
        ]
        path.write_text(json.dumps(content), encoding="utf-8")
        environment.setenv("COURSE_DATA", str(root / "data" / "cache"))
        environment.setenv("NBGRADER_EXECUTION", "autograde")
        result = run_lesson(folder, root)
    (place / "marks.json").write_text(json.dumps(asdict(result)))


def _run_cells(script: Path, lesson: str, place: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COURSE_")}
    environment |= {"COURSE_STATIC": "1", "COURSE_DATA": str(place / "empty")}
    (place / "empty").mkdir()
    done = subprocess.run(
        [sys.executable, script, _source(lesson) / f"{lesson}.ipynb", place / "claims.json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == "", "any text on stderr costs the points of a test cell"


def _run_release(lesson: str, place: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    from course_utils.grading.publishing.release import generate

    path = generate(ROOT, [lesson], place) / lesson / f"{lesson}.ipynb"
    executed = nbformat.read(path, as_version=4)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("COURSE_STATIC", "1")
        environment.delenv("COURSE_PROFILE", raising=False)
        NotebookClient(
            executed,
            timeout=300,
            kernel_name="python3",
            allow_errors=True,
            resources={"metadata": {"path": str(path.parent)}},
        ).execute()
    (place / "released.ipynb").write_bytes(path.read_bytes())
    nbformat.write(executed, place / "executed.ipynb")


def _run_demo(solved: dict[str, SimpleNamespace], place: Path) -> None:
    """Run the demo, which takes the lessons as they are solved already."""
    from course_utils.grading import demo
    from course_utils.paths import list_lessons

    def hand_over(*, keep, root):
        assert list_lessons(root / "solutions") == list(solved)
        for lesson, one in solved.items():
            shutil.copytree(one.folder, keep / lesson)
        return [one.result for one in solved.values()]

    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        root = Path(name).resolve()
        shutil.copytree(ROOT / "solutions", root / "solutions")
        shutil.copy(ROOT / "environment.yml", root)
        # The demo sets it for its processes.
        patch.setenv("COURSE_DATA", str(root / "data" / "cache"))
        patch.setattr(demo, "solve", create_autospec(demo.solve, side_effect=hand_over))
        demo.demo(root)
        assert not (root / "grading").exists(), "the demo must not touch an instructor's grading/"
        shutil.move(root / "build" / "demo", place / "demo")


def fingerprint(*sources: Path) -> str:
    """Return a hash of these files and of all else that a run depends on."""
    variables = {key: value for key, value in os.environ.items() if key.startswith(_TOLD)}
    digest = hashlib.sha256(json.dumps([_machine(), sorted(variables.items())]).encode())
    for source in (_PACKAGE, Path(__file__), *sources):
        digest.update(_content(source))
    return digest.hexdigest()[:20]


@functools.cache
def _machine() -> list:
    """Return what is installed here, and on what it runs."""
    driver = Path("/proc/driver/nvidia/version")
    return [
        sys.version,
        [*platform.uname()[:5], processors(), driver.read_text() if driver.exists() else ""],
        sorted(f"{one.name} {one.version}" for one in metadata.distributions()),
    ]


def _content(source: Path) -> bytes:
    """Return a hash of a file, or of all files in a folder and their names."""
    digest = hashlib.sha256()
    for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
        name = path.relative_to(source.parent)
        if path.is_file() and not {*_NO_SOURCE} & {*name.parts}:
            content = path.read_bytes()
            digest.update(f"{name.as_posix()}\n{len(content)}\n".encode() + content)
    return digest.digest()
