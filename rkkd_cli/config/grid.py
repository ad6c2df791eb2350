"""Grids: the arms made from the values of the varied keys, and their baselines.

A cell is one combination of values, and an arm. A baseline is the student without distillation
(method ``ce``). There is one for each combination of the varied keys that also influence it.
"""

import hashlib
import itertools
import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rkkd_cli.config.arms import SHARED_KEYS, Arm
from rkkd_cli.config.experiment import ARM_NAME, DESCRIPTIVE_KEYS, Experiment
from rkkd_cli.config.overrides import Override, apply_overrides, flatten
from rkkd_cli.config.tasks import TASKS
from rkkd_cli.config.validation import check_known_key
from rkkd_cli.errors import UserError, unknown_name

BASELINE = "baseline"
# The methods of the labels alone, by task.
WITHOUT_DISTILLATION = {task.name: task.hard_term for task in TASKS.values()}
DISTILLATION_PREFIXES = ("method.", "rank.")  # of the keys that do not influence a baseline
SAMPLERS = ("random", "sobol")
MAX_CELLS = 1000
MAX_DRAWS_PER_CELL = 64  # in a sample; cells that are still missing then are taken in order

# Raised whenever the training code changes so that the same experiment gives other numbers.
NUMBERS_VERSION = 2

Axes = Mapping[str, Sequence[Any]]
Cell = dict[str, Any]
Arms = dict[str, dict[str, Any]]


def is_baseline(arm: str) -> bool:
    """Whether the name is that of a baseline arm."""
    return arm == BASELINE or arm.startswith(f"{BASELINE}_")


def check_axes(axes: Axes) -> None:
    """Raise UserError for a key that cannot be varied."""
    for key in axes:
        if key.partition(".")[0] in SHARED_KEYS:
            hint = "; use --seeds" if key == "seeds" else ""
            raise UserError(f"{key} cannot be varied: all arms of a run share it{hint}")
        check_known_key(key)


def count_cells(axes: Axes) -> int:
    """Return the number of cells of the whole product."""
    return math.prod(len(values) for values in axes.values())


def product(axes: Axes) -> Iterator[Cell]:
    """Yield every combination of values; the last key varies fastest."""
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def sample(axes: Axes, count: int, sampler: str, seed: int) -> list[Cell]:
    """Return ``count`` different cells of the product, the same ones for the same seed.

    ``random`` draws cells independently; ``sobol`` draws them from a scrambled Sobol sequence,
    which covers the values of every key more evenly. A larger sample begins with the smaller one.
    Raises UserError.
    """
    if sampler not in SAMPLERS:
        raise unknown_name("sampler", sampler, SAMPLERS)
    total = count_cells(axes)
    if not 1 <= count <= total:
        raise UserError(
            f"--sample {count}: the whole grid has {total:,} cells, so take 1 to {total:,}"
        )
    indices = _random_indices(total, seed) if sampler == "random" else _sobol_indices(axes, seed)
    distinct = dict.fromkeys(itertools.islice(indices, MAX_DRAWS_PER_CELL * count))
    missing = (index for index in range(total) if index not in distinct)
    drawn = itertools.islice(itertools.chain(distinct, missing), count)
    return [_cell_at(axes, index) for index in drawn]


def _random_indices(total: int, seed: int) -> Iterator[int]:
    generator = random.Random(seed)
    while True:
        yield generator.randrange(total)


def _sobol_indices(axes: Axes, seed: int) -> Iterator[int]:
    from scipy.stats import qmc

    sequence = qmc.Sobol(len(axes), rng=seed)
    lengths = [len(values) for values in axes.values()]
    while True:
        for point in sequence.random(1024):
            index = 0
            for coordinate, length in zip(point, lengths, strict=True):
                index = index * length + int(coordinate * length)
            yield index


def _cell_at(axes: Axes, index: int) -> Cell:
    """Return a cell by its index in the product."""
    cell: Cell = {}
    for key, values in reversed(list(axes.items())):
        index, value_index = divmod(index, len(values))
        cell[key] = values[value_index]
    return {key: cell[key] for key in axes}


@dataclass(frozen=True)
class CellSelection:
    """Which cells of the product are trained: all, or a sample of ``sample`` cells.

    ``any_size`` allows more than ``MAX_CELLS``.
    """

    sample: int | None = None
    sampler: str = "random"
    seed: int = 0
    any_size: bool = False

    def cells(self, axes: Axes) -> list[Cell]:
        """Return the selected cells. Raises UserError, also if they are too many."""
        check_axes(axes)
        count = count_cells(axes) if self.sample is None else self.sample
        if count > MAX_CELLS and not self.any_size:
            raise UserError(
                f"the grid has {count:,} cells; add --yes to train more than {MAX_CELLS:,}, or "
                "take some of them with --sample N"
            )
        if self.sample is None:
            return list(product(axes))
        return sample(axes, self.sample, self.sampler, self.seed)


def with_cells(experiment: Experiment, selection: CellSelection) -> Experiment:
    """Return the experiment with the selected cells as arms. Raises UserError."""
    arms = grid_arms(selection.cells(experiment.vary), experiment.task)
    return experiment.model_copy(update={"arms": arms})


def grid_arms(cells: Sequence[Cell], task: str = "classification") -> Arms:
    """Return the baselines and the cells as arms: ``{name: overrides}``."""
    arms: Arms = {}
    alone = {"method": {"name": WITHOUT_DISTILLATION[task]}, "rank": {"grad": False}}
    for cell in cells:
        shared = {k: v for k, v in cell.items() if not k.startswith(DISTILLATION_PREFIXES)}
        name = _arm_name("_".join([BASELINE, *_name_parts(shared)]), shared)
        arms.setdefault(name, _arm_overrides(shared, alone))
    for cell in cells:
        name = _arm_name("_".join(_name_parts(cell)), cell)
        arms[_hashed_name(cell) if name in arms else name] = _arm_overrides(cell, {})
    return arms


def _arm_overrides(cell: Cell, base: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the cell's values, as a nested table with lists as in TOML."""
    return apply_overrides(
        base,
        [Override(k, list(v) if isinstance(v, tuple) else v) for k, v in cell.items()],
    )


def _name_parts(cell: Cell) -> list[str]:
    """Return ``alpha=0.1`` per key, or the whole key if its last part is that of two keys."""
    last_parts = [key.rpartition(".")[2] for key in cell]
    return [
        f"{last if last_parts.count(last) == 1 else key}={_format_in_name(value)}"
        for last, (key, value) in zip(last_parts, cell.items(), strict=True)
    ]


def _format_in_name(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "+".join(_format_in_name(item) for item in value)
    text = repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
    return re.sub(r"[^A-Za-z0-9_.+-]", "-", text)


def _arm_name(name: str, cell: Cell) -> str:
    """Return ``name`` if an arm can have it, else a hash of the cell."""
    return name if ARM_NAME.fullmatch(name) else _hashed_name(cell, name)


def _hashed_name(cell: Cell, name: str = "") -> str:
    prefix = f"{BASELINE}_" if is_baseline(name) else "cell-"
    return prefix + _sha256(cell)[:12]


def varied_values(experiment: Experiment, arm: str) -> Cell:
    """Return the arm's value of each varied key, or None if the key does not influence the arm."""
    overrides = flatten(experiment.arms[arm])
    values = {key: overrides.get(key) for key in experiment.vary}
    if is_baseline(arm):
        values |= {key: None for key in values if key.startswith(DISTILLATION_PREFIXES)}
    return values


def varied_texts(experiment: Experiment, arm: str) -> dict[str, str]:
    """Return the arm's entry in the column of each varied key: as in TOML, lists as JSON."""
    values = varied_values(experiment, arm)
    return {
        key: "" if value is None else value if isinstance(value, str) else json.dumps(value)
        for key, value in values.items()
    }


def neutral_keys(experiment: Experiment) -> set[str]:
    """Return the keys on which no number depends.

    ``cache_teacher`` is one of them, except where it rounds (``fp16``) or keeps the top classes
    only. A resumed run checks the device itself.
    """
    exact = {"cache_teacher"} if experiment.cache_teacher in ("off", "exact") else set()
    return {*DESCRIPTIVE_KEYS, "device", "decoders", "vary"} | exact


def cell_settings(experiment: Experiment) -> dict[str, Any]:
    """Return all that the numbers of a resolved arm depend on, apart from the seed."""
    excluded = neutral_keys(experiment) | {"arms", "seeds"}
    return experiment.model_dump(mode="json", exclude=excluded)


def cell_hash(arm: Arm, seed: int) -> str:
    """Return a hash that identifies a cell: of its experiment, its seed and the code's version."""
    return _sha256([cell_settings(arm.experiment), seed, NUMBERS_VERSION])[:16]


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
