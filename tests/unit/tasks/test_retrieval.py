"""Retrieval metrics against loops, and their edges."""

import math

import pytest
import torch
from closed_form import wave
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rkkd_cli.config.tasks import RECALLS
from rkkd_cli.tasks import retrieval
from rkkd_cli.tasks.retrieval import retrieval_metrics


def loop_metrics(embedding: Tensor, labels: Tensor) -> list[float]:
    rows, y = embedding.tolist(), labels.tolist()
    sums, queries = [0.0] * (len(RECALLS) + 2), 0
    for q in range(len(rows)):
        others = [i for i in range(len(rows)) if i != q]
        relevant = sum(y[i] == y[q] for i in others)
        if not relevant:
            continue
        queries += 1
        distances = [math.dist(rows[q], row) for row in rows]
        others.sort(key=distances.__getitem__)
        hits = [y[i] == y[q] for i in others]
        for index, k in enumerate(RECALLS):
            sums[index] += any(hits[:k])
        sums[-2] += sum(hits[:relevant]) / relevant
        found = [sum(hits[: i + 1]) / (i + 1) for i in range(relevant) if hits[i]]
        sums[-1] += math.fsum(found) / relevant
    return [100 * total / queries for total in sums]


@settings(max_examples=40)
@given(st.floats(0, 6), st.integers(2, 24), st.integers(1, 5), st.integers(1, 4))
def test_they_equal_the_loops(phase: float, images: int, classes: int, block: int) -> None:
    embedding, labels = wave([images, 3], phase), torch.arange(images) // 2 % classes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "PAIRS_PER_BLOCK", block * images)
        metrics = retrieval_metrics(embedding, labels)
    ours = [*metrics.recalls, metrics.r_precision, metrics.map_at_r]
    assert ours == pytest.approx(loop_metrics(embedding, labels), rel=1e-9)


def test_classes_that_lie_apart_are_found_whole() -> None:
    labels = torch.arange(30) // 3
    embedding = torch.stack([labels * 10.0, torch.arange(30) * 0.1], dim=1)
    metrics = retrieval_metrics(embedding, labels)
    assert metrics == ((100.0,) * 4, 100.0, 100.0)


def test_a_single_image_of_a_class_is_searched_but_is_no_query() -> None:
    embedding = torch.tensor([[0.0], [1.0], [0.4]])
    metrics = retrieval_metrics(embedding, torch.tensor([0, 0, 1]))
    assert metrics.recalls == (0.0, 100.0, 100.0, 100.0)


def test_images_without_company_are_refused() -> None:
    with pytest.raises(ValueError, match="two images of a class"):
        retrieval_metrics(wave([3, 2]), torch.arange(3))


def test_where_the_origin_is_does_not_matter() -> None:
    embedding, labels = wave([60, 5], 0.7).float(), torch.arange(60) % 7
    near = retrieval_metrics(embedding, labels)
    assert retrieval_metrics(embedding + 500.0, labels).map_at_r == pytest.approx(
        near.map_at_r, abs=0.1
    )


def test_they_are_those_of_pytorch_metric_learning() -> None:
    """Of its version 2.9.0: AccuracyCalculator with k = "max_bin_count", by Euclidean distance."""
    labels = (torch.arange(60) ** 2) % 7
    one_hot = torch.nn.functional.one_hot(labels % 5, 5)
    embedding = wave([60, 5], 0.7, 3.0) + 0.5 * one_hot.double()
    labels[0] = 99  # the only one of its class
    found = retrieval_metrics(embedding, labels)
    assert found.recalls[0] == pytest.approx(20.33898305084746, abs=1e-9)
    assert found.r_precision == pytest.approx(23.441283292978207, abs=1e-9)
    assert found.map_at_r == pytest.approx(8.941097891044926, abs=1e-9)
