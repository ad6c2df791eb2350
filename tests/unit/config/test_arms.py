"""Arms: named overrides, resolved into whole experiments."""

from pathlib import Path
from typing import Any

import pytest

from rkkd_cli.config.arms import select_by_rank_grad
from rkkd_cli.config.experiment import DESCRIPTION_TEXTS, DESCRIPTIVE_KEYS, Experiment
from rkkd_cli.config.overrides import Override, flatten, parse_override
from rkkd_cli.config.presets import load_experiment, to_toml
from rkkd_cli.errors import UserError


def with_arms(arms: dict[str, dict[str, Any]], *overrides: str) -> Experiment:
    given = [Override("arms", arms), *(parse_override(text) for text in overrides)]
    return load_experiment("rank_grad", given)


def settings_of(experiment: Experiment) -> dict[str, Any]:
    return flatten(experiment.model_dump(exclude={"arms", *DESCRIPTIVE_KEYS}))


def test_an_arm_is_the_base_with_its_own_keys_changed_and_no_other() -> None:
    arms: dict[str, dict[str, Any]] = {
        "kd": {},
        "hot": {"method": {"temperature": 8}},
        "other": {"rank": {"grad": True, "steepness": 3.0}, "training": {"lr": 0.5}},
    }
    experiment = with_arms(arms)
    base = settings_of(experiment)
    resolved = experiment.resolved_arms
    assert [arm.name for arm in resolved] == ["kd", "hot", "other"]
    for arm in resolved:
        settings = settings_of(arm.experiment)
        changed = {key: value for key, value in settings.items() if value != base[key]}
        assert settings.keys() == base.keys()
        assert changed == flatten(arms[arm.name])


def test_the_default_arms_differ_in_rank_grad_alone() -> None:
    kd, kd_rank = load_experiment("rank_grad").resolved_arms
    assert (kd.name, kd_rank.name) == ("kd", "kd_rank")
    differing = settings_of(kd.experiment).items() ^ settings_of(kd_rank.experiment).items()
    assert {key for key, _ in differing} == {"rank.grad"}
    assert not kd.experiment.rank.grad


def test_a_base_override_reaches_every_arm_that_does_not_set_the_key() -> None:
    arms: dict[str, dict[str, Any]] = {"kd": {}, "hot": {"method": {"temperature": 8.0}}}
    kd, hot = with_arms(arms, "method.temperature=2").resolved_arms
    assert (kd.experiment.method.temperature, hot.experiment.method.temperature) == (2.0, 8.0)


@pytest.mark.parametrize("key", ["seeds", "arms", "device", *DESCRIPTION_TEXTS])
def test_an_arm_may_not_override_what_all_arms_share(key: str) -> None:
    with pytest.raises(UserError, match=f"arm 'a' overrides '{key}', which all arms of a run"):
        with_arms({"a": {key: "0"}})


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"rank": {"gard": True}}, "unknown key 'rank.gard'; did you mean 'rank.grad'?"),
        ({"training": {"lr": 0}}, "training.lr = 0"),
        ({"training": 3}, "training = 3"),
    ],
)
def test_what_is_wrong_in_an_arm_is_said_with_its_name(
    overrides: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as refusal:
        with_arms({"good": {}, "bad_one": overrides})
    assert str(refusal.value).startswith(f"arm 'bad_one': {sentence}")


@pytest.mark.parametrize(
    ("choice", "kept"), [("on", ["kd_rank"]), ("off", ["kd"]), ("both", ["kd", "kd_rank"])]
)
def test_rank_grad_chooses_the_arms_and_changes_nothing_else(choice: str, kept: list[str]) -> None:
    experiment = load_experiment("rank_grad")
    selected = select_by_rank_grad(experiment, choice)
    assert list(selected.arms) == kept
    assert settings_of(selected) == settings_of(experiment)


def test_rank_grad_looks_at_the_resolved_arms() -> None:
    experiment = with_arms({"a": {}, "b": {"rank": {"grad": False}}}, "rank.grad=true")
    assert list(select_by_rank_grad(experiment, "on").arms) == ["a"]


def test_another_choice_of_rank_grad_is_refused() -> None:
    with pytest.raises(UserError, match="on, off or both, not 'maybe'"):
        select_by_rank_grad(load_experiment("rank_grad"), "maybe")


def test_a_choice_of_rank_grad_that_leaves_no_arm_is_refused() -> None:
    with pytest.raises(UserError, match=r"leaves no arm: none of a, b has rank.grad = true"):
        select_by_rank_grad(with_arms({"a": {}, "b": {}}), "on")


def test_a_key_that_every_arm_sets_itself_is_refused_on_the_base() -> None:
    with pytest.raises(UserError, match=r"the arms set rank\.grad themselves.*--rank-grad"):
        load_experiment("rank_grad", [Override("rank.grad", True)])
    arms = {"a": {"method": {"alpha": 0.1}}, "b": {"method": {"alpha": 0.2}}}
    with pytest.raises(
        UserError, match=r"the arms set method\.alpha themselves.*arms\.NAME\.method"
    ):
        with_arms(arms, "method.alpha=0.5")


def test_a_section_of_keys_that_every_arm_sets_is_refused_on_the_base() -> None:
    with pytest.raises(UserError, match=r"the arms set rank\.grad themselves"):
        load_experiment("rank_grad", [Override("rank", {"grad": True})])


def test_a_key_that_some_arms_set_may_be_given_on_the_base() -> None:
    arms = {"a": {"method": {"alpha": 0.1}}, "b": {}}
    a, b = with_arms(arms, "method.alpha=0.5").resolved_arms
    assert (a.experiment.method.alpha, b.experiment.method.alpha) == (0.1, 0.5)


def test_an_override_can_add_an_arm_or_change_one() -> None:
    given = [parse_override("arms.hot.method.temperature=8"), parse_override("arms.kd.seeds=1")]
    experiment = load_experiment("rank_grad", given[:1])
    assert list(experiment.arms) == ["kd", "kd_rank", "hot"]
    with pytest.raises(UserError, match="arm 'kd' overrides 'seeds'"):
        load_experiment("rank_grad", given)


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("dkd", ("dkd", "dkd_rank")),
        ("package.module:Own", ("Own", "Own_rank")),
        ("weird:__", ("method", "method_rank")),
    ],
)
def test_the_default_arms_are_named_after_the_method(method: str, names: tuple[str, ...]) -> None:
    experiment = load_experiment("rank_grad", [Override("method.name", method)])
    assert tuple(experiment.arms) == names
    assert [arm.experiment.rank.grad for arm in experiment.resolved_arms] == [False, True]


def test_a_recorded_run_of_the_default_arms_can_be_repeated_with_another_method(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.toml").write_text(to_toml(load_experiment("rank_grad")), encoding="utf-8")
    again = load_experiment(str(tmp_path / "mine.toml"), [Override("method.name", "dist")])
    assert tuple(again.arms) == ("dist", "dist_rank")


def test_an_arm_named_after_the_method_of_its_file_follows_another_one() -> None:
    experiment = load_experiment("rkd_imagenet", [Override("method.name", "kd")])
    methods = {arm.name: arm.experiment.method.name for arm in experiment.resolved_arms}
    assert methods == {"ce": "ce", "kd": "kd"}
    assert not experiment.findings  # they speak of rkd


def test_it_does_not_take_the_name_of_another_arm() -> None:
    with pytest.raises(UserError, match="arm 'rkd' would be called 'ce'"):
        load_experiment("rkd_imagenet", [Override("method.name", "ce")])


def test_arms_that_set_their_method_keep_their_names() -> None:
    experiment = load_experiment("kendall_steepness", [Override("method.name", "dkd")])
    assert list(experiment.arms) == ["dkd", "k0.5", "k1", "k10", "k100", "k1000"]
    assert "sp" in load_experiment("sp_cifar10", [Override("method.name", "dkd")]).arms


@pytest.mark.parametrize(
    ("given", "used", "reason"),
    [
        ("method.dkd.beta=2", "arms.kd_rank.method.name=dkd", "has a method called dkd, but kd"),
        ("method.plugin.a=2", "arms.kd.method.name=mine:Own", "has a method of your own, but kd"),
        ("arms.kd.method.dkd.beta=2", "arms.kd.method.name=dkd", "has a method called dkd, but kd"),
    ],
)
def test_a_setting_of_a_method_that_no_arm_has_is_refused(
    given: str, used: str, reason: str
) -> None:
    with pytest.raises(UserError, match=f"{given[:-2]} has no effect: no arm {reason}"):
        load_experiment("rank_grad", [parse_override(given)])
    load_experiment("rank_grad", [parse_override(given), parse_override(used)])
