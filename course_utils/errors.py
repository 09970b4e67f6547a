"""The error that every part of the course raises for a person to read, and errors of others."""

import re


class CourseError(Exception):
    """Something that the reader can mend: one line with what was wrong and what to do.

    The command line prints it as ``error: ...`` and exits with 1. A notebook
    shows the line alone, without a traceback.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


def last_error(log: str) -> str:
    """Return the last line of a log that names an error, else its last line; "" for an empty log.

    Some libraries put advice of their own below the error.
    """
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt): ", line)]
    return next(reversed(named or lines), "")
