"""The error that every part of the course raises for a person to read."""


class CourseError(Exception):
    """Something that the reader can mend: one line with what was wrong and what to do.

    The command line prints it as ``error: ...`` and exits with 1. A notebook
    shows the line alone, without a traceback.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]
