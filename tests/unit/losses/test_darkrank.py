"""DarkRank against a loop."""

import math

import pytest
import torch
from closed_form import wave
from hypothesis import given, settings
from hypothesis import strategies as st

from rkkd_cli.losses import darkrank_loss


def loop_loss(s: list[list[float]], t: list[list[float]], length: int) -> float:
    total = 0.0
    for i in range(len(s)):
        others = [j for j in range(len(s)) if j != i]
        distances = [math.dist(t[i], row) for row in t]
        order = sorted(others, key=distances.__getitem__)[:length]
        scores = [-3 * math.dist(s[i], s[j]) ** 3 for j in order]
        for k in range(len(scores)):
            total += math.log(math.fsum(math.exp(x) for x in scores[k:])) - scores[k]
    return total / len(s)


@settings(max_examples=40)
@given(st.floats(0, 6), st.integers(2, 6), st.integers(1, 5))
def test_it_equals_the_loop(phase: float, batch: int, length: int) -> None:
    student, teacher = wave([batch, 3], phase), wave([batch, 4], phase + 1, 3.0)
    loss = darkrank_loss(student, teacher, length=length).item()
    assert loss == pytest.approx(loop_loss(student.tolist(), teacher.tolist(), length), rel=1e-6)


def test_one_image_has_no_neighbours() -> None:
    student = wave([1, 3]).requires_grad_()
    loss = darkrank_loss(student, wave([1, 3]))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0
    assert not gradient.any()
