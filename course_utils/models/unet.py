"""The U-Net of lesson 06 and its parts, for a student who goes on without one of them.

They are called as the notebook's are, and their attributes have the same names.
"""

import torch
import torch.nn.functional as F
from torch import nn


class ConvLayer(nn.Sequential):
    """A 3x3 convolution without bias, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int):
        layers = nn.Conv2d(in_channels, out_channels, 3, padding="same", bias=False)
        super().__init__(layers, nn.BatchNorm2d(out_channels), nn.ReLU())


class ConvBlock(nn.Sequential):
    """Two ConvLayers, with weights of their own."""

    def __init__(self, in_channels: int, out_channels: int):
        channels = in_channels, out_channels, out_channels
        super().__init__(*(ConvLayer(*channels[k : k + 2]) for k in (0, 1)))


class UpConvBlock(nn.Module):
    """Enlarge by a transposed convolution, join with the skip, two ConvLayers."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(in_channels, out_channels, 2, 2)
        self.blend = ConvBlock(out_channels * 2, out_channels)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Return (B, out_channels, 2H, 2W) of x (B, in_channels, H, W) and the skip."""
        return self.blend(torch.cat((skip, self.enlarge(x)), dim=1))


class UNet(nn.Module):
    """U-Net of 4 levels; H and W are multiples of 16; it gives logits."""

    def __init__(self, in_channels: int, num_classes: int, width: int = 16):
        super().__init__()
        self.encoders, self.decoders = nn.ModuleList(), nn.ModuleList()
        for level in range(4):
            self.encoders.append(ConvBlock(in_channels, width << level))
            self.decoders.insert(0, UpConvBlock(width << level + 1, width << level))
            in_channels = width << level
        self.bottleneck = ConvBlock(in_channels, 2 * in_channels)
        self.head = nn.Conv2d(width, num_classes, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (B, num_classes, H, W) of images (B, in_channels, H, W)."""
        maps = [self.encoders[0](x)]
        for block in [*self.encoders[1:], self.bottleneck]:
            maps.append(block(F.max_pool2d(maps[-1], 2)))
        x = maps.pop()
        for block in self.decoders:
            x = block(x, maps.pop())
        return self.head(x)
