"""IDD Lite: Indian roads in 7 classes and void, 320x227, as its owners publish it.

``leftImg8bit/{train,val,test}/<sequence>/<id>_image.jpg`` are the images,
``gtFine/{train,val}/<sequence>/<id>_label.png`` the masks, of the values 0..6 and 255 for void.
Beside a mask may lie ``<id>_inst_label.png``, its instances, which are not read here.

References
----------
Varma, Subramanian, Namboodiri, Chandraker, Jawahar: IDD: a dataset for exploring problems of
autonomous navigation in unconstrained environments. WACV 2019.
"""

from pathlib import Path

from course_utils.data import catalogue, pairs
from course_utils.errors import CourseError

SIZE = (224, 320)
"""Height and width that images are resized to, unless others are asked for: the files' height of
227 is odd, and networks that halve it need multiples of 8 or 16."""

CLASSES = (
    "drivable",
    "non-drivable",
    "living things",
    "vehicles",
    "roadside objects",
    "far objects",
    "sky",
)

SPLITS = {"train": "train", "valid": "val"}


def files(split: str, folder: Path | None = None) -> pairs.Files:
    """Return the files of a split of IDD Lite.

    Parameters
    ----------
    split
        ``"train"`` (1403 images) or ``"valid"`` (204). The masks of test are not public.
    folder
        Where it lies. Default: found in the data folder.

    Raises
    ------
    CourseError
        If the set or the split is absent, or an image has no mask or a mask no image.
    """
    if split == "test":
        raise CourseError("the masks of idd_lite's test split are not public: measure on 'valid'.")
    pairs.require_split("idd_lite", split, SPLITS)
    found = _files(catalogue.find("idd_lite") if folder is None else Path(folder), SPLITS[split])
    labels = pairs.class_numbers(pairs.lookup_table(len(CLASSES)), "idd_lite")
    return pairs.Files("idd_lite", split, CLASSES, found, labels)


def _files(folder: Path, split: str) -> list[tuple[Path, Path]]:
    """Return image and mask of each frame of a split, sequence by sequence."""
    images, masks = (
        _by_frame(folder / kind / split, ending)
        for kind, ending in (("leftImg8bit", "_image"), ("gtFine", "_label"))
    )
    for found, others, ending in ((images, masks, "_label.png"), (masks, images, "_image.jpg")):
        if lonely := next((frame for frame in found if frame not in others), None):
            raise CourseError(
                f"{found[lonely]} has no partner {'/'.join(lonely)}{ending}. "
                "Was the archive unpacked wholly?"
            )
    return [(images[frame], masks[frame]) for frame in images]


def _by_frame(folder: Path, ending: str) -> dict[tuple[str, str], Path]:
    """Return the files of all sequences of a split by (sequence, id)."""
    if not folder.is_dir():
        raise CourseError(f"there is no folder {folder}. Is IDD Lite unpacked there?")
    found = {}
    for sequence in sorted(path for path in folder.iterdir() if path.is_dir()):
        for path in sorted(sequence.glob(f"*{ending}.*")):
            frame = path.stem.removesuffix(ending)
            if path.suffix.lower() in pairs.IMAGE_SUFFIXES and not (
                frame.endswith("_inst") or path.name.startswith(".")
            ):
                found[sequence.name, frame] = path
    if not found:
        raise CourseError(
            f"{folder} holds no <sequence>/<id>{ending} files. Was the archive unpacked wholly?"
        )
    return found
