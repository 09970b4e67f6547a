"""All that a GPU can tell, in one command of at most eight minutes.

    python -m benchmarks.gpu [--minutes 8]

The training step and its roofline, training with its data, the published recipes beside the
course's way, lessons 06 and 07 under full, in this order. Each part is a process of its own; what
has no time left is ended, or not begun, and the last table says so. CamVid, photographs of people
and pets are those in the data folder (COURSE_DATA); drawn ones stand in for what is not there:
then the times count, the scores do not. Versions are printed: run it in a second environment for
others, such as Python 3.12 with torch 2.11 and torchvision 0.26.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from PIL import Image

from benchmarks.measuring import hardware
from course_utils.data import VOID, SegmentationSet, camvid, catalogue, load
from course_utils.data.camvid_files import write_layout
from course_utils.paths import data_folder

COURSE = ("-c", "from course_utils.cli import main; main()")


class Part(NamedTuple):
    """One line of the last table: a command of Python, and at least how many seconds it needs."""

    name: str
    command: tuple[str, ...]
    least: float


PARTS = (
    Part("training step", ("-m", "benchmarks.training_step", "--size", "256", "384"), 15),
    Part("training with data", ("-m", "benchmarks.training", "--rounds", "2"), 40),
    Part("recipe: people", ("-m", "benchmarks.recipes", "--whole", "--only", "people"), 25),
    Part("recipe: pets", ("-m", "benchmarks.recipes", "--whole", "--only", "pets"), 25),
    Part("recipe: scratch", ("-m", "benchmarks.recipes", "--whole", "--only", "scratch"), 25),
    Part(
        "recipe: stages, a quarter of its epochs",
        ("-m", "benchmarks.recipes", "--whole", "--only", "stages", "--share", "0.25"),
        30,
    ),
    Part("lesson 06, full", (*COURSE, "solve", "06"), 30),
    Part("lesson 07, full", (*COURSE, "solve", "07"), 60),
)
TINY = (
    Part("training step", ("-m", "benchmarks.training_step", "--size", "32", "32"), 1),
    Part(
        "training with data",
        ("-m", "benchmarks.training", "--rounds", "1", "--steps", "4", "--size", "32", "32"),
        1,
    ),
    Part("recipe: people", ("-m", "benchmarks.recipes", "--tiny", "--only", "people"), 1),
    Part("lesson 00", (*COURSE, "solve", "00"), 1),
)
"""For a test of this script: parts of each kind at sizes that measure nothing."""


def with_stand_ins(place: Path) -> str:
    """Return a data folder that has CamVid in both layouts: what is here, the rest written.

    Without CamVid, scenes in its layout.
    """
    for entry in data_folder().iterdir() if data_folder().is_dir() else ():
        (place / entry.name).symlink_to(entry.resolve())
    os.environ["COURSE_DATA"] = str(place)
    if not (catalogue.present("camvid") or catalogue.present("camvid-fastai")):
        print("CamVid is not here: scenes of its size stand in for it", flush=True)
        folder = place / "camvid-drawn" / "CamVid"
        for split, theirs in camvid.SPLITS.items():
            count = {"train": 367, "valid": 101, "test": 233}[split]
            write_segnet(folder, theirs, load("scenes", split, (256, 384), count))
        (place / "CamVid").symlink_to(folder)
    if catalogue.present("camvid-fastai") is None:
        parts = [load("camvid", split, (360, 480)) for split in ("train", "valid")]
        write_layout(place / "camvid-fastai", *parts)
    return str(place)


def write_segnet(folder: Path, split: str, data: SegmentationSet) -> None:
    """Write a split in the SegNet layout, void as 11."""
    for name in (split, f"{split}annot"):
        (folder / name).mkdir(parents=True)
    for number, (image, mask) in enumerate(zip(data.images, data.masks, strict=True)):
        labels = np.where(mask == VOID, 11, mask).astype(np.uint8)
        Image.fromarray(image).save(folder / split / f"{number:05d}.png")
        Image.fromarray(labels).save(folder / f"{split}annot" / f"{number:05d}.png")


def run(part: Part, seconds: float, environment: dict[str, str]) -> str:
    """Run a part for at most so many seconds, its output as it comes; return how it went."""
    print(f"\n== {part.name}", flush=True)
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *part.command], env=environment, start_new_session=True
    )
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with its loader's processes, and kernels
        process.wait()
        return f"ended after {seconds:.0f} s, unfinished"
    taken = time.monotonic() - started
    return f"{taken:.0f} s" if code == 0 else f"FAILED with exit code {code} after {taken:.0f} s"


def main(
    minutes: Annotated[float, typer.Option(help="In all; what does not fit is left out.")] = 8,
    tiny: Annotated[bool, typer.Option(help="Only to test this script, on a CPU too.")] = False,
) -> None:
    """Run all parts that the time allows."""
    end = time.monotonic() + 60 * minutes
    print(hardware(), flush=True)
    done = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-data-") as place:
        environment = {**os.environ, "COURSE_PROFILE": "quick" if tiny else "full"}
        if not tiny:
            environment["COURSE_DATA"] = with_stand_ins(Path(place))
        for part in TINY if tiny else PARTS:
            left = end - time.monotonic() - 5
            done[part.name] = (
                run(part, left, environment) if left >= part.least else "left out: no time"
            )
    print()
    for name, how in done.items():
        print(f"{name:42} {how}")
    raise typer.Exit(any(how.startswith("FAILED") for how in done.values()))


if __name__ == "__main__":
    typer.run(main)
