"""Ranking z-scores, and the images of a batch: against loops, published code, and at the edges."""

import math
from itertools import combinations, product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from published import assert_published
from ranking_oracle import PHI, logits, value_and_gradient
from torch import Tensor

from rkkd_cli.losses import KendallRankingLoss, kendall_ranking_loss
from rkkd_cli.losses.ranked_rows import OVER, RankingSettings
from rkkd_cli.losses.ranking import ranking_gradient_per_image, ranking_per_image

FORMS = list(product((False, True), OVER))
EACH_FORM = pytest.mark.parametrize(("standardize", "over"), FORMS)


def z_scores(row: Tensor) -> Tensor:
    mean = sum(row) / len(row)
    spread = (sum((x - mean) ** 2 for x in row) / max(1, len(row) - 1)) ** 0.5
    return torch.stack([(x - mean) / spread if spread > 0 else 0 * x for x in row])


def loop_over_rows(s: Tensor, t: Tensor, k: float, surrogate: str, standardize: bool) -> Tensor:
    """The loss of the order within each row, pair by pair, in float64."""
    total = torch.zeros((), dtype=torch.float64)
    for x, y in zip(s, t, strict=True):
        if standardize:
            x, y = z_scores(x), z_scores(y)
        pairs = list(combinations(range(len(x)), 2))
        for i, j in pairs:
            dx, dy = x[i] - x[j], y[i] - y[j]
            if surrogate == "tanh_product":
                total = total - torch.tanh(k * dx * dy) / len(pairs)
            else:
                total = total - PHI[surrogate](k * dx) * PHI[surrogate](k * dy) / len(pairs)
    return total / len(s)


def loop(s: Tensor, t: Tensor, k: float, surrogate: str, standardize: bool, over: str) -> Tensor:
    s, t = s.double(), t.double()
    classes = loop_over_rows(s, t, k, surrogate, standardize)
    images = loop_over_rows(s.T, t.T, k, surrogate, standardize)
    return {"classes": classes, "images": images, "both": (classes + images) / 2}[over]


@EACH_FORM
@pytest.mark.parametrize("surrogate", ["tanh", "softsign", "arctan", "tanh_product"])
@pytest.mark.parametrize("shape", [(4, 6), (2, 3), (5, 2)])
def test_value_and_gradient_equal_the_loop(
    shape: tuple[int, int], surrogate: str, standardize: bool, over: str
) -> None:
    student, teacher = logits(0, *shape), logits(1, *shape)
    form: dict[str, Any] = {"surrogate": surrogate, "standardize": standardize, "over": over}
    ours = value_and_gradient(lambda s: kendall_ranking_loss(s, teacher, 1.3, **form), student)
    expected = value_and_gradient(lambda s: loop(s, teacher, 1.3, **form), student)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


@EACH_FORM
def test_float32_is_close_to_float64(standardize: bool, over: str) -> None:
    student, teacher = logits(2, 16, 30, torch.float32), logits(3, 16, 30, torch.float32)
    form: dict[str, Any] = {"standardize": standardize, "over": over}
    ours = value_and_gradient(lambda s: kendall_ranking_loss(s, teacher, 5.0, **form), student)
    exact = value_and_gradient(
        lambda s: kendall_ranking_loss(s, teacher.double(), 5.0, **form), student.double()
    )
    torch.testing.assert_close(ours[0].double(), exact[0], rtol=0, atol=2e-6)
    torch.testing.assert_close(ours[1].double(), exact[1], rtol=0, atol=2e-6)


@EACH_FORM
@pytest.mark.parametrize("surrogate", ["tanh", "tanh_product"])
def test_gradient_passes_gradcheck(surrogate: str, standardize: bool, over: str) -> None:
    student, teacher = logits(4, 4, 5).requires_grad_(), logits(5, 4, 5)
    settings_ = RankingSettings(1.5, surrogate, "all", standardize, over)
    assert torch.autograd.gradcheck(
        lambda s: kendall_ranking_loss(s, teacher, *settings_), (student,)
    )


def test_z_scores_are_of_all_classes_before_the_top_ones_are_chosen() -> None:
    student, teacher = logits(6, 3, 8), logits(7, 3, 8)
    s, t = (torch.stack([z_scores(row) for row in x]) for x in (student, teacher))
    expected = kendall_ranking_loss(s, t, 2.0, channels="top:4")
    ours = kendall_ranking_loss(student, teacher, 2.0, channels="top:4", standardize=True)
    torch.testing.assert_close(ours, expected)


def test_a_number_of_channels_is_that_share() -> None:
    student, teacher = logits(8, 3, 10), logits(9, 3, 10)
    by_count = kendall_ranking_loss(student, teacher, 2.0, channels="bottom:4")
    assert torch.equal(by_count, kendall_ranking_loss(student, teacher, 2.0, channels="bottom:0.4"))


def test_the_published_ranking_term_is_ours_of_z_scores() -> None:
    def ours(x: dict[str, Tensor], case: dict[str, Any]) -> Tensor:
        loss = kendall_ranking_loss(
            x["student"], x["teacher"], 0.25, "tanh_product", standardize=True, over=case["over"]
        )
        return 2 + 2 * loss if case["over"] == "both" else 1 + loss

    assert_published("mrkd", ours)


@EACH_FORM
@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 6), classes=st.integers(2, 7),
       spacing=st.sampled_from([0.0, 1.0]))  # fmt: skip
def test_images_and_gradients_agree_with_the_loss_for_any_logits(
    standardize: bool, over: str, seed: int, batch: int, classes: int, spacing: float
) -> None:
    student, teacher = logits(seed, batch, classes), logits(seed + 1, batch, classes)
    if spacing:  # ties, and rows of equal logits
        student, teacher = student.round(), teacher.round()
    ranking = RankingSettings(2.0, "tanh", "all", standardize, over)
    value, gradient = value_and_gradient(
        lambda s: kendall_ranking_loss(s, teacher, *ranking), student
    )
    assert -1 <= value.item() <= 1
    per_image = ranking_per_image(student, teacher, ranking)
    assert per_image.shape == (batch,)
    torch.testing.assert_close(per_image.mean(), value)
    torch.testing.assert_close(
        ranking_gradient_per_image(student, teacher, ranking) / batch, gradient
    )
    assert gradient.isfinite().all()
    if batch > 1 or over == "classes":
        expected = loop(student, teacher, 2.0, "tanh", standardize, over)
        torch.testing.assert_close(value, expected)


@EACH_FORM
def test_without_background_the_last_class_takes_no_part(standardize: bool, over: str) -> None:
    student, teacher = logits(0, 4, 6), logits(1, 4, 6)
    form: dict[str, Any] = {"standardize": standardize, "over": over}
    value, gradient = value_and_gradient(
        lambda s: kendall_ranking_loss(s, teacher, 1.3, background=False, **form), student
    )
    expected, of_others = value_and_gradient(
        lambda s: kendall_ranking_loss(s, teacher[:, :-1], 1.3, **form), student[:, :-1]
    )
    assert value.item() == expected.item()
    torch.testing.assert_close(gradient[:, :-1], of_others, rtol=0, atol=0)
    assert not gradient[:, -1].any()


@pytest.mark.parametrize("standardize", [False, True])
def test_one_image_has_no_order_among_images(standardize: bool) -> None:
    student, teacher = logits(10, 1, 5), logits(11, 1, 5)

    def of(over: str) -> tuple[Tensor, Tensor]:
        form: dict[str, Any] = {"standardize": standardize, "over": over}
        return value_and_gradient(lambda s: kendall_ranking_loss(s, teacher, 2.0, **form), student)

    value, gradient = of("images")
    assert value.item() == 0
    assert not gradient.any()
    classes, both = of("classes"), of("both")
    torch.testing.assert_close(both[0], classes[0] / 2)
    torch.testing.assert_close(both[1], classes[1] / 2)


@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("size", [0.0, 1e4, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_logits_have_z_scores_of_zero_and_no_gradient(
    dtype: torch.dtype, size: float, over: str
) -> None:
    flat, teacher = torch.full((3, 7), size, dtype=dtype), logits(12, 3, 7, dtype)
    ranking = RankingSettings(100.0, "tanh", "all", True, over)
    for s, t in ((flat, teacher), (teacher, flat)):
        value, gradient = value_and_gradient(
            lambda x, t=t: kendall_ranking_loss(x, t, *ranking),  # type: ignore[misc]
            s,
        )
        assert value.item() == 0
        assert not gradient.any()


def test_scale_and_shift_of_a_row_change_nothing_where_it_is_standardized() -> None:
    student, teacher = logits(13, 4, 6), logits(14, 4, 6)
    scale, shift = logits(15, 4, 1).exp(), logits(16, 4, 1)
    loss = KendallRankingLoss(3.0, standardize=True)
    torch.testing.assert_close(loss(scale * student + shift, teacher), loss(student, teacher))
    of_images = KendallRankingLoss(3.0, standardize=True, over="images")
    by_class = logits(17, 1, 6).exp()
    torch.testing.assert_close(of_images(by_class * student, teacher), of_images(student, teacher))


@EACH_FORM
def test_a_logit_that_is_not_finite_gives_nan(standardize: bool, over: str) -> None:
    for bad in (math.nan, math.inf, -math.inf):
        student, teacher = logits(18, 4, 6, torch.float32), logits(19, 4, 6, torch.float32)
        student[1, 2] = bad
        assert kendall_ranking_loss(student, teacher, 2.0, "tanh", "all", standardize, over).isnan()


@EACH_FORM
def test_autocast_changes_nothing(standardize: bool, over: str) -> None:
    student, teacher = logits(20, 4, 6, torch.float32), logits(21, 4, 6, torch.float32)
    loss = KendallRankingLoss(2.0, standardize=standardize, over=over)
    plain = value_and_gradient(lambda s: loss(s, teacher), student)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = value_and_gradient(lambda s: loss(s, teacher), student)
    assert torch.equal(plain[0], cast[0])
    assert torch.equal(plain[1], cast[1])


def test_wrong_forms_are_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="unknown over 'image'; did you mean 'images'"):
        KendallRankingLoss(over="image")
    with pytest.raises(ValueError, match=r"over = both ranks images: leave channels at all"):
        KendallRankingLoss(channels="top:64", over="both")
    zeros = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"over = images ranks images"):
        kendall_ranking_loss(zeros, zeros, channels="top:2", over="images")
