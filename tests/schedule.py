"""The order of the tests, and which of them one worker runs.

Tests that take one fixture of a module or of the session go to one worker, so that it is made
once. What takes minutes begins first, so that all workers end together; what is measured by a
clock comes last. The demo waits for lessons that are being solved: others go before it until then.

pytest-xdist's own ``--dist loadgroup`` writes groups into the tests' names, which pytest 9 does
not let it do. So here the first worker writes units of work into a file, which the scheduler reads.
"""

import json
import tempfile
from functools import cached_property
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
        if takes(item, "processes"):
            item.add_marker(pytest.mark.process)
    items.sort(key=turn)
    worker = getattr(config, "workerinput", {})
    if worker.get("workerid") == "gw0" and "units" in worker:
        units = {item.nodeid: shared_place(item) or item.nodeid for item in items}
        demo = {units[item.nodeid] for item in items if takes(item, "demo_run")}
        solving = {units[item.nodeid] for item in items if takes(item, "solved")} - demo
        told = {"units": units, "demo": [*demo], "solving": [*solving]}
        Path(worker["units"]).write_text(json.dumps(told))


def takes(item, fixture: str) -> bool:
    """Tell whether a test takes a fixture, by another one perhaps."""
    return fixture in getattr(item, "fixturenames", ())


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
    slow = item.get_closest_marker("slow")
    if takes(item, "alone"):
        return 4
    if takes(item, "solved"):
        return 0
    if takes(item, "course") and slow:
        return 1
    return 2 if slow or shared_place(item) else 3


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput["units"] = str(_units_file(node.config))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class SharedFixtures(LoadScopeScheduling):
        @cached_property
        def told(self) -> dict:  # all workers have collected when it is asked for
            return json.loads(_units_file(config).read_text())

        def _split_scope(self, nodeid: str) -> str:
            return self.told["units"][nodeid]

        def _assign_work_unit(self, node) -> None:
            demo = [unit for unit in self.told["demo"] if unit in self.workqueue]
            kept = {}
            if len(demo) < len(self.workqueue) and self._is_solving(node):
                kept = {unit: self.workqueue.pop(unit) for unit in demo}
            super()._assign_work_unit(node)
            for unit, tests in kept.items():
                self.workqueue[unit] = tests
                self.workqueue.move_to_end(unit, last=False)

        def _is_solving(self, node) -> bool:
            """Tell whether a lesson is yet to be solved, or by another worker than this."""
            works = [work for other, work in self.assigned_work.items() if other is not node]
            return any(
                unit in self.workqueue or not all(work.get(unit, {}).values())
                for unit in self.told["solving"]
                for work in works
            )

    return SharedFixtures(config, log)


_FILE = pytest.StashKey[Path]()


def _units_file(config) -> Path:
    if _FILE not in config.stash:
        folder = tempfile.TemporaryDirectory(prefix="course-tests-")
        config.add_cleanup(folder.cleanup)
        config.stash[_FILE] = Path(folder.name) / "units.json"
    return config.stash[_FILE]
