"""Draw ``labels.png`` from ``outlines.json`` again."""

from PIL import Image

from course_utils.data.coins import FOLDER, draw_labels

Image.fromarray(draw_labels()).save(FOLDER / "labels.png", optimize=True)
