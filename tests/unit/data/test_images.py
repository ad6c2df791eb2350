"""Subsets, held-out splits, statistics and fingerprints of labelled images; the digits."""

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_memory import pixels_of
from numpy.typing import NDArray

from rkkd_cli.data.catalogue import DATASETS, DatasetRequest
from rkkd_cli.data.images import LabelledImages, channel_statistics
from rkkd_cli.data.reading import inspect_dataset, load_dataset
from rkkd_cli.data.subsets import balanced_order, balanced_subset, hold_out
from rkkd_cli.errors import UserError

Labels = NDArray[np.int64]

NAMES = [f"class {number}" for number in range(100)]


def numbered(labels: Labels) -> LabelledImages:
    """Images whose pixels are their own number, so that they can be told apart."""
    numbers = np.arange(len(labels), dtype="<u4").view(np.uint8).reshape(-1, 1, 2, 2)
    return LabelledImages(numbers, labels)


def numbers(split: LabelledImages) -> list[int]:
    return [int(n) for n in split.images.reshape(-1, 4).copy().view("<u4").ravel()]


@st.composite
def labels(draw: st.DrawFn) -> Labels:
    """At least one image of each class, classes of different sizes, in any order."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=2, max_size=6))
    listed = [label for label, size in enumerate(sizes) for _ in range(size)]
    return np.array(draw(st.permutations(listed)), dtype=np.int64)


@settings(max_examples=60)
@given(labels(), st.integers(0, 3))
def test_every_beginning_of_the_balanced_order_is_balanced(labels: Labels, seed: int) -> None:
    order = balanced_order(labels, seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    available = Counter(labels.tolist())
    for size in range(1, len(labels) + 1):
        taken = Counter(labels[order[:size]].tolist())
        most = max(taken.values())
        # A class may lag behind the fullest one by one image, or because it has no more.
        assert all(taken[c] >= min(most - 1, available[c]) for c in available)


def test_another_seed_takes_other_images() -> None:
    many = np.repeat(np.arange(4), 20).astype(np.int64)
    assert balanced_order(many, 0)[:8].tolist() != balanced_order(many, 1)[:8].tolist()
    assert balanced_order(many, 0).tolist() == balanced_order(many, 0).tolist()


@settings(max_examples=60)
@given(labels(), st.data())
def test_a_subset_is_balanced_and_always_the_same(labels: Labels, data: st.DataObject) -> None:
    split = numbered(labels)
    classes = len(set(labels.tolist()))
    size = data.draw(st.integers(classes, len(labels)))
    subset = balanced_subset(split, size, "dataset.limit_train")
    assert len(subset) == len(set(numbers(subset))) == size
    assert set(subset.labels.tolist()) == set(labels.tolist())
    assert subset.labels.tolist() == [int(labels[n]) for n in numbers(subset)]
    again = balanced_subset(split, size, "dataset.limit_train")
    assert again.fingerprint == subset.fingerprint


@pytest.mark.parametrize("size", [0, 3])
def test_a_subset_that_cannot_be_balanced_says_which_sizes_can(size: int) -> None:
    split = numbered(np.repeat(np.arange(4), 10).astype(np.int64))
    with pytest.raises(UserError, match=rf"dataset.limit_train = {size}.*take 4 or more"):
        balanced_subset(split, size, "dataset.limit_train")


@pytest.mark.parametrize("limit", [None, 3, 50])
def test_no_limit_and_one_beyond_the_images_keep_all(limit: int | None) -> None:
    split = numbered(np.zeros(3, dtype=np.int64))
    assert balanced_subset(split, limit, "dataset.limit_train") is split


@settings(max_examples=100)
@given(labels(), st.floats(0.05, 0.95))
def test_a_held_out_split_is_disjoint_whole_and_lacks_no_class(
    labels: Labels, share: float
) -> None:
    split = numbered(labels)
    with suppress(UserError):  # too few images for so many classes
        check_held_out(split, share, *hold_out(split, share, NAMES))


def check_held_out(
    split: LabelledImages, share: float, rest: LabelledImages, held: LabelledImages | None
) -> None:
    classes = set(split.labels.tolist())
    assert held is not None
    assert sorted(numbers(rest) + numbers(held)) == list(range(len(split)))
    assert len(held) == pytest.approx(share * len(split), abs=len(classes))
    assert set(rest.labels.tolist()) == set(held.labels.tolist()) == classes
    again = hold_out(split, share, NAMES)
    assert [numbers(rest), numbers(held)] == [numbers(s) for s in again if s is not None]


def test_a_small_class_keeps_training_images_when_some_are_held_out() -> None:
    rare = np.array([0] * 98 + [1] * 2, dtype=np.int64)
    rest, held = hold_out(numbered(rare), 0.2, NAMES)
    assert held is not None
    assert set(rest.labels.tolist()) == set(held.labels.tolist()) == {0, 1}


def test_nothing_is_held_out_at_share_zero() -> None:
    split = numbered(np.array([0, 1], dtype=np.int64))
    assert hold_out(split, 0.0, NAMES) == (split, None)


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_a_share_without_an_image_per_class_on_a_side_is_refused(share: float) -> None:
    split = numbered(np.repeat(np.arange(5), 4).astype(np.int64))
    with pytest.raises(
        UserError,
        match=r"dataset.val_share = .* would hold out .* each needs an image on either side",
    ):
        hold_out(split, share, NAMES)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 20))
def test_channel_statistics_are_numpys(seed: int, channels: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, channels, 3, 4), dtype=np.uint8)
    mean, std = channel_statistics(images)
    scaled = images.astype(np.float64) / 255
    assert mean == pytest.approx(scaled.mean(axis=(0, 2, 3)), abs=1e-6)
    assert std == pytest.approx(scaled.std(axis=(0, 2, 3)), abs=1e-6)


@pytest.mark.parametrize("level", [0, 100, 255])
def test_a_constant_channel_gets_the_standard_deviation_one(level: int) -> None:
    mean, std = channel_statistics(np.full((5, 1, 3, 3), level, dtype=np.uint8))
    assert mean == pytest.approx((level / 255,), abs=1e-6)
    assert std == (1.0,)


def test_a_fingerprint_tells_pixels_labels_and_shapes_apart() -> None:
    zeros, labels = np.zeros((2, 1, 2, 2), dtype=np.uint8), np.array([0, 1])
    one = zeros.copy()
    one[1, 0, 1, 1] = 1
    splits = [
        (zeros, labels),
        (one, labels),
        (zeros, labels[::-1]),
        (zeros.reshape(2, 4, 1, 1), labels),
    ]
    prints = [LabelledImages(images, label).fingerprint for images, label in splits]
    assert len(set(prints)) == 4
    assert LabelledImages(zeros.copy(), labels.copy()).fingerprint == prints[0]
    reversed_view = LabelledImages(one[::-1], labels)
    assert reversed_view.fingerprint == LabelledImages(one[::-1].copy(), labels).fingerprint


def test_digits_are_scikit_learns_images_split_for_good(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    dataset = load_dataset(DatasetRequest("digits"), tmp_path)
    assert pixels_of(dataset.train).shape == (1397, 1, 8, 8)
    assert pixels_of(dataset.test).shape == (400, 1, 8, 8)
    assert np.bincount(dataset.test.labels).tolist() == [40] * 10
    assert dataset.classes == tuple("0123456789")
    bunch = load_digits()
    whole = [
        (label, np.rint(image * 255 / 16).astype(np.uint8).tobytes())
        for label, image in zip(bunch.target, bunch.images, strict=True)
    ]
    ours = [
        (label, image.tobytes())
        for split in (dataset.train, dataset.test)
        for label, image in zip(split.labels, pixels_of(split), strict=True)
    ]
    assert Counter(ours) == Counter(whole)
    assert not list(tmp_path.iterdir())


def test_a_dataset_is_normalised_by_its_own_training_images_unless_told(tmp_path: Path) -> None:
    request = DatasetRequest("digits", limit_train=100, limit_test=50, val_share=0.2)
    dataset = load_dataset(request, tmp_path)
    assert dataset.val is not None
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (80, 20, 50)
    assert (dataset.mean, dataset.std) == channel_statistics(pixels_of(dataset.train))
    told = load_dataset(replace(request, mean=(0.5,), crop_padding=0), tmp_path)
    assert (told.mean, told.std, told.crop_padding) == ((0.5,), dataset.std, 0)
    assert told.fingerprint != dataset.fingerprint
    assert told.train.fingerprint == dataset.train.fingerprint


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (DatasetRequest("digit"), "did you mean 'digits'"),
        (DatasetRequest("digits", image_size=16), "image_size is for image folders"),
        (DatasetRequest("digits", mean=(0.1, 0.2)), "dataset.mean has 2 values"),
        (DatasetRequest("digits", std=()), "dataset.std has 0 values"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_before_anything_is_read(
    request_: DatasetRequest, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        inspect_dataset(request_)
    with pytest.raises(UserError, match=sentence):
        load_dataset(request_, tmp_path)


def test_every_spec_has_both_mean_and_std_for_its_channels_or_neither() -> None:
    for spec in DATASETS.values():
        stated = [v for v in (spec.mean, spec.std) if v is not None]
        assert len(stated) in (0, 2)
        assert all(len(values) == spec.in_channels for values in stated)
