"""A program for the tests of forked processes: it runs the source that it is given, as -c does."""

import contextlib
import sys
import tempfile
from pathlib import Path

from course_utils.grading.marking import forked, launcher, warm

COMMAND = [sys.executable, "-I", "-c"]
PLACE = "TESTS_FORK_SERVER"
_ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run the source in the first argument."""
    source = sys.argv.pop(1)
    exec(source, {"__name__": "__main__"})


@contextlib.contextmanager
def begun(imports: str = "", environment: dict | None = None):
    """Give a server of this program, after it has imported more."""
    with tempfile.TemporaryDirectory(prefix="w-", dir="/tmp") as name:
        folder = Path(name)
        (folder / forked.PROBE).touch(mode=0o600)
        imports = f"import sys\nsys.path.append({str(_ROOT)!r})\n{imports}"
        own = launcher.minimal_environment(name) | (environment or {})
        server = warm.Server(folder, __name__, imports, own)
        try:
            yield server
        finally:
            server.close()


def known(monkeypatch, server) -> None:
    """Have what starts with `COMMAND` forked by a server of this program."""
    monkeypatch.setitem(forked._COMMANDS, __name__, COMMAND)
    monkeypatch.setitem(forked.PLACES, __name__, PLACE)
    monkeypatch.setenv(PLACE, str(server.path))
