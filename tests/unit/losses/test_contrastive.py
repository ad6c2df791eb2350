"""The contrastive loss against a loop and RepDistiller's memory."""

import math
from itertools import chain
from typing import Any

import pytest
import torch
from closed_form import build, wave
from hypothesis import given, settings
from hypothesis import strategies as st
from published import assert_published
from torch import Tensor

from rkkd_cli.losses import contrastive_log_z, contrastive_loss, updated_rows


def unit(shape: list[int], phase: float) -> Tensor:
    return build({"shape": shape, "phase": phase, "kind": "unit"})


def loop_scores(anchors: Tensor, rows: Tensor, temperature: float) -> list[list[float]]:
    return [
        [math.exp(math.fsum(a * b for a, b in zip(v, w, strict=True)) / temperature) for w in ws]
        for v, ws in zip(anchors.tolist(), rows.tolist(), strict=True)
    ]


@settings(max_examples=25)
@given(st.floats(0, 6), st.integers(1, 4), st.integers(1, 5), st.sampled_from([0.07, 0.5]))
def test_loss_and_constant_equal_the_loop(
    phase: float, batch: int, negatives: int, temperature: float
) -> None:
    anchors, rows = unit([batch, 3], phase), unit([batch, 1 + negatives, 3], phase + 1)
    scores, n = loop_scores(anchors, rows, temperature), 50
    z = n * math.fsum(chain(*scores)) / (batch * (1 + negatives))
    noise, total = negatives / n, 0.0
    for positive, *others in ([score / z for score in row] for row in scores):
        total -= math.log(positive / (positive + noise + 1e-7))
        total -= math.fsum(math.log(noise / (p + noise + 1e-7)) for p in others)
    log_z = contrastive_log_z(anchors, rows, n, temperature)
    assert log_z.item() == pytest.approx(math.log(z))
    ours = contrastive_loss(anchors, rows, log_z, n, temperature).item()
    assert ours == pytest.approx(total / batch, rel=1e-9)


def anchors_and_rows(x: dict[str, Tensor], s: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Anchors of one model, rows of the other's memory; image b's negatives are those after it."""
    opposite = "teacher" if s["side"] == "student" else "student"
    memory, anchors = x[f"{opposite}_memory"], x[s["side"]]
    rows = torch.arange(len(anchors))[:, None] + torch.arange(len(memory) - 1)
    return anchors, memory[rows % len(memory)]


def test_the_constant_is_repdistillers() -> None:
    assert_published(
        "crd_log_z",
        lambda x, s: contrastive_log_z(*anchors_and_rows(x, s), s["num_data"], s["temperature"]),
    )


def test_the_loss_is_repdistillers() -> None:
    def loss(x: dict[str, Tensor], s: dict[str, Any]) -> Tensor:
        anchors, rows = anchors_and_rows(x, s)
        log_z = contrastive_log_z(anchors, rows, s["num_data"], s["temperature"])
        return contrastive_loss(anchors, rows, log_z, s["num_data"], s["temperature"])

    assert_published("crd_loss", loss)


def test_the_memorys_new_rows_are_repdistillers() -> None:
    def rows(x: dict[str, Tensor], s: dict[str, Any]) -> Tensor:
        embeddings = x[s["side"]]
        return updated_rows(x[f"{s['side']}_memory"][: len(embeddings)], embeddings)

    assert_published("crd_rows", rows)


def test_the_order_of_negatives_does_not_matter() -> None:
    anchors, rows, log_z = unit([2, 3], 0.3), unit([2, 5, 3], 1.0), torch.tensor(9.0)
    reordered = rows[:, [0, 4, 3, 2, 1]]
    torch.testing.assert_close(
        contrastive_loss(anchors, reordered, log_z, 50), contrastive_loss(anchors, rows, log_z, 50)
    )


def test_new_rows_have_length_one_and_no_gradient() -> None:
    rows, embeddings = unit([3, 4], 0.1), unit([3, 4], 0.7).requires_grad_()
    new = updated_rows(rows, embeddings)
    assert not new.requires_grad
    torch.testing.assert_close(new.norm(dim=1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(updated_rows(rows, embeddings, 1.0), rows)
    torch.testing.assert_close(updated_rows(rows, embeddings, 0.0), embeddings.detach())


def test_opposite_rows_cancel_to_zero_not_nan() -> None:
    rows = unit([2, 4], 0.1)
    assert torch.equal(updated_rows(rows, -rows), torch.zeros_like(rows))


def test_wrong_shapes_and_settings_are_refused() -> None:
    anchors, rows, log_z = wave([2, 3]), wave([2, 4, 3]), torch.tensor(0.0)
    with pytest.raises(ValueError, match="at least one negative"):
        contrastive_loss(anchors, rows[:, :1], log_z, 9)
    with pytest.raises(ValueError, match="anchors must be"):
        contrastive_loss(anchors, rows[:, :, :2], log_z, 9)
    with pytest.raises(ValueError, match="temperature must be"):
        contrastive_loss(anchors, rows, log_z, 9, 0.0)
    with pytest.raises(ValueError, match="num_data must be"):
        contrastive_loss(anchors, rows, log_z, 0)
    with pytest.raises(ValueError, match=r"must both be \(batch, features\)"):
        updated_rows(anchors, anchors[:1])
    with pytest.raises(ValueError, match="from 0 to 1"):
        updated_rows(anchors, anchors, 1.5)
