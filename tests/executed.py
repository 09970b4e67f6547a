"""A notebook as it was run: what its cells have printed and shown."""

from types import SimpleNamespace

import nbformat


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
