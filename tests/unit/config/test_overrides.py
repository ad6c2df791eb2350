"""``key.sub=value``: what is an override, how its value is read, where it goes."""

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rkkd_cli.config.overrides import (
    Override,
    apply_overrides,
    flatten,
    looks_like_override,
    merge,
    parse_override,
    parse_value,
)
from rkkd_cli.errors import UserError

LEAVES = st.one_of(st.integers(), st.booleans(), st.floats(allow_nan=False), st.text(max_size=5))
NAMES = st.text("abcdef_", min_size=1, max_size=4)
TABLES: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(NAMES, LEAVES, min_size=1, max_size=3),
    lambda below: st.dictionaries(NAMES, st.one_of(LEAVES, below), min_size=1, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("1e-4", 1e-4),
        ("3", 3),
        (".5", 0.5),
        ("-5.", -5.0),
        (".5e-3", 0.0005),
        (".", "."),
        ("true", True),
        ("False", "False"),
        ("[0, 1]", [0, 1]),
        ('"0.5"', "0.5"),
        ("'a b'", "a b"),
        ("resnet20", "resnet20"),
        ("0:3", "0:3"),
        ("0,1,2", "0,1,2"),
        ("bottom:0.1", "bottom:0.1"),
        ("/data/images", "/data/images"),
        ("", ""),
        ("{grad = true}", {"grad": True}),
        ("1\nother = 2", "1\nother = 2"),
    ],
)
def test_a_value_is_read_as_toml_or_else_taken_as_a_string(text: str, value: object) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


@given(st.text(max_size=30))
@settings(max_examples=200)
def test_any_text_is_a_value(text: str) -> None:
    value = parse_value(text)
    assert (
        value == text
        or (isinstance(value, float) and value == float(text))
        or tomllib.loads(f"value = {text}") == {"value": value}
    )


@pytest.mark.parametrize(
    ("text", "override"),
    [
        ("training.lr=0.1", Override("training.lr", 0.1)),
        (" training.lr = 0.1 ", Override("training.lr", 0.1)),
        ("dataset.root=/a=b", Override("dataset.root", "/a=b")),
        ("arms.T=4", Override("arms.T", 4)),
        ("arms.a+b-1.rank.grad=true", Override("arms.a+b-1.rank.grad", True)),
    ],
)
def test_the_first_equals_sign_ends_the_key(text: str, override: Override) -> None:
    assert looks_like_override(text)
    assert parse_override(text) == override


@pytest.mark.parametrize(
    "text", ["digits", "results/run=1/experiment.toml", "./a=b", "=1", "a..b=1", ".a=1", "a b=1"]
)
def test_presets_and_paths_are_no_overrides(text: str) -> None:
    assert not looks_like_override(text)


def test_overrides_are_laid_over_the_table_which_stays_as_it_was() -> None:
    table = {"training": {"lr": 0.1, "epochs": 3}}
    result = apply_overrides(
        table, [Override("training.lr", 0.2), Override("rank.grad", True), Override("seeds", 1)]
    )
    assert result == {"training": {"lr": 0.2, "epochs": 3}, "rank": {"grad": True}, "seeds": 1}
    assert table == {"training": {"lr": 0.1, "epochs": 3}}


def test_the_same_value_twice_is_no_contradiction() -> None:
    twice = [Override("training.lr", 1), Override("training.lr", 1.0)]
    assert apply_overrides({}, twice) == {"training": {"lr": 1.0}}


def test_two_values_for_one_key_are_refused() -> None:
    twice = [Override("training.lr", 0.1), Override("training.lr", 0.2)]
    with pytest.raises(UserError, match=r"training\.lr is given twice, as 0\.1 and as 0\.2"):
        apply_overrides({}, twice)


def test_a_key_that_leads_through_a_value_is_refused() -> None:
    with pytest.raises(UserError, match=r"seeds\.a: 'seeds' is a value, not a section"):
        apply_overrides({"seeds": 0}, [Override("seeds.a", 1)])


def test_a_section_given_as_a_whole_is_not_changed_by_a_later_key() -> None:
    section: dict[str, Any] = {"epochs": 1}
    apply_overrides({}, [Override("training", section), Override("training.lr", 0.1)])
    assert section == {"epochs": 1}


@given(TABLES)
@settings(max_examples=60)
def test_a_flattened_table_laid_over_nothing_gives_the_table(table: dict[str, Any]) -> None:
    overrides = [Override(key, value) for key, value in flatten(table).items()]
    assert apply_overrides({}, overrides) == table


@given(TABLES, TABLES)
@settings(max_examples=60)
def test_merging_keeps_every_change_and_what_it_does_not_touch(
    base: dict[str, Any], changes: dict[str, Any]
) -> None:
    merged, before, wanted = flatten(merge(base, changes)), flatten(base), flatten(changes)
    assert wanted.items() <= merged.items()
    for key, value in before.items():
        touched = any(
            key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.")
            for other in wanted
        )
        assert touched or merged[key] == value
