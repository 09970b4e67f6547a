"""The one way to open a picture file."""

import struct
from pathlib import Path

from PIL import ExifTags, Image

from course_utils.errors import CourseError

# From the EXIF orientation to what puts the picture upright, as every viewer does.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_picture(path: Path, mode: str | None = None) -> Image.Image:
    """Return a picture, read whole and turned upright; pixels converted to ``mode``, if given.

    A camera writes its pixels as they lie and beside them, as EXIF, how to turn them. Opacity is
    passed over: what lies under it is what everybody trains on.

    Parameters
    ----------
    mode
        Such as ``"RGB"``.

    Raises
    ------
    CourseError
        If the file is missing, damaged, no picture, or has too many bits for colours of 8.
    """
    try:
        with Image.open(path) as picture:
            picture.load()  # of TIFF files this turns them already
            turned = _UPRIGHT.get(picture.getexif().get(ExifTags.Base.Orientation))
            upright = picture.copy() if turned is None else picture.transpose(turned)
    except FileNotFoundError:
        raise CourseError(f"{path} is missing. Fetch or copy it again.") from None
    except (
        *(OSError, SyntaxError, ValueError, struct.error),
        Image.DecompressionBombError,
    ) as error:
        raise CourseError(
            f"{path} cannot be read ({(str(error) or repr(error)).splitlines()[0][:80]}). "
            "It is damaged or no image: fetch or copy it again."
        ) from None
    if mode == "RGB" and upright.mode.startswith(("I", "F")):  # Pillow would clip them at 255
        raise CourseError(
            f"{path} has more than 8 bits a pixel (mode {upright.mode}). Save it as an image of "
            "8 bits a channel."
        )
    if mode and upright.mode == "P":
        upright = upright.convert("RGBA")  # of a palette with opacity, Pillow warns otherwise
    return upright.convert(mode) if mode else upright


def orientation(path: Path) -> int:
    """Return the EXIF orientation of a picture file, 1 to 8; 1, upright, if it has none or is none.

    Only its head is read.
    """
    try:
        with Image.open(path) as picture:
            return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, SyntaxError, ValueError, TypeError, struct.error):
        return 1


def picture_size(path: Path) -> tuple[int, int]:
    """Return width and height of a picture as it is seen upright. Only its head is read.

    Raises
    ------
    CourseError
        If it is missing, or no picture.
    """
    try:
        with Image.open(path) as picture:
            size = picture.size
    except (OSError, SyntaxError, ValueError):
        raise CourseError(f"{path} is missing, damaged or no image. Copy it again.") from None
    return size[::-1] if orientation(path) >= 5 else size
