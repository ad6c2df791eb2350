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
    preset_text,
)

ROOT = Path(__file__).parents[2]  # the package itself may be installed elsewhere
# What others have published, where it was collected; the presets have copies of it.
REFERENCE = ROOT.parent / "shared" / "reference"
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
    assert experiment.teacher.checkpoint is None
    assert "shared/" not in preset_text(preset)


def test_the_program_reads_no_collection_of_published_figures() -> None:
    files = list((ROOT / "rkkd_cli").rglob("*.py"))
    assert files
    assert not [file for file in files if "shared/reference" in file.read_text(encoding="utf-8")]


needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the collection is not here")


@needs_reference
@pytest.mark.parametrize(
    ("preset", "name"),
    [
        ("rank_grad_cifar100", "rkkd_published_curves.csv"),
        ("alpha_temperature", "alpha_temperature_published.csv"),
    ],
)
def test_a_whole_table_is_the_collected_one(preset: str, name: str) -> None:
    rows = published(preset)
    assert all(row.pop("source") for row in rows)
    assert rows == rows_of(REFERENCE / name)


@needs_reference
def test_the_plugin_figures_are_the_collected_ones() -> None:
    experiment = load_experiment("kendall_plugin")
    models = [experiment.teacher.model, experiment.student.model]
    pairs = rows_of(REFERENCE / "cifar100_pairs_published.csv")
    pair = next(row for row in pairs if [row["teacher"], row["student"]] == models)
    rows = published("kendall_plugin")
    stated = {row["arm"]: float(row["test_acc"]) for row in rows}
    for method in ("kd", "dkd", "dist"):
        assert stated[method] == float(pair[method])
    alone = [float(row["test_acc"]) for row in rows if not row["arm"]]
    assert alone == [float(pair["teacher_percent"]), float(pair["student_percent"])]


@needs_reference
@pytest.mark.parametrize(
    ("preset", "dataset"), [("rkd_cifar100", "CIFAR-100"), ("rkd_imagenet", "ImageNet")]
)
def test_the_rkd_figures_are_the_collected_ones(preset: str, dataset: str) -> None:
    rows = rows_of(REFERENCE / "rkd_published.csv")
    pair = next(row for row in rows if row["dataset"] == dataset)
    stated = {row["arm"]: float(row["test_acc"]) for row in published(preset)}
    columns = {"": "teacher_percent", "ce": "student_percent", "rkd": "distilled_percent"}
    assert stated == {arm: float(pair[column]) for arm, column in columns.items()}


@needs_reference
def test_the_simkd_figures_are_the_collected_ones() -> None:
    collected = rows_of(REFERENCE / "simkd_variants_published.csv")
    experiment = load_experiment("simkd_variants")
    stated = {row["arm"]: row for row in published("simkd_variants")}
    assert {row["baseline_percent"] for row in collected} == {stated.pop("last_l2")["test_acc"]}
    arms = {_variant(experiment.arms[arm]): row for arm, row in stated.items()}
    assert len(arms) == len(collected) == len(experiment.arms) - 1
    for row in collected:
        found = arms[_collected_variant(row)]
        assert float(found["test_acc"]) == float(row["test_acc_percent"])
        assert float(found["std"]) == float(row["std"])
        assert row["best_lr"] == str(experiment.training.lr)


Variant = tuple[str, bool, bool, str]


def _variant(arm: dict[str, Any]) -> Variant:
    settings = arm["method"]["simkd"]
    return (
        settings.get("projectors", "last"),
        settings.get("projector_bias", False),
        settings.get("teacher_correct_only", False),
        settings.get("feature_loss", "l2"),
    )


def _collected_variant(row: Row) -> Variant:
    words = {"multiple": "two_thirds_and_last", "all": "all", "last": "last"}
    projectors = words[row["projectors"].split()[0]]
    bias, correct_only = row["projector_bias"] == "yes", row["teacher_correct_only"] == "yes"
    return projectors, bias, correct_only, row["feature_loss"]
