"""An encoder that gives its maps at five named layers, and a light decoder for such maps.

References
----------
Sandler et al.: MobileNetV2. arXiv:1801.04381. The five layers are those of TensorFlow's tutorial
on image segmentation (https://www.tensorflow.org/tutorials/images/segmentation), by the names that
they have in PyTorch. EfficientNet-Lite0 is built of the same blocks; its layers are chosen alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.errors import CourseError
from course_utils.models.normalised import Normalised

NAMED = {
    "tu-tf_efficientnet_lite0": (
        "model.blocks.1.0.bn1",
        "model.blocks.2.0.bn1",
        "model.blocks.3.0.bn1",
        "model.blocks.5.0.bn1",
        "model.blocks.6",
    ),
    "mobilenet_v2": (
        "features.2.conv.0",
        "features.4.conv.0",
        "features.7.conv.0",
        "features.14.conv.0",
        "features.17",
    ),
}
"""smp's name of an encoder -> its five layers: in the four blocks that halve the map once more,
what has expanded the channels before; and what comes out at the end. Of MobileNetV2 these are the
expansions of blocks 1, 3, 6, 13 and the projection of block 16."""


class FiveDepths(nn.Module):
    """An encoder of segmentation_models_pytorch that gives what five of its layers give.

    Parameters
    ----------
    net
        The encoder.
    names
        Of the layers, as `NAMED` has them.
    """

    def __init__(self, net: nn.Module, names: Sequence[str]):
        super().__init__()
        for name in names:
            try:
                net.get_submodule(name)
            except AttributeError:
                raise CourseError(
                    f"the encoder has no layer {name!r}; named_modules() lists those that it has."
                ) from None
        self.net, self.names = net, tuple(names)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return a map ``(B, C, h, w)`` for each name, of images ``(B, 3, H, W)``."""
        maps: dict[str, torch.Tensor] = {}

        def keep(name: str):
            return lambda layer, given, made: maps.__setitem__(name, made)

        hooks = [
            self.net.get_submodule(name).register_forward_hook(keep(name)) for name in self.names
        ]
        try:
            self.net(x)
        finally:
            for hook in hooks:
                hook.remove()
        return [maps[name] for name in self.names]

    def parts(self) -> list[nn.ParameterList]:
        """Return the weights in five parts: up to the first layer named, on to the second, ..."""
        found, part, reached = [nn.ParameterList() for _ in self.names], 0, False
        for name, weight in self.net.named_parameters():
            if reached and not name.startswith(f"{self.names[part]}.") and part < len(found) - 1:
                part += 1
            reached = name.startswith(f"{self.names[part]}.")
            found[part].append(weight)
        return found


class LightDecoder(nn.Module):
    """From five maps, each half as large as the one before, to logits at twice the first's size.

    A map from below is doubled, the skip, reduced by a 1x1 convolution, is laid beside it, and one
    3x3 convolution blends both. The logits are enlarged smoothly at the end.

    Parameters
    ----------
    channels
        Of the five maps, the largest map first.
    classes
        How many logits a pixel.
    widths
        Channels at the four sizes that the decoder works at, the largest map first.
    """

    def __init__(
        self, channels: Sequence[int], classes: int, widths: Sequence[int] = (24, 32, 48, 64)
    ):
        super().__init__()
        below = [*widths[1:], channels[-1]]
        self.skips = nn.ModuleList(
            nn.Conv2d(c, w, 1, bias=False) for c, w in zip(channels[:-1], widths, strict=True)
        )
        self.blends = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(b + w, w, 3, padding=1, bias=False), nn.BatchNorm2d(w), nn.ReLU()
            )
            for b, w in zip(below, widths, strict=True)
        )
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return logits ``(B, classes, 2h, 2w)``, where the first map is ``(B, C, h, w)``."""
        *skips, x = maps
        for skip, reduce, blend in zip(
            skips[::-1], self.skips[::-1], self.blends[::-1], strict=True
        ):
            x = blend(torch.cat([F.interpolate(x, scale_factor=2.0), reduce(skip)], dim=1))
        return F.interpolate(self.head(x), scale_factor=2.0, mode="bilinear", align_corners=False)


def encoder_of(name: str, weights: Mapping[str, torch.Tensor] | None = None) -> Normalised:
    """Return an encoder of smp that gives five maps, of images ``(B, 3, H, W)`` in [0, 1].

    Parameters
    ----------
    name
        As smp calls it; one of `NAMED`.
    weights
        Its ``state_dict``, such as `imagenet_encoder` gives. None: random ones.

    Raises
    ------
    CourseError
        If five layers of this encoder are not known here.
    """
    from segmentation_models_pytorch.encoders import get_encoder

    if name not in NAMED:
        raise CourseError(f"no five layers of {name!r} are named; there are: {', '.join(NAMED)}.")
    net = get_encoder(name, weights=None)
    if weights is not None:
        net.load_state_dict(weights)
    return Normalised(FiveDepths(net, NAMED[name]))
