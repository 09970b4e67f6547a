"""What several test modules share: one run of the demo; the same examples in every run."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
# A busy machine is no failure, and neither is chance.
settings.register_profile(
    "course", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("course")


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory):
    """Run the demo once a session, which solves lessons 00 and 06, too.

    ``place`` is its folder; ``solved`` holds results by lesson, ``marked`` hand-ins by
    student and lesson.
    """
    from course_utils.grading.demo import demo

    root = tmp_path_factory.mktemp("instructor")
    shutil.copytree(ROOT / "solutions", root / "solutions")
    shutil.copy(ROOT / "environment.yml", root)
    with pytest.MonkeyPatch.context() as environment:  # the demo sets it for its processes
        environment.setenv("COURSE_DATA", str(root / "data" / "cache"))
        solved, marked = demo(root)
    assert not (root / "grading").exists(), "the demo must not touch an instructor's grading/"
    return SimpleNamespace(
        place=root / "build" / "demo",
        solved={one.lesson: one for one in solved},
        marked={(one.student, one.lesson): one for one in marked},
    )
