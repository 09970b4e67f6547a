"""What a job leaves of a hand-in, looked at before anything of it is believed.

A result can come from another machine, over a disk that was full or a network that broke. So sizes,
kinds of files, types and ranges are checked, and that it is the result that was asked for. Of what
passes only what the schema names is used; marks of tasks are worked out anew from the IoU.
"""

import hashlib
import json
import shutil
from functools import cache
from pathlib import Path

from course_utils.errors import CourseError
from course_utils.hand_in.tasks import PROFILES, get_task, task_names

MAX_RESULT, MAX_PAGE = 16 << 20, 256 << 20
"""Bytes that ``result.json``, and the notebook or the feedback page, may have."""


class Unsound(CourseError):
    """A result of which nothing is believed: it is made anew."""


def read_result(folder: Path) -> dict:
    """Return a job's result.

    Parameters
    ----------
    folder
        What the job has left: ``result.json``, the executed notebook, the feedback page.

    Raises
    ------
    Unsound
        If it is damaged, incomplete or too large, or holds what no job writes.
    """
    text = read_file(folder / "result.json", MAX_RESULT)
    try:
        result = _schema()(json.loads(text, parse_constant=_no_number))
    except (ValueError, RecursionError) as error:
        raise Unsound(f"its stored result was damaged ({error!s:.200})") from None
    lesson = result["lesson"]
    for entry in result["exercises"].values():
        if entry["score"] is not None and entry["score"] > entry["points"]:
            raise Unsound("its stored result was damaged (more points than there are)")
    known = {get_task(name, "quick").grade_id: name for name in task_names(lesson)}
    for grade_id, task in result["tasks"].items():
        if known.get(grade_id) != task["task"] or task["grade_id"] != grade_id:
            raise Unsound(f"its stored result was damaged ({lesson} has no task {task['task']})")
    for name, digest in result["files"].items():
        if hashlib.sha256(read_file(folder / name, MAX_PAGE)).hexdigest() != digest:
            raise Unsound(f"its stored result was damaged (not the {name} that was written)")
    if {f"{lesson}.ipynb", f"{lesson}.html"} - set(result["files"]):
        raise Unsound("its stored result was damaged (a file is missing)")
    return result


def read_file(path: Path, most: int) -> bytes:
    """Return the content of a plain file of at most so many bytes.

    Raises
    ------
    Unsound
        If it is missing, something else (a link could name any file), or larger.
    """
    if path.is_symlink() or not path.is_file():
        raise Unsound(f"its stored result was damaged (there is no file {path.name})")
    if path.stat().st_size > most:
        raise Unsound(f"its stored result was damaged ({path.name} has more than {most:,} bytes)")
    return path.read_bytes()


def remove(folder: Path) -> None:
    """Remove a result, so that the next run makes it anew."""
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


@cache
def _schema():
    """Return the function that checks a result's types and ranges."""
    import fastjsonschema

    return fastjsonschema.compile(RESULT)


def _or_none(kind: dict) -> dict:
    return {"anyOf": [{"type": "null"}, kind]}


def _text(longest: int = 10_000) -> dict:
    return {"type": "string", "maxLength": longest}


def _number(greatest: float = 1) -> dict:
    return {"type": "number", "minimum": 0, "maximum": greatest}


def _list(kind: dict, longest: int = 10_000) -> dict:
    return {"type": "array", "items": kind, "maxItems": longest}


def _table(kind: dict) -> dict:
    return {"type": "object", "additionalProperties": kind, "maxProperties": 1000}


def _record(needed: dict, also: dict | None = None) -> dict:
    return {
        "type": "object",
        "properties": needed | (also or {}),
        "required": [*needed],
        "additionalProperties": False,
    }


_POINTS = _number(10_000)
_TASK = _record(
    {
        **dict.fromkeys(("task", "grade_id", "reason", "source", "isolation"), _text()),
        **dict.fromkeys(("test_set", "sha256"), _text(100)),
        "profile": {"enum": [*PROFILES]},
        "kind": {"enum": ["model", "function"]},
        **dict.fromkeys(("marks", "points"), _POINTS),
        **dict.fromkeys(("floor", "low", "high"), _number()),
        "iou": _or_none(_number()),
        "interval": _or_none({**_list(_number(), 2), "minItems": 2}),
        "per_class": _table(_or_none(_number())),
        "images": _number(1e6),
    },
    {
        "measure": _text(100),
        "waits": {"type": "boolean"},
        "seconds": _number(1e6),
        "samples": _or_none(
            _record(
                {
                    "png": _text(1 << 20) | {"pattern": "^[A-Za-z0-9+/=]*$"},
                    "iou": _list(_number(), 10),
                }
            )
        ),
    },
)
RESULT = _record(
    {
        **dict.fromkeys(("student", "lesson", "isolation"), _text(1000)),
        "exercises": _table(
            _record({"score": _or_none(_POINTS), "points": _POINTS, "reason": _or_none(_text())})
        ),
        "tasks": _table(_TASK),
        "comments": _table(_or_none(_text(1 << 20))),
        "comment_places": _table(_text(1000)),
        "stopped": _or_none(_text()),
        "tampered": _list(_text(1000)),
        "problem": _or_none(_text()),
        "hand_in_hash": _or_none(_text(100)),
        "order": _list(_or_none(_text(1000))),
        "files": _table(_text(100)),
    },
    {"seconds": _number(1e6)},
)
"""The JSON schema of ``result.json``."""
