"""Images with their masks: ``load`` gives any data set of the course by its name.

A data set is one module of this package, named like the set, and one block in the catalogue. The
module has ``CLASSES``, ``SIZE`` and ``SPLITS``; if the set is drawn, ``load(split, size, count)``
and a function named like the set that draws given seeds; if it is stored, ``files(split)``.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from course_utils.data import catalogue
from course_utils.data.segmentation_set import VOID, SegmentationSet
from course_utils.errors import CourseError

__all__ = ["VOID", "SegmentationSet", "find", "load", "module_of"]


def load(
    name: str,
    split: str = "train",
    size: tuple[int, int] | None = None,
    count: int | None = None,
) -> SegmentationSet:
    """Load a data set of the course into memory.

    The first time that a stored set is loaded, its licence and what to cite are printed.

    Parameters
    ----------
    name
        Drawn on the spot: ``"scenes"``, ``"cells"``, ``"drawn_people"``, ``"drawn_pets"``. From
        the data folder: ``"camvid"``, ``"pets"``, ``"idd_lite"``, ``"people"``,
        ``"supervisely_person"``, ``"nuclei"``, ``"voc2012"``; see ``course data list``.
    split
        ``"train"``, ``"valid"`` or ``"test"``. IDD Lite and VOC have no test split with masks.
    size
        (height, width) of every image; a set has one of its own, such as (96, 128) for scenes.
        Images are resized smoothly, masks to the nearest pixel.
    count
        Only the first so many. Default: the whole split; of what is drawn, some hundreds.

    Raises
    ------
    CourseError
        If there is no such set or split, it is not on this machine, or its files are not
        what they should be.

    Examples
    --------
    >>> load("scenes", "valid", count=2)
    <SegmentationSet scenes/valid: 2 images of 96x128, 10 classes>
    """
    module = module_of(name)
    if count is not None and not (isinstance(count, int) and count > 0):
        raise CourseError(f"count is {count!r}; it must be a whole number from 1 on.")
    size = module.SIZE if size is None else tuple(size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise CourseError(f"size is {size}; it must be (height, width) in pixels.")
    if not hasattr(module, "files"):
        return module.load(split, size, count)
    files = module.files(split)
    catalogue.show_terms(name)
    return files.load(size, count)


def find(name: str) -> Path:
    """Return the folder of a stored data set on this machine.

    Raises
    ------
    CourseError
        If there is no such set, or it is not here.
    """
    module = module_of(name)
    return module.find() if hasattr(module, "find") else catalogue.find(name)


def module_of(name: str) -> ModuleType:
    """Return the module of a data set (see above).

    Raises
    ------
    CourseError
        If there is no such set; it names those that there are.
    """
    path = f"{__name__}.{name}"
    if isinstance(name, str) and name.isidentifier() and find_spec(path):
        module = import_module(path)
        if hasattr(module, "CLASSES"):
            return module
    raise CourseError(f"there is no data set {name!r} to load. There are: {', '.join(names())}.")


def names() -> list[str]:
    """Return the names that `load` takes, sorted."""
    return sorted(name for name in catalogue.entries() if find_spec(f"{__name__}.{name}"))
