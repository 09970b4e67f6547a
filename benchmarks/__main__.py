"""``python -m benchmarks``, or ``make bench``: one table of all ratios, with their spread.

    python -m benchmarks [--rounds 5] [--only training]

Each line is the same work by the usual way and by the course's, measured in turns; the ratio is
the median over the rounds, with the lowest and the highest. On a busy machine believe none of it.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Annotated

import typer

from benchmarks.measuring import ROUNDS, hardware, table

PARTS = ("training", "busy_machine", "grading")


def main(
    rounds: Annotated[int, typer.Option(help="Measurements of each.")] = ROUNDS,
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(PARTS)}.")] = None,
) -> None:
    """Measure, and print the table."""
    print(hardware(), flush=True)
    found = []
    for part in only or PARTS:
        if find_spec(f"benchmarks.{part}") is None:
            print(f"benchmarks/{part}.py is not here", flush=True)
            continue
        found += import_module(f"benchmarks.{part}").rows(rounds)
    print(f"{rounds} rounds of each, in turns: medians; of the ratio, lowest and highest, too")
    print(table(found))


if __name__ == "__main__":
    typer.run(main)
