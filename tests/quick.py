"""``pytest -p tests.quick``: the tests to run at each save, which train nothing for long.

None of them starts another process. A test that does fails here, until it is marked
``process``, ``slow`` or ``browser``; so no list of them has to be kept.
"""

import os
import subprocess

import pytest

LEFT_OUT = ("slow", "process", "browser")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    kept, left_out = [], []
    for item in items:
        long = any(item.get_closest_marker(name) for name in LEFT_OUT)
        (left_out if long else kept).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(autouse=True)
def no_process(monkeypatch):
    """Fail whatever starts a process."""

    def refuse(*arguments, **_):
        pytest.fail(f"starts a process, so it has to be marked: @pytest.mark.process ({arguments})")

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp", "system"):
        if hasattr(os, name):
            monkeypatch.setattr(os, name, refuse)
