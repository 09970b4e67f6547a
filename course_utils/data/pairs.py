"""Reads images and their masks from files, at one size, and says what is wrong with them.

Images are reduced with antialiasing; masks by nearest neighbour only, since the
average of two class numbers is a third class.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from course_utils.data.pictures import open_picture
from course_utils.data.segmentation_set import VOID, SegmentationSet
from course_utils.errors import CourseError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")

MASK_ENDINGS = ("", "_mask", "_P", "_label")
"""What the stem of a mask may have after that of its image, where nothing says what it has."""

Labels = Callable[[Path], np.ndarray]
"""Reads a mask: from its file to (H, W) classes or `VOID`, at the size of the file."""


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
    images: Path, masks: Path, suffix: str | None = None, stems: Iterable[str] | None = None
) -> list[tuple[Path, Path]]:
    """Pair the images of one folder with the masks of another, by name.

    Parameters
    ----------
    images, masks
        The two folders.
    suffix
        What a mask's stem has after its image's: ``"_P"`` pairs ``a.png`` with ``a_P.png``.
        Default: the first of `MASK_ENDINGS` that any mask fits with.
    stems
        Only these images. Default: all of them; then a mask without an image is an error too.

    Raises
    ------
    CourseError
        If an image or a mask has no partner.
    """
    image_files, mask_files = list_images(images), list_images(masks)
    if suffix is None:
        fits = (s for s in MASK_ENDINGS if any(stem + s in mask_files for stem in image_files))
        suffix = next(fits, "")
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


def class_numbers(
    lookup: np.ndarray, name: str, colours: dict[tuple[int, int, int], int] | None = None
) -> Labels:
    """Return what reads masks whose pixels are numbers, each of which stands for a class.

    Parameters
    ----------
    lookup
        (256,) int16: the class, or `VOID`, of each value that a file may hold; -1 where
        the value is unknown.
    name
        The data set, for messages.
    colours
        The value that a colour stands for, if a mask may be painted in colours.
    """

    def read(path: Path) -> np.ndarray:
        raw = mask_values(path, colours)
        values = np.unique(raw)
        unknown = [int(v) for v in values if not 0 <= v <= 255 or lookup[int(v)] < 0]
        if unknown:
            known = sorted(int(v) for v in np.flatnonzero(lookup >= 0))
            raise CourseError(
                f"{path} holds the value {unknown[0]}, which is no class of {name!r} "
                f"(known: {_ranges(known)}). {_advice(values, known)}"
            )
        return lookup[raw].astype(np.uint8)

    return read


def mask_values(path: Path, colours: dict[tuple[int, int, int], int] | None = None) -> np.ndarray:
    """Return the numbers that a mask's file holds, (H, W) int32.

    Of a palette they are the indices, not the colours. One channel that is written three times
    is read once; opacity is passed over.

    Raises
    ------
    CourseError
        If the file cannot be read, or is in colour and ``colours`` does not have them all.
    """
    mask = open_picture(path)
    if mask.mode in ("LA", "PA"):
        mask = mask.getchannel(0)
    if mask.mode in ("L", "P", "1", "I;16", "I;16B", "I"):
        return np.asarray(mask).astype(np.int32)  # a 1-bit file comes as bool
    if mask.mode in ("RGB", "RGBA"):
        rgb = np.asarray(mask)[..., :3].astype(np.int32)
        if colours is not None:
            return _from_colours(rgb, colours, path)
        if (rgb == rgb[..., :1]).all():
            return rgb[..., 0]
    what = "holds fractions" if mask.mode == "F" else "is a picture in colour"
    raise CourseError(
        f"{path} {what} (mode {mask.mode}), not a mask of class numbers. Is it in the wrong "
        "folder, or a mask painted in colours? Masks have one channel: save the number of each "
        "pixel's class."
    )


def _from_colours(
    rgb: np.ndarray, colours: dict[tuple[int, int, int], int], path: Path
) -> np.ndarray:
    """Return the value of each pixel's colour; of a grey picture without them, its one channel."""
    codes = rgb @ np.array((65536, 256, 1))
    found, inverse = np.unique(codes, return_inverse=True)
    value_of = {(r << 16) | (g << 8) | b: value for (r, g, b), value in colours.items()}
    if strange := [int(code) for code in found if int(code) not in value_of]:
        if (rgb == rgb[..., :1]).all():
            return rgb[..., 0]
        colour = (strange[0] >> 16, strange[0] >> 8 & 255, strange[0] & 255)
        raise CourseError(
            f"{path} holds the colour {colour}, which stands for no class. Was the mask resized "
            "smoothly, or saved as JPEG? Save it as PNG, in the colours of its classes."
        )
    values = np.array([value_of[int(code)] for code in found], np.int32)
    return values[inverse].reshape(rgb.shape[:2])


def bright(path: Path) -> np.ndarray:
    """Read the mask of a thing and what is not it: 1 where the file holds 1, or is bright.

    For masks of 0 and 255, also with edges that were smoothed. A file of 0 and 1 is taken as it
    is.
    """
    raw = mask_values(path)
    return (raw > (0 if raw.max(initial=0) <= 1 else 127)).astype(np.uint8)


def read_pair(
    image_path: Path, mask_path: Path, size: tuple[int, int] | None, labels: Labels
) -> tuple[np.ndarray, np.ndarray]:
    """Read an image and its mask.

    Parameters
    ----------
    image_path, mask_path
        The two files.
    size
        (height, width) to resize to; None keeps theirs.
    labels
        What reads the mask.

    Returns
    -------
    image : (H, W, 3) uint8
    mask : (H, W) uint8

    Raises
    ------
    CourseError
        If a file cannot be read, the two differ in size, or the mask holds an unknown value.
    """
    image, mask = open_picture(image_path, "RGB"), labels(mask_path)
    if (image.height, image.width) != mask.shape:
        raise CourseError(
            f"{image_path.name} is {image.height}x{image.width} but its mask {mask_path} is "
            f"{mask.shape[0]}x{mask.shape[1]}. They must show the same pixels: resize neither "
            "alone, and turn neither alone (both are read turned as their EXIF says)."
        )
    if size is not None and size != mask.shape:
        height, width = size
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        rows = (2 * np.arange(height) + 1) * mask.shape[0] // (2 * height)
        columns = (2 * np.arange(width) + 1) * mask.shape[1] // (2 * width)
        mask = mask[rows[:, None], columns]
    return np.asarray(image), mask


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


@dataclass(frozen=True)
class Files:
    """The files of one split of a data set, before they are read.

    Parameters
    ----------
    name, split
        The data set and its split.
    classes
        The C class names.
    pairs
        Each image's file, and its mask's (or what ``labels`` takes for one).
    labels
        What reads a mask.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    pairs: Sequence[tuple[Path, Path]]
    labels: Labels

    def load(self, size: tuple[int, int] | None, count: int | None = None) -> SegmentationSet:
        """Read the first ``count`` pairs, or all, into memory (see `read_pair`).

        Raises
        ------
        CourseError
            If there is none, a pair is not as it should be, or, without ``size``, two images
            differ in size.
        """
        if not self.pairs:
            raise CourseError(f"{self.name} has no image of the split {self.split!r} here.")
        images, masks = [], []
        for image_path, mask_path in self.pairs[:count]:
            image, mask = read_pair(image_path, mask_path, size, self.labels)
            if masks and mask.shape != masks[0].shape:
                raise CourseError(
                    f"{image_path} is {mask.shape[0]}x{mask.shape[1]}, the images before it are "
                    f"{masks[0].shape[0]}x{masks[0].shape[1]}. Give a size to resize them to."
                )
            images.append(image)
            masks.append(mask)
        return SegmentationSet(
            self.name, self.split, self.classes, np.stack(images), np.stack(masks)
        )


SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}
"""How a set without a split of its own is split."""


def split_by_name(
    stems: Iterable[str], split: str, shares: dict[str, float] = SHARES, seed: int = 0
) -> list[str]:
    """Return the stems of a split that is drawn at random, and is the same for ever.

    A hash of the seed and the name decides for each image alone. So whoever lacks a few files, or
    has more, has the others in the same splits, and no list has to be kept. They come in the
    order of their hashes: the first few are a fair sample, where the first by name may all be
    of one kind.

    Parameters
    ----------
    shares
        By split, about what share it gets; together 1.

    Examples
    --------
    >>> halves = {"train": 0.5, "valid": 0.5}
    >>> [split_by_name("abcdef", split, halves) for split in halves]
    [['f', 'c', 'b', 'e'], ['d', 'a']]
    """
    low = 0.0
    for name, share in shares.items():
        if name == split:
            break
        low += share
    places = {stem: _place(stem, seed) for stem in stems}
    chosen = (stem for stem, place in places.items() if low <= place < low + shares[split])
    return sorted(chosen, key=places.get)


def matched_by_name(images: Path, masks: Path, split: str) -> list[tuple[Path, Path]]:
    """Return image and mask of a split of a set that has none of its own (`split_by_name`)."""
    both = {image.stem: (image, mask) for image, mask in match(images, masks)}
    return [both[stem] for stem in split_by_name(both, split)]


def _place(stem: str, seed: int) -> float:
    """Return a number in [0, 1) that looks drawn at random and depends on the name alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{stem}".encode()).digest()[:6], "big") / 2**48


def require_split(name: str, split: str, splits: Iterable[str]) -> None:
    """Raise a CourseError that names the splits, if it is none of them."""
    if split not in splits:
        raise CourseError(f"{name} has no split {split!r}. Its splits are: {', '.join(splits)}.")


def load_folder(
    folder: Path,
    classes: tuple[str, ...],
    size: tuple[int, int] | None = None,
    void: Iterable[int] = (VOID,),
    colours: dict[tuple[int, int, int], int] | None = None,
) -> SegmentationSet:
    """Load a folder that holds ``images/`` and ``masks/``, files of the same stems.

    This is how an instructor brings data of his own, for instance to mark models on. Masks may
    have one of `MASK_ENDINGS` after the stem.

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
    colours
        For masks painted in colours: the value that each (red, green, blue) stands for.

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
    labels = class_numbers(lookup_table(len(classes), void), folder.name, colours)
    data = Files(folder.name, "folder", classes, pairs, labels).load(size)
    if set(np.unique(data.masks).tolist()) == {0, VOID}:
        raise CourseError(
            f"the masks in {folder} hold 0 and {VOID} only, and {VOID} means void: nothing could "
            f"be told wrong. Divide them by {VOID} to have class numbers 0 and 1."
        )
    return data
