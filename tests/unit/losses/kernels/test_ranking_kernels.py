"""The compiled ranking loss against float64, and what its numbers must not depend on."""

import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rkkd_cli.losses import SURROGATES, kendall_ranking_loss
from rkkd_cli.losses.kernels import cpu, torch_blocks
from rkkd_cli.losses.ranked_rows import RankingSettings
from rkkd_cli.losses.ranking import ranking_gradient_per_image, ranking_per_image
from rkkd_cli.losses.surrogates import COMPILED_SURROGATES

EACH_SURROGATE = pytest.mark.parametrize("surrogate", sorted(SURROGATES))


def logits(seed: int, batch: int, classes: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, classes, generator=generator) * scale


def ours(s: Tensor, t: Tensor, k: float, surrogate: str) -> tuple[Tensor, Tensor]:
    assert cpu.supports(s, t), "numba is missing, or does not fit numpy"
    ranking = RankingSettings(k, surrogate)
    return ranking_per_image(s, t, ranking), ranking_gradient_per_image(s, t, ranking)


def errors(s: Tensor, t: Tensor, k: float, surrogate: str) -> tuple[float, float]:
    """The errors of value and gradient against float64; the gradient's is relative to 2k/C."""
    value, gradient = ours(s, t, k, surrogate)
    exact = torch_blocks.losses_and_gradients(s.double(), t.double(), k, SURROGATES[surrogate])
    largest = 2 * k / s.shape[1]
    if surrogate == "tanh_product":
        largest *= max(1.0, (t.amax() - t.amin()).item())
    return tuple(  # type: ignore[return-value]
        ((a - b).abs().max() / unit).item()
        for a, b, unit in zip((value, gradient), exact, (1, largest), strict=True)
    )


def test_the_kernels_know_every_surrogate() -> None:
    assert set(COMPILED_SURROGATES) == SURROGATES.keys()


@EACH_SURROGATE
@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    batch=st.integers(1, 4),
    classes=st.integers(2, 300),
    k=st.floats(-3, 4).map(lambda x: 10**x),
    scale=st.sampled_from([1e-3, 1.0, 30.0, 1e4]),
    spacing=st.sampled_from([0.0, 0.5]),
)
def test_float32_is_float64_to_a_millionth(
    surrogate: str, seed: int, batch: int, classes: int, k: float, scale: float, spacing: float
) -> None:
    s, t = logits(seed, batch, classes), logits(seed + 1, batch, classes)
    if spacing:  # a coarse grid makes ties
        s, t = (torch.round(x / spacing) * spacing for x in (s, t))
    value_error, gradient_error = errors(s * scale, t * scale, k, surrogate)
    assert value_error <= 1e-6
    assert gradient_error <= 1e-6


@pytest.mark.parametrize("steps", [2, 40, 20_001])
def test_no_difference_of_two_logits_is_far_from_float64(steps: int) -> None:
    # Two classes: a pair is the whole loss, and no error is averaged away.
    apart = torch.linspace(0, 12, steps)
    pairs = torch.stack([apart, torch.zeros_like(apart)], dim=1)
    for surrogate in ("tanh", "softsign", "arctan"):
        value_error, gradient_error = errors(pairs, pairs, 1.0, surrogate)
        assert value_error <= 1e-6, surrogate
        assert gradient_error <= 1e-6, surrogate


def test_pairs_that_are_clearly_in_order_have_no_gradient_at_all() -> None:
    for classes in (2, 5, 40, 200):
        order = torch.arange(classes, dtype=torch.float32)[None]
        value, gradient = ours(order, -order, 9.1, "tanh")
        assert value.item() == 1
        assert not gradient.any()


@pytest.mark.parametrize("k", [1e-4, 1e-2, 1.0])
def test_small_differences_are_not_lost_in_ones(k: float) -> None:
    s, t = logits(0, 2, 50), logits(1, 2, 50)
    value, gradient = ours(s, t, k, "tanh")
    exact = torch_blocks.losses_and_gradients(s.double(), t.double(), k, SURROGATES["tanh"])
    torch.testing.assert_close(value.double(), exact[0], rtol=1e-4, atol=0)
    atol = 1e-5 * exact[1].abs().max().item()
    torch.testing.assert_close(gradient.double(), exact[1], rtol=0, atol=atol)


def test_logits_too_large_for_the_quotients_have_the_same_numbers() -> None:
    s, t = logits(0, 2, 50), logits(1, 2, 50)
    for scale in (1e4, 1e20, 1e37):
        assert max(errors(s * scale, t * scale, 1e4, "tanh")) <= 1e-6


@EACH_SURROGATE
def test_tiles_leave_no_seam(surrogate: str) -> None:
    from rkkd_cli.losses.kernels.numba_pairs import TILE_COLUMNS, TILE_ROWS

    classes = TILE_COLUMNS + TILE_ROWS + 77
    s, t = logits(0, 1, classes), logits(1, 1, classes)
    assert max(errors(s, t, 10.0, surrogate)) <= 1e-6


@EACH_SURROGATE
@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 200), share=st.floats(0, 1))
def test_entries_behind_the_counts_are_as_if_they_were_not_there(
    surrogate: str, seed: int, classes: int, share: float
) -> None:
    s, t = logits(seed, 3, classes), logits(seed + 1, 3, classes)
    counts = torch.tensor([classes, 2, max(2, int(share * classes))])
    index = COMPILED_SURROGATES.index(surrogate)
    compiled = cpu.losses_and_gradients(s, t, 5.0, index, counts)
    plain = torch_blocks.losses_and_gradients(
        s.double(), t.double(), 5.0, SURROGATES[surrogate], counts=counts
    )
    for image, count in enumerate(counts.tolist()):
        part = s[image : image + 1, :count], t[image : image + 1, :count]
        value, gradient = cpu.losses_and_gradients(*part, 5.0, index)
        assert torch.equal(compiled[0][image], value[0])
        assert torch.equal(compiled[1][image, :count], gradient[0])
        for _, padded in (compiled, plain):
            assert not padded[image, count:].any()
    unit = 10 / 2 * (10 if surrogate == "tanh_product" else 1)
    assert (compiled[0] - plain[0]).abs().max().item() <= 1e-6
    assert (compiled[1] - plain[1]).abs().max().item() <= 1e-6 * unit


@EACH_SURROGATE
@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 200), k=st.sampled_from([0.1, 10, 1e3]))
def test_symmetries_hold(surrogate: str, seed: int, classes: int, k: float) -> None:
    s, t = logits(seed, 2, classes), logits(seed + 1, 2, classes)
    value, gradient = ours(s, t, k, surrogate)
    swapped, _ = ours(t, s, k, surrogate)
    negated, negated_gradient = ours(s, -t, k, surrogate)
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(seed))
    permuted, permuted_gradient = ours(s[:, order], t[:, order], k, surrogate)
    torch.testing.assert_close(swapped, value, rtol=0, atol=2e-6)
    torch.testing.assert_close(permuted, value, rtol=0, atol=2e-6)
    unit = 2 * k / classes * (10 if surrogate == "tanh_product" else 1)
    moved = (permuted_gradient - gradient[:, order]) / unit
    assert moved.abs().max().item() <= 2e-6
    torch.testing.assert_close(gradient.sum(dim=1) / unit, torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(negated, -value, rtol=0, atol=2e-6)
    assert ((negated_gradient + gradient) / unit).abs().max().item() <= 2e-6
    assert (value.abs() <= 1).all()


@EACH_SURROGATE
def test_numbers_depend_neither_on_other_images_nor_on_threads(
    surrogate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s, t = logits(0, 7, 90), logits(1, 7, 90)
    alone = [torch.cat(results) for results in zip(
        *(ours(s[b : b + 1], t[b : b + 1], 10.0, surrogate) for b in range(7)), strict=True
    )]  # fmt: skip
    monkeypatch.setattr(cpu, "PAIRS_PER_THREAD", 1)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5, 16):
            torch.set_num_threads(threads)
            for expected, result in zip(alone, ours(s, t, 10.0, surrogate), strict=True):
                assert torch.equal(result, expected), threads
    finally:
        torch.set_num_threads(before)


def test_callers_in_several_threads_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "PAIRS_PER_THREAD", 1)
    inputs = [(logits(n, 4, 150), logits(n + 9, 4, 150)) for n in range(4)]
    expected = [ours(s, t, 5.0, "tanh")[1] for s, t in inputs]
    gradients: list[Tensor | None] = [None] * 4

    def call(n: int) -> None:
        for _ in range(20):
            gradients[n] = ours(*inputs[n], 5.0, "tanh")[1]

    threads = [threading.Thread(target=call, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for gradient, expected_gradient in zip(gradients, expected, strict=True):
        assert gradient is not None
        assert torch.equal(gradient, expected_gradient)


def test_a_failure_in_another_thread_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "PAIRS_PER_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def work(first: int, last: int) -> None:
        if first:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        cpu.run_in_threads(work, 4, 10)


@EACH_SURROGATE
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_logit_that_is_not_finite_shows_in_its_image_alone(surrogate: str, bad: float) -> None:
    s, t = logits(0, 3, 20), logits(1, 3, 20)
    fine, fine_gradient = ours(s, t, 10.0, surrogate)
    for position in ((0, 5), (0, 19)):
        for broken in (0, 1):
            both = [s.clone(), t.clone()]
            both[broken][position] = bad
            value, gradient = ours(both[0], both[1], 10.0, surrogate)
            assert value[0].isnan()
            assert not gradient[0].isfinite().all()
            assert torch.equal(value[1:], fine[1:])
            assert torch.equal(gradient[1:], fine_gradient[1:])


def test_logits_may_be_views_and_parameters() -> None:
    s, t = logits(0, 9, 12), logits(1, 9, 12)
    expected = kendall_ranking_loss(s.T.contiguous(), t.T.contiguous(), 3.0)
    assert torch.equal(kendall_ranking_loss(s.T, t.T, 3.0), expected)
    parameter = torch.nn.Parameter(s.T.clone())
    loss = kendall_ranking_loss(parameter, t.T, 3.0)
    assert torch.equal(loss, expected)
    (gradient,) = torch.autograd.grad(loss, parameter)
    assert gradient.shape == parameter.shape


def test_a_function_transform_of_the_mean_sees_the_same_gradient() -> None:
    s, t = logits(0, 3, 12), logits(1, 3, 12)
    gradient = torch.func.grad(lambda x: kendall_ranking_loss(x, t, 3.0))(s)
    torch.testing.assert_close(gradient, ours(s, t, 3.0, "tanh")[1] / 3)


def test_without_numba_the_numbers_are_those_within_rounding() -> None:
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import torch; from rkkd_cli.losses import kendall_ranking_loss, kendall_tau_b\n"
        "torch.manual_seed(0); s, t = torch.randn(2, 4, 60)\n"
        "print(kendall_ranking_loss(s, t, 5.0).item(), kendall_tau_b(s, t).item())"
    )
    numbers = [float(number) for number in run(code).split()]
    torch.manual_seed(0)
    s, t = torch.randn(2, 4, 60)
    assert numbers[0] == pytest.approx(kendall_ranking_loss(s, t, 5.0).item(), abs=1e-6)
    assert numbers[0] != 0


@pytest.mark.slow
def test_importing_the_losses_leaves_numba_and_triton_out() -> None:
    code = (
        "import sys, torch; from rkkd_cli.losses import kendall_ranking_loss\n"
        "print('numba' in sys.modules, 'triton' in sys.modules)"
    )
    before = run("import sys, torch; print('numba' in sys.modules, 'triton' in sys.modules)")
    assert run(code) == before
    assert before.startswith("False")


def test_importing_the_losses_brings_nothing_but_what_torch_brings() -> None:
    code = (
        "import sys, torch; before = set(sys.modules)\n"
        "import rkkd_cli.losses\n"
        "found = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(found - set(sys.stdlib_module_names)))"
    )
    assert run(code) == "['rkkd_cli']"


@pytest.mark.slow
def test_where_nothing_can_be_kept_the_kernels_are_compiled_all_the_same(tmp_path: Path) -> None:
    code = (
        "import resource, torch; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "from rkkd_cli.losses import kendall_tau_b\n"
        "print(kendall_tau_b(torch.arange(5.0)[None], torch.arange(5.0)[None]).item())"
    )
    assert float(run(code, NUMBA_CACHE_DIR=str(tmp_path))) == 1
    assert not any(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())


def run(code: str, **env: str) -> str:
    surroundings = {**os.environ, **env, "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, check=True, timeout=120, env=surroundings,
    )  # fmt: skip
    return answer.stdout.strip()
