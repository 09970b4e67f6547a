"""Images with their masks: ``load`` gives any data set of the course by its name.

A data set is one module of this package, named like the set, with ``CLASSES``, ``SIZE``
and ``load(split, size, count)``, and one block in the catalogue.
"""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from course_utils.data.segmentation_set import VOID, SegmentationSet
from course_utils.errors import CourseError

__all__ = ["VOID", "SegmentationSet", "load", "module_of"]


def load(
    name: str,
    split: str = "train",
    size: tuple[int, int] | None = None,
    count: int | None = None,
) -> SegmentationSet:
    """Load a data set of the course into memory.

    Parameters
    ----------
    name
        ``"scenes"`` or ``"cells"`` (drawn on the spot), or ``"camvid"`` or ``"idd_lite"`` (must
        lie in the data folder).
    split
        ``"train"``, ``"valid"`` or ``"test"``.
    size
        (height, width) of every image. Default: (96, 128) for scenes, (120, 160) for
        cells, (256, 384) for CamVid, (224, 320) for IDD Lite.
    count
        Only the first so many. Default: 600 / 100 / 100 scenes, 60 / 40 / 40 cells, the whole
        split otherwise.

    Raises
    ------
    CourseError
        If there is no such set or split, or its files are not what they should be.

    Examples
    --------
    >>> load("scenes", "valid", count=2)
    <SegmentationSet scenes/valid: 2 images of 96x128, 10 classes>
    """
    module = module_of(name)
    return module.load(split, size or module.SIZE, count)


def module_of(name: str) -> ModuleType:
    """Return the module of a data set: ``CLASSES``, ``SIZE`` and ``load``.

    Data that are drawn also have a function named like the set, ``scenes(seeds, size)``.

    Raises
    ------
    CourseError
        If there is no such set; it names those that there are.
    """
    path = f"{__name__}.{name}"
    if isinstance(name, str) and name.isidentifier() and find_spec(path):
        module = import_module(path)
        if hasattr(module, "CLASSES") and hasattr(module, "load"):
            return module
    raise CourseError(f"there is no data set {name!r} to load. There are: {', '.join(_names())}.")


def _names() -> list[str]:
    from course_utils.data import catalogue

    return sorted(name for name in catalogue.entries() if find_spec(f"{__name__}.{name}"))
