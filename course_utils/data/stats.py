"""What is in a data set: counts, sizes, class shares, and pairs that look wrong.

To be looked at before anything is trained. Every file is read once, at its own size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from course_utils import display
from course_utils.data import catalogue, load, module_of
from course_utils.data.pairs import Files, read_pair
from course_utils.data.pictures import orientation
from course_utils.data.segmentation_set import VOID
from course_utils.errors import CourseError
from course_utils.files import write_atomic
from course_utils.table import text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THUMB = (24, 32)
"""Height and width at which pictures of two splits are compared."""

ALIKE = 0.9
"""Pictures whose grey levels are correlated by more than this are alike."""

MOST_LINES = 10

ACROSS, TILE = 4, 300
"""How many images the picture has beside each other, and how long each is, in pixels."""

HATCHES = ("", "///", "...")


@dataclass
class Split:
    """What one split holds.

    Attributes
    ----------
    sizes
        How many images are of each (height, width).
    pixels
        (C + 1,) int64: pixels of each class, and of void.
    without
        (C,) int64: images that do not show a class at all.
    suspicious
        What looks wrong with a pair, a line each.
    samples
        Some images with their masks.
    thumbs
        For each image, small and grey: (h * w,) float32 of mean 0 and length 1.
    """

    name: str
    classes: tuple[str, ...]
    images: int = 0
    sizes: Counter = field(default_factory=Counter)
    pixels: np.ndarray | None = None
    without: np.ndarray | None = None
    suspicious: list[str] = field(default_factory=list)
    samples: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    thumbs: list[np.ndarray] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pixels = np.zeros(len(self.classes) + 1, np.int64)
        self.without = np.zeros(len(self.classes), np.int64)

    def add(self, name: str, image: np.ndarray, mask: np.ndarray) -> None:
        """Count one pair."""
        counts = np.bincount(mask.ravel(), minlength=256)
        classes = counts[: len(self.classes)]
        self.images += 1
        self.sizes[mask.shape] += 1
        self.pixels += [*classes, counts[VOID]]
        self.without += classes == 0
        if np.count_nonzero(counts) == 1:
            value = int(mask.flat[0])
            what = "void" if value == VOID else self.classes[value]
            self.suspicious.append(f"{name}: the whole mask is {what}")
        self.names.append(name)
        self.thumbs.append(_thumb(image))

    @property
    def shares(self) -> np.ndarray:
        """Share of each class in the pixels that are not void, (C,) float."""
        return self.pixels[:-1] / max(self.pixels[:-1].sum(), 1)

    @property
    def void(self) -> float:
        """Share of void in all pixels."""
        return self.pixels[-1] / max(self.pixels.sum(), 1)


def examine(name: str) -> list[Split]:
    """Look at all of a data set, split by split; drawn sets are drawn at their usual numbers.

    Raises
    ------
    CourseError
        If there is no such set, or it is not on this machine.
    """
    from tqdm import tqdm

    module, found = module_of(name), []
    for split_name in module.SPLITS:
        split = Split(split_name, tuple(module.CLASSES))
        if not hasattr(module, "files"):
            data = load(name, split_name)
            pairs = ((f"picture {k}", *data[k]) for k in range(len(data)))
            total = len(data)
        else:
            try:
                files = module.files(split_name)
            except CourseError as error:
                if found:  # such as the test split of a copy that has none
                    found[-1].suspicious.append(f"split {split_name}: {error}")
                    continue
                raise
            pairs, total = _read(files, split), len(files.pairs)
        for k, (file, image, mask) in enumerate(
            tqdm(pairs, desc=f"{name}/{split_name}", total=total, leave=False, disable=None)
        ):
            split.add(file, image, mask)
            if k in {total * part // 4 for part in range(4)}:
                split.samples.append((image, mask))
        found.append(split)
    return found


def _read(files: Files, split: Split) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield the pairs that can be read; note what is odd about the others, and EXIF."""
    for image, mask in files.pairs:
        for path in (image, mask):
            turned = orientation(path) if path.is_file() else 1
            if turned != 1:
                split.suspicious.append(
                    f"{path.name}: its EXIF (orientation {turned}) has it turned; programs that "
                    "pass over EXIF read it otherwise"
                )
        try:
            pair = read_pair(image, mask, None, files.labels)
        except CourseError as error:
            split.suspicious.append(str(error))
        else:
            yield image.name, *pair


def _thumb(image: np.ndarray) -> np.ndarray:
    small = Image.fromarray(image).convert("L").resize(THUMB[::-1], Image.Resampling.BOX)
    grey = np.asarray(small, np.float32).ravel()
    grey -= grey.mean()
    return grey / max(float(np.sqrt(grey @ grey)), 1.0)


def nearest(split: Split, train: Split) -> list[tuple[float, str, str]]:
    """Return for each image of a split the one of train that is most like it, the most alike first.

    Returns
    -------
    list
        (correlation of their grey levels, image, image of train).
    """
    if not split.images or not train.images:
        return []
    correlation = np.stack(split.thumbs) @ np.stack(train.thumbs).T
    best = correlation.argmax(1)
    found = [(float(correlation[k, b]), split.names[k], train.names[b]) for k, b in enumerate(best)]
    return sorted(found, reverse=True)


def print_stats(name: str, picture: Path | None = None) -> None:
    """Print what is in a data set, and write a picture of it.

    Parameters
    ----------
    picture
        The PNG to write. Default: ``<name>-stats.png`` in the working folder.

    Raises
    ------
    CourseError
        If there is no such set, or it is not on this machine.
    """
    splits = examine(name)
    facts = catalogue.entry(name)
    print(catalogue.terms(name))
    print(f"  split: {facts['split']}\n  void: {facts['void']}\n")
    rows = [[s.name, str(s.images), _sizes(s.sizes), f"{s.void:.1%}"] for s in splits]
    print(text_table(["split", "images", "sizes (height x width)", "void"], rows))
    print("\nShare of the pixels that are not void, and images without the class:")
    head = ["class", *(column for s in splits for column in (s.name, "without"))]
    rows = [
        [label, *(x for s in splits for x in (f"{s.shares[k]:.2%}", str(s.without[k])))]
        for k, label in enumerate(splits[0].classes)
    ]
    print(text_table(head, rows))
    print("\nTraps:")
    for trap in (*facts["traps"], *_leaks(splits)):
        print(f"- {trap}")
    suspicious = [line for split in splits for line in split.suspicious]
    print(f"\nPairs to look at: {len(suspicious) or 'none'}")
    for line in suspicious[:MOST_LINES]:
        print(f"- {line}")
    if len(suspicious) > MOST_LINES:
        print(f"- and {len(suspicious) - MOST_LINES} more")
    target = picture or Path(f"{name}-stats.png")
    write_atomic(target, display.to_png(draw(name, splits)))
    print(f"\nPicture: {target}")


def _sizes(sizes: Counter) -> str:
    """Return the sizes as text: all if they are few, else the range."""
    if len(sizes) <= 2:
        return ", ".join(f"{h}x{w} ({n})" for (h, w), n in sizes.most_common())
    heights, widths = zip(*sizes, strict=True)
    return (
        f"{len(sizes)} sizes, {min(heights)}..{max(heights)} x {min(widths)}..{max(widths)}, "
        "most often {}x{}".format(*sizes.most_common(1)[0][0])
    )


def _leaks(splits: list[Split]) -> list[str]:
    """Say which pictures of another split look like one of train, as neighbouring frames do."""
    told = []
    for split in splits[1:]:
        found = nearest(split, splits[0])
        alike = [pair for pair in found if pair[0] > ALIKE]
        if alike:
            likeness, one, other = alike[0]
            told.append(
                f"{len(alike)} of {split.images} images of {split.name} look like one of "
                f"{splits[0].name}, such as {one} like {other} (correlation {likeness:.2f})."
            )
    return told


def draw(name: str, splits: list[Split]) -> Figure:
    """Return the figure: pictures with their masks, and the class shares of each split."""
    from matplotlib.patches import Patch

    samples = [sample for split in splits for sample in split.samples][: 2 * ACROSS]
    classes = splits[0].classes
    sheet = _sheet(samples)
    height = 0.8 + 6.0 * sheet.shape[0] / sheet.shape[1]
    figure, axes = display.new_figure(10, max(height, 3), 1, 2, width_ratios=[3, 2])
    left, right = axes[0]
    left.imshow(sheet)
    left.set_axis_off()
    void = any((mask == VOID).any() for _, mask in samples)
    note = " (hatched: void)" if void else ""
    left.set_title(f"{name}: images, and their masks laid over them{note}", fontsize=10)
    thick = 0.8 / len(splits)
    for k, split in enumerate(splits):
        places = np.arange(len(classes)) + (k - (len(splits) - 1) / 2) * thick
        look = {"edgecolor": "0.2", "hatch": HATCHES[k], "linewidth": 0.5}
        colours = display.colours(len(classes)) / 255
        right.barh(places, 100 * split.shares, thick, color=colours, **look)
    keys = [
        Patch(facecolor="white", edgecolor="0.2", hatch=HATCHES[k], label=split.name)
        for k, split in enumerate(splits)
    ]
    right.legend(handles=keys, fontsize=8)
    right.set_yticks(np.arange(len(classes)), classes, fontsize=8)
    right.invert_yaxis()
    right.set_xlabel("% of the pixels that are not void")
    right.set_title("Class shares", fontsize=10)
    return figure


def _sheet(samples: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return images, and below each row its overlays, as one picture."""
    tiles = [_tile(image, mask) for image, mask in samples]
    height = max((image.shape[0] for image, _ in tiles), default=1)
    width = max((image.shape[1] for image, _ in tiles), default=1)
    sheet = np.full((2 * height * -(-len(tiles) // ACROSS), width * ACROSS, 3), 255, np.uint8)
    for k, pair in enumerate(tiles):
        for below, part in enumerate(pair):
            top = (2 * (k // ACROSS) + below) * height + (height - part.shape[0]) // 2
            left = k % ACROSS * width + (width - part.shape[1]) // 2
            sheet[top : top + part.shape[0], left : left + part.shape[1]] = part
    return sheet if samples else np.full((1, 1, 3), 255, np.uint8)


def _tile(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an image and its overlay, enlarged or reduced to `TILE` pixels."""
    height, width = mask.shape
    scale = TILE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shown = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    labels = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    return shown, display.overlay(shown, labels)
