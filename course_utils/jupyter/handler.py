"""The answer to the Validate button: a process runs the notebook, the server goes on answering."""

# Overridden methods say in their class's docstring what they do.
# ruff: noqa: D102

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jupyter_server.base.handlers import JupyterHandler
from tornado import web

from course_utils.jupyter.validate import NOTEBOOK_SECONDS

_SOME_MORE = 60
"""Seconds beyond those of the cells: to start, to load a large model, to end."""


class ValidateHandler(JupyterHandler):
    """Takes ``path``, below the server's ``root``; answers as nbgrader's lab extension wants it."""

    def initialize(self, root: str) -> None:
        self._root = Path(root).resolve()
        self._process: subprocess.Popen | None = None

    @web.authenticated
    async def post(self) -> None:
        path = self.get_argument("path", None) or (self.get_json_body() or {}).get("path", "")
        notebook = (self._root / path).resolve()
        if not notebook.is_relative_to(self._root):
            raise web.HTTPError(403, "this notebook is outside of the folder that is served")
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as log:
            # It ends when its input does: here, if nobody waits any more, or if this server ends.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "course_utils.jupyter.validate", str(notebook)],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=log,
            )
            deadline = time.monotonic() + NOTEBOOK_SECONDS + _SOME_MORE
            try:
                while self._process.poll() is None and time.monotonic() < deadline:
                    await asyncio.sleep(0.1)
            finally:
                self._end()
            said.seek(0)
            log.seek(0)
            answer = said.read() or _failure(log.read())
        self.finish(answer)

    def on_connection_close(self) -> None:
        self._end()  # nobody waits for it any more
        super().on_connection_close()

    def _end(self) -> None:
        if self._process is not None:
            self._process.stdin.close()


def _failure(log: bytes) -> bytes:
    lines = log.decode(errors="replace").strip().splitlines() or ["it took too long"]
    text = f"The notebook could not be validated: {lines[-1]}"
    return json.dumps({"success": False, "value": text}).encode()
