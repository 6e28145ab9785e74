"""Random changes to prepared pictures that do not change their class."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


@dataclass(frozen=True)
class Augmentation:
    """Limits of the random changes to a picture.

    Attributes:
        rotation_degrees: Largest rotation either way.
        shift: Largest shift either way, as a share of the side.
        scale: Largest relative change of its size.
        flip: Whether left and right may be swapped.
    """

    rotation_degrees: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    flip: bool = False

    def apply(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Change each picture of a batch by its own random amounts.

        Args:
            images: uint8 `[batch, height, width, channels]`, as preprocessing returns them.
            generator: A generator on the CPU, so that every device makes the same changes.

        Returns:
            Pictures of the same shape, dtype and device; pixels from outside are black.
        """
        if self == Augmentation():
            return images
        count = len(images)

        def spread(limit: float) -> Tensor:
            return (torch.rand(count, generator=generator) * 2 - 1) * limit

        angle = spread(math.radians(self.rotation_degrees))
        zoom = 1 / (1 + spread(self.scale))
        mirror = torch.ones(count)
        if self.flip:
            mirror = torch.randint(2, (count,), generator=generator) * 2.0 - 1
        # `affine_grid` runs from -1 to 1 along a side, so a whole side is 2.
        right, down = spread(2 * self.shift), spread(2 * self.shift)
        cosine, sine = angle.cos() * zoom, angle.sin() * zoom
        affine = torch.stack(
            [
                torch.stack([cosine * mirror, -sine, right], dim=1),
                torch.stack([sine * mirror, cosine, down], dim=1),
            ],
            dim=1,
        ).to(images.device)  # N x 2 x 3
        pixels = images.permute(0, 3, 1, 2).to(torch.float32)  # N x C x H x W
        grid = F.affine_grid(affine, list(pixels.shape), align_corners=False)  # N x H x W x 2
        moved = F.grid_sample(pixels, grid, align_corners=False)
        return moved.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
