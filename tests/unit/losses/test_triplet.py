"""The triplet loss against loops, and which negatives it takes."""

import math
from itertools import product

import pytest
import torch
from closed_form import wave
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rkkd_cli.losses.triplet as triplet
from rkkd_cli.losses import triplet_loss
from rkkd_cli.losses.triplet import NEGATIVES, triplet_per_image

CLASSES = torch.tensor([0, 1, 0, 1, 2, 0, 2])
FIXED = torch.where(CLASSES[:, None] != CLASSES, wave([7, 7]).abs(), 0.0)


def loop_loss(e: Tensor, labels: Tensor, negatives: str, margin: float) -> float:
    rows, y = e.tolist(), labels.tolist()
    images, hinges = range(len(rows)), []
    for a, p in product(images, images):
        others = [n for n in images if y[n] != y[a]]
        if a == p or y[a] != y[p] or not others:
            continue
        to_p = math.dist(rows[a], rows[p])
        if negatives == "semihard":
            distances = [math.dist(rows[a], row) for row in rows]
            by_distance = sorted(others, key=distances.__getitem__)
            beyond = [n for n in by_distance if distances[n] > to_p]
            others = beyond[:1] or by_distance[-1:]
        hinges += [max(0.0, to_p - math.dist(rows[a], rows[n]) + margin) for n in others]
    return math.fsum(hinges) / len(hinges) if hinges else 0.0


@settings(max_examples=40)
@given(st.floats(0, 6), st.integers(2, 7), st.floats(0, 2), st.sampled_from(["all", "semihard"]))
def test_it_equals_the_loop(phase: float, batch: int, margin: float, negatives: str) -> None:
    embedding, labels = wave([batch, 3], phase, 2.0), CLASSES[:batch]
    loss = triplet_loss(embedding, labels, margin, negatives).item()
    assert loss == pytest.approx(
        loop_loss(embedding, labels, negatives, margin), rel=1e-7, abs=1e-9
    )


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_the_gradient_passes_gradcheck(negatives: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(embedding: Tensor) -> Tensor:
        return triplet_loss(embedding, CLASSES, 1.0, negatives)

    if negatives == "distance":  # its weights have no gradient
        monkeypatch.setattr(triplet, "_inverse_density", lambda *_: FIXED)
    assert torch.autograd.gradcheck(call, (wave([7, 3], 0.4, 2.0).requires_grad_(),))


def loss_with(shares: list[float], embedding: Tensor) -> float:
    """The loss of the two anchors 0 and 1, which are equal and each other's only positive."""
    distances = torch.cdist(embedding[:1], embedding)[0].tolist()
    return math.fsum(share * (100 - d) for share, d in zip(shares, distances, strict=True))


def test_negatives_weigh_the_inverse_density_of_their_distance() -> None:
    angles = torch.tensor([0.0, 0.0, 0.2, 0.8, 1.1, 2.0], dtype=torch.float64)
    embedding = torch.stack([angles.cos(), angles.sin(), 0 * angles, 0 * angles], dim=1)
    labels = torch.tensor([0, 0, 1, 2, 3, 4])
    weights = [0.0, 0.0]
    for angle in angles[2:].tolist():
        d = max(0.5, 2 * math.sin(angle / 2))
        weights.append(d**-2 * (1 - d * d / 4) ** -0.5 if d < 1.4 else 0.0)
    shares = [weight / math.fsum(weights) for weight in weights]
    loss = triplet_loss(embedding, labels, 100.0).item()
    assert loss == pytest.approx(loss_with(shares, embedding), rel=1e-7)
    longer = triplet_loss(3 * embedding, labels, 100.0).item()  # the weights are of unit vectors
    assert longer == pytest.approx(loss_with(shares, 3 * embedding), rel=1e-7)


def test_where_all_negatives_are_beyond_the_limit_each_weighs_the_same() -> None:
    embedding = torch.tensor([[1.0, 0], [1, 0], [-1, 0.0], [-1, 0.2]], dtype=torch.float64)
    loss = triplet_loss(embedding, torch.tensor([0, 0, 1, 2]), 100.0).item()
    assert loss == pytest.approx(loss_with([0, 0, 0.5, 0.5], embedding), rel=1e-7)


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_blocks_of_anchors_change_nothing(negatives: str, monkeypatch: pytest.MonkeyPatch) -> None:
    embedding = wave([7, 3], 0.3, 2.0)
    whole = triplet_per_image(embedding, CLASSES, 0.5, negatives)
    monkeypatch.setattr(triplet, "TRIPLETS_PER_BLOCK", 100)
    torch.testing.assert_close(triplet_per_image(embedding, CLASSES, 0.5, negatives), whole)


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2], [0], [0] * 40, list(range(40))])
def test_without_a_triplet_it_is_zero(negatives: str, labels: list[int]) -> None:
    embedding = wave([len(labels), 3]).requires_grad_()
    loss = triplet_loss(embedding, torch.tensor(labels), 1.0, negatives)
    (gradient,) = torch.autograd.grad(loss, embedding)
    assert loss.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_equal_rows_and_large_ones_stay_finite(negatives: str) -> None:
    for embedding in (torch.ones(7, 3), torch.zeros(7, 3), 1e4 * wave([7, 3]).float()):
        leaf = embedding.clone().requires_grad_()
        loss = triplet_loss(leaf, CLASSES, 0.2, negatives)
        (gradient,) = torch.autograd.grad(loss, leaf)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def test_what_it_refuses() -> None:
    embedding = wave([7, 3])
    with pytest.raises(ValueError, match="negatives must be one of distance, semihard, all"):
        triplet_loss(embedding, CLASSES, negatives="hard")
    with pytest.raises(ValueError, match="embedding must be"):
        triplet_loss(embedding[0], CLASSES)
    with pytest.raises(ValueError, match="target must be"):
        triplet_loss(embedding, CLASSES[1:])
