"""``course export``: the marks as a CSV that the gradebook of Canvas or Moodle imports.

Canvas (Grades > Import) wants the columns Student, ID, SIS User ID, SIS Login ID and Section,
then one a lesson, and a row of the possible points. It knows a person by its ID, which
is in the names of the files that it gave out, so ``course collect`` has kept it.

Moodle (Grades > Import > CSV file) lets one choose which column means what, but knows a
person by ID number, user name or e-mail address, which its files do not tell. They come from
a roster: any CSV that Moodle exported (participants, or the gradebook). Without one, each
lesson gets a grading worksheet instead (Assignment > Grading > Upload grading
worksheet), which knows a person by the participant number in the names of Moodle's files.
"""

import csv
import io
import re
import unicodedata
from pathlib import Path

from course_utils.errors import CourseError
from course_utils.files import write_atomic
from course_utils.grading.gradebook import Marked, class_marks, read_students
from course_utils.grading.report import not_graded
from course_utils.paths import course_root
from course_utils.table import printable, shortened

PLATFORMS = ("canvas", "moodle")
# What Moodle calls the columns in other languages, and in its own tables: letters alone.
_HEADINGS = {
    "First name": "firstname vorname prénom nombre",
    "Last name": "lastname surname nachname nom nomdefamille apellidos",
    "Full name": "fullname vollständigername name nomcomplet nombrecompleto",
    "ID number": "idnumber idnummer numérodidentification númerodeid",
    "Username": "username anmeldename nomdutilisateur nombredeusuario",
    "Email address": "emailaddress email emailadresse adressedecourriel adressemail "
    "direccióndecorreo",
}
_KNOWN_HEADINGS = {alias: name for name, text in _HEADINGS.items() for alias in text.split()}


def export_marks(
    platform: str = "moodle",
    output: Path | None = None,
    roster: Path | None = None,
    root: Path | None = None,
) -> list[Path]:
    """Write the class's marks, one column a lesson; return the files written.

    Parameters
    ----------
    platform
        ``"canvas"`` or ``"moodle"``.
    output
        The CSV; default ``grading/marks-<platform>.csv``.
    roster
        A CSV with the platform's people, as it exports them: their names and numbers
        are taken from it, and those without a hand-in are listed too.
    root
        The course's folder.

    Raises
    ------
    CourseError
        If the platform is unknown, nothing is graded, or the roster names nobody.
    """
    root = root or course_root()
    if platform not in PLATFORMS:
        raise CourseError(
            f"{platform!r} is no known platform; use --for {' or --for '.join(PLATFORMS)}."
        )
    marked = class_marks(root)
    students = read_students(root)
    people = _people(marked, students)
    if roster is not None:
        people = _with_roster(people, roster)
    lessons = {one.lesson: one.points for one in marked}
    totals = {(one.student, one.lesson): round(one.total, 2) for one in marked}
    rows = (
        _canvas(people, lessons, totals)
        if platform == "canvas"
        else _moodle(people, lessons, totals)
    )
    output = output or root / "grading" / f"marks-{platform}.csv"
    write_atomic(output, _csv(rows))
    written = [output]
    if platform == "moodle" and roster is None:
        for lesson, points in lessons.items():
            path = output.with_name(f"{output.stem}-{lesson}.csv")
            worksheet = _worksheet(lesson, points, totals, students)
            if len(worksheet) > 1:
                write_atomic(path, _csv(worksheet))
                written.append(path)
    for path in written:
        print(f"Wrote {path}")
    if platform == "canvas":
        _tell_canvas(people)
    elif roster is None:
        _tell_moodle(output, lessons, worksheets=len(written) > 1)
    if old := not_graded(root, marked):
        print(f"Warning: not graded yet: {shortened(old)}. Run course grade, then this again.")
    waiting = sorted({f"{one.student}/{one.lesson}" for one in marked if one.needs_hand})
    if waiting:
        print(f"Warning: answers that a person has yet to mark count 0: {', '.join(waiting)}.")
    return written


def _tell_canvas(people: list[dict[str, str]]) -> None:
    unknown = sum(not person["ID"] for person in people)
    if unknown:
        print(
            f"Warning: {unknown} of {len(people)} people have no Canvas ID, and Canvas may not "
            "find them; give Canvas's own export with --roster, or fill in the column ID by hand."
        )


def _tell_moodle(output: Path, lessons: dict[str, float], worksheets: bool) -> None:
    """Say what Moodle can import, and what it leaves to be set by hand."""
    cure = f"import the worksheets {output.stem}-LESSON.csv, or " if worksheets else ""
    print(
        f"Warning: {output.name} has nobody's ID number, username or e-mail address, so Moodle "
        f"cannot import it; {cure}give Moodle's own list of participants with --roster."
    )
    if worksheets:
        points = ", ".join(f"{lesson} {points:g}" for lesson, points in lessons.items())
        print(
            "Set the maximum grade of each assignment in Moodle to the lesson's points "
            f"({points}): Moodle ignores the column Maximum Grade."
        )


def _people(marked: list[Marked], students: dict[str, dict]) -> list[dict[str, str]]:
    """Return everyone with a mark: student id, name, and Canvas's number where known."""
    people = []
    for student in sorted({one.student for one in marked}, key=str.casefold):
        entry = students.get(student, {})
        canvas = entry.get("platform") == "canvas"
        number = next(iter(entry["numbers"].values())) if canvas else ""
        people.append({"student": student, "name": entry.get("name", student), "ID": number})
    return people


def _canvas(people, lessons, totals) -> list[list]:
    fixed = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    rows = [[*fixed, *lessons], ["    Points Possible", "", "", "", "", *lessons.values()]]
    for person in people:
        scores = [totals.get((person["student"], lesson), "") for lesson in lessons]
        rows.append([person["name"], *(person.get(column, "") for column in fixed[1:]), *scores])
    return rows


def _moodle(people, lessons, totals) -> list[list]:
    fixed = ["First name", "Last name", "ID number", "Username", "Email address"]
    rows = [[*fixed, *lessons]]
    for person in people:
        first, _, last = person["name"].rpartition(" ")
        names = {"First name": first or last, "Last name": last if first else ""}
        scores = [totals.get((person["student"], lesson), "") for lesson in lessons]
        rows.append([*((names | person).get(column, "") for column in fixed), *scores])
    return rows


def _worksheet(lesson, points, totals, students) -> list[list]:
    """Return Moodle's grading worksheet of one assignment; it refuses one without these columns."""
    rows = [["Identifier", "Full name", "Grade", "Maximum Grade", "Last modified (grade)"]]
    for student, entry in students.items():
        number = entry["numbers"].get(lesson)
        if entry["platform"] == "moodle" and number and (student, lesson) in totals:
            score = totals[student, lesson]
            rows.append([f"Participant {number}", entry["name"], score, points, "-"])
    return rows


def _with_roster(people: list[dict[str, str]], roster: Path) -> list[dict[str, str]]:
    """Add what a platform's own export says about each person; no line is given to two."""
    lines = _read_roster(roster)
    by_number = {line["ID"]: line for line in lines if line.get("ID")}
    owners: dict[int, str] = {}  # by the id() of a line, the student whose it is
    for person in people:
        if line := by_number.get(person["ID"]):
            owners.setdefault(id(line), person["student"])
    _match_names(people, lines, by_number, owners, roster.name)
    lines_of = {owners[id(line)]: line for line in lines if id(line) in owners}
    found = []
    for person in people:
        line = lines_of.get(person["student"])
        if line is None and person["ID"] in by_number:
            person = person | {"ID": ""}  # the number is another's row already
        found.append(person | {column: text for column, text in (line or {}).items() if text})
    return found + [{"student": "", "ID": "", **line} for line in lines if id(line) not in owners]


def _match_names(
    people: list[dict[str, str]],
    lines: list[dict[str, str]],
    by_number: dict[str, dict[str, str]],
    owners: dict[int, str],
    roster: str,
) -> None:
    """Enter into ``owners`` who is found by name; never by one that two people have.

    Marks that go to a namesake are worse than a row to be filled in by hand.
    """
    in_roster = _by_name(lines)
    names = [_known_as(person["name"], in_roster) for person in people]
    numbered = set(owners.values())
    told = set()
    for person, name in zip(people, names, strict=True):
        student = person["student"]
        if student in numbered:
            continue
        called = in_roster.get(name, [])
        who = f"{person['name']} ({student})"
        graded = [other for other, known in zip(people, names, strict=True) if known == name]
        if len(called) > 1 or (called and len(graded) > 1):
            if name not in told:
                print(_namesakes(person["name"], called, graded, roster))
            told.add(name)
            continue
        line = by_number.get(person["ID"]) or (called[0] if called else None)
        if line is not None and id(line) in owners:
            print(
                f"Warning: {who} is the person of {roster} who is also {owners[id(line)]}; "
                "put the marks of both into one row by hand."
            )
        elif line is None or (person["ID"] and line.get("ID")):
            print(f"Warning: {who} is not in {roster}.")
        else:
            owners[id(line)] = student


def _namesakes(name: str, lines: list[dict], graded: list[dict], roster: str) -> str:
    columns = ("ID", "ID number", "Email address", "Username", "SIS Login ID")
    numbers = [next(filter(None, map(line.get, columns)), "no number") for line in lines]
    return (
        f"Warning: not everybody called {name} can be told apart "
        f"({roster}: {', '.join(numbers)}; graded: "
        f"{', '.join(person['student'] for person in graded)}); fill in whose row is whose by hand."
    )


def _known_as(name: str, in_roster: dict[tuple[str, ...], list]) -> tuple[str, ...]:
    """Return the words by which the roster knows a name, perhaps without Moodle's group.

    Whoever downloads a group's hand-ins gets ``Group A-Jane Doe``.
    """
    parts = name.split("-")
    without = [_plain("-".join(parts[i:])) for i in range(len(parts))]
    known = [words for words in without[1:] if len(words) > 1 and words in in_roster]
    return without[0] if without[0] in in_roster or not known else known[0]


def _by_name(entries: list[dict[str, str]]) -> dict[tuple[str, ...], list[dict[str, str]]]:
    found: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for entry in entries:
        found.setdefault(_plain(entry["name"]), []).append(entry)
    return found


def _read_roster(roster: Path) -> list[dict[str, str]]:
    """Return a roster's people: the columns under the names of the files written here."""
    try:
        text = roster.read_text(encoding="utf-8-sig")
        # A spreadsheet may say first which separator it has; many write semicolons, and Moodle
        # offers both these and tabs.
        first, _, below = text.partition("\n")
        said = first.strip('"\r ')
        said = said[4:] if said.lower().startswith("sep=") and len(said) == 5 else ""
        text = below if said else text
        heading = text.partition("\n")[0]
        delimiter = said or max(",;\t", key=heading.count)
        rows = list(csv.DictReader(io.StringIO(text), delimiter=delimiter))
    except UnicodeError:
        raise CourseError(
            f"{roster} is not in UTF-8, so names would be misread; save it as UTF-8 (in a "
            "spreadsheet: save as 'CSV UTF-8')."
        ) from None
    except (OSError, csv.Error) as error:
        raise CourseError(f"{roster} cannot be read as a CSV: {error}.") from None
    lines = []
    for row in rows:
        line = {_heading(k): (v or "").strip() for k, v in row.items() if k}
        full = line.get("Full name") or line.get("Student") or ""
        full = full or f"{line.get('First name', '')} {line.get('Last name', '')}"
        line["name"] = full.strip()
        if line["name"] and "Points Possible" not in full and line not in lines:
            lines.append(line)
    if not lines and rows and {"Identifier", "ID"} & set(rows[0]):
        raise CourseError(
            f"{roster} names nobody, only numbers, as Moodle does where marking is blind. Leave "
            "out --roster: a worksheet for each assignment is written then, which Moodle imports "
            "by these numbers."
        )
    if not lines:
        found = ", ".join(filter(None, rows[0])) if rows else "no lines"
        raise CourseError(
            f"{roster} names nobody (found: {printable(found, 200)}): it needs the column "
            "'Student', 'Full name', or 'First name' and 'Last name', as Canvas and Moodle "
            "export them."
        )
    return lines


def _heading(heading: str) -> str:
    """Return a column's name in English.

    >>> _heading("Vorname"), _heading("E-Mail-Adresse"), _heading("SIS Login ID")
    ('First name', 'Email address', 'SIS Login ID')
    """
    letters = "".join(filter(str.isalnum, unicodedata.normalize("NFKC", heading).casefold()))
    return _KNOWN_HEADINGS.get(letters, heading.strip())


def _plain(name: str) -> tuple[str, ...]:
    """Return a name's words in an order of their own: "Doe, Jane" is "Jane Doe" is "jane doe".

    Without what Moodle strips from the names of files: O'Brien is OBrien.
    """
    plain = unicodedata.normalize("NFKC", name).casefold()
    plain = plain.replace(",", " ").replace("_", " ")
    return tuple(sorted(re.sub(r"[\x00-\x1f'\u2019&<>\"|:`\\/]", "", plain).split()))


def _csv(rows: list[list]) -> str:
    """Return rows as CSV; a text that a spreadsheet would run as a formula gets a quote."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerows([[_inert(v) for v in row] for row in rows])
    return buffer.getvalue()


def _inert(value: object) -> object:
    formula = isinstance(value, str) and value != "-" and value.startswith(tuple("=+-@\t\r"))
    return f"'{value}" if formula else value
