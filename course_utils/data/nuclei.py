"""Nuclei: real micrographs with every nucleus outlined (Data Science Bowl 2018).

Two layouts are read: ``images/<name>.png`` with ``instances/<name>.png`` (0 background, 1..N),
and the archive's own ``stage1_train/<id>/images/<id>.png`` with one file a nucleus in ``masks/``.
Pictures differ in size: `load_nuclei` gives them one by one with every nucleus for itself,
``course_utils.data.load`` at one size, with the nuclei as one class.

Reference: Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 Data
Science Bowl. Nature Methods 16, 2019. Licence CC0.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from course_utils.data import catalogue, pairs
from course_utils.data.pictures import open_picture
from course_utils.errors import CourseError

CLASSES = ("background", "nucleus")
SIZE = (256, 256)
"""Height and width that images are resized to, unless others are asked for: most are so large."""

SPLITS = {"train": "train", "valid": "val", "test": "test"}
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
    for path, truth in _cases(Path(folder))[:count]:
        image = np.asarray(open_picture(path, "RGB"))
        instances = read_instances(truth)
        if instances.shape != image.shape[:2]:
            raise CourseError(
                f"{truth} is {instances.shape} pixels, its picture is {image.shape[:2]}. "
                "Fetch the data set again."
            )
        yield Nuclei(path.stem, _kind(image), image, instances)


def files(split: str, folder: Path | None = None) -> pairs.Files:
    """Return the files of a split.

    Parameters
    ----------
    split
        ``"train"``, ``"valid"`` or ``"test"``: as ``train.txt``, ``val.txt``, ``test.txt`` beside
        ``images/`` name them; where there are none, by name (`split_by_name`).
    folder
        Where it lies. Default: found in the data folder.

    Raises
    ------
    CourseError
        If the set or the split is absent, or a picture or its nuclei have no file.
    """
    pairs.require_split("nuclei", split, SPLITS)
    folder = catalogue.find("nuclei") if folder is None else Path(folder)
    cases = {image.stem: (image, truth) for image, truth in _cases(folder)}
    listed = folder / f"{SPLITS[split]}.txt"
    if listed.is_file():
        stems = listed.read_text("utf-8").split()
        if missing := [stem for stem in stems if stem not in cases]:
            raise CourseError(f"{folder} has no picture {missing[0]!r}, which {listed.name} names.")
    else:
        stems = pairs.split_by_name(cases, split)
    found = [cases[stem] for stem in stems]
    return pairs.Files("nuclei", split, CLASSES, found, _is_nucleus)


def _is_nucleus(truth: Path) -> np.ndarray:
    return (read_instances(truth) > 0).astype(np.uint8)


def _cases(folder: Path) -> list[tuple[Path, Path]]:
    """Return each picture with its map of nuclei, or with the folder of its nuclei's masks."""
    if (folder / "stage1_train").is_dir():
        folder = folder / "stage1_train"
    if (folder / "images").is_dir() and (folder / "instances").is_dir():
        return pairs.match(folder / "images", folder / "instances", "")
    cases = sorted(case for case in folder.glob("[!._]*") if (case / "masks").is_dir())
    if not cases:
        raise CourseError(
            f"{folder} holds no nuclei: expected images/ and instances/, or one folder a "
            "picture with images/ and masks/ in it. Give the folder of the unpacked archive."
        )
    return [(_only_image(case), case / "masks") for case in cases]


def _only_image(case: Path) -> Path:
    found = pairs.list_images(case / "images")
    if len(found) != 1:
        raise CourseError(f"{case / 'images'} holds {len(found)} pictures, expected one.")
    return next(iter(found.values()))


def read_instances(truth: Path) -> np.ndarray:
    """Read a map of nuclei, or number the masks of a folder in the order of their names.

    Where two masks claim a pixel, the first keeps it. Returns (H, W) int32, 0 is background.
    """
    if not truth.is_dir():
        return pairs.mask_values(truth)
    instances = None
    for label, path in enumerate(pairs.list_images(truth).values(), 1):
        mask = pairs.bright(path)
        if instances is None:
            instances = np.zeros(mask.shape, np.int32)
        if mask.shape != instances.shape:
            raise CourseError(
                f"{path} is {mask.shape} pixels, the masks before it are {instances.shape}. "
                "Fetch the data set again."
            )
        instances[(mask > 0) & (instances == 0)] = label
    return instances


def _kind(image: np.ndarray) -> str:
    spread = image.max(2).astype(int) - image.min(2)
    if spread.mean() > 5:
        return "stained"
    return "brightfield" if np.median(image) > 127 else "fluorescence"


def find_nuclei() -> Path | None:
    """Return the folder of the nuclei in the data folder, or None where there is none."""
    try:
        return catalogue.present("nuclei")
    except CourseError:
        return None
