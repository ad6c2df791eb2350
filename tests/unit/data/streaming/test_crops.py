"""Crops of images of any size: pixels and distribution of torchvision's v2 transforms."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from rkkd_cli.data.streaming.crops import Crop

PAGE = Path(__file__).parents[4] / "docs" / "trained-students.md"
sides = st.integers(1, 300)
seeds = st.integers(0, 2**62)


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@settings(max_examples=30)
@given(width=sides, height=sides)
def test_the_page_on_trained_students_crops_as_we_do(width: int, height: int) -> None:
    image = picture(width, height)
    (block,) = re.findall(
        r"```python\n[^`]*?(scale = .*?)```", PAGE.read_text(encoding="utf-8"), re.S
    )
    names = {"image": image}
    exec(block, names)  # the page's own lines
    assert same(names["image"], Crop(32, "crop").cut(image))


def same(one: Image.Image, other: Image.Image) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


@settings(max_examples=60)
@given(width=sides, height=sides, size=st.integers(4, 64), seed=seeds, flip=st.booleans())
def test_a_random_crop_is_torchvisions_from_its_seed(
    width: int, height: int, size: int, seed: int, flip: bool
) -> None:
    image = picture(width, height)
    before = torch.get_rng_state()
    crop = Crop(size, "random", flip).cut(image, seed)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        expected = v2.RandomResizedCrop(size)(image)
        expected = v2.RandomHorizontalFlip(0.5 if flip else 0.0)(expected)
    assert same(crop, expected)


@settings(max_examples=30)
@given(width=sides, height=sides, size=st.sampled_from([7, 28, 56]), seed=seeds)
def test_a_window_is_cut_out_of_the_scaled_image_as_torchvision_does(
    width: int, height: int, size: int, seed: int
) -> None:
    image = picture(width, height)
    window = Crop(size, "window", flip=True).cut(image, seed)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        scaled = v2.Resize(size * 8 // 7)(image)  # 256 for 224
        expected = v2.RandomHorizontalFlip()(v2.RandomCrop(size)(scaled))
    assert same(window, expected)
    assert window.size == (size, size)


@settings(max_examples=60)
@given(width=sides, height=sides, size=st.sampled_from([7, 28, 112, 224]))
def test_a_held_out_image_has_the_pixels_of_torchvisions_references(
    width: int, height: int, size: int
) -> None:
    image = picture(width, height)
    reference = v2.Compose([v2.Resize(size * 256 // 224), v2.CenterCrop(size)])
    assert same(Crop(size, "held_out").cut(image), reference(image))


def test_a_seed_makes_one_crop_and_half_of_all_are_flipped() -> None:
    image, crop = picture(40, 30), Crop(8, "random", flip=True)
    first = [crop.cut(image, seed).tobytes() for seed in range(400)]
    assert first == [crop.cut(image, seed).tobytes() for seed in range(400)]
    assert len(set(first)) > 390
    plain = Crop(8, "random")
    flipped = sum(one != plain.cut(image, seed).tobytes() for seed, one in enumerate(first))
    assert flipped == pytest.approx(200, abs=60)  # six standard deviations


def test_a_thin_image_is_not_enlarged_beyond_all_measure() -> None:
    thin = Image.new("RGB", (9_000_000, 1))
    for crop in (Crop(64, "held_out"), Crop(64, "crop")):
        with pytest.raises(Image.DecompressionBombError):
            crop.cut(thin)
    assert Crop(64, "random").cut(thin).size == (64, 64)
