"""The pixels of a split, batch by batch: from memory, or from disk.

Shapes: B batch, C channels; pixels (B, C, H, W) uint8.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from rkkd_cli.data.images import LabelledImages
from rkkd_cli.data.random_boxes import crop_boxes, resized_crops
from rkkd_cli.data.seeding import derive_seed
from rkkd_cli.data.streaming.crops import Crop
from rkkd_cli.data.streaming.loader import DecodeTask
from rkkd_cli.data.streaming.split import StreamedSplit

# The largest fraction of a GPU's free memory in which a split stays on the GPU.
MAX_GPU_FRACTION = 0.5

Positions = slice | Tensor  # of images in the order of an epoch, or of the split


class RandomCrops:
    """A crop and a flip for every image of an epoch.

    Crop corners are uniform over the padded image; half of the images are flipped if ``flip``.
    """

    def __init__(
        self,
        count: int,
        size: tuple[int, int],
        padding: int,
        flip: bool,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self.size = size
        corners = torch.randint(2 * padding + 1, (count, 2), generator=generator)
        flipped = torch.rand(count, generator=generator) < (0.5 if flip else 0.0)
        self.corners, self.flipped = corners.to(device), flipped.to(device)

    def crop(self, padded: Tensor, index: Tensor, in_epoch: Positions) -> Tensor:
        """Return padded[b, c, rows[b, h], columns[b, w]] for each b of ``index``.

        ``in_epoch`` says which images of the epoch these are: rows and columns are those of their
        crops, and the columns of flipped images are mirrored.
        """
        height, width = self.size
        device, corners = padded.device, self.corners[in_epoch]
        rows = corners[:, :1] + torch.arange(height, device=device)
        columns = corners[:, 1:] + torch.arange(width, device=device)
        columns = torch.where(self.flipped[in_epoch][:, None], columns.flip(1), columns)
        channels = torch.arange(padded.shape[1], device=device)
        return padded[
            index[:, None, None, None],
            channels[None, :, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
        ]


class RandomResizedCrops:
    """A box of random area and aspect ratio for every image of an epoch, and a flip."""

    def __init__(
        self, count: int, size: tuple[int, int], flip: bool, generator: torch.Generator
    ) -> None:
        def uniform(numbers: int) -> Tensor:
            return torch.rand(count, numbers, generator=generator, dtype=torch.float64)

        self.boxes = crop_boxes(uniform, *size)
        self.flipped = torch.rand(count, generator=generator) < (0.5 if flip else 0.0)

    def crop(self, images: Tensor, index: Tensor, in_epoch: Positions) -> Tensor:
        """Return the box of images[b] for each b of ``index``, scaled to the image's size."""
        return resized_crops(images[index], self.boxes[in_epoch], self.flipped[in_epoch])


class ResidentPixels:
    """Images in memory (the GPU's if they fit), padded for their crops unless these are resized."""

    def __init__(
        self,
        split: LabelledImages,
        device: torch.device,
        padding: int,
        flip: bool,
        resized: bool = False,
    ) -> None:
        images, storage = torch.from_numpy(split.images), device
        if device.type == "cuda":
            free_bytes, _ = torch.cuda.mem_get_info(device)
            if images.nbytes >= MAX_GPU_FRACTION * free_bytes:
                storage = torch.device("cpu")
        self.images = torch.nn.functional.pad(images, (padding,) * 4).to(storage)
        self.size, self.padding, self.flip, self.resized = split.shape[1:], padding, flip, resized

    def in_order(self, slices: Iterable[Positions]) -> Iterator[Tensor]:
        """Yield the images of each slice of the split. Only called without padding."""
        return (self.images[batch] for batch in slices)

    def augmented(
        self, order: Tensor, generators: Sequence[torch.Generator], slices: Iterable[Positions]
    ) -> Iterator[list[Tensor]]:
        """Yield the images of each slice of ``order`` (sample indices), cropped and flipped.

        There is a view of them for each generator. Random numbers are always drawn for the whole
        epoch, so an image gets the same crop and flip whichever slices are requested.
        """
        crops = [self._draw_crops(len(order), generator) for generator in generators]
        order = order.to(self.images.device)
        for batch in slices:
            yield [view.crop(self.images, order[batch], batch) for view in crops]

    def _draw_crops(
        self, count: int, generator: torch.Generator
    ) -> RandomCrops | RandomResizedCrops:
        if self.resized:
            return RandomResizedCrops(count, self.size, self.flip, generator)
        device = self.images.device
        return RandomCrops(count, self.size, self.padding, self.flip, generator, device)


class StreamedPixels:
    """Images on disk, decoded by a loader's workers a few batches ahead."""

    def __init__(
        self, split: StreamedSplit, device: torch.device, padding: int, flip: bool
    ) -> None:
        self.split, self.device, self.padding, self.flip = split, device, padding, flip

    def in_order(self, slices: Sequence[Positions]) -> Iterator[Tensor]:
        """Yield the images of each slice, made to fit."""
        mode = self.split.resize if self.split.crop == "padded" else "held_out"
        crop = Crop(self.split.size, mode)
        indices = torch.arange(len(self.split))
        tasks = (
            [DecodeTask(self.split.path(index), crop) for index in indices[batch].tolist()]
            for batch in slices
        )
        return (pixels for (pixels,) in self._decode(tasks, len(slices)))

    def augmented(
        self, order: Tensor, generators: Sequence[torch.Generator], slices: Sequence[Positions]
    ) -> Iterator[list[Tensor]]:
        """Yield views of the images of each slice of ``order``, as :class:`ResidentPixels` does.

        An image is decoded once for all its views.
        """
        if self.split.crop == "padded":
            return self._padded_crops(order, generators, slices)
        return self._drawn_crops(order, generators, slices)

    def _drawn_crops(
        self, order: Tensor, generators: Sequence[torch.Generator], slices: Sequence[Positions]
    ) -> Iterator[list[Tensor]]:
        """Yield resized crops, or windows of the scaled images, each drawn from its own seed."""
        seeds = [int(torch.randint(2**62, (1,), generator=g)) for g in generators]
        size, positions = self.split.size, torch.arange(len(order))
        crop = Crop(size, "random" if self.split.crop == "resized" else "window", self.flip)

        def task(position: int, index: int) -> DecodeTask:
            drawn = tuple(derive_seed(seed, position) for seed in seeds)
            return DecodeTask(self.split.path(index), crop, drawn)

        tasks = (
            list(map(task, positions[batch].tolist(), order[batch].tolist())) for batch in slices
        )
        return self._decode(tasks, len(slices))

    def _padded_crops(
        self, order: Tensor, generators: Sequence[torch.Generator], slices: Sequence[Positions]
    ) -> Iterator[list[Tensor]]:
        """Yield random windows of the padded images, the same as for images in memory."""
        size, device = self.split.shape[1:], self.device
        crops = [
            RandomCrops(len(order), size, self.padding, self.flip, generator, device)
            for generator in generators
        ]
        fit = Crop(self.split.size, self.split.resize)
        tasks = (
            [DecodeTask(self.split.path(index), fit) for index in order[batch].tolist()]
            for batch in slices
        )
        for batch, (pixels,) in zip(slices, self._decode(tasks, len(slices)), strict=True):
            padded = torch.nn.functional.pad(pixels, (self.padding,) * 4)
            images = torch.arange(len(pixels), device=device)
            yield [view.crop(padded, images, batch) for view in crops]

    def _decode(self, batches: Iterable[list[DecodeTask]], count: int) -> Iterator[list[Tensor]]:
        """Yield the views of each of ``count`` batches."""
        on_gpu = self.device.type == "cuda"
        for pixels in self.split.loader.read(batches, count, pin_memory=on_gpu):
            views = pixels.to(self.device, non_blocking=True).permute(1, 0, 4, 2, 3)
            yield list(views.unbind())
