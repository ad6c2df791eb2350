"""The batches that a detector is trained on: a fixed function of a seed."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from rkkd_cli.data.detection.batches import DetectionBatch, DetectionImages, View, without_crowds
from rkkd_cli.data.detection.dataset import DetectionDataset
from rkkd_cli.data.seeding import derive_seed
from rkkd_cli.data.stream import WHOLE_BATCH, Shard, batch_slices
from rkkd_cli.data.subsets import Indices

# Where groups of aspect ratios meet: width / height, those of torchvision's reference scripts.
ASPECT_RATIOS = 2.0 ** (np.arange(-3, 4) / 3)


class ViewedImages(NamedTuple):
    """The images of a batch by their numbers in the split, and how each is shown."""

    indices: list[int]
    views: list[View]


class DetectionStream:
    """The batches of one seed. Each epoch is a fixed function of the seed, whoever reads it.

    They are an endless sequence of passes over the images, each in a new random order. An epoch is
    one pass, or the next ``batches_per_epoch`` batches, wherever a pass ends.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        device: torch.device,
        batch_size: int,
        seed: int,
        last_batch: str | None = None,
        batches_per_epoch: int | None = None,
    ) -> None:
        self.data = DetectionImages(dataset.train, dataset, device)
        self.batch_size, self.seed = batch_size, seed
        self.slices = batch_slices(len(self.data), batch_size, last_batch)  # of a pass
        self.batches_per_epoch = batches_per_epoch or len(self.slices)
        self.groups = aspect_groups(dataset.train.sizes)
        self.sides, self.flip = dataset.min_size or (None,), dataset.flip

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        return self.batches_per_epoch

    @property
    def images_per_epoch(self) -> int:
        """The mean number of images per epoch, rounded."""
        return round(self.batches_per_epoch * int(self.slices[-1].stop) / len(self.slices))

    def epoch(
        self, epoch: int, skip: int = 0, shard: Shard = WHOLE_BATCH
    ) -> Iterator[DetectionBatch]:
        """Yield the batches of an ``epoch`` (from 1); a pass has every image at most once.

        The images of a batch have like aspect ratios, so that little of it is padding; where a pass
        has no full batches left, those of neighbouring ratios are together. Each image has a random
        shorter side, and half of them are flipped.

        Skips the first ``skip`` batches, and yields only this ``shard`` of the others; neither
        changes the images that are yielded, nor how far they are padded.
        """
        first = (epoch - 1) * len(self)
        batches = list(self.batches(first + skip, first + len(self)))
        parts = [shard.within(0, len(batch.indices)) for batch in batches]
        # A rank without an image gets one that does not count.
        own = [part if part.start < part.stop else slice(1) for part in parts]
        loaded = [batch.indices[part] for batch, part in zip(batches, own, strict=True)]
        for batch, part, shown, indices, pixels in zip(
            batches, parts, own, loaded, self.data.read(loaded), strict=True
        ):
            objects = [without_crowds(self.data.split.objects(index)) for index in indices]
            padded_size = self.data.padded_size(batch.indices, batch.views)
            views = batch.views[shown]
            yield self.data.batch(indices, pixels, objects, views, padded_size)._replace(
                global_size=len(batch.indices), is_padding=part.start == part.stop
            )

    def batches(self, start: int, stop: int) -> Iterator[ViewedImages]:
        """Yield the batches ``start`` (from 0) to ``stop`` of the endless sequence of passes."""
        per_pass = len(self.slices)
        for number in range(start // per_pass, -(-stop // per_pass)):
            seed = derive_seed(self.seed, "detection", number + 1)
            generator = torch.Generator().manual_seed(seed)
            order = grouped_order(self.groups, self.batch_size, generator)
            views = self._draw_views(generator)
            first = number * per_pass
            for part in self.slices[max(0, start - first) : stop - first]:
                yield ViewedImages(order[part], [views[index] for index in order[part]])

    def _draw_views(self, generator: torch.Generator) -> list[View]:
        """Return how each image of the split is shown in a pass."""
        count = len(self.data)
        chosen = torch.randint(len(self.sides), (count,), generator=generator).tolist()
        flipped = torch.rand(count, generator=generator) < (0.5 if self.flip else 0.0)
        return [
            View(self.sides[number], is_flipped)
            for number, is_flipped in zip(chosen, flipped.tolist(), strict=True)
        ]


def aspect_groups(sizes: Indices) -> Indices:
    """Return the group of each image of a height and width (N, 2), sorted by width / height."""
    return np.digitize(sizes[:, 1] / sizes[:, 0], ASPECT_RATIOS).astype(np.int64)


def grouped_order(groups: Indices, batch_size: int, generator: torch.Generator) -> list[int]:
    """Return all images (N,) in a random order whose batches are of one group, as far as they go.

    What is left of the groups comes last, group after group, beginning with a random one.
    """
    shuffled = torch.randperm(len(groups), generator=generator).tolist()
    order: list[int] = []
    waiting: list[list[int]] = [[] for _ in range(len(ASPECT_RATIOS) + 1)]
    for index in shuffled:
        group = waiting[groups[index]]
        group.append(index)
        if len(group) == batch_size:
            order += group
            group.clear()
    first = int(torch.randint(len(waiting), (1,), generator=generator))
    return order + [index for group in waiting[first:] + waiting[:first] for index in group]
