"""Hand-ins come in by any platform's names; a bad one is refused and stops no other."""

import errno
import io
import json
import os
import shutil
import sqlite3
import stat
import threading
import time
import zipfile
from contextlib import closing
from pathlib import Path

import pytest
from nbgrader.api import Gradebook

from course_utils.errors import CourseError
from course_utils.files import zip_bytes
from course_utils.grading.collecting import collect as collect_module
from course_utils.grading.collecting import unpack as unpack_module
from course_utils.grading.collecting.collect import collect
from course_utils.grading.collecting.identity import safe_name
from course_utils.grading.collecting.unpack import Refused, Room, unpack
from course_utils.grading.marking.nbgrader_setup import gradebook_url
from course_utils.hand_in.notebook import cells_hash
from tests.mini_course import MINI, NET, make_course, mini_cells, save

_register = collect_module._register


@pytest.fixture(autouse=True)
def no_gradebook(monkeypatch):
    monkeypatch.setattr(collect_module, "_register", lambda *_: None)


@pytest.fixture
def root(tmp_path):
    return make_course(tmp_path / "course")


def notebook(tmp_path, text="# Mini"):
    path = tmp_path / "made.ipynb"
    cells = mini_cells()
    cells[0]["source"] = text
    save(path, cells)
    return path.read_bytes()


def lesson_zip(tmp_path, text="# Mini"):
    return zip_bytes(
        {f"{MINI}/{MINI}.ipynb": notebook(tmp_path, text), f"{MINI}/models/m.json": b"{}"}
    )


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def text_of(root, student):
    path = root / "grading" / "submitted" / student / MINI / f"{MINI}.ipynb"
    return "".join(json.loads(path.read_text())["cells"][0]["source"])


def who(result):
    return sorted(hand_in.student.student_id for hand_in in result.taken)


def test_moodle_in_folders(root, tmp_path):
    path = write(
        tmp_path / "Vision-90-7.zip",
        zip_bytes(
            {
                f"Jane Doe_12345_assignsubmission_file_/{MINI}.zip": lesson_zip(tmp_path, "J"),
                f"Zoë O'Neil_777_assignsubmission_file_/{MINI}.zip": lesson_zip(tmp_path, "Z"),
            }
        ),
    )
    assert who(collect([path], root=root)) == ["Jane-Doe", "Zoe-O-Neil"]
    assert text_of(root, "Zoe-O-Neil") == "Z"
    assert (root / "grading/submitted/Jane-Doe" / MINI / "models/m.json").exists()
    students = json.loads((root / "grading/students.json").read_text(encoding="utf-8"))
    assert students["Zoe-O-Neil"] == {
        "numbers": {MINI: "777"},
        "platform": "moodle",
        "name": "Zoë O'Neil",
    }


@pytest.mark.process
def test_the_gradebook_knows_lessons_and_names(root, tmp_path):
    content = lesson_zip(tmp_path)
    write(tmp_path / "in" / f"Zoë O'Neil_777_assignsubmission_file_{MINI}.zip", content)
    _register(root, collect([tmp_path / "in"], root=root).taken)
    with Gradebook(gradebook_url(root)) as gradebook:
        student = gradebook.find_student("Zoe-O-Neil")
        assert (student.first_name, student.last_name) == ("Zoë", "O'Neil")
        assert [assignment.name for assignment in gradebook.assignments] == [MINI]


def test_moodle_flat_and_unpacked(root, tmp_path):
    content = lesson_zip(tmp_path)
    write(tmp_path / "in" / f"Jane Doe_12345_assignsubmission_file_{MINI}.zip", content)
    write(
        tmp_path / "in" / "Max Roe_9_assignsubmission_file_" / f"{MINI}.ipynb", notebook(tmp_path)
    )
    assert who(collect([tmp_path / "in"], root=root)) == ["Jane-Doe", "Max-Roe"]


def test_moodle_namesakes_are_told_apart(root, tmp_path):
    path = write(
        tmp_path / "all.zip",
        zip_bytes(
            {
                f"Jane Doe_{n}_assignsubmission_file_/{MINI}.zip": lesson_zip(tmp_path, n)
                for n in ("1", "2")
            }
        ),
    )
    assert who(collect([path], root=root)) == ["Jane-Doe_1", "Jane-Doe_2"]
    assert text_of(root, "Jane-Doe_2") == "2"
    assert who(collect([path], root=root)) == ["Jane-Doe_1", "Jane-Doe_2"]


def moodle(tmp_path, *people):
    """A Moodle zip of people's names and numbers; each hand-in's text is its number."""
    names = {number: f"{name}_{number}_assignsubmission_file_" for name, number in people}
    files = {f"{names[n]}/{MINI}.zip": lesson_zip(tmp_path, n) for n in names}
    return [write(tmp_path / "all.zip", zip_bytes(files))]


def test_one_of_two_namesakes_hands_in_again(root, tmp_path):
    anna = "Anna Schmidt"
    both = ["Anna-Schmidt_1007", "Anna-Schmidt_1008"]
    assert who(collect(moodle(tmp_path, (anna, "1007"), (anna, "1008")), root=root)) == both
    assert who(collect(moodle(tmp_path, (anna, "1008")), root=root)) == both[1:]
    assert sorted(json.loads((root / "grading/students.json").read_text())) == both


def to_next_assignment(root):
    """What is known of the students is from another lesson: Moodle's numbers differ there."""
    path = root / "grading/students.json"
    path.write_text(path.read_text(encoding="utf-8").replace(MINI, "other"), encoding="utf-8")


def test_people_whose_names_look_alike_in_ascii_are_told_apart(root, tmp_path):
    li, wang = ("李 Ming", "1"), ("王 ming", "2")
    both = who(collect(moodle(tmp_path, li, wang), root=root))
    assert len(both) == 2
    assert {student[:5].lower() for student in both} == {"ming_"}
    assert {text_of(root, student) for student in both} == {"1", "2"}
    to_next_assignment(root)
    for name, number in (("李 Ming", "7"), ("王 ming", "8")):
        (again,) = who(collect(moodle(tmp_path, (name, number)), root=root))
        assert again in both
        assert text_of(root, again) == number
    assert len(json.loads((root / "grading/students.json").read_text(encoding="utf-8"))) == 2


def test_who_looks_like_one_known_gets_another_id(root, tmp_path):
    assert who(collect(moodle(tmp_path, ("Łukasz Wałęsa", "1")), root=root)) == ["Lukasz-Walesa"]
    (other,) = who(collect(moodle(tmp_path, ("Lukasz Walesa", "2")), root=root))
    assert other.startswith("Lukasz-Walesa_")
    assert text_of(root, "Lukasz-Walesa") == "1"
    write(tmp_path / "in" / "Lukasz-Walesa" / f"{MINI}.ipynb", notebook(tmp_path, "by id"))
    assert who(collect([tmp_path / "in"], root=root)) == ["Lukasz-Walesa"]
    to_next_assignment(root)
    assert who(collect(moodle(tmp_path, ("Lukasz Walesa", "3")), root=root)) == [other]
    assert who(collect(moodle(tmp_path, ("Łukasz Wałęsa", "4")), root=root)) == ["Lukasz-Walesa"]


def test_canvas_with_late_and_second_uploads(root, tmp_path):
    path = write(
        tmp_path / "submissions.zip",
        zip_bytes(
            {
                f"doejane_12345_67890_{MINI}.zip": lesson_zip(tmp_path, "first"),
                f"doejane_12345_67999_{MINI}-1.zip": lesson_zip(tmp_path, "second"),
                f"roemax_LATE_222_333_{MINI}.zip": lesson_zip(tmp_path),
                f"vandyk_anna_5_6_{NET}.ipynb": notebook(tmp_path),
                "vandyk_anna_5_7_unet.onnx": b"model",
            }
        ),
    )
    result = collect([path], root=root)
    assert who(result) == ["doejane_12345", "roemax_222", "vandyk_anna_5"]
    assert text_of(root, "doejane_12345") == "second"
    assert any("replaced by a later one" in why for _, why in result.refused)
    model = root / "grading/submitted/vandyk_anna_5" / NET / "models/unet.onnx"
    assert model.read_bytes() == b"model"


BESIDE = {
    "moodle, two zips": {
        "Ada L_1_assignsubmission_file_/code.zip": "{net}.ipynb",
        "Ada L_1_assignsubmission_file_/models.zip": zip_bytes(
            {"models/unet.onnx": b"new", "models/unet.json": b"{}"}
        ),
        "Bob_2_assignsubmission_file_/unet.onnx": b"Bob's",
    },
    "canvas, two zips": {
        "lada_1_20_hw.zip": "{net}.ipynb",
        "lada_1_21_models.zip": zip_bytes({"unet.onnx": b"new", "unet.json": b"{}"}),
        "bob_2_22_unet.onnx": b"Bob's",
    },
    "folder, two zips": {
        "ada/code.zip": "{net}.ipynb",
        "ada/models.zip": zip_bytes({"unet.onnx": b"new", "unet.json": b"{}"}),
        "bob/unet.onnx": b"Bob's",
        f"bob/{MINI}.ipynb": b"",
    },
    "folder, another folder": {
        "ada/code/{net}.ipynb": b"",
        "ada/out/unet.onnx": b"new",
        "ada/out/unet.json": b"{}",
        "bob/out/unet.onnx": b"Bob's",
        f"bob/code/{MINI}.ipynb": b"",
    },
    "moodle": {
        "Ada L_1_assignsubmission_file_/{net}.ipynb": b"",
        "Ada L_1_assignsubmission_file_/unet.onnx": b"new",
        "Ada L_1_assignsubmission_file_/unet.json": b"{}",
    },
    "moodle, models.zip": {
        "Ada L_1_assignsubmission_file_/{net}.ipynb": b"",
        "Ada L_1_assignsubmission_file_/models.zip": zip_bytes(
            {"models/unet.onnx": b"new", "models/unet.json": b"{}"}
        ),
    },
    "canvas, second try": {
        "lada_1_20_{net}-1.ipynb": b"",
        "lada_1_21_unet-1.onnx": b"new",
        "lada_1_22_unet-1.json": b"{}",
    },
    "canvas, models.zip": {
        "lada_1_20_{net}.ipynb": b"",
        "lada_1_21_models.zip": zip_bytes({"unet.onnx": b"new", "unet.json": b"{}"}),
    },
    "folder, beside copies": {
        "ada/{net} (1).ipynb": b"",
        "ada/unet.onnx": b"new",
        "ada/unet-Copy1.onnx": b"copy",
        "ada/unet.json": b"{}",
        "ada/unet (1).json": b"copy",
    },
}


@pytest.mark.parametrize("way", BESIDE)
def test_a_model_beside_the_notebook_comes_to_its_place(root, tmp_path, way):
    files = {name.format(net=NET): data or notebook(tmp_path) for name, data in BESIDE[way].items()}
    for name, inner in files.items():
        if isinstance(inner, str):
            files[name] = zip_bytes({inner.format(net=NET): notebook(tmp_path)})
    result = collect([write(tmp_path / "all.zip", zip_bytes(files))], root=root)
    (hand_in,) = [hand_in for hand_in in result.taken if hand_in.lesson == NET]
    folder = root / "grading/submitted" / hand_in.student.student_id / NET
    assert (folder / "models/unet.onnx").read_bytes() == b"new"
    assert (folder / "models/unet.json").read_bytes() == b"{}"


def released(tmp_path):
    """Return a notebook with what a release notes in it."""
    content = json.loads(notebook(tmp_path))
    content["metadata"]["released"] = {"sha256": cells_hash(content)}
    return json.dumps(content).encode()


def test_of_a_whole_course_only_what_was_worked_on_comes_in(root, tmp_path):
    """Else an untouched lesson would replace the one that was handed in before."""
    stub = released(tmp_path)
    course = {f"course/lessons/{NET}/{NET}.ipynb": stub}
    write(tmp_path / "in" / "ada.zip", zip_bytes({f"{NET}.ipynb": notebook(tmp_path, "solved")}))
    collect([tmp_path / "in"], root=root)
    course[f"course/lessons/{MINI}/{MINI}.ipynb"] = notebook(tmp_path, "mine")
    write(tmp_path / "in" / "ada.zip", zip_bytes(course))
    result = collect([tmp_path / "in"], root=root)
    assert [hand_in.lesson for hand_in in result.taken] == [MINI]
    assert [why for _, why in result.refused] == [
        "nothing in it was changed, but in another lesson"
    ]
    kept = root / "grading/submitted/ada" / NET / f"{NET}.ipynb"
    assert "solved" in kept.read_text()
    write(tmp_path / "in" / "ada.zip", zip_bytes({f"{NET}.ipynb": stub}))
    assert len(collect([tmp_path / "in"], root=root).taken) == 1, "alone, it is what was handed in"


def test_of_several_notebooks_the_named_lesson_takes_its_own(root, tmp_path):
    files = {
        f"{NET}.ipynb": notebook(tmp_path, "net"),
        f"{MINI}.ipynb": notebook(tmp_path, "mini"),
        "draft.ipynb": notebook(tmp_path, "draft"),
    }
    result = collect([write(tmp_path / "ada.zip", zip_bytes(files))], lesson="90", root=root)
    assert text_of(root, "ada") == "mini"
    assert any("of another lesson, 06" in why for _, why in result.refused)


@pytest.mark.parametrize("inner", ["work", "course/lessons", "Abgabe", f"{MINI}/work"])
def test_a_folder_of_work_in_a_student_s_is_nobody_s_name(root, tmp_path, inner):
    for student in ("Jane Doe", "Max Muster"):
        folder = tmp_path / "in" / student / inner
        write(folder / f"{MINI}.ipynb", notebook(tmp_path, student))
    write(tmp_path / "in" / "Jane Doe" / inner / f"{NET}.ipynb", notebook(tmp_path, "net"))
    assert who(collect([tmp_path / "in"], root=root)) == ["Jane-Doe", "Jane-Doe", "Max-Muster"]
    assert text_of(root, "Jane-Doe") == "Jane Doe"


def test_a_student_s_number_in_front_of_the_name_is_no_lesson_s(root, tmp_path):
    write(tmp_path / "in" / "01_smith" / MINI / f"{MINI}.ipynb", notebook(tmp_path))
    assert who(collect([tmp_path / "in"], root=root)) == ["01_smith"]


def test_an_untouched_lesson_of_one_is_not_measured_by_the_work_of_another(root, tmp_path):
    write(tmp_path / "in" / "Jane" / "work" / f"{MINI}.ipynb", released(tmp_path))
    write(tmp_path / "in" / "Max" / "work" / f"{NET}.ipynb", notebook(tmp_path, "mine"))
    assert who(collect([tmp_path / "in"], root=root)) == ["Jane", "Max"]


def test_a_notebook_named_as_another_lesson_can_be_taken_where_it_is_alone(root, tmp_path):
    write(tmp_path / "in" / "ada" / f"{NET}.ipynb", notebook(tmp_path))
    assert who(collect([tmp_path / "in"], lesson="90", root=root)) == ["ada"]


@pytest.mark.parametrize("together", [True, False])
def test_one_student_in_two_folders_stays_one(root, tmp_path, together):
    weeks = [tmp_path / "in" / week for week in ("week 1", "week 2")]
    for week in weeks:
        write(week / "ada" / f"{MINI}.ipynb", notebook(tmp_path, week.name))
    assert who(collect([tmp_path / "in"] if together else weeks, root=root)) == ["ada"]


@pytest.mark.parametrize("metadata", [None, [], "text"])
def test_a_notebook_with_odd_metadata_stops_nobody(root, tmp_path, metadata):
    content = json.loads(notebook(tmp_path)) | {"metadata": metadata}
    write(tmp_path / "in" / "ada" / f"{MINI}.ipynb", json.dumps(content).encode())
    write(tmp_path / "in" / "bob" / f"{MINI}.ipynb", notebook(tmp_path))
    assert who(collect([tmp_path / "in"], root=root)) == ["ada", "bob"]


def test_a_model_makes_an_untouched_notebook_work(root, tmp_path):
    files = {f"{NET}.ipynb": released(tmp_path), "unet.onnx": b"model"}
    files[f"{MINI}/{MINI}.ipynb"] = notebook(tmp_path, "mine")
    write(tmp_path / "in" / "ada.zip", zip_bytes(files))
    result = collect([tmp_path / "in"], root=root)
    assert sorted(hand_in.lesson for hand_in in result.taken) == [NET, MINI]


def test_a_hand_in_without_a_time_that_replaces_one_with_a_time_is_told(root, tmp_path, capsys):
    collect([moodle_zip(tmp_path, "Jane Doe_4001", lesson_zip(tmp_path, "new"))], root=root)
    stamp = root / "grading/submitted/Jane-Doe" / MINI / "timestamp.txt"
    stamp.write_text("2026-03-02 12:00:00 UTC\n")
    write(tmp_path / "mail" / "Jane Doe" / f"{MINI}.ipynb", notebook(tmp_path, "by mail"))
    capsys.readouterr()
    collect([tmp_path / "mail"], root=root)
    printed = capsys.readouterr().out
    assert "Taken, but look:" in printed
    assert "it has replaced the one of 2026-03-02 12:00:00 UTC" in printed


def test_in_plain_folders_what_is_no_notebook_is_named(root, tmp_path):
    write(tmp_path / "in" / "ada" / f"{MINI}.ipynb", notebook(tmp_path))
    write(tmp_path / "in" / "sue" / f"{MINI}.ipynb.txt", b"{}")
    write(tmp_path / "in" / "sam" / f"{MINI}.html", b"")
    write(tmp_path / "in" / "tom" / ".ipynb_checkpoints" / f"{MINI}.ipynb", b"")
    refused = dict(collect([tmp_path / "in"], root=root).refused)
    assert refused == {
        f"in/sue/{MINI}.ipynb.txt": "it belongs to no notebook",
        f"in/sam/{MINI}.html": "it belongs to no notebook",
        "in/tom": "no notebook in it",
    }


def test_folders_and_zips_named_after_students(root, tmp_path):
    write(tmp_path / "in" / "ada" / MINI / f"{MINI}.ipynb", notebook(tmp_path))
    write(tmp_path / "in" / "bob" / f"{MINI}.zip", lesson_zip(tmp_path))
    write(tmp_path / "in" / "cleo.zip", lesson_zip(tmp_path))
    assert who(collect([tmp_path / "in"], root=root)) == ["ada", "bob", "cleo"]
    assert who(collect([tmp_path / "in" / "cleo.zip"], root=root)) == ["cleo"]
    assert who(collect([tmp_path / "in" / "ada"], root=root)) == ["ada"]


def test_a_zip_of_nobody_is_refused_with_the_way_out(root, tmp_path):
    path = write(tmp_path / f"{MINI}.zip", lesson_zip(tmp_path))
    with pytest.raises(CourseError, match="folder named after the student"):
        collect([path], root=root)


def test_the_latest_wins_also_over_what_is_there(root, tmp_path):
    def bulk(name, day, text):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            info = zipfile.ZipInfo(
                f"A B_1_assignsubmission_file_/{MINI}.zip", (2026, 3, day, 12, 0, 0)
            )
            archive.writestr(info, lesson_zip(tmp_path, text))
        return write(tmp_path / name, buffer.getvalue())

    collect([bulk("a.zip", 2, "new")], root=root)
    assert text_of(root, "A-B") == "new"
    stamp = (root / "grading/submitted/A-B" / MINI / "timestamp.txt").read_text()
    assert stamp.startswith("2026-03-0")
    with pytest.raises(CourseError, match="a later one"):
        collect([bulk("b.zip", 1, "old")], root=root)
    assert text_of(root, "A-B") == "new"
    collect([bulk("c.zip", 3, "newest")], root=root)
    assert text_of(root, "A-B") == "newest"


def test_the_same_again_is_left_as_it_is(root, tmp_path):
    folder = tmp_path / "in" / "Jane Doe_12345_assignsubmission_file_"
    write(folder / f"{MINI}.zip", lesson_zip(tmp_path))
    collect([tmp_path / "in"], root=root)
    (first,) = (root / "grading/submitted").glob(f"*/{MINI}/{MINI}.ipynb")
    before = first.stat().st_mtime_ns
    collect([tmp_path / "in"], root=root)
    assert first.stat().st_mtime_ns == before


def test_a_lesson_can_be_named(root, tmp_path):
    write(tmp_path / "in" / "ada" / "my homework.ipynb", notebook(tmp_path))
    assert who(collect([tmp_path / "in"], lesson="90", root=root)) == ["ada"]
    with pytest.raises(CourseError, match="no lesson has this name") as caught:
        collect([tmp_path / "in"], root=root)
    assert "course collect FILE --lesson NN" in str(caught.value)
    bob = zip_bytes({"mine.ipynb": notebook(tmp_path)})
    cleo = zip_bytes({"homework/mine.ipynb": notebook(tmp_path)})
    for path, student in (
        (tmp_path / "in" / "ada", "ada"),
        (write(tmp_path / "bob.zip", bob), "bob"),
        (write(tmp_path / "Cleo_1_assignsubmission_file_x.zip", cleo), "Cleo"),
    ):
        assert who(collect([path], lesson="90", root=root)) == [student]


def moodle_zip(tmp_path, who, content):
    files = {f"{who}_assignsubmission_file_/{MINI}.zip": content}
    return write(tmp_path / "Vision-90-7.zip", zip_bytes(files))


@pytest.mark.parametrize("folder_first", [True, False])
def test_a_hand_in_by_mail_leaves_what_moodle_has_told(root, tmp_path, folder_first):
    write(tmp_path / "mail" / "Jane Doe" / f"{MINI}.ipynb", notebook(tmp_path, "by mail"))
    moodle = moodle_zip(tmp_path, "Jane Doe_4001", lesson_zip(tmp_path))
    given = [[moodle], [tmp_path / "mail"]]
    for paths in given[::-1] if folder_first else given:
        assert who(collect(paths, root=root)) == ["Jane-Doe"]
    students = json.loads((root / "grading/students.json").read_text(encoding="utf-8"))
    told = {"numbers": {MINI: "4001"}, "platform": "moodle", "name": "Jane Doe"}
    assert students == {"Jane-Doe": told}


def test_an_old_copy_deeper_in_a_zip_does_not_count(root, tmp_path):
    files = {
        f"{MINI}/{MINI}.ipynb": notebook(tmp_path, "now"),
        f"{MINI}/models/m.json": b"{}",
        f"{MINI}/old/{MINI}.ipynb": notebook(tmp_path, "then"),
    }
    path = moodle_zip(tmp_path, "Ada_4000", zip_bytes(files))
    result = collect([path], root=root)
    assert who(result) == ["Ada"]
    assert text_of(root, "Ada") == "now"
    assert (root / "grading/submitted/Ada" / MINI / "models/m.json").exists()
    assert [why.split(":")[0] for _, why in result.refused] == ["left out for another"]


MOODLE = "Ada Best_4000_assignsubmission_file_"
POSING = [f"{MOODLE}/{MINI}/", f"adabest_111_99999_x/{MINI}/", "adabest_111_99999_", "Ada/", MOODLE]


@pytest.mark.parametrize("inner", POSING)
@pytest.mark.parametrize("packed", [False, True])
def test_names_in_a_student_s_zip_do_not_say_whose_it_is(root, tmp_path, inner, packed):
    content = zip_bytes({f"{inner}{MINI}.ipynb": notebook(tmp_path, "M")})
    if packed:
        content = zip_bytes({"Ada Best_4000_assignsubmission_file_x.zip": content})
    ada = lesson_zip(tmp_path, "A")
    moodle = {f"Mallory_6_assignsubmission_file_/{MINI}.zip": content, f"{MOODLE}/a.zip": ada}
    canvas = {f"mallory_6_5_{MINI}.zip": content, f"adabest_111_99999_{MINI}.zip": ada}
    for files, ids in ((moodle, ["Ada-Best", "Mallory"]), (canvas, ["adabest_111", "mallory_6"])):
        assert who(collect([write(tmp_path / "all.zip", zip_bytes(files))], root=root)) == ids
        assert text_of(root, ids[0]) == "A"
        for name, data in files.items():
            write(tmp_path / ids[0] / name, data)
        assert who(collect([tmp_path / ids[0]], root=root)) == ids
        assert text_of(root, ids[0]) == "A"


@pytest.mark.parametrize("inner", POSING)
@pytest.mark.parametrize("name", ["Mallory/x.zip", "Mallory.zip"])
def test_nor_where_folders_are_named_after_students(root, tmp_path, inner, name):
    write(tmp_path / "in" / "Ada.zip", lesson_zip(tmp_path, "A"))
    write(tmp_path / "in" / name, zip_bytes({f"{inner}{MINI}.ipynb": notebook(tmp_path, "M")}))
    for given in ([tmp_path / "in"], sorted((tmp_path / "in").iterdir())):
        result = collect(given, root=root)
        assert {"Ada"} <= {*who(result)} <= {"Ada", "Mallory", "x"}
        assert text_of(root, "Ada") == "A"


def test_a_folder_of_any_name_in_a_zip_joins_no_students(root, tmp_path):
    content = zip_bytes({f"homework_2026_11_final/{MINI}.ipynb": notebook(tmp_path)})
    bulk = zip_bytes({f"{name}/{MINI}.zip": content for name in ("ada", "bob")})
    assert who(collect([write(tmp_path / "all.zip", bulk)], root=root)) == ["ada", "bob"]


def test_a_folder_with_the_zips_of_a_platform(root, tmp_path):
    for n in ("1", "2"):
        name = f"Jane Doe{'x' * int(n)}_{n}_assignsubmission_file_/{MINI}.zip"
        write(tmp_path / "in" / f"{n}.zip", zip_bytes({name: lesson_zip(tmp_path)}))
    assert who(collect([tmp_path / "in"], root=root)) == ["Jane-Doex", "Jane-Doexx"]
    write(tmp_path / "in" / "cleo.zip", lesson_zip(tmp_path))
    result = collect([tmp_path / "in"], root=root)
    assert who(result) == ["cleo"]  # among others, they could be a student's
    assert [why for _, why in result.refused] == [
        "it looks like a platform's zip; if it is one, give it alone"
    ] * 2


def test_a_time_in_a_student_s_zip_is_not_believed(root, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        late = zipfile.ZipInfo(f"{MINI}/{MINI}.ipynb", (2040, 1, 1, 0, 0, 0))
        archive.writestr(late, notebook(tmp_path))
    name = f"A B_1_assignsubmission_file_{MINI}.zip"
    write(tmp_path / "in" / name, buffer.getvalue())
    assert [hand_in.when for hand_in in collect([tmp_path / "in"], root=root).taken] == [None]


def hostile(names=(), **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in names:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = options.get("mode", 0o100644) << 16
            archive.writestr(info, content)
    return buffer.getvalue()


HOSTILE = {
    "slip": (hostile([("../../evil.txt", b"x")]), "leaves the folder"),
    "windows slip": (hostile([("..\\evil.txt", b"x")]), "leaves the folder"),
    "absolute": (hostile([("/etc/cron.d/evil", b"x")]), "leaves the folder"),
    "drive": (hostile([("C:\\evil.txt", b"x")]), "leaves the folder"),
    "link": (hostile([("a", b"/etc/passwd")], mode=stat.S_IFLNK | 0o777), "is a link"),
    "device": (hostile([("a", b"")], mode=stat.S_IFCHR | 0o666), "device"),
    "bomb": (hostile([("a", bytes(30_000_000))]), "zip bomb"),
    "many": (hostile([(f"f{i}", b"") for i in range(600)]), "600 files"),
    "case": (hostile([("models/a", b"1"), ("Models/a", b"2")]), "differ in case only"),
    "twice": (hostile([("a", b"1"), ("a", b"2")]), "occurs twice"),
    "file as folder": (hostile([("a", b"1"), ("a/b", b"2")]), "cannot be unpacked"),
    "deep": (hostile([("/".join("abcdefghijklmnop"), b"1")]), "too deep"),
    "no zip": (b"not a zip", "not a whole zip"),
    "cut": (hostile([("a", os.urandom(5000))])[:3000], "not a whole zip"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_zip_is_refused_and_the_others_come_in(root, tmp_path, name):
    content, words = HOSTILE[name]
    write(tmp_path / "in" / "mallory" / f"{MINI}.zip", b"")
    write(tmp_path / "in" / "ada" / f"{MINI}.zip", lesson_zip(tmp_path))
    bulk = zip_bytes({f"mallory/{MINI}.zip": content, f"ada/{MINI}.zip": lesson_zip(tmp_path)})
    path = write(tmp_path / "all.zip", bulk)
    before = {p for p in tmp_path.rglob("*") if "grading" not in p.parts}
    result = collect([path], root=root)
    assert who(result) == ["ada"]
    assert any(words in why for _, why in result.refused), result.refused
    assert {p for p in tmp_path.rglob("*") if "grading" not in p.parts} == before


def test_a_zip_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack_module, "MAX_BYTES", 1000)
    path = write(tmp_path / "a.zip", hostile([("a", os.urandom(900)), ("b", os.urandom(900))]))
    with pytest.raises(Refused, match="at most 0 are taken"):
        unpack(path, tmp_path / "out")
    room = Room.of(2)
    unpack(path, tmp_path / "out", room)
    assert (room.bytes_left, room.files_left) == (200, 998)


@pytest.mark.parametrize("given", ["a folder", "a platform's zip", "students' zips"])
def test_zips_in_a_hand_in_share_one_limit(root, tmp_path, monkeypatch, given):
    monkeypatch.setattr(unpack_module, "MAX_BYTES", 100_000)
    inner = hostile([(f"{i}.bin", bytes(9000)) for i in range(10)])
    content = zip_bytes({f"{i}.zip": inner for i in range(4)})
    files = {"Mallory_6_assignsubmission_file_x.zip": content}
    files[f"Ada_7_assignsubmission_file_{MINI}.zip"] = lesson_zip(tmp_path)
    paths = [write(tmp_path / "in" / name, data) for name, data in files.items()]
    if given == "a folder":
        paths = [tmp_path / "in"]
    elif given == "a platform's zip":
        paths = [write(tmp_path / "all.zip", zip_bytes(files))]
    result = collect(paths, root=root)
    assert who(result) == ["Ada"]
    assert len([why for _, why in result.refused if why.startswith("it unpacks to")]) == 3


def test_zips_in_zips_in_zips_end(root, tmp_path):
    content = lesson_zip(tmp_path)
    for _ in range(6):
        content = zip_bytes({"ada.zip": content})
    with pytest.raises(CourseError, match="more than 3 deep"):
        collect([write(tmp_path / "x.zip", content)], root=root)


def test_links_in_a_folder_are_refused(root, tmp_path):
    secret = write(tmp_path / "secret.txt", b"secret")
    write(tmp_path / "in" / "ada" / f"{MINI}.ipynb", notebook(tmp_path))
    (tmp_path / "in" / "ada" / "link.txt").symlink_to(secret)
    result = collect([tmp_path / "in"], root=root)
    assert any("symbolic link" in why for _, why in result.refused)
    assert not (root / "grading/submitted/ada" / MINI / "link.txt").exists()


def test_a_file_where_a_folder_is_needed_stops_no_other(root, tmp_path):
    write(tmp_path / "in" / "ada" / f"{MINI}.ipynb", notebook(tmp_path))
    model = ("unet.onnx", b"")
    for name, data in ((f"{NET}.ipynb", notebook(tmp_path)), ("models", b""), model):
        write(tmp_path / "in" / f"Bob_1_assignsubmission_file_{name}", data)
    result = collect([tmp_path / "in"], root=root)
    assert who(result) == ["ada"]
    assert any("'models' is a file" in why for _, why in result.refused), result.refused


@pytest.mark.skipif(os.name == "nt", reason="names of files are text there")
def test_a_name_that_is_not_utf_8_comes_in(root, tmp_path):
    for raw in (b"J\xf6rg M", b"J\xe4rg M"):
        folder = tmp_path / "in" / os.fsdecode(raw)
        try:
            write(folder / f"{MINI}.ipynb", notebook(tmp_path))
        except OSError:
            pytest.skip("this file system takes UTF-8 only")
    write(tmp_path / "in" / "zoe" / f"{MINI}.ipynb", notebook(tmp_path))
    assert who(collect([tmp_path / "in"], root=root)) == ["J-xe4rg-M", "J-xf6rg-M", "zoe"]
    assert "J\\\\xf6rg M" in (root / "grading/students.json").read_text(encoding="utf-8")


def test_junk_of_platforms_is_left_out(root, tmp_path):
    files = {f"{MINI}/{MINI}.ipynb": notebook(tmp_path), f"__MACOSX/{MINI}/._{MINI}.ipynb": b"x"}
    files |= {f"{MINI}/.ipynb_checkpoints/{MINI}-checkpoint.ipynb": b"x", ".DS_Store": b"x"}
    write(tmp_path / "in" / "ada.zip", zip_bytes(files))
    collect([tmp_path / "in"], root=root)
    folder = root / "grading/submitted/ada" / MINI
    assert [p.name for p in folder.iterdir()] == [f"{MINI}.ipynb"]


@pytest.mark.parametrize(
    "name", ["../../x", "a/b", "ä ö", "名", "-rf", "a" * 300, "con+cat", ".hidden", "..."]
)
def test_student_ids_are_safe(name):
    assert set(safe_name(name)) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
    )
    assert safe_name(name)[:1].isalnum()
    assert len(safe_name(name)) <= 60


def test_a_hand_in_without_a_notebook_is_named(root, tmp_path):
    whole = {f"Ada_1_assignsubmission_file_/{MINI}.zip": lesson_zip(tmp_path)}
    whole["Ada_1_assignsubmission_onlinetext_/onlinetext.html"] = b""
    empty = zip_bytes({})
    whole |= {"Bob_2_assignsubmission_file_/a.zip": empty, "cleo_3_4_text.html": b""}
    whole |= {"dan_5_6_b.zip": empty, "dan_5_7_c.zip": empty, "eve_8_9_d.zip": b"no zip"}
    path = write(tmp_path / "all.zip", zip_bytes(whole))
    refused = collect([path], root=root).refused
    told = sorted(what for what, why in refused if why == "no notebook in it")
    assert told == [
        "all.zip/Bob_2_assignsubmission_file_",
        "all.zip/cleo_3_4_text.html",
        "all.zip/dan_5_6_b.zip",
    ]
    assert len(refused) == 4  # Eve is told that it is no zip


@pytest.mark.parametrize("name", ["work.rar", "work.7z", "work.tar.gz", "WORK.TGZ"])
def test_of_archives_only_zips_are_unpacked(root, tmp_path, name):
    files = {f"ada/{name}": b"?", f"bob/{MINI}.zip": lesson_zip(tmp_path)}
    result = collect([write(tmp_path / "all.zip", zip_bytes(files))], root=root)
    assert result.refused == [(f"all.zip/ada/{name}", "only zips are unpacked: ask for a zip")]


def test_of_many_files_without_a_notebook_the_rest_is_counted(root, tmp_path):
    files = {f"ada/{i}.bin": b"" for i in range(25)} | {f"bob/{MINI}.zip": lesson_zip(tmp_path)}
    result = collect([write(tmp_path / "all.zip", zip_bytes(files))], root=root)
    assert len(result.refused) == 21
    assert result.refused[-1] == ("and 5 more", "it belongs to no notebook")


def test_names_cannot_forge_lines(root, tmp_path, capsys):
    evil = "\x1b[2Jx\nAda taken\u202e\x9b\r.ipynb"
    path = write(tmp_path / "Bob_1_assignsubmission_file_.zip", zip_bytes({evil: b"{}"}))
    with pytest.raises(CourseError, match="no hand-in was taken") as caught:
        collect([path], root=root)
    printed = capsys.readouterr().out + str(caught.value)
    assert "Ada taken" in printed
    assert not any(line.startswith("Ada") for line in printed.splitlines())
    assert all(letter.isprintable() or letter == "\n" for letter in printed)


def test_nothing_found_is_one_helpful_line(root, tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(CourseError, match="no hand-in was taken") as caught:
        collect([tmp_path / "in"], root=root)
    assert "\n" not in str(caught.value)
    with pytest.raises(CourseError, match="does not exist"):
        collect([tmp_path / "nowhere"], root=root)


def test_a_student_s_copy_of_the_course_cannot_collect(tmp_path):
    with pytest.raises(CourseError, match="instructor's copy"):
        collect([tmp_path], root=tmp_path)


def others(tmp_path, *names):
    """A class of three honest students, in a platform's names or in folders."""
    names = names or ("Ada L_1_assignsubmission_file_", "Bob_2_assignsubmission_file_", "Cleo")
    return {f"{name}/{MINI}.zip": lesson_zip(tmp_path, name[:3]) for name in names}


def raw_zip(files, encrypted=(), links=()):
    """A zip whose entries may occur twice, be links, or say that they are encrypted."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            info = zipfile.ZipInfo(name, (2026, 3, 1, 12, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFLNK | 0o777 if name in links else 0o100644) << 16
            archive.writestr(info, content)
        for info in archive.filelist:
            if info.filename in encrypted:
                info.flag_bits |= 1
    return buffer.getvalue()


DAN = "Dan_4_assignsubmission_file_"
ODD = {
    "much compressed": [("masks.npy", bytes(12_000_000))],
    "a bomb": [("masks.npy", bytes(30_000_000))],
    "case": [("data/a", b"1"), ("Data/a", b"2"), ("DATA/b", b"3")],
    "long name": [("\u660e" * 81 + ".txt", b"1")],
    "colon": [("what: now.txt", b"1")],
    "drive": [("C:/evil.txt", b"1")],
    "slip": [("../../evil.txt", b"1")],
    "deep": [("/".join("abcdefghijklmnop"), b"1")],
    "file as folder": [("a", b"1"), ("a/b", b"2")],
    "link": [("link", b"/etc/passwd")],
    "encrypted": [("secret.txt", b"1")],
    "twice": [("a.txt", b"1"), ("a.txt", b"2")],
    "many": [(f"many/{i}.txt", b"") for i in range(600)],
    "damaged": [("damaged.txt", b"12345" * 1000)],
}


def with_damage(content):
    start = content.find(b"damaged.txt") + 12
    return content if start < 12 else content[:start] + b"\xff" * 8 + content[start + 8 :]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("packed", ["as files", "in a zip"])
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_entry_of_a_class_s_zip_costs_one_student_at_most(root, tmp_path, odd, packed):
    own = [(f"{MINI}.ipynb", notebook(tmp_path, "Dan")), *ODD[odd]]
    inside, above = [*others(tmp_path).items()], ""
    if packed == "in a zip":
        content = with_damage(raw_zip(own, {"secret.txt"}, {"link"}))
        content = raw_zip([*inside, (f"{DAN}/x.zip", content)])
    else:
        above = f"{DAN}/"
        inside += [(f"{above}{name}", data) for name, data in own]
        content = with_damage(raw_zip(inside, {f"{above}secret.txt"}, {f"{above}link"}))
    result = collect([write(tmp_path / "all.zip", content)], root=root)
    assert set(who(result)) >= {"Ada-L", "Bob", "Cleo"}
    assert text_of(root, "Ada-L") == "Ada"
    if odd == "many":
        ((what, why),) = result.refused
        assert DAN in what
        assert why.startswith("it holds 601 files")
        return
    assert "Dan" in who(result), "his notebook is whole"
    folder = root / "grading/submitted/Dan" / MINI
    if odd in ("much compressed", "colon"):
        assert (folder / ODD[odd][0][0]).read_bytes() == ODD[odd][0][1]
        assert not result.refused + result.notes
    else:
        (reason,) = result.refused + result.notes
        assert DAN in reason[0]
        assert not {p.name for p in folder.rglob("*")} & {"link", "evil.txt", "secret.txt"}


def test_one_student_who_is_too_large_leaves_room_for_the_others(root, tmp_path, monkeypatch):
    monkeypatch.setattr(unpack_module, "MAX_BYTES", 100_000)
    files = others(tmp_path) | {f"{DAN}/{i}.bin": os.urandom(40_000) for i in range(5)}
    result = collect([write(tmp_path / "all.zip", zip_bytes(files))], root=root)
    assert who(result) == ["Ada-L", "Bob", "Cleo"]
    ((what, why),) = result.refused
    assert DAN in what
    assert why.startswith("it unpacks to")


def test_a_class_may_hand_in_more_files_than_a_student(root, tmp_path, monkeypatch):
    monkeypatch.setattr(unpack_module, "MAX_FILES", 4)
    files = {f"s{i}x.zip": lesson_zip(tmp_path) for i in range(6)}
    files |= {f"Homework/t{i}x/{j}.txt": b"" for i in range(2) for j in range(3)}
    files |= {f"Homework/t{i}x/{MINI}.ipynb": notebook(tmp_path) for i in range(2)}
    result = collect([write(tmp_path / "all.zip", zip_bytes(files))], root=root)
    assert len(result.taken) == 8


JUNK = {
    "link": (".venv/bin/python", b"/usr/bin/python"),
    "deep": ("node_modules/" + "a/" * 20 + "x.js", b""),
    "bomb": (".git/objects/pack", bytes(30_000_000)),
    "git": (".git/HEAD", b"ref"),
    "mac": (f"__MACOSX/._{MINI}.ipynb", b"x"),
}


@pytest.mark.parametrize("packed", ["own zip", "class's zip", "folder"])
def test_junk_is_passed_over_and_costs_no_limit(root, tmp_path, packed):
    files = [(f"{MINI}.ipynb", notebook(tmp_path)), *JUNK.values()]
    files += [(f"env/lib/python3/{i}.py", b"") for i in range(600)] + [("env/pyvenv.cfg", b"")]
    files += [(f".venv/{i}.py", b"") for i in range(600)]
    links = {JUNK["link"][0], f"dan/{JUNK['link'][0]}"}
    given = tmp_path / "all.zip"
    if packed == "own zip":
        write(given, raw_zip([("dan/x.zip", raw_zip(files, links=links))]))
    elif packed == "folder":
        given = tmp_path / "in"
        for name, content in files:
            write(given / "dan" / name, content)
        (given / "dan/.venv/link").symlink_to("/etc")
    else:
        write(given, raw_zip([(f"dan/{name}", content) for name, content in files], links=links))
    result = collect([given], root=root)
    assert who(result) == ["dan"]
    assert not result.refused
    assert len(result.taken[0].files) == 1


INNER = [
    *("hw6", "Homework 6", "Assignment 6", "code", "src", "segmentation-course-main"),
    *("Submission attachment(s)", "\u4f5c\u4e1a", "v2/final/{lesson}", "my project/notebooks"),
]


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("how", ["folder", "folders", "class's zip", "wrapped", "zips"])
def test_a_folder_below_several_students_is_nobody(root, tmp_path, inner, how):
    inner = inner.format(lesson=MINI)
    people = ("Jane Doe", "Max Roe", "s1001")
    if how == "zips":
        files = {f"{p}/{inner}.zip": lesson_zip(tmp_path, p) for p in people}
        files |= {f"{p}/report.zip": zip_bytes({"report.pdf": b""}) for p in people}
    else:
        files = {f"{p}/{inner}/{MINI}.ipynb": notebook(tmp_path, p) for p in people}
    if how == "wrapped":
        files = {f"Sheet one/all of them/{name}": data for name, data in files.items()}
    given = [tmp_path / "in"]
    if how in ("class's zip", "wrapped", "zips"):
        given = [write(tmp_path / "all.zip", zip_bytes(files))]
    for name, data in files.items():
        write(tmp_path / "in" / name, data)
    if how == "folders":
        given = sorted(given[0].iterdir())
    assert who(collect(given, root=root)) == ["Jane-Doe", "Max-Roe", "s1001"]
    assert text_of(root, "Max-Roe") == "Max Roe"


def test_each_student_s_own_name_for_a_folder_is_nobody_s_either(root, tmp_path):
    inner = {"Jane": ["my try"], "Max": ["stuff"], "Zoe": ["one", "two"], "Tom": []}
    for student, folders in inner.items():
        for folder in folders or ["."]:
            write(tmp_path / "in" / student / folder / f"{MINI}.ipynb", notebook(tmp_path))
    result = collect([tmp_path / "in"], root=root)
    assert who(result) == ["Jane", "Max", "Tom", "Zoe"]
    assert len(result.refused) == 1  # one of Zoe's two


def test_sections_and_weeks_above_students_are_not_students(root, tmp_path):
    for section, people in (("Section A", ("ada", "bob")), ("Section B", ("zoe", "tom"))):
        for person in people:
            write(tmp_path / "in" / section / person / f"{MINI}.ipynb", notebook(tmp_path))
    assert who(collect([tmp_path / "in"], root=root)) == ["ada", "bob", "tom", "zoe"]
    for sheet, lesson in (("first", MINI), ("second", NET)):
        for person in ("ada", "bob"):
            write(tmp_path / "two" / sheet / person / f"{lesson}.ipynb", notebook(tmp_path))
    result = collect([tmp_path / "two"], root=root)
    assert who(result) == ["ada", "ada", "bob", "bob"]
    assert not result.refused


def test_a_folder_named_after_another_student_is_nobody(root, tmp_path):
    for student in ("Ada", "Bob", "Mallory/Ada", "Mallory"):
        write(tmp_path / "in" / student / f"{MINI}.ipynb", notebook(tmp_path, student))
    assert who(collect([tmp_path / "in"], root=root)) == ["Ada", "Bob", "Mallory"]
    assert text_of(root, "Ada") == "Ada"


def test_a_class_s_zip_with_an_odd_entry_in_a_folder_is_no_student_s(root, tmp_path):
    files = others(tmp_path, "Ada_1_assignsubmission_file_", "Bob_2_assignsubmission_file_")
    write(tmp_path / "in" / "Vision.zip", zip_bytes(files | {"grades.csv": b""}))
    with pytest.raises(CourseError, match="a platform's zip; if it is one, give it alone"):
        collect([tmp_path / "in"], root=root)
    assert who(collect([tmp_path / "in" / "Vision.zip"], root=root)) == ["Ada", "Bob"]


@pytest.mark.parametrize("lesson", [MINI, NET])
def test_canvas_in_anonymous_grading(root, tmp_path, lesson):
    files = {
        f"anon_5QYZa_67890_{lesson}.ipynb": notebook(tmp_path, "5"),
        "anon_5QYZa_67891_unet.onnx": b"model",
        f"LATE_anon_x1Y2z_67892_{lesson}-1.ipynb": notebook(tmp_path, "x"),
        "LATE_anon_x1Y2z_67893_unet-1.onnx": b"late",
        f"anon_12345_67894_{lesson}.zip": zip_bytes({f"{lesson}.ipynb": notebook(tmp_path)}),
    }
    result = collect([write(tmp_path / "all.zip", zip_bytes(files))], root=root)
    assert who(result) == ["anon_12345", "anon_5QYZa", "anon_x1Y2z"]
    assert {hand_in.lesson for hand_in in result.taken} == {lesson}
    assert not [why for what, why in result.refused if "onnx" not in what]
    if lesson == NET:
        folder = root / "grading/submitted/anon_x1Y2z" / NET
        assert (folder / "models/unet.onnx").read_bytes() == b"late"
        assert not result.refused


def test_canvas_names_with_accents_of_their_own_and_in_thai(root, tmp_path):
    names = ("doezoe\u0308", "\u0e28\u0e31\u0e01\u0e14\u0e34\u0e4c")
    files = {f"{name}_{i}_9_{MINI}.ipynb": notebook(tmp_path) for i, name in enumerate(names, 1)}
    result = collect([write(tmp_path / "all.zip", zip_bytes(files))], root=root)
    assert sorted(hand_in.student.number for hand_in in result.taken) == ["1", "2"]


@pytest.mark.parametrize("together", [True, False])
def test_who_changes_the_name_in_canvas_stays_one_student(root, tmp_path, together):
    before = {f"doejane_12345_1_{MINI}.ipynb": notebook(tmp_path, "before")}
    after = {f"roejane_12345_2_{MINI}.ipynb": notebook(tmp_path, "after")}
    given = [before | after] if together else [before, after]
    for i, files in enumerate(given):
        result = collect([write(tmp_path / f"{i}.zip", zip_bytes(files))], root=root)
        assert who(result) == ["doejane_12345"]
    assert text_of(root, "doejane_12345") == "after"


def test_names_that_differ_in_case_only_are_two_people_s_in_moodle(root, tmp_path):
    people = ("Jane Doe", "1"), ("jane doe", "2")
    result = collect(moodle(tmp_path, *people), root=root)
    assert who(result) == ["Jane-Doe_1", "jane-doe_2"]
    assert not result.refused


@pytest.mark.parametrize("name", ["Participant", "Teilnehmerin", "Group A-Participant"])
def test_whose_name_moodle_hides_has_the_number_as_name(root, tmp_path, name):
    (first,) = who(collect(moodle(tmp_path, (name, "11")), root=root))
    to_next_assignment(root)
    (second,) = who(collect(moodle(tmp_path, (name, "12")), root=root))
    assert first.endswith("Participant_11") or first == "Teilnehmerin_11"
    assert first != second


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
@pytest.mark.parametrize("folder", [True, False])
def test_the_instructor_may_give_a_link(root, tmp_path, folder):
    files = others(tmp_path)
    target = write(tmp_path / "submissions-2026.zip", zip_bytes(files))
    if folder:
        target = tmp_path / "in"
        for name, data in files.items():
            write(target / name, data)
    (tmp_path / "latest.zip").symlink_to(target)
    assert who(collect([tmp_path / "latest.zip"], root=root)) == ["Ada-L", "Bob", "Cleo"]


NAMES = [
    *("{} - Copy.ipynb", "{} - Copy (2).ipynb", "Kopie von {}.ipynb", "{} (1).ipynb"),
    *("{}.ipynb.txt", "{}.ipynb.json", "{} copy 2.ipynb", "{} - Kopie.ipynb", "{}.txt"),
    *("Copie de {}.ipynb", "Jane_{}_final.ipynb", "{}-Copy1 (1).IPYNB", "{}.ipynb (1).txt"),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prefix", ["ada/", "doejane_1_2_", "Ada_1_assignsubmission_file_/"])
def test_a_notebook_by_a_name_that_programs_make_of_it_comes_in(root, tmp_path, name, prefix):
    files = {f"{prefix}{name.format(MINI)}": notebook(tmp_path, "mine")}
    result = collect([write(tmp_path / "all.zip", zip_bytes(files))], root=root)
    (student,) = who(result)
    assert text_of(root, student) == "mine"
    assert not result.refused


@pytest.mark.parametrize("other", ["{} - Copy.ipynb", "{}_old.ipynb", "Kopie von {}.ipynb"])
def test_beside_a_copy_the_notebook_of_the_very_name_counts(root, tmp_path, other):
    for name, text in ((other.format(MINI), "copy"), (f"{MINI}.ipynb", "mine")):
        write(tmp_path / "in" / "ada" / name, notebook(tmp_path, text))
    result = collect([tmp_path / "in"], root=root)
    assert text_of(root, "ada") == "mine"
    assert [why.split(":")[0] for _, why in result.refused] == ["left out for another"]


def test_a_model_by_the_name_of_a_copy_comes_to_its_place(root, tmp_path):
    for name, data in ((f"{NET}.ipynb", notebook(tmp_path)), ("unet - Kopie.onnx", b"model")):
        write(tmp_path / "in" / "ada" / name, data)
    collect([tmp_path / "in"], root=root)
    model = root / "grading/submitted/ada" / NET / "models/unet.onnx"
    assert model.read_bytes() == b"model"


def locked(path):
    path.parent.mkdir(exist_ok=True)
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("CREATE TABLE IF NOT EXISTS t (x)")
    database.execute("BEGIN EXCLUSIVE")
    return database


@pytest.mark.parametrize("fault", ["locked", "damaged", "no gradebook", "read-only", "empty"])
def test_what_was_taken_is_printed_whatever_becomes_of_the_gradebook(
    root, tmp_path, monkeypatch, capsys, fault
):
    monkeypatch.setattr(collect_module, "_register", _register)
    monkeypatch.setattr(collect_module, "_PATIENCE", 1)
    path = root / "grading" / "gradebook.db"
    path.parent.mkdir()
    held = None
    if fault == "locked":
        held = locked(path)
    elif fault == "no gradebook":
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE student (x)")
    elif fault == "read-only":
        monkeypatch.setattr(sqlite3, "connect", _no_writing)
        path.write_bytes(b"")
    else:
        path.write_bytes(b"no database" * 1000 if fault == "damaged" else b"")
    write(tmp_path / "in" / "ada" / f"{MINI}.ipynb", notebook(tmp_path))
    write(tmp_path / "in" / "bob" / "b.rar", b"")
    started = time.monotonic()
    with pytest.raises(CourseError, match=r"gradebook\.db") as caught:
        collect([tmp_path / "in"], root=root)
    assert time.monotonic() - started < 30
    assert "\n" not in str(caught.value)
    printed = capsys.readouterr().out
    assert "ada" in printed
    assert "only zips are unpacked" in printed
    assert ("waiting for up to 1 s" in printed) == (fault == "locked")
    assert text_of(root, "ada")
    if held:
        held.close()


def _no_writing(*_, **__):
    raise sqlite3.OperationalError("attempt to write a readonly database")


@pytest.mark.process
def test_a_lock_that_ends_while_it_is_waited_for_costs_nothing(root, tmp_path, monkeypatch):
    monkeypatch.setattr(collect_module, "_register", _register)
    held = locked(root / "grading" / "gradebook.db")
    held.execute("ROLLBACK")
    held.execute("DROP TABLE t")
    held.execute("VACUUM")
    held.close()
    (root / "grading" / "gradebook.db").unlink()
    write(tmp_path / "in" / "ada" / f"{MINI}.ipynb", notebook(tmp_path))
    collect([tmp_path / "in"], root=root)
    held = sqlite3.connect(
        root / "grading" / "gradebook.db", isolation_level=None, check_same_thread=False
    )
    held.execute("BEGIN EXCLUSIVE")
    threading.Timer(2, lambda: held.execute("ROLLBACK")).start()
    assert who(collect([tmp_path / "in"], root=root)) == ["ada"]
    held.close()


@pytest.mark.parametrize(
    "content", ['{"ada": {"na', "[]", '{"ada": null}', '{"ada": {"name": "Ada"}}', "\xff"]
)
def test_a_damaged_list_of_students_is_told_before_anything_is_unpacked(root, tmp_path, content):
    path = write(root / "grading" / "students.json", content.encode("latin-1"))
    given = write(tmp_path / "all.zip", zip_bytes(others(tmp_path)))
    with pytest.raises(CourseError, match=r"students\.json is damaged"):
        collect([given], root=root)
    assert path.read_bytes() == content.encode("latin-1")
    assert not (root / "grading/submitted").exists()


def test_a_place_that_is_blocked_stops_no_other(root, tmp_path):
    write(root / "grading" / "submitted" / "Bob", b"a file, where a folder is needed")
    result = collect([write(tmp_path / "all.zip", zip_bytes(others(tmp_path)))], root=root)
    assert who(result) == ["Ada-L", "Cleo"]
    assert any("cannot be put in place" in why for _, why in result.refused)


def test_a_full_disk_is_no_student_s_fault_and_what_was_taken_is_printed(
    root, tmp_path, monkeypatch, capsys
):
    given = [write(tmp_path / "all.zip", zip_bytes(others(tmp_path)))]
    copied = []

    def full(source, target, **_):
        copied.append(target)
        if len(copied) > 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return real(source, target)

    real = shutil.copyfile
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        collect(given, root=root)
    printed = capsys.readouterr().out
    assert "Ada-L" in printed
    assert "Not taken" not in printed
    assert "Ada-L" in json.loads((root / "grading/students.json").read_text())
    monkeypatch.setattr(shutil, "copyfile", real)
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(CourseError, match=r"0 MB are free.*run the command again"):
        collect(given, root=root)


def test_folders_of_one_name_given_together_are_not_mixed(root, tmp_path):
    people = {"Jane Doe": {"unet.onnx": b"Jane's"}, "Max Roe": {"unet.json": b"{}"}}
    for student, files in people.items():
        folder = tmp_path / student / "hw 6" / "my work"
        write(folder / f"{NET}.ipynb", notebook(tmp_path, student))
        for name, data in files.items():
            write(folder / name, data)
    result = collect([tmp_path / student / "hw 6" for student in people], root=root)
    assert who(result) == ["Jane-Doe", "Max-Roe"]
    for student, name in (("Jane-Doe", "unet.onnx"), ("Max-Roe", "unet.json")):
        models = root / "grading/submitted" / student / NET / "models"
        assert [path.name for path in models.iterdir()] == [name]


def test_zips_named_after_a_lesson_in_a_folder_are_not_the_folder_s(root, tmp_path):
    for name in (f"{MINI}.zip", f"{MINI} (1).zip"):
        write(tmp_path / "Downloads" / name, lesson_zip(tmp_path))
    with pytest.raises(CourseError, match="whose is it"):
        collect([tmp_path / "Downloads"], root=root)


@pytest.mark.parametrize("letter", ["\u660e", "-1", "_1", " (1)", " copy", "\u00e9_", "1."])
def test_names_of_any_length_are_read_in_no_time(root, tmp_path, letter):
    """A pattern that tries every way to read a name would take for ever."""
    files = others(tmp_path)
    for length in (60, 900, 20_000):
        name = letter * (length // len(letter))
        files |= {f"Dan/{name}.ipynb": b"", f"{name}/x.txt": b"", f"{name}_1_2_x.ipynb": b""}
    started = time.monotonic()
    result = collect([write(tmp_path / "all.zip", zip_bytes(files))], root=root)
    assert {"Ada-L", "Bob", "Cleo"} <= set(who(result))
    assert time.monotonic() - started < 10


@pytest.mark.skipif(os.name != "posix" or not hasattr(os, "geteuid"), reason="file modes")
def test_what_may_not_be_read_stops_no_other(root, tmp_path, monkeypatch):
    for student in ("ada", "bob", "cleo"):
        write(tmp_path / "in" / student / f"{MINI}.ipynb", notebook(tmp_path, student))
    real = Path.read_bytes

    def read_bytes(path):
        if "bob" in path.parts:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    (tmp_path / "in/cleo").chmod(0)
    result = collect([tmp_path / "in"], root=root)
    (tmp_path / "in/cleo").chmod(0o755)
    assert "ada" in who(result)
    if os.geteuid():
        assert any("cannot be read" in why for what, why in result.refused if "cleo" in what)


@pytest.mark.parametrize("name", [f"{MINI}.zip", "hw6.zip", "my work.zip"])
def test_zips_of_one_name_given_together_are_told_apart_by_their_folders(root, tmp_path, name):
    people = ("Jane Doe", "Max Roe")
    given = [write(tmp_path / p / name, lesson_zip(tmp_path, p)) for p in people]
    assert who(collect(given, root=root)) == ["Jane-Doe", "Max-Roe"]
    assert text_of(root, "Max-Roe") == "Max Roe"


@pytest.mark.skipif(os.name != "posix", reason="locks")
def test_what_a_killed_run_has_left_is_removed_by_the_next(root, tmp_path):
    left = root / "grading" / ".collect-killed" / "old"
    left.mkdir(parents=True)
    collect([write(tmp_path / "ada.zip", lesson_zip(tmp_path))], root=root)
    assert not left.exists()


def test_a_damaged_list_of_files_costs_only_those_it_cannot_be_made_anew_for(root, tmp_path):
    names = [f"S{n} X_{n}_assignsubmission_file/{MINI}.zip" for n in range(10, 14)]
    whole = zip_bytes(dict.fromkeys(names, lesson_zip(tmp_path)))
    start = whole.rindex(b"PK\1\2")
    path = write(tmp_path / "class.zip", whole[:start] + b"xx" + whole[start + 2 :])
    found = collect([path], root=root)
    assert who(found) == ["S10-X", "S11-X", "S12-X", "S13-X"]
    assert any("its list of files" in " ".join(line) for line in found.refused)
    write(path, whole[: whole.index(names[2].encode()) + 100])  # a download that was cut off
    assert who(collect([path], root=root)) == ["S10-X", "S11-X"]
