"""What a kernel tells of a cell, taken down as it arrives: plain, and within a limit.

nbclient goes by a cell's last state, keeps whatever it is sent, and trusts the kernel with
places in its lists. A hand-in's kernel may send anything, and honest code clears and updates what
it has shown. So an error or a value counts as soon as it has come; clearing takes away what
is shown alone; widgets, which no page of the grader shows, are left out.
"""

from nbformat import NotebookNode

CELL_ROOM, NOTEBOOK_ROOM = 2_000_000, 50_000_000
"""Characters that are kept of what one cell, and all together, give."""
_OUTPUTS = 1000
"""Streams, pictures and the like that are kept of one cell."""
_ERROR, _TRACEBACK, _VALUE, _NAME = 10_000, 40_000, 10_000, 200
_TOO_LONG = "(too long)"


class Outputs:
    """The outputs of one cell.

    Attributes
    ----------
    guard
        Lines that hold the token: the guard's words, which are no part of what is shown.
    size
        Characters kept.
    """

    def __init__(self, token: str | None = None, room: int = CELL_ROOM):
        self._token = token
        self._room = max(0, min(room, CELL_ROOM))
        self._kept: list[NotebookNode] = []
        self._displays: dict[str, NotebookNode] = {}
        self._clear_next = False
        self._values = 0
        self.guard: list[str] = []
        self.size = 0

    def take(self, message: dict) -> None:
        """Take down one message from the kernel, whatever it holds."""
        content = message.get("content")
        kind = message.get("msg_type")
        if not isinstance(content, dict):
            return
        if kind == "clear_output":
            self._clear_next = bool(content.get("wait"))
            if not self._clear_next:
                self._clear()
        elif kind == "stream":
            self._stream(content)
        elif kind in ("display_data", "update_display_data", "execute_result"):
            self._data(kind, content)
        elif kind == "error":
            self._add(_error(content))

    def finish(self, reply: dict | None) -> list[NotebookNode]:
        """Return the outputs; of errors only the one that ended the cell, by the kernel's reply.

        A traceback that a cell has only shown is text. Without a reply every error counts.
        """
        if reply is None:
            return self._kept
        failed = reply.get("status") == "error"
        last = [out for out in self._kept if out.output_type == "error"][-1:]
        if failed and (not last or last[0].ename != _text(reply.get("ename"), _NAME)):
            last = [_error(reply)]
            self._kept += last
        return [
            out
            if out.output_type != "error" or (failed and out is last[0])
            else _output("stream", name="stderr", text="\n".join(out.traceback) + "\n")
            for out in self._kept
        ]

    @property
    def text(self) -> str:
        """What errors and streams have said, to look for what the machine is to blame for."""
        said = [
            out.evalue if out.output_type == "error" else out.get("text", "") for out in self._kept
        ]
        return "\n".join(said)

    def _stream(self, content: dict) -> None:
        text = _text(content.get("text"), CELL_ROOM)
        if self._token and self._token in text:
            lines = text.splitlines(True)
            told = [line.rstrip("\n")[:500] for line in lines if self._token in line]
            self.guard += told[: max(0, _OUTPUTS - len(self.guard))]
            text = "".join(line for line in lines if self._token not in line)
            if not text:
                return
        name = "stderr" if content.get("name") == "stderr" else "stdout"
        self._clear_if_due()
        text = text[: max(0, self._room - self.size)]
        last = self._kept[-1] if self._kept else {}
        if text and last.get("output_type") == "stream" and last["name"] == name:
            last["text"] += text
            self.size += len(text)
        elif text:
            self._add(_output("stream", name=name, text=text))

    def _data(self, kind: str, content: dict) -> None:
        transient = content.get("transient")
        shown = transient.get("display_id") if isinstance(transient, dict) else None
        data, metadata = plain_data(content.get("data"), content.get("metadata"))
        value = data.get("text/plain", "")
        short = {"text/plain": value if len(value) <= _VALUE else _TOO_LONG}
        if kind == "execute_result":  # it decides about points: it is cut, and never dropped
            data |= short
        if self.size + _length(data) > self._room:
            data = short if kind == "execute_result" else {"text/plain": _TOO_LONG}
        if kind == "update_display_data":
            if isinstance(shown, str) and (out := self._displays.get(shown)):
                self.size += _length(data) - _length(out.data)
                out.data, out.metadata = NotebookNode(data), NotebookNode(metadata)
            return
        self._clear_if_due()
        more = {"execution_count": None} if kind == "execute_result" else {}
        out = _output(kind, data=NotebookNode(data), metadata=NotebookNode(metadata), **more)
        if isinstance(shown, str) and kind == "display_data":
            self._displays[shown] = out
        self._add(out)

    def _add(self, out: NotebookNode) -> None:
        value = out.output_type == "execute_result"
        if len(self._kept) < _OUTPUTS or (value and self._values < 2):
            self._values += value
            self._kept.append(out)
            self.size += _length(out.get("data", {})) + len(out.get("text", ""))
            self.size += len(out.get("evalue", ""))

    def _clear_if_due(self) -> None:
        if self._clear_next:
            self._clear_next = False
            self._clear()

    def _clear(self) -> None:
        self._kept = [o for o in self._kept if o.output_type in ("error", "execute_result")]
        self._displays.clear()


def plain_data(data: object, metadata: object) -> tuple[dict[str, str], dict[str, dict]]:
    """Return of an output's data text and pictures, and what these show and how large.

    The feedback and nbgrader's formgrader show them as they are, and formgrader does so inside
    the instructor's Jupyter, where a student's script could open a terminal.
    """
    data = data if isinstance(data, dict) else {}
    metadata = metadata if isinstance(metadata, dict) else {}
    pictures = [kind for kind in ("image/png", "image/jpeg") if isinstance(data.get(kind), str)]
    kept = {"text/plain": _text(data["text/plain"], CELL_ROOM)} if "text/plain" in data else {}
    kept |= {kind: data[kind] for kind in pictures}
    told = {kind: _picture_facts(metadata.get(kind)) for kind in pictures}
    return kept, {kind: facts for kind, facts in told.items() if facts}


def _picture_facts(told: object) -> dict:
    """Return a picture's text and size; nbconvert writes a size as it is, even ``1 onload=...``."""
    if not isinstance(told, dict):
        return {}
    sizes = {key: told[key] for key in ("width", "height") if isinstance(told.get(key), int)}
    return sizes | ({"alt": _text(told["alt"], 1000)} if "alt" in told else {})


def _error(content: dict) -> NotebookNode:
    lines = content.get("traceback")
    text = "\n".join(_text(line, _TRACEBACK) for line in lines) if isinstance(lines, list) else ""
    return _output(
        "error",
        ename=_text(content.get("ename"), _NAME),
        evalue=_text(content.get("evalue"), _ERROR),
        traceback=text[:_TRACEBACK].splitlines() or ["(without a traceback)"],
    )


def _output(kind: str, **content) -> NotebookNode:
    """Return an output, unchecked: nbformat's own function takes a millisecond for each."""
    return NotebookNode(output_type=kind, **content)


def _text(value: object, limit: int) -> str:
    if isinstance(value, list):
        value = "".join(part for part in value if isinstance(part, str))
    return (value if isinstance(value, str) else str(value))[:limit]


def _length(data: dict) -> int:
    return sum(map(len, data.values()))
