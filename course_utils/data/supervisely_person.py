"""Supervisely Person, cleaned: 2667 photographs of people with masks, as Kaggle has it.

``images/<name>.png`` and ``masks/<name>.png``, 0 and 255, in ``supervisely_person_clean_2667_img``.
Reference: Supervisely Person Dataset, supervisely.com, 2018.
"""

from pathlib import Path

from course_utils.data import catalogue, pairs

CLASSES = ("background", "person")
SIZE = (256, 192)
"""Height and width that images are resized to, unless others are asked for: most are upright."""

SPLITS = tuple(pairs.SHARES)


def files(split: str, folder: Path | None = None) -> pairs.Files:
    """Return the files of a split: its owner has none, so the names decide (`split_by_name`).

    Parameters
    ----------
    split
        ``"train"`` (about 0.8 of all), ``"valid"`` or ``"test"`` (0.1 each).
    folder
        Where it lies. Default: found in the data folder.

    Raises
    ------
    CourseError
        If the set or the split is absent, or an image or a mask has no partner.
    """
    pairs.require_split("supervisely_person", split, SPLITS)
    folder = catalogue.find("supervisely_person") if folder is None else Path(folder)
    found = pairs.matched_by_name(folder / "images", folder / "masks", split)
    return pairs.Files("supervisely_person", split, CLASSES, found, pairs.bright)
