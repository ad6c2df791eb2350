"""The Gaussian log-likelihood against a loop, torch's own and RepDistiller."""

import math
from itertools import chain

import pytest
import torch
from closed_form import wave
from hypothesis import given, settings
from hypothesis import strategies as st
from published import assert_published

from rkkd_cli.losses import vid_log_scale, vid_loss


@settings(max_examples=25)
@given(st.floats(0, 6), st.integers(1, 3), st.integers(1, 4), st.sampled_from([1e-5, 0.1]))
def test_it_equals_the_loop(phase: float, batch: int, channels: int, eps: float) -> None:
    shape = [batch, channels, 2, 2]
    mean, teacher = wave(shape, phase, 2.0), wave(shape, phase + 1, 3.0)
    scale = wave([channels], phase + 2, 5.0)
    terms = []
    for m, t in zip(mean.tolist(), teacher.tolist(), strict=True):
        for d in range(channels):
            variance = math.log1p(math.exp(scale[d].item())) + eps
            for a, b in zip(chain(*m[d]), chain(*t[d]), strict=True):
                terms.append(0.5 * ((a - b) ** 2 / variance + math.log(variance)))
    expected = math.fsum(terms) / len(terms)
    assert vid_loss(mean, scale, teacher, eps).item() == pytest.approx(expected, rel=1e-9)


def test_it_is_torchs_gaussian_likelihood_with_that_variance() -> None:
    mean, teacher, scale = wave([2, 3, 4, 4]), wave([2, 3, 4, 4], 1.0), wave([3], 0.4)
    variance = (torch.nn.functional.softplus(scale) + 1e-5).view(1, 3, 1, 1).expand_as(mean)
    expected = torch.nn.functional.gaussian_nll_loss(mean, teacher, variance)
    torch.testing.assert_close(vid_loss(mean, scale, teacher), expected)


def test_it_is_repdistillers_loss() -> None:
    assert_published("vid", lambda x, s: vid_loss(x["student"], x["log_scale"], x["teacher"], **s))


def test_gradcheck_of_the_scale() -> None:
    mean, teacher = wave([2, 3]), wave([2, 3], 1.0)
    scale = wave([3], 0.4).requires_grad_()
    assert torch.autograd.gradcheck(lambda r: vid_loss(mean, r, teacher), (scale,))


@pytest.mark.parametrize("scale", [-1e4, 1e4])
def test_a_huge_scale_stays_finite(scale: float) -> None:
    log_scale = torch.full((3,), scale, requires_grad=True)
    value = vid_loss(torch.ones(2, 3), log_scale, torch.zeros(2, 3))
    (gradient,) = torch.autograd.grad(value, log_scale)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(("variance", "eps"), [(5.0, 1e-5), (0.2, 1e-5), (300.0, 0.1)])
def test_the_scale_of_a_variance(variance: float, eps: float) -> None:
    rho = torch.tensor([vid_log_scale(variance, eps)], dtype=torch.float64)
    zeros = torch.zeros(1, 1, dtype=torch.float64)
    assert vid_loss(zeros, rho, zeros, eps).item() == pytest.approx(math.log(variance) / 2)


def test_wrong_shapes_and_settings_are_refused() -> None:
    x = wave([2, 3, 4, 4])
    with pytest.raises(ValueError, match=r"one number per channel, \(3,\)"):
        vid_loss(x, wave([2]), x)
    with pytest.raises(ValueError, match="one shape"):
        vid_loss(x, wave([3]), x[:, :, :2])
    with pytest.raises(ValueError, match="eps must be"):
        vid_loss(x, wave([3]), x, eps=0.0)
    with pytest.raises(ValueError, match="variance"):
        vid_log_scale(1e-6, 1e-5)
