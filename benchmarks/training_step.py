"""Time one training step of the lesson's U-Net in every layout and precision, in one run.

    python benchmarks/training_step.py [--threads 2] [--batch 16]

Times of a busy machine vary by a factor of two; the ratios within one run do not. The line that
``fit`` chooses on this machine is marked.
"""

import argparse
import time

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.training import fastest_mode, pick_device

CLASSES = 10


def conv_layers(channels_in: int, channels_out: int) -> nn.Sequential:
    """Return two 3x3 convolutions, each with batch norm and ReLU."""
    layers = []
    for c in (channels_in, channels_out):
        layers += [nn.Conv2d(c, channels_out, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(channels_out), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """The U-Net of lesson 06: width 16, four levels, 1.9 million weights."""

    def __init__(self, width: int = 16, levels: int = 4):
        super().__init__()
        widths = [width * 2**k for k in range(levels + 1)]
        ins = [3, *widths[:-1]]
        self.down = nn.ModuleList(conv_layers(i, o) for i, o in zip(ins, widths, strict=True))
        widths = widths[-2::-1]
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in widths)
        self.merge = nn.ModuleList(conv_layers(2 * w, w) for w in widths)
        self.head = nn.Conv2d(width, CLASSES, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``(B, C, H, W)``."""
        maps = []
        for level, layers in enumerate(self.down):
            x = layers(F.max_pool2d(x, 2) if level else x)
            maps.append(x)
        for up, merge, skip in zip(self.up, self.merge, maps[-2::-1], strict=True):
            x = merge(torch.cat([skip, up(x)], 1))
        return self.head(x)


def seconds_a_step(device, dtype, layout, batch: int, repeats: int) -> float:
    """Return the time of the fastest of some training steps, warm-up left out."""
    torch.manual_seed(0)
    model = UNet().to(device, memory_format=layout)
    x = torch.rand(batch, 3, 96, 128, device=device).contiguous(memory_format=layout)
    y = torch.randint(0, CLASSES, (batch, 96, 128), device=device)
    optimizer = torch.optim.AdamW(model.parameters(), fused=device.type != "mps")

    def step() -> None:
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            logits = model(x)
        loss = F.cross_entropy(logits.float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # waits for a GPU

    times = []
    for _ in range(2 + repeats):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return min(times[2:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = pick_device()
    chosen = fastest_mode(device)
    print(f"{device}, {options.threads} threads, batch {options.batch} at 96x128")
    base = None
    half = (torch.bfloat16, torch.float16) if device.type == "cuda" else (torch.bfloat16,)
    for dtype in (None, *half):
        for layout in (torch.contiguous_format, torch.channels_last):
            seconds = seconds_a_step(device, dtype, layout, options.batch, options.repeats)
            base = base or seconds
            name = f"{str(dtype or torch.float32)[6:]:9} {str(layout)[6:]:18}"
            mark = "  <- fit" if (dtype, layout) == (chosen.dtype, chosen.memory_format) else ""
            print(f"{name} {1000 * seconds:7.1f} ms   {base / seconds:4.2f} x{mark}")


if __name__ == "__main__":
    main()
