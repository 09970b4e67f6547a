"""How a run of the grader marks: one object from the command to the scorer."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from course_utils.grading.workplace import marking_data, marking_profile, secret_seed

CELL_SECONDS = 240
"""How long one cell of a hand-in may run."""
NOTEBOOK_SECONDS = 900
"""How long a whole hand-in's notebook may run."""


@dataclass(frozen=True)
class Settings:
    """What holds for every hand-in of a run.

    Attributes
    ----------
    course
        The course's folder, with ``solutions/``, ``lessons/`` and ``grading/secret_seed``.
    data
        A folder of images/ and masks/ on which models of profile ``full`` are marked, if any.
    require_isolation
        Stop rather than run a notebook or a model without a sandbox.
    cell_seconds, notebook_seconds
        How long one cell, and all together, may run.
    profile
        The one under which models of the class are marked; None: the one that each states.
    """

    course: Path
    data: Path | None = None
    require_isolation: bool = False
    cell_seconds: int = CELL_SECONDS
    notebook_seconds: int = NOTEBOOK_SECONDS
    profile: str | None = None

    @classmethod
    def of_course(cls, course: Path) -> "Settings":
        """Return what holds where nothing is said: folder and profile that were named last."""
        return cls(course, marking_data(course), profile=marking_profile(course))

    @property
    def private_places(self) -> list[Path]:
        """What no student's notebook may read: answers, seed, hand-ins, hidden masks."""
        places = [self.course / "grading", self.course / "solutions"]
        return places if self.data is None else [*places, self.data]

    def as_json(self) -> dict:
        """Return plain JSON values, from which :meth:`from_json` makes the settings again."""
        values = asdict(self)
        return values | {"course": str(self.course), "data": self.data and str(self.data)}

    @classmethod
    def from_json(cls, values: dict) -> "Settings":
        """Return the settings that :meth:`as_json` has written."""
        data = values["data"] and Path(values["data"])
        return cls(**values | {"course": Path(values["course"]), "data": data})


def hidden_test_seed(root: Path, lesson: str, student: str) -> int:
    """Return what the hidden tests of one student's hand-in draw their input from.

    A student's code runs beside it and can read it, so it tells nothing of the secret seed, of
    another lesson's or of another student's.

    Parameters
    ----------
    root
        The course's folder, with ``grading/secret_seed``.
    lesson
        Full name.
    student
        As the hand-in's folder is named.

    Returns
    -------
    int
        64 bits; the same at every later call, so that a mark can be made again.
    """
    told = json.dumps(["hidden tests", secret_seed(root), lesson, student])
    return int.from_bytes(hashlib.sha256(told.encode()).digest()[:8], "big")
