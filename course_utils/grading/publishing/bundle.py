"""``course bundle``: what a class is given, and nothing else, in one zip.

The list says what goes in, not what stays out: a new folder of the instructor is never
handed out by accident. As a second check, the finished content is searched for answers.
"""

import re
from pathlib import Path

from course_utils.errors import CourseError
from course_utils.files import with_unix_lines, write_atomic, zip_bytes
from course_utils.grading.publishing.release import check_release
from course_utils.paths import course_root

_FILES = (
    "README.md",
    "LICENSE",
    "Makefile",
    "pyproject.toml",
    "requirements.lock",
    "environment.yml",
)
_FOLDERS = ("lessons", "course_utils", "data", "docs", "tools")
_LEFT_OUT = re.compile(
    r"(^|/)(\.[^/]*|__pycache__|[^/]*\.(zip|onnx|pt|pyc))(/|$)"
    r"|^lessons/[^/]*/models/|^data/cache/"
)
_REPOSITORY = re.compile(rb"<!-- repository -->\n.*?<!-- end -->\n", re.DOTALL)
"""In the README: what is true in the whole repository alone, such as where solutions lie."""
# Put together here, so that this file does not hold what it looks for.
_ANSWERS = tuple(f"BEGIN {what}".encode() for what in ("SOLUTION", "HIDDEN TESTS"))
_FOLDER = "segmentation-course"


def bundle(output: Path, root: Path | None = None) -> Path:
    """Write the zip of lessons, helper package and environment; equal courses give equal bytes.

    Parameters
    ----------
    output
        The zip to write.
    root
        The course's folder.

    Raises
    ------
    CourseError
        If the release is out of date, or an answer or the secret seed would go out.
    """
    root = root or course_root()
    check_release(root)
    content = bundle_content(root)
    if leaks := find_leaks(content, root):
        raise CourseError(f"the bundle would give away {'; '.join(leaks)}. Nothing was written.")
    data = zip_bytes({f"{_FOLDER}/{name}": text for name, text in content.items()})
    write_atomic(output.resolve(), data)
    print(f"Wrote {output} ({len(data) / 1e6:.1f} MB, {len(content)} files)")
    return output


def bundle_content(root: Path) -> dict[str, bytes]:
    """Return the files of the bundle by their path in the course, texts with LF as line ends.

    A checkout of Windows may have CRLF, with which no shell script runs.
    """
    paths = [root / name for name in _FILES if (root / name).is_file()]
    for folder in _FOLDERS:
        paths += (path for path in (root / folder).rglob("*") if path.is_file())
    named = {path.relative_to(root).as_posix(): path for path in paths if not path.is_symlink()}
    content = {
        name: with_unix_lines(path.read_bytes())
        for name, path in named.items()
        if not _LEFT_OUT.search(name)
    }
    if "README.md" in content:
        content["README.md"] = _REPOSITORY.sub(b"", content["README.md"])
    return content


def find_leaks(content: dict[str, bytes], root: Path) -> list[str]:
    """Return what of the instructor's is in the files: regions of answers, answers, the seed."""
    seed = root / "grading" / "secret_seed"
    secrets = {seed.read_bytes().strip(): "the secret seed"} if seed.exists() else {}
    solutions = _solution_lines(root)
    leaks = []
    for name, data in content.items():
        leaks += [f"{what} in {name}" for secret, what in secrets.items() if secret in data]
        if name.startswith("lessons/"):
            leaks += [f"{mark.decode()} in {name}" for mark in _ANSWERS if mark in data]
            lesson = name.split("/")[1]
            leaks += [
                f"the answer {line.decode()!r} in {name}"
                for line in solutions.get(lesson, ())
                if line in data
            ][:1]
    return leaks


def _solution_lines(root: Path) -> dict[str, list[bytes]]:
    """Return lines that stand inside of solution regions and nowhere else in their lesson."""
    found = {}
    for path in (root / "solutions").glob("*/*.ipynb"):
        inside, outside, region = set(), set(), False
        for line in path.read_bytes().splitlines():
            text = line.strip().strip(b'",').removesuffix(b"\\n").strip()
            region = (region or b"BEGIN SOLUTION" in text) and b"END SOLUTION" not in text
            (inside if region else outside).add(text)
        whole = b"\n".join(outside)
        found[path.parent.name] = sorted(
            line for line in inside if len(line) > 25 and b"BEGIN" not in line and line not in whole
        )
    return found
