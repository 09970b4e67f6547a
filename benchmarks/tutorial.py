"""A segmentation training as tutorials write it: what the course's own way is measured beside.

A ``Dataset`` opens image and mask with PIL at each access, a ``DataLoader`` stacks them, the loop
computes in float32 and in torch's default layout, and reads the loss at each step.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import functional as TF


class Pictures(Dataset):
    """Images of a folder ``images/`` with their masks ``labels/<name>_P.png``.

    Parameters
    ----------
    folder
        As ``course_utils.data.camvid_files.write_layout`` writes it.
    names
        Of the image files.
    size
        (height, width) to resize to at each access.
    together
        An augmentation of a PIL image and its mask. Default: flip both at random.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        size: tuple[int, int],
        together: Callable | None = None,
    ):
        self.images = [folder / "images" / name for name in names]
        self.masks = [folder / "labels" / f"{Path(name).stem}_P.png" for name in names]
        self.size, self.together = size, together or flip

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return an image ``(3, H, W)`` float32 in [0, 1] and its mask ``(H, W)`` int64."""
        image = Image.open(self.images[index]).convert("RGB")
        mask = Image.open(self.masks[index])
        image = image.resize(self.size[::-1], Image.Resampling.BILINEAR)
        mask = mask.resize(self.size[::-1], Image.Resampling.NEAREST)
        image, mask = self.together(image, mask)
        return TF.to_tensor(image), torch.from_numpy(np.array(mask)).long()


def flip(image: Image.Image, mask: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Flip both left to right, or neither."""
    if random.random() < 0.5:
        return TF.hflip(image), TF.hflip(mask)
    return image, mask


def train(
    model: nn.Module,
    data: Dataset,
    *,
    epochs: int,
    batch_size: int,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    max_lr: float | None = None,
    workers: int = 0,
    device: str | torch.device = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Train, and return when each step had ended, by the clock.

    With ``max_lr`` the rate goes through one cycle, else it stays.
    """
    loader = DataLoader(
        data, batch_size, shuffle=True, num_workers=workers, drop_last=len(data) > batch_size
    )
    scheduler = None
    if max_lr is not None:
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr, total_steps=epochs * len(loader)
        )
    stamps = []
    for _ in range(epochs):
        model.train()
        running = 0.0
        for images, masks in loader:
            images, masks = images.to(device), masks.to(device)
            optimizer.zero_grad()
            value = loss(model(images), masks)
            value.backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            running += value.item()
            stamps.append(clock())
    model.eval()
    return stamps
