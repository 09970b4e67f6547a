"""What a student's file says that a cell has shown, made fit for a page: pictures and plain text.

Nothing of it runs: no HTML, no script, no other kind of picture.
"""

import base64
import binascii
import struct

_MOST_OUTPUTS, _MOST_TEXT, _MOST_SIDE = 12, 10_000, 6000
_MOST_BYTES = 2 << 20
"""Of one cell's pictures together."""
_PNG = b"\x89PNG\r\n\x1a\n"


def shown_outputs(outputs: object) -> list[dict]:
    """Return what of a cell's stored outputs may be shown: PNG pictures, and printed text.

    Parameters
    ----------
    outputs
        From a student's file; anything.

    Returns
    -------
    list of dict
        Outputs of nbformat 4. Pictures are encoded anew, of a size that a page can hold.
    """
    kept, room = [], _MOST_BYTES
    for out in outputs[:_MOST_OUTPUTS] if isinstance(outputs, list) else []:
        if not isinstance(out, dict):
            continue
        data = out.get("data")
        picture = _picture(data.get("image/png"), room) if isinstance(data, dict) else None
        only_text = isinstance(data, dict) and set(data) == {"text/plain"}
        if picture:
            room -= len(picture)
            facts = out.get("metadata")
            facts = facts.get("image/png") if isinstance(facts, dict) else None
            alt = facts.get("alt") if isinstance(facts, dict) else None
            metadata = {"image/png": {"alt": _text(alt)[:1000]}} if alt else {}
            data = {"image/png": picture}
            kept.append({"output_type": "display_data", "data": data, "metadata": metadata})
        elif only_text:
            text = _text(data["text/plain"])[:_MOST_TEXT] + "\n"
            kept.append({"output_type": "stream", "name": "stdout", "text": text})
        elif out.get("output_type") == "stream" and out.get("name") == "stdout":
            text = _text(out.get("text"))[:_MOST_TEXT]
            kept.append({"output_type": "stream", "name": "stdout", "text": text})
    return kept


def _picture(data: object, room: int) -> str | None:
    """Return a PNG in base64, or None if it is none or too large."""
    try:
        content = base64.b64decode("".join(_text(data).split()), validate=True)
        width, height = struct.unpack(">II", content[16:24])
    except (binascii.Error, ValueError, struct.error):
        return None
    sound = content.startswith(_PNG) and content[12:16] == b"IHDR"
    sound &= 0 < width <= _MOST_SIDE and 0 < height <= _MOST_SIDE and len(content) <= room
    return base64.b64encode(content).decode() if sound else None


def _text(value: object) -> str:
    """Return a string of a notebook, which may be in lines; what is no text is empty."""
    lines = value if isinstance(value, list) else [value]
    text = "".join(line for line in lines if isinstance(line, str))
    return text.encode(errors="replace").decode()
