"""How a model takes the images of a stream: at its own size, and in its own normalisation.

Shapes: B batch, C channels; images (B, C, H, W) float32.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class ImageFormat(NamedTuple):
    """The size of images (height, width), and how they are normalised.

    Pixels are (p / 255 − mean) / std, with a mean and a standard deviation for each channel.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def channels(self) -> int:
        """The number of channels."""
        return len(self.mean)


def plain_format(channels: int, size: tuple[int, int]) -> ImageFormat:
    """Return the format of pixels in [0, 1]."""
    return ImageFormat(size, (0.0,) * channels, (1.0,) * channels)


@dataclass(frozen=True)
class ModelInput:
    """Converts ``images``, the format of a stream, to ``own``, that of a model.

    Images of another size are resampled as ``torchvision.transforms.v2.Resize`` does by default:
    bilinear, with antialiasing. Equal formats convert nothing.
    """

    images: ImageFormat
    own: ImageFormat

    @property
    def is_same(self) -> bool:
        """Whether the model takes the images as they are."""
        return self.images == self.own

    def __call__(self, images: Tensor) -> Tensor:
        """Return the images (B, C, height, width) of the model for those of the stream."""
        if self.is_same:
            return images
        if self.own.size != self.images.size:
            images = F.interpolate(images, self.own.size, mode="bilinear", antialias=True)
        if (self.own.mean, self.own.std) != (self.images.mean, self.images.std):
            scale, shift = self._affine_on(images.device)
            images = torch.addcmul(shift, images, scale)
        return images.contiguous(memory_format=torch.channels_last)

    def _affine_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return scale and shift, (1, C, 1, 1), between the normalisations.

        They are kept on the device: while a CUDA graph is captured nothing may be copied to it.
        """
        if device not in self._affine:
            theirs, own = (
                [torch.tensor(values, dtype=torch.float64) for values in (one.mean, one.std)]
                for one in (self.images, self.own)
            )
            pair = theirs[1] / own[1], (theirs[0] - own[0]) / own[1]
            scale, shift = (x.to(device, torch.float32).view(1, -1, 1, 1) for x in pair)
            self._affine[device] = scale, shift
        return self._affine[device]

    @cached_property
    def _affine(self) -> dict[torch.device, tuple[Tensor, Tensor]]:
        return {}


def taken_as_is(channels: int, size: tuple[int, int]) -> ModelInput:
    """Return the input of a model that takes images of this size as they are."""
    images = plain_format(channels, size)
    return ModelInput(images, images)
