"""Oxford-IIIT Pet: photographs of cats and dogs of 37 breeds, with trimaps, as torchvision has it.

``images/<Breed>_<n>.jpg``, ``annotations/trimaps/<Breed>_<n>.png`` with the values 1 pet,
2 background and 3 border (become 0, 1, 2), ``annotations/trainval.txt`` and ``test.txt``.

References
----------
Parkhi, Vedaldi, Zisserman, Jawahar: Cats and dogs. CVPR 2012.
"""

from pathlib import Path

import numpy as np

from course_utils.data import catalogue, pairs
from course_utils.errors import CourseError

CLASSES = ("pet", "background", "border")
SIZE = (128, 128)

SPLITS = ("train", "valid", "test")
_SHARES = {"train": 0.9, "valid": 0.1}


def files(split: str, folder: Path | None = None) -> pairs.Files:
    """Return the files of a split.

    Parameters
    ----------
    split
        ``"test"`` is the owners' (3669 images). ``"valid"`` is about a tenth of their trainval
        (3680), chosen by name at random; ``"train"`` the rest. Breeds are mixed.
    folder
        Where it lies. Default: found in the data folder.

    Raises
    ------
    CourseError
        If the set or the split is absent, or an image that a list names has no file.
    """
    pairs.require_split("pets", split, SPLITS)
    folder = catalogue.find("pets") if folder is None else Path(folder)
    annotations = folder / "annotations"
    if split == "test":
        stems = pairs.split_by_name(_listed(annotations / "test.txt"), "test", {"test": 1.0})
    else:
        stems = pairs.split_by_name(_listed(annotations / "trainval.txt"), split, _SHARES)
    found = pairs.match(folder / "images", annotations / "trimaps", "", stems)
    lookup = np.full(256, -1, np.int16)
    lookup[1:4] = 0, 1, 2
    return pairs.Files("pets", split, CLASSES, found, pairs.class_numbers(lookup, "pets"))


def _listed(path: Path) -> list[str]:
    """Return the names in a list, each at the start of a line such as ``Abyssinian_1 1 1 1``."""
    if not path.is_file():
        raise CourseError(f"{path} is missing: it names the images of a split. Fetch it again.")
    lines = (line.split() for line in path.read_text("utf-8").splitlines())
    return [words[0] for words in lines if words and not words[0].startswith("#")]
