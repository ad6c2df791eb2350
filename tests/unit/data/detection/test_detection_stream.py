"""The stream: an epoch is a function of the seed, whoever reads it and in what parts."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rkkd_cli.data.detection.annotations import by_image
from rkkd_cli.data.detection.batches import DetectionBatch
from rkkd_cli.data.detection.dataset import DetectionDataset
from rkkd_cli.data.detection.scenes import SceneSplit
from rkkd_cli.data.detection.stream import DetectionStream, aspect_groups, grouped_order
from rkkd_cli.data.stream import Shard

CPU = torch.device("cpu")


def dataset(
    count: int = 23, min_size: tuple[int, ...] = (20, 30), flip: bool = True
) -> DetectionDataset:
    """Random images of random shapes, each with a crowd and an object whose label is the index."""
    generator = np.random.default_rng(0)
    shapes = generator.integers(16, 50, (count, 2)).tolist()
    images = tuple(generator.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes)
    image_of = np.repeat(np.arange(count), 2)
    boxes = np.tile([[2.0, 3.0, 9.0, 12.0]], (2 * count, 1))
    crowd = np.arange(2 * count) % 2 == 0
    split = SceneSplit(images, by_image(image_of, boxes, image_of, boxes[:, 0], crowd, count))
    names = tuple(map(str, range(count)))
    return DetectionDataset(
        "test", split, split, None, names, tuple(range(count)), (0.0,) * 3, (1.0,) * 3, min_size,
        100, flip, is_streamed=False,
    )  # fmt: skip


DATA = dataset()


def stream(seed: int = 0, batch_size: int = 4, data: DetectionDataset = DATA) -> DetectionStream:
    return DetectionStream(data, CPU, batch_size, seed)


def same(one: DetectionBatch, other: DetectionBatch) -> bool:
    boxes = [
        all(map(torch.equal, mine, yours))
        for mine, yours in zip(one.objects, other.objects, strict=True)
    ]
    return torch.equal(one.images, other.images) and all(boxes) and one.sizes == other.sizes


@settings(max_examples=25)
@given(
    count=st.integers(1, 60), batch_size=st.integers(1, 9), seed=st.integers(0, 2**40),
    epoch=st.integers(1, 1000), last_batch=st.sampled_from(["keep", "drop", "merge", None]),
)  # fmt: skip
def test_an_epoch_has_every_image_once_in_a_fixed_number_of_batches(
    count: int, batch_size: int, seed: int, epoch: int, last_batch: str | None
) -> None:
    data = dataset(count)
    one = DetectionStream(data, CPU, batch_size, seed, last_batch)
    batches = list(one.epoch(epoch))
    indices = [index for batch in batches for index in batch.indices.tolist()]
    assert len(batches) == len(one)
    assert len(indices) == len(set(indices)) == one.images_per_epoch
    if last_batch != "drop":
        assert len(indices) == count
    assert all(len(batch.sizes) == batch_size for batch in batches[:-1])


@settings(max_examples=25)
@given(
    count=st.integers(1, 40), batch_size=st.integers(1, 9), batches=st.integers(1, 30),
    seed=st.integers(0, 2**40), last_batch=st.sampled_from(["keep", "merge", None]),
)  # fmt: skip
def test_epochs_of_a_number_of_batches_are_passes_one_after_another(
    count: int, batch_size: int, batches: int, seed: int, last_batch: str | None
) -> None:
    data = dataset(count)
    one = DetectionStream(data, CPU, batch_size, seed, last_batch, batches)
    whole = DetectionStream(data, CPU, batch_size, seed, last_batch)
    by_epoch = [indices_of(one, epoch) for epoch in (1, 2, 3)]
    assert [len(epoch) for epoch in by_epoch] == [len(one)] * 3 == [batches] * 3
    in_order = [batch for epoch in by_epoch for batch in epoch]
    passes = -(-len(in_order) // len(whole))
    in_passes = [batch for number in range(passes) for batch in indices_of(whole, number + 1)]
    assert in_order == in_passes[: len(in_order)]
    shown = [index for batch in in_order for index in batch]
    for start in range(0, len(shown) - count + 1, count):
        assert sorted(shown[start : start + count]) == list(range(count))


def indices_of(one: DetectionStream, epoch: int) -> list[list[int]]:
    """Return the images of each batch, without decoding them."""
    first = (epoch - 1) * len(one)
    return [batch.indices for batch in one.batches(first, first + len(one))]


@settings(max_examples=20)
@given(skip=st.integers(0, 9), ranks=st.integers(1, 5), epoch=st.integers(1, 5))
def test_in_the_middle_of_a_pass_or_of_an_epoch_the_same_goes_on(
    skip: int, ranks: int, epoch: int
) -> None:
    one = DetectionStream(DATA, CPU, 4, seed=1, batches_per_epoch=9)  # a pass has 6
    whole = list(one.epoch(epoch))
    assert all(map(same, one.epoch(epoch, skip), whole[skip:]))
    parts = [list(one.epoch(epoch, skip, Shard(rank, ranks))) for rank in range(ranks)]
    for batch, *shards in zip(whole[skip:], *parts, strict=True):
        real = [shard for shard in shards if not shard.is_padding]
        assert torch.equal(torch.cat([shard.images for shard in real]), batch.images)
    assert one.images_per_epoch == round(23 * 9 / 6)


def test_passes_show_images_anew() -> None:
    one = DetectionStream(DATA, CPU, 4, seed=1, batches_per_epoch=12)
    batches = list(one.epoch(1))
    sizes: list[dict[int, tuple[int, int]]] = [{}, {}]
    for number, batch in enumerate(batches):
        sizes[number // 6] |= dict(zip(batch.indices.tolist(), batch.sizes, strict=True))
    assert sizes[0].keys() == sizes[1].keys()
    assert sizes[0] != sizes[1]


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    first = list(stream(5).epoch(2))
    assert all(map(same, first, stream(5).epoch(2)))
    for other in (stream(5).epoch(3), stream(6).epoch(2)):
        assert not all(map(same, first, list(other)))


@settings(max_examples=20)
@given(skip=st.integers(0, 6), ranks=st.integers(1, 6), batch_size=st.integers(2, 8))
def test_shards_make_up_the_batch_and_skipping_changes_nothing(
    skip: int, ranks: int, batch_size: int
) -> None:
    one = stream(batch_size=batch_size)
    whole = list(one.epoch(1))[skip:]
    parts = [list(one.epoch(1, skip, Shard(rank, ranks))) for rank in range(ranks)]
    assert all(len(part) == len(whole) for part in parts)
    for batch, *shards in zip(whole, *parts, strict=True):
        real = [shard for shard in shards if not shard.is_padding]
        assert torch.equal(torch.cat([shard.images for shard in real]), batch.images)
        assert torch.equal(torch.cat([shard.indices for shard in real]), batch.indices)
        assert sum((shard.sizes for shard in real), ()) == batch.sizes
        assert all(shard.total == len(batch.sizes) for shard in shards)
        assert sum(shard.weight for shard in shards) == pytest.approx(1)
        assert all(len(shard.sizes) >= 1 for shard in shards)


def test_crowds_are_not_trained_on_and_labels_stay_with_their_images() -> None:
    for batch in stream().epoch(1):
        for index, objects in zip(batch.indices.tolist(), batch.objects, strict=True):
            assert objects.labels.tolist() == [index]
            assert objects.crowd.tolist() == [False]


def test_half_of_the_images_are_flipped_and_sizes_are_random() -> None:
    data = dataset(200)
    flipped, shown = 0, set()
    for batch in stream(data=data).epoch(1):
        for size, original, objects in zip(
            batch.sizes, batch.originals, batch.objects, strict=True
        ):
            shown.add(min(size))
            scale = size[1] / original[1]
            flipped += float(objects.boxes[0, 0]) != pytest.approx(2 * scale, abs=1e-3)
    assert flipped == pytest.approx(100, abs=40)
    assert {20, 30} <= shown
    plain = replace(data, flip=False, min_size=())
    for batch in stream(data=plain).epoch(1):
        assert batch.sizes == batch.originals
        assert all(objects.boxes.tolist() == [[2, 3, 9, 12]] for objects in batch.objects)


def test_how_an_image_is_shown_depends_on_no_batch() -> None:
    views = [
        {
            int(index): (size, objects.boxes.tolist())
            for batch in stream(batch_size=batch_size).epoch(4)
            for index, size, objects in zip(batch.indices, batch.sizes, batch.objects, strict=True)
        }
        for batch_size in (4, 7)
    ]
    assert views[0] == views[1]


@settings(max_examples=25)
@given(batch_size=st.integers(1, 9), seed=st.integers(0, 2**40))
def test_batches_are_of_like_aspect_ratios_until_none_are_left(batch_size: int, seed: int) -> None:
    sizes = np.random.default_rng(seed).integers(20, 90, (150, 2))
    groups = aspect_groups(sizes)
    order = grouped_order(groups, batch_size, torch.Generator().manual_seed(seed))
    assert sorted(order) == list(range(150))
    full = sum(count // batch_size for count in np.bincount(groups))
    for batch in range(full):
        assert len({groups[index] for index in order[batch * batch_size :][:batch_size]}) == 1
    rest = [groups[index] for index in order[full * batch_size :]]
    changes = [two - one for one, two in pairwise(rest) if one != two]
    assert sum(change < 0 for change in changes) <= 1  # from the last group to the first


def test_groups_are_those_of_torchvisions_reference_scripts() -> None:
    ratios = np.array([0.4, 0.5, 0.6, 0.7, 0.99, 1.0, 1.2, 1.27, 1.9, 2.0, 3.0])
    sizes = np.stack((np.full(len(ratios), 1000), 1000 * ratios), axis=1).astype(np.int64)
    assert aspect_groups(sizes).tolist() == [0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 7]
