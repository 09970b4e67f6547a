"""Training as tutorials write it and by the course's ``fit``: with the loading of the data.

    python -m benchmarks.training [--rounds 5] [--epochs 13]

The same U-Net (lesson 06), batches, rates and loss. The tutorials' way opens files with PIL in a
DataLoader, in float32 and torch's default layout; ``fit`` has the images in memory, which is
counted in the time to the first batch. With ``--epochs`` both are also trained to their end, for
what they reach.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from benchmarks import tutorial
from benchmarks.measuring import ROUNDS, Row, hardware, in_turns, seconds, table
from course_utils.data import SegmentationSet, load
from course_utils.data.camvid_files import write_layout
from course_utils.models.unet import UNet
from course_utils.training import (
    class_weights,
    evaluate,
    fastest_mode,
    fit,
    fitting,
    pick_device,
    seed_everything,
)

BATCH, MAX_LR = 8, 5e-3  # of lesson 06
STEPS, WARM = 26, 2
"""Steps of a measurement, and those at its start that do not count. With fewer than 30 steps
``fit`` does not look for a better number of threads, which costs 0.5 % of a long training."""
SIZE = (96, 128)
FILES = {"as large as the net's input": 1, "as SegNet's copy of CamVid": 3.75, "as CamVid": 7.5}
"""How many times as large as what is trained on the files' sides are; they are resized at each
access. 360x480 and 720x960 beside 96x128."""
COPIES = 16
"""So many different files are drawn, and used again and again."""


def rows(
    rounds: int = ROUNDS,
    steps: int = STEPS,
    size: tuple[int, int] = SIZE,
    processor: bool = False,
) -> list[Row]:
    """Measure both ways in turns, each in a process of its own; ``fit`` without bfloat16 too.

    Parameters
    ----------
    rounds, steps, size
        Measurements of each, steps of one of them, height and width.
    processor
        Count processor time, on one thread: for a machine that does something else as well.
    """
    train, valid = load("scenes", size=size, count=BATCH * steps), load("scenes", "valid", size, 1)
    modes = {", no half precision": True}
    if fastest_mode(pick_device()).dtype is not None:
        modes = {"": False, **modes}
    found = []
    with tempfile.TemporaryDirectory() as place, _own_process() as one, _own_process() as other:
        for name, larger in FILES.items():
            folder, side = Path(place) / name, tuple(round(larger * part) for part in size)
            write_layout(folder, load("scenes", size=side, count=COPIES), valid)
            for more, exact in modes.items():
                what = f"training step, files {name}: {side[0]}x{side[1]}{more}"
                row = Row(what, "DataLoader, PIL", "fit")
                theirs = partial(one, by_tutorial, train, folder, processor)
                ours = partial(other, by_fit, train, valid, exact, processor)
                found.append(in_turns(row, theirs, ours, rounds))
        row = Row("start of Python to the first step's end", "DataLoader, PIL", "fit, drawn scenes")
        theirs = partial(first_step, THEIRS.format(folder=str(folder), size=size), processor)
        ours = partial(first_step, OURS.format(size=size), processor)
        found.append(in_turns(row, theirs, ours, rounds))
    return found


@contextlib.contextmanager
def _own_process() -> Iterator[Callable]:
    """Give what calls a function in another process, which stays: its imports count once.

    So what one way sets for its process, such as how memory is kept, helps no other.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield lambda *call: pool.submit(*call).result()


def _clock(processor: bool) -> Callable[[], float]:
    """Return the clock to measure by; of processor time only one thread's means anything."""
    if processor:
        torch.set_num_threads(1)
    return time.process_time if processor else time.perf_counter


def by_tutorial(train: SegmentationSet, folder: Path, processor: bool) -> float:
    """Return the seconds of a step of the tutorials' loop."""
    clock, device = _clock(processor), pick_device()
    names = _names(folder)
    names *= len(train) // len(names) + 1
    seed_everything(0)
    model = UNet(3, len(train.classes)).to(device)
    stamps = tutorial.train(
        model,
        tutorial.Pictures(folder, names[: len(train)], train.size),
        epochs=1,
        batch_size=BATCH,
        optimizer=torch.optim.AdamW(model.parameters(), MAX_LR, weight_decay=1e-2),
        loss=_loss(train, device),
        max_lr=MAX_LR,
        device=device,
        clock=clock,
    )
    return _a_step(stamps)


def by_fit(train: SegmentationSet, valid: SegmentationSet, exact: bool, processor: bool) -> float:
    """Return the seconds of a step of ``fit``; ``exact``: in float32 whatever the machine has."""
    clock = _clock(processor)
    seed_everything(0)
    stamps, last = [], len(train) // BATCH

    def stamp(step: int, loss: torch.Tensor) -> None:
        if step in (WARM, last):
            loss.item()  # waits for a GPU
        stamps.append(clock())

    mode = fastest_mode(pick_device())
    with computing(mode._replace(dtype=None, scaled=False) if exact else mode):
        fit(
            UNet(3, len(train.classes)),
            train,
            valid,
            epochs=1,
            max_lr=MAX_LR,
            batch_size=BATCH,
            class_weights=class_weights(train.masks, len(train.classes)),
            watch=False,
            on_step=stamp,
        )
    return _a_step(stamps)


def _a_step(stamps: list[float]) -> float:
    return (stamps[-1] - stamps[WARM - 1]) / (len(stamps) - WARM)


def _loss(train: SegmentationSet, device) -> nn.Module:
    weights = class_weights(train.masks, len(train.classes)).to(device)
    return nn.CrossEntropyLoss(weights, ignore_index=len(train.classes))  # void, in the files


def _names(folder: Path) -> list[str]:
    """Return the images to train on."""
    valid = set((folder / "valid.txt").read_text().split())
    return sorted(file.name for file in (folder / "images").iterdir() if file.name not in valid)


@contextlib.contextmanager
def computing(mode) -> Iterator[None]:
    """Let ``fit`` compute in this precision and layout."""
    before = fitting.fastest_mode
    fitting.fastest_mode = lambda device: mode
    try:
        yield
    finally:
        fitting.fastest_mode = before


THEIRS = """
import os, torch
from pathlib import Path
from benchmarks import tutorial
from course_utils.models.unet import UNet
folder, size = Path({folder!r}), {size}
device = "cuda" if torch.cuda.is_available() else "cpu"
model = UNet(3, 10).to(device)
names = sorted(file.name for file in (folder / "images").iterdir())
def loss(logits, labels):
    return torch.nn.functional.cross_entropy(logits, labels, ignore_index=10)
class One(torch.optim.AdamW):
    def step(self):
        super().step()
        print("stepped", flush=True)
        os._exit(0)
data = tutorial.Pictures(folder, names, size)
tutorial.train(
    model, data, epochs=1, batch_size=8, optimizer=One(model.parameters()), loss=loss, device=device
)
"""

OURS = """
import os
from course_utils.data import load
from course_utils.models.unet import UNet
from course_utils.training import fit
def stop(step, loss):
    float(loss)
    print("stepped", flush=True)
    os._exit(0)
train, valid = load("scenes", size={size}), load("scenes", "valid", size={size})
fit(UNet(3, 10), train, valid, epochs=1, batch_size=8, watch=False, on_step=stop)
"""


def first_step(code: str, processor: bool) -> float:
    """Return the seconds from the start of a process to the end of its first training step."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} if processor else None
    clock = _children if processor else time.perf_counter
    started = clock()
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, env=environment
    )
    taken = clock() - started
    assert b"stepped" in done.stdout
    return taken


def _children() -> float:
    """Return the processor time of the processes that this one has started and that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def accuracy(epochs: int, seed: int, count: int | None = None) -> dict[str, tuple]:
    """Train both ways to their end; return seconds, mean IoU and pixel accuracy of each."""
    device = pick_device()
    train, valid = load("scenes", count=count), load("scenes", "valid", count=count)
    found = {}
    for way in ("DataLoader, PIL", "fit"):
        seed_everything(seed)
        model = UNet(3, len(train.classes)).to(device)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "files"
            write_layout(folder, train, valid.subset(1))
            started = time.perf_counter()
            if way == "fit":
                weights = class_weights(train.masks, len(train.classes))
                fit(
                    model,
                    train,
                    valid.subset(1),
                    epochs=epochs,
                    max_lr=MAX_LR,
                    batch_size=BATCH,
                    class_weights=weights,
                    seed=seed,
                    watch=False,
                )
            else:
                tutorial.train(
                    model,
                    tutorial.Pictures(folder, _names(folder), train.size),
                    epochs=epochs,
                    batch_size=BATCH,
                    optimizer=torch.optim.AdamW(model.parameters(), MAX_LR, weight_decay=1e-2),
                    loss=_loss(train, device),
                    max_lr=MAX_LR,
                    device=device,
                )
            taken = time.perf_counter() - started
        scores = evaluate(model, valid)
        found[way] = taken, scores.mean_iou(), scores.pixel_accuracy()
    return found


def main(
    rounds: Annotated[int, typer.Option(help="Measurements of each.")] = ROUNDS,
    epochs: Annotated[int, typer.Option(help="Train both so long, too (13 in lesson 06).")] = 0,
    seeds: Annotated[int, typer.Option(help="So often, with another seed each time.")] = 1,
    steps: Annotated[int, typer.Option(help="Of a measurement.")] = STEPS,
    size: Annotated[tuple[int, int], typer.Option(help="Height and width.")] = SIZE,
    processor: Annotated[
        bool, typer.Option("--processor", help="Processor time on one thread: a busy machine.")
    ] = False,
) -> None:
    """Print the table, and what both ways reach."""
    print(hardware())
    if rounds:
        found = rows(rounds, steps, size, processor)
        print(table(found))
        for row in found[:-1]:
            pace = [BATCH / min(part) for part in (row.before, row.after)]
            print(f"{row.what}: {pace[0]:.0f} and {pace[1]:.0f} images a second at best")
    for seed in range(seeds if epochs else 0):
        for way, (taken, iou, right) in accuracy(epochs, seed).items():
            print(
                f"{epochs} epochs, seed {seed}, {way}: {seconds(taken)}, mean IoU {iou:.3f}, "
                f"pixel accuracy {right:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    typer.run(main)
