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
from course_utils.data.segmentation_set import SegmentationSet
from course_utils.errors import CourseError
from course_utils.paths import data_folder

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

_FOLDERS = {"train": "train", "valid": "val"}


def find() -> Path:
    """Return the folder of IDD Lite in the data folder.

    Raises
    ------
    CourseError
        If it is not there.
    """
    folder = catalogue.present("idd_lite")
    if folder is None:
        facts = catalogue.entry("idd_lite")
        raise CourseError(
            f"IDD Lite is not in {data_folder()}. {facts['how']} there, or set COURSE_DATA to the "
            f"folder that holds it ({facts['places'][0]}/gtFine/ and so on)."
        )
    return folder


def load(
    split: str,
    size: tuple[int, int] | None = SIZE,
    count: int | None = None,
    folder: Path | None = None,
) -> SegmentationSet:
    """Load a split of IDD Lite.

    Parameters
    ----------
    split
        ``"train"`` (1403 images) or ``"valid"`` (204). The masks of test are not public.
    size
        (height, width) to resize to, images bilinearly and masks to the nearest pixel; None keeps
        the 227 x 320 of the files.
    count
        Only the first so many, by sequence and name.
    folder
        Where it lies. Default: found by `find`.

    Raises
    ------
    CourseError
        If the set or the split is absent, an image has no mask or a mask no image, or a file is
        not what it should be.
    """
    if split == "test":
        raise CourseError("the masks of idd_lite's test split are not public: measure on 'valid'.")
    if split not in _FOLDERS:
        raise CourseError(f"idd_lite has no split {split!r}. Its splits are: train, valid.")
    folder = find() if folder is None else Path(folder)
    files = _files(folder, _FOLDERS[split])
    lookup = pairs.lookup_table(len(CLASSES))
    return pairs.read(files[:count], size, lookup, CLASSES, "idd_lite", split)


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
