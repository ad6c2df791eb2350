"""The hierarchical context loss against a loop and mdistiller."""

import math

import pytest
import torch
from closed_form import wave
from hypothesis import given, settings
from hypothesis import strategies as st
from published import assert_published
from torch import Tensor

from rkkd_cli.losses import hierarchical_context_loss


def pooled(x: Tensor, size: int) -> list[float]:
    """Window i covers the rows floor(i·n/size) up to ceil((i+1)·n/size)."""
    edges = [[(i * n // size, -(-(i + 1) * n // size)) for i in range(size)] for n in x.shape[2:]]
    windows = [x[:, :, a:b, c:d].mean(dim=(2, 3)) for a, b in edges[0] for c, d in edges[1]]
    return torch.stack(windows).flatten().tolist()


def mse(a: list[float], b: list[float]) -> float:
    return math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)


def loop_stage(s: Tensor, t: Tensor) -> float:
    losses = [mse(s.flatten().tolist(), t.flatten().tolist())]
    losses += [mse(pooled(s, n), pooled(t, n)) for n in (4, 2, 1) if n < s.shape[2]]
    weights = [0.5**i for i in range(len(losses))]
    return math.fsum(w * x for w, x in zip(weights, losses, strict=True)) / math.fsum(weights)


@settings(max_examples=25)
@given(st.floats(0, 6), st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_it_equals_the_loop(phase: float, sizes: list[int]) -> None:
    student = [wave([2, 3, n, n], phase, 2.0) for n in sizes]
    teacher = [wave([2, 3, n, n], phase + 1, 3.0) for n in sizes]
    expected = math.fsum(loop_stage(s, t) for s, t in zip(student, teacher, strict=True))
    ours = hierarchical_context_loss(student, teacher).item()
    assert ours == pytest.approx(expected, rel=1e-9, abs=1e-14)


def test_it_is_mdistillers_loss() -> None:
    def stages(x: Tensor) -> list[Tensor]:
        return [x, x[:, :, :1, :1]]

    assert_published(
        "review", lambda x, _: hierarchical_context_loss(stages(x["student"]), stages(x["teacher"]))
    )


def test_equally_many_stages_of_one_shape_are_asked_for() -> None:
    x = wave([2, 3, 4, 4])
    for student, teacher in (([], []), ([x], [x, x])):
        with pytest.raises(ValueError, match="equally many stages"):
            hierarchical_context_loss(student, teacher)
    with pytest.raises(ValueError, match="one shape"):
        hierarchical_context_loss([x], [x[:, :2]])
    with pytest.raises(ValueError, match=r"\(batch, channels, height, width\)"):
        hierarchical_context_loss([x[0]], [x[0]])
