"""The operations on images: what torchvision gives image by image, for parameters of their own."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from rkkd_cli.data import operations
from rkkd_cli.data.auto_augment import (
    MAGNITUDES,
    AutoAugment,
    Magnitude,
    rand_augment_space,
    trivial_augment_space,
)
from rkkd_cli.data.batch_draws import BatchDraws

SHAPES = [(24, 3, 32, 32), (6, 1, 8, 8), (6, 3, 28, 20), (3, 3, 64, 65), (3, 1, 2, 2)]


def images(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Smooth images and noise, one of a single value."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    noise[1] = noise[1] // 8 + 100
    noise[2] = 77
    return noise


def strengths(lowest: float, highest: float, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    drawn = torch.rand(count, generator=generator, dtype=torch.float64)
    drawn[0], drawn[-1] = 0, 1
    return lowest + (highest - lowest) * drawn


def shear(x: float, y: float) -> list[float]:
    return [math.degrees(math.atan(x)), math.degrees(math.atan(y))]


# Ours, torchvision's for one image, and the range of the parameter.
SAME: list[tuple[operations.Operation, Callable[[Tensor, float], Tensor], float, float]] = [
    (operations.identity, lambda x, _: x, 0, 1),
    (operations.auto_contrast, lambda x, _: F.autocontrast(x), 0, 1),
    (operations.equalize, lambda x, _: F.equalize(x), 0, 1),
    (operations.brightness, F.adjust_brightness, 0, 2),
    (operations.saturation, F.adjust_saturation, 0, 2),
    (operations.contrast, F.adjust_contrast, 0, 2),
    (operations.sharpness, F.adjust_sharpness, 0, 2),
    (operations.posterize, lambda x, bits: F.posterize(x, int(bits)), 0, 8),
    (operations.solarize, F.solarize, 0, 255),
    (operations.rotate, F.rotate, -400, 400),
    (operations.shear_x, lambda x, v: F.affine(x, 0, [0, 0], 1, shear(v, 0), center=[0, 0]), -1, 1),
    (operations.shear_y, lambda x, v: F.affine(x, 0, [0, 0], 1, shear(0, v), center=[0, 0]), -1, 1),
    (operations.translate_x, lambda x, v: F.affine(x, 0, [int(v), 0], 1, [0.0, 0.0]), -20, 20),
    (operations.translate_y, lambda x, v: F.affine(x, 0, [0, int(v)], 1, [0.0, 0.0]), -20, 20),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", SAME, ids=[case[0].__name__ for case in SAME])
def test_each_operation_is_torchvisions_image_by_image(
    case: tuple[operations.Operation, Callable[[Tensor, float], Tensor], float, float],
    shape: tuple[int, ...],
) -> None:
    ours, theirs, lowest, highest = case
    pixels, values = images(shape), strengths(lowest, highest, shape[0])
    before = pixels.clone()
    expected = [theirs(one, value) for one, value in zip(pixels, values.tolist(), strict=True)]
    assert torch.equal(ours(pixels, values), torch.stack(expected))
    assert torch.equal(pixels, before)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_hue_is_torchvisions_up_to_rounding(shape: tuple[int, ...]) -> None:
    pixels, turns = images(shape), strengths(-0.5, 0.5, shape[0])
    expected = torch.stack(
        [F.adjust_hue(one, turn) for one, turn in zip(pixels, turns.tolist(), strict=True)]
    )
    difference = (operations.hue(pixels, turns).int() - expected.int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).double().mean() < 1e-3


def test_any_greys_blend_as_in_torchvision() -> None:
    """Every pair of a value and a mean: the sum is rounded once, as theirs is."""
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    for factor in strengths(0, 2, 40).tolist():
        pixels = torch.cat([ramp, ramp // 2, 255 - ramp // 3])
        expected = [F.adjust_contrast(one, factor) for one in pixels]
        ours = operations.contrast(pixels, torch.full((3,), factor, dtype=torch.float64))
        assert torch.equal(ours, torch.stack(expected))


def test_each_image_gets_the_operation_that_was_chosen_for_it() -> None:
    pixels, chosen = images((24, 3, 32, 32)), torch.arange(24) % 14
    functions = [case[0] for case in SAME]
    values = torch.stack([strengths(low, high, 24) for _, _, low, high in SAME])
    own = values[chosen, torch.arange(24)]
    together = operations.apply_chosen(pixels, functions, chosen, own)
    for index, name in enumerate(chosen.tolist()):
        alone = functions[name](pixels[index : index + 1], own[index : index + 1])
        assert torch.equal(together[index : index + 1], alone)


SPACES = {
    "rand": (v2.RandAugment(), rand_augment_space),
    "trivial": (v2.TrivialAugmentWide(), lambda *_: trivial_augment_space()),
}


@pytest.mark.parametrize("size", [(32, 32), (28, 20), (224, 224)])
@pytest.mark.parametrize("kind", SPACES)
def test_every_operation_at_every_magnitude_is_torchvisions(
    kind: str, size: tuple[int, int]
) -> None:
    transform, space = SPACES[kind]
    pixels, theirs = images((3, 3, *size))[:1], transform._AUGMENTATION_SPACE
    ours = space(*size)
    assert len(ours) == len(theirs)
    picked = range(0, MAGNITUDES, 1 if size == (32, 32) else 10)
    for one, (name, (values, is_signed)) in zip(ours, theirs.items(), strict=True):
        table = values(MAGNITUDES, *size)
        assert one.is_signed == is_signed
        for magnitude in picked:
            for sign in (1, -1) if is_signed else (1,):
                strength = 0.0 if table is None else sign * float(table[magnitude])
                expected = transform._apply_image_or_video_transform(
                    pixels[0],
                    name,
                    strength,
                    interpolation=v2.InterpolationMode.NEAREST,
                    fill={torch.Tensor: None},
                )
                own = sign * one.strengths()[magnitude] + one.offset
                assert torch.equal(one.operation(pixels, own[None])[0], expected), (name, magnitude)


def drawn(
    kind: str, monkeypatch: pytest.MonkeyPatch, magnitude: int = 9
) -> list[tuple[Tensor, ...]]:
    """The operations and strengths that 4,000 tiny images get, in each round."""
    rounds: list[tuple[Tensor, ...]] = []

    def note(pixels: Tensor, _: object, chosen: Tensor, values: Tensor) -> Tensor:
        rounds.append((chosen, values))
        return pixels

    monkeypatch.setattr(operations, "apply_chosen", note)
    pixels = torch.zeros(4000, 1, 32, 32, dtype=torch.uint8)
    AutoAugment(kind, magnitude, 3)(pixels, BatchDraws(7, 4000))
    return rounds


@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_rand_augment_draws_each_operation_equally_often_at_one_magnitude(
    magnitude: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds, space = drawn("rand", monkeypatch, magnitude), rand_augment_space(32, 32)
    assert len(rounds) == 3
    for chosen, values in rounds:
        counts = chosen.bincount(minlength=14)
        assert counts.min() > 286 - 100  # 286 are expected; six deviations are 98
        assert counts.max() < 286 + 100
        for index, one in enumerate(space):
            check_strengths(one, values[chosen == index], one.strengths()[[magnitude]])
    assert not torch.equal(rounds[0][0], rounds[1][0])


def test_trivial_augment_draws_one_operation_at_any_magnitude(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ((chosen, values),) = drawn("trivial", monkeypatch)
    for index, one in enumerate(trivial_augment_space()):
        own = values[chosen == index]
        check_strengths(one, own, one.strengths())
        assert len(set(own.tolist())) >= min(25, len(set(one.strengths().tolist())))


def check_strengths(one: Magnitude, values: Tensor, allowed: Tensor) -> None:
    """Every strength is an allowed one; half of the signed ones are negated."""
    assert torch.isin((values - one.offset).abs().float(), allowed.abs().float()).all()
    if one.is_signed and allowed.max() > 0:
        negated = (values < one.offset).double().mean().item()
        assert negated == pytest.approx(0.5, abs=0.2)
    elif one.is_signed:
        assert (values == one.offset).all()
