"""Grids: the arms that the values of the varied keys make, and their baselines.

A cell is one combination of values; it is an arm. A baseline is the student without
distillation (method ``ce``): one for each combination of the varied keys that concern it too.
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

from rkkd_cli.config.arms import NOT_FOR_ARMS, Arm
from rkkd_cli.config.experiment import ARM_NAME, TOLD, Experiment
from rkkd_cli.config.overrides import Override, apply_overrides, flatten
from rkkd_cli.config.validation import check_known_key
from rkkd_cli.errors import UserError, unknown_name

BASELINE = "baseline"
NOT_DISTILLING = {"method": {"name": "ce"}, "rank": {"grad": False}}
OF_DISTILLATION = ("method.", "rank.")
SAMPLERS = ("random", "sobol")
MOST_CELLS = 1000
MOST_DRAWS_PER_CELL = 64  # of a sample; what is then still missing is taken in order

# Raised whenever the training code changes so that the same experiment gives other numbers.
NUMBERS_VERSION = 2

# What stands in an experiment without changing a cell's numbers, or is none of one cell's.
NOT_OF_A_CELL = {*TOLD, "device", "decoders", "arms", "vary", "seeds"}

Axes = Mapping[str, Sequence[Any]]
Cell = dict[str, Any]
Arms = dict[str, dict[str, Any]]


def is_baseline(arm: str) -> bool:
    """Tell whether the name is that of a baseline arm."""
    return arm == BASELINE or arm.startswith(f"{BASELINE}_")


def check_axes(axes: Axes) -> None:
    """Raise UserError for a key that cannot be varied."""
    for key in axes:
        if key.partition(".")[0] in (*NOT_FOR_ARMS, "vary"):
            say = "; use --seeds" if key == "seeds" else ""
            raise UserError(f"{key} cannot be varied: all arms of a run share it{say}")
        check_known_key(key)


def count_cells(axes: Axes) -> int:
    """Return how many cells the whole product has."""
    return math.prod(len(values) for values in axes.values())


def product(axes: Axes) -> Iterator[Cell]:
    """Yield every combination of values; the last key varies fastest."""
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def sample(axes: Axes, count: int, sampler: str, seed: int) -> list[Cell]:
    """Return ``count`` different cells of the product, always the same ones for a seed.

    ``random`` draws cells one after another; ``sobol`` takes those that a scrambled Sobol sequence
    falls into, which covers every key more evenly. A larger sample begins with the smaller one.
    Raises UserError.
    """
    if sampler not in SAMPLERS:
        raise unknown_name("sampler", sampler, SAMPLERS)
    total = count_cells(axes)
    if not 1 <= count <= total:
        raise UserError(f"--sample {count}: the whole grid has {total:,} cells, so take 1 to that")
    places = _random_places(total, seed) if sampler == "random" else _sobol_places(axes, seed)
    found = dict.fromkeys(itertools.islice(places, MOST_DRAWS_PER_CELL * count))
    rest = (place for place in range(total) if place not in found)
    drawn = itertools.islice(itertools.chain(list(found), rest), count)
    return [_cell_at(axes, place) for place in drawn]


def _random_places(total: int, seed: int) -> Iterator[int]:
    generator = random.Random(seed)
    while True:
        yield generator.randrange(total)


def _sobol_places(axes: Axes, seed: int) -> Iterator[int]:
    from scipy.stats import qmc

    sequence = qmc.Sobol(len(axes), rng=seed)
    lengths = [len(values) for values in axes.values()]
    while True:
        for point in sequence.random(1024):
            place = 0
            for share, length in zip(point, lengths, strict=True):
                place = place * length + int(share * length)
            yield place


def _cell_at(axes: Axes, place: int) -> Cell:
    """Return the cell at a place of the product."""
    cell: Cell = {}
    for key, values in reversed(list(axes.items())):
        place, index = divmod(place, len(values))
        cell[key] = values[index]
    return {key: cell[key] for key in axes}


@dataclass(frozen=True)
class Choice:
    """Which cells of the product are wanted: all, or a sample; ``any_size`` lifts the limit."""

    sample: int | None = None
    sampler: str = "random"
    seed: int = 0
    any_size: bool = False

    def cells(self, axes: Axes) -> list[Cell]:
        """Return the wanted cells. Raises UserError, also for more than ``MOST_CELLS``."""
        check_axes(axes)
        count = count_cells(axes) if self.sample is None else self.sample
        if count > MOST_CELLS and not self.any_size:
            raise UserError(
                f"the grid has {count:,} cells; for more than {MOST_CELLS:,} say --yes, or take "
                "some of them with --sample N"
            )
        if self.sample is None:
            return list(product(axes))
        return sample(axes, self.sample, self.sampler, self.seed)


def with_cells(experiment: Experiment, choice: Choice) -> Experiment:
    """Return the experiment with the cells of its varied keys as arms. Raises UserError."""
    arms = grid_arms(choice.cells(experiment.vary))
    return experiment.model_copy(update={"arms": arms})


def grid_arms(cells: Sequence[Cell]) -> Arms:
    """Return the baselines and the cells as arms: ``{name: overrides}``."""
    arms: Arms = {}
    for cell in cells:
        shared = {k: v for k, v in cell.items() if not k.startswith(OF_DISTILLATION)}
        name = "_".join([BASELINE, *_words(shared)])
        arms.setdefault(_short(name, shared), _nested(shared, NOT_DISTILLING))
    for cell in cells:
        name = _short("_".join(_words(cell)), cell)
        arms[_digest_name(cell) if name in arms else name] = _nested(cell, {})
    return arms


def _nested(cell: Cell, base: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in cell.items()}
    return apply_overrides(base, [Override(key, value) for key, value in plain.items()])


def _words(cell: Cell) -> list[str]:
    """Return ``alpha=0.1`` for each key; the whole key where its last part names two."""
    last = [key.rpartition(".")[2] for key in cell]
    return [
        f"{short if last.count(short) == 1 else key}={_spelt(value)}"
        for short, (key, value) in zip(last, cell.items(), strict=True)
    ]


def _spelt(value: Any) -> str:
    """Return a value as a part of a name."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "+".join(_spelt(one) for one in value)
    text = repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
    return re.sub(r"[^A-Za-z0-9_.+-]", "-", text)


def _short(name: str, cell: Cell) -> str:
    return name if ARM_NAME.fullmatch(name) else _digest_name(cell, name)


def _digest_name(cell: Cell, name: str = "") -> str:
    text = json.dumps(cell, sort_keys=True)
    prefix = f"{BASELINE}_" if is_baseline(name) else "cell-"
    return prefix + hashlib.sha256(text.encode()).hexdigest()[:12]


def varied_values(experiment: Experiment, arm: str) -> Cell:
    """Return the arm's value of each varied key; None where the key says nothing of the arm."""
    overrides = flatten(experiment.arms[arm])
    values = {key: overrides.get(key) for key in experiment.vary}
    if is_baseline(arm):
        values |= {key: None for key in values if key.startswith(OF_DISTILLATION)}
    return values


def varied_texts(experiment: Experiment, arm: str) -> dict[str, str]:
    """Return what stands in the columns of the varied keys: TOML's words, lists as JSON."""
    values = varied_values(experiment, arm)
    return {
        key: "" if value is None else value if isinstance(value, str) else json.dumps(value)
        for key, value in values.items()
    }


def unrounded(experiment: Experiment) -> set[str]:
    """Return the key of the teacher's kept outputs where these are exact and change no number."""
    return set() if experiment.cache_teacher == "fp16" else {"cache_teacher"}


def cell_hash(arm: Arm, seed: int) -> str:
    """Return what identifies a cell: a hash of experiment, seed and the code's version."""
    excluded = NOT_OF_A_CELL | unrounded(arm.experiment)
    content = arm.experiment.model_dump(mode="json", exclude=excluded)
    text = json.dumps([content, seed, NUMBERS_VERSION], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
