"""Reads images and their masks from files, at one size, and says what is wrong with them.

Images are reduced with antialiasing; masks by nearest neighbour only, since the
average of two class numbers is a third class.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from course_utils.data.pictures import open_picture
from course_utils.data.segmentation_set import VOID, SegmentationSet
from course_utils.errors import CourseError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def list_images(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by stem, in the order of their names.

    Raises
    ------
    CourseError
        If the folder is absent or holds no image, or two images share a stem.
    """
    if not folder.is_dir():
        raise CourseError(f"there is no folder {folder}. Is the data set unpacked there?")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise CourseError(
                f"{folder} holds both {found[path.stem].name} and {path.name}: which one is "
                "meant? Keep one of them."
            )
        found[path.stem] = path
    if not found:
        raise CourseError(
            f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)}). Was the archive unpacked "
            "wholly?"
        )
    return found


def match(
    images: Path, masks: Path, suffix: str = "", stems: Iterable[str] | None = None
) -> list[tuple[Path, Path]]:
    """Pair the images of one folder with the masks of another, by name.

    Parameters
    ----------
    images, masks
        The two folders.
    suffix
        What a mask's stem has after its image's: ``"_P"`` pairs ``a.png`` with ``a_P.png``.
    stems
        Only these images. Default: all of them; then a mask without an image is an error too.

    Raises
    ------
    CourseError
        If an image or a mask has no partner.
    """
    image_files, mask_files = list_images(images), list_images(masks)
    wanted = list(image_files) if stems is None else list(stems)
    pairs = []
    for stem in wanted:
        if stem not in image_files:
            raise CourseError(
                f"{images} has no image {stem!r}, which the split names. Copy it there."
            )
        if stem + suffix not in mask_files:
            raise CourseError(
                f"{image_files[stem]} has no mask: {masks / (stem + suffix)}.png was expected. "
                "Copy it there, or take the image away."
            )
        pairs.append((image_files[stem], mask_files[stem + suffix]))
    if stems is None:
        partners = {stem + suffix for stem in image_files}
        for stem, path in mask_files.items():
            if stem not in partners:
                raise CourseError(
                    f"{path} has no image: {images / stem.removesuffix(suffix)}.* was expected. "
                    "Copy it there, or take the mask away."
                )
    return pairs


def _open_mask(path: Path) -> Image.Image:
    mask = open_picture(path)
    if mask.mode not in ("L", "P", "1", "I;16", "I"):
        raise CourseError(
            f"{path} is a picture in colour (mode {mask.mode}), not a mask of class "
            "numbers. Is it in the wrong folder, or a mask painted in colours? Masks "
            "have one channel."
        )
    return mask


def read_pair(
    image_path: Path, mask_path: Path, size: tuple[int, int] | None, lookup: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Read an image and its mask.

    Parameters
    ----------
    image_path, mask_path
        The two files.
    size
        (height, width) to resize to; None keeps theirs.
    lookup
        (256,) int16: the class, or `VOID`, of each value that a file may hold; -1 where
        the value is unknown.
    name
        The data set, for messages.

    Returns
    -------
    image : (H, W, 3) uint8
    mask : (H, W) uint8

    Raises
    ------
    CourseError
        If a file cannot be read, the two differ in size, or the mask holds an unknown value.
    """
    image, mask = open_picture(image_path, "RGB"), _open_mask(mask_path)
    if image.size != mask.size:
        raise CourseError(
            f"{image_path.name} is {image.height}x{image.width} but its mask {mask_path} is "
            f"{mask.height}x{mask.width}. They must show the same pixels: resize neither "
            "alone, and turn neither alone (both are read turned as their EXIF says)."
        )
    raw = np.asarray(mask).astype(np.int32)  # a 1-bit file comes as bool
    values = np.unique(raw)
    unknown = [int(v) for v in values if not 0 <= v <= 255 or lookup[int(v)] < 0]
    if unknown:
        known = sorted(int(v) for v in np.flatnonzero(lookup >= 0))
        raise CourseError(
            f"{mask_path} holds the value {unknown[0]}, which is no class of {name!r} "
            f"(known: {_ranges(known)}). {_advice(values, known)}"
        )
    if size is not None and size != (image.height, image.width):
        height, width = size
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        rows = (2 * np.arange(height) + 1) * raw.shape[0] // (2 * height)
        columns = (2 * np.arange(width) + 1) * raw.shape[1] // (2 * width)
        raw = raw[rows[:, None], columns]
    return np.asarray(image), lookup[raw].astype(np.uint8)


def _advice(values: np.ndarray, known: list[int]) -> str:
    if set(values.tolist()) <= {0, 255}:
        return "It holds 0 and 255 only: divide by 255 to have class numbers 0 and 1."
    if len(values) > 2 * len(known):
        return "It holds so many values that it was resized smoothly, saved as JPEG or painted."
    return "Is it a mask of another data set, or of another layout of this one?"


def _ranges(values: Sequence[int]) -> str:
    """Return numbers as text such as ``0..10, 255``."""
    parts, start = [], 0
    for i in range(1, len(values) + 1):
        if i == len(values) or values[i] != values[i - 1] + 1:
            a, b = values[start], values[i - 1]
            parts.append(f"{a}..{b}" if b > a else f"{a}")
            start = i
    return ", ".join(parts)


def lookup_table(classes: int, void: Iterable[int] = (VOID,)) -> np.ndarray:
    """Return the (256,) int16 table of a file whose values are the classes 0..C-1 and void."""
    table = np.full(256, -1, np.int16)
    table[:classes] = np.arange(classes)
    table[list(void)] = VOID
    return table


def read(
    pairs: Sequence[tuple[Path, Path]],
    size: tuple[int, int] | None,
    lookup: np.ndarray,
    classes: tuple[str, ...],
    name: str,
    split: str,
) -> SegmentationSet:
    """Read pairs of files into memory (see `read_pair`).

    Raises
    ------
    CourseError
        If a pair is not as it should be, or, without ``size``, two images differ in size.
    """
    images, masks = [], []
    for image_path, mask_path in pairs:
        image, mask = read_pair(image_path, mask_path, size, lookup, name)
        if masks and mask.shape != masks[0].shape:
            raise CourseError(
                f"{image_path} is {mask.shape[0]}x{mask.shape[1]}, the images before it are "
                f"{masks[0].shape[0]}x{masks[0].shape[1]}. Give a size to resize them to."
            )
        images.append(image)
        masks.append(mask)
    return SegmentationSet(name, split, classes, np.stack(images), np.stack(masks))


def load_folder(
    folder: Path,
    classes: tuple[str, ...],
    size: tuple[int, int] | None = None,
    void: Iterable[int] = (VOID,),
) -> SegmentationSet:
    """Load a folder that holds ``images/`` and ``masks/``, files of the same stems.

    This is how an instructor brings data of his own, for instance to mark models on.

    Parameters
    ----------
    folder
        With ``images/a.jpg`` and ``masks/a.png``; a mask's values are 0..C-1 and void.
    classes
        The C class names.
    size
        (height, width) to resize to; None keeps the size of the files, if it is one.
    void
        The values that mean void in the files.

    Raises
    ------
    CourseError
        If a folder is absent or empty, or a file is not what it should be.
    """
    folder = Path(folder).expanduser()
    if not (folder / "images").is_dir() or not (folder / "masks").is_dir():
        raise CourseError(
            f"{folder} must hold the two folders images/ and masks/ (files of the same names)."
        )
    pairs = match(folder / "images", folder / "masks")
    table = lookup_table(len(classes), void)
    data = read(pairs, size, table, classes, folder.name, "folder")
    if set(np.unique(data.masks).tolist()) == {0, VOID}:
        raise CourseError(
            f"the masks in {folder} hold 0 and {VOID} only, and {VOID} means void: nothing could "
            f"be told wrong. Divide them by {VOID} to have class numbers 0 and 1."
        )
    return data
