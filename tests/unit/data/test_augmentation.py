"""Augmentation in a stream: torchvision's operations, whoever reads which part of it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from in_memory import pixels_of
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from rkkd_cli.config.dataset import AUGMENTATION_KEYS, DatasetConfig
from rkkd_cli.data.augmentation import NO_AUGMENTATION, Augmentation
from rkkd_cli.data.batch_draws import BatchDraws
from rkkd_cli.data.images import Dataset, LabelledImages
from rkkd_cli.data.random_boxes import crop_boxes
from rkkd_cli.data.seeding import derive_seed
from rkkd_cli.data.stream import Batch, DeviceImages, Shard, Stream
from rkkd_cli.errors import UserError

CPU = torch.device("cpu")
EVERYTHING = Augmentation("rand", 20, 2, (0.4, 0.3, 0.2, 0.1), 0.5, 0.8, 1.0)


def dataset(
    augment: Augmentation = NO_AUGMENTATION, count: int = 22, channels: int = 3, **changes: Any
) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    shape = (count, channels, 12, 10)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8).numpy()
    split = LabelledImages(images, torch.arange(count).numpy() % 4)
    made = Dataset("d", split, split, None, ("a", "b", "c", "d"), (0.4,) * channels,
                   (0.2,) * channels, 1, True, augment=augment)  # fmt: skip
    return replace(made, **changes)


def read(data: Dataset, skip: int = 0, shard: Shard = Shard(), seed: int = 3) -> list[Batch]:  # noqa: B008
    return list(Stream(data, CPU, 8, seed).epoch(2, skip, shard))


def tensors(batch: Batch) -> list[Tensor]:
    mixed = batch.mixed or ()
    return [batch.images, batch.labels, batch.indices, *mixed]


def same(one: list[Batch], other: list[Batch]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(all(map(torch.equal, tensors(a), tensors(b))) for a, b in pairs)


ALONE = {
    "rand": Augmentation("rand"),
    "trivial": Augmentation("trivial"),
    "jitter": Augmentation(color_jitter=(0.4,)),
    "erase": Augmentation(random_erase=0.9),
    "mixup": Augmentation(mixup_alpha=0.5),
    "cutmix": Augmentation(cutmix_alpha=1.0),
}
ALL = {**ALONE, "everything": EVERYTHING}


@pytest.mark.parametrize("name", ALL)
def test_an_epoch_is_a_function_of_its_seed(name: str) -> None:
    data = dataset(ALL[name])
    torch.manual_seed(0)
    before = torch.get_rng_state()
    whole = read(data)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(whole, read(data))
    assert not same(whole, read(data, seed=4))
    assert not same(whole, read(dataset()))
    assert same(whole[1:], read(data, skip=1))


@pytest.mark.parametrize("crop", ["padded", "resized"])
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("count", "world_size"), [(22, 2), (17, 4)])
def test_the_shards_of_ranks_are_the_whole_batches(
    count: int, world_size: int, name: str, crop: str
) -> None:
    data = dataset(ALL[name], count, crop=crop, crop_padding=1 if crop == "padded" else 0)
    streams = [read(data, 1, Shard(rank, world_size)) for rank in range(world_size)]
    for wanted, *parts in zip(read(data, 1), *streams, strict=True):
        counting = [part for part in parts if not part.is_padding]
        for name_of in ("images", "labels", "indices"):
            joined = torch.cat([getattr(part, name_of) for part in counting])
            assert torch.equal(joined, getattr(wanted, name_of))
        if wanted.mixed:
            others = [part.mixed for part in counting if part.mixed]
            assert torch.equal(torch.cat([one.other for one in others]), wanted.mixed.other)
            assert all(torch.equal(one.share, wanted.mixed.share) for one in others)
        assert all(len(part.labels) == 1 for part in parts if part.is_padding)


@pytest.mark.parametrize("name", ALONE)
def test_crops_flips_and_other_augmentation_stay_when_one_is_added(name: str) -> None:
    """Order, crops and flips are those of a stream without it, and so are another one's draws."""
    for one, plain in zip(read(dataset(ALONE[name])), read(dataset()), strict=True):
        assert torch.equal(one.indices, plain.indices)
    erased = replace(ALONE[name], random_erase=1.0)
    for one, other in zip(read(dataset(ALONE[name])), read(dataset(erased)), strict=True):
        if one.mixed is None and name != "erase":
            kept = other.images != 0
            assert torch.equal(one.images[kept], other.images[kept])


def test_mixed_images_and_labels_are_those_of_the_unmixed_stream() -> None:
    for alpha in (
        {"mixup_alpha": 0.4},
        {"cutmix_alpha": 1.0},
        {"mixup_alpha": 1, "cutmix_alpha": 1},
    ):
        mixed, plain = read(dataset(Augmentation(**alpha))), read(dataset())
        for one, own in zip(mixed, plain, strict=True):
            assert one.mixed is not None
            share, other = one.mixed.share, own.labels.roll(1)
            straight = torch.equal(one.labels, own.labels)
            assert straight or torch.equal(one.labels, other)
            assert torch.equal(one.mixed.other, other if straight else own.labels)
            part = share if straight else 1 - share
            averaged = part * own.images + (1 - part) * own.images.roll(1, 0)
            is_own, is_other = one.images == own.images, one.images == own.images.roll(1, 0)
            if not torch.allclose(one.images, averaged, atol=1e-5):
                assert (is_own | is_other).all()  # a box of the other image
                assert is_own.double().mean() == pytest.approx(part.item(), abs=0.03)


def test_jitter_is_torchvisions_in_a_random_order_for_each_image() -> None:
    settings = Augmentation(color_jitter=(0.4, 0.3, 0.0, 0.2))
    pixels = torch.randint(0, 256, (40, 3, 9, 9), dtype=torch.uint8)
    ours = settings.change_pixels(pixels, BatchDraws(5, 40))
    draws = BatchDraws(5, 40)
    generator = draws.generator("color_jitter")
    order = draws.uniform(generator, 4).argsort(dim=1)
    numbers = draws.uniform(generator, 4)
    ranges = ((0.6, 1.4), (0.7, 1.3), (1.0, 1.0), (-0.2, 0.2))
    functions = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
    seen = set()
    for image, own, places, drawn in zip(ours, pixels, order.tolist(), numbers, strict=True):
        for place in places:
            low, high = ranges[place]
            own = functions[place](own, low + (high - low) * float(drawn[place]))
        assert (image.int() - own.int()).abs().max() <= 4  # a rounded hue, made brighter
        seen.add(tuple(places))
    assert len(seen) > 10


def test_one_number_jitters_brightness_contrast_and_saturation() -> None:
    pixels = torch.randint(0, 256, (8, 3, 9, 9), dtype=torch.uint8)
    one, three = (Augmentation(color_jitter=spread) for spread in ((0.4,), (0.4, 0.4, 0.4)))
    changed = one.change_pixels(pixels, BatchDraws(0, 8))
    assert torch.equal(changed, three.change_pixels(pixels, BatchDraws(0, 8)))


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_erased_boxes_are_zero_after_the_normalisation(share: float) -> None:
    images, settings = torch.rand(2000, 1, 16, 20) + 1, Augmentation(random_erase=share)
    erased = settings.erase(images, BatchDraws(1, 2000))
    count = 0
    for one, other in zip(images, erased, strict=True):
        empty = (other[0] == 0).nonzero()
        if len(empty):
            (top, left), (bottom, right) = (
                empty.min(0).values.tolist(),
                empty.max(0).values.tolist(),
            )
            height, width = bottom - top + 1, right - left + 1
            expected = F.erase(one, top, left, height, width, torch.zeros(1, 1, 1))
            assert torch.equal(other, expected)
            assert 0.01 < height * width / 320 < 0.4
            count += 1
        else:
            assert torch.equal(one, other)
    assert count / 2000 == pytest.approx(share, abs=0.05)


def test_resized_crops_in_memory_are_torchvisions() -> None:
    data = dataset(crop="resized", crop_padding=0, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    parts = read(data)
    images = torch.cat([part.images for part in parts])
    order = torch.cat([part.indices for part in parts])
    generator = torch.Generator().manual_seed(derive_seed(3, "stream", 2))
    torch.randperm(22, generator=generator)
    boxes = crop_boxes(
        lambda count: torch.rand(22, count, generator=generator, dtype=torch.float64), 12, 10
    )
    flipped = torch.rand(22, generator=generator) < 0.5
    originals = torch.from_numpy(pixels_of(data.train))[order].float()
    drawn = zip(boxes.tolist(), flipped, strict=True)
    for image, own, (box, is_flipped) in zip(images, originals, drawn, strict=True):
        expected = F.resized_crop(own, *box, size=[12, 10], antialias=True)
        expected = F.horizontal_flip(expected) if is_flipped else expected
        assert (image - expected).abs().max() < 0.51


@pytest.mark.parametrize("crop", ["padded", "resized"])
def test_held_out_images_are_as_they_are(crop: str) -> None:
    plain, augmented = dataset(), dataset(EVERYTHING, crop=crop)
    (one,), (other,) = (
        list(DeviceImages(data.test, data, CPU).in_order(100)) for data in (plain, augmented)
    )
    assert torch.equal(one.images, other.images)
    assert other.mixed is None


def test_images_of_other_channels_cannot_change_their_colours() -> None:
    for settings in (Augmentation("rand"), Augmentation(color_jitter=(0.1,))):
        with pytest.raises(UserError, match="have 4 channels; leave it out"):
            settings.check_channels(4)
        settings.check_channels(1)
    Augmentation(random_erase=0.5, mixup_alpha=1.0).check_channels(4)
    assert len(read(dataset(Augmentation(random_erase=0.5, mixup_alpha=1.0), channels=4))) == 3
    assert len(read(dataset(EVERYTHING, channels=1))) == 3


def test_what_is_off_is_no_part_of_what_identifies_the_images() -> None:
    assert dataset().augmentation == (1, True)
    assert dataset(EVERYTHING).augmentation == (1, True, EVERYTHING.used)
    assert Augmentation("rand").used == {"auto_augment": "rand"}


def test_the_configuration_has_the_same_keys_with_the_same_defaults() -> None:
    config = DatasetConfig(name="digits")
    assert {key: getattr(config, key) for key in AUGMENTATION_KEYS} == vars(NO_AUGMENTATION)
