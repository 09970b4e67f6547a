"""The data sets of the course: what they are, where they lie, on what terms.

The facts stand in ``catalogue.toml`` beside this module; how a set comes here is `fetching`.
"""

import tomllib
from functools import cache
from importlib import resources
from pathlib import Path

from course_utils.errors import CourseError
from course_utils.paths import data_folder

_shown: set[str] = set()


@cache
def entries() -> dict[str, dict]:
    """Return every data set by name, as `catalogue.toml` describes it."""
    text = resources.files("course_utils.data").joinpath("catalogue.toml").read_text("utf-8")
    return tomllib.loads(text)


def entry(name: str) -> dict:
    """Return what the catalogue says of a data set.

    Raises
    ------
    CourseError
        If there is no such set.
    """
    if name not in entries():
        raise CourseError(f"there is no data set {name!r}. There are: {', '.join(entries())}.")
    return entries()[name]


def present(name: str) -> Path | None:
    """Return the folder of a data set on this machine, or None."""
    facts = entry(name)
    for place in facts.get("places", []):
        folder = data_folder() / place
        if holds(folder, facts):
            return folder
    return None


def holds(folder: Path, facts: dict) -> bool:
    """Tell whether a folder holds what a data set is known by."""
    return any(any(folder.glob(marker)) for marker in facts["markers"])


def find(name: str) -> Path:
    """Return the folder of a data set on this machine.

    Raises
    ------
    CourseError
        If there is no such set, it is drawn rather than stored, or it is not here; then how
        to get it.
    """
    if "places" not in entry(name):
        raise CourseError(f"{name} lies nowhere: it is drawn when it is loaded.")
    folder = present(name)
    if folder is None:
        raise CourseError(
            f"{name} is not in {data_folder()}. {how_to_get(name)}, or set COURSE_DATA to the "
            "folder that holds it."
        )
    return folder


def how_to_get(name: str) -> str:
    """Return what to do to have a stored set, without a full stop."""
    facts = entry(name)
    if "files" in facts:
        return f"Run `course data fetch {name}`"
    target = data_folder() / facts["places"][0]
    return f"{facts['how']}, so that {target} holds {facts['layout']}"


def terms(name: str) -> str:
    """Return the licence of a set and what to cite, as lines."""
    facts = entry(name)
    return f"{name}: {facts['title']}\n  licence: {facts['licence']}\n  cite: {facts['citation']}"


def show_terms(name: str) -> None:
    """Print the licence and what to cite, the first time that a process uses a stored set."""
    if name not in _shown and "places" in entry(name):
        _shown.add(name)
        print(terms(name))


def print_catalogue() -> None:
    """Print each data set with its licence and whether it is on this machine."""
    print(f"Data folder: {data_folder()}  (set COURSE_DATA to use another)\n")
    for name, facts in entries().items():
        if "places" not in facts:
            where = "always here: drawn from a seed"
        elif folder := present(name):
            where = f"here: {folder}"
        elif "files" in facts:
            where = f"not here: course data fetch {name}"
        else:
            where = f"not here: {how_to_get(name)}"
        print(f"{name}: {facts['title']}")
        print(f"    {len(facts['classes'])} classes, void {facts['void']}")
        print(f"    licence: {facts['licence']}")
        print(f"    {where}")
