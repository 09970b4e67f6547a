"""What a head start buys: five ways to begin with an encoder, each trained alike.

The decoder, the images, their order and flips, the number of steps and the schedule are the same
for each way of one seed. What is frozen is computed once.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from course_utils.data.segmentation_set import VOID, SegmentationSet
from course_utils.models.depths import LightDecoder
from course_utils.training.devices import fastest_mode, own_randomness, pick_device
from course_utils.training.threads import limited_threads


class Way(NamedTuple):
    """How an encoder begins, and what of it learns.

    Attributes
    ----------
    pretrained
        It begins with weights of ImageNet, else with random ones.
    frozen
        Nothing of it learns, and its batch norms use the statistics that they have.
    factor
        So many times slower than the next part learns each part before it; the decoder comes last.
    """

    pretrained: bool
    frozen: bool = False
    factor: float = 1.0


WAYS = {
    "pretrained, frozen": Way(pretrained=True, frozen=True),
    "random, frozen": Way(pretrained=False, frozen=True),
    "fine-tuned": Way(pretrained=True),
    "fine-tuned, slower below": Way(pretrained=True, factor=3.0),
    "from scratch": Way(pretrained=False),
}
Groups = Callable[[Sequence[nn.Module], float, float], list[dict]]
RECORD = Path(__file__).with_name("transfer_record.json")
"""What ``benchmarks/transfer.py`` has measured: data set -> way -> images -> a score a seed."""


def record() -> dict[str, dict[str, dict[int, list[float]]]]:
    """Return what was measured: the mean IoU of each seed by data set, way, number of images."""
    content = json.loads(RECORD.read_text(encoding="utf-8"))
    return {
        data: {
            way: {int(count): scores for count, scores in by_count.items()}
            for way, by_count in ways.items()
        }
        for data, ways in content.items()
    }


def rates_by_part(parts: Sequence[nn.Module], rate: float, factor: float) -> list[dict]:
    """Return what an optimizer is given: the last part learns at ``rate``, others slower."""
    rates = [rate]
    for _ in parts[1:]:
        rates.insert(0, rates[0] / factor)
    return [
        {"params": list(part.parameters()), "lr": rate}
        for part, rate in zip(parts, rates, strict=True)
    ]


def drawn(data: SegmentationSet, count: int, seed: int) -> SegmentationSet:
    """Return the images that a seed draws; of one seed, few images are among many."""
    chosen = np.random.default_rng(seed).permutation(len(data))[:count]
    return replace(data, images=data.images[chosen], masks=data.masks[chosen])


def begin(way: Way, make_encoder: Callable[[bool], nn.Module], data: SegmentationSet, seed: int):
    """Return encoder and decoder of a way, the decoder with the same weights for each way.

    Batch norms of a random encoder that is to be frozen take the statistics of ``data`` first:
    without them its deep maps are nearly 0, and no decoder could read them.
    """
    device = pick_device()
    with own_randomness(device):
        torch.manual_seed(seed)
        encoder = make_encoder(way.pretrained).to(device, memory_format=torch.channels_last)
        torch.manual_seed(seed)
        with torch.no_grad():
            channels = [one.shape[1] for one in encoder.eval()(as_input(data.images[:1], device))]
        decoder = LightDecoder(channels, len(data.classes)).to(device)
    if way.frozen and not way.pretrained:
        settle(encoder, as_input(data.images[:32], device))
    return encoder, decoder


def as_input(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return images ``(N, H, W, 3)`` uint8 as ``(N, 3, H, W)`` float32 in [0, 1]."""
    x = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2)
    return x.float().div_(255).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def settle(encoder: nn.Module, images: torch.Tensor) -> None:
    """Give the batch norms of an encoder the statistics of some images."""
    norms = [layer for layer in encoder.modules() if isinstance(layer, nn.BatchNorm2d)]
    usual = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 1.0
    encoder.train()(images)
    encoder.eval()
    for layer, momentum in zip(norms, usual, strict=True):
        layer.momentum = momentum


def train_way(
    way: Way,
    make_encoder: Callable[[bool], nn.Module],
    data: SegmentationSet,
    groups: Groups,
    *,
    seed: int,
    steps: int = 80,
    batch_size: int = 8,
    rate: float = 5e-3,
) -> nn.Module:
    """Train a decoder, and of the encoder what learns, for some steps; return the net in eval mode.

    Parameters
    ----------
    make_encoder
        From whether it is pretrained to an encoder such as `encoder_of` makes.
    data
        All images to train on.
    groups
        ``groups(parts, rate, factor)``: what the optimizer is given, see exercise `rate_groups`.
    seed
        Of random weights, of the order of images and of flips.
    rate
        The peak of one cycle, of the decoder.
    """
    with limited_threads():
        encoder, decoder = begin(way, make_encoder, data, seed)
        if way.frozen:
            encoder.requires_grad_(False)
            maps_of, learnt = kept_maps(encoder, data.images), [decoder]
        else:
            maps_of, learnt = live_maps(encoder, data.images), [*encoder.net.parts(), decoder]
        optimizer = torch.optim.AdamW(groups(learnt, rate, way.factor), weight_decay=1e-2)
        rates = [group["lr"] for group in optimizer.param_groups]
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps)
        labels = torch.from_numpy(np.ascontiguousarray(data.masks)).long()
        device = next(decoder.parameters()).device
        # the encoder stays in float32: half precision makes its backward slower on a CPU
        mode = fastest_mode(device)
        dtype = None if mode.scaled else mode.dtype
        decoder.train()
        encoder.train(not way.frozen)
        for chosen, flipped in batches(len(data), steps, batch_size, seed):
            y = labels[chosen].to(device)
            y = torch.where(flipped.to(device)[:, None, None], y.flip(-1), y)
            maps = maps_of(chosen, flipped)
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                logits = decoder(maps)
            loss = F.cross_entropy(logits.float(), y, ignore_index=VOID)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return nn.Sequential(encoder, decoder).eval()


def batches(
    count: int, steps: int, batch_size: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield which images a step sees, and which of them are flipped; all are seen equally often."""
    rng = np.random.default_rng(seed)
    turns = -(-steps * batch_size // count)
    order = np.concatenate([rng.permutation(count) for _ in range(turns)])
    for step in range(steps):
        chosen = torch.from_numpy(order[step * batch_size : (step + 1) * batch_size])
        yield chosen, torch.from_numpy(rng.random(batch_size) < 0.5)


@torch.no_grad()
def kept_maps(encoder: nn.Module, images: np.ndarray) -> Callable:
    """Compute the maps of all images and their mirror images once; return what hands them out."""
    encoder.eval()
    device = next(encoder.parameters()).device
    both = []
    for pictures in (images, images[:, :, ::-1]):
        parts = [
            [one.half() for one in encoder(as_input(pictures[k : k + 16], device))]
            for k in range(0, len(pictures), 16)
        ]
        both.append([torch.cat(depth) for depth in zip(*parts, strict=True)])

    def hand_out(chosen: torch.Tensor, flipped: torch.Tensor) -> list[torch.Tensor]:
        places = list(zip(chosen.tolist(), flipped.tolist(), strict=True))
        return [
            torch.stack([both[flip][depth][k] for k, flip in places])
            .float()
            .contiguous(memory_format=torch.channels_last)
            for depth in range(len(both[0]))
        ]

    return hand_out


def live_maps(encoder: nn.Module, images: np.ndarray) -> Callable:
    """Return what computes the maps of chosen images, with all that a gradient needs."""
    device = next(encoder.parameters()).device

    def compute(chosen: torch.Tensor, flipped: torch.Tensor) -> list[torch.Tensor]:
        x = as_input(images[chosen.numpy()], device)
        return encoder(torch.where(flipped.to(device)[:, None, None, None], x.flip(-1), x))

    return compute


def cost_of(net: nn.Module, size: tuple[int, int]) -> float:
    """Return the multiply-adds of one image ``(3, H, W)``, forward."""
    device = next(net.parameters()).device
    training = net.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.eval()(torch.zeros(1, 3, *size, device=device))
    net.train(training)
    return counter.get_total_flops() / 2


def seconds_of(
    encoder: nn.Module,
    decoder: nn.Module,
    data: SegmentationSet,
    epochs: int,
    batch_size: int = 16,
    turns: int = 3,
) -> tuple[float, float, float]:
    """Return about how long a training takes: everything learns; encoder frozen; its maps kept.

    A few steps of each are timed on copies of the nets, in float32, and counted up; the fastest of
    the turns counts.
    """
    device = next(decoder.parameters()).device
    encoder, decoder = (copy.deepcopy(part).to(device).train() for part in (encoder, decoder))
    x = as_input(data.images[:batch_size], device)
    y = torch.from_numpy(np.ascontiguousarray(data.masks[:batch_size])).long().to(device)

    def step(maps: Callable[[], list[torch.Tensor]]) -> None:
        F.cross_entropy(decoder(maps()), y, ignore_index=VOID).backward()

    def timed(run: Callable[[], object]) -> float:
        seconds = []
        for _ in range(turns):
            started = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    def frozen() -> list[torch.Tensor]:
        with torch.no_grad():
            return encoder(x)

    with limited_threads():
        encoder.requires_grad_(True)
        learns = timed(lambda: step(lambda: encoder(x)))
        encoder.eval()
        forward, maps = timed(frozen), frozen()
        head = timed(lambda: step(lambda: maps))
    batches = len(data) / batch_size
    return (
        learns * batches * epochs,
        (forward + head) * batches * epochs,
        forward * batches + head * batches * epochs,
    )
