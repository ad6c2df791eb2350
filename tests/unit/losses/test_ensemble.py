"""What several teachers say together, against their equations in float64."""

import math

import pytest
import torch
from torch import Tensor

from rkkd_cli.losses import mean_logits, mean_probabilities

TEMPERATURES = (0.1, 1.0, 4.0, 64.0, 1e3)


def teachers(count: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return (5 * torch.randn(count, 4, 6, dtype=torch.float64, generator=generator)).to(dtype)


def naive_mean(logits: Tensor, temperature: float) -> list[list[float]]:
    """Return the mean of the softened probabilities, number by number."""
    rows = []
    for image in range(logits.shape[1]):
        row = [0.0] * logits.shape[2]
        for teacher in logits[:, image].tolist():
            powers = [math.exp((value - max(teacher)) / temperature) for value in teacher]
            for c, power in enumerate(powers):
                row[c] += power / sum(powers) / len(logits)
        rows.append(row)
    return rows


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_softened_they_are_the_mean_of_the_softened_probabilities(temperature: float) -> None:
    logits = mean_probabilities(teachers(), temperature)
    expected = torch.tensor(naive_mean(teachers(), temperature), dtype=torch.float64)
    torch.testing.assert_close((logits / temperature).softmax(dim=1), expected)


def test_the_mean_of_logits_is_the_geometric_mean_of_probabilities() -> None:
    product = teachers().softmax(dim=2).log().mean(dim=0).exp()
    expected = product / product.sum(dim=1, keepdim=True)
    torch.testing.assert_close(mean_logits(teachers()).softmax(dim=1), expected)


@pytest.mark.parametrize("temperature", [*TEMPERATURES, 1e30])
def test_equal_teachers_say_what_one_says_to_the_last_bit(temperature: float) -> None:
    one = teachers(1, torch.float32)
    for count in (1, 2, 4):
        assert torch.equal(mean_probabilities(one.repeat(count, 1, 1), temperature), one[0])
        assert torch.equal(mean_logits(one.repeat(count, 1, 1)), one[0])


def test_the_hotter_the_closer_the_two_means() -> None:
    distances = [
        float((mean_probabilities(teachers(), t) - mean_logits(teachers())).abs().max())
        for t in (1.0, 10.0, 100.0, 1e4, 1e8)
    ]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-6


@pytest.mark.parametrize("temperature", [0.1, 4.0, 1e4, 1e30])
def test_float32_and_half_precision_keep_their_digits(temperature: float) -> None:
    expected = mean_probabilities(teachers(dtype=torch.float32).double(), temperature)
    result = mean_probabilities(teachers(dtype=torch.float32), temperature)
    torch.testing.assert_close(result.double(), expected, rtol=1e-6, atol=1e-5)
    assert mean_probabilities(teachers(dtype=torch.bfloat16), temperature).dtype == torch.float32


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[[1e4, -1e4, 0.0]], [[-1e4, 1e4, 0.0]]])
    for temperature in (0.1, 1.0, 4.0):
        assert mean_probabilities(logits, temperature).isfinite().all()


def test_what_is_no_stack_of_logits_is_refused() -> None:
    for wrong in (torch.zeros(2, 3), torch.zeros(2, 3, 4, dtype=torch.int64)):
        with pytest.raises(ValueError, match="must be floating-point and \\(teachers, batch"):
            mean_logits(wrong)
    with pytest.raises(ValueError, match="temperature must be a finite number greater than 0"):
        mean_probabilities(teachers(), 0.0)
