"""PASCAL VOC 2012: 20 kinds of things and background, in photographs, as torchvision has it.

``JPEGImages/<year>_<n>.jpg``, ``SegmentationClass/<year>_<n>.png`` (a palette: the indices are
the classes, 255 is void), ``ImageSets/Segmentation/{train,val}.txt``. Masks that somebody has
saved in the palette's colours are read as well.

References
----------
Everingham, Van Gool, Williams, Winn, Zisserman: The PASCAL visual object classes (VOC)
challenge. IJCV 88(2), 2010.
"""

from pathlib import Path

from course_utils.data import catalogue, pairs
from course_utils.data.segmentation_set import VOID
from course_utils.errors import CourseError

CLASSES = (
    "background",
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa"),
    *("train", "tv/monitor"),
)
SIZE = (256, 256)
"""Height and width that images are resized to, unless others are asked for; they are of many."""

SPLITS = {"train": "train", "valid": "val"}


def colour_of(value: int) -> tuple[int, int, int]:
    """Return the colour that VOC paints a value in: its bits, dealt out to red, green and blue.

    >>> colour_of(1), colour_of(15), colour_of(255)
    ((128, 0, 0), (192, 128, 128), (224, 224, 192))
    """
    bits = [(value >> k) & 1 for k in range(8)]
    return tuple(
        sum(bits[3 * k + channel] << (7 - k) for k in range(3) if 3 * k + channel < 8)
        for channel in range(3)
    )


def files(split: str, folder: Path | None = None) -> pairs.Files:
    """Return the files of a split, in the order of its list.

    Parameters
    ----------
    split
        ``"train"`` (1464 images) or ``"valid"`` (1449). The masks of test are not public.
    folder
        Where it lies. Default: found in the data folder.

    Raises
    ------
    CourseError
        If the set or the split is absent, or an image that a list names has no file.
    """
    if split == "test":
        raise CourseError("the masks of voc2012's test split are not public: measure on 'valid'.")
    pairs.require_split("voc2012", split, SPLITS)
    folder = catalogue.find("voc2012") if folder is None else Path(folder)
    listed = folder / "ImageSets" / "Segmentation" / f"{SPLITS[split]}.txt"
    if not listed.is_file():
        raise CourseError(f"{listed} is missing: it names the images of a split. Fetch it again.")
    stems = listed.read_text("utf-8").split()
    found = pairs.match(folder / "JPEGImages", folder / "SegmentationClass", "", stems)
    colours = {colour_of(value): value for value in (*range(len(CLASSES)), VOID)}
    labels = pairs.class_numbers(pairs.lookup_table(len(CLASSES)), "voc2012", colours)
    return pairs.Files("voc2012", split, CLASSES, found, labels)
