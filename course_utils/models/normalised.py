"""A net for images as they are in memory, with the normalisation that it was trained with."""

from __future__ import annotations

import torch
from torch import nn

from course_utils.models.shipped import MEAN, STD


class Normalised(nn.Module):
    """ImageNet's mean and standard deviation taken out, then a net.

    What is exported is so what was trained: no loader has to remember the normalisation.

    Parameters
    ----------
    net
        From normalised images ``(B, 3, H, W)`` to anything.

    Examples
    --------
    >>> whole = Normalised(nn.Identity())
    >>> whole(whole.mean.expand(1, 3, 1, 1)).flatten().tolist()
    [0.0, 0.0, 0.0]
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the net gives for images ``(B, 3, H, W)`` in [0, 1]."""
        return self.net((x - self.mean) / self.std)
