"""What the tests share: the runs that take minutes, the order of the tests, the same examples.

With several workers (``pytest -n 2``) each keeps to its share of the processors. Tests that take
one fixture of a module or of the session go to one worker, so that it is made once.
"""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings

from course_utils.machine import processors
from tests.kept_runs import KeptRuns

# A busy machine is no failure, and neither is chance.
settings.register_profile(
    "course", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("course")

if WORKERS := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    # Before torch and OpenBLAS are imported, and for all processes that the tests start.
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ.setdefault(f"{library}_NUM_THREADS", str(max(1, processors() // WORKERS)))


def pytest_configure(config):
    config.option.loadscopereorder = False  # the order below counts, not the size of the groups


def pytest_collection_modifyitems(items):
    """Send what shares a fixture to one worker; begin with the longest, end with what is timed."""
    for item in items:
        if "processes" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.process)
        if place := place_of_shared_fixtures(item):
            item.add_marker(pytest.mark.xdist_group(place))
    items.sort(key=turn)


def place_of_shared_fixtures(item) -> str | None:
    """Return where the fixture is defined that a test shares with most others, if it has one."""
    places = {}
    for name in getattr(item, "fixturenames", ()):
        for fixture in item._fixtureinfo.name2fixturedefs.get(name, ()):
            if fixture.baseid.startswith("tests") and name not in ("kept", "processes"):
                places[fixture.scope] = fixture.baseid
    return places.get("session") or places.get("module")


def turn(item) -> int:
    """Return when a test is due: what takes minutes first, so that all workers end together."""
    names = getattr(item, "fixturenames", ())
    if "alone" in names:
        return 4
    for number, fixture in enumerate(("solved", "course")):
        if fixture in names:
            return number
    return 2 if item.get_closest_marker("slow") or item.get_closest_marker("xdist_group") else 3


@pytest.fixture(scope="session")
def processes():
    """To be taken by fixtures that start a process: it marks their tests ``process``."""


@pytest.fixture(scope="session")
def kept(request, tmp_path_factory, processes) -> KeptRuns:
    """Return what runs notebooks and the demo, each once."""
    if cache := getattr(request.config, "cache", None):
        return KeptRuns(Path(cache.mkdir("runs")))
    base = tmp_path_factory.getbasetemp()  # with several workers it is a folder in the common one
    return KeptRuns((base.parent if WORKERS else base) / "runs")


@pytest.fixture
def alone(kept):
    """Wait until no model is trained and no class is graded: for what is measured by a clock."""
    with kept.alone():
        yield


@pytest.fixture(scope="session")
def solved(kept):
    """Return a function that runs a lesson's solution: its result, and the folder that is left."""
    return kept.solved


@pytest.fixture(scope="session")
def demo_run(kept, solved):
    """Run the demo once, with the lessons as ``solved`` has left them.

    ``place`` is its folder; ``marked`` holds hand-ins by student and lesson.
    """
    from course_utils.grading.gradebook import class_marks

    place = kept.demo()
    marked = {(one.student, one.lesson): one for one in class_marks(place)}
    return SimpleNamespace(place=place, marked=marked)
