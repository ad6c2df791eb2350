"""A batch of images as a detector gets it, and torchvision's own networks on such a batch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from rkkd_cli.data.detection.objects import Objects

CLASSES = 3


class PreparedBatch(NamedTuple):
    """Images normalised and padded, their sizes without padding, and their objects."""

    images: Tensor
    sizes: tuple[tuple[int, int], ...]
    objects: tuple[Objects, ...]


def prepared_batch(
    sizes: Sequence[tuple[int, int]] = ((64, 90), (60, 96), (64, 70)),
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> PreparedBatch:
    """Return images of random pixels, padded to a multiple of 32; the last has no object."""
    generator = torch.Generator().manual_seed(seed)
    height, width = (-(-max(sides) // 32) * 32 for sides in zip(*sizes, strict=True))
    images = torch.zeros(len(sizes), 3, height, width, dtype=dtype)
    objects = []
    for index, (h, w) in enumerate(sizes):
        images[index, :, :h, :w] = torch.randn(3, h, w, generator=generator, dtype=dtype)
        count = 0 if index == len(sizes) - 1 else index + 2
        corner = torch.rand(count, 2, generator=generator) * torch.tensor([w - 40, h - 40])
        side = 20 + 20 * torch.rand(count, 2, generator=generator)
        labels = torch.randint(CLASSES, (count,), generator=generator)
        crowd = torch.zeros(count, dtype=torch.bool)
        boxes = torch.cat([corner, corner + side], dim=1)
        objects.append(Objects(boxes, labels, side.prod(dim=1), crowd))
    return PreparedBatch(images, tuple(sizes), tuple(objects))


class AsPrepared(nn.Module):
    """Takes the place of torchvision's transform: the images are as they should be."""

    def __init__(self, batch: PreparedBatch) -> None:
        super().__init__()
        self.batch = batch

    def forward(self, images: Any, targets: Any) -> Any:
        return ImageList(self.batch.images, list(self.batch.sizes)), targets

    def postprocess(self, result: Any, *sizes: Any) -> Any:
        return result


def torchvision_losses(
    network: Any, batch: PreparedBatch, first_label: int, seed: int = 1
) -> dict[str, Tensor]:
    """Return torchvision's own training losses, drawn from a seed."""
    network.transform = AsPrepared(batch)
    targets = [
        {"boxes": o.boxes.to(batch.images.dtype), "labels": o.labels + first_label}
        for o in batch.objects
    ]
    network.train()
    torch.manual_seed(seed)
    losses: dict[str, Tensor] = network(list(batch.images), targets)
    return losses


def torchvision_detections(network: Any, batch: PreparedBatch) -> list[dict[str, Tensor]]:
    """Return torchvision's own detections."""
    network.transform = AsPrepared(batch)
    network.eval()
    with torch.no_grad():
        found: list[dict[str, Tensor]] = network(list(batch.images))
    return found


def gradients(network: nn.Module, losses: dict[str, Tensor]) -> dict[str, Tensor | None]:
    """Return the gradients of the sum of the losses, by name."""
    network.zero_grad()
    torch.autograd.backward(list(losses.values()))
    return {name: parameter.grad for name, parameter in network.named_parameters()}
