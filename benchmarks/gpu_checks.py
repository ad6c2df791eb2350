"""The checks of ``rkkd bench gpu``: what a device computes, beside what it must equal."""

import csv
import math
import random
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from gpu_speed import TOY
from kill_and_resume import Plan, attempt, compare, killed, wait
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore
from turns import Finding
from two_arms import TWO_ARMS, Study, batches_of, lockstep_of

from rkkd_cli.config.experiment import TrainingConfig
from rkkd_cli.losses import SURROGATES
from rkkd_cli.losses.kernels import torch_blocks
from rkkd_cli.losses.surrogates import COMPILED_SURROGATES
from rkkd_cli.train.device import use_deterministic_algorithms, use_precision
from rkkd_cli.train.distributed.process_group import (
    SINGLE_PROCESS,
    ProcessGroup,
    TorchrunGroup,
)
from rkkd_cli.train.lockstep import Lockstep
from rkkd_cli.train.recipe import build_optimizer

STEPS = 20
# From random weights, rounding grows tenfold in three to five steps: two runs whose weights differ
# by 1e-7 have losses 2e-5 apart after three steps, and 2e-2 after twenty.
FEW_STEPS = 3
SMALL_RUN = (
    "seeds=[0]", "training.epochs=3", "teacher.training.epochs=2", "dataset.limit_train=300",
    "dataset.limit_test=100", "--no-stack", "--no-figures",
)  # fmt: skip
LOSSES = ("ce", "kl", "rank", "test_ce", "test_kl", "test_rank")  # columns of metrics.csv


def check(what: str, error: float, bound: float) -> Finding:
    """Return whether an error is within its bound; one that is not a number is not."""
    within = "bit for bit" if bound == 0 else f"bound {bound:.0e}"
    figures = {"error": error if math.isfinite(error) else None, "bound": bound}
    outcome = "passed" if error <= bound else "failed"
    return Finding(what, outcome, f"largest error {error:.1e}, {within}", figures)


def cuda_graph(device: str, _: float) -> list[Finding]:
    """Compare the weights of two arms after steps that were replayed, and after eager ones."""
    where = torch.device(device)
    use_precision(where, "fp32")
    use_deterministic_algorithms(where, True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    eager, replayed = (_weights(_trained(device, graph=graph)) for graph in (False, True))
    what = f"CUDA graph and eager, weights after {STEPS} steps"
    return [check(what, relative_error(replayed, eager), 1e-3)]


def _trained(
    device: str,
    graph: bool = False,
    steps: int = STEPS,
    study: Study = TWO_ARMS,
    process_group: ProcessGroup = SINGLE_PROCESS,
) -> Lockstep:
    """Return arms that have taken some steps, the last of them replayed."""
    torch.manual_seed(0)  # of the teacher
    lockstep = lockstep_of("fp32", device, graph, study=study, process_group=process_group)
    batch = batches_of(lockstep)
    for _ in range(steps):
        batch()
    if graph and not (
        lockstep.step and lockstep.step.graph_step and lockstep.step.graph_step.recording
    ):
        raise RuntimeError("no graph was recorded")
    return lockstep


def _weights(lockstep: Lockstep) -> list[Tensor]:
    """Return the weights and buffers of all arms."""
    return [value for arm in lockstep.active for value in arm.student.state_dict().values()]


def _mean_losses(lockstep: Lockstep) -> list[Tensor]:
    """Return the mean of each loss of each arm over the steps taken."""
    means = [arm.meters.averages() for arm in lockstep.active]
    return [torch.tensor(one[loss]) for one in means for loss in ("ce", "kl", "rank")]


def relative_error(found: Iterable[Tensor], expected: Iterable[Tensor]) -> float:
    """Return the largest difference within a tensor, in parts of its largest value."""
    errors = [
        (one.double() - other.double()).abs().max() / other.abs().max().clamp(min=1e-30)
        for one, other in zip(found, expected, strict=True)
    ]
    return torch.stack(errors).max().item()  # NaN, if one of them is


def ranking_kernel(device: str, _: float) -> list[Finding]:
    """Compare the Triton kernel with float64, for every surrogate."""
    torch.manual_seed(0)
    return [_surrogate_check(device, name) for name in COMPILED_SURROGATES]


def _surrogate_check(device: str, surrogate: str) -> Finding:
    from rkkd_cli.losses.kernels.triton_tiles import losses_and_gradients

    index, agreement = COMPILED_SURROGATES.index(surrogate), SURROGATES[surrogate]
    errors = []
    for classes in (2, 10, 100, 1000, 5000):
        for k in (1.0, 10.0, 100.0):
            s, t = torch.randn(2, 3, classes, device=device)
            found = losses_and_gradients(s, t, k, index)
            exact = torch_blocks.losses_and_gradients(s.double(), t.double(), k, agreement)
            steepest = 2 * k / classes * (10 if surrogate == "tanh_product" else 1)
            errors += [
                (one - other).abs().max() / largest
                for one, other, largest in zip(found, exact, (1, steepest), strict=True)
            ]
    what = f"ranking kernel and float64, {surrogate}, 2 to 5000 classes"
    return check(what, torch.stack(errors).max().item(), 1e-6)


def optimisers(device: str, _: float) -> list[Finding]:
    """Compare fused optimisers with PyTorch's plain loops over the parameters."""
    recipes = (
        TrainingConfig(epochs=1, lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
        TrainingConfig(epochs=1, optimizer="adamw", lr=0.01, weight_decay=0.01),
    )
    return [_optimiser_check(device, recipe) for recipe in recipes]


def _optimiser_check(device: str, recipe: TrainingConfig) -> Finding:
    weights = []
    for fused in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.Linear(64, 100))
        optimizer = build_optimizer(model.to(device), recipe)
        for group in optimizer.param_groups:
            group |= {"fused": fused} if fused else {"fused": False, "foreach": False}
            group["lr"] = group["lr"] if fused else recipe.lr
        for _ in range(STEPS):
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape).to(device)
            optimizer.step()
        weights.append([parameter.detach() for parameter in model.parameters()])
    what = f"fused and plain {recipe.optimizer}, weights after {STEPS} steps"
    return check(what, relative_error(*weights), 1e-5)


def resume(device: str, _: float) -> list[Finding]:
    """Kill a run after its first epoch, resume it, and compare it with one that ran through."""
    words = (*SMALL_RUN, "--deterministic", "--device", device)
    folder = Path(tempfile.mkdtemp(prefix="rkkd-gpu-"))
    _run(folder, "through", words)
    plan = Plan(random.Random(0))
    plan.progress, plan.count, plan.minutes = "after rename checkpoint", 3, 10.0
    if not killed(folder, "killed", plan, words):  # the teacher's two epochs, and the arms' first
        raise RuntimeError("the run ended before it was killed")
    _run(folder, "killed", words)
    what = "killed and resumed with --deterministic, losses and weights"
    error = loss_difference(folder, "killed", "through")
    if error == 0:
        compare(folder, "killed", "through")  # all columns, weights, optimisers and generators
        shutil.rmtree(folder)
    return [check(what, error, 0.0)]


def _run(folder: Path, name: str, words: Sequence[str]) -> None:
    if wait(attempt(folder, name, 10.0, None, words)):
        *_, reason = (folder / f"{name}.log").read_text(encoding="utf-8").splitlines() or [""]
        raise RuntimeError(f"the run {name} in {folder} failed: {reason}")


def one_rank(device: str, _: float) -> list[Finding]:
    """Compare steps in a process group of one rank with steps without one."""
    where = torch.device(device)
    use_precision(where, "fp32")
    study = TWO_ARMS if where.type == "cuda" else TOY
    alone = _mean_losses(_trained(device, steps=FEW_STEPS, study=study))
    group = TorchrunGroup(0, 1, HashStore())
    try:
        in_group = _mean_losses(_trained(device, steps=FEW_STEPS, study=study, process_group=group))
    finally:
        group.destroy()
    how = "NCCL and SyncBatchNorm" if where.type == "cuda" else "gloo"
    what = f"one rank of DistributedDataParallel ({how}) and none, losses of {FEW_STEPS} steps"
    return [check(what, relative_error(in_group, alone), 1e-3)]


def loss_difference(folder: Path, name: str, other: str) -> float:
    """Return the largest difference of two runs' losses, in parts of the loss if it exceeds 1."""
    tables = []
    for run in (name, other):
        with (folder / "results" / run / "metrics.csv").open(encoding="utf-8", newline="") as file:
            tables.append([[float(row[key]) for key in LOSSES] for row in csv.DictReader(file)])
    found, expected = (torch.tensor(table, dtype=torch.float64) for table in tables)
    if found.shape != expected.shape:
        raise RuntimeError(f"{len(found)} rows instead of {len(expected)}")
    return ((found - expected).abs() / expected.abs().clamp(min=1)).max().item()
