"""Hidden tests of lesson 06: other sizes, other numbers, and references built apart.

Their messages are short: they appear in the feedback that students read.
"""

import math
import warnings

import torch
import torch.nn.functional as F
from torch import nn

from course_utils.checks import require
from course_utils.data.segmentation_set import VOID


def _reference_layer(x: torch.Tensor, convolution: nn.Conv2d, eps: float) -> torch.Tensor:
    """Return ReLU(batch norm(3x3 convolution)) in train mode, with batch norm's first weights."""
    x = F.conv2d(x, convolution.weight, padding=1)
    return F.relu(F.batch_norm(x, None, None, training=True, eps=eps))


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)]


def _eps(module: nn.Module) -> float:
    return next(m.eps for m in module.modules() if isinstance(m, nn.BatchNorm2d))


def conv_layer(answer) -> None:
    """ConvLayer equals convolution, batch norm and ReLU written with functions."""
    x = torch.randn(3, 2, 9, 6, generator=torch.Generator().manual_seed(5)) * 4 + 1
    layer = answer(2, 7).train()
    expected = _reference_layer(x, _convolutions(layer)[0], _eps(layer))
    require(torch.allclose(layer(x), expected, atol=1e-4), "ConvLayer(2, 7) gives other values")
    require(sum(p.numel() for p in layer.parameters()) == 7 * 2 * 9 + 14, "other parameters")


def conv_block(answer) -> None:
    """ConvBlock equals two reference layers in a row."""
    x = torch.randn(3, 2, 9, 6, generator=torch.Generator().manual_seed(6))
    block = answer(2, 7).train()
    first, second = _convolutions(block)
    if first.in_channels != 2:
        first, second = second, first
    eps = _eps(block)
    expected = _reference_layer(_reference_layer(x, first, eps), second, eps)
    require(torch.allclose(block(x), expected, atol=1e-3), "ConvBlock(2, 7) gives other values")


def up_conv_block(answer) -> None:
    """UpConvBlock follows x and skip, and no pixel of x reaches farther than two convolutions."""
    block = answer(10, 5).eval()
    x, skip = torch.randn(1, 10, 8, 8), torch.randn(1, 5, 16, 16)
    moved = x.clone()
    moved[..., 4, 4] += 1
    with torch.no_grad():
        require(not torch.allclose(block(x, skip), block(x, -skip)), "the skip changes nothing")
        changed = (block(x, skip) - block(moved, skip)).abs().sum(1)[0]
    changed[6:12, 6:12] = 0
    require(not changed.any(), "one pixel of x changes more than its 2x2 square and 2 around it")


def unet_shapes(answer) -> None:
    """The shapes of the full profile."""
    shapes = [tuple(s) for s in answer(256, 384, channels=8)]
    down = [(8, 256, 384), (16, 128, 192), (32, 64, 96), (64, 32, 48)]
    require(shapes == [*down, (128, 16, 24), *down[::-1]], "other shapes at 256 x 384")


def unet(answer) -> None:
    """UNet has the size of a U-Net, and each skip reaches the output."""
    torch.manual_seed(3)
    net = answer(3, 7, width=8).eval()
    parameters = sum(p.numel() for p in net.parameters())
    # 486,607 with the transposed convolutions' 120 biases and the head's 7
    require(486_607 - 127 <= parameters <= 486_607, "other number of parameters at width 8")
    images = torch.rand(1, 3, 64, 48)
    with torch.no_grad():
        for weight in net.head.parameters():  # some let it start at zero
            nn.init.normal_(weight)
        logits = net(images)
        require(tuple(logits.shape) == (1, 7, 64, 48), "other shape")
        for decoder in net.decoders:
            hook = decoder.register_forward_pre_hook(lambda m, a: (a[0], a[1] + 1))
            require(not torch.allclose(net(images), logits), "a skip does not reach the output")
            hook.remove()


def untrained_loss(answer) -> None:
    """Ln C for other C."""
    for classes in (2, 7, 32):
        require(
            math.isclose(float(answer(classes)), math.log(classes), rel_tol=1e-3),
            f"other value for {classes} classes",
        )


def train_one_epoch(answer) -> None:
    """Two epochs end with the weights that a loop written apart ends with."""

    def net() -> nn.Module:
        torch.manual_seed(4)
        return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1))

    generator = torch.Generator().manual_seed(8)
    batches = []
    for _ in range(3):
        labels = torch.randint(0, 4, (2, 8, 8), generator=generator)
        labels[:, :2] = VOID
        batches.append((torch.rand(2, 3, 8, 8, generator=generator), labels))
    mine, theirs = net(), net().eval()
    mine_sgd, theirs_sgd = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (mine, theirs))
    for _ in range(2):
        losses = []
        for images, labels in batches:
            mine_sgd.zero_grad()
            loss = F.cross_entropy(mine(images), labels, ignore_index=VOID)
            loss.backward()
            mine_sgd.step()
            losses.append(loss.item())
        with warnings.catch_warnings():  # float(loss) warns, and a warning costs all points
            warnings.simplefilter("ignore")
            found = answer(theirs, batches, theirs_sgd)
        require(math.isclose(found, sum(losses) / 3, rel_tol=1e-3), "other mean loss")
    for a, b in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True):
        require(torch.allclose(a.float(), b.float(), atol=1e-4), "other weights after two epochs")


def predict_labels(answer) -> None:
    """An image's prediction does not depend on the images beside it."""
    torch.manual_seed(2)
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 6, 1)).train()
    images = torch.rand(4, 3, 10, 12)
    together = answer(net, images)
    alone = torch.cat([answer(net, images[i : i + 1]) for i in range(4)])
    require(torch.equal(together, alone), "a prediction depends on its batch")
    require(int(together.max()) < 6 and together.unique().numel() > 1, "other labels")


def mean_map(answer) -> None:
    """Each channel becomes constant and keeps its mean."""
    skip = torch.randn(3, 4, 6, 5)
    found = answer(skip)
    require(found.shape == skip.shape, "another shape")
    require(torch.allclose(found.mean(dim=(2, 3)), skip.mean(dim=(2, 3)), atol=1e-5), "other means")
    require(bool((found.std(dim=(2, 3)) < 1e-5).all()), "a channel is not constant")
