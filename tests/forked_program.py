"""A program for the tests of forked processes: it runs the source that it is given, as -c does."""

import sys

from course_utils.grading.marking import forked

COMMAND = [sys.executable, "-I", "-c"]


def main() -> None:
    source = sys.argv.pop(1)
    exec(source, {"__name__": "__main__"})


def known(monkeypatch, server) -> None:
    """Have what starts with `COMMAND` forked by a server of this program."""
    monkeypatch.setitem(forked._COMMANDS, __name__, COMMAND)
    monkeypatch.setitem(forked.PLACES, __name__, "TESTS_FORK_SERVER")
    monkeypatch.setenv("TESTS_FORK_SERVER", str(server.path))
