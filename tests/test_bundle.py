"""A class gets all that it needs and nothing that it must not see."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from course_utils.errors import CourseError
from course_utils.grading.publishing.bundle import bundle, bundle_content, find_leaks
from course_utils.grading.publishing.release import make_release
from course_utils.grading.workplace import secret_seed
from tests.mini_course import MINI, make_course

COURSE = Path(__file__).parents[1]


@pytest.fixture
def root(tmp_path):
    root = make_course(tmp_path / "course")
    make_release(root)
    secret_seed(root)
    (root / "course_utils").mkdir()
    (root / "course_utils" / "__init__.py").write_text("")
    for name in ("README.md", "tests/bank.py", "data/cache/x/y.png", "data/coins.npy", ".env"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    models = root / "lessons" / MINI / "models"
    models.mkdir()
    (models / "m.onnx").write_text("x")
    (root / "lessons" / f"{MINI}.zip").write_text("x")
    return root


def test_the_bundle_holds_what_is_listed_only(root, tmp_path):
    path = bundle(tmp_path / "out.zip", root)
    with zipfile.ZipFile(path) as archive:
        names = sorted(name.removeprefix("segmentation-course/") for name in archive.namelist())
    assert names == [
        "README.md",
        "course_utils/__init__.py",
        "data/coins.npy",
        "environment.yml",
        "lessons/06_unet_from_scratch/06_unet_from_scratch.ipynb",
        f"lessons/{MINI}/{MINI}.ipynb",
        f"lessons/{MINI}/beside.txt",
        "lessons/marks.json",
    ]


def test_equal_courses_give_equal_bytes(root, tmp_path):
    first = bundle(tmp_path / "a.zip", root).read_bytes()
    for path in root.rglob("*"):
        path.touch()
    assert bundle(tmp_path / "b.zip", root).read_bytes() == first


def test_the_secret_seed_stops_the_bundle(root, tmp_path):
    (root / "README.md").write_text(f"seed {secret_seed(root)}")
    with pytest.raises(CourseError, match=r"the secret seed in README.md"):
        bundle(tmp_path / "out.zip", root)
    assert not (tmp_path / "out.zip").exists()


def test_an_answer_in_a_lesson_is_found(root):
    path = root / "solutions" / MINI / f"{MINI}.ipynb"
    answer = "return 2 * x  # the answer of the instructor"
    path.write_text(path.read_text().replace("return 2 * x", answer))
    content = bundle_content(root)
    name = f"lessons/{MINI}/{MINI}.ipynb"
    for text, words in [
        (b"### BEGIN SOLUTION", "BEGIN SOLUTION in"),
        (b"### BEGIN HIDDEN TESTS", "BEGIN HIDDEN TESTS in"),
        (b"    return 2 * x  # the answer of the instructor", "the answer"),
    ]:
        assert any(words in leak for leak in find_leaks(content | {name: text}, root))


def test_a_stale_release_is_not_handed_out(root, tmp_path):
    (root / "lessons" / MINI / "beside.txt").write_text("edited")
    with pytest.raises(CourseError, match="course release"):
        bundle(tmp_path / "out.zip", root)


@pytest.fixture(scope="module")
def real():
    """Return the content of this course's own bundle."""
    if not (COURSE / "lessons").is_dir():
        pytest.skip("lessons/ is not made yet")
    return bundle_content(COURSE)


def test_this_courses_bundle_gives_nothing_away(real):
    assert find_leaks(real, COURSE) == []
    asked = [data for name, data in real.items() if name.startswith("lessons/")]
    assert not any(b".hidden(" in data for data in asked)
    for name in real:
        top = name.split("/")[0]
        assert top not in ("solutions", "tests", "grading", ".ci", ".git", "nbgrader_config.py")


def test_the_readme_of_this_courses_bundle_promises_no_solutions(real):
    readme, whole = real["README.md"].decode(), (COURSE / "README.md").read_text(encoding="utf-8")
    assert "`solutions/` holds each notebook solved" in whole
    assert "solution" not in re.sub(r"no solution\b", "", readme)
    assert "<!--" not in readme
    assert len(readme) > len(whole) / 2


@pytest.mark.process
def test_this_courses_bundle_works_on_its_own(real, tmp_path):
    for name, data in real.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    lines = (
        "import course_utils, course_utils.cli; from course_utils.paths import course_root;"
        "from pathlib import Path;"
        "assert Path(course_utils.__file__).parent == Path('course_utils').resolve();"
        "import importlib; [importlib.import_module(f'course_utils.checks.{p.stem}') "
        "for p in Path('course_utils/checks').glob('lesson_*.py')];"
        "import course_utils.hand_in.submit, course_utils.grading.marking.scorer;"
        "assert course_root() == Path.cwd()"
    )
    done = subprocess.run(
        [sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    check = subprocess.run(
        [sys.executable, "-m", "course_utils.cli", "grade"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 1
    assert check.stderr.startswith("error: ")
    assert "instructor's copy" in check.stderr
