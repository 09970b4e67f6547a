"""The one way to open a picture file."""

from pathlib import Path

from PIL import Image

from course_utils.errors import CourseError


def open_picture(path: Path, mode: str | None = None) -> Image.Image:
    """Return a picture, read whole; its pixels converted to ``mode``, such as ``"RGB"``, if given.

    Raises
    ------
    CourseError
        If the file is missing, damaged or no picture.
    """
    try:
        with Image.open(path) as picture:
            return picture.convert(mode) if mode else picture.copy()
    except FileNotFoundError:
        raise CourseError(f"{path} is missing. Fetch or copy it again.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CourseError(
            f"{path} cannot be read ({str(error).splitlines()[0][:80]}). "
            "It is damaged or no image: fetch or copy it again."
        ) from None
