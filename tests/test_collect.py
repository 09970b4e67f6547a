"""Hand-ins come in by any platform's names; a bad one is refused and stops no other."""

import io
import json
import os
import stat
import zipfile

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
    result = collect([write(tmp_path / "all.zip", zip_bytes(files))], root=root)
    (hand_in,) = result.taken
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
