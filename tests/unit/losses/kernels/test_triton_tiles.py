"""The Triton kernel against float64: in Triton's interpreter, and on a GPU where there is one."""

import inspect
import os
import subprocess
import sys

import pytest
import torch

from rkkd_cli.losses import SURROGATES
from rkkd_cli.losses.kernels import cuda, torch_blocks
from rkkd_cli.losses.surrogates import COMPILED_SURROGATES

INTERPRETED = """
import numpy, torch
from rkkd_cli.losses import SURROGATES
from rkkd_cli.losses.kernels import torch_blocks
from rkkd_cli.losses.surrogates import COMPILED_SURROGATES
from rkkd_cli.losses.kernels.triton_tiles import losses_and_gradients

torch.manual_seed(0)
for batch, classes in ((1, 2), (2, 130)):
    for scale in (0.01, 1e4):
        s, t = torch.randn(2, batch, classes) * scale
        s[0, 0] = s[0, 1]
        for k in (0.1, 1e4):
            for index, name in enumerate(COMPILED_SURROGATES):
                value, gradient = losses_and_gradients(s, t, k, index)
                exact = torch_blocks.losses_and_gradients(
                    s.double(), t.double(), k, SURROGATES[name])
                largest = 2 * k / classes * (max(1, 8 * scale) if name == "tanh_product" else 1)
                case = (batch, classes, scale, k, name)
                assert (value - exact[0]).abs().max() <= 1e-6, case
                assert (gradient - exact[1]).abs().max() <= 1e-6 * largest, case
                assert value.abs().max() <= 1, case

flat = torch.zeros(2, 70)
for index in range(len(COMPILED_SURROGATES)):
    value, gradient = losses_and_gradients(flat, torch.randn(2, 70), 5.0, index)
    assert not value.any()
    again = losses_and_gradients(s, t, 5.0, index)
    assert all(map(torch.equal, again, losses_and_gradients(s, t, 5.0, index)))

counts = torch.tensor([40, 70])
s, t = torch.randn(2, 2, 70)
for index, name in enumerate(COMPILED_SURROGATES):
    value, gradient = losses_and_gradients(s, t, 5.0, index, counts)
    exact = torch_blocks.losses_and_gradients(
        s.double(), t.double(), 5.0, SURROGATES[name], counts=counts)
    assert (value - exact[0]).abs().max() <= 1e-6, name
    assert (gradient - exact[1]).abs().max() <= 1e-6, name
    assert not gradient[0, 40:].any()

numpy.seterr(all="ignore")
for bad in (float("nan"), float("inf")):
    for broken in range(2):
        both = [torch.randn(2, 70), torch.randn(2, 70)]
        both[broken][0, 66] = bad
        for index in range(len(COMPILED_SURROGATES)):
            value, gradient = losses_and_gradients(*both, 5.0, index)
            assert value.isnan().tolist() == [True, False]
            assert gradient[1].isfinite().all() and not gradient[0].isfinite().all()
print("held")
"""


@pytest.mark.slow
def test_the_interpreted_kernel_is_float64_to_a_millionth() -> None:
    pytest.importorskip("triton", reason="Triton comes with PyTorch for Linux and CUDA")
    answer = subprocess.run(
        [sys.executable, "-c", INTERPRETED], capture_output=True, text=True, timeout=120,
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )  # fmt: skip
    assert answer.stdout.strip() == "held", answer.stderr


def test_the_kernel_has_three_special_functions_a_pair_and_adds_nothing_atomically() -> None:
    pytest.importorskip("triton", reason="Triton comes with PyTorch for Linux and CUDA")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    if "constexprs" not in inspect.signature(ASTSource).parameters:
        pytest.skip("Triton before 3.3, of PyTorch 2.6, is asked for its code in another way")
    from rkkd_cli.losses.kernels.triton_tiles import SPECIAL_FUNCTIONS, tile

    names = ("s", "t", "partial", "agreed")
    types = dict.fromkeys(names, "*fp32") | {"classes": "i32", "k": "fp32"}
    source = ASTSource(
        fn=tile,
        signature=types | dict.fromkeys(("counts", "SURROGATE", "SIZE"), "constexpr"),
        constexprs={"counts": None, "SURROGATE": COMPILED_SURROGATES.index("tanh"), "SIZE": 32},
    )
    options = {"num_warps": 1, "enable_fp_fusion": True}  # the default of Triton before 3.10
    compiled = compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    text = compiled.asm["ptx"]
    pairs_per_thread = 32 * 32 // 32
    special = text.count("ex2.approx") + text.count("div.full") + text.count("rcp.approx")
    assert special == SPECIAL_FUNCTIONS * pairs_per_thread
    assert "atom." not in text
    assert "\tred." not in text


def test_tensors_on_a_cpu_are_not_for_the_gpus_kernel() -> None:
    assert not cuda.supports(torch.zeros(1, 2), torch.zeros(1, 2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("surrogate", COMPILED_SURROGATES)
@pytest.mark.parametrize("classes", [10, 1000, 5000])
def test_the_kernel_on_a_gpu_is_float64_to_a_millionth(surrogate: str, classes: int) -> None:
    s, t = torch.randn(2, 3, classes, device="cuda")
    assert cuda.supports(s, t)
    index = COMPILED_SURROGATES.index(surrogate)
    value, gradient = cuda.losses_and_gradients(s, t, 10.0, index)
    exact = torch_blocks.losses_and_gradients(s.double(), t.double(), 10.0, SURROGATES[surrogate])
    assert (value - exact[0]).abs().max().item() <= 1e-6
    largest = 20 / classes * (10 if surrogate == "tanh_product" else 1)
    assert (gradient - exact[1]).abs().max().item() <= 1e-6 * largest
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = cuda.losses_and_gradients(s, t, 10.0, index)
    graph.replay()
    assert torch.equal(captured[1], gradient)
