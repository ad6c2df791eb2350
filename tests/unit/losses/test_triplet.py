"""The triplet loss against loops, and which negatives it takes."""

import math
from itertools import product

import pytest
import torch
from closed_form import wave
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rkkd_cli.losses import triplet_loss
from rkkd_cli.losses.triplet import NEGATIVES

CLASSES = torch.tensor([0, 1, 0, 1, 2, 0, 2])


def loop_loss(e: Tensor, labels: Tensor, negatives: str, margin: float) -> float:
    rows, y = e.tolist(), labels.tolist()
    images, hinges = range(len(rows)), []
    for a, p in product(images, images):
        others = [n for n in images if y[n] != y[a]]
        if a == p or y[a] != y[p] or not others:
            continue
        to_p = math.dist(rows[a], rows[p])
        if negatives == "semihard":
            by_distance = sorted(others, key=lambda n, a=a: math.dist(rows[a], rows[n]))
            beyond = [n for n in by_distance if math.dist(rows[a], rows[n]) > to_p]
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
def test_the_gradient_passes_gradcheck(negatives: str) -> None:
    def call(embedding: Tensor) -> Tensor:
        draws = torch.Generator().manual_seed(3)
        return triplet_loss(embedding, CLASSES, 1.0, negatives, draws)

    assert torch.autograd.gradcheck(call, (wave([7, 3], 0.4, 2.0).requires_grad_(),))


def shares(embedding: Tensor, labels: Tensor, draws: int) -> list[float]:
    """Return how often each image is drawn as the negative of image 0.

    It is at the place of image 1, its only positive: two draws a call, whose mean is the loss.
    """
    counts = [0] * len(labels)
    distances = torch.cdist(embedding[:1], embedding)[0]
    generator = torch.Generator().manual_seed(0)
    for _ in range(draws):
        loss = triplet_loss(embedding, labels, 100.0, "distance", generator)
        pairs = [
            (i, j)
            for i, j in product(range(2, len(labels)), repeat=2)
            if math.isclose(100 - (distances[i] + distances[j]).item() / 2, loss, rel_tol=1e-7)
        ]
        i, j = pairs[0]
        counts[i] += 1
        counts[j] += 1
    return [count / (2 * draws) for count in counts]


def test_negatives_are_drawn_with_the_inverse_density_of_their_distance() -> None:
    angles = torch.tensor([0.0, 0.0, 0.2, 0.8, 1.1, 2.0], dtype=torch.float64)
    embedding = torch.stack([angles.cos(), angles.sin(), 0 * angles, 0 * angles], dim=1)
    labels = torch.tensor([0, 0, 1, 2, 3, 4])
    weights = [0.0, 0.0]
    for angle in angles[2:].tolist():
        d = max(0.5, 2 * math.sin(angle / 2))
        weights.append(d**-2 * (1 - d * d / 4) ** -0.5 if d < 1.4 else 0.0)
    expected = [weight / math.fsum(weights) for weight in weights]
    assert shares(embedding, labels, 2000) == pytest.approx(expected, abs=0.03)


def test_where_all_negatives_are_beyond_the_limit_each_is_as_likely() -> None:
    embedding = torch.tensor([[1.0, 0], [1, 0], [-1, 0.0], [-1, 0.2]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 2])
    assert shares(embedding, labels, 1000)[2:] == pytest.approx([0.5, 0.5], abs=0.04)


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2], [0]])
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
