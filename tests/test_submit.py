"""What the grader would refuse, a student hears before handing in, in one line."""

import json
import os
import shutil
import zipfile

import pytest

from course_utils.errors import CourseError
from course_utils.grading.publishing.release import make_release
from course_utils.hand_in.submit import misnamed, submit
from tests.mini_course import MINI, NET, add_model, make_course, tiny_model


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    root = make_course(tmp_path_factory.mktemp("released"))
    make_release(root)
    shutil.rmtree(root / "solutions")
    return root


@pytest.fixture
def root(released, tmp_path):
    """Return a student's copy of the course: no solutions."""
    return shutil.copytree(released, tmp_path / "course")


def test_a_hand_in_holds_notebook_model_and_record_only(root, capsys):
    folder = root / "lessons" / NET
    add_model(folder)
    (folder / "models" / "checkpoint.pt").write_bytes(b"large")
    path = submit("6", root)
    assert path == root / "lessons" / f"{NET}.zip"
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == [
            f"{NET}/{NET}.ipynb",
            f"{NET}/models/unet.json",
            f"{NET}/models/unet.onnx",
        ]
    out = capsys.readouterr().out
    assert "task_unet" in out
    assert "hidden images" in out


def test_equal_files_give_equal_bytes(root):
    add_model(root / "lessons" / NET)
    first = submit(NET, root).read_bytes()
    for path in (root / "lessons" / NET).rglob("*"):
        path.touch()
    assert submit(NET, root).read_bytes() == first


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_notebook_saved_by_another_editor_is_handed_in_as_nbgrader_reads_it(root, encoding):
    path = root / "lessons" / MINI / f"{MINI}.ipynb"
    notebook = json.loads(path.read_text())
    path.write_bytes(json.dumps(notebook).encode(encoding))
    with zipfile.ZipFile(submit("90", root)) as archive:
        assert json.loads(archive.read(f"{MINI}/{MINI}.ipynb").decode()) == notebook


def test_stubs_and_missing_tests_are_warned_about(root, capsys):
    path = root / "lessons" / MINI / f"{MINI}.ipynb"
    notebook = json.loads(path.read_text())
    notebook["cells"] = [cell for cell in notebook["cells"] if cell["id"] != "test-share"]
    path.write_text(json.dumps(notebook))
    submit("90", root)
    out = capsys.readouterr().out
    assert "not solved yet: double, share" in out
    assert "test cell test_share is gone" in out


def test_the_notebook_of_another_lesson_is_warned_about(root, capsys):
    shutil.copy(root / "lessons" / NET / f"{NET}.ipynb", root / "lessons" / MINI / f"{MINI}.ipynb")
    submit("90", root)
    out = capsys.readouterr().out
    assert "not one test cell of this lesson is there. Is it another lesson's notebook?" in out
    assert "is gone" not in out


def test_a_cell_that_is_not_python_is_warned_about(root, capsys):
    path = root / "lessons" / MINI / f"{MINI}.ipynb"
    notebook = json.loads(path.read_text())
    cell = next(c for c in notebook["cells"] if c["metadata"].get("nbgrader", {}).get("solution"))
    cell["source"] = "%matplotlib inline\ndef double(x)\n    return 2 * x"
    path.write_text(json.dumps(notebook))
    submit("90", root)
    out = capsys.readouterr().out
    assert "cell double is not Python (line 2: expected ':')" in out
    assert out.count("not Python") == 1


def test_work_without_its_model_is_handed_in_when_the_student_says_so(root, capsys):
    with pytest.raises(CourseError, match=r"10 points less: course submit 06 --partial"):
        submit(NET, root)
    path = submit(NET, root, partial=True)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"{NET}/{NET}.ipynb"]
    assert "no models/unet.onnx: its points are lost" in capsys.readouterr().out


def test_a_refused_model_is_not_handed_in_by_the_same_option(root):
    add_model(root / "lessons" / NET)
    (root / "lessons" / NET / "models/unet.onnx").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(CourseError, match="pickle"):
        submit(NET, root, partial=True)


def spoil_record(folder):
    (folder / "models" / "unet.json").write_text('{"sha256": "0"}')


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "models/unet.onnx").unlink(), "there is no .*unet.onnx.*export"),
        (
            lambda f: (f / "models/unet.onnx").rename(f / "models/unet.pth"),
            "only unet.pth.*only ONNX",
        ),
        (
            lambda f: (f / "models/unet.onnx").rename(f / "models/unet (1).onnx"),
            r"only unet \(1\).onnx: the name must be unet.onnx",
        ),
        (lambda f: (f / "models/unet.onnx").write_bytes(b"\x80\x04K\x01."), "pickle"),
        (lambda f: (f / "models/unet.onnx").write_bytes(b""), "empty"),
        (lambda f: add_model(f, tiny_model(task="other")), "task 'other', not of 'unet'"),
        (lambda f: add_model(f, tiny_model(classes=11)), "11 outputs.*10 classes"),
        (lambda f: os.truncate(f / "models/unet.onnx", 130_000_000), "too large"),
        (spoil_record, "belongs to another model"),
        (lambda f: (f / "models/unet.json").unlink(), "no .*unet.json, the training record"),
        (lambda f: (f / "models/unet.json").write_text("{"), "not a whole training record"),
        (lambda f: (f / f"{NET}.ipynb").write_text("{"), "not a whole notebook"),
        (lambda f: (f / f"{NET}.ipynb").write_text('{"nbformat": 4}'), "not a whole notebook"),
    ],
)
def test_each_mistake_gets_one_helpful_line(root, spoil, words):
    folder = root / "lessons" / NET
    add_model(folder)
    spoil(folder)
    with pytest.raises(CourseError, match=words) as caught:
        submit(NET, root)
    assert "\n" not in str(caught.value)
    assert not (root / "lessons" / f"{NET}.zip").exists()


def test_the_model_of_a_lessons_other_task_is_not_taken_for_a_misnamed_one(tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    for name in ("people.onnx", "people.checkpoint.pt", "people.json"):
        (models / name).write_bytes(b"x")
    assert misnamed(models / "pets.onnx") is None
    (models / "pets (1).onnx").write_bytes(b"x")
    assert misnamed(models / "pets.onnx") == "only pets (1).onnx: the name must be pets.onnx"


def test_a_zip_that_cannot_be_written_is_one_line_and_leaves_nothing(root):
    (root / "lessons" / f"{MINI}.zip" / "inside").mkdir(parents=True)
    before = sorted((root / "lessons").iterdir())
    with pytest.raises(CourseError, match=r"90_mini\.zip cannot be written .*directory") as caught:
        submit(MINI, root)
    assert "\n" not in str(caught.value)
    assert sorted((root / "lessons").iterdir()) == before


def test_a_renamed_notebook_is_found(root):
    folder = root / "lessons" / MINI
    (folder / f"{MINI}.ipynb").rename(folder / "90_mini-Copy1.ipynb")
    with pytest.raises(CourseError, match=r"lesson|rename"):
        submit(MINI, root)


def test_an_unknown_lesson_names_the_lessons(root):
    with pytest.raises(CourseError, match=f"{NET}, {MINI}"):
        submit("55", root)


def test_it_works_from_any_folder_of_the_course(root, monkeypatch):
    monkeypatch.chdir(root / "lessons" / MINI)
    assert submit("90").parent == root / "lessons"
