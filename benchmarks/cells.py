"""Where the time of a lesson goes, cell by cell, from what ``course solve --keep`` has left.

    course solve --keep kept
    python -m benchmarks.cells kept [--record]

Prints a table: of each lesson the seconds of all its cells, and its slowest three. ``--record``
writes the seconds that the bar of ``course solve`` reckons with: do that on a quiet machine.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.measuring import hardware
from course_utils.files import write_atomic
from course_utils.grading.publishing.time_left import RECORD

SLOWEST = 3
WORTH_KEEPING = 0.3
"""Seconds; what takes less the bar need not know."""


def seconds_of(cell: dict) -> float:
    """Return how long a cell ran, from the times that its execution has left; 0 if it did not."""
    times = cell["metadata"].get("execution", {})
    if not {"iopub.status.busy", "shell.execute_reply"} <= times.keys():
        return 0.0
    begun, ended = times["iopub.status.busy"], times["shell.execute_reply"]
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds()


def measured(folder: Path) -> dict[str, dict[str, float]]:
    """Return seconds by lesson and by cell id, of the lessons in a folder that have run."""
    found = {}
    for path in sorted(folder.glob("*/*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        taken = {cell["id"]: seconds_of(cell) for cell in cells if cell["cell_type"] == "code"}
        if path.stem == path.parent.name and any(taken.values()):
            found[path.stem] = taken
    return found


def recorded(taken: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return the record with these lessons' seconds in the place of older ones."""
    found = json.loads(RECORD.read_text(encoding="utf-8"))
    for lesson, cells in taken.items():
        slow = {cell: round(s, 1) for cell, s in cells.items() if s >= WORTH_KEEPING}
        found[lesson] = slow or {max(cells, key=cells.get): round(max(cells.values()), 2)}
    return dict(sorted(found.items()))


def main(
    folder: Annotated[Path, typer.Argument(help="What `course solve --keep` was given.")],
    record: Annotated[bool, typer.Option(help="Write the bar's record, too.")] = False,
) -> None:
    """Print the seconds by lesson and by cell."""
    taken = measured(folder)
    if not taken:
        raise SystemExit(f"{folder} holds no lesson that has run: course solve --keep {folder}")
    print(hardware())
    print("| lesson | cells, s | the slowest three, s |\n|---|---|---|")
    for lesson, cells in taken.items():
        slowest = sorted(cells, key=cells.get, reverse=True)[:SLOWEST]
        told = ", ".join(f"{cell} {cells[cell]:.1f}" for cell in slowest)
        print(f"| {lesson} | {sum(cells.values()):.0f} | {told} |")
    if record:
        write_atomic(RECORD, json.dumps(recorded(taken), indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
