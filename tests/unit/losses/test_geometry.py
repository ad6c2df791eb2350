"""Unit vectors, and feature maps of one size."""

import pytest
import torch
from closed_form import wave

from rkkd_cli.losses.geometry import match_sizes, unit_vectors


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_it_is_torchs_normalize_away_from_zero(dim: int) -> None:
    x = wave([3, 5], 0.3, 7.0)
    expected = torch.nn.functional.normalize(x, dim=dim)
    torch.testing.assert_close(unit_vectors(x, dim), expected, rtol=1e-14, atol=0)


def test_a_zero_vector_has_no_direction_and_no_gradient() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1e-13, 0.0]], requires_grad=True)
    directions = unit_vectors(x)
    (gradient,) = torch.autograd.grad((directions * torch.tensor([1.0, 2.0])).sum(), x)
    assert directions.tolist() == [[0, 0], pytest.approx([0.6, 0.8]), [0, 0]]
    assert gradient[[0, 2]].tolist() == [[0, 0], [0, 0]]
    assert gradient[1].abs().sum() > 0


def test_each_side_of_a_map_is_pooled_to_the_smaller_one() -> None:
    student, teacher = wave([1, 2, 4, 2]), wave([1, 3, 2, 6])
    s, t = match_sizes(student, teacher)
    assert (s.shape, t.shape) == ((1, 2, 2, 2), (1, 3, 2, 2))
    assert s[0, 0, 0, 0].item() == pytest.approx(student[0, 0, :2, 0].mean().item())
    assert t[0, 0, 0, 0].item() == pytest.approx(teacher[0, 0, 0, :3].mean().item())


def test_maps_of_one_size_stay_as_they_are() -> None:
    student, teacher = wave([1, 2, 4, 3]), wave([1, 3, 4, 3])
    same = match_sizes(student, teacher)
    assert same[0] is student
    assert same[1] is teacher
