"""What a task leaves beside the notebook: the model file and its training record."""

from pathlib import Path


def model_path(name: str, folder: Path | str = ".") -> Path:
    """Return where the model file of a task lies in a lesson's folder."""
    return Path(folder) / "models" / f"{name}.onnx"


def record_path(name: str, folder: Path | str = ".") -> Path:
    """Return where the training record of a task lies in a lesson's folder."""
    return Path(folder) / "models" / f"{name}.json"
