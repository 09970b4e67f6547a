"""The order of the tests, and which of them one worker runs.

Tests that take one fixture of a module or of the session go to one worker, so that it is made
once. What takes minutes begins first, so that all workers end together; what is measured by a
clock comes last.

pytest-xdist's own ``--dist loadgroup`` writes groups into the tests' names, which pytest 9 does
not let it do. So here the first worker writes them into a file, which the scheduler reads.
"""

import json
import tempfile
from pathlib import Path

import pytest

NOT_SHARED = ("kept", "processes", "solved")
"""Fixtures of the session that cost nothing to make twice: what is solved lies in a folder."""
SETUP = "_xunit_setup_module"
"""How pytest calls a module's ``setup_module``, as a fixture: it imports, once in each worker."""


def pytest_configure(config):
    config.option.loadscopereorder = False  # the order counts, not the size of the groups


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    for item in items:
        if "processes" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.process)
    items.sort(key=turn)
    worker = getattr(config, "workerinput", {})
    if worker.get("workerid") == "gw0" and "groups" in worker:
        groups = {item.nodeid: group for item in items if (group := shared_place(item))}
        Path(worker["groups"]).write_text(json.dumps(groups))


def shared_place(item) -> str | None:
    """Return where the fixture is defined that a test shares with most others, if it has one."""
    places = {}
    for name in getattr(item, "fixturenames", ()):
        for fixture in item._fixtureinfo.name2fixturedefs.get(name, ()):
            ours = fixture.baseid.startswith("tests") and not name.startswith(SETUP)
            if ours and name not in NOT_SHARED:
                places[fixture.scope] = fixture.baseid
    return places.get("session") or places.get("module")


def turn(item) -> int:
    """Return when a test is due."""
    names = getattr(item, "fixturenames", ())
    slow = item.get_closest_marker("slow")
    if "alone" in names:
        return 4
    if "demo_run" in names:  # not at first: it would wait for the worker that solves its lessons
        return 2
    if "solved" in names:
        return 0
    if "course" in names and slow:
        return 1
    return 2 if slow or shared_place(item) else 3


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput["groups"] = str(_groups_file(node.config))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class SharedFixtures(LoadScopeScheduling):
        groups = None

        def _split_scope(self, nodeid: str) -> str:
            if self.groups is None:  # all workers have collected by now
                self.groups = json.loads(_groups_file(config).read_text())
            return self.groups.get(nodeid, nodeid)

    return SharedFixtures(config, log)


_FILE = pytest.StashKey[Path]()


def _groups_file(config) -> Path:
    if _FILE not in config.stash:
        folder = tempfile.TemporaryDirectory(prefix="course-tests-")
        config.add_cleanup(folder.cleanup)
        config.stash[_FILE] = Path(folder.name) / "groups.json"
    return config.stash[_FILE]
