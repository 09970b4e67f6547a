"""A notebook file as it is handed in: read, whatever saved it, and told from an untouched one."""

import hashlib
import json
from pathlib import Path

from course_utils.errors import CourseError

MAX_NOTEBOOK_MEGABYTES = 50


def read_notebook(path: Path) -> tuple[bytes, dict]:
    """Return a notebook's bytes and content.

    Raises
    ------
    CourseError
        If it is missing, too large, or no notebook.
    """
    if not path.is_file():
        others = sorted(other.name for other in path.parent.glob("*.ipynb"))
        found = f"; found {', '.join(others)}: rename it" if others else ""
        raise CourseError(f"there is no {path.name} in {path.parent}{found}.")
    content = path.read_bytes()
    if len(content) > MAX_NOTEBOOK_MEGABYTES * 1e6:
        raise CourseError(
            f"{path} has {len(content) / 1e6:.0f} MB, allowed are {MAX_NOTEBOOK_MEGABYTES}. "
            "Clear its outputs (Edit > Clear Outputs of All Cells), save, and try again."
        )
    try:
        notebook = json.loads(content)  # of any Unicode encoding, with or without a mark
        if notebook["nbformat"] != 4:
            raise ValueError
        for cell in notebook["cells"]:
            "".join(cell["source"])  # text, whole or in lines
            if not isinstance(cell["cell_type"], str):
                raise TypeError
        for part in (notebook, *notebook["cells"]):
            if not isinstance(part.get("metadata"), dict):
                part["metadata"] = {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CourseError(
            f"{path} is not a whole notebook. Open it in JupyterLab and save it again; if that "
            "fails, go back to a checkpoint with File > Revert Notebook."
        ) from None
    if json.detect_encoding(content) != "utf-8":  # which is all that nbgrader reads
        content = json.dumps(notebook).encode()
    return content, notebook


def cells_hash(notebook: dict) -> str:
    """Return a hash of the cells' types and texts, which a program that saves it keeps."""
    cells = [[cell["cell_type"], "".join(cell["source"])] for cell in notebook["cells"]]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def is_untouched(notebook: dict) -> bool:
    """Tell whether a notebook's cells are those that it was released with."""
    released = notebook["metadata"].get("released")
    return isinstance(released, dict) and released.get("sha256") == cells_hash(notebook)
