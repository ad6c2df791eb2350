"""The strong view: a function of its seed, of the same kind of images, and strong."""

import pytest
import torch

from rkkd_cli.data.images import Dataset, LabelledImages
from rkkd_cli.data.stream import Stream
from rkkd_cli.data.strong_augment import StrongView
from rkkd_cli.errors import UserError

CPU = torch.device("cpu")


def dataset(channels: int = 3, count: int = 20, side: int = 16) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    shape = (count, channels, side, side)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8).numpy()
    split = LabelledImages(images, torch.arange(count).numpy() % 4)
    spread = (0.25,) * channels
    return Dataset("d", split, split, None, ("a", "b", "c", "d"), spread, spread, 2, True)


@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_a_function_of_its_seed(channels: int) -> None:
    pixels = torch.randint(0, 256, (8, channels, 16, 16), dtype=torch.uint8)
    view = StrongView(channels)
    outside = torch.get_rng_state()
    first, again, other = view(pixels, 1), view(pixels, 1), view(pixels, 2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first.shape, first.dtype) == (pixels.shape, torch.uint8)
    assert torch.equal(torch.get_rng_state(), outside)


def test_images_of_other_channels_are_refused() -> None:
    with pytest.raises(UserError, match="not those of 4 channels"):
        StrongView(4)


def test_the_weak_view_is_the_same_with_it_and_without() -> None:
    plain, both = (Stream(dataset(), CPU, 8, seed=0, strong=strong) for strong in (False, True))
    for one, other in zip(plain.epoch(1), both.epoch(1), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.indices, other.indices)
        assert one.strong is None
        assert other.strong is not None
        assert other.strong.shape == other.images.shape
        assert not torch.equal(other.strong, other.images)


def test_skipped_batches_change_nothing_about_the_others() -> None:
    stream = Stream(dataset(), CPU, 8, seed=3, strong=True)
    whole, rest = list(stream.epoch(2)), list(stream.epoch(2, skip=1))
    for one, other in zip(whole[1:], rest, strict=True):
        assert one.strong is not None
        assert other.strong is not None
        assert torch.equal(one.strong, other.strong)
    assert not torch.equal(next(stream.epoch(1)).strong, whole[0].strong)  # type: ignore[arg-type]


def test_indices_are_those_of_the_training_set() -> None:
    data = dataset()
    stream = Stream(data, CPU, 8, seed=0)
    seen = torch.cat([batch.indices for batch in stream.epoch(1)])
    labels = torch.cat([batch.labels for batch in stream.epoch(1)])
    assert sorted(seen.tolist()) == list(range(20))
    assert labels.tolist() == data.train.labels[seen.numpy()].tolist()
