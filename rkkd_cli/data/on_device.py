"""The batches of a dataset on a device, whether its images have a class each or objects."""

import torch

from rkkd_cli.data.class_batches import per_class
from rkkd_cli.data.detection.batches import DetectionBatch, DetectionImages
from rkkd_cli.data.detection.dataset import DetectionDataset
from rkkd_cli.data.detection.objects import Objects
from rkkd_cli.data.detection.splits import DetectionSplit
from rkkd_cli.data.detection.stream import DetectionStream
from rkkd_cli.data.images import Dataset, Split
from rkkd_cli.data.stream import Batch, DeviceImages, Stream

AnyDataset = Dataset | DetectionDataset
AnySplit = Split | DetectionSplit
AnyImages = DeviceImages | DetectionImages
AnyBatch = Batch | DetectionBatch
AnyStream = Stream | DetectionStream


def split_on_device(split: AnySplit, dataset: AnyDataset, device: torch.device) -> AnyImages:
    """Return a split of the dataset, whose batches come to the device."""
    if isinstance(dataset, DetectionDataset):
        assert not isinstance(split, Split)
        return DetectionImages(split, dataset, device)
    assert isinstance(split, Split)
    return DeviceImages(split, dataset, device)


def scenes_of(images: torch.Tensor, classes: int) -> DetectionBatch:
    """Return images (B, 3, H, W) as scenes with one object each, to try a detector on."""
    height, width = images.shape[2:]
    size, device = (height, width), images.device
    objects = tuple(
        Objects(
            boxes=torch.tensor([[0.0, 0.0, width / 2, height / 2]], device=device),
            labels=torch.tensor([number % classes], device=device),
            areas=torch.tensor([height * width / 4], device=device),
            crowd=torch.tensor([False], device=device),
        )
        for number in range(len(images))
    )
    sizes, indices = (size,) * len(images), torch.arange(len(images), device=device)
    return DetectionBatch(images, sizes, objects, sizes, indices)


def open_stream(
    dataset: AnyDataset,
    device: torch.device,
    batch_size: int,
    seed: int,
    strong: bool = False,
    last_batch: str | None = None,
    images_per_class: int | None = None,
    batches_per_epoch: int | None = None,
) -> AnyStream:
    """Return the training batches of a seed; see :class:`rkkd_cli.data.stream.Stream`."""
    if isinstance(dataset, DetectionDataset):
        return DetectionStream(dataset, device, batch_size, seed, last_batch, batches_per_epoch)
    by_class = per_class(images_per_class, batches_per_epoch)
    return Stream(dataset, device, batch_size, seed, strong, last_batch, by_class)
