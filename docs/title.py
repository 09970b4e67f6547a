"""Draw the README's picture and that of lesson 00: scenes of the test split, and what a model sees.

The first has scenes, their masks and the predictions; in the second each scene turns into its
prediction from left to right. It is put into the notebook as an attachment, so that it is there
wherever the notebook is.

Run ``course solve 06 --keep kept``, then
``python docs/title.py kept/06_unet_from_scratch/models/unet.onnx``.
"""

import base64
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from course_utils.data.scenes import CLASSES, SPLITS, scene
from course_utils.display import add_legend, enlarge, new_figure, overlay, to_png

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

FIRST = SPLITS["test"][0]
SEEDS = [FIRST + number for number in (6, 45, 22, 26)]
OPENING = [FIRST + number for number in (33, 49, 43)]
LESSON = Path(__file__).parents[1] / "solutions/00_start_here/00_start_here.ipynb"
SIZE, FACTOR = (96, 128), 4  # the net sees the first; the page shows FACTOR times as much


def predicted(session, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a scene's image and mask at FACTOR times the size, and its prediction enlarged."""
    image, mask = scene(seed, SIZE[0] * FACTOR, SIZE[1] * FACTOR)
    small = scene(seed, *SIZE)[0].transpose(2, 0, 1)[None].astype(np.float32) / 255
    logits = session.run(None, {session.get_inputs()[0].name: small})[0][0]
    return image, mask, enlarge(logits.argmax(0).astype(np.uint8), FACTOR)


def jpeg(picture: Image.Image, width: int, quality: int) -> bytes:
    """Return a picture as a JPEG so many pixels wide."""
    buffer = io.BytesIO()
    size = (width, round(width * picture.height / picture.width))
    picture.resize(size, Image.LANCZOS).save(buffer, "jpeg", quality=quality, optimize=True)
    return buffer.getvalue()


def opening(session) -> bytes:
    """Return scenes side by side, each a photograph on its left and a prediction on its right."""
    panels = []
    for seed in OPENING:
        image, _, prediction = predicted(session, seed)
        height, width = prediction.shape
        slanted = np.arange(width) / width + 0.25 * (0.5 - np.arange(height)[:, None] / height)
        share = np.clip((slanted - 0.46) / 0.08, 0, 1)[..., None]
        panel = image * (1 - share) + overlay(image, prediction, 0.75) * share
        panels.append(np.round(panel[: 3 * height // 4 + 40]).astype(np.uint8))
        panels.append(np.full_like(panels[-1][:, :6], 255))
    panels.pop()
    return jpeg(Image.fromarray(np.concatenate(panels, axis=1)), 1080, 80)


def attach(name: str, content: bytes) -> None:
    """Put a picture into the first cell of lesson 00."""
    notebook = json.loads(LESSON.read_text(encoding="utf-8"))
    code = base64.b64encode(content).decode()
    notebook["cells"][0]["attachments"] = {name: {"image/jpeg": code}}
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    LESSON.write_text(text, encoding="utf-8")


def main(model: str) -> None:
    """Write title.jpg beside this file, and the picture in lesson 00."""
    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(Path(model).read_bytes())
    figure, axes = new_figure(12.8, 7.9, rows=3, columns=len(SEEDS))
    masks = []
    for column, seed in zip(axes.T, SEEDS, strict=True):
        image, mask, prediction = predicted(session, seed)
        masks += [mask, prediction]
        panels = (image, overlay(image, mask), overlay(image, prediction))
        for axis, panel in zip(column, panels, strict=True):
            axis.imshow(panel)
            axis.set(xticks=[], yticks=[])
    for axis, label in zip(axes[:, 0], ("image", "truth", "U-Net of lesson 06"), strict=True):
        axis.set_ylabel(label, fontsize=13)
    add_legend(figure, CLASSES, masks)
    picture = Image.open(io.BytesIO(to_png(figure))).convert("RGB")
    target = Path(__file__).with_name("title.jpg")
    target.write_bytes(jpeg(picture, 1280, 88))
    attach("streets.jpg", opening(session))
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(*sys.argv[1:])
