"""What every preset says of itself: source, command, cost, finding and published figures."""

import csv
import shlex
from pathlib import Path
from typing import Any

import pytest

from rkkd_cli.cli.flags.experiment import COMPUTE, DATA, MODELS, OBJECTIVE, RANKING, TRAINING
from rkkd_cli.config.experiment import DESCRIPTION_TEXTS, Experiment
from rkkd_cli.config.grid import CellSelection, varied_values
from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import (
    load_experiment,
    load_grid,
    preset_directory,
    preset_names,
)

ROOT = Path(__file__).parents[2]  # the package itself may be installed elsewhere
PUBLISHED = [p for p in preset_names() if (preset_directory() / f"{p}_published.csv").is_file()]
NONE_PUBLISHED = [preset for preset in preset_names() if preset not in PUBLISHED]
NOTHING = ("nothing published stands beside", "no published figures", "publishes nothing")
LONGEST_LINE = 120
GROUPS = (DATA, MODELS, TRAINING, OBJECTIVE, RANKING, COMPUTE)
FLAG_KEYS = {flag.name: flag.key for group in GROUPS for flag in group if flag.key}

Row = dict[str, str]


def rows_of(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def published(preset: str) -> list[Row]:
    return rows_of(preset_directory() / f"{preset}_published.csv")


@pytest.mark.parametrize("preset", preset_names())
def test_a_preset_states_source_command_cost_and_finding(preset: str) -> None:
    experiment = load_experiment(preset)
    for key in DESCRIPTION_TEXTS:
        assert getattr(experiment, key), f"{preset} has no {key}"
    for line in (experiment.title, experiment.command, experiment.finding):
        assert "\n" not in line
        assert len(line) <= LONGEST_LINE


@pytest.mark.parametrize("preset", preset_names())
def test_the_cost_of_a_preset_counts_what_it_trains(preset: str) -> None:
    experiment = load_experiment(preset)
    students = f"{len(experiment.arms)} {'students' if experiment.vary else 'arms'}"
    seeds = f"{len(experiment.seeds)} seed"
    for count in (f"{experiment.training.epochs} epochs", students, seeds):
        assert count in experiment.cost
    recipe = experiment.teacher.training
    assert recipe is not None
    assert f"{recipe.epochs} epochs" in experiment.cost


@pytest.mark.parametrize("preset", preset_names())
def test_the_command_of_a_preset_trains_what_the_file_says(preset: str) -> None:
    program, command, name, *words = shlex.split(load_experiment(preset).command)
    assert (program, name) == ("rkkd", preset)
    assert len(words) % 2 == 0, "every flag of a command has a value"
    flags = [word.removeprefix("--").replace("-", "_") for word in words[::2]]
    given = [Override(FLAG_KEYS[f], value) for f, value in zip(flags, words[1::2], strict=True)]
    experiment = load_experiment(name, given)
    if command == "grid":
        assert load_grid(name, given, {}, CellSelection()) == experiment
    else:
        assert command == "run"
        assert not experiment.vary


@pytest.mark.parametrize("preset", preset_names())
def test_the_readme_lists_the_preset(preset: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"\n| `{preset}` | " in readme


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_figures_are_of_arms_or_cells_that_exist(preset: str) -> None:
    experiment = load_experiment(preset)
    places = [place_of(row, experiment) for row in published(preset)]
    stated = {place for place in places if None not in place}
    assert stated
    if experiment.vary:
        known = {tuple(varied_values(experiment, arm).values()) for arm in experiment.arms}
    else:
        known = {(arm,) for arm in experiment.arms}
    assert stated <= known


def place_of(row: Row, experiment: Experiment) -> tuple[Any, ...]:
    """Return the arm, or the values of the varied keys, of which a row speaks; None is none."""
    if not experiment.vary:
        return (row["arm"] or None,)
    values = [row[key.rpartition(".")[2]] for key in experiment.vary]
    return tuple(float(value) if value else None for value in values)


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_accuracies_are_percentages_with_a_source(preset: str) -> None:
    rows = published(preset)
    column = "test_acc" if "test_acc" in rows[0] else "test_acc_percent"
    for row in rows:
        assert row[column] == "" or 1 < float(row[column]) < 100
        assert row.get("source", "stated in README.md")
    listed = (preset_directory() / "README.md").read_text(encoding="utf-8")
    assert f"`{preset}_published.csv`" in listed


@pytest.mark.parametrize("preset", NONE_PUBLISHED)
def test_a_preset_without_published_figures_says_so(preset: str) -> None:
    notes = " ".join(load_experiment(preset).notes.split())
    assert any(words in notes for words in NOTHING)


@pytest.mark.parametrize("preset", preset_names())
def test_a_preset_needs_no_file_of_its_own(preset: str) -> None:
    experiment = load_experiment(preset)
    assert experiment.dataset.root is None
    assert experiment.teacher.weights is None
