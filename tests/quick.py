"""``pytest -p tests.quick``: the tests to run at each save. None starts a process or trains a net.

A test that does so fails here until it is marked, as does one that computes for seconds. So
no list has to be kept, and none can be out of date.
"""

import os
import platform
import subprocess
import time

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small nets are computed no faster by more
LEFT_OUT = ("slow", "long", "process", "browser")
SECONDS = 6
"""Processor time that a test may take: a mark is due from two seconds on a fast machine."""


def pytest_configure():
    platform.processor()  # asks a program, once


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    kept, left_out = [], []
    for item in items:
        marked = any(item.get_closest_marker(name) for name in LEFT_OUT)
        (left_out if marked else kept).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(autouse=True)
def nothing_long(monkeypatch):
    """Fail what starts a process, trains or exports a net, or computes for seconds."""
    from course_utils.hand_in import export
    from course_utils.training import fitting

    def refuse(mark, what):
        def fail(*_, **__):
            pytest.fail(f"{what} in a quick test: mark it with @pytest.mark.{mark}")

        return fail

    started = refuse("process", "a process is started")
    monkeypatch.setattr(subprocess.Popen, "__init__", started)
    for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp", "system"):
        if hasattr(os, name):
            monkeypatch.setattr(os, name, started)
    monkeypatch.setattr(fitting, "_train_epoch", refuse("long", "a net is trained"))
    monkeypatch.setattr(export, "_to_onnx", refuse("long", "a net is exported"))
    before = time.process_time()
    yield
    if time.process_time() - before > SECONDS:
        refuse("long", "a computation of seconds")()
