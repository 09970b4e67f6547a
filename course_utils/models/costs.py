"""What parts of a network cost: parameters, multiply-adds, memory for the gradients, time."""

import time
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


class Cost(NamedTuple):
    """What one part costs: bytes are those that autograd keeps, seconds those of forward."""

    parameters: int
    multiply_adds: int
    kept: int
    seconds: float


def measure(parts: Mapping[str, nn.Module], x: torch.Tensor, turns: int = 5) -> dict[str, Cost]:
    """Return what each part of a network costs, for one batch that goes through one after another.

    Parameters
    ----------
    parts
        Name -> module, in the order in which they are run.
    x
        ``(B, C, H, W)`` float32, what the first is given.
    turns
        How often each part is timed; the fastest counts.
    """
    costs = {}
    for name, part in parts.items():
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            if not isinstance(tensor, nn.Parameter):
                storage = tensor.untyped_storage()
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        part.train()
        x = x.detach()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            made = part(x)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            part(x)
        parameters = sum(p.numel() for p in part.parameters())
        costs[name] = Cost(
            parameters, counter.get_total_flops() // 2, sum(kept.values()), _time(part, x, turns)
        )
        x = made
    return costs


@torch.no_grad()
def _time(part: nn.Module, x: torch.Tensor, turns: int) -> float:
    seconds = []
    for _ in range(turns):
        started = time.perf_counter()
        part(x)
        seconds.append(time.perf_counter() - started)
    return min(seconds)
