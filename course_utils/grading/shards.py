"""A class dealt out to the tasks of a job array: who marks what, and what came of it.

``course grade --shard 3/16`` marks the third of sixteen equal shares. It needs the course's folder
on a disk that all machines see, writes each result into ``grading/results`` in one step, as a local
run does, and never opens the gradebook. ``course grade --merge`` is the one writer: it looks at
what is there, puts it in place, and tells what is missing and which shards have not ended.

A shard notes in ``grading/shards`` that it has begun and what came of it. These notes are only
told: what is done is known from the results alone. So a shard may run twice, on two machines at
once, or be one of another number; and a note that is lost costs nothing.
"""

import contextlib
import json
import re
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from course_utils.errors import CourseError
from course_utils.files import write_atomic
from course_utils.grading.results import Unsound, read_file
from course_utils.table import printable, shortened

_MOST = 10_000
_MAX_NOTE = 4 << 20


@dataclass(frozen=True)
class Shard:
    """One share of a class: ``number`` ``of`` so many, counted from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Return the shard that a text such as ``3/16`` names.

        >>> Shard.parse("3/16")
        Shard(number=3, of=16)
        """
        found = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text.strip())
        shard = cls(*map(int, found.groups())) if found else cls(0, 0)
        if not 1 <= shard.number <= shard.of <= _MOST:
            raise CourseError(
                f"--shard {printable(text, 40)!r} names no share. Give its number, from 1, and how "
                "many there are: --shard 3/16."
            )
        return shard

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def file_name(self) -> str:
        """The name without signs that a file's cannot have."""
        return f"{self.number}-of-{self.of}"

    def share(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return this shard's of all ``(student, lesson)``: of each lesson as many as the others.

        >>> Shard(2, 2).share([("ada", "01"), ("ada", "06"), ("bob", "01"), ("bob", "06")])
        [('bob', '01'), ('bob', '06')]
        """
        in_turn = sorted(pairs, key=lambda pair: (pair[1], pair[0]))
        return sorted(in_turn[self.number - 1 :: self.of])


def shards_folder(root: Path) -> Path:
    """Return where shards leave their notes and what they are about to write; made on first use."""
    folder = root / "grading" / "shards"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def note(
    root: Path, shard: Shard, hand_ins: int, failures: dict[tuple[str, str], str] | None = None
) -> Path:
    """Note that a shard has begun, or, with what has failed, that it has ended."""
    told = {
        "shard": str(shard),
        "hand_ins": hand_ins,
        "ended": failures is not None,
        "failures": {"/".join(pair): why for pair, why in (failures or {}).items()},
        "machine": socket.gethostname(),
        "time": f"{datetime.now():%Y-%m-%d %H:%M:%S}",
    }
    path = shards_folder(root) / f"{shard.file_name}.json"
    write_atomic(path, json.dumps(told, indent=1))
    return path


@dataclass(frozen=True)
class Progress:
    """How far the shards of one array are, by their notes.

    Attributes
    ----------
    of
        How many there are.
    begun
        Those that have not ended, with machine and time of their beginning.
    absent
        Those that have left no note.
    failures
        Why hand-ins could not be marked, as ``student/lesson``.
    """

    of: int
    begun: dict[int, str]
    absent: list[int]
    failures: dict[str, str]

    @property
    def not_ended(self) -> list[int]:
        """The numbers of the shards to run again, if they do not run still."""
        return sorted([*self.begun, *self.absent])

    def __str__(self) -> str:
        if not self.not_ended:
            return f"All {self.of} shards have ended"
        told = [f"{n}/{self.of} ({where})" for n, where in sorted(self.begun.items())]
        told = [f"not ended: shard {shortened(told, 4)}"] if told else []
        if self.absent:
            names = shortened([f"{number}/{self.of}" for number in self.absent], 4)
            told.append(f"not begun: shard {names}")
        return "; ".join(told)


def progress(root: Path) -> Progress | None:
    """Return how far the array that has begun last is; None if no shard has left a note."""
    notes = {}
    for path in (root / "grading" / "shards").glob("*-of-*.json"):
        if (told := _read_note(path)) is not None:
            notes[Shard.parse(told["shard"])] = told
    if not notes:
        return None
    of = max(notes, key=lambda shard: notes[shard]["time"]).of
    notes = {shard.number: told for shard, told in notes.items() if shard.of == of}
    return Progress(
        of=of,
        begun={
            number: printable(f"{told['machine']}, {told['time']}", 120)
            for number, told in notes.items()
            if not told["ended"]
        },
        absent=[number for number in range(1, of + 1) if number not in notes],
        failures={k: v for told in notes.values() for k, v in told["failures"].items()},
    )


def _read_note(path: Path) -> dict | None:
    """Return a note; None of one that is damaged, as if its shard had not begun."""
    try:
        told = json.loads(read_file(path, _MAX_NOTE))
        texts = [*told["failures"].values(), told["machine"], told["time"], told["shard"]]
        sound = all(isinstance(text, str) for text in texts) and isinstance(told["ended"], bool)
        return told if sound and Shard.parse(told["shard"]).file_name == path.stem else None
    except (Unsound, CourseError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def forget(root: Path) -> None:
    """Remove the notes of an array all of whose results are in place."""
    for path in (root / "grading" / "shards").glob("[!.]*-of-*.*"):
        path.unlink(missing_ok=True)


def missing(pairs: list[tuple[str, str]], found: Progress | None) -> dict[tuple[str, str], str]:
    """Return why hand-ins have no result yet."""
    if found is None:
        return dict.fromkeys(pairs, "no shard has begun: run `course grade --shard` first")
    if found.not_ended:
        general = str(found)
    else:
        general = "no shard has marked it: it came, or a setting changed, after they had begun"
    own = {pair: found.failures.get("/".join(pair)) for pair in pairs}
    return {pair: printable(why, 4000) if why else general for pair, why in own.items()}


@contextlib.contextmanager
def stopped_by_the_system() -> Iterator[None]:
    """Stop as at Ctrl-C when the batch system ends the job, so that nothing is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
