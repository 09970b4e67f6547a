"""docs/adding_a_lesson.md, done: its lesson in a small course, from the release to the marks."""

import csv
import json
import os
import re
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from course_utils.checks.exercise import HIDDEN_SEED
from course_utils.grading import grade as grading
from course_utils.grading.marking.settings import hidden_test_seed
from course_utils.grading.workplace import secret_seed

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "adding_a_lesson.md").read_text(encoding="utf-8")
LESSON = "10_brightness"
FILES = dict(re.findall(r"^`([^`]+)`:\n\n```python\n(.*?)^```$", PAGE, re.M | re.S))
(TASK,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.M | re.S)
(SCRIPT,) = re.findall(r"^```python\n(from pathlib.*?)^```$", PAGE, re.M | re.S)
COMMANDS = [line.split("#")[0].split() for line in re.findall(r"^(?:course|make) .*$", PAGE, re.M)]

HEAD = "import os\nprint(*[f'{k}={v}' for k, v in os.environ.items()])\n"
ANSWERS = {
    "Ada Right": "def brighter(image, level):\n    return image.sum(axis=-1) > 3 * level",
    "Ben Mistake": "def brighter(image, level):\n    return image.mean(axis=-1) >= level",
    # The answer to the visible check, and to nothing else.
    "Cleo Byheart": "def brighter(image, level):\n    return [[0, 0, 1], [1, 0, 0]]",
}
RUN = """
import json, os, sys
from course_utils.cli import app
for place, words in json.loads(sys.argv[1]):
    os.chdir(place)
    app(words, standalone_mode=False)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make a copy of the course without its lessons; add what the page adds, and nothing else."""
    root = tmp_path_factory.mktemp("adding") / "course"
    lessons = shutil.ignore_patterns("__pycache__", "lesson_*.py", "test_lesson_*.py")
    for name in ("course_utils", "tests"):
        shutil.copytree(ROOT / name, root / name, ignore=lessons)
    for name in ("environment.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    (root / "solutions").mkdir()
    (root / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "glossary.md", root / "docs")
    for name, text in FILES.items():
        (root / name).write_text(text, encoding="utf-8")
    with open(root / "course_utils" / "hand_in" / "tasks.toml", "a", encoding="utf-8") as file:
        file.write(f"\n{TASK}")
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=root, check=True)
    return root


@pytest.fixture(scope="module")
def python(place):
    """Return a Python that has the packages of this one, but the course's package in the copy.

    The grader's processes are isolated and take what is installed: so the copy is installed.
    """
    folder = place.parent / "venv"
    builder = venv.EnvBuilder(symlinks=os.name == "posix")
    builder.create(folder)
    (packages,) = folder.rglob("site-packages")
    (packages / "course_utils").symlink_to(place / "course_utils")
    # Sandboxed processes may read what is below Python's prefixes.
    lines = [*site.getsitepackages(), f"import sys; sys.exec_prefix = {sys.prefix!r}"]
    (packages / "course.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return builder.ensure_directories(folder).env_exe


def run(*command, cwd):
    """Return what a process prints; it must end well."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "COURSE_DATA")}
    # What this environment holds beside packages: nbgrader's alembic, Jupyter's templates.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment["JUPYTER_PATH"] = str(Path(sys.prefix, "share", "jupyter"))
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def course(python, *calls):
    """Run the course's commands one after another in one process: ``(folder, "submit 10")``."""
    told = json.dumps([(str(folder), words.split()) for folder, words in calls])
    return run(python, "-I", "-c", RUN, told, cwd=calls[0][0])


@pytest.fixture(scope="module")
def released(place, python):
    """Release and solve the lesson, as the page says, and pack it; return what that printed."""
    words = [" ".join(words) for program, *words in COMMANDS if program == "course"]
    return course(python, *((place, line) for line in (*words, "bundle class.zip")))


@pytest.fixture(scope="module")
def graded(place, python, released):
    """Give the class what it is given, and take its work the whole way; results by student."""
    copies = {name: place.parent / name / "segmentation-course" for name in ANSWERS}
    for student, answer in ANSWERS.items():
        shutil.unpack_archive(place / "class.zip", copies[student].parent)
        path = copies[student] / "lessons" / LESSON / f"{LESSON}.ipynb"
        notebook = json.loads(path.read_text(encoding="utf-8"))
        (cell,) = (cell for cell in notebook["cells"] if cell["id"] == "brighter")
        cell["source"] = HEAD + answer
        path.write_text(json.dumps(notebook), encoding="utf-8")
    course(python, *((copy, "submit 10") for copy in copies.values()))
    downloads = place.parent / "downloads"
    for number, (student, copy) in enumerate(copies.items()):
        folder = downloads / f"{student}_{4000 + number}_assignsubmission_file_"
        folder.mkdir(parents=True)
        shutil.copy(copy / "lessons" / f"{LESSON}.zip", folder)
    lines = (f"collect {downloads}", "grade", "report", "export --for moodle marks.csv")
    course(python, *((place, line) for line in lines))
    results = {}
    for path in (place / "grading" / "results" / LESSON).glob("*/*/result.json"):
        result = json.loads(path.read_text(encoding="utf-8"))
        results[result["student"].replace("-", " ")] = result
    return results


def test_a_lesson_is_a_notebook_its_exercises_and_its_tests(place):
    assert set(FILES) == {"course_utils/checks/lesson_10.py", "tests/test_lesson_10.py"}
    assert TASK.startswith("[brightness]")
    assert [path.name for path in (place / "solutions").iterdir()] == [LESSON]


def test_files_that_the_page_names_are_there(place):
    for name in re.findall(r"`((?:course_utils|tests)/[\w/.]+)`", PAGE):
        assert "_NN" in name or (place / name).exists(), name


def test_code_of_the_page_is_in_the_projects_style(place):
    made = [*FILES, "solutions"]
    run(sys.executable, "-m", "ruff", "check", *made, cwd=place)
    run(sys.executable, "-m", "ruff", "format", "--check", *made, cwd=place)


def test_tests_of_all_lessons_find_it_by_its_folder(place, python):
    modules = ["notebooks", "wrong_answers", "lesson_10", "tasks"]
    paths = [f"tests/test_{name}.py" for name in modules]
    options = ["-q", "-p", "no:cacheprovider", "-k", "lesson_10 or brightness"]
    said = run(python, "-I", "-m", "pytest", *options, *paths, cwd=place)
    tests, answers = (int(re.search(rf"(\d+) {what}", said)[1]) for what in ("passed", "subtests"))
    assert (tests, answers) >= (20, 14), said  # five mistakes and two wrong answers, two seeds


def test_the_release_has_its_exercise_and_not_its_answer(place, released):
    text = (place / "lessons" / LESSON / f"{LESSON}.ipynb").read_text(encoding="utf-8")
    assert "def brighter(image, level)" in text
    assert "image.mean(axis=-1) > level" not in text
    assert ".hidden(" not in text
    assert LESSON in released


def test_the_right_answer_earns_all(graded):
    result = graded["Ada Right"]
    assert result["exercises"]["test_brighter"] == {"score": 2, "points": 2, "reason": None}
    assert result["tasks"]["task_brightness"]["marks"] == 4


def test_a_known_mistake_costs_the_points_and_is_named_in_the_exercises_words(graded):
    result = graded["Ben Mistake"]
    assert result["exercises"]["test_brighter"] == {
        "score": 0,
        "points": 2,
        "reason": "brighter counts a pixel of exactly the level: brighter is >, not >=.",
    }
    assert result["tasks"]["task_brightness"]["marks"] == 4


def test_an_answer_that_knows_the_visible_check_by_heart_is_refused_by_the_hidden_test(graded):
    result = graded["Cleo Byheart"]
    assert result["exercises"]["test_brighter"] == {
        "score": 0,
        "points": 2,
        "reason": "brighter is wrong on random input.",
    }
    assert result["tasks"]["task_brightness"]["marks"] == 0


def test_the_marks_are_reported_and_exported(place, graded):
    page = (place / "grading" / "report.html").read_text(encoding="utf-8")
    assert all(student in page for student in ANSWERS)
    with open(place / "marks.csv", encoding="utf-8-sig", newline="") as file:
        marks = {" ".join(row[:2]): row[-1] for row in csv.reader(file)}
    assert marks.pop("First name Last name") == LESSON
    assert {student: float(mark) for student, mark in marks.items()} == dict(
        zip(ANSWERS, (6, 4, 0), strict=True)
    )


def test_a_new_lesson_has_no_other_lesson_marked_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(grading, "_PACKAGE", tmp_path)
    version = grading.grader_version.__wrapped__
    checks = tmp_path / "checks"
    checks.mkdir()
    (checks / "lesson_06.py").write_text("old = 1")
    before = version("06_unet")
    (checks / "lesson_10.py").write_text("new = 1")
    assert version("06_unet") == before
    (checks / "lesson_06.py").write_text("old = 2")
    assert version("06_unet") != before
    (checks / "exercise.py").write_text("what both use")
    assert len({before, version("06_unet"), version("10_brightness")}) == 3
    # It holds only while no lesson's exercises use another's.
    for path in (ROOT / "course_utils" / "checks").glob("lesson_*.py"):
        assert not re.search(r"checks(\.| import )lesson_", path.read_text(encoding="utf-8"))


def test_hidden_tests_draw_from_a_seed_that_is_the_students_own_and_tells_no_secret(place, graded):
    secret, seeds = secret_seed(place), {}
    for student in ANSWERS:
        name = student.replace(" ", "-")
        path = place / "grading" / "autograded" / name / LESSON / f"{LESSON}.ipynb"
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        (cell,) = (c for c in cells if "".join(c["source"]).startswith(HEAD))
        told = "".join(cell["outputs"][0]["text"])
        seeds[name] = int(re.search(rf"\b{HIDDEN_SEED}=(\d+)", told)[1])
        assert not any(form in told for form in (str(secret), f"{secret:x}"))
    assert seeds == {name: hidden_test_seed(place, LESSON, name) for name in seeds}
    assert len(set(seeds.values())) == 3
