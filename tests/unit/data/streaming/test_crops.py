"""Crops of images of any size: pixels and distribution of torchvision's v2 transforms."""

from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from rkkd_cli.data.streaming.crops import AREA_RANGE, ASPECT_RANGE, Crop, random_box

sides = st.integers(1, 300)
seeds = st.integers(0, 2**62)


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def same(one: Image.Image, other: Image.Image) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


@settings(max_examples=60)
@given(width=sides, height=sides, size=st.integers(4, 64), seed=seeds, flip=st.booleans())
def test_a_random_crop_has_the_pixels_of_torchvisions(
    width: int, height: int, size: int, seed: int, flip: bool
) -> None:
    image, draws = picture(width, height), Random(seed)
    left, top, right, bottom = random_box(width, height, draws)
    expected = F.resized_crop(image, top, left, bottom - top, right - left, [size, size])
    if draws.random() < 0.5 and flip:
        expected = F.horizontal_flip(expected)
    assert same(Crop(size, "random", flip)(image, seed), expected)


@settings(max_examples=60)
@given(width=sides, height=sides, size=st.sampled_from([7, 28, 112, 224]))
def test_a_held_out_image_has_the_pixels_of_torchvisions_references(
    width: int, height: int, size: int
) -> None:
    image = picture(width, height)
    reference = v2.Compose([v2.Resize(size * 256 // 224), v2.CenterCrop(size)])
    assert same(Crop(size, "held_out")(image, 0), reference(image))


@given(width=st.integers(1, 5000), height=st.integers(1, 5000), seed=seeds)
def test_a_box_lies_within_the_image(width: int, height: int, seed: int) -> None:
    left, top, right, bottom = random_box(width, height, Random(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


@given(width=st.integers(200, 5000), height=st.integers(200, 5000), seed=seeds)
def test_area_and_shape_are_allowed_ones(width: int, height: int, seed: int) -> None:
    left, top, right, bottom = random_box(width, height, Random(seed))
    w, h = right - left, bottom - top
    assert ASPECT_RANGE[0] * 0.98 < w / h < ASPECT_RANGE[1] * 1.02
    is_fallback = w == width or h == height
    assert is_fallback or AREA_RANGE[0] * 0.97 < w * h / (width * height) < AREA_RANGE[1] * 1.01


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (64, 64), (300, 200)])
def test_boxes_are_distributed_as_torchvisions(width: int, height: int) -> None:
    torch.manual_seed(0)
    theirs = v2.RandomResizedCrop(224)
    image, draws = picture(width, height), Random(0)
    boxes = np.array([random_box(width, height, draws) for _ in range(2000)])
    made = [theirs.make_params([image]) for _ in range(2000)]
    expected = np.array([[m["left"], m["top"], m["width"], m["height"]] for m in made])
    ours = np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    for mine, other in zip(ours.T, expected.T, strict=True):
        assert ks_2samp(mine, other).pvalue > 1e-4


@pytest.mark.parametrize(("width", "height"), [(1000, 5), (5, 1000), (1, 1), (900, 3), (2, 801)])
def test_where_no_shape_fits_the_box_is_torchvisions(width: int, height: int) -> None:
    made = v2.RandomResizedCrop(8).make_params([picture(width, height)])
    box = (made["left"], made["top"], made["left"] + made["width"], made["top"] + made["height"])
    assert random_box(width, height, Random(0)) == box


def test_a_seed_makes_one_crop_and_half_of_all_are_flipped() -> None:
    image, crop = picture(40, 30), Crop(8, "random", flip=True)
    first = [crop(image, seed).tobytes() for seed in range(400)]
    assert first == [crop(image, seed).tobytes() for seed in range(400)]
    assert len(set(first)) > 390
    plain = Crop(8, "random")
    flipped = sum(one != plain(image, seed).tobytes() for seed, one in enumerate(first))
    assert flipped == pytest.approx(200, abs=60)  # six standard deviations


def test_a_thin_image_is_not_enlarged_beyond_all_measure() -> None:
    thin = Image.new("RGB", (9_000_000, 1))
    for crop in (Crop(64, "held_out"), Crop(64, "centre")):
        with pytest.raises(Image.DecompressionBombError):
            crop(thin, 0)
    assert Crop(64, "random")(thin, 0).size == (64, 64)
