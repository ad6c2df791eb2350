"""What an experiment accepts, the sentence for what it refuses, and keys without influence."""

import math
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rkkd_cli.config.compatibility import continued_experiment, differences, same_numbers
from rkkd_cli.config.experiment import DESCRIPTION_TEXTS, Experiment
from rkkd_cli.config.frozen import FrozenConfig
from rkkd_cli.config.grid import cell_hash, check_axes
from rkkd_cli.config.overrides import Override, apply_overrides
from rkkd_cli.config.presets import load_experiment, to_toml
from rkkd_cli.config.validation import experiment_from, known_keys
from rkkd_cli.config.value_lists import parse_classes, parse_seeds
from rkkd_cli.errors import UserError

SMALLEST: dict[str, Any] = {
    "dataset": {"name": "digits"},
    "teacher": {"model": "digits_teacher"},
    "student": {"model": "digits_student"},
    "training": {"epochs": 3, "lr": 0.05},
}


def experiment_with(key: str, value: object) -> Experiment:
    return experiment_from(apply_overrides(SMALLEST, [Override(key, value)]), "test.toml")


def test_the_smallest_experiment_gets_the_stated_defaults() -> None:
    experiment = experiment_from(SMALLEST, "test.toml")
    assert experiment.seeds == (0,)
    assert experiment.arms == {"kd": {"rank": {"grad": False}}, "kd_rank": {"rank": {"grad": True}}}
    assert (experiment.method.alpha, experiment.method.temperature) == (0.9, 4.0)
    assert experiment.rank.steepness == 100.0


@pytest.mark.parametrize("key", ["lr", "epochs", "milestones"])
def test_an_experiment_cannot_be_changed(key: str) -> None:
    experiment = experiment_from(SMALLEST, "test.toml")
    with pytest.raises(ValidationError, match="frozen"):
        setattr(experiment.training, key, 1)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("trainng", "training"),
        ("training.epoch", "training.epochs"),
        ("method.temprature", "method.temperature"),
        ("rank.Steepnes", "rank.steepness"),
        ("teacher.training.epochz", "teacher.training.epochs"),
        ("sedes", "seeds"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(key: str, nearest: str) -> None:
    table = apply_overrides(
        SMALLEST, [Override("teacher.training", {"epochs": 1, "lr": 0.1}), Override(key, 1)]
    )
    with pytest.raises(UserError) as refusal:
        experiment_from(table, "test.toml")
    assert str(refusal.value) == f"test.toml: unknown key {key!r}; did you mean {nearest!r}?"


def test_an_unknown_key_without_a_likeness_points_to_the_presets() -> None:
    with pytest.raises(UserError, match="unknown key 'qqqqqqqqqqq'; `rkkd cat PRESET`"):
        experiment_with("qqqqqqqqqqq", 1)


def test_known_keys_reach_into_every_section() -> None:
    keys = known_keys()
    assert {"dataset.name", "teacher.training.lr", "rank.grad", "arms", "seeds"} <= set(keys)
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("section", ["dataset", "teacher", "student", "training"])
def test_a_missing_section_is_named(section: str) -> None:
    table = {key: value for key, value in SMALLEST.items() if key != section}
    with pytest.raises(UserError, match=f"test.toml: {section} is missing"):
        experiment_from(table, "test.toml")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training.lr", "0.5"),
        ("training.lr", True),
        ("training.epochs", 2.0),
        ("training.epochs", True),
        ("training.epochs", "2"),
        ("training.nesterov", 1),
        ("training.nesterov", "true"),
        ("rank.grad", 0),
        ("student.model", 20),
        ("training.milestones", True),
        ("training.milestones", "0.5,half"),
        ("training.milestones", ["0.5"]),
        ("training", 3),
        ("arms", {"kd": 3}),
    ],
)
def test_a_value_of_another_type_is_refused_and_the_key_named(key: str, value: object) -> None:
    with pytest.raises(UserError) as refusal:
        experiment_with(key, value)
    assert str(refusal.value).startswith(f"test.toml: {key}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("key", ["training.lr", "method.temperature", "rank.weight"])
def test_a_whole_number_serves_as_a_float(key: str) -> None:
    section, name = key.split(".")
    value = getattr(getattr(experiment_with(key, 2), section), name)
    assert value == 2.0
    assert isinstance(value, float)


@pytest.mark.parametrize(
    "key", ["training.lr", "training.weight_decay", "method.alpha", "rank.weight", "rank.steepness"]
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(key: str, value: float) -> None:
    with pytest.raises(UserError, match=key):
        experiment_with(key, value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training.epochs", 0),
        ("training.epochs", 10**9 + 1),
        pytest.param("training.epochs", 10**4000, id="4000 digits"),
        pytest.param("training.epochs", 16**9000, id="more digits than Python prints"),
        ("training.lr", 2**63),
        ("method.dkd.beta", 2**63),
        ("threads", 10**6),
        ("dataset.crop_padding", 10**6),
        ("teacher.seed", 2**63),
        ("seeds", 2**63),
        ("seeds", [0, 2**63]),
        ("seeds", "9223372036854775808"),
        ("seeds", "9" * 5000),
        ("seeds", -1),
        ("seeds", [1.0]),
        ("seeds", "1,1"),
        ("training.batch_size", 0),
        ("training.lr", 0.0),
        ("training.lr", -0.1),
        ("training.momentum", 1.0),
        ("training.momentum", -0.1),
        ("training.weight_decay", -1e-9),
        ("training.gamma", 0.0),
        ("training.gamma", 1.1),
        ("training.warmup_epochs", -1),
        ("training.milestones", [0.0]),
        ("training.milestones", [1.5]),
        ("training.milestones", [-1]),
        ("training.optimizer", "adagrad"),
        ("training.schedule", "linear"),
        ("method.alpha", -0.01),
        ("method.alpha", 1.01),
        ("method.temperature", 0.0),
        ("method.temperature", 1e31),
        ("method.ce_weight", -1.0),
        ("rank.weight", -1.0),
        ("rank.steepness", 0.0),
        ("dataset.val_share", 1.0),
        ("dataset.val_share", -0.1),
        ("dataset.limit_train", 0),
        ("dataset.image_size", 3),
        ("dataset.std", [0.1, 0.0, 0.1]),
        ("teacher.seed", -1),
        ("precision", "fp16"),
        ("arms", {}),
        ("arms", {"": {}}),
        ("arms", {"a/b": {}}),
        ("arms", {"a" * 65: {}}),
    ],
)
def test_a_value_out_of_its_range_is_refused_and_the_key_named(key: str, value: object) -> None:
    with pytest.raises(UserError) as refusal:
        experiment_with(key, value)
    assert str(refusal.value).startswith((f"test.toml: {key} = ", f"test.toml: {key}: "))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training.epochs", 1),
        ("training.milestones", [0.5, 1, 240]),
        ("training.gamma", 1.0),
        ("method.alpha", 0.0),
        ("method.alpha", 1.0),
        ("rank.weight", 0.0),
        ("dataset.val_share", 0.99),
        ("training.warmup_epochs", 0.5),
        ("arms", {"T=4.0_a-1+x": {}, "a" * 64: {}}),
    ],
)
def test_the_edges_of_a_range_are_accepted(key: str, value: object) -> None:
    experiment_with(key, value)


@pytest.mark.parametrize("none", ["none", "None", "null", " none "])
@pytest.mark.parametrize("key", ["dataset.limit_train", "dataset.mean", "dataset.root", "threads"])
def test_none_unsets_an_optional_key(key: str, none: str) -> None:
    assert experiment_with(key, none) == experiment_with(key, None)


@pytest.mark.parametrize(
    ("key", "default"),
    [("training.milestones", ()), ("training.weight_decay", 5e-4), ("dataset.val_share", 0.0)],
)
def test_none_gives_a_key_its_default(key: str, default: object) -> None:
    section, name = key.split(".")
    assert getattr(getattr(experiment_with(key, "none"), section), name) == default


def test_none_is_a_text_where_any_text_may_stand() -> None:
    assert experiment_with("rank.surrogate", "none").rank.surrogate == "none"


def test_a_key_that_has_to_have_a_value_cannot_be_unset() -> None:
    with pytest.raises(UserError, match=r"training\.epochs = 'none': must be a whole number$"):
        experiment_with("training.epochs", "none")


@pytest.mark.parametrize(
    ("key", "value", "advice"),
    [
        ("dataset.limit_train", "all", "must be a whole number, or none"),
        ("dataset.mean", "a,b", r"must be a list such as 0\.5,0\.75 or \[0\.5, 0\.75\], or none"),
        ("deterministic", "yes", "must be true or false"),
        ("seeds", "0;1", "such as 0 or 0,1,2 or 0:3"),
    ],
)
def test_a_refusal_says_how_the_value_is_typed(key: str, value: str, advice: str) -> None:
    with pytest.raises(UserError, match=advice):
        experiment_with(key, value)


@pytest.mark.parametrize("text", ["0.5,1,240", "[0.5, 1, 240]", "(.5, 1., 240)", " 0.5 ,1,240 "])
def test_a_list_of_numbers_is_read_as_it_is_typed(text: str) -> None:
    assert experiment_with("training.milestones", text).training.milestones == (0.5, 1.0, 240.0)


class OwnSettings(FrozenConfig):
    """Settings of somebody's method."""

    layers: tuple[int, ...] = ()
    names: list[str] | None = None


@pytest.mark.parametrize(
    ("key", "typed", "read"),
    [
        ("layers", "1,2", (1, 2)),
        ("layers", [1, 2], (1, 2)),
        ("layers", 3, (3,)),
        ("names", "a, b", ["a", "b"]),
        ("names", "a", ["a"]),
        ("names", "none", None),
    ],
)
def test_a_list_among_the_settings_of_a_method_takes_commas(
    key: str, typed: object, read: object
) -> None:
    assert getattr(OwnSettings.model_validate({key: typed}), key) == read


def test_a_list_may_have_one_number_or_none() -> None:
    assert experiment_with("training.milestones", 0.5).training.milestones == (0.5,)
    assert experiment_with("training.milestones", "[]").training.milestones == ()


@pytest.mark.parametrize("text", ["0,1,2", "[0, 1,2]", "(0,1,2)", "0:3", "[0:3]"])
def test_seeds_are_read_as_they_are_typed(text: str) -> None:
    assert parse_seeds(text) == (0, 1, 2)


def test_a_warm_up_longer_than_the_training_is_refused() -> None:
    assert experiment_with("training.warmup_epochs", 3.0).training.warmup_epochs == 3.0
    with pytest.raises(UserError, match=r"warmup_epochs = 3\.5 is more than epochs = 3"):
        experiment_with("training.warmup_epochs", 3.5)


def test_a_range_of_more_seeds_than_anyone_trains_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="at most 10000 seeds"):
        parse_seeds("0:1000000000000")


def test_nesterov_needs_momentum() -> None:
    changes = [Override("training.nesterov", True), Override("training.momentum", 0.0)]
    with pytest.raises(UserError, match=r"nesterov = true needs momentum > 0"):
        experiment_from(apply_overrides(SMALLEST, changes), "test.toml")


@pytest.mark.parametrize(
    ("given", "seeds"),
    [
        (0, (0,)),
        ("0", (0,)),
        ("0,1,2", (0, 1, 2)),
        (" 7 , 3 ", (7, 3)),
        ("0:3", (0, 1, 2)),
        ("5:6", (5,)),
        ("0:2,9", (0, 1, 9)),
        ([4, 2], (4, 2)),
        ((1,), (1,)),
    ],
)
def test_seeds_and_classes_are_values_lists_or_ranges(
    given: object, seeds: tuple[int, ...]
) -> None:
    assert parse_seeds(given) == parse_classes(given) == seeds
    assert experiment_with("seeds", given).seeds == seeds


@pytest.mark.parametrize(
    "given",
    ["", " ", ",", "0,", "0:0", "3:1", "-1", "0:-1", "1.0", "a", "0:1:2", "0,0", "0:3,2", [], [-1],
     [1, 1], [True], [1.0], ["1"], True, None, 1.5, {"a": 1}],
)  # fmt: skip
def test_seeds_that_are_none_negative_repeated_or_garbage_are_refused(given: object) -> None:
    with pytest.raises(ValueError, match="must"):
        parse_seeds(given)
    with pytest.raises(UserError, match="seeds"):
        experiment_with("seeds", given)
    with pytest.raises(UserError, match=r"dataset\.classes\.train"):
        experiment_with("dataset.classes", {"train": given, "test": 9})


def test_classes_are_recorded_as_they_are_typed() -> None:
    experiment = experiment_with("dataset.classes", {"train": [0, 1, 2], "test": "7,5"})
    assert experiment.dataset.classes is not None
    assert experiment.dataset.classes.train == (0, 1, 2)
    assert experiment.dataset.classes.test == (7, 5)
    table = experiment.model_dump(mode="json", exclude_none=True)
    assert table["dataset"]["classes"] == {"train": "0:3", "test": "7,5"}
    assert experiment_from(tomllib.loads(to_toml(experiment)), "again") == experiment


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=8, unique=True))
@settings(max_examples=30)
def test_every_spelling_of_distinct_seeds_means_the_same(seeds: list[int]) -> None:
    assert parse_seeds(seeds) == parse_seeds(",".join(map(str, seeds))) == tuple(seeds)


@given(st.integers(0, 10**6), st.integers(1, 50))
@settings(max_examples=30)
def test_a_range_of_seeds_excludes_its_end(first: int, count: int) -> None:
    assert parse_seeds(f"{first}:{first + count}") == tuple(range(first, first + count))


@given(st.text("0123:,- a½²٣", max_size=7))
@settings(max_examples=200)
def test_any_text_is_seeds_or_refused_in_one_sentence(text: str) -> None:
    try:
        seeds = parse_seeds(text)
    except ValueError:
        with pytest.raises(ValueError, match=r"^must [^\n]+$"):
            parse_seeds(text)
        return
    assert seeds
    assert all(seed >= 0 for seed in seeds)


@pytest.mark.parametrize("key", DESCRIPTION_TEXTS)
def test_a_description_changes_neither_numbers_nor_cells(key: str) -> None:
    plain = load_experiment("rank_grad")
    other = load_experiment("rank_grad", [Override(key, "something else")])
    assert getattr(other, key) != getattr(plain, key)
    assert same_numbers(plain, other)
    assert differences(plain, other) == ""

    assert continued_experiment(plain, other, "run") == other
    for arm, other_arm in zip(plain.resolved_arms, other.resolved_arms, strict=True):
        assert cell_hash(arm, 0) == cell_hash(other_arm, 0)


def test_a_key_that_matters_with_one_value_is_told_with_both() -> None:
    kept, exact = (
        load_experiment("rank_grad", [Override("cache_teacher", mode)])
        for mode in ("top:4", "exact")
    )
    assert differences(kept, exact) == "cache_teacher ('top:4' → 'exact')"
    assert differences(exact, load_experiment("rank_grad")) == ""


@pytest.mark.parametrize("key", DESCRIPTION_TEXTS)
def test_a_description_cannot_be_varied(key: str) -> None:
    with pytest.raises(UserError, match=f"{key} cannot be varied"):
        check_axes({key: ("a", "b")})
