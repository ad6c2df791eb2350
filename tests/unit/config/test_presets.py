"""Presets: found by name or path, read, and written back unchanged."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rkkd_cli.cli.flags.flag import split_words
from rkkd_cli.config.dataset import DatasetConfig
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.grid import CellSelection, varied_texts
from rkkd_cli.config.overrides import Override, parse_override
from rkkd_cli.config.presets import (
    load_experiment,
    load_grid,
    preset_directory,
    preset_names,
    preset_path,
    preset_text,
    read_table,
    to_toml,
    word_of,
)
from rkkd_cli.config.validation import experiment_from
from rkkd_cli.config.value_lists import MAX_INTEGER, parse_values
from rkkd_cli.errors import UserError

RATES = st.floats(1e-300, 1e300)
SHARES = st.floats(0, 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FINITE = st.floats(0, allow_infinity=False)


def read_back(experiment: Experiment) -> Experiment:
    return experiment_from(tomllib.loads(to_toml(experiment)), "written")


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_loads_and_says_what_it_is(name: str) -> None:
    experiment = load_experiment(name)
    assert name in preset_path(name).name
    assert experiment.title
    assert experiment.resolved_arms


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_written_and_read_is_equal(name: str, tmp_path: Path) -> None:
    experiment = load_experiment(name)
    written = tmp_path / "experiment.toml"
    written.write_text(to_toml(experiment), encoding="utf-8")
    assert load_experiment(str(written)) == experiment
    assert to_toml(load_experiment(str(written))) == to_toml(experiment)


@given(
    values=st.fixed_dictionaries(
        {
            "title": TEXTS,
            "notes": TEXTS,
            "command": TEXTS,
            "training.lr": RATES,
            "training.weight_decay": FINITE,
            "training.epochs": st.integers(1, 10**9),
            "training.milestones": st.lists(st.floats(1e-9, 0.999), max_size=3),
            "method.alpha": SHARES,
            "method.temperature": st.floats(1e-300, 1e30),
            "rank.steepness": RATES,
            "rank.weight": FINITE,
            "seeds": st.lists(st.integers(0, MAX_INTEGER), min_size=1, max_size=4, unique=True),
        }
    ),
    weights=st.none() | FINITE,
    arm=st.fixed_dictionaries({"alpha": SHARES, "temperature": st.floats(1e-300, 1e30)}),
)
@settings(max_examples=40)
def test_any_experiment_written_and_read_is_equal(
    values: dict[str, Any], weights: float | None, arm: dict[str, Any]
) -> None:
    given = [Override(key, value) for key, value in values.items()]
    given.append(Override("arms", {"a": {"method": arm}, "b": {}}))
    if weights is not None:
        given.append(Override("method.ce_weight", weights))
    experiment = load_experiment("rank_grad", given)
    assert read_back(experiment) == experiment
    assert read_back(experiment).resolved_arms == experiment.resolved_arms


def test_overrides_are_part_of_what_is_written() -> None:
    given = [parse_override(text) for text in ("training.lr=0.25", "seeds=4:6")]
    table = tomllib.loads(to_toml(load_experiment("rank_grad", given)))
    assert table["training"]["lr"] == 0.25
    assert table["seeds"] == [4, 5]


def test_a_preset_is_found_by_name_file_and_run_directory(tmp_path: Path) -> None:
    shipped = preset_directory() / "rank_grad.toml"
    assert preset_path("rank_grad") == shipped
    assert preset_path(str(shipped)) == shipped
    run = tmp_path / "run"
    run.mkdir()
    (run / "experiment.toml").write_bytes(shipped.read_bytes())
    assert load_experiment(str(run)) == load_experiment("rank_grad")


def test_an_unknown_preset_is_refused_with_the_nearest_name_and_the_choices() -> None:
    with pytest.raises(UserError) as refusal:
        load_experiment("rank_gra")
    assert "unknown preset 'rank_gra'; did you mean 'rank_grad'?" in str(refusal.value)
    assert all(name in str(refusal.value) for name in preset_names())


@pytest.mark.parametrize("path", ["missing.toml", "results/missing/experiment.toml", "a/b"])
def test_a_path_that_leads_nowhere_is_refused(path: str) -> None:
    with pytest.raises(UserError, match=f"no such preset file: {path}"):
        load_experiment(path)


@pytest.mark.parametrize("content", [b"lr = = 3", b"a\0= 1", b"a = 1\na = 2\n"])
def test_a_file_that_is_no_toml_is_refused_and_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"mine\.toml is no valid TOML"):
        read_table(path)


def test_a_file_that_is_no_text_in_utf_8_is_refused_and_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes("title = 'größer'".encode("cp1252"))
    with pytest.raises(UserError, match=r"mine\.toml is no text in UTF-8: .*save it as UTF-8"):
        read_table(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_file_of_any_editor_is_read(encoding: str, line_end: str, tmp_path: Path) -> None:
    text = preset_text("rank_grad")
    mark = "\ufeff" if encoding.endswith(("le", "be")) else ""
    path = tmp_path / "mine.toml"
    path.write_bytes((mark + text).replace("\n", line_end).encode(encoding))
    assert preset_text(str(path)) == text
    assert load_experiment(str(path)) == load_experiment("rank_grad")


@pytest.mark.parametrize(("name", "stays"), [("folder", True), ("cifar10", False)])
def test_the_split_into_classes_holds_for_the_same_images_in_a_folder(
    name: str, stays: bool
) -> None:
    experiment = load_experiment("rkd_metric_cifar100", [Override("dataset.name", name)])
    assert (experiment.dataset.classes is not None) == stays


def test_what_a_file_says_of_its_dataset_holds_for_no_other(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    own = "limit_train = 200\nmean = [0.5]\nroot = 'a'\nval_share = 0.1\n"
    text = preset_text("rank_grad").replace('name = "digits"\n', f'name = "digits"\n{own}')
    path.write_text(text, encoding="utf-8")
    other = [parse_override("dataset.name=folder"), parse_override("dataset.limit_test=5")]
    dataset = load_experiment(str(path), other).dataset
    assert dataset == DatasetConfig(name="folder", val_share=0.1, limit_test=5)
    for same in ("dataset.name=digits", "dataset.limit_test=5"):
        dataset = load_experiment(str(path), [parse_override(same)]).dataset
        assert (dataset.limit_train, dataset.mean, dataset.root) == (200, (0.5,), "a")


def test_none_stays_in_arms_and_grids_and_leaves_no_trace_in_the_base() -> None:
    words = ("dataset.limit_train=none", "arms.whole.dataset.limit_test=none")
    experiment = load_experiment("rank_grad_cifar100_small", [parse_override(w) for w in words])
    assert experiment.resolved_arms[-1].experiment.dataset.limit_test is None
    assert "limit_train" not in tomllib.loads(to_toml(experiment))["dataset"]
    assert read_back(experiment) == experiment
    axes = {"dataset.limit_train": parse_values("none,100")}
    grid = load_grid("rank_grad", [], axes, CellSelection())
    limits = [arm.experiment.dataset.limit_train for arm in grid.resolved_arms]
    assert limits == [None, 100, None, 100]
    assert varied_texts(grid, "limit_train=none") == {"dataset.limit_train": "none"}
    assert read_back(grid) == grid


def test_none_unsets_what_a_preset_varies() -> None:
    experiment = load_experiment("alpha_temperature_digits", [parse_override("vary=none")])
    assert (experiment.vary, list(experiment.arms)) == ({}, ["soft_ce", "soft_ce_rank"])


@pytest.mark.parametrize(
    ("name", "word"),
    [("mine.toml", "mine.toml"), ("lr=1.toml", "./lr=1.toml"), ("-x", "./-x"),
     ("rank_grad", "./rank_grad")],
)  # fmt: skip
def test_the_word_of_a_file_names_it_again(
    name: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("seeds = 7", encoding="utf-8")
    assert word_of(Path(name)) == word
    assert split_words([word]) == (word, [])
    assert read_table(preset_path(word)) == {"seeds": 7}


def test_a_mistake_in_a_file_is_said_with_the_files_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = preset_path("rank_grad").read_text(encoding="utf-8")
    path.write_text(text.replace("temperature", "temprature"), encoding="utf-8")
    with pytest.raises(UserError, match=r"mine\.toml: unknown key 'method\.temprature'"):
        load_experiment(str(path))
