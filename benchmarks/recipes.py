"""Four published recipes as their texts describe them, and the course's own way in the same time.

    python -m benchmarks.recipes [--only scratch] [--whole]

Both get the same data, split and size, and are scored alike. The recipe is run first; the
course's way then gets the seconds that it took. Small by default on a CPU (small pictures, fewer
of them and fewer epochs), whole on a GPU. Data is what is in the data folder (COURSE_DATA), else
drawn. A recipe whose encoder's weights cannot be had here gets EfficientNet-Lite0, which came with
the course, and so does the course's way: the table says so.
"""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2

from benchmarks import tutorial
from benchmarks.measuring import hardware, seconds
from course_utils.data import VOID, SegmentationSet, load
from course_utils.data.camvid_files import write_layout
from course_utils.data.transforms import augmenting
from course_utils.errors import CourseError
from course_utils.models.encoders import layer_groups, lite0
from course_utils.models.shipped import MEAN, STD, Shipped
from course_utils.models.unet import UNet
from course_utils.training import class_weights, evaluate, fastest_mode, fit, pick_device
from course_utils.training.devices import seed_everything

LITE0 = "EfficientNet-Lite0"
clock = time.perf_counter
"""What both ways are timed by; ``main`` may take another one."""


class Scale(NamedTuple):
    """How large a recipe is run: pixels, images of a split, epochs, images a step, net's width."""

    size: tuple[int, int]
    train: int | None
    valid: int | None
    epochs: tuple[int, ...]
    batch: int
    width: int = 16


@dataclass
class Job:
    """What both ways are given.

    Attributes
    ----------
    folder
        Both splits as files in CamVid's layout, of the size that is trained on; void is the code
        after the last class.
    encoder
        What stands in for the recipe's encoder; filled by who takes one.
    """

    folder: Path
    train: SegmentationSet
    valid: SegmentationSet
    scale: Scale
    device: torch.device
    encoder: str = field(default="", compare=False)

    @property
    def classes(self) -> int:
        """The number of classes C."""
        return len(self.train.classes)

    def names(self) -> list[str]:
        """Return the image files to train on."""
        valid = set((self.folder / "valid.txt").read_text().split())
        return sorted(f.name for f in (self.folder / "images").iterdir() if f.name not in valid)


class Normalised(nn.Module):
    """A net that wants ImageNet's mean and deviation taken out; logits of the first C classes."""

    def __init__(self, net: nn.Module, classes: int):
        super().__init__()
        self.net, self.classes = net, classes
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``(B, C, H, W)`` of images in [0, 1]."""
        logits = self.net((x - self.mean) / self.std)
        if logits.shape[1] == 1:  # of one class; the other is its absence
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        return logits[:, : self.classes]


# ---- encoders: the recipe's own, or the one that needs no download


@cache
def fetched(name: str) -> nn.Module | None:
    """Return torchvision's net with its ImageNet weights, or None where they cannot be had."""
    from torchvision import models

    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return models.get_model(name, weights="DEFAULT", progress=False)
    except (OSError, RuntimeError):  # no network
        return None


def unet_on(name: str, classes: int) -> tuple[nn.Module, str]:
    """Return smp's U-Net on a pretrained encoder, and which it is."""
    import segmentation_models_pytorch as smp

    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return smp.Unet(name, encoder_weights="imagenet", classes=classes), name
    except Exception:  # the hub's client raises errors of many kinds where there is no network
        net = smp.Unet("tu-tf_efficientnet_lite0", encoder_weights=None, classes=classes)
        own = net.encoder.state_dict()
        kept = [key for key in own if not key.endswith("num_batches_tracked")]
        given = lite0().state_dict()
        given = [given[key] for key in given if not key.endswith("num_batches_tracked")]
        net.encoder.load_state_dict(own | dict(zip(kept, given, strict=False)))
        return net, LITE0


class Depths(nn.Module):
    """A frozen encoder: maps of strides 2 to 32 of images in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        if (net := fetched("mobilenet_v2")) is not None:
            self.name, layers = "mobilenet_v2", list(net.features)
            # the expansions of blocks 1, 3, 6 and 13 are inside: 0 is the stem, 1 has none
            self.stages, start = nn.ModuleList(), 0
            for block in (2, 4, 7, 14):
                inside = list(layers[block].conv)
                self.stages.append(nn.Sequential(*layers[start:block], inside[0]))
                layers[block] = nn.Sequential(*inside[1:])
                start = block
            self.stages.append(nn.Sequential(*layers[start:18]))
        else:
            self.name, layers = LITE0, list(lite0())
            cuts = ((0, 2), (2, 3), (3, 4), (4, 6), (6, 8))
            self.stages = nn.ModuleList(nn.Sequential(*layers[a:b]) for a, b in cuts)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.requires_grad_(False)
        self.widths = [one.shape[1] for one in self.eval()(torch.zeros(1, 3, 64, 64))]

    def train(self, mode: bool = True) -> Depths:
        """Stay as in use: frozen is its batch norm, too."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return five maps, the largest first."""
        x, maps = (x - self.mean) / self.std, []
        for stage in self.stages:
            maps.append(x := stage(x))
        return maps


# ---- 1: a U-Net from scratch


def pictures_block(job: Job, size: tuple[int, int]):
    """Return fastai's data of the files, as its texts have it: augmented, normalised."""
    from fastai.vision.all import (
        DataBlock,
        FileSplitter,
        ImageBlock,
        MaskBlock,
        Normalize,
        Resize,
        aug_transforms,
        imagenet_stats,
    )

    codes = (job.folder / "codes.txt").read_text().split()
    return DataBlock(
        blocks=(ImageBlock, MaskBlock(codes)),
        get_items=_images,
        get_y=_label,
        splitter=FileSplitter(job.folder / "valid.txt"),
        item_tfms=Resize(size, method="squish"),
        batch_tfms=[*aug_transforms(), Normalize.from_stats(*imagenet_stats)],
    ).dataloaders(
        job.folder,
        bs=job.scale.batch,
        device=job.device,
        num_workers=0 if clock is time.process_time else None,
    )


def _images(folder: Path) -> list[Path]:
    return sorted((folder / "images").iterdir())


def _label(image: Path) -> Path:
    return image.parent.parent / "labels" / f"{image.stem}_P.png"


def scratch_recipe(job: Job) -> nn.Module:
    """Fastai's Learner on a U-Net: one cycle to 3e-3, weight decay 1e-2."""
    from fastai.losses import CrossEntropyLossFlat
    from fastai.vision.all import Learner

    learn = Learner(
        pictures_block(job, job.scale.size),
        UNet(3, job.classes + 1, job.scale.width),
        loss_func=CrossEntropyLossFlat(axis=1),
        wd=1e-2,
    )
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(job.scale.epochs[0], 3e-3)
    return Normalised(learn.model, job.classes)


def scratch_course(job: Job, budget: float) -> nn.Module:
    """Lesson 06: ``fit``, rarer classes weigh more."""
    model = UNet(3, job.classes, job.scale.width)
    weights = class_weights(job.train.masks, job.classes)
    return fitted(model, job, budget, max_lr=5e-3, batch_size=8, class_weights=weights)


def fitted(model: nn.Module, job: Job, budget: float, **options) -> nn.Module:
    """Train with ``fit`` for as many epochs as the seconds allow."""
    options |= {"device": job.device, "watch": False}
    few, stamps, ends = job.train.subset(4 * options["batch_size"]), [], []

    def stamp(step: int, loss: torch.Tensor) -> None:
        loss.item()
        stamps.append(clock())

    calls = {"on_step": stamp, "on_epoch": lambda *_: ends.append(clock())}
    fit(deepcopy(model), few, job.valid, epochs=2, **calls, **options)
    step = (stamps[-1] - stamps[-4]) / 3 if len(stamps) > 4 else ends[1] - ends[0]
    steps = len(job.train) // options["batch_size"] - len(few) // options["batch_size"]
    epoch = ends[1] - ends[0] + max(steps, 0) * step
    fit(model, job.train, job.valid, epochs=max(1, int(budget / epoch)), **options)
    return model


# ---- 2: a pretrained U-Net of fastai, in stages


def staged_learner(job: Job, size: tuple[int, int], **more):
    """Return fastai's learner on resnet34, or on what stands in for it."""
    from fastai.vision.all import unet_learner

    if (net := fetched("resnet34")) is not None:
        job.encoder = "resnet34"
        body = nn.Sequential(*list(net.children())[:-2])
    else:
        job.encoder, body = LITE0, lite0()
    learn = unet_learner(
        pictures_block(job, size),
        lambda pretrained: deepcopy(body),
        cut=nn.Identity(),
        splitter=layer_groups,
        wd=1e-2,
        **more,
    )
    learn.freeze()
    return learn


def staged_recipe(job: Job) -> nn.Module:
    """Frozen at 3e-3, then all of it with smaller rates below."""
    from fastai.losses import CrossEntropyLossFlat

    learn = staged_learner(job, job.scale.size, loss_func=CrossEntropyLossFlat(axis=1))
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(job.scale.epochs[0], slice(3e-3), pct_start=0.9)
        learn.unfreeze()
        learn.fit_one_cycle(job.scale.epochs[1], slice(3e-3 / 400, 3e-3 / 4), pct_start=0.8)
    return shipped(learn, job)


def shipped(learn, job: Job) -> nn.Module:
    """Return a learner's net from images in [0, 1] to the classes."""
    codes = (job.folder / "codes.txt").read_text().split()
    return Shipped(learn.model, codes, job.train.classes).eval()


STAGES = ((False, 0.2), (False, 0.25), (True, 0.15), (True, 0.4))
"""Of lesson 07: whether at full size, and its share of the time; every other one is frozen."""


def staged_course(job: Job, budget: float) -> nn.Module:
    """Lesson 07: half the size, then the whole, each frozen and then not; void left out."""
    from fastai.losses import CrossEntropyLossFlat

    from course_utils.training.learner import Faster

    weights = [*class_weights(job.train.masks, job.classes).tolist(), 0.0]
    weights = torch.tensor(weights, device=job.device)
    loss = CrossEntropyLossFlat(axis=1, ignore_index=job.classes, weight=weights)
    half = tuple(side // 2 for side in job.scale.size)
    learn, rate, started = None, 3e-3, clock()
    for number, (full, share) in enumerate(STAGES):
        if number % 2 == 0:
            before = learn.model.state_dict() if learn else None
            learn = staged_learner(
                job, job.scale.size if full else half, loss_func=loss, cbs=Faster()
            )
            if before:
                learn.model.load_state_dict(before)
        else:
            learn.unfreeze()
        with learn.no_bar(), learn.no_logging():
            epoch = epoch_seconds(learn)
            left = budget - (clock() - started)
            epochs = max(1, int(left * share / sum(s for _, s in STAGES[number:]) / epoch))
            if number % 2:
                learn.fit_one_cycle(epochs, slice(rate / 400, rate / 5))
            else:
                learn.fit_one_cycle(epochs, rate / (3 if full else 1), pct_start=0.5)
    return shipped(learn, job)


def epoch_seconds(learn, batches: int = 4) -> float:
    """Return how long an epoch takes, by some batches that leave no trace."""
    state, frozen = deepcopy(learn.model.state_dict()), learn.opt.frozen_idx
    taken = 0.0
    for loader, training in ((learn.dls.train, True), (learn.dls.valid, False)):
        learn.model.train(training)
        loader = iter(loader)
        stamps = [clock()]
        for _, (x, y) in zip(range(batches), loader, strict=False):
            with torch.set_grad_enabled(training), _as_faster(learn, x, training) as images:
                loss = learn.loss_func(learn.model(images).float(), y)
            if training:
                loss.backward()
            loss.item()
            stamps.append(clock())
        learn.model.zero_grad()
        count = len(learn.dls.train if training else learn.dls.valid)
        taken += count * np.median(np.diff(stamps)[1:] if len(stamps) > 2 else np.diff(stamps))
    learn.model.load_state_dict(state)
    learn.create_opt()
    learn.freeze_to(frozen)
    return taken


@contextlib.contextmanager
def _as_faster(learn, x, training: bool) -> Iterator[torch.Tensor]:
    mode = fastest_mode(x.device)
    learn.model.to(memory_format=mode.memory_format)
    enabled = training and mode.dtype is not None
    with torch.autocast(x.device.type, mode.dtype, enabled=enabled):
        yield x.to(memory_format=mode.memory_format)


# ---- 3: people, binary


def people_recipe(job: Job) -> nn.Module:
    """segmentation_models_pytorch in one line, BCEWithLogits, Adam at 3e-4."""
    net, job.encoder = unet_on("efficientnet-b3", 1)
    model = Normalised(net, job.classes).to(job.device)
    tutorial.train(
        model,
        tutorial.Pictures(job.folder, job.names(), job.scale.size, JitteredFlip()),
        epochs=job.scale.epochs[0],
        batch_size=job.scale.batch,
        optimizer=torch.optim.Adam(model.parameters(), 3e-4),
        loss=lambda logits, labels: F.binary_cross_entropy_with_logits(
            logits[:, 1], labels.float()
        ),
        workers=workers(job),
        device=job.device,
    )
    return model


class JitteredFlip:
    """Colours of the image alone, a flip of both."""

    def __init__(self) -> None:
        self.jitter = v2.ColorJitter(0.2, 0.2, 0.2)

    def __call__(self, image, mask):
        """Return both."""
        return tutorial.flip(self.jitter(image), mask)


def workers(job: Job) -> int:
    """Return the loader's processes: as texts for a GPU have it, none on a CPU."""
    return 8 if job.device.type == "cuda" else 0


def people_course(job: Job, budget: float) -> nn.Module:
    """Lesson 08: the same U-Net, trained by ``fit``, one cycle."""
    net, job.encoder = unet_on("efficientnet-b3", job.classes)
    model = Normalised(net, job.classes)
    return fitted(model, job, budget, max_lr=1e-3, batch_size=8, augment=augmenting(colour=0.2))


# ---- 4: pets, on a frozen encoder


class UpSampling(nn.Module):
    """The decoder of the text: transposed convolutions, each joined with a map of the encoder."""

    def __init__(self, widths: Sequence[int], classes: int, channels: Sequence[int]):
        super().__init__()
        ins, ups = widths[-1], []
        for out, skip in zip(channels, widths[-2::-1], strict=True):
            up = nn.ConvTranspose2d(ins, out, 3, 2, padding=1, output_padding=1, bias=False)
            ups.append(nn.Sequential(up, nn.BatchNorm2d(out), nn.ReLU()))
            ins = out + skip
        self.ups = nn.ModuleList(ups)
        self.head = nn.ConvTranspose2d(ins, classes, 3, 2, padding=1, output_padding=1)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return logits ``(B, C, H, W)`` of the encoder's maps, the largest first."""
        x = maps[-1]
        for up, skip in zip(self.ups, maps[-2::-1], strict=True):
            x = torch.cat([up(x), skip], dim=1)
        return self.head(x)


def pets_recipe(job: Job) -> nn.Module:
    """The encoder is run in each step; Adam at 1e-3."""
    encoder = Depths()
    job.encoder = encoder.name
    model = nn.Sequential(encoder, UpSampling(encoder.widths, job.classes, (512, 256, 128, 64)))
    model.to(job.device)
    tutorial.train(
        model,
        tutorial.Pictures(job.folder, job.names(), job.scale.size),
        epochs=job.scale.epochs[0],
        batch_size=job.scale.batch,
        optimizer=torch.optim.Adam(model[1].parameters(), 1e-3),
        loss=nn.CrossEntropyLoss(ignore_index=job.classes),
        workers=workers(job),
        device=job.device,
    )
    return model


def pets_course(job: Job, budget: float) -> nn.Module:
    """Lesson 08: what is frozen is computed once, of each image and its mirror image."""
    started, mode = clock(), fastest_mode(job.device)
    encoder = Depths().to(job.device)
    job.encoder = encoder.name
    decoder = UpSampling(encoder.widths, job.classes, (128, 96, 64, 48))
    decoder.to(job.device, memory_format=mode.memory_format)
    kept = kept_maps(encoder, job.train.images, mode, job.device)
    masks = torch.from_numpy(job.train.masks).to(job.device)
    masks = torch.cat([masks, masks.flip(-1)]).long()
    optimizer = torch.optim.AdamW(decoder.parameters(), weight_decay=1e-2, fused=True)
    while (done := (clock() - started) / budget) < 1:
        for group in optimizer.param_groups:  # one cycle, by the clock
            group["lr"] = 5e-3 * min(done / 0.25, 0.5 + 0.5 * math.cos(math.pi * done))
        chosen = torch.randint(len(masks), (16,), device=job.device)
        maps = [one[chosen].to(memory_format=mode.memory_format) for one in kept]
        with torch.autocast(job.device.type, mode.dtype, enabled=mode.dtype is not None):
            logits = decoder(maps)
        loss = F.cross_entropy(logits.float(), masks[chosen], ignore_index=VOID)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss.item()
    return nn.Sequential(encoder, decoder.eval())


def kept_maps(encoder: Depths, images: np.ndarray, mode, device) -> list[torch.Tensor]:
    """Return the encoder's maps of all images ``(N, H, W, 3)``, then of their mirror images."""
    found = []
    for side in (images, images[:, :, ::-1]):
        for batch in torch.from_numpy(np.ascontiguousarray(side)).permute(0, 3, 1, 2).split(16):
            maps = encoder(batch.to(device).float() / 255)
            found.append([one.to(mode.dtype) if mode.dtype else one for one in maps])
    return [torch.cat(level) for level in zip(*found, strict=True)]


# ---- all of them


@dataclass(frozen=True)
class Recipe:
    """A published recipe, and the course's own way beside it.

    Attributes
    ----------
    text
        What it is, and what it is said to reach.
    data
        The sets that it may be run on: the first that is here.
    """

    text: str
    data: tuple[str, ...]
    recipe: Callable[[Job], nn.Module]
    course: Callable[[Job, float], nn.Module]
    whole: Scale
    small: Scale


RECIPES = {
    "scratch": Recipe(
        "U-Net from scratch, fastai's Learner (published: accuracy 0.87)",
        ("camvid", "scenes"),
        scratch_recipe,
        scratch_course,
        Scale((256, 384), None, None, (12,), 8, 32),
        Scale((96, 128), 200, 100, (12,), 8, 16),
    ),
    "stages": Recipe(
        "fastai's U-Net on resnet34, frozen and then not (published: accuracy 0.90, then 0.93)",
        ("camvid", "scenes"),
        staged_recipe,
        staged_course,
        Scale((360, 480), None, None, (10, 12), 8),
        Scale((96, 128), 200, 100, (2, 3), 8),
    ),
    "people": Recipe(
        "smp's U-Net on efficientnet-b3, binary (published: accuracy 0.972, Dice 0.957)",
        ("supervisely_person", "people", "drawn_people"),
        people_recipe,
        people_course,
        Scale((256, 192), None, None, (10,), 64),
        Scale((128, 96), 200, 50, (5,), 16),
    ),
    "pets": Recipe(
        "U-Net on a frozen MobileNetV2, three classes (published: accuracy 0.89)",
        ("pets", "drawn_pets"),
        pets_recipe,
        pets_course,
        Scale((128, 128), None, None, (20,), 64),
        Scale((128, 128), 200, 100, (8,), 64),
    ),
}


class Result(NamedTuple):
    """What one way reached."""

    way: str
    data: str
    encoder: str
    taken: float
    accuracy: float
    iou: float
    dice: float

    def line(self) -> str:
        """Return the line of the table."""
        encoder = f", {self.encoder}" if self.encoder else ""
        return (
            f"| {self.way}{encoder} | {self.data} | {seconds(self.taken)} | {self.accuracy:.3f} "
            f"| {self.iou:.3f} | {self.dice:.3f} |"
        )


TINY = Scale((64, 64), 12, 4, (1, 1), 4, 4)
"""For a test: of every recipe, no more than that it runs."""
HEAD = "| | data | seconds | accuracy | mean IoU | Dice |\n|---|---|---|---|---|---|"


def first_here(names: Sequence[str], scale: Scale) -> list[SegmentationSet]:
    """Return training and validation set of the first set of these that is on this machine."""
    for name in names:
        try:
            return [
                load(name, split, scale.size, count)
                for split, count in (("train", scale.train), ("valid", scale.valid))
            ]
        except CourseError:
            if name == names[-1]:
                raise
    raise ValueError("no names")


def run(recipe: Recipe, scale: Scale, device: torch.device, seed: int = 0) -> list[Result]:
    """Run a recipe, then the course's way for as long."""
    train, valid = first_here(recipe.data, scale)
    data = f"{train.name}, {len(train)} of {scale.size[0]}x{scale.size[1]}"
    results = []
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import fastai.vision.all  # noqa: F401 - so that no way pays for it

        folder = Path(place) / "files"
        write_layout(folder, train, valid)
        for way in ("as its text has it", "the course's way"):
            seed_everything(seed)
            job = Job(folder, train, valid, scale, device)
            started = clock()
            model = recipe.course(job, results[0].taken) if results else recipe.recipe(job)
            taken = clock() - started
            scores = evaluate(model.to(device), valid)
            dice = scores.dice()[1] if scores.num_classes == 2 else scores.mean_dice()
            accuracy, iou = scores.pixel_accuracy(), scores.mean_iou()
            results.append(Result(way, data, job.encoder, taken, accuracy, iou, float(dice)))
    return results


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(RECIPES)}.")] = None,
    whole: Annotated[bool | None, typer.Option(help="Default: on a GPU whole, else small.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order and augmentation.")] = 0,
    share: Annotated[float, typer.Option(help="Only this share of the epochs.")] = 1.0,
    processor: Annotated[
        bool, typer.Option("--processor", help="Processor time on one thread: a busy machine.")
    ] = False,
    tiny: Annotated[bool, typer.Option(help="Only to test this script.")] = False,
) -> None:
    """Run the recipes; print a table of each as it ends. Of two classes Dice is the second's."""
    if processor:
        global clock
        clock = time.process_time
        torch.set_num_threads(1)
    device = pick_device()
    whole = device.type == "cuda" if whole is None else whole
    print(hardware())
    size = "tiny" if tiny else "whole" if whole else "small"
    print(f"{size}, {share:.0%} of the epochs, on {device}, seed {seed}")
    for name in only or RECIPES:
        recipe = RECIPES[name]
        scale = {"tiny": TINY, "whole": recipe.whole, "small": recipe.small}[size]
        scale = scale._replace(epochs=tuple(max(1, round(share * n)) for n in scale.epochs))
        results = run(recipe, scale, device, seed)
        print(f"\n{recipe.text}\n{HEAD}")
        print("\n".join(result.line() for result in results), flush=True)


if __name__ == "__main__":
    typer.run(main)
