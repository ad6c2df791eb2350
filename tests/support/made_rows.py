"""Rows of metrics.csv and of a grid, made up for tests: records without a training."""

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from rkkd_cli.config.tasks import CLASSIFICATION, TaskRecords
from rkkd_cli.records.metrics import columns

ARMS = ("kd", "kd_rank")
# The keys of a grid, and values of two of them.
ALPHA, TEMPERATURE, GRAD = "method.alpha", "method.temperature", "rank.grad"
ALPHAS, TEMPERATURES = (0.1, 0.5, 0.9), (1.0, 4.0)


def metric_row(
    arm: str,
    seed: int,
    epoch: int,
    value: float = 1.0,
    task: TaskRecords = CLASSIFICATION,
    /,
    **named: float,
) -> dict[str, Any]:
    """Return a row of metrics.csv: ``value`` in every column that is not named."""
    row: dict[str, Any] = dict.fromkeys(columns(False, task=task), value)
    return row | {"arm": arm, "seed": seed, "epoch": epoch, "lr": 0.1} | named


def arm_seed_epoch(arms: Sequence[str], seeds: int, epochs: int) -> Iterator[tuple[str, int, int]]:
    """Yield what each row of a whole run is of, an arm after the other."""
    return itertools.product(arms, range(seeds), range(1, epochs + 1))


def accuracy(alpha: float, temperature: float = 0.0, grad: bool = False) -> float:
    """Return the accuracy of a grid's cell, which its values can be read off."""
    return 100 * alpha + temperature + 10 * grad


def grid_rows(
    values: Mapping[str, Sequence[Any]],
    accuracy: Callable[..., float] = accuracy,
    seeds: int = 2,
    failed: Collection[tuple[Any, ...]] = (),
) -> pd.DataFrame:
    """Return the rows of a grid over the values of its keys, and of one baseline at 99 %.

    Seed s of a cell has the accuracy of the cell's values, plus s.
    """
    rows: list[dict[str, Any]] = [
        {"arm": "baseline", "seed": 0, "last_acc": 99.0, "status": "done"},
        *(
            {
                "arm": "_".join(map(str, cell)),
                "seed": seed,
                **dict(zip(values, cell, strict=True)),
                "last_acc": accuracy(*cell) + seed,
                "status": "failed" if cell in failed else "done",
            }
            for cell in itertools.product(*values.values())
            for seed in range(seeds)
        ),
    ]
    return pd.DataFrame(rows)
