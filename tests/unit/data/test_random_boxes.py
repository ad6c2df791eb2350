"""Random boxes: those of torchvision's crops and erasing, and crops by batch."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from rkkd_cli.data.random_boxes import Uniform, crop_boxes, erased_boxes, resized_crops

COUNT = 4000


def uniform(seed: int = 0, count: int = COUNT) -> Uniform:
    generator = torch.Generator().manual_seed(seed)
    return lambda numbers: torch.rand(count, numbers, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("size", [(32, 32), (28, 20), (9, 30), (224, 224), (30, 9), (4, 4)])
def test_a_crop_is_what_torchvision_gives_for_its_box(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (12, 3, *size), generator=generator, dtype=torch.uint8)
    boxes, flipped = crop_boxes(uniform(3, 12), *size), torch.arange(12) % 2 == 0
    ours = resized_crops(pixels, boxes, flipped).int()
    for one, image, box, is_flipped in zip(ours, pixels, boxes.tolist(), flipped, strict=True):
        exact = F.resized_crop(image.double(), *box, size=list(size), antialias=True)
        in_integers = F.resized_crop(image, *box, size=list(size), antialias=True)
        if is_flipped:
            exact, in_integers = F.horizontal_flip(exact), F.horizontal_flip(in_integers)
        near_a_half = (exact - exact.floor() - 0.5).abs() < 1e-3
        assert torch.equal(one[~near_a_half], exact.round().int()[~near_a_half])
        assert (one - exact).abs().max() < 0.501
        assert (one - in_integers.int()).abs().max() <= 1


@pytest.mark.parametrize("flip", [False, True])
def test_the_whole_image_as_its_box_changes_nothing(flip: bool) -> None:
    pixels = torch.randint(0, 256, (3, 1, 7, 9), dtype=torch.uint8)
    crops = resized_crops(pixels, torch.tensor([[0, 0, 7, 9]] * 3), torch.full((3,), flip))
    assert torch.equal(crops, pixels.flip(3) if flip else pixels)


def theirs(transform: v2.Transform, size: tuple[int, int]) -> Tensor:
    """Return boxes that torchvision draws; (0, 0, 0, 0) if nothing is erased."""
    torch.manual_seed(0)
    image = torch.zeros(1, *size)
    rows = []
    for _ in range(COUNT):
        params = transform.make_params([image])
        lacks_value = "v" in params and params["v"] is None
        keys = ("i", "j", "h", "w") if "i" in params else ("top", "left", "height", "width")
        rows.append([0, 0, 0, 0] if lacks_value else [int(params[key]) for key in keys])
    return torch.tensor(rows)


@pytest.mark.parametrize("size", [(32, 32), (40, 20), (12, 60)])
@pytest.mark.parametrize(
    ("ours", "transform"),
    [(crop_boxes, v2.RandomResizedCrop(8)), (erased_boxes, v2.RandomErasing())],
    ids=["crop", "erase"],
)
def test_boxes_are_distributed_as_torchvisions(
    ours: Callable[[Uniform, int, int], Tensor], transform: v2.Transform, size: tuple[int, int]
) -> None:
    boxes, others = ours(uniform(), *size), theirs(transform, size)
    top, left, height, width = boxes.unbind(1)
    assert boxes.min() >= 0
    assert (top + height <= size[0]).all()
    assert (left + width <= size[1]).all()
    for column, other in zip(boxes.double().unbind(1), others.double().unbind(1), strict=True):
        error = (column.var() / COUNT + other.var() / COUNT).sqrt()
        assert (column.mean() - other.mean()).abs() <= 5 * error
        assert column.std().item() == pytest.approx(other.std().item(), rel=0.1, abs=0.05)
    assert (boxes[:, 2:].amax(0) - others[:, 2:].amax(0)).abs().max() <= 2
    assert (boxes[:, 2:].amin(0) - others[:, 2:].amin(0)).abs().max() <= 2


@pytest.mark.parametrize("size", [(10, 100), (100, 10), (3, 200)])
def test_where_no_box_fits_the_crop_is_in_the_centre_and_nothing_is_erased(
    size: tuple[int, int],
) -> None:
    def largest(numbers: int) -> Tensor:
        return torch.full((2, numbers), 1 - 1e-9, dtype=torch.float64)

    torch.manual_seed(0)
    wanted = v2.RandomResizedCrop(8, scale=(1.0, 1.0)).make_params([torch.zeros(1, *size)])
    assert (
        crop_boxes(largest, *size).tolist()
        == [[wanted["top"], wanted["left"], wanted["height"], wanted["width"]]] * 2
    )
    assert erased_boxes(largest, *size).tolist() == [[0, 0, 0, 0]] * 2
