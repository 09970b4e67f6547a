"""``python -m benchmarks``, or ``make bench``: one table of all ratios, with their spread.

    python -m benchmarks [--rounds 5] [--only training]

Each line is the same work by the usual way and by the course's, measured in turns; the ratio is
the median over the rounds, with the lowest and the highest. On a busy machine believe none of it.
"""

from importlib.util import find_spec
from typing import Annotated

import typer

from benchmarks.measuring import ROUNDS, Row, hardware, table
from course_utils.machine import processors

STUDENTS = 4


def training(rounds: int) -> list[Row]:
    """A training step with its data, and the time to the first one."""
    from benchmarks.training import rows

    return rows(rounds)


def busy_machine(rounds: int) -> list[Row]:
    """Training and scoring where another program has one of the cores."""
    from benchmarks.busy_machine import rows

    return rows(rounds)


def grading(rounds: int) -> list[Row]:
    """A few hand-ins: beside nbgrader, and beside processes that are started anew."""
    if find_spec("benchmarks.grading") is None:
        print("benchmarks/grading.py is not here", flush=True)
        return []
    from benchmarks.grading import FASTAI, measure

    found = []
    for lesson, way in ((FASTAI, "nbgrader"), ("06_unet_from_scratch", "anew")):
        taken = {
            name: [one["seconds"] / STUDENTS for one in times]
            for name, times in measure(lesson, STUDENTS, rounds, processors()).items()
        }
        what = f"a hand-in of {lesson}, of {STUDENTS}"
        found.append(Row(what, way, "course grade", taken[way], taken["forked"]))
    return found


PARTS = {part.__name__: part for part in (training, busy_machine, grading)}


def main(
    rounds: Annotated[int, typer.Option(help="Measurements of each.")] = ROUNDS,
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(PARTS)}.")] = None,
) -> None:
    """Measure, and print the table."""
    print(hardware(), flush=True)
    found = [row for name in only or PARTS for row in PARTS[name](rounds)]
    print(f"{rounds} rounds of each, in turns: medians; of the ratio, lowest and highest, too")
    print(table(found))


if __name__ == "__main__":
    typer.run(main)
