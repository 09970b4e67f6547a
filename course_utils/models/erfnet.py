"""ERFNet: an encoder-decoder of factorised residual blocks, made to be fast.

References
----------
Romera, Álvarez, Bergasa, Arroyo: ERFNet: Efficient Residual Factorized ConvNet for Real-Time
Semantic Segmentation. IEEE Transactions on Intelligent Transportation Systems 19(1), 2018, with
the layers of the authors' PyTorch code, https://github.com/Eromera/erfnet_pytorch.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

CHANNELS = (16, 64, 128)
"""Channels at 1/2, 1/4 and 1/8 of the size, as in the paper."""
DILATIONS = (2, 4, 8, 16, 2, 4, 8, 16)
"""Of the blocks at 1/8 of the size, as in the paper."""


class Downsampler(nn.Module):
    """Half the size: a 3x3 convolution of stride 2 and max pooling side by side, batch norm, ReLU.

    ``(B, in_channels, H, W)`` -> ``(B, out_channels, H / 2, W / 2)``; H and W are even. The pooled
    channels are ``in_channels`` of the output's (section III-B).
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels - in_channels, 3, 2, padding=1)
        self.norm = nn.BatchNorm2d(out_channels, eps=1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return half the size."""
        both = torch.cat([self.convolution(x), F.max_pool2d(x, 2)], dim=1)
        return F.relu(self.norm(both))


class NonBottleneck1D(nn.Module):
    """A residual block whose two 3x3 convolutions are factorised into 3x1 and 1x3 (figure 2c).

    Parameters
    ----------
    channels
        That it is given, and gives; the size stays, too.
    dilation
        Of the second pair.
    dropout
        Share of the channels that are dropped in training, before the input is added.
    """

    def __init__(self, channels: int, dilation: int = 1, dropout: float = 0.0):
        super().__init__()
        first, second = (
            [
                nn.Conv2d(channels, channels, (3, 1), padding=(d, 0), dilation=(d, 1)),
                nn.ReLU(),
                nn.Conv2d(channels, channels, (1, 3), padding=(0, d), dilation=(1, d)),
                nn.BatchNorm2d(channels, eps=1e-3),
            ]
            for d in (1, dilation)
        )
        self.branch = nn.Sequential(*first, nn.ReLU(), *second, nn.Dropout2d(dropout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the same shape."""
        return F.relu(x + self.branch(x))


class Upsampler(nn.Module):
    """Twice the size: a transposed convolution, batch norm, ReLU.

    ``(B, in_channels, H, W)`` -> ``(B, out_channels, 2H, 2W)``. The paper's kernel is 3, which
    covers neighbouring pixels unequally (a checkerboard); 4 covers them alike.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3):
        super().__init__()
        odd = kernel % 2
        self.convolution = nn.ConvTranspose2d(
            in_channels, out_channels, kernel, 2, padding=1, output_padding=odd
        )
        self.norm = nn.BatchNorm2d(out_channels, eps=1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return twice the size."""
        return F.relu(self.norm(self.convolution(x)))


class ERFNet(nn.Module):
    """ERFNet from images ``(B, 3, H, W)`` in [0, 1] to logits ``(B, num_classes, H, W)``.

    Parameters
    ----------
    num_classes
        C. For 20 (Cityscapes: 19 and void) and the defaults it has 2,064,256 parameters, the 2.06
        million under which the paper's network is listed; the authors' code holds another 2,580,
        those of the head that the encoder alone has.
    channels
        At 1/2, 1/4 and 1/8 of the size, growing.
    blocks
        Residual blocks at 1/4 of the size.
    dilations
        One residual block each, at 1/8 of the size.
    dropout
        In the blocks at 1/4 and at 1/8 of the size.
    kernel
        Of the two upsamplers, 3 or 4.
    decoder
        False: the encoder alone with a head of its own, whose scores at 1/8 of the size are
        enlarged bilinearly. So the paper trains first; then :meth:`with_decoder` goes on from it.

    Raises
    ------
    ValueError
        In forward, if height or width is no multiple of 8.

    Examples
    --------
    >>> ERFNet(7)(torch.zeros(2, 3, 24, 32)).shape
    torch.Size([2, 7, 24, 32])
    """

    def __init__(
        self,
        num_classes: int,
        channels: Sequence[int] = CHANNELS,
        blocks: int = 5,
        dilations: Sequence[int] = DILATIONS,
        dropout: tuple[float, float] = (0.03, 0.3),
        kernel: int = 3,
        decoder: bool = True,
    ):
        super().__init__()
        half, quarter, eighth = channels
        self.settings = (num_classes, channels, blocks, dilations, dropout, kernel)
        self.encoder = nn.Sequential(
            Downsampler(3, half),
            Downsampler(half, quarter),
            *(NonBottleneck1D(quarter, 1, dropout[0]) for _ in range(blocks)),
            Downsampler(quarter, eighth),
            *(NonBottleneck1D(eighth, dilation, dropout[1]) for dilation in dilations),
        )
        self.decoder = self.head = None
        if decoder:
            self.decoder = nn.Sequential(
                Upsampler(eighth, quarter, kernel),
                NonBottleneck1D(quarter),
                NonBottleneck1D(quarter),
                Upsampler(quarter, half, kernel),
                NonBottleneck1D(half),
                NonBottleneck1D(half),
                nn.ConvTranspose2d(half, num_classes, 2, 2),
            )
        else:
            self.head = nn.Conv2d(eighth, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, of the images' height and width."""
        height, width = x.shape[2:]
        if height % 8 or width % 8:
            raise ValueError(f"ERFNet takes sides that are multiples of 8, got {height} x {width}")
        features = self.encoder(x)
        if self.decoder is not None:
            return self.decoder(features)
        return F.interpolate(self.head(features), size=(height, width), mode="bilinear")

    def with_decoder(self) -> "ERFNet":
        """Return a whole ERFNet with this one's encoder (the same object) and a fresh decoder."""
        whole = ERFNet(*self.settings)
        whole.encoder = self.encoder
        return whole
