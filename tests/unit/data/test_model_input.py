"""Images for a model of another size or normalisation, against torchvision's own resize."""

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from rkkd_cli.data.model_input import ImageFormat, ModelInput, plain_format, taken_as_is

STREAM = ImageFormat((12, 10), (0.5, 0.4, 0.3), (0.2, 0.3, 0.25))
OWN = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def pixels(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(4, 3, *STREAM.size, generator=generator, dtype=torch.float64).to(dtype)


def normalised(
    images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]
) -> torch.Tensor:
    shift, scale = (torch.tensor(x, dtype=images.dtype).view(-1, 1, 1) for x in (mean, std))
    return (images - shift) / scale


@pytest.mark.parametrize("size", [(24, 20), (7, 5), (12, 31), (3, 40), (224, 224)])
def test_other_sizes_are_those_of_torchvision(size: tuple[int, int]) -> None:
    takes = ModelInput(STREAM, STREAM._replace(size=size))
    expected = F.resize(pixels(), list(size), antialias=True)
    torch.testing.assert_close(takes(pixels()), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [STREAM.size, (24, 24), (6, 5)])
def test_normalisation_and_size_change_as_if_the_pixels_had_been(size: tuple[int, int]) -> None:
    takes = ModelInput(STREAM, ImageFormat(size, *OWN))
    resized = F.resize(pixels(torch.float64), list(size), antialias=True)
    got = takes(normalised(pixels(torch.float64), STREAM.mean, STREAM.std).float())
    torch.testing.assert_close(got.double(), normalised(resized, *OWN), rtol=0, atol=1e-5)
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_images_of_the_same_format_are_the_very_same() -> None:
    images = pixels()
    assert taken_as_is(3, STREAM.size)(images) is images
    assert ModelInput(STREAM, ImageFormat(*STREAM))(images) is images


def test_equal_inputs_are_one_key_also_after_use() -> None:
    one, other = (ModelInput(STREAM, plain_format(3, (8, 8))) for _ in range(2))
    one(pixels())
    assert len({one, other}) == 1
