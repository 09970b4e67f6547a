"""CamVid in its two usual layouts, both as the usual 11 classes.

The SegNet layout (``train/ trainannot/ val/ valannot/ test/ testannot/``) has masks of the
values 0..10 and 11 for void; the fastai layout (``images/ labels/ codes.txt valid.txt``)
has the 32 classes of the original, which are mapped by name.

References
----------
Brostow, Fauqueur, Cipolla: Semantic object classes in video: a high-definition ground
truth database. Pattern Recognition Letters 30(2), 2009.
Badrinarayanan, Kendall, Cipolla: SegNet. TPAMI 39(12), 2017 (the 11 classes and the split).
"""

from pathlib import Path

import numpy as np

from course_utils.data import catalogue, pairs, scenes
from course_utils.data.segmentation_set import VOID
from course_utils.errors import CourseError
from course_utils.paths import data_folder

SIZE = (256, 384)
"""Height and width that images are resized to, unless others are asked for."""

CLASSES = (*scenes.CLASSES, "bicyclist")

CLASS_OF_CODE = {
    "Animal": "pedestrian",
    "Archway": "building",
    "Bicyclist": "bicyclist",
    "Bridge": "building",
    "Building": "building",
    "Car": "car",
    "CartLuggagePram": "pedestrian",
    "Child": "pedestrian",
    "Column_Pole": "pole",
    "Fence": "fence",
    "LaneMkgsDriv": "road",
    "LaneMkgsNonDriv": "road",
    "Misc_Text": "sign",
    "MotorcycleScooter": "bicyclist",
    "OtherMoving": "car",
    "ParkingBlock": "pavement",
    "Pedestrian": "pedestrian",
    "Road": "road",
    "RoadShoulder": "pavement",
    "Sidewalk": "pavement",
    "SignSymbol": "sign",
    "Sky": "sky",
    "SUVPickupTruck": "car",
    "TrafficCone": "pole",
    "TrafficLight": "sign",
    "Train": "car",
    "Tree": "tree",
    "Truck_Bus": "car",
    "Tunnel": "building",
    "VegetationMisc": "tree",
    "Void": None,
    "Wall": "building",
}
"""What each of the 32 original classes counts as; None is void.

The grouping of MathWorks' example "Semantic Segmentation Using Deep Learning". Others
group a few rare ones differently (RoadShoulder as road, Animal as void, TrafficCone as
sign), so results on both layouts agree closely, not exactly.
"""

SPLITS = {"train": "train", "valid": "val", "test": "test"}


def layout(folder: Path) -> str | None:
    """Return ``"segnet"`` or ``"fastai"``, or None if a folder holds neither."""
    if (folder / "trainannot").is_dir():
        return "segnet"
    if (folder / "labels").is_dir() and (folder / "codes.txt").is_file():
        return "fastai"
    return None


def find() -> Path:
    """Return the folder of CamVid in the data folder; of both layouts, SegNet's.

    Raises
    ------
    CourseError
        If it is not there.
    """
    folder = catalogue.present("camvid") or catalogue.present("camvid-fastai")
    if folder is None:
        raise CourseError(
            f"CamVid is not in {data_folder()}. Run `course data fetch camvid`, or set COURSE_DATA "
            "to the folder that holds it (camvid/CamVid/train/ and so on)."
        )
    return folder


def files(split: str, folder: Path | None = None) -> pairs.Files:
    """Return the files of a split, whichever layout is on this machine.

    Parameters
    ----------
    split
        ``"train"``, ``"valid"`` or ``"test"``: 367, 101 and 233 images in both layouts. The
        fastai layout names only the validation images; the test images of the SegNet layout
        are told by their names there, so that nobody trains on them unawares.
    folder
        Where it lies. Default: found by `find`.

    Raises
    ------
    CourseError
        If the set or the split is absent, or an image or a mask has no partner.
    """
    pairs.require_split("camvid", split, SPLITS)
    folder = find() if folder is None else Path(folder)
    kind = layout(folder)
    if kind == "segnet":
        name = SPLITS[split]
        found = pairs.match(folder / name, folder / f"{name}annot", "")
        lookup = pairs.lookup_table(len(CLASSES), void=(11, VOID))
    elif kind == "fastai":
        stems = _fastai_stems(folder, split)
        found = pairs.match(folder / "images", folder / "labels", "_P", stems)
        lookup = code_lookup(read_codes(folder / "codes.txt"))
    else:
        raise CourseError(
            f"{folder} is no copy of CamVid: it has neither trainannot/ (SegNet layout) nor "
            "labels/ and codes.txt (fastai layout)."
        )
    return pairs.Files("camvid", split, CLASSES, found, pairs.class_numbers(lookup, "camvid"))


def read_codes(path: Path) -> list[str]:
    """Return the class names of the fastai layout: line i names the value i."""
    return [line.strip() for line in path.read_text().splitlines() if line.strip()]


def code_lookup(codes: list[str]) -> np.ndarray:
    """Return the (256,) int16 table from a value of the fastai layout to class, void or -1.

    Raises
    ------
    CourseError
        If a name is none of the 32.
    """
    table = np.full(256, -1, np.int16)
    for value, code in enumerate(codes):
        if code not in CLASS_OF_CODE:
            raise CourseError(
                f"codes.txt names a class {code!r} that CamVid does not have. Is it of another "
                "data set?"
            )
        name = CLASS_OF_CODE[code]
        table[value] = VOID if name is None else CLASSES.index(name)
    return table


def is_test_frame(stem: str) -> bool:
    """Return whether the SegNet layout has this frame in its test split.

    Those are all frames of the sequence Seq05VD and the second half of 0001TP.

    >>> is_test_frame("0001TP_008550"), is_test_frame("0001TP_008520"), is_test_frame("Seq05VD_f0")
    (True, False, True)
    """
    sequence, _, number = stem.partition("_")
    if sequence == "0001TP":
        return number.isdigit() and int(number) >= 8550
    return sequence == "Seq05VD"


def _fastai_stems(folder: Path, split: str) -> list[str]:
    listed = folder / "valid.txt"
    if not listed.is_file():
        raise CourseError(f"{listed} is missing: it names the validation images. Fetch it again.")
    valid = {Path(line.strip()).stem for line in listed.read_text().splitlines() if line.strip()}
    if split == "valid":
        return sorted(valid)
    others = [stem for stem in pairs.list_images(folder / "images") if stem not in valid]
    chosen = [stem for stem in others if is_test_frame(stem) == (split == "test")]
    if not chosen:
        raise CourseError(
            f"{folder} has the fastai layout, and no image of the {split} split. The SegNet "
            "layout has all three: `course data fetch camvid`."
        )
    return chosen
