"""People: 1004 photographs of people in the street with pixel masks; no account is needed.

Made of Clothing Co-Parsing, whose ``annotations/pixel-level/<n>.mat`` give the label of each
pixel of ``photos/<n>.jpg``: 0 for the background, 58 others for clothes, bags, skin and hair. All
of these are one class here, person. The archive is converted once, on arrival, to
``images/<n>.jpg`` and ``masks/<n>.png`` (0 and 255).

References
----------
Yang, Luo, Lin: Clothing co-parsing by joint image segmentation and labeling. CVPR 2014.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from course_utils.data import catalogue, pairs
from course_utils.data.pictures import open_picture
from course_utils.errors import CourseError

CLASSES = ("background", "person")
SIZE = (144, 96)
"""Height and width that images are resized to, unless others are asked for: all are upright."""

SPLITS = tuple(pairs.SHARES)
LONGEST = 512
"""Longest side of the converted pictures, in pixels."""


def files(split: str, folder: Path | None = None) -> pairs.Files:
    """Return the files of a split: its owner has none, so the names decide (`split_by_name`).

    Parameters
    ----------
    split
        ``"train"`` (about 0.8 of all), ``"valid"`` or ``"test"`` (0.1 each).
    folder
        Where it lies, converted or as its owner packs it. Default: found in the data folder.

    Raises
    ------
    CourseError
        If the set or the split is absent, or an image or a mask has no partner.
    """
    pairs.require_split("people", split, SPLITS)
    folder = catalogue.find("people") if folder is None else Path(folder)
    if not (folder / "masks").is_dir() and (folder / "annotations" / "pixel-level").is_dir():
        folder = _converted_beside(folder)
    found = pairs.matched_by_name(folder / "images", folder / "masks", split)
    return pairs.Files("people", split, CLASSES, found, pairs.bright)


def convert(raw: Path, target: Path) -> None:
    """Write ``images/`` and ``masks/`` of what the archive holds.

    A pair whose sizes differ is left out, and that is printed.

    Parameters
    ----------
    raw
        With ``photos/`` and ``annotations/pixel-level/``.
    target
        A folder that is there and empty.

    Raises
    ------
    CourseError
        If labels have no photograph, or a file cannot be read.
    """
    from scipy.io import loadmat
    from tqdm import tqdm

    for name in ("images", "masks"):
        (target / name).mkdir()
    photos = pairs.list_images(raw / "photos")
    labelled = sorted((raw / "annotations" / "pixel-level").glob("[!.]*.mat"))
    for path in tqdm(labelled, desc="people: converting", unit=" pictures"):
        if path.stem not in photos:
            raise CourseError(f"{path} has no photograph {raw / 'photos' / path.stem}.jpg.")
        try:
            labels = np.asarray(loadmat(path)["groundtruth"])
        except Exception as error:  # a damaged file makes scipy raise errors of many kinds
            raise CourseError(
                f"{path} cannot be read ({error!r:.80}). It is damaged: fetch people again."
            ) from None
        photo = open_picture(photos[path.stem], "RGB")
        if labels.shape != (photo.height, photo.width):
            tqdm.write(
                f"left out: {path.name} is of {labels.shape} pixels, its photograph of "
                f"{(photo.height, photo.width)}"
            )
            continue
        mask = Image.fromarray(np.where(labels > 0, 255, 0).astype(np.uint8))
        scale = min(1.0, LONGEST / max(photo.size))
        size = tuple(max(1, round(scale * side)) for side in photo.size)
        photo = photo.resize(size, Image.Resampling.LANCZOS)
        photo.save(target / "images" / f"{path.stem}.jpg", quality=92)
        mask.resize(size, Image.Resampling.NEAREST).save(target / "masks" / f"{path.stem}.png")
    if not labelled:
        raise CourseError(f"{raw} holds no annotations/pixel-level/*.mat. Fetch people again.")


def _converted_beside(raw: Path) -> Path:
    """Convert a folder that somebody has unpacked by hand; return the new one beside it."""
    target = raw.with_name("people-converted")
    if target.is_dir():
        return target
    try:
        with tempfile.TemporaryDirectory(dir=raw.parent, prefix=f".{target.name}-") as temporary:
            draft = Path(temporary) / "set"
            draft.mkdir()
            convert(raw, draft)
            os.replace(draft, target)
    except OSError as error:
        raise CourseError(
            f"{raw} has to be converted once, and {raw.parent} cannot be written "
            f"({error.strerror}). Copy it to a folder of your own, and set COURSE_DATA to that."
        ) from None
    return target
