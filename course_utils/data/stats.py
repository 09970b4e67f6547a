"""What is in a data set: counts, sizes, class shares, and pairs that look wrong.

To be looked at before anything is trained. Every file is read once, at its own size.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

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

THUMB = (24, 32)
"""Height and width at which pictures of two splits are compared."""

ALIKE = 12.0
"""Pictures that differ by less (root mean square of grey levels, brightness aside) are alike."""

MOST_LINES = 10


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
        (N, h, w) float32: every image, small and grey, its mean taken off.
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
            tqdm(pairs, desc=f"{name}/{split_name}", total=total, leave=False)
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
    grey = np.asarray(small, np.float32)
    return grey - grey.mean()


def nearest(split: Split, train: Split) -> list[tuple[float, str, str]]:
    """Return for each image of a split how far the nearest one of train is, nearest first.

    Returns
    -------
    list
        (difference, image, image of train), the difference as in `ALIKE`.
    """
    if not split.images or not train.images:
        return []
    ours, theirs = (np.stack(part.thumbs).reshape(part.images, -1) for part in (split, train))
    squares = (ours**2).sum(1)[:, None] + (theirs**2).sum(1)[None] - 2 * ours @ theirs.T
    distance = np.sqrt(np.maximum(squares, 0) / ours.shape[1])
    best = distance.argmin(1)
    found = [(float(distance[k, b]), split.names[k], train.names[b]) for k, b in enumerate(best)]
    return sorted(found)


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
        alike = [pair for pair in found if pair[0] < ALIKE]
        if alike:
            difference, one, other = alike[0]
            told.append(
                f"{len(alike)} of {split.images} images of {split.name} look like one of "
                f"{splits[0].name}, such as {one} like {other} (they differ by {difference:.1f} "
                "grey levels)."
            )
    return told


def draw(name: str, splits: list[Split]) -> object:
    """Return the figure: pictures with their masks, and the class shares of each split."""
    samples = [sample for split in splits for sample in split.samples][:8]
    classes = splits[0].classes
    figure, axes = display.new_figure(10, 3.6 + 0.16 * len(classes), 1, 2, width_ratios=[3, 2])
    (left, right) = axes[0]
    if samples:
        left.imshow(_sheet(samples), interpolation="nearest")
    left.set_axis_off()
    left.set_title(f"{name}: images, and their masks laid over them", fontsize=10)
    height = 0.8 / len(splits)
    table = display.colours(len(classes)) / 255
    for k, split in enumerate(splits):
        places = np.arange(len(classes)) + (k - (len(splits) - 1) / 2) * height
        right.barh(
            places,
            100 * split.shares,
            height,
            color=table,
            edgecolor="0.2",
            hatch=("", "///", "...")[k % 3],
            linewidth=0.5,
        )
    from matplotlib.patches import Patch

    right.legend(
        handles=[
            Patch(
                facecolor="white",
                edgecolor="0.2",
                hatch=("", "///", "...")[k % 3],
                label=split.name,
            )
            for k, split in enumerate(splits)
        ],
        fontsize=8,
    )
    right.set_yticks(np.arange(len(classes)), classes, fontsize=8)
    right.invert_yaxis()
    right.set_xlabel("% of the pixels that are not void")
    right.set_title("Class shares", fontsize=10)
    if VOID in {value for _, mask in samples for value in np.unique(mask)}:
        left.text(
            0.5, -0.03, "hatched grey: void", transform=left.transAxes, ha="center", fontsize=8
        )
    return figure


def _sheet(samples: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return images and overlays as one picture, four beside each other, of one height."""
    side = 150
    rows = []
    for start in range(0, len(samples), 4):
        images, overlays = [], []
        for image, mask in samples[start : start + 4]:
            height, width = mask.shape
            scale = side / max(height, width)
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
            labels = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
            for part, shown in ((images, small), (overlays, display.overlay(small, labels))):
                tile = np.full((side, side, 3), 255, np.uint8)
                top, left = (side - size[1]) // 2, (side - size[0]) // 2
                tile[top : top + size[1], left : left + size[0]] = shown
                part.append(tile)
        blank = [np.full((side, side, 3), 255, np.uint8)] * (4 - len(images))
        rows += [np.concatenate([*images, *blank], 1), np.concatenate([*overlays, *blank], 1)]
    return np.concatenate(rows)
