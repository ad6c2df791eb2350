"""The stream: which images come when, how they are cropped, flipped and normalised."""

from collections import Counter
from collections.abc import Iterable
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from in_memory import pixels_of
from numpy.typing import NDArray

from rkkd_cli.data.images import Dataset, LabelledImages
from rkkd_cli.data.stream import Batch, DeviceImages, Shard, Stream, batch_slices

CPU = torch.device("cpu")
Pixels = NDArray[np.uint8]


def dataset(
    count: int = 20, channels: int = 3, size: tuple[int, int] = (6, 5), padding: int = 0,
    flip: bool = False, mean: float = 0.0, std: float = 1 / 255,
) -> Dataset:  # fmt: skip
    """Random images with pairwise different pixels; unnormalised with the usual mean and std."""
    generator = np.random.default_rng(0)
    images = generator.integers(1, 256, (count, channels, *size), dtype=np.uint8)
    split = LabelledImages(images, np.arange(count, dtype=np.int64))
    return Dataset(
        "test", split, split, None, ("a",), (mean,) * channels, (std,) * channels, padding, flip
    )  # fmt: skip


def batches(data: Dataset, epoch: int = 1, seed: int = 0, batch_size: int = 8) -> list[Batch]:
    return list(Stream(data, CPU, batch_size, seed, last_batch="keep").epoch(epoch))


def whole(parts: Iterable[Batch]) -> tuple[Pixels, list[int]]:
    """All images as pixels again, and their labels (which are their sample indices)."""
    listed = list(parts)
    pixels = torch.cat([part.images for part in listed]).round().to(torch.uint8).numpy()
    return pixels, torch.cat([part.labels for part in listed]).tolist()


def naive_crops(image: Pixels, padding: int) -> dict[tuple[int, int, bool], Pixels]:
    """Every window of the zero-padded image, as it is and mirrored."""
    channels, height, width = image.shape
    padded = np.zeros((channels, height + 2 * padding, width + 2 * padding), dtype=np.uint8)
    padded[:, padding : padding + height, padding : padding + width] = image
    crops = {}
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            window = padded[:, top : top + height, left : left + width]
            crops[top, left, False] = window
            crops[top, left, True] = window[:, :, ::-1]
    return crops


@settings(max_examples=40)
@given(
    count=st.integers(1, 40), batch_size=st.integers(1, 50), padding=st.integers(0, 2),
    flip=st.booleans(), epoch=st.integers(1, 10**6), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_an_epoch_shows_every_image_once_in_full_batches_and_a_rest(
    count: int, batch_size: int, padding: int, flip: bool, epoch: int, seed: int
) -> None:
    data = dataset(count, padding=padding, flip=flip)
    stream = Stream(data, CPU, batch_size, seed, last_batch="keep")
    parts = list(stream.epoch(epoch))
    sizes = [len(part.labels) for part in parts]
    full, rest = divmod(count, batch_size)
    assert sizes == [batch_size] * full + [rest] * (rest > 0)
    assert len(stream) == len(parts)
    assert [len(part.images) for part in parts] == sizes
    assert sorted(whole(parts)[1]) == list(range(count))


def test_without_crop_and_flip_the_images_come_as_they_are_in_another_order() -> None:
    data = dataset(50)
    pixels, order = whole(batches(data))
    assert np.array_equal(pixels, pixels_of(data.train)[order])
    assert order != sorted(order)


@pytest.mark.parametrize("padding", [1, 2, 4])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_is_a_window_of_its_zero_padded_self(
    padding: int, flip: bool, channels: int
) -> None:
    data = dataset(30, channels, padding=padding, flip=flip)
    for image, index in zip(*whole(batches(data)), strict=True):
        crops = naive_crops(pixels_of(data.train)[index], padding)
        matches = [key for key, crop in crops.items() if np.array_equal(crop, image)]
        assert any(flip or not mirrored for *_, mirrored in matches)


def test_windows_are_uniform_and_half_of_the_images_are_flipped() -> None:
    data = dataset(1800, 1, padding=1, flip=True)
    drawn: Counter[tuple[int, int, bool]] = Counter()
    for image, index in zip(*whole(batches(data, batch_size=256)), strict=True):
        crops = naive_crops(pixels_of(data.train)[index], 1)
        drawn.update(key for key, crop in crops.items() if np.array_equal(crop, image))
    assert sum(drawn.values()) == 1800
    assert len(drawn) == 18
    # 100 are expected of each; six standard deviations of such a count are below 60.
    assert all(40 < count < 160 for count in drawn.values())
    flipped = sum(count for (*_, mirrored), count in drawn.items() if mirrored)
    assert flipped == pytest.approx(900, abs=130)


def same(one: Iterable[Batch], other: Iterable[Batch]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) for a, b in pairs
    )


def test_the_same_seed_and_epoch_give_the_same_batches_and_others_do_not() -> None:
    data = dataset(padding=1, flip=True)
    reference = batches(data, epoch=2, seed=5)
    assert same(reference, batches(data, epoch=2, seed=5))
    assert not same(reference, batches(data, epoch=3, seed=5))
    assert not same(reference, batches(data, epoch=2, seed=6))


def test_an_epoch_does_not_depend_on_what_was_read_before() -> None:
    data = dataset(padding=1, flip=True)
    stream = Stream(data, CPU, 8, seed=0)
    for epoch in (1, 2):
        list(stream.epoch(epoch))
    list(islice(stream.epoch(9), 1))
    torch.manual_seed(123)
    assert same(stream.epoch(3), batches(data, epoch=3))


def test_two_readers_of_one_stream_do_not_disturb_each_other() -> None:
    stream = Stream(dataset(padding=1, flip=True), CPU, 8, seed=0)
    pairs = zip(stream.epoch(1), stream.epoch(1), strict=True)
    assert all(torch.equal(a.images, b.images) for a, b in pairs)


def test_the_global_generator_is_neither_used_nor_moved() -> None:
    data = dataset(padding=1, flip=True)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    batches(data)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_batch_size_cuts_the_same_sequence() -> None:
    data = dataset(padding=1, flip=True)
    small, large = whole(batches(data, batch_size=3)), whole(batches(data, batch_size=20))
    assert np.array_equal(small[0], large[0])
    assert small[1] == large[1]


@pytest.mark.parametrize("channels", [1, 3])
def test_normalisation_is_the_formula(channels: int) -> None:
    data = dataset(channels=channels, mean=0.4914, std=0.2470)
    (batch,) = DeviceImages(data.test, data, CPU).in_order(100)
    expected = (pixels_of(data.test).astype(np.float64) / 255 - 0.4914) / 0.2470
    assert batch.images.dtype == torch.float32
    assert np.abs(batch.images.double().numpy() - expected).max() < 1e-6
    streamed = torch.cat([part.images for part in batches(data)]).double().numpy()
    order = whole(batches(data))[1]
    assert np.abs(streamed - expected[order]).max() < 1e-6


def test_every_channel_has_its_own_mean_and_std() -> None:
    base = dataset()
    data = Dataset(
        "test", base.train, base.test, None, ("a",), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 0, False
    )
    (batch,) = DeviceImages(data.test, data, CPU).in_order(100)
    for channel, (mean, std) in enumerate(zip(data.mean, data.std, strict=True)):
        expected = (pixels_of(data.test)[:, channel] / 255 - mean) / std
        assert np.abs(batch.images[:, channel].numpy() - expected).max() < 1e-6


@pytest.mark.parametrize("batch_size", [1, 7, 20, 100])
def test_in_order_gives_all_images_as_they_are_every_time(batch_size: int) -> None:
    data = dataset(padding=2, flip=True)
    images = DeviceImages(data.test, data, CPU)
    for _ in range(2):
        pixels, order = whole(images.in_order(batch_size))
        assert order == list(range(20))
        assert np.array_equal(pixels, pixels_of(data.test))


@given(st.integers(0, 40), st.integers(0, 50), st.integers(1, 9))
def test_shards_are_contiguous_and_of_nearly_the_same_size(
    start: int, count: int, world_size: int
) -> None:
    shards = [Shard(rank, world_size).within(start, start + count) for rank in range(world_size)]
    indices = [index for shard in shards for index in range(shard.start, shard.stop)]
    assert indices == list(range(start, start + count))
    sizes = [shard.stop - shard.start for shard in shards]
    assert sizes[0] == max(sizes)
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("strong", [False, True])
@pytest.mark.parametrize(("count", "world_size"), [(20, 2), (21, 3), (17, 2), (17, 4)])
def test_the_shards_of_ranks_are_the_whole_batches(
    count: int, world_size: int, strong: bool
) -> None:
    data = dataset(count, size=(8, 8), padding=1, flip=True)

    def read(shard: Shard) -> list[Batch]:
        return list(Stream(data, CPU, 8, 0, strong).epoch(2, 1, shard))

    streams = [read(Shard(rank, world_size)) for rank in range(world_size)]
    for wanted, *parts in zip(read(Shard()), *streams, strict=True):
        counting = [part for part in parts if not part.is_padding]
        for name in ("images", "labels", "indices", *(["strong"] if strong else [])):
            joined = torch.cat([getattr(part, name) for part in counting])
            assert torch.equal(joined, getattr(wanted, name)), name
        assert all(part.total == wanted.total == len(wanted.labels) for part in parts)
        assert sum(part.weight for part in parts) == pytest.approx(1, abs=1e-12)
        assert all(len(part.labels) == 1 and part.weight == 0 for part in parts if part.is_padding)


def test_reading_does_not_change_the_images() -> None:
    data = dataset(padding=0)
    before = pixels_of(data.train).copy()
    batches(data)
    assert np.array_equal(pixels_of(data.train), before)


@given(
    images=st.integers(1, 300),
    batch_size=st.integers(1, 70),
    last_batch=st.sampled_from(["keep", "drop", "merge", None]),
)
def test_an_epoch_is_cut_into_batches_by_the_rule_for_the_last(
    images: int, batch_size: int, last_batch: str | None
) -> None:
    batches = batch_slices(images, batch_size, last_batch)
    sizes = [batch.stop - batch.start for batch in batches]
    assert [batch.start for batch in batches] == [batch_size * n for n in range(len(batches))]
    assert all(size == batch_size for size in sizes[:-1])
    rest, is_only = images % batch_size, images <= batch_size
    if last_batch is None and batch_size > 1 and images > 1:
        assert min(sizes) > 1
    if is_only or not rest or last_batch == "keep":
        assert (sum(sizes), sizes[-1]) == (images, rest or batch_size)
    elif last_batch == "drop":
        assert (sum(sizes), sizes[-1]) == (images - rest, batch_size)
    elif last_batch == "merge" or rest == 1:
        assert (sum(sizes), sizes[-1]) == (images, batch_size + rest)
    else:
        assert (sum(sizes), sizes[-1]) == (images, rest)


def test_what_is_dropped_differs_from_epoch_to_epoch() -> None:
    stream = Stream(dataset(30), CPU, 8, seed=0, last_batch="drop")
    assert (len(stream), stream.images_per_epoch) == (3, 24)
    epochs = [torch.cat([batch.indices for batch in stream.epoch(epoch)]) for epoch in (1, 2, 3)]
    assert [len(indices) for indices in epochs] == [24, 24, 24]
    assert len({index for indices in epochs for index in indices.tolist()}) > 24
