"""What every preset says of itself: source, command, cost, finding and published figures."""

import csv
import shlex
from pathlib import Path

import pytest

from rkkd_cli.analysis.published import read_published
from rkkd_cli.cli.flags.experiment import COMPUTE, DATA, MODELS, OBJECTIVE, RANKING, TRAINING
from rkkd_cli.config.experiment import DESCRIPTION_TEXTS, Experiment
from rkkd_cli.config.grid import CellSelection
from rkkd_cli.config.overrides import Override, parse_override
from rkkd_cli.config.presets import (
    load_experiment,
    load_grid,
    preset_directory,
    preset_names,
    published_path,
)

ROOT = Path(__file__).parents[2]  # the package itself may be installed elsewhere
PUBLISHED = [p for p in preset_names() if (preset_directory() / f"{p}_published.csv").is_file()]
# Models that other runs of the preset have: a student of two cells, the teacher of its command.
OTHER_STUDENTS = {
    "alpha_temperature": ["ResNet18"],
    "coco_r101_r50": ["detectron2:faster_rcnn_R_101_FPN"],
}
# Arms without the ranking loss of which nothing is published, as the notes say.
UNPUBLISHED_ARMS = {
    "vit_cifar100": {"pvt_ce", "pvt_kd"},
    "vit_imagenet": {"kd"},
    "rkd_cub200": {"triplet", "rkd_normalized", "darkrank"},
    "rkd_cars196": {"triplet", "rkd_normalized", "darkrank"},
    "coco_r101_r50": {"kd", "dkd"},
}
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
def test_the_table_of_presets_lists_the_preset(preset: str) -> None:
    table = (ROOT / "ablations" / "README.md").read_text(encoding="utf-8")
    assert f"\n| `{preset}` | " in table


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_figures_are_of_arms_or_cells_that_exist(preset: str) -> None:
    experiment = load_experiment(preset)
    stated = read_published(published_path(preset), experiment)
    with_ranking = {arm.name for arm in experiment.resolved_arms if arm.experiment.rank.grad}
    if preset != "rank_grad_mobilenet":  # whose curves are with the ranking loss, too
        without = experiment.arms.keys() - with_ranking - UNPUBLISHED_ARMS.get(preset, set())
        assert stated.arms.keys() == without
    models = {
        model for row in published(preset) for model in (row.get("teacher"), row.get("student"))
    }
    known = {model for arm in experiment.resolved_arms for model in models_of(arm.experiment)}
    assert models <= known | {"", None, *OTHER_STUDENTS.get(preset, ())}


def models_of(experiment: Experiment) -> tuple[str, str]:
    return experiment.teacher.model, experiment.student.model


@pytest.mark.parametrize(
    ("words", "accuracy"),
    [
        ("method.name=ctkd", 75.37),
        ("method.name=dkd", 77.07),
        ("method.name=mlkd method.standardize_logits=true", 78.76),
        ("method.name=ce", 71.82),
    ],
)
def test_every_pair_has_its_published_accuracy_with_another_method(
    words: str, accuracy: float
) -> None:
    experiment = load_experiment("kendall_pairs", [parse_override(word) for word in words.split()])
    stated = read_published(published_path("kendall_pairs"), experiment)
    assert len(stated.arms) == 14
    assert stated.arms["resnet32x4-ShuffleV2"].acc == accuracy
    assert stated.teachers["resnet32x4"].acc == 79.42


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_accuracies_are_percentages_with_a_source(preset: str) -> None:
    rows = published(preset)
    columns = ("test_acc", "test_acc_percent", "test_recall_at_1", "test_ap")
    column = next(column for column in columns if column in rows[0])
    for row in rows:
        assert row[column] == "" or 1 < float(row[column]) < 100
        assert row.get("source", "stated in README.md")
        assert row.get("select", "last") in ("best", "last", "")  # a curve has its last epoch
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
    weights = experiment.teacher.weights
    assert weights is None or ":" in experiment.teacher.model, "weights are a library's"
