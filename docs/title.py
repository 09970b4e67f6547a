"""Draw the README's picture: scenes of the test split, their masks, and a model's predictions.

Run ``course solve 06 --keep kept``, then
``python docs/title.py kept/06_unet_from_scratch/models/unet.onnx``.
"""

import io
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
SIZE, FACTOR = (96, 128), 4  # the net sees the first; the page shows FACTOR times as much


def main(model: str) -> None:
    """Write title.jpg beside this file."""
    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(Path(model).read_bytes())
    name = session.get_inputs()[0].name
    figure, axes = new_figure(12.8, 7.9, rows=3, columns=len(SEEDS))
    masks = []
    for column, seed in zip(axes.T, SEEDS, strict=True):
        image, mask = scene(seed, SIZE[0] * FACTOR, SIZE[1] * FACTOR)
        small = scene(seed, *SIZE)[0].transpose(2, 0, 1)[None].astype(np.float32) / 255
        prediction = session.run(None, {name: small})[0][0].argmax(0).astype(np.uint8)
        masks += [mask, prediction]
        panels = (image, overlay(image, mask), overlay(image, enlarge(prediction, FACTOR)))
        for axis, panel in zip(column, panels, strict=True):
            axis.imshow(panel)
            axis.set(xticks=[], yticks=[])
    for axis, label in zip(axes[:, 0], ("image", "truth", "U-Net of lesson 06"), strict=True):
        axis.set_ylabel(label, fontsize=13)
    add_legend(figure, CLASSES, masks)
    picture = Image.open(io.BytesIO(to_png(figure))).convert("RGB")
    picture = picture.resize((1280, round(1280 * picture.height / picture.width)), Image.LANCZOS)
    target = Path(__file__).with_name("title.jpg")
    picture.save(target, quality=88, optimize=True)
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(*sys.argv[1:])
