"""A copy of the course, opened with ``course lab`` as a student does, and a real Chromium."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
]


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab: its address, its token, the folder that it serves."""

    url: str
    token: str
    root: Path

    def address(self, path: str = "") -> str:
        return f"{self.url}{path}?token={self.token}"


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


def code_notebook(*cells: str) -> dict:
    """Return a notebook with these code cells."""
    return {
        "cells": [
            {
                "cell_type": "code",
                "id": f"cell-{number}",
                "metadata": {},
                "source": source,
                "outputs": [],
                "execution_count": None,
            }
            for number, source in enumerate(cells)
        ],
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


@pytest.fixture(scope="session")
def chromium(processes):
    """Return the path of an installed Chromium or Chrome; skip without one."""
    pytest.importorskip("playwright.sync_api")
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    pytest.skip("there is no Chromium here: sudo apt install chromium")


@pytest.fixture(scope="session")
def lab(chromium, tmp_path_factory):
    """Start ``course lab`` in a copy of the lessons, with nobody's own Jupyter settings."""
    yield from started_lab(tmp_path_factory)


@pytest.fixture
def instructors_lab(chromium, tmp_path_factory):
    """Start ``course lab --instructor`` in a copy of the lessons; to be named before ``page``."""
    yield from started_lab(tmp_path_factory, "--instructor")


def choose_theme(lab, name):
    settings = json.dumps({"raw": json.dumps({"theme": f"JupyterLab {name.title()}"})}).encode()
    request = urllib.request.Request(
        lab.address("lab/api/settings/@jupyterlab/apputils-extension:themes"),
        data=settings,
        method="PUT",
    )
    urllib.request.urlopen(request, timeout=20).close()


@pytest.fixture
def theme(request, lab):
    """Choose JupyterLab's theme, named by the test's parameter, until the test ends."""
    choose_theme(lab, request.param)
    yield request.param
    choose_theme(lab, "light")


def started_lab(tmp_path_factory, *more: str):
    """Yield a running ``course lab`` with more options, and end it."""
    root = tmp_path_factory.mktemp("course")
    for name in ("lessons", "docs"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("environment.yml", "nbgrader_config.py"):
        shutil.copy(ROOT / name, root)
    home = tmp_path_factory.mktemp("home")
    environment = {name: value for name, value in os.environ.items() if "JUPYTER" not in name}
    # A grader's or another test's variables must not make the figures static.
    for name in ("NBGRADER_EXECUTION", "COURSE_STATIC", "COURSE_PROFILE", "MPLBACKEND"):
        environment.pop(name, None)
    # Cells out of sight would otherwise not be in the page, and no test could look at them.
    settings = home / "settings" / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"}}')
    environment |= {
        "HOME": str(home),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_CONFIG_PATH": str(settings.parent.parent),
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [*more, "--no-browser", "--ip=127.0.0.1", f"--port={port}"]
    log = home / "jupyterlab.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "course_utils.cli", "lab", *options],
            cwd=root / "lessons",  # as from any folder inside the course
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield wait_for_server(server, home / "runtime", root, log)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def wait_for_server(server, runtime: Path, root: Path, log: Path) -> Lab:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        for file in runtime.glob("jpserver-*.json"):
            try:
                facts = json.loads(file.read_text())
                socket.create_connection(("127.0.0.1", facts["port"]), timeout=1).close()
            except (ValueError, OSError):  # half-written, or not listening yet
                continue
            return Lab(facts["url"], facts["token"], root)
        time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()}")


@pytest.fixture
def page(chromium, tmp_path):
    """Return a page of a fresh browser; the test fails if it logs an error."""
    from playwright.sync_api import sync_playwright

    errors = []
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "browser",
            executable_path=chromium,
            args=FLAGS,
            viewport={"width": 1280, "height": 900},
        )
        page = context.pages[0]
        page.set_default_timeout(120_000)  # on an overloaded machine JupyterLab takes a minute
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console",
            lambda message: (
                errors.append(message.text)
                # JupyterLab asks for a cell's own picture by its name before it puts it in.
                if message.type == "error" and "ERR_UNKNOWN_URL_SCHEME" not in message.text
                else None
            ),
        )
        yield page
        if folder := os.environ.get("COURSE_SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{tmp_path.name}.png")
        context.close()
    assert errors == []
