"""Tables and names in plain text, for terminals and logs."""

import re
from collections.abc import Sequence

_NUMBER = re.compile(r"[-+\d.,eE%]*[* ]?|nan|inf")


def printable(text: object, limit: int | None = None) -> str:
    r"""Return text of an untrusted hand that can stand in a line of a terminal or a report.

    >>> printable("\x1b[2Jall is\nwell")
    ' [2Jall is well'
    """
    return "".join(c if c.isprintable() else " " for c in str(text))[:limit]


def shortened(names: Sequence[str], most: int = 8) -> str:
    """Return names in one line, of a whole class only the first.

    >>> shortened(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def text_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows under headings, columns aligned: numbers to the right, words to the left.

    Names and reasons may be a student's: what is not printable cannot forge a line.

    >>> print(text_table(["lesson", "marks"], [["00_start", 2.5], ["06_unet", None]]))
    lesson    marks
    --------  -----
    00_start    2.5
    06_unet       -
    """
    cells = [[_text(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    columns = zip(*cells, strict=True) if cells else [()] * len(headings)
    numeric = [all(map(_NUMBER.fullmatch, column)) for column in columns]

    def line(values: Sequence[str]) -> str:
        parts = zip(values, widths, numeric, strict=True)
        return "  ".join(v.rjust(w) if right else v.ljust(w) for v, w, right in parts).rstrip()

    return "\n".join([line(headings), line(["-" * w for w in widths]), *map(line, cells)])


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else printable(value)
