"""Images and masks transformed together, by torchvision's transforms v2.

A `tv_tensors.Mask` is moved like its image, but only ever by nearest neighbour, and its
colours are left alone. What a shift or a rotation uncovers is void.
"""

from collections.abc import Callable

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from course_utils.data.segmentation_set import VOID


def augmenting(
    *, flip: float = 0.5, shift: float = 0.0, degrees: float = 0.0, colour: float = 0.0
) -> Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Return an augmentation for :func:`course_utils.training.fit`, from image and mask to both.

    Parameters
    ----------
    flip
        Probability of a flip left to right.
    shift
        Largest shift, as a share of height and width.
    degrees
        Largest rotation.
    colour
        How much brightness, contrast and saturation may change, 0 to 1; of the image alone.

    Examples
    --------
    >>> image, mask = torch.zeros(3, 4, 6, dtype=torch.uint8), torch.arange(24).reshape(4, 6)
    >>> _, flipped = augmenting(flip=1)(image, mask)
    >>> bool((flipped == mask.flip(-1)).all())
    True
    """
    steps: list[v2.Transform] = [v2.RandomHorizontalFlip(flip)]
    if shift or degrees:
        fill = {tv_tensors.Image: 0, tv_tensors.Mask: VOID}
        steps.append(v2.RandomAffine(degrees, translate=(shift, shift), fill=fill))
    if colour:
        steps.append(v2.ColorJitter(colour, colour, colour))
    return Together(v2.Compose(steps))


class Together:
    """Any transform of torchvision's v2 on an image ``(3, H, W)`` and its mask ``(H, W)``."""

    def __init__(self, transform: v2.Transform):
        self.transform = transform

    def __call__(
        self, image: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both as plain tensors, moved alike."""
        pair = self.transform(tv_tensors.Image(image), tv_tensors.Mask(mask))
        return tuple(part.as_subclass(torch.Tensor) for part in pair)

    def __repr__(self) -> str:
        return " ".join(repr(self.transform).split())
