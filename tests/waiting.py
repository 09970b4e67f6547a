"""Waiting for what another process does."""

import time
from collections.abc import Callable
from pathlib import Path


def wait_until(true: Callable, seconds: float = 60, log: Path | None = None) -> None:
    """Ask ten times a second until it is true; after ``seconds`` the test fails with the log."""
    deadline = time.monotonic() + seconds
    while not true():
        told = log.read_text() if log else ""
        assert time.monotonic() < deadline, f"not true after {seconds} s. {told}"
        time.sleep(0.1)
