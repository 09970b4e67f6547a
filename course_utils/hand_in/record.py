"""What a task leaves beside the notebook: the model file and its training record.

``train_once`` writes what the training was, ``export`` adds what the model file is.
"""

import json
from pathlib import Path
from typing import Any

from course_utils.files import write_atomic


def model_path(name: str, folder: Path | str = ".") -> Path:
    """Return where the model file of a task lies in a lesson's folder."""
    return Path(folder) / "models" / f"{name}.onnx"


def record_path(name: str, folder: Path | str = ".") -> Path:
    """Return where the training record of a task lies in a lesson's folder."""
    return Path(folder) / "models" / f"{name}.json"


def read_record(path: Path) -> dict[str, Any]:
    """Return a training record; an empty one if there is none, or it is damaged.

    It holds ``task, profile, data, seed, epochs, seconds, device, versions, history`` of the
    training and ``validation, parameters, megabytes, sha256`` of the exported model file.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a training record in one step."""
    write_atomic(path, json.dumps(record, indent=1) + "\n")
