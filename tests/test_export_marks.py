"""The CSVs have the columns that Canvas's and Moodle's importers look for."""

import csv
import json

import pytest

from course_utils.errors import CourseError
from course_utils.files import write_atomic
from course_utils.grading import grade as grade_module
from course_utils.grading.export_marks import export_marks
from tests.mini_course import MINI, NET, make_course, merge_result, task_record


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = make_course(tmp_path_factory.mktemp("course"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grade_module, "_render_feedback", lambda *_: None)
        for student in ("Jane-Doe", "doejohn_12345", "local"):
            merge_result(root, student, MINI, why=0)
        merge_result(root, "Jane-Doe", NET, tasks={"task_unet": task_record(0.9)})
    students = {
        "Jane-Doe": {"platform": "moodle", "name": "Jane Doe", "numbers": {MINI: "7", NET: "8"}},
        "doejohn_12345": {"platform": "canvas", "name": "doejohn", "numbers": {MINI: "12345"}},
        "local": {"platform": "folder", "name": "=HYPERLINK(1)", "numbers": {MINI: ""}},
    }
    write_atomic(root / "grading" / "students.json", json.dumps(students))
    return root


def rows(path):
    return list(csv.reader(path.read_text(encoding="utf-8").splitlines()))


def test_canvas_knows_people_by_id_and_gets_the_possible_points(root, tmp_path):
    (path,) = export_marks("canvas", tmp_path / "marks.csv", root=root)
    heading, points, *people = rows(path)
    assert heading == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", NET, MINI]
    assert points == ["    Points Possible", "", "", "", "", "10.0", "6.0"]
    assert ["doejohn", "12345", "", "", "", "", "5.0"] in people
    assert ["Jane Doe", "", "", "", "", "10.0", "5.0"] in people


def test_canvas_columns_can_be_filled_from_its_own_export(root, tmp_path):
    roster = tmp_path / "roster.csv"
    roster.write_text(
        "Student,ID,SIS User ID,SIS Login ID,Section\n    Points Possible,,,,\n"
        '"Doe, John",12345,s1,john@x.org,A\n"Doe, Jane",99,s2,jane@x.org,A\n"New, Nina",5,s3,n,A\n'
    )
    (path,) = export_marks("canvas", tmp_path / "marks.csv", roster, root=root)
    people = rows(path)[2:]
    assert ["Doe, John", "12345", "s1", "john@x.org", "A", "", "5.0"] in people
    assert ["Doe, Jane", "99", "s2", "jane@x.org", "A", "10.0", "5.0"] in people
    assert ["New, Nina", "5", "s3", "n", "A", "", ""] in people


def test_moodle_gets_a_gradebook_and_a_worksheet_for_each_assignment(root, tmp_path):
    paths = export_marks("moodle", tmp_path / "marks.csv", root=root)
    assert [path.name for path in paths] == [
        "marks.csv",
        f"marks-{NET}.csv",
        f"marks-{MINI}.csv",
    ]
    heading, *people = rows(paths[0])
    assert heading == [
        "First name", "Last name", "ID number", "Username", "Email address", NET, MINI,
    ]  # fmt: skip
    assert ["Jane", "Doe", "", "", "", "10.0", "5.0"] in people
    assert rows(paths[1]) == [
        ["Identifier", "Full name", "Grade", "Maximum Grade", "Last modified (grade)"],
        ["Participant 8", "Jane Doe", "10.0", "10.0", "-"],
    ]


def test_what_moodle_cannot_import_is_told(root, tmp_path, capsys):
    export_marks("moodle", tmp_path / "marks.csv", root=root)
    told = capsys.readouterr().out
    assert "Warning: marks.csv has nobody's ID number, username or e-mail address" in told
    assert "import the worksheets marks-LESSON.csv, or give" in told
    assert f"to the lesson's points ({NET} 10, {MINI} 6): Moodle ignores" in told


def test_people_whom_canvas_does_not_know_are_counted(root, tmp_path, capsys):
    export_marks("canvas", tmp_path / "marks.csv", root=root)
    assert "Warning: 2 of 3 people have no Canvas ID" in capsys.readouterr().out


def test_moodle_columns_can_be_filled_from_its_own_export(root, tmp_path, capsys):
    roster = tmp_path / "roster.csv"
    roster.write_text(
        "\ufeffFirst name,Surname,ID number,Email address\nJANE,Doe,0042,jane@x.org\n", "utf-8"
    )
    (path,) = export_marks("moodle", tmp_path / "marks.csv", roster, root=root)
    assert ["JANE", "Doe", "0042", "", "jane@x.org", "10.0", "5.0"] in rows(path)
    told = capsys.readouterr().out
    assert "doejohn (doejohn_12345) is not in roster.csv" in told
    assert "cannot import" not in told


ANNAS = (
    "First name,Last name,ID number,Email address\n"
    "Anna,Schmidt,M1,anna1@x.de\nAnna,Schmidt,M2,anna2@x.de\n"
)


def graded_class(root, monkeypatch, **students):
    """Make a course in which each of these has a graded hand-in."""
    monkeypatch.setattr(grade_module, "_render_feedback", lambda *_: None)
    make_course(root)
    for student in students:
        merge_result(root, student, MINI, why=1)
    entries = {
        student: {"platform": platform, "name": name, "numbers": {MINI: number}}
        for student, (platform, name, number) in students.items()
    }
    write_atomic(root / "grading" / "students.json", json.dumps(entries))
    return root


def marks_with(root, platform, roster):
    (root / "roster.csv").write_text(roster, encoding="utf-8")
    (path,) = export_marks(platform, root / "marks.csv", root / "roster.csv", root=root)
    return rows(path)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_roster_may_have_semicolons_or_tabs(root, tmp_path, separator):
    lines = [["First name", "Surname", "ID number"], ["JANE", "Doe", "0042"]]
    roster = tmp_path / "roster.csv"
    text = "\n".join(separator.join(line) for line in lines)
    roster.write_text(f"\ufeff{text}\n", encoding="utf-8")
    (path,) = export_marks("moodle", tmp_path / "marks.csv", roster, root=root)
    assert ["JANE", "Doe", "0042", "", "", "10.0", "5.0"] in rows(path)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_a_roster_that_is_not_utf8_is_told(root, tmp_path, encoding):
    (tmp_path / "roster.csv").write_text("Full name;ID number\nZoë;1\n", encoding=encoding)
    with pytest.raises(CourseError, match="save it as UTF-8"):
        export_marks("moodle", roster=tmp_path / "roster.csv", root=root)


@pytest.mark.process
def test_nobody_gets_the_marks_of_a_namesake(tmp_path, monkeypatch, capsys):
    root = graded_class(tmp_path / "c", monkeypatch, anna=("moodle", "Anna Schmidt", "7"))
    people = marks_with(root, "moodle", ANNAS)[1:]
    assert people == [
        ["Anna", "Schmidt", "", "", "", "6.0"],
        ["Anna", "Schmidt", "M1", "", "anna1@x.de", ""],
        ["Anna", "Schmidt", "M2", "", "anna2@x.de", ""],
    ]
    (warning,) = [line for line in capsys.readouterr().out.splitlines() if "told apart" in line]
    assert "Anna Schmidt" in warning
    assert "roster.csv: M1, M2; graded: anna" in warning


@pytest.mark.process
def test_two_graded_of_one_name_do_not_share_a_line(tmp_path, monkeypatch, capsys):
    anna = ("moodle", "Anna Schmidt")
    root = graded_class(tmp_path / "c", monkeypatch, anna=(*anna, "7"), anna_8=(*anna, "8"))
    people = marks_with(root, "moodle", "".join(ANNAS.splitlines(True)[:2]))[1:]
    assert [person[2:] for person in people] == [
        ["", "", "", "6.0"],
        ["", "", "", "6.0"],
        ["M1", "", "anna1@x.de", ""],
    ]
    assert capsys.readouterr().out.count("told apart") == 1


@pytest.mark.process
def test_namesakes_are_told_apart_by_canvas_ids(tmp_path, monkeypatch, capsys):
    root = graded_class(
        tmp_path / "c",
        monkeypatch,
        schmidtanna_1=("canvas", "schmidtanna", "1"),
        schmidtanna_2=("canvas", "schmidtanna", "2"),
    )
    roster = 'Student,ID,SIS Login ID\n"Schmidt, Anna",2,two\n"Schmidt, Anna",1,one\n'
    people = marks_with(root, "canvas", roster)[2:]
    assert people == [
        ["Schmidt, Anna", "1", "", "one", "", "6.0"],
        ["Schmidt, Anna", "2", "", "two", "", "6.0"],
    ]
    assert "Warning" not in capsys.readouterr().out  # nor is anybody said to lack an ID


@pytest.mark.process
def test_a_line_of_the_roster_is_used_once(tmp_path, monkeypatch, capsys):
    """The line is found by number, whoever comes first in the alphabet."""
    root = graded_class(
        tmp_path / "c",
        monkeypatch,
        John=("folder", "John Doe", ""),
        doejohn_5=("canvas", "doejohn", "5"),
        oldname_5=("canvas", "oldname", "5"),
        other_6=("canvas", "Jane Roe", "6"),
    )
    people = marks_with(root, "canvas", 'Student,ID\n"Doe, John",5\n"Roe, Jane",7\n')[2:]
    assert people == [
        ["Doe, John", "5", "", "", "", "6.0"],
        ["John Doe", "", "", "", "", "6.0"],
        ["oldname", "", "", "", "", "6.0"],
        ["Jane Roe", "6", "", "", "", "6.0"],
        ["Roe, Jane", "7", "", "", "", ""],
    ]
    told = capsys.readouterr().out
    assert "John Doe (John) is the person of roster.csv who is also doejohn_5" in told
    assert "oldname (oldname_5) is the person of roster.csv who is also doejohn_5" in told
    assert "Jane Roe (other_6) is not in roster.csv" in told


def test_a_name_is_never_a_formula(root, tmp_path):
    (path,) = export_marks("canvas", tmp_path / "marks.csv", root=root)
    assert ["'=HYPERLINK(1)", "", "", "", "", "", "5.0"] in rows(path)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda root, tmp: export_marks("ilias", root=root), "no known platform"),
        (
            lambda root, tmp: export_marks("canvas", roster=tmp / "none.csv", root=root),
            "cannot be read",
        ),
    ],
)
def test_mistakes_are_told(root, tmp_path, call, words):
    with pytest.raises(CourseError, match=words):
        call(root, tmp_path)


def test_a_roster_of_nobody_is_told(root, tmp_path):
    (tmp_path / "r.csv").write_text("a,b\n1,2\n")
    with pytest.raises(CourseError, match="names nobody"):
        export_marks("canvas", roster=tmp_path / "r.csv", root=root)


ROSTERS = {
    "sep": 'sep=;\nFirst name;Last name;ID number\n"Jane";Doe;0042\n',
    "quoted sep": '"sep=;"\r\nFirst name;Last name;ID number\r\nJane;Doe;0042\r\n',
    "sep is a tab": "sep=\t\nFirst name\tLast name\tID number\nJane\tDoe\t0042\n",
    "German": "Vorname;Nachname;ID-Nummer;E-Mail-Adresse\nJane;Doe;0042;\n",
    "German, one name": "Vollständiger Name,ID-Nummer\nJane Doe,0042\n",
    "French": "Prénom,Nom de famille,Numéro d’identification\nJane,Doe,0042\n",
    "French, short": "Prénom;Nom;Numéro d'identification\nJane;Doe;0042\n",
    "decomposed": "Pre\u0301nom;Nom;Nume\u0301ro d'identification\nJane;Doe;0042\n",
    "Spanish": "Nombre,Apellido(s),Número de ID\nJane,Doe,0042\n",
    "capitals and spaces": "FIRST NAME , SURNAME , ID NUMBER\nJane, Doe , 0042\n",
    "as users are uploaded": "username,firstname,lastname,idnumber\n,Jane,Doe,0042\n",
}


@pytest.mark.parametrize("name", ROSTERS)
def test_rosters_of_many_programs_and_languages_are_read(root, tmp_path, capsys, name):
    roster = tmp_path / "roster.csv"
    roster.write_text(f"\ufeff{ROSTERS[name]}", encoding="utf-8", newline="")
    (path,) = export_marks("moodle", tmp_path / "marks.csv", roster, root=root)
    (jane,) = [row for row in rows(path) if "0042" in row]
    assert jane[2:] == ["0042", "", "", "10.0", "5.0"]
    assert "Jane Doe" not in capsys.readouterr().out


IN_MOODLE = {
    "Pat OBrien": "Pat O'Brien",
    "Kim ONeil": "Kim O\u2019Neil",
    "AB Roe": 'A"B Roe',
    "Roe Max": "Roe: Max",
    "Lee Ann": "<Lee> | Ann",
    "Max P Poe": "Max_P Poe",
    "Ann Bob": "Ann & Bob",
    "Doe jr": "Doe/ jr",
    "Group A-Tim OHara": "Tim O'Hara",
    "L-1-Ann-Lea Fry": "Ann-Lea Fry",
}


@pytest.mark.process
def test_who_is_called_otherwise_in_moodle_s_files_is_found(tmp_path, monkeypatch, capsys):
    students = {f"s{i}": ("moodle", name, str(i)) for i, name in enumerate(IN_MOODLE)}
    root = graded_class(tmp_path / "c", monkeypatch, **students)
    quoted = [name.replace('"', '""') for name in IN_MOODLE.values()]
    lines = [f'"{name}",M{i}' for i, name in enumerate(quoted)]
    people = marks_with(root, "moodle", "\n".join(["Full name,ID number", *lines, ""]))
    assert [row[2] for row in people[1:]] == [f"M{i}" for i in range(len(lines))]
    assert all(row[-1] == "6.0" for row in people[1:])
    assert "Warning" not in capsys.readouterr().out


@pytest.mark.process
def test_a_group_before_a_name_gives_nobody_the_marks_of_another(tmp_path, monkeypatch, capsys):
    root = graded_class(
        tmp_path / "c",
        monkeypatch,
        jane=("moodle", "Jane Doe", "7"),
        group=("moodle", "Group A-Jane Doe", "8"),
        luc=("moodle", "Jean-Luc Roe", "9"),
    )
    people = marks_with(root, "moodle", "Full name,ID number\nJane Doe,M1\nJean-Luc Roe,M2\n")
    assert [row[2] for row in people[1:]] == ["", "", "M2", "M1"]
    told = capsys.readouterr().out
    assert told.count("told apart") == 1
    assert "graded: group, jane" in told


@pytest.mark.parametrize("heading", ["Identifier,Status,Grade", "ID;Status;Bewertung"])
def test_a_roster_of_blind_marking_is_told(root, tmp_path, heading):
    roster = tmp_path / "r.csv"
    line = "Participant 7,,".replace(",", ";" if ";" in heading else ",")
    roster.write_text(f"{heading}\n{line}\n")
    with pytest.raises(CourseError, match=r"marking is blind\. Leave out --roster") as caught:
        export_marks("moodle", roster=roster, root=root)
    assert "\n" not in str(caught.value)


def test_a_roster_without_names_says_what_it_has(root, tmp_path):
    (tmp_path / "r.csv").write_text("Etunimi,Sukunimi\nJane,Doe\n")
    with pytest.raises(CourseError, match=r"found: Etunimi, Sukunimi.*needs the column"):
        export_marks("moodle", roster=tmp_path / "r.csv", root=root)
