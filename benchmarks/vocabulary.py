"""Losses of a vocabulary: the ranking loss of 64 of 151,936 classes beside KL, time and memory.

    python benchmarks/vocabulary.py [--rows 128] [--rounds 9] [--threads 2] [--keep-freed-memory]

Value and gradient of random logits, float32 and bfloat16. Each contestant is a process of its own,
and they take turns; a ratio is of one round, to KL of the same dtype. Memory is what the peak of
resident memory grows by in another process, whose first call, on one row, is not counted; the
logits are not counted either, their gradient is. Where freed memory is kept, as a run of rkkd keeps
it, large tensors cost less.
"""

import argparse
import multiprocessing as mp
import resource
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from turns import Row, Step, parser, ratios, row, show, take_turns

from rkkd_cli.losses import KendallRankingLoss, in_blocks, kl_divergence
from rkkd_cli.train.device import keep_freed_memory, use_threads

CLASSES = 151_936
LIMIT = 1.2  # times KL
KL = "kl_divergence"
LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    KL: kl_divergence,
    "kl_divergence in blocks of 16 rows": partial(in_blocks, kl_divergence, rows_per_block=16),
    "ranking loss, top:64": KendallRankingLoss(channels="top:64"),
    "ranking loss, union:64": KendallRankingLoss(channels="union:64"),
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Contestant(NamedTuple):
    """A loss by its name, and what it gets."""

    loss: str
    dtype: str
    rows: int
    threads: int | None
    keeps_memory: bool

    def step(self) -> Step:
        """Return one value and gradient; called in the contestant's own process."""
        use_threads(self.threads)
        if self.keeps_memory:
            keep_freed_memory()
        generator = torch.Generator().manual_seed(0)
        student, teacher = (
            torch.empty(self.rows, CLASSES, dtype=DTYPES[self.dtype]).normal_(
                0, 3, generator=generator
            )
            for _ in range(2)
        )
        return partial(self._value_and_gradient, student.requires_grad_(), teacher)

    def _value_and_gradient(self, student: Tensor, teacher: Tensor) -> None:
        torch.autograd.grad(LOSSES[self.loss](student, teacher), student)

    def growth(self) -> float:
        """Return the megabytes by which the peak grows; called in a process of its own."""
        self._replace(rows=1).step()()
        step = self.step()
        unit = 1e6 if sys.platform == "darwin" else 1e6 / 1024
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        step()
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / unit


def measure(options: argparse.Namespace, dtype: str) -> list[Row]:
    """Return the rows of all losses of one dtype."""
    threads, keeps = options.threads, options.keep_freed_memory
    contestants = {loss: Contestant(loss, dtype, options.rows, threads, keeps) for loss in LOSSES}
    seconds = take_turns({name: one.step for name, one in contestants.items()}, options.rounds, 1)
    rows = []
    for name, one in contestants.items():
        with mp.get_context("spawn").Pool(1) as pool:
            memory = pool.apply(one.growth)
        what = f"{dtype}: {name}"
        rows.append(
            row(what, [1e3 * each for each in seconds[name]], "ms", f"{memory:,.0f} MB more")
        )
        if name != KL:
            bar = f"at most {LIMIT}" if name.startswith("ranking") else ""
            rows.append(row("  times KL", ratios(seconds[name], seconds[KL]), "", bar))
    return rows


def main() -> None:
    """Measure and print."""
    flags = parser(__doc__)
    flags.add_argument("--rows", type=int, default=128)
    flags.add_argument("--rounds", type=int, default=9)
    flags.add_argument("--threads", type=int, default=None)
    flags.add_argument("--keep-freed-memory", action="store_true", help="as a run does")
    options = flags.parse_args()
    print(f"{options.rows} rows of {CLASSES:,} classes")
    show([one for dtype in DTYPES for one in measure(options, dtype)])


if __name__ == "__main__":
    main()
