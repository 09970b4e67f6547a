"""Nuclei: real micrographs with every nucleus outlined (Data Science Bowl 2018).

Two layouts are read: ``images/<name>.png`` with ``instances/<name>.png`` (0 background, 1..N),
and the archive's own ``stage1_train/<id>/images/<id>.png`` with one file a nucleus in ``masks/``.
Pictures differ in size, so they come one by one rather than as a `SegmentationSet`.

Reference: Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 Data
Science Bowl. Nature Methods 16, 2019. Licence CC0.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from course_utils.data import catalogue
from course_utils.data.pictures import open_picture
from course_utils.errors import CourseError

KINDS = ("fluorescence", "stained", "brightfield")


@dataclass(frozen=True)
class Nuclei:
    """One micrograph.

    Attributes
    ----------
    name
        The file's stem.
    kind
        One of `KINDS`: bright on dark, purple on pink, or dark on bright.
    image
        uint8, shape (H, W, 3), RGB.
    instances
        int32, shape (H, W): 0 background, 1..N the nuclei.
    """

    name: str
    kind: str
    image: np.ndarray
    instances: np.ndarray


def load_nuclei(folder: Path | str, count: int | None = None) -> Iterator[Nuclei]:
    """Read the micrographs of ``folder`` one by one, sorted by name, at most ``count``.

    Raises
    ------
    CourseError
        If the folder has neither layout, a partner is missing or two sizes differ.
    """
    folder = Path(folder)
    if (folder / "stage1_train").is_dir():
        folder = folder / "stage1_train"
    if (folder / "images").is_dir() and (folder / "instances").is_dir():
        pairs = ((path, [folder / "instances" / path.name]) for path in _pngs(folder / "images"))
        read = _read_label_map
    else:
        cases = sorted(case for case in folder.glob("*") if (case / "masks").is_dir())
        if not cases:
            raise CourseError(
                f"{folder} holds no nuclei: expected images/ and instances/, or one folder a "
                "picture with images/ and masks/ in it. Give the folder of the unpacked archive."
            )
        pairs = ((_only_image(case), _pngs(case / "masks")) for case in cases)
        read = _merge_masks
    for done, (path, truth_files) in enumerate(pairs):
        if count is not None and done >= count:
            return
        image = np.asarray(open_picture(path, "RGB"))
        yield Nuclei(path.stem, _kind(image), image, read(truth_files, image.shape[:2]))


def _pngs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


def _only_image(case: Path) -> Path:
    found = _pngs(case / "images")
    if len(found) != 1:
        raise CourseError(f"{case / 'images'} holds {len(found)} pictures, expected one.")
    return found[0]


def _open_truth(path: Path, shape: tuple[int, int], mode: str | None = None) -> np.ndarray:
    truth = np.asarray(open_picture(path, mode))
    if truth.shape != shape:
        raise CourseError(
            f"{path} is {truth.shape} pixels, its picture is {shape}. Fetch the data set again."
        )
    return truth


def _read_label_map(files: list[Path], shape: tuple[int, int]) -> np.ndarray:
    return _open_truth(files[0], shape).astype(np.int32)


def _merge_masks(files: list[Path], shape: tuple[int, int]) -> np.ndarray:
    """Number the nuclei in file order; the first keeps a pixel that two claim."""
    instances = np.zeros(shape, np.int32)
    for label, path in enumerate(files, 1):
        mask = _open_truth(path, shape, "L") > 0
        instances[mask & (instances == 0)] = label
    return instances


def _kind(image: np.ndarray) -> str:
    spread = image.max(2).astype(int) - image.min(2)
    if spread.mean() > 5:
        return "stained"
    return "brightfield" if np.median(image) > 127 else "fluorescence"


def find_nuclei() -> Path | None:
    """Return the folder of the nuclei in the data folder, or None where there is none."""
    try:
        return catalogue.present("dsb2018")
    except CourseError:
        return None
