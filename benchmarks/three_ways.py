"""Compare the ways to label every pixel: at equal training time, and at equal multiply-adds.

    python -m benchmarks.three_ways [--seconds 60] [--seeds 3] [--keep FOLDER]

A window that slides, a stack at full resolution, a strided net with an enlarged head, down and up
without skips, and the U-Net, all on the same scenes. Lesson 05 compares the student's own models
once; here each is trained for three seeds, so that what the lesson says is known to be no accident.

``--seconds`` is processor time of the steps, for a machine that does something else as well.
Each training is kept in ``--keep``; an interrupted run goes on from there.
"""

import json
import math
import time
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from course_utils.data import VOID, SegmentationSet, load
from course_utils.metrics import iou, mean_iou, per_image_matrices
from course_utils.training import class_weights, fit, predict, predict_patches, seed_everything

THIN = ("pole", "pedestrian", "sign")
LARGE = ("sky", "building", "road", "pavement", "tree")
WINDOW, EVERY = 33, 4
EQUAL = 200e6
"""Multiply-adds an image of 96x128: what the stack of 16 channels takes."""


def layer(channels_in: int, channels_out: int, **options) -> nn.Sequential:
    """Return a 3x3 convolution, batch norm and ReLU."""
    convolution = nn.Conv2d(channels_in, channels_out, 3, bias=False, **options)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU())


class Window(nn.Module):
    """Labels the centre pixel of patches of 33x33 ``(B, 3, 33, 33)``, logits ``(B, C)``."""

    def __init__(self, classes: int, width: int = 24):
        super().__init__()
        self.layers = nn.Sequential(
            layer(3, width),
            layer(width, width),
            nn.MaxPool2d(2),
            layer(width, 2 * width),
            nn.MaxPool2d(2),
            layer(2 * width, 64),
            nn.Flatten(),
            nn.Linear(64 * 16, 64),
            nn.ReLU(),
            nn.Linear(64, classes),
        )

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Return logits of the centres, ``(B, C)``."""
        return self.layers(patches)


class Stack(nn.Module):
    """Eight layers at full resolution, which see 17 pixels."""

    def __init__(self, classes: int, width: int = 16):
        super().__init__()
        ins = [3] + [width] * 7
        self.layers = nn.Sequential(*(layer(i, width, padding=1) for i in ins))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``(B, C, H, W)``."""
        return self.head(self.layers(x))


class Strided(nn.Module):
    """Five layers and three poolings; the scores are enlarged eightfold."""

    def __init__(self, classes: int, width: int = 32):
        super().__init__()
        ins, outs = (3, width, 2 * width, 3 * width, 3 * width), (1, 2, 3, 3, 3)
        rows = [layer(i, width * o, padding=1) for i, o in zip(ins, outs, strict=True)]
        pool = nn.MaxPool2d(2)
        self.layers = nn.Sequential(rows[0], pool, rows[1], pool, rows[2], pool, *rows[3:])
        self.head = nn.Conv2d(3 * width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``(B, C, H, W)``."""
        scores = self.head(self.layers(x))
        return F.interpolate(scores, x.shape[2:], mode="bilinear", align_corners=False)


class DownAndUp(nn.Module):
    """The U-Net of lesson 06, with its skips or without them."""

    def __init__(self, classes: int, width: int = 16, *, skips: bool, levels: int = 4):
        super().__init__()
        widths = [width * 2**k for k in range(levels + 1)]
        self.skips, self.pool = skips, nn.MaxPool2d(2)
        self.down = nn.ModuleList(
            nn.Sequential(layer(i, o, padding=1), layer(o, o, padding=1))
            for i, o in zip([3, *widths[:-1]], widths, strict=True)
        )
        ups = widths[-2::-1]
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in ups)
        self.merge = nn.ModuleList(
            nn.Sequential(layer((1 + skips) * w, w, padding=1), layer(w, w, padding=1)) for w in ups
        )
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``(B, C, H, W)``."""
        maps = []
        for level, layers in enumerate(self.down):
            x = layers(self.pool(x) if level else x)
            maps.append(x)
        for up, merge, skip in zip(self.up, self.merge, maps[-2::-1], strict=True):
            x = up(x)
            x = merge(torch.cat([skip, x], 1) if self.skips else x)
        return self.head(x)


WAYS = {
    "stack at full resolution": Stack,
    "strided, enlarged": Strided,
    "down and up, no skips": partial(DownAndUp, skips=False),
    "U-Net": partial(DownAndUp, skips=True),
}


def multiply_adds(model: nn.Module, shape: tuple[int, ...]) -> float:
    """Return the multiplications of a forward pass: half of the operations that torch counts."""
    # without numbers: only shapes are needed
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        deepcopy(model).to("meta").eval()(torch.zeros(shape, device="meta"))
    return counter.get_total_flops() / 2


def of_equal_cost(make, classes: int, size: tuple[int, int]) -> int:
    """Return the width with which a net is nearest to ``EQUAL`` multiply-adds an image."""
    costs = {w: multiply_adds(make(classes, w), (1, 3, *size)) for w in range(4, 100)}
    return min(costs, key=lambda w: abs(math.log(costs[w] / EQUAL)))


class Patches:
    """Draws patches whose centres are of each class as often as the root of its share."""

    def __init__(self, data: SegmentationSet, seed: int):
        half = WINDOW // 2
        images = np.pad(data.images, ((0, 0), (half, half), (half, half), (0, 0)), "reflect")
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2)
        self.places = [np.argwhere(data.masks == c) for c in range(len(data.classes))]
        root = np.sqrt([len(places) for places in self.places])
        self.chance, self.rng = root / root.sum(), np.random.default_rng(seed)

    def draw(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return patches ``(count, 3, 33, 33)`` and the classes of their centres."""
        labels = self.rng.choice(len(self.chance), count, p=self.chance)
        patches = []
        for label in labels:
            n, y, x = self.places[label][self.rng.integers(len(self.places[label]))]
            patch = self.images[n, :, y : y + WINDOW, x : x + WINDOW]
            patches.append(patch.flip(-1) if self.rng.random() < 0.5 else patch)
        return torch.stack(patches).float() / 255, torch.from_numpy(labels)


def train_window(train: SegmentationSet, seconds: float, seed: int) -> nn.Module:
    """Train the patch classifier for a processor time."""
    model, patches = Window(len(train.classes)), Patches(train, seed)

    def step() -> None:
        x, y = patches.draw(256)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=1e-2)
    steps = max(int(seconds / seconds_of(step)), 10)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=1e-2)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    for _ in range(steps):
        step()
        rates.step()
    return model.eval()


def seconds_of(step) -> float:
    """Return the processor time of the fastest of some steps, warm-up left out."""
    times = []
    for _ in range(6):
        started = time.process_time()
        step()
        times.append(time.process_time() - started)
    return min(times[2:]) / torch.get_num_threads()


def train_net(model, train, valid, *, seed: int, seconds: float = 0.0, epochs: int = 0):
    """Train with the course's ``fit``: for a processor time, or a number of epochs."""
    few = train.subset(64)
    weights = class_weights(train.masks, len(train.classes))
    options = {"max_lr": 5e-3, "batch_size": 8, "class_weights": weights, "seed": seed}
    if seconds:
        state = {k: v.clone() for k, v in model.state_dict().items()}
        one = seconds_of(lambda: fit(model, few, few.subset(1), epochs=1, **options)) / 8
        model.load_state_dict(state)
        epochs = max(round(seconds / (one * (len(train) // 8))), 1)
    fit(model, train, valid, epochs=epochs, **options)
    return epochs


def main(
    seconds: Annotated[float, typer.Option(help="Of each training, at equal time.")] = 60,
    epochs: Annotated[int, typer.Option(help="Of each, at equal multiply-adds.")] = 10,
    seeds: Annotated[int, typer.Option(help="So many trainings of each.")] = 3,
    keep: Annotated[Path, typer.Option(help="Where each training is kept.")] = Path("three_ways"),
) -> None:
    """Train, keep, print both tables and the differences that the lesson speaks of."""
    keep.mkdir(parents=True, exist_ok=True)
    train, valid, test = (load("scenes", split) for split in ("train", "valid", "test"))
    few = valid.subset(8)
    C, size = len(train.classes), train.size
    found = {}

    def done(name: str, seed: int, run) -> None:
        """Run and keep, unless it is kept already."""
        file = keep / f"{name.replace(' ', '_').replace(',', '')}_{seed}.npz"
        if not file.exists():
            seed_everything(seed)
            prediction, facts = run()
            matrices = per_image_matrices(prediction, test.masks, C, VOID)
            np.savez(file, matrices=matrices, facts=json.dumps(facts))
        kept = np.load(file)
        found[name, seed] = kept["matrices"], json.loads(str(kept["facts"]))
        print(f"{name}, seed {seed}: {mean_iou(found[name, seed][0].sum(0)):.3f}", flush=True)

    def window(seed):
        model = train_window(train, seconds, seed)
        torch.save(model.state_dict(), keep / f"window_{seed}.pt")
        cost = (
            multiply_adds(model, (1, 3, WINDOW, WINDOW)) * (size[0] // EVERY) * (size[1] // EVERY)
        )
        return predict_patches(model, test.images, WINDOW, EVERY), {"cost": cost, "width": 24}

    def net(make, seed, width=None, **how):
        build = partial(make, C) if width is None else partial(make, C, width)
        cost, model = multiply_adds(build(), (1, 3, *size)), build()
        epochs = train_net(model, train, few, seed=seed, **how)
        return predict(model, test.images), {"cost": cost, "epochs": epochs, "width": width}

    widths = {way: of_equal_cost(make, C, size) for way, make in WAYS.items()}
    print(f"widths at equal multiply-adds: {widths}", flush=True)
    for seed in range(seeds):
        done("window", seed, partial(window, seed))
        for way, make in WAYS.items():
            done(f"{way} time", seed, partial(net, make, seed, seconds=seconds))
            run = partial(net, make, seed, widths[way], epochs=epochs)
            done(f"{way} cost", seed, run)
    report(found, list(range(seeds)), test.classes)


def report(found: dict, seeds: list[int], classes) -> None:
    """Print a table for each question, and the differences with their intervals."""
    for question, names in (
        ("equal training time", ["window", *(f"{way} time" for way in WAYS)]),
        ("equal multiply-adds an image", [f"{way} cost" for way in WAYS]),
    ):
        print(f"\n| {question} | million multiply-adds | mean IoU, by seed | thin | large |")
        print("|---|---|---|---|---|")
        for name in names:
            rows = [found[name, seed] for seed in seeds]
            scores = iou(np.stack([matrices.sum(0) for matrices, _ in rows]))
            means = " ".join(f"{value:.3f}" for value in scores.mean(1))
            thin, large = (
                scores[:, [classes.index(c) for c in group]].mean() for group in (THIN, LARGE)
            )
            cost = rows[0][1]["cost"] / 1e6
            print(f"| {name} | {cost:,.0f} | {means} | {thin:.3f} | {large:.3f} |")
    print("\ndifference, by seed, 95 % over images")
    thin = [classes.index(c) for c in THIN]
    for a, b, what, of in (
        ("down and up, no skips cost", "stack at full resolution cost", "mean IoU", None),
        ("U-Net cost", "stack at full resolution cost", "mean IoU", None),
        ("U-Net cost", "down and up, no skips cost", "thin classes", thin),
        ("U-Net time", "down and up, no skips time", "thin classes", thin),
        ("U-Net time", "strided, enlarged time", "mean IoU", None),
        ("U-Net cost", "strided, enlarged cost", "mean IoU", None),
    ):
        told = " ".join(
            difference(found[a, seed][0], found[b, seed][0], of or list(range(len(classes))))
            for seed in seeds
        )
        print(f"{a} - {b}, {what}: {told}")


def difference(a: np.ndarray, b: np.ndarray, of: list[int]) -> str:
    """Return the difference of two nets on the same images, with its interval."""
    count, classes, _ = a.shape
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), 1000)
    draws = np.vstack([np.ones(count), draws])  # first the images as they are
    scores = [
        np.nanmean(iou((draws @ m.reshape(count, -1)).reshape(-1, classes, classes))[:, of], 1)
        for m in (a, b)
    ]
    differences = scores[0] - scores[1]
    low, high = np.quantile(differences[1:], [0.025, 0.975])
    return f"{differences[0]:+.3f} [{low:+.3f}, {high:+.3f}]"


if __name__ == "__main__":
    typer.run(main)
