"""Batches of P classes × K images: what they have, and that they are a stream like any other."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_folders import write_folder
from torch import Tensor

from rkkd_cli.data.augmentation import Augmentation
from rkkd_cli.data.catalogue import DatasetRequest
from rkkd_cli.data.class_batches import ClassBatches, PerClass, per_class
from rkkd_cli.data.images import Dataset, LabelledImages
from rkkd_cli.data.reading import load_dataset
from rkkd_cli.data.stream import Batch, Shard, Stream

CPU = torch.device("cpu")
sizes = st.lists(st.integers(1, 9), min_size=2, max_size=12)


def draw(labels: np.ndarray, classes: int, each: int, batches: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return ClassBatches(labels, classes * each, each).draw(batches, generator)


def dataset(counts: list[int], padding: int = 1) -> Dataset:
    """Images that say their number, of classes in a mixed order that leave out every other one."""
    labels = 2 * np.repeat(np.arange(len(counts)), counts)
    labels = np.random.default_rng(0).permutation(labels)
    images = np.broadcast_to(
        np.arange(1, len(labels) + 1, dtype=np.uint8)[:, None, None, None], (len(labels), 3, 4, 4)
    ).copy()
    split = LabelledImages(images, labels)
    mean, std = (0.0,) * 3, (1 / 255,) * 3
    return Dataset("test", split, split, None, ("a",), mean, std, padding, flip=True)


@given(counts=sizes, each=st.integers(2, 5), seed=st.integers(0, 2**32), data=st.data())
def test_a_batch_has_so_many_classes_and_so_many_images_of_each(
    counts: list[int], each: int, seed: int, data: st.DataObject
) -> None:
    classes = data.draw(st.integers(1, len(counts)))
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    order = draw(labels, classes, each, batches=4, seed=seed)
    for batch in order.view(4, classes * each).tolist():
        of_class = Counter(labels[batch].tolist())
        assert [*of_class.values()] == [each] * classes
        for image, times in Counter(batch).items():
            there = counts[labels[image]]
            assert times in (each // there, -(-each // there))  # distinct if there are enough


def test_classes_are_drawn_uniformly_and_so_are_their_images() -> None:
    labels = np.repeat(np.arange(6), [2, 3, 4, 5, 6, 40])
    order = draw(labels, classes=2, each=2, batches=6000, seed=0)
    of_class = np.bincount(labels[order], minlength=6) / len(order)
    assert np.abs(of_class - 1 / 6).max() < 0.01
    of_image = np.bincount(order, minlength=60)[-40:] / len(order)
    assert np.abs(of_image * 240 - 1).max() < 0.35


def test_classes_are_mixed_within_a_batch() -> None:
    labels = np.repeat(np.arange(10), 10)
    neighbours = labels[draw(labels, classes=5, each=4, batches=200, seed=0)].reshape(200, 20)
    equal = (neighbours[:, 1:] == neighbours[:, :-1]).mean()
    assert abs(equal - 3 / 19) < 0.02


def test_epochs_differ_and_equal_seeds_give_equal_ones() -> None:
    data, by_class = dataset([6] * 8), PerClass(3)
    first, again = (Stream(data, CPU, 12, seed=5, per_class=by_class) for _ in range(2))
    other = Stream(data, CPU, 12, seed=6, per_class=by_class)
    epochs = {
        tuple(torch.cat([batch.indices for batch in stream.epoch(number)]).tolist())
        for stream, number in ((first, 1), (again, 1), (first, 2), (other, 1))
    }
    assert len(epochs) == 3
    assert (len(first), first.images_per_epoch) == (4, 48)


@pytest.mark.parametrize(("images", "batches"), [([5] * 5, 2), ([2] * 4, 1), ([30, 30], 5)])
def test_an_epoch_has_as_many_batches_as_the_images_fill(images: list[int], batches: int) -> None:
    size = min(12, 4 * len(images) // 2 * 2)
    size -= size % 4
    stream = Stream(dataset(images), CPU, size, seed=0, per_class=PerClass(4))
    assert len(stream) == max(1, sum(images) // size)
    assert {len(batch.labels) for batch in stream.epoch(1)} == {size}
    stated = Stream(dataset(images), CPU, size, seed=0, per_class=PerClass(4, batches))
    assert (len(stated), stated.images_per_epoch) == (batches, batches * size)


def test_without_a_number_of_images_per_class_batches_are_shuffled() -> None:
    assert per_class(None, None) is None
    data = dataset([6] * 8)
    (order,) = {
        tuple(torch.cat([batch.indices for batch in stream.epoch(3)]).tolist())
        for stream in (Stream(data, CPU, 12, 5), Stream(data, CPU, 12, 5, per_class=None))
    }
    assert sorted(order) == list(range(48))


def parts_of(data: Dataset, shard: Shard, skip: int = 0, strong: bool = False) -> list[Batch]:
    stream = Stream(data, CPU, 12, seed=1, strong=strong, per_class=PerClass(3, 5))
    return list(stream.epoch(2, skip, shard))


def joined(parts: list[Batch]) -> list[Tensor]:
    batch = [torch.cat([getattr(part, key) for part in parts]) for key in ("images", "labels")]
    batch.append(torch.cat([part.indices for part in parts]))
    strong = [part.strong for part in parts if part.strong is not None]
    return [*batch, torch.cat(strong)] if strong else batch


@settings(max_examples=20)
@given(ranks=st.integers(1, 5), skip=st.integers(0, 5), strong=st.booleans(), mixes=st.booleans())
def test_ranks_and_a_resumed_run_get_the_images_of_the_whole(
    ranks: int, skip: int, strong: bool, mixes: bool
) -> None:
    augment = Augmentation(mixup_alpha=1.0) if mixes else Augmentation()
    data = replace(dataset([2, 3, 7, 7, 7, 5]), augment=augment)
    whole = parts_of(data, Shard(), strong=strong)[skip:]
    shards = [parts_of(data, Shard(rank, ranks), skip, strong) for rank in range(ranks)]
    for batch, *parts in zip(whole, *shards, strict=True):
        for ours, theirs in zip(joined([batch]), joined(parts), strict=True):
            assert torch.equal(ours, theirs)


def test_an_image_that_comes_twice_is_cropped_anew_each_time() -> None:
    data = dataset([2, 2], padding=2)
    (batch,) = Stream(data, CPU, 16, seed=0, per_class=PerClass(8)).epoch(1)
    assert sorted(Counter(batch.indices.tolist()).values()) == [4, 4, 4, 4]
    for index in range(4):
        views = batch.images[batch.indices == index]
        assert len({view.numpy().tobytes() for view in views}) > 1


@pytest.mark.parametrize("crop", ["resized", "padded", "window"])
def test_streamed_images_come_by_class_too(crop: str, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "images", classes=3, train=4, test=2, size=24)
    request = DatasetRequest(
        "folder", str(root), image_size=16, streaming=True, crop=crop, decoders=0
    )
    data = load_dataset(request, tmp_path)
    parts = list(Stream(data, CPU, 6, seed=0, per_class=PerClass(3, 4)).epoch(1))
    assert [sorted(Counter(part.labels.tolist()).values()) for part in parts] == [[3, 3]] * 4
    assert parts[0].images.shape == (6, 3, 16, 16)
    rest = list(Stream(data, CPU, 6, seed=0, per_class=PerClass(3, 4)).epoch(1, skip=3))
    assert torch.equal(rest[0].images, parts[3].images)
