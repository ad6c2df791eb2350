"""A stream: the batches of one seed, cropped, flipped and normalised on the device.

Shapes: B batch, C channels; images (B, C, H, W) float32.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rkkd_cli.data.batch_draws import BatchDraws
from rkkd_cli.data.class_batches import ClassBatches, PerClass
from rkkd_cli.data.images import Dataset, Split
from rkkd_cli.data.pixels import Positions, ResidentPixels, StreamedPixels
from rkkd_cli.data.seeding import derive_seed
from rkkd_cli.data.streaming.split import StreamedSplit
from rkkd_cli.data.strong_augment import StrongView
from rkkd_cli.data.targets import Mixed, Targets


class Shard(NamedTuple):
    """The contiguous part of every batch for one rank (from 0) of ``world_size`` ranks."""

    rank: int = 0
    world_size: int = 1

    def within(self, start: int, stop: int) -> slice:
        """Return this rank's shard of start … stop.

        The ranks' shards differ by at most one image; the first rank's is the largest.
        """
        size, count = stop - start, self.world_size
        first, last = (-(-size * rank // count) for rank in (self.rank, self.rank + 1))
        return slice(start + first, start + last)


WHOLE_BATCH = Shard()


class BatchShard(NamedTuple):
    """The slice of an epoch's order that is a global batch, and this rank's slice of it.

    ``is_padding``: the batch has no image for this rank; ``local`` is one that does not count.
    """

    batch: slice
    local: slice
    is_padding: bool

    @property
    def global_size(self) -> int:
        """The number of images of the global batch."""
        return int(self.batch.stop - self.batch.start)

    @property
    def within_batch(self) -> slice:
        """The local images as a slice of the global batch."""
        return slice(self.local.start - self.batch.start, self.local.stop - self.batch.start)

    @property
    def with_predecessor(self) -> Tensor:
        """The local images within the batch, after the one before them; the last is before 0."""
        within = self.within_batch
        return torch.arange(within.start - 1, within.stop) % self.global_size


def batch_slices(
    images: int,
    batch_size: int,
    last_batch: str | None = "keep",
    per_class: PerClass | None = None,
) -> list[slice]:
    """Return the batches of an epoch as slices of its order.

    A last batch that is smaller is kept, dropped, or merged into the batch before. With None it is
    kept, but a single image is merged. An only batch is always kept. With ``per_class`` there is no
    smaller batch.
    """
    if per_class is not None:
        images = batch_size * (per_class.batches or max(1, images // batch_size))
    bounds = [*range(0, images, batch_size), images]
    rest = images % batch_size
    if last_batch is None:
        last_batch = "merge" if rest == 1 else "keep"
    if rest and len(bounds) > 2 and last_batch != "keep":
        del bounds[-2 if last_batch == "merge" else -1]
    return list(itertools.starmap(slice, itertools.pairwise(bounds)))


class Batch(NamedTuple):
    """Normalised images, their labels (B,) and their sample indices in the split (B,).

    ``strong`` is a second, strongly augmented view of the images, if the stream has one. If the
    images are a rank's shard, ``global_size`` is the size of the global batch. ``is_padding``: the
    batch has no image for this rank. It gets one that does not count, because a step needs input.
    Images may be ``mixed`` with others: then the labels are those of the larger share.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    strong: Tensor | None = None
    global_size: int | None = None
    is_padding: bool = False
    mixed: Mixed | None = None

    @property
    def targets(self) -> Targets:
        """The labels, or what mixed images are to be classified as."""
        return Targets(self.labels, self.mixed)

    @property
    def total(self) -> int:
        """The number of images of the global batch."""
        return len(self.labels) if self.global_size is None else self.global_size

    @property
    def weight(self) -> float:
        """The fraction of the global batch's images in this batch."""
        return 0.0 if self.is_padding else len(self.labels) / self.total


class DeviceImages:
    """A split on the device: labels, their names, normalisation; pixels follow batch by batch."""

    def __init__(
        self,
        split: Split,
        dataset: Dataset,
        device: torch.device,
        padding: int = 0,
        flip: bool = False,
    ) -> None:
        self.device = device
        self.pixels: ResidentPixels | StreamedPixels = (
            StreamedPixels(split, device, padding, flip)
            if isinstance(split, StreamedSplit)
            else ResidentPixels(split, device, padding, flip, dataset.crop == "resized")
        )
        self.labels = torch.from_numpy(split.labels).to(device)
        self.class_names = dataset.classes
        mean, std = torch.tensor(dataset.mean), torch.tensor(dataset.std)
        self.scale = (1 / (255 * std)).view(1, -1, 1, 1).to(device)
        self.shift = (-mean / std).view(1, -1, 1, 1).to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return (pixels / 255 − mean) / std as channels-last float32 on the device."""
        images = pixels.to(self.device).to(torch.float32, memory_format=torch.channels_last)
        return images.mul_(self.scale).add_(self.shift)

    def in_order(self, batch_size: int, last_batch: str = "keep") -> Iterator[Batch]:
        """Yield all images once, in the order of the split and without augmentation."""
        indices = torch.arange(len(self), device=self.device)
        parts = batch_slices(len(self), batch_size, last_batch)
        for part, pixels in zip(parts, self.pixels.in_order(parts), strict=True):
            yield Batch(self.normalise(pixels), self.labels[part], indices[part])


class Stream:
    """The batches of one seed. Each epoch is a fixed function of the seed, whoever reads it."""

    def __init__(
        self,
        dataset: Dataset,
        device: torch.device,
        batch_size: int,
        seed: int,
        strong: bool = False,
        last_batch: str | None = None,
        per_class: PerClass | None = None,
    ) -> None:
        self.data = DeviceImages(
            dataset.train, dataset, device, padding=dataset.crop_padding, flip=dataset.flip
        )
        self.batch_size, self.seed = batch_size, seed
        self.batches = batch_slices(len(self.data), batch_size, last_batch, per_class)
        self.classes = per_class and ClassBatches(
            dataset.train.labels, batch_size, per_class.per_class
        )
        self.strong = StrongView(dataset.in_channels) if strong else None
        self.augment, self.mixing = dataset.augment, dataset.augment.mixing

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        return len(self.batches)

    @property
    def images_per_epoch(self) -> int:
        """The number of images per epoch: all, unless a smaller last batch is dropped.

        Batches of so many images per class may show an image more than once.
        """
        return int(self.batches[-1].stop)

    def epoch(self, epoch: int, skip: int = 0, shard: Shard = WHOLE_BATCH) -> Iterator[Batch]:
        """Yield the batches of an ``epoch`` (from 1), in random order.

        They have every image at most once, or so many images per class.

        Skips the first ``skip`` batches, and yields only this ``shard`` of the others; neither
        changes the images that are yielded.

        Random numbers are drawn on the CPU, so every device sees the same sequence. The strong view
        has its own crops and flips, so the other images are the same with and without it.
        """
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "stream", epoch))
        order = self._order(generator)
        strong_seed, generators = derive_seed(self.seed, "strong", epoch), [generator]
        if self.strong:
            generators.append(torch.Generator().manual_seed(strong_seed))
        batch_shards = list(self._batch_shards(skip, shard))
        loaded = [self._loaded(batch_shard) for batch_shard in batch_shards]
        augmented = self.data.pixels.augmented(order, generators, loaded)
        index = order.to(self.data.device)
        labels = self.data.labels[index]
        for batch_shard, positions, (pixels, *second) in zip(
            batch_shards, loaded, augmented, strict=True
        ):
            seed = derive_seed(self.seed, "augment", epoch, batch_shard.batch.start)
            images, targets = self._augment(pixels, labels[positions], batch_shard, seed)
            yield Batch(
                images,
                targets.labels,
                index[batch_shard.local],
                self._strong_view(second[0], strong_seed, batch_shard) if second else None,
                batch_shard.global_size,
                batch_shard.is_padding,
                targets.mixed,
            )

    def _order(self, generator: torch.Generator) -> Tensor:
        """Return the indices of an epoch's images, in the order of its batches."""
        if self.classes is None:
            return torch.randperm(len(self.data), generator=generator)
        return self.classes.draw(len(self.batches), generator)

    def _loaded(self, batch_shard: BatchShard) -> Positions:
        """Return the positions in the epoch of what is loaded for a rank's shard of a batch.

        Where images are mixed, this begins with the one with which the first is mixed.
        """
        if self.mixing is None:
            return batch_shard.local
        return batch_shard.with_predecessor.add(batch_shard.batch.start)

    def _augment(
        self, pixels: Tensor, labels: Tensor, batch_shard: BatchShard, seed: int
    ) -> tuple[Tensor, Targets]:
        """Return normalised images and their targets, of pixels that are cropped and flipped."""
        mixes = self.mixing is not None
        within = batch_shard.with_predecessor if mixes else batch_shard.within_batch
        draws = BatchDraws(seed, batch_shard.global_size, within)
        pixels = self.augment.change_pixels(pixels.to(self.data.device), draws)
        images = self.augment.erase(self.data.normalise(pixels), draws)
        if self.mixing is None:
            return images, Targets(labels)
        mix = self.mixing.draw(draws, *images.shape[2:])
        return mix.images(images[1:], images[:-1]), mix.targets(labels[1:], labels[:-1])

    def _batch_shards(self, skip: int, shard: Shard) -> Iterator[BatchShard]:
        for batch in self.batches[skip:]:
            local = shard.within(batch.start, batch.stop)
            is_empty = local.start == local.stop
            first = slice(batch.start, batch.start + 1)
            yield BatchShard(batch, first if is_empty else local, is_empty)

    def _strong_view(self, pixels: Tensor, epoch_seed: int, batch_shard: BatchShard) -> Tensor:
        """Return the strong view of a rank's shard of a batch, from crops of its own."""
        assert self.strong is not None
        pixels = pixels[-(batch_shard.local.stop - batch_shard.local.start) :]
        seed = derive_seed(epoch_seed, "batch", batch_shard.batch.start)
        within_batch, batch_size = batch_shard.within_batch, batch_shard.global_size
        return self.data.normalise(self.strong(pixels, seed, within_batch, batch_size))
