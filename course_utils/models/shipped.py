"""A net of fastai's ``unet_learner`` as the net of a task: images in, the task's logits out.

A learner's net wants normalised images, for its data loaders normalise them; it gives a logit for
each line of codes.txt, Void among them; and its last layer makes a tensor of fastai's own of what
comes out. What is handed in takes images in [0, 1] and gives logits of the task's classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from course_utils.data.camvid import CLASS_OF_CODE
from course_utils.errors import CourseError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's images, red, green, blue, in [0, 1]: what its networks expect taken out."""


class Shipped(nn.Module):
    """Normalisation, a ``DynamicUnet``, and its codes summed up to classes.

    The weights are those of ``net``, not copies of them.

    Parameters
    ----------
    net
        fastai's ``DynamicUnet``: its ``layers``, the last of which may be a ``ToTensorBase``.
    codes
        The lines of codes.txt, one for each logit of the net.
    classes
        The C classes of the task. A code belongs to the class of its name, or to the one that
        `CLASS_OF_CODE` has for it; several codes of one class (of CamVid's 32, Car and
        SUVPickupTruck) add their probabilities. Void belongs to none.
    """

    def __init__(self, net: nn.Module, codes: Sequence[str], classes: Sequence[str]):
        super().__init__()
        if not isinstance(getattr(net, "layers", None), nn.ModuleList):
            raise CourseError(
                f"net must be the DynamicUnet of a learner, its .model; found {type(net).__name__}."
            )
        for module in net.modules():  # what the last training step has left cannot be copied
            if hasattr(hook := getattr(module, "hook", None), "stored"):
                hook.stored = None
        self.net = net  # the whole of it: without it, its hooks go, and with them the skips
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.register_buffer("groups", code_groups(codes, classes)[:, :, None, None])
        self.to(next(net.parameters()).device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``(B, C, H, W)`` of images ``(B, 3, H, W)`` in [0, 1]."""
        x = image = (x - self.mean) / self.std
        for layer in self.net.layers:
            if type(layer).__name__ == "ToTensorBase":
                continue
            x.orig = image  # where the last layers look for the image, as fastai hands it on
            after = layer(x)
            x.orig = after.orig = None
            x = after
        return class_shares(x, self.groups).log()


def class_shares(logits: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Return each class's share ``(B, C, H, W)`` of the probabilities of codes; at least 1e-12.

    ``groups`` is what `code_groups` gives, as a kernel ``(C, len(codes), 1, 1)``.
    """
    return nn.functional.conv2d(logits.softmax(dim=1), groups).clamp_min(1e-12)


def code_groups(codes: Sequence[str], classes: Sequence[str]) -> torch.Tensor:
    """Return which code counts as which class, ``(C, len(codes))`` of 0 and 1.

    >>> code_groups(["Car", "Truck_Bus", "Void"], ["car"])
    tensor([[1., 1., 0.]])
    """
    groups = torch.zeros(len(classes), len(codes))
    for column, code in enumerate(codes):
        name = code if code in classes else CLASS_OF_CODE.get(code, "")
        if name in classes:
            groups[classes.index(name), column] = 1
        elif name is not None:
            raise CourseError(
                f"codes.txt names {code!r}, which is none of {', '.join(classes)}, no class of "
                "CamVid, and not Void. Is it of another data set?"
            )
    if missing := [name for name, row in zip(classes, groups, strict=True) if not row.any()]:
        raise CourseError(f"codes.txt has nothing for {', '.join(missing)}.")
    return groups
