"""What `rkkd ls keys` says, against the models that read the values."""

from typing import Any

import pytest
from running import DETECTION_KEYS, EMBEDDING_KEYS

from rkkd_cli.cli.flags import experiment as flags
from rkkd_cli.cli.flags.flag import Flag
from rkkd_cli.config.keys import all_keys, keys_in
from rkkd_cli.config.overrides import parse_override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.config.validation import known_keys
from rkkd_cli.errors import UserError


def key(name: str) -> Any:
    (found,) = keys_in(name)
    return found


def test_every_key_of_an_experiment_is_there_once() -> None:
    names = [one.name for one in all_keys()]
    assert len(set(names)) == len(names)
    sections = {name.rpartition(".")[0] for name in names}
    outside_methods = {name for name in names if name.count(".") < 2 or "method." not in name}
    assert outside_methods == set(known_keys()) - sections


def test_every_key_has_a_meaning_here_or_in_the_help_of_its_flag() -> None:
    with_flag = {flag.key for flag in vars(flags).values() if isinstance(flag, Flag)}
    lacking = [
        one.name
        for one in all_keys()
        if not one.meaning and one.name.removeprefix("teacher.") not in with_flag
        and one.name not in with_flag
    ]  # fmt: skip
    assert lacking == []


def test_type_default_and_range_are_those_of_the_model() -> None:
    momentum, schedule = key("training.momentum"), key("training.schedule")
    assert (momentum.type, momentum.default, momentum.range) == ("number", "0.9", "≥ 0, < 1")
    assert schedule.choices == ("step", "cosine", "constant")
    assert (key("training.epochs").default, key("training.epochs").range) == ("required", "≥ 1")
    assert key("training.patience").default == "none"
    assert key("training.milestones").type == "list of numbers"
    assert key("training.nesterov").choices == ("true", "false")
    assert (key("method.dkd.beta").default, key("method.dkd.beta").range) == ("8", "≥ 0")


@pytest.mark.parametrize(
    "name",
    [
        one.name
        for one in all_keys()
        if one.choices and not one.name.startswith(("method.", "rank.grad"))
    ],
)
def test_every_choice_is_a_value_of_the_key(name: str) -> None:
    others = {"streaming": "dataset.name=folder", "cuda_graph": "cache_teacher=off"}
    for choice in key(name).choices:
        given = [parse_override(f"{name}={choice}")]
        given += [parse_override(others[end]) for end in others if name.endswith(end)]
        if name.startswith("teacher.training"):
            given.append(parse_override("teacher.training.epochs=2"))
        if (name == "task" and choice == "embedding") or name.endswith("normalize"):
            given += [parse_override(one) for one in EMBEDDING_KEYS]
        of_objects = name == "rank.background" or name.startswith("detection.")
        if (name == "task" and choice == "detection") or of_objects:
            of_detectors = {"task=detection", *DETECTION_KEYS} - {f"{name}={choice}"}
            given += [parse_override(one) for one in sorted(of_detectors)]
        load_experiment("rank_grad", given)


def test_a_section_has_its_keys_and_an_unknown_one_the_nearest() -> None:
    assert {one.name.partition(".")[0] for one in keys_in("training")} == {"training"}
    assert [one.name for one in keys_in("method.sp")] == ["method.sp.weight"]
    with pytest.raises(UserError, match="did you mean 'training'"):
        keys_in("trainin")
    with pytest.raises(UserError, match=r"did you mean 'method\.dkd\.beta'"):
        keys_in("method.dkd.betaa")
