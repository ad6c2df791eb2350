"""What a run is called: as its preset while it is the preset's, otherwise by what it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rkkd_cli.api.requests import ExperimentRequest, GridRequest
from rkkd_cli.config.description import Counts, short_title, with_counts
from rkkd_cli.config.experiment import DESCRIPTION_TEXTS, Experiment
from rkkd_cli.config.grid import CellSelection
from rkkd_cli.config.overrides import parse_override
from rkkd_cli.config.presets import (
    load_experiment,
    preset_names,
    preset_text,
    published_preset,
    to_toml,
)

SMALL = "rank_grad_cifar100_small"
OWN_THINGS = (
    "dataset.name=folder", "dataset.root=pictures/flowers", "teacher.model=torchvision:resnet18",
    "student.model=mynet:MyNet", "training.epochs=4",
)  # fmt: skip


def run_of(preset: str, *words: str, rank_grad: str = "both") -> Experiment:
    return ExperimentRequest(preset, [*map(parse_override, words)], rank_grad).experiment()


def grid_of(
    preset: str, axes: Mapping[str, tuple[Any, ...]], sample: int | None = None
) -> GridRequest:
    return GridRequest(preset, (), axes, CellSelection(sample), Path("nowhere"), None)


@pytest.mark.parametrize("preset", preset_names())
def test_a_preset_as_it_is_keeps_every_word(preset: str) -> None:
    experiment, own = run_of(preset), load_experiment(preset)
    assert experiment == own
    if own.vary:
        assert grid_of(preset, {}).experiment() == own


def test_other_data_and_models_are_called_by_what_they_are() -> None:
    experiment = run_of(SMALL, *OWN_THINGS)
    assert with_counts(experiment, Counts(5, 900)).title == (
        "folder `flowers`, 5 classes: torchvision:resnet18 → mynet:MyNet, 4 epochs; "
        f"based on {SMALL}, changed: dataset, teacher, student, epochs"
    )
    assert [getattr(experiment, key) for key in DESCRIPTION_TEXTS[1:]] == [""] * 5
    assert experiment.findings == load_experiment(SMALL).findings


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ("training.lr=0.3", "lr=0.3"),
        ("method.name=dkd", "method=dkd"),
        ("method.name=dkd method.dkd.beta=2", "method=dkd, method.dkd.beta=2"),
        ("dataset.limit_train=500 dataset.limit_test=90", "images, limit_test=90"),
        ("teacher.training.epochs=3 training.epochs=9", "epochs, teacher.epochs=3"),
        ("training.nesterov=true training.epochs=9", "epochs, nesterov=true"),
    ],
)
def test_a_changed_setting_has_its_value_if_the_title_has_not(words: str, changed: str) -> None:
    assert run_of("rank_grad", *words.split()).based_on == f"rank_grad, changed: {changed}"


def test_arms_that_are_left_out_are_a_change() -> None:
    assert run_of("rank_grad", rank_grad="on").based_on == "rank_grad, changed: arms kd_rank"


@pytest.mark.parametrize("words", ["seeds=0:9", "device=cpu", "threads=2", "precision=bf16"])
def test_seeds_and_machine_leave_the_title(words: str) -> None:
    experiment, own = run_of("rank_grad", words), load_experiment("rank_grad")
    assert (experiment.title, experiment.source) == (own.title, own.source)
    assert experiment.cost == ("" if words.startswith("seeds") else own.cost)


def test_a_folder_that_the_preset_leaves_open_is_named_and_is_no_change() -> None:
    experiment, own = run_of("rkd_imagenet", "dataset.root=images"), load_experiment("rkd_imagenet")
    assert experiment.title == (
        "folder `images`: torchvision:resnet34 → torchvision:resnet18, 100 epochs; "
        "based on rkd_imagenet"
    )
    assert (experiment.source, experiment.cost) == (own.source, own.cost)
    assert published_preset(experiment) == "rkd_imagenet"
    assert published_preset(run_of("rkd_imagenet", "dataset.root=a", "training.epochs=2")) is None


def test_with_another_method_a_run_still_has_the_published_values_of_its_preset() -> None:
    changes = ("method.name=mlkd", "method.standardize_logits=true")
    assert published_preset(run_of("kendall_pairs", *changes)) == "kendall_pairs"
    assert published_preset(run_of("kendall_pairs", *changes, "training.lr=1")) is None
    assert published_preset(run_of("kendall_pairs", "method.name=dkd", "method.dkd.beta=2")) is None


def test_a_typed_title_stays_and_what_is_changed_is_recorded() -> None:
    experiment = run_of("rank_grad", "title=Mine", "training.epochs=3")
    assert (experiment.title, experiment.cost) == ("Mine", "")
    assert experiment.based_on == "rank_grad, changed: epochs"


def test_a_figure_has_the_users_title_or_the_data_and_models() -> None:
    subject = "digits, 10 classes: digits_teacher → digits_student, 30 epochs"
    counts = Counts(10, 1397)
    changed = with_counts(run_of("rank_grad", "training.lr=1"), counts)
    assert [short_title(e, counts) for e in (run_of("rank_grad"), changed)] == [subject] * 2
    assert short_title(run_of("rank_grad", "title=Mine"), counts) == "Mine"


def test_a_limit_above_the_images_that_there_are_is_their_number() -> None:
    limited = ("dataset.limit_train=100000", "training.lr=1")
    recorded = with_counts(run_of("rank_grad", *limited), Counts(10, 1397))
    assert recorded.title.startswith("digits, 1,397 images, 10 classes: ")
    assert short_title(recorded, Counts(10, 1397)) in recorded.title
    again = ExperimentRequest("rank_grad", [*map(parse_override, (*limited, "training.epochs=9"))])
    assert again.experiment(recorded).title.startswith("digits, 1,397 images, 10 classes: ")


def test_a_copy_of_a_preset_is_known_by_its_title(tmp_path: Path) -> None:
    copy = tmp_path / "mine.toml"
    text = preset_text("rank_grad")
    copy.write_text(text, encoding="utf-8")
    assert run_of(str(copy)) == load_experiment("rank_grad")
    copy.write_text(text.replace("lr = 0.02", "lr = 0.5"), encoding="utf-8")
    assert run_of(str(copy)).based_on == "rank_grad, changed: lr=0.5"
    own_title = text.replace('title = "Digits', 'title = "My digits').replace("lr = 0.02", "lr = 1")
    copy.write_text(own_title, encoding="utf-8")
    assert run_of(str(copy)).title.startswith("My digits")
    assert run_of(str(copy), "training.epochs=2").based_on == "mine, changed: epochs"


def test_a_repeated_run_keeps_its_title_and_a_changed_one_names_all_changes(tmp_path: Path) -> None:
    record = tmp_path / "first" / "experiment.toml"
    record.parent.mkdir()
    words = ("dataset.limit_train=500", "title=Mine")
    record.write_text(to_toml(run_of("rank_grad", *words)), encoding="utf-8")
    assert run_of(str(record)).title == "Mine"
    again = run_of(str(record.parent), "training.epochs=3")
    assert again.based_on == "rank_grad, changed: images, epochs"
    subject = "digits, 500 images: digits_teacher → digits_student, 3 epochs"
    assert again.title == f"{subject}; based on {again.based_on}"
    back = run_of(str(record), "dataset.limit_train=none")
    assert back.title == load_experiment("rank_grad").title


def test_a_grid_is_the_presets_with_its_values_and_all_its_cells_only() -> None:
    preset, alphas = "alpha_temperature_digits", {"method.alpha": (0.1, 0.2)}
    assert grid_of(preset, alphas).experiment().based_on.endswith("vary.method.alpha=0.1,0.2")
    switched = grid_of(preset, {"training.nesterov": (False, True)}).experiment()
    assert "vary.nesterov=false,true" in switched.based_on
    sample = grid_of(preset, {}, sample=5).experiment()
    assert sample.based_on == f"{preset}, changed: cells"
    assert "grid of alpha × temperature" in sample.title
    whole = grid_of(preset, {}).experiment(recorded=sample)
    assert whole.title == load_experiment(preset).title
    assert grid_of(preset, {}, sample=5).experiment(recorded=whole).based_on.endswith("cells")


def test_a_run_that_goes_on_keeps_its_texts_and_its_classes() -> None:
    recorded = with_counts(run_of(SMALL, *OWN_THINGS), Counts(5, 900))
    request = ExperimentRequest(SMALL, [*map(parse_override, OWN_THINGS)])
    assert request.experiment(recorded) == recorded
    longer = [parse_override("training.epochs=6")]
    resumed = ExperimentRequest(None, longer, from_record=True).experiment(recorded)
    assert "5 classes: torchvision:resnet18 → mynet:MyNet, 6 epochs" in resumed.title
    retitled = [parse_override("title=Other")]
    other = ExperimentRequest(None, retitled, from_record=True).experiment(recorded)
    assert (other.title, other.based_on) == ("Other", recorded.based_on)
