"""Files in the layout in which CamVid is published: written from scenes, or found; and checked.

``images/<name>.png``, ``labels/<name>_P.png`` (each pixel a code), ``codes.txt`` (line i names the
code i, Void among them) and ``valid.txt`` (the validation images).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from course_utils.data import camvid, catalogue, load, scenes
from course_utils.data.pictures import open_picture, picture_size
from course_utils.data.segmentation_set import VOID, SegmentationSet
from course_utils.errors import CourseError
from course_utils.files import tree_hash
from course_utils.paths import data_folder

TRAIN, VALID = 200, 50
"""How many scenes are written as files."""
ENDINGS = (".png", ".jpg", ".jpeg")


def camvid_files(name: str) -> Path:
    """Return a folder in CamVid's layout: of drawn scenes, or of the real set.

    Scenes are written into the data folder at the first call, which takes some seconds.

    Parameters
    ----------
    name
        ``"scenes"`` or ``"camvid"``.

    Raises
    ------
    CourseError
        If CamVid is not in the data folder in this layout.
    """
    if name == "scenes":
        version = tree_hash(Path(scenes.__file__).parent)[:8]
        folder = data_folder() / f"scenes-as-camvid-{version}"
        if not folder.is_dir():
            parts = [load("scenes", "train", count=TRAIN), load("scenes", "valid", count=VALID)]
            write_layout(folder, *parts)
        return folder
    folder = catalogue.present("camvid-fastai")
    if folder is None or camvid.layout(folder) != "fastai":
        raise CourseError(
            f"CamVid in fastai's layout is not in {data_folder()}. Run `course data fetch "
            "camvid-fastai` (600 MB), or set COURSE_DATA to the folder that holds it."
        )
    return folder


def write_layout(
    folder: Path, train: SegmentationSet, valid: SegmentationSet, codes: Sequence[str] = ()
) -> None:
    """Write two sets as files in CamVid's layout, in one step.

    Parameters
    ----------
    folder
        Must not be there yet.
    train, valid
        Of the same classes; void becomes the code after the last class.
    codes
        A name for each class, and one for void. Default: the classes' names, and ``"Void"``.
    """
    codes = [*(codes or [*train.classes, "Void"])]
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for part in ("images", "labels"):
            (draft / part).mkdir()
        listed = []
        for data, first in ((train, 0), (valid, 10_000)):
            for number, (image, mask) in enumerate(
                zip(data.images, data.masks, strict=True), first
            ):
                name = f"{data.name}_{number:05d}"
                labels = np.where(mask == VOID, len(codes) - 1, mask).astype(np.uint8)
                Image.fromarray(image).save(draft / "images" / f"{name}.png")
                Image.fromarray(labels).save(draft / "labels" / f"{name}_P.png")
                if data is valid:
                    listed.append(f"{name}.png")
        (draft / "codes.txt").write_text("\n".join(codes) + "\n")
        (draft / "valid.txt").write_text("\n".join(listed) + "\n")
        os.chmod(draft, 0o755)
        os.replace(draft, folder)
    except OSError as error:
        if not folder.is_dir():  # else somebody else has written it meanwhile
            raise CourseError(f"{folder} cannot be written ({error.strerror}).") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def training_files(folder: Path) -> list[Path]:
    """Return the images that may be used, sorted: all but those that CamVid's test split has."""
    files = (file for file in (folder / "images").iterdir() if file.suffix.lower() in ENDINGS)
    return sorted(file for file in files if not camvid.is_test_frame(file.stem))


def check_files(
    images: Iterable[Path], label_of: Callable[[Path], Path], codes: Sequence[str]
) -> Counter:
    """Look at every label file before a training does, and return the pixels of each code.

    Parameters
    ----------
    images
        The image files.
    label_of
        From an image to its label file.
    codes
        The lines of codes.txt.

    Raises
    ------
    CourseError
        If a label is missing, of another size than its image, in colours, or holds a value that
        codes.txt does not name: which file, and what to do.
    """
    codes = [str(code) for code in codes]
    if "Void" not in codes or len(set(codes)) < len(codes):
        raise CourseError(
            f"codes.txt must name each code once, one a line, and one of them Void; it has "
            f"{len(codes)} lines, {len(set(codes))} of them different: {', '.join(codes)[:80]}. "
            "Is it of another data set?"
        )
    pixels, sizes = Counter(), Counter()
    for image in images:
        label = Path(label_of(Path(image)))
        if not label.is_file():
            raise CourseError(
                f"{Path(image).name} has no label: there is no {label}. Does the name end in _P "
                "before the suffix, and is labels/ whole? Take the image out, or fetch the set "
                "again."
            )
        mask = open_picture(label)
        size, kind, values = picture_size(image), mask.mode, np.asarray(mask)
        if kind in ("RGB", "RGBA") or values.ndim != 2:
            raise CourseError(
                f"{label.name} is a picture in colours ({kind}), no array of codes. Labels hold "
                "one number a pixel: is this the painted version of the set?"
            )
        if size != values.shape[::-1]:
            raise CourseError(
                f"{label.name} is {values.shape[1]}x{values.shape[0]}, its image "
                f"{size[0]}x{size[1]} pixels: resize labels as their images, by nearest neighbour."
            )
        sizes[size] += 1
        pixels.update(dict(enumerate(np.bincount(values.ravel().astype(np.int64)).tolist())))
        if (top := int(values.max())) >= len(codes):
            raise CourseError(_beyond(label.name, top, np.unique(values), codes))
    if len(sizes) > 1:
        told = ", ".join(f"{n} of {w}x{h}" for (w, h), n in sizes.most_common(3))
        print(
            f"Careful: the images differ in size ({told}). A batch is one array, so Resize must "
            "stand in item_tfms, which see one image at a time, and not in batch_tfms."
        )
    return pixels


def _beyond(name: str, top: int, values: np.ndarray, codes: Sequence[str]) -> str:
    """Return what to say of a label that holds a value which codes.txt does not name."""
    known = f"codes.txt names {len(codes)} codes, 0 to {len(codes) - 1}"
    if set(values.tolist()) <= {0, 255}:
        return (
            f"{name} is a mask of 0 and 255, and {known}: divide it by 255, or load it so that 255 "
            "becomes 1. (On a GPU this would be a device-side assert, which names no file.)"
        )
    return (
        f"{name} holds the value {top}, and {known}. Is codes.txt of another version of the set, "
        "or was the label resized with interpolation, or saved as .jpg? (On a GPU this would be a "
        "device-side assert, which names no file.)"
    )
