"""Small networks that the tests train and export, right and wrong; pictures to train them on."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.data import VOID, SegmentationSet
from course_utils.training import fit

CLASSES = ("ground", "box", "bar")


class TinyUNet(nn.Module):
    """Two levels, batch norm and a skip: all that a U-Net has, in 2000 weights."""

    def __init__(self, classes=3, width=8):
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.low = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.up = nn.ConvTranspose2d(width, width, 2, 2)
        self.head = nn.Conv2d(2 * width, classes, 1)

    def forward(self, x):
        skip = self.down(x)
        return self.head(torch.cat([skip, self.up(self.low(F.max_pool2d(skip, 2)))], 1))


def boxes(count, seed=0, size=(16, 24)):
    """Draw bright boxes and red bars on a dark ground, with a frame of void."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (count, *size, 3)).astype(np.uint8)
    masks = np.zeros((count, *size), np.uint8)
    for image, mask in zip(images, masks, strict=True):
        y, x = rng.integers(1, 8), rng.integers(1, 14)
        image[y : y + 6, x : x + 8] += 150
        mask[y : y + 6, x : x + 8] = 1
        x = rng.integers(1, 22)
        image[:, x : x + 2] = (200, 10, 10)
        mask[:, x : x + 2] = 2
    masks[:, 0] = VOID
    return SegmentationSet("boxes", "train", CLASSES, images, masks)


def quick_fit(model, **options):
    settings = {"epochs": 3, "batch_size": 8, "device": "cpu"} | options
    return fit(model, boxes(24), boxes(8, seed=1), **settings)


def same_weights(one, other):
    return all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


# --- to be trained


class Constant(nn.Module):
    """Gives the same logits at every image, plus a learnt number."""

    def __init__(self, logits):
        super().__init__()
        self.register_buffer("logits", logits[:1])
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return (self.logits + self.shift).expand(len(x), -1, -1, -1)


class WithSpareAndShared(TinyUNet):
    def __init__(self):
        super().__init__()
        self.spare = nn.Conv2d(3, 3, 1)
        self.alias = self.head


class KeepsItsSkip(TinyUNet):
    def forward(self, x):
        self.kept = self.down(x)
        return super().forward(x)


class Returns(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.net, self.change = TinyUNet(), change

    def forward(self, x):
        return self.change(self.net(x))


class Elsewhere(nn.Module):
    """Keeps a tensor that .to(device) does not move."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 3, 1)
        self.mean = torch.zeros(3, 1, 1, device="meta")

    def forward(self, x):
        return self.head(x - self.mean)


class InList(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers, self.head = [nn.Conv2d(3, 3, 1)], nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.head(self.layers[0](x))


class Middle(nn.Module):
    """Sees the patch through one convolution over all of it."""

    def __init__(self, window, classes=10):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, window, bias=False), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, classes)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


# --- to be exported


class Small(nn.Module):
    """Has what a U-Net has: batch norm, pooling, transposed convolution, a skip."""

    def __init__(self, classes=10, width=8):
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.bottom = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU()
        )
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.dropout = nn.Dropout2d(0.5)
        self.head = nn.Conv2d(2 * width, classes, 1)

    def forward(self, x):
        skip = self.down(x)
        low = self.bottom(F.max_pool2d(skip, 2))
        return self.head(self.dropout(torch.cat([self.up(low), skip], dim=1)))


class Outer(nn.Module):
    """A net with a wrapped part, twice."""

    def __init__(self, part):
        super().__init__()
        self.part = self.again = part
        self.nothing = None

    def forward(self, x):
        return self.part(x) + self.again(x)


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.LazyConv2d(8, 3, padding=1), nn.LazyBatchNorm2d(), nn.ReLU())
        self.head = nn.LazyConv2d(10, 1)

    def forward(self, x):
        return self.head(self.body(x))


class SegNet(nn.Module):
    """Remembers where each maximum was, and puts values back there."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, padding=1)
        self.up = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 10, 1)
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

    def forward(self, x):
        x, first = self.pool(F.relu(self.down(x)))
        x, second = self.pool(x)
        x = self.unpool(self.up(x), second)
        return self.head(self.unpool(x, first))


class Shifting(Small):
    """Writes into a part of a tensor, and picks by numbers 0, 1, 2, ... of the batch."""

    def forward(self, x):
        y = super().forward(x)
        shifted = torch.zeros_like(y)
        shifted[:, :, 1:] = y[:, :, :-1]
        return y[torch.arange(y.shape[0])] + shifted


class Wrapped(nn.Module):
    """A net whose output is changed by a function."""

    def __init__(self, change, **options):
        super().__init__()
        self.net = Small(**options)
        self.change = change

    def forward(self, x):
        return self.change(self.net(x))


class Branching(Small):
    def forward(self, x):
        y = super().forward(x)
        if y.mean() > 0:
            y = y + 1
        return y


class WrongChannels(Small):
    def forward(self, x):
        skip = self.down(x)
        return self.head(skip)


class Sorted(Small):
    def forward(self, x):
        y = super().forward(x)
        return y - y.median(1, keepdim=True).values


class Double(Small):
    def forward(self, x):
        return super().forward(x).double()


class Diverged(Small):
    def forward(self, x):
        return super().forward(x) * float("nan")
