"""A notebook as it was run, or cells of it run here: what they compute, print and show."""

import re
from types import SimpleNamespace

import nbformat

from course_utils import display, widgets

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63f8ffff3f0005fe02fe0def46b80000000049454e44ae426082"
)
"""A white pixel, as PNG."""


def without_pictures(patch):
    """Have cells that run here make their figures in the static form, but not render them.

    Most of a lesson's time is rendering, and its pictures are those of the executed notebook.
    """
    patch.setenv("COURSE_STATIC", "1")
    for module in (display, widgets):
        patch.setattr(module, "to_png", lambda figure: PIXEL)


def executed(done, lesson):
    """Return what ``solved`` gives of a lesson as ``result``, and ``texts`` by cell id."""
    cells = nbformat.read(done.folder / f"{lesson}.ipynb", as_version=4).cells
    return SimpleNamespace(result=done.result, texts={cell["id"]: shown(cell) for cell in cells})


def shown(cell):
    """Return a cell's printed text and the texts that stand for its figures."""
    parts = []
    for out in cell.get("outputs", []):
        alt = out.get("metadata", {}).get("image/png", {}).get("alt", "")
        parts.append(out.get("text", "") + alt)
    return "\n".join(parts)


def numbers(text):
    """Return all decimal numbers of a text, in their order."""
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text)]
