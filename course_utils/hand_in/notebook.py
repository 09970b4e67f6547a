"""A notebook file as it is handed in: read, whatever saved it, and told from an untouched one."""

import hashlib
import json
from pathlib import Path

from course_utils.errors import CourseError

MAX_NOTEBOOK_MEGABYTES = 50
"""Of cells alone: outputs, which no mark depends on, do not count."""
_MAX_FILE_MEGABYTES = 400
_CELL_TYPES = ("code", "markdown", "raw")


def read_notebook(path: Path) -> tuple[bytes, dict]:
    """Return a notebook's bytes and content.

    Raises
    ------
    CourseError
        If it is missing, too large, or no notebook. A cell of an unknown type becomes a raw one.
    """
    if not path.is_file():
        others = sorted(other.name for other in path.parent.glob("*.ipynb"))
        found = f"; found {', '.join(others)}: rename it" if others else ""
        raise CourseError(f"there is no {path.name} in {path.parent}{found}.")
    if (size := path.stat().st_size) > _MAX_FILE_MEGABYTES * 1e6:
        raise _too_large(path, size, _MAX_FILE_MEGABYTES)
    content = path.read_bytes()
    try:
        notebook = json.loads(content)  # of any Unicode encoding, with or without a mark
        if notebook["nbformat"] != 4 or not isinstance(notebook["cells"], list):
            raise ValueError
        notebook["cells"] = [_sound_cell(cell) for cell in notebook["cells"]]
        if not isinstance(notebook.get("metadata"), dict):
            notebook["metadata"] = {}
        if size > MAX_NOTEBOOK_MEGABYTES * 1e6:
            bare = [
                {key: value for key, value in cell.items() if key != "outputs"}
                for cell in notebook["cells"]
            ]
            size = len(json.dumps(bare))
    except MemoryError:
        raise _too_large(path, size, _MAX_FILE_MEGABYTES) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CourseError(
            f"{path} is not a whole notebook. Open it in JupyterLab and save it again; if that "
            "fails, go back to a checkpoint with File > Revert Notebook."
        ) from None
    if size > MAX_NOTEBOOK_MEGABYTES * 1e6:
        raise _too_large(path, size, MAX_NOTEBOOK_MEGABYTES)
    if json.detect_encoding(content) != "utf-8":  # which is all that nbgrader reads
        content = json.dumps(notebook).encode()
    return content, notebook


def _too_large(path: Path, size: int, most: int) -> CourseError:
    return CourseError(
        f"{path} has {size / 1e6:.0f} MB, allowed are {most}. "
        "Clear its outputs (Edit > Clear Outputs of All Cells), save, and try again."
    )


def _sound_cell(cell: object) -> dict:
    """Return a cell with a known type, a text as its source and metadata, whatever it was."""
    cell = cell if isinstance(cell, dict) else {}
    source = cell.get("source")
    lines = source if isinstance(source, list) else [source]
    sound = {
        "cell_type": cell["cell_type"] if cell.get("cell_type") in _CELL_TYPES else "raw",
        "source": source if all(isinstance(line, str) for line in lines) else "",
        "metadata": cell["metadata"] if isinstance(cell.get("metadata"), dict) else {},
    }
    return cell | sound


def cells_hash(notebook: dict) -> str:
    """Return a hash of the cells' types and texts, which a program that saves it keeps."""
    cells = [[cell["cell_type"], "".join(cell["source"])] for cell in notebook["cells"]]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def is_untouched(notebook: dict) -> bool:
    """Tell whether a notebook's cells are those that it was released with."""
    released = notebook["metadata"].get("released")
    return isinstance(released, dict) and released.get("sha256") == cells_hash(notebook)
