"""The training step itself: every layout and precision, and what the best of it lacks to the roof.

    python -m benchmarks.training_step [--threads 2] [--batch 8] [--processor]

The roof is the fastest matrix product of the same machine, in the same precision and on as many
threads. What the step's own products (its convolutions) need at that pace is beside what the step
takes; what eats the rest is told by torch's profiler. The line that ``fit`` takes is marked.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measuring import hardware, timed
from course_utils.models.unet import UNet
from course_utils.training import fastest_mode, pick_device
from course_utils.training.allocation import freed_memory_kept
from course_utils.training.devices import Mode

CLASSES, SIZE = 10, (96, 128)
PARTS = {
    "convolutions": ("convolution", "conv", "addmm", "gemm"),
    "batch norm": ("batch_norm",),
    "ReLU": ("relu", "clamp_min", "threshold"),
    "pooling": ("pool",),
    "loss": ("log_softmax", "nll_loss", "cross_entropy"),
    "optimizer": ("adam", "foreach", "zero_grad"),
    "copies: concatenation, precision, layout": ("copy", "cat", "clone", "contiguous", "slice"),
}
"""What the names of torch's operations have in them, looked for in this order."""


def training_step(
    device: torch.device, mode: Mode, batch: int, size: tuple[int, int] = SIZE
) -> Callable[[], None]:
    """Return a function that takes one step of lesson 06's U-Net, as ``fit`` does."""
    torch.manual_seed(0)
    model = UNet(3, CLASSES).to(device, memory_format=mode.memory_format)
    x = torch.rand(batch, 3, *size, device=device).contiguous(memory_format=mode.memory_format)
    y = torch.randint(0, CLASSES, (batch, *size), device=device)
    optimizer = torch.optim.AdamW(model.parameters(), fused=device.type != "mps")

    def step() -> None:
        with torch.autocast(device.type, mode.dtype, enabled=mode.dtype is not None):
            logits = model(x)
        loss = F.cross_entropy(logits.float(), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss.item()  # waits for a GPU

    return step


def seconds_a_step(step: Callable[[], None], repeats: int, clock=time.perf_counter) -> float:
    """Return the time of the fastest of some training steps, warm-up left out."""
    return min([timed(step, clock) for _ in range(2 + repeats)][2:])


def best_product(
    device: torch.device, dtype: torch.dtype | None, repeats: int = 5, clock=time.perf_counter
) -> float:
    """Return the operations a second of the fastest square matrix product."""
    best = 0.0
    for side in (1024, 2048) if device.type == "cpu" else (4096, 8192):
        one = torch.rand(side, side, device=device).to(dtype or torch.float32)

        def product(one: torch.Tensor = one) -> None:
            (one @ one)[0, 0].item()

        best = max(best, 2 * side**3 / min(timed(product, clock) for _ in range(2 + repeats)))
    return best


def operations(step: Callable[[], None]) -> int:
    """Return the multiplications and additions of a step's products, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def shares(step: Callable[[], None], device: torch.device, repeats: int = 3) -> dict[str, float]:
    """Return which part of a step takes which share of its time, the largest first."""
    from torch.profiler import ProfilerActivity, profile

    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # that there is no GPU is no error
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CUDA] * on_gpu + [ProfilerActivity.CPU]
    with profile(activities=activities) as seen:
        for _ in range(repeats):
            step()
    taken = Counter()
    for event in seen.key_averages():
        name = event.key.lower()
        part = next((p for p, words in PARTS.items() if any(w in name for w in words)), "the rest")
        taken[part] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
    return {part: time / taken.total() for part, time in taken.most_common()}


def main(
    threads: Annotated[int, typer.Option(help="0: as many as torch takes.")] = 0,
    batch: Annotated[int, typer.Option(help="Images a step.")] = 8,
    repeats: Annotated[int, typer.Option(help="The fastest of so many counts.")] = 5,
    size: Annotated[tuple[int, int], typer.Option(help="Height and width.")] = SIZE,
    processor: Annotated[
        bool, typer.Option("--processor", help="Processor time on one thread: a busy machine.")
    ] = False,
) -> None:
    """Print the table of modes, and the roofline of the one that ``fit`` takes."""
    torch.set_num_threads(1 if processor else threads or torch.get_num_threads())
    clock = time.process_time if processor else time.perf_counter
    device = pick_device()
    chosen = fastest_mode(device)
    print(hardware())
    print(
        f"{device}, {torch.get_num_threads()} threads, a step of {batch} images of "
        f"{size[0]}x{size[1]}"
    )
    base = None
    half = (torch.bfloat16, torch.float16) if device.type == "cuda" else (torch.bfloat16,)
    for dtype in (None, *half):
        for layout in (torch.contiguous_format, torch.channels_last):
            step = training_step(device, Mode(dtype, layout), batch, size)
            taken = seconds_a_step(step, repeats, clock)
            base = base or taken
            name = f"{str(dtype or torch.float32)[6:]:9} {str(layout)[6:]:18}"
            mark = "  <- fit" if (dtype, layout) == (chosen.dtype, chosen.memory_format) else ""
            print(f"{name} {1000 * taken:7.1f} ms   {base / taken:4.2f} x{mark}")
    for mode in dict.fromkeys((chosen, chosen._replace(dtype=None))):
        with freed_memory_kept():  # as fit does
            roofline(device, mode, batch, size, repeats, clock)


def roofline(
    device, mode: Mode, batch: int, size: tuple[int, int], repeats: int, clock=time.perf_counter
) -> float:
    """Print how near a step comes to the best matrix product, and return the share."""
    step = training_step(device, mode, batch, size)
    taken = seconds_a_step(step, repeats, clock)
    roof = best_product(device, mode.dtype, repeats, clock)
    work = operations(step)
    share = work / taken / roof
    print(
        f"\n{str(mode.dtype or torch.float32)[6:]}: products of {work / 1e9:.1f} GFLOP in "
        f"{1000 * taken:.1f} ms are {work / taken / 1e9:,.0f} GFLOP/s, {share:.0%} of the best "
        f"matrix product's {roof / 1e9:,.0f}; at that pace they would take "
        f"{1000 * work / roof:.1f} ms"
    )
    for part, of_time in shares(step, device).items():
        print(f"  {of_time:6.1%}  {part}")
    return share


if __name__ == "__main__":
    typer.run(main)
