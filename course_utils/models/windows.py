"""The networks of lessons 03 and 04, for a student who goes on without one of them.

They are called as the notebooks' are, and their attributes have the same names.
"""

import torch
import torch.nn.functional as F
from torch import nn


class PatchNet(nn.Module):
    """Labels the centre of patches of an odd side; unpadded convolutions, pooling between them."""

    def __init__(self, num_classes: int, window: int):
        super().__init__()
        layers: list[nn.Module] = []
        before, side = 3, window
        for channels in (16, 32, 64, 64, 64, 64):
            layers += [nn.Conv2d(before, channels, 3, bias=False), nn.BatchNorm2d(channels)]
            layers.append(nn.ReLU())
            before, side = channels, side - 2
            if side <= 5:
                break
            layers.append(nn.MaxPool2d(2 + side % 2, stride=2))
            side //= 2
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(before * side * side, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (B, num_classes) of patches (B, 3, window, window)."""
        return self.head(torch.flatten(self.features(x), 1))


class FCN(nn.Module):
    """Five 3x3 convolutions, a pooling after each of the first three, a 1x1 head, enlarged."""

    def __init__(self, in_channels: int, num_classes: int, width: int = 32):
        super().__init__()
        outs = [width * times for times in (1, 2, 3, 3, 3)]
        self.layers = nn.Sequential()
        for level, (i, o) in enumerate(zip([in_channels, *outs], outs, strict=False)):
            self.layers.append(nn.Conv2d(i, o, 3, padding=1, bias=False))
            self.layers.extend([nn.BatchNorm2d(o), nn.ReLU()])
            if level < 3:
                self.layers.append(nn.MaxPool2d(2))
        self.head = nn.Conv2d(outs[-1], num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (B, num_classes, H, W) of images (B, in_channels, H, W)."""
        scores = self.head(self.layers(x))
        return F.interpolate(scores, size=x.shape[2:], mode="bilinear", align_corners=False)
