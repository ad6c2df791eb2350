"""The share of live pairs against a loop over the slopes, and at its edges."""

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ranking_oracle import classes_that_take_part, logits
from torch import Tensor

from rkkd_cli.losses import SURROGATES
from rkkd_cli.losses.live_pairs import live_pairs_per_image
from rkkd_cli.losses.ranked_rows import RankingSettings
from rkkd_cli.losses.surrogates import LIVE_LIMITS


def is_live(dt: Tensor, ds: Tensor, k: float, surrogate: str) -> bool:
    """Compare the slope with that of a tie. The teacher's part is a factor, so it cancels."""
    slope = SURROGATES[surrogate](dt, ds, k)[1]
    tied = SURROGATES[surrogate](dt, torch.zeros_like(ds), k)[1]
    return bool(slope / tied > 0.01)


def loop(student: Tensor, teacher: Tensor, settings: RankingSettings) -> list[float]:
    shares = []
    for s, t in zip(student, teacher, strict=True):
        chosen = classes_that_take_part(t.tolist(), settings.channels, s.tolist())
        pairs = list(combinations(chosen, 2))
        live = [
            is_live(t[i] - t[j], s[i] - s[j], settings.steepness, settings.surrogate)
            for i, j in pairs
        ]
        shares.append(sum(live) / len(pairs))
    return shares


@pytest.mark.parametrize("surrogate", sorted(SURROGATES))
@pytest.mark.parametrize("channels", ["all", "top:0.5", "union:6"])
@pytest.mark.parametrize("k", [0.5, 3.0, 20.0, 100.0])
def test_it_is_the_share_of_pairs_with_a_hundredth_of_the_slope_of_a_tie(
    k: float, channels: str, surrogate: str
) -> None:
    student, teacher = logits(0, 4, 30), logits(1, 4, 30)
    settings = RankingSettings(k, surrogate, channels)
    found = live_pairs_per_image(student, teacher, settings)
    assert found.tolist() == pytest.approx(loop(student, teacher, settings))


def test_every_surrogate_has_a_limit_where_its_slope_is_a_hundredth() -> None:
    assert LIVE_LIMITS.keys() == SURROGATES.keys()
    assert 1 - math.tanh(LIVE_LIMITS["tanh"]) ** 2 == pytest.approx(0.01)
    assert LIVE_LIMITS["tanh"] / 100 == pytest.approx(0.03, rel=0.01)


@given(seed=st.integers(0, 10**6), batch=st.integers(1, 5), classes=st.integers(2, 40))
def test_sorting_counts_what_comparing_all_pairs_counts(
    seed: int, batch: int, classes: int
) -> None:
    student, teacher = logits(seed, batch, classes).mul(8).round() / 8, logits(1, batch, classes)
    found = live_pairs_per_image(student, teacher, RankingSettings(10.0))
    gaps = (student[:, :, None] - student[:, None, :]).abs() < LIVE_LIMITS["tanh"] / 10
    expected = gaps.triu(1).sum(dim=(1, 2)) / math.comb(classes, 2)
    torch.testing.assert_close(found, expected.double())


@pytest.mark.parametrize("surrogate", ["tanh", "tanh_product"])
def test_ties_are_live_and_far_pairs_are_not(surrogate: str) -> None:
    settings, order = RankingSettings(100.0, surrogate), torch.arange(6.0).expand(2, -1)
    assert live_pairs_per_image(torch.zeros(2, 6), order, settings).tolist() == [1, 1]
    assert live_pairs_per_image(order, order, settings).tolist() == [0, 0]


@pytest.mark.parametrize("surrogate", ["tanh", "tanh_product"])
def test_what_is_not_finite_is_not_live(surrogate: str) -> None:
    student = torch.tensor([[0.0, 0.0, math.nan], [0.0, 0.0, math.inf], [1e9, 1e9, -1e9]])
    shares = live_pairs_per_image(student, torch.zeros(3, 3), RankingSettings(1.0, surrogate))
    assert shares[:2].tolist() == pytest.approx([1 / 3, 1 / 3])
    assert 0 <= shares[2] <= 1


def test_where_images_are_ranked_the_pairs_are_of_images() -> None:
    student, teacher = logits(2, 5, 8), logits(3, 5, 8)
    images = live_pairs_per_image(student, teacher, RankingSettings(3.0, over="images"))
    expected = live_pairs_per_image(student.T, teacher.T, RankingSettings(3.0)).mean()
    torch.testing.assert_close(images, expected.expand(5))
    both = live_pairs_per_image(student, teacher, RankingSettings(3.0, over="both"))
    classes = live_pairs_per_image(student, teacher, RankingSettings(3.0))
    torch.testing.assert_close(both, (classes + expected) / 2)


def test_z_scores_are_what_is_ranked() -> None:
    student, teacher = logits(4, 5, 8), logits(5, 5, 8)
    settings = RankingSettings(3.0, standardize=True)
    scaled = live_pairs_per_image(1000 * student, teacher, settings)
    assert torch.equal(scaled, live_pairs_per_image(student, teacher, settings))
