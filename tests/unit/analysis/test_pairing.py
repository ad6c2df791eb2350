"""Which arms' seeds belong together, within a run and across two; and caveats."""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from made_rows import ARMS, arm_seed_epoch, metric_row

from rkkd_cli.analysis.compare import compare_arms
from rkkd_cli.analysis.conclusion import comparison_sentence
from rkkd_cli.analysis.pairing import (
    RunRecord,
    add_caveats,
    concat_runs,
    matching_arms,
    why_batches_differ,
    why_scales_differ,
    why_unpaired_across,
    why_unpaired_within,
)
from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.errors import UserError
from rkkd_cli.records.manifest import Manifest

THREE = pd.DataFrame(
    metric_row(arm, seed, epoch, test_acc=50.0 + seed * epoch)
    for arm, seed, epoch in arm_seed_epoch(ARMS, seeds=3, epochs=2)
)
BASE = load_experiment("rank_grad")


def changed(*overrides: tuple[str, Any]) -> Any:
    return load_experiment("rank_grad", [Override(*one) for one in overrides])


@pytest.mark.parametrize(
    ("key", "value", "paired"),
    [
        ("training.batch_size", 32, False),
        ("dataset.limit_train", 100, False),
        ("dataset.flip", True, False),
        ("dataset.root", "elsewhere", True),
        ("training.epochs", 5, True),
        ("teacher.seed", 3, True),
        ("method.alpha", 0.5, True),
    ],
)
def test_only_the_same_batches_are_paired(key: str, value: Any, paired: bool) -> None:
    reason = why_batches_differ(BASE, changed((key, value)))
    assert (reason == "") == paired
    if not paired:
        assert key in reason


def test_batches_of_classes_are_others() -> None:
    shuffled, by_class = ("training.batch_size", 40), ("training.per_class", 4)
    reason = why_batches_differ(changed(shuffled), changed(shuffled, by_class))
    assert reason == "training.per_class differs (none and 4)"


def test_arms_of_a_run_with_other_batches_are_not_paired() -> None:
    arms = {"a": BASE, "b": BASE, "small": changed(("training.batch_size", 16))}
    assert set(why_unpaired_within(arms)) == {
        ("a", "small"), ("b", "small"), ("small", "a"), ("small", "b")
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "metric", "instead"),
    [
        ("rank.steepness", "rank", "kendall_tau"),
        ("rank.channels", "test_rank", "kendall_tau"),
        ("rank.standardize", "rank", "kendall_tau"),
        ("rank.over", "val_rank", "kendall_tau"),
        ("method.temperature", "kl", "test_acc"),
    ],
)
def test_terms_of_arms_with_other_settings_have_a_caveat(
    key: str, metric: str, instead: str
) -> None:
    values = {"rank.channels": "top:0.5", "rank.standardize": True, "rank.over": "both"}
    other = changed((key, values.get(key, 2.0)))
    assert key in why_scales_differ(BASE, other, metric)
    assert instead in why_scales_differ(BASE, other, metric)
    assert why_scales_differ(BASE, other, "test_kendall_tau") == ""
    assert why_scales_differ(BASE, BASE, metric) == ""


def test_values_on_other_scales_are_not_judged_and_count_in_no_family() -> None:
    values = {"kd": [1.0, 1.1, 1.2], "kd_rank": [5.0, 5.2, 5.1]}
    rows = pd.DataFrame(
        metric_row(arm, seed, 30, test_rank=value, test_acc=value)
        for arm, of_seeds in values.items()
        for seed, value in enumerate(of_seeds)
    )
    experiments = {"kd": BASE, "kd_rank": changed(("rank.steepness", 2.0))}
    acc, rank = add_caveats(compare_arms(rows, ["test_acc", "test_rank"]), experiments)
    assert (acc.verdict, acc.family) == ("higher", 1)
    assert (rank.verdict, rank.p_holm) == ("not judged", None)
    assert "Not judged: each arm records it at its own rank" in comparison_sentence(rank)


def test_an_unfinished_run_is_told() -> None:
    found = add_caveats(compare_arms(THREE, ["test_acc"]), {"kd": BASE, "kd_rank": BASE})
    assert "kd is at epoch 2 of 30" in comparison_sentence(found[0])


def run(name: str, metrics: pd.DataFrame, fingerprint: str | None = "f") -> RunRecord:
    facts = {
        "name": "digits", "train_images": 1, "val_images": 0, "test_images": 1, "classes": 10,
        "image_shape": [1, 8, 8], "fingerprint": fingerprint,
    }  # fmt: skip
    content = {
        "run": name, "status": "finished", "started": "", "command": [], "device": "cpu",
        "threads": 1, "versions": {}, "platform": "", "processor": "", "git_commit": None,
        "datasets": [facts] if fingerprint else [],
    }  # fmt: skip
    return RunRecord(name, BASE, Manifest.model_validate(content), metrics, "finished")


def test_two_runs_are_matched_by_the_names_of_their_arms() -> None:
    one, other = run("one", THREE), run("other", THREE[THREE["arm"] == "kd_rank"])
    assert matching_arms(one, other) == [("kd_rank", "kd_rank")]
    rows, called = concat_runs(one, other, [("kd_rank", "kd_rank")])
    assert called == {("kd_rank", "kd_rank"): ("one: kd_rank", "other: kd_rank")}
    (found,) = compare_arms(rows, ["test_acc"], pairs=list(called.values()))
    assert (found.difference.mean, found.difference.n) == (0.0, 3)


def test_arms_of_two_methods_belong_together_by_what_they_override() -> None:
    arms = {"dkd": {"rank": {"grad": False}}, "dkd_rank": {"rank.grad": True}}
    names = {"kd": "dkd", "kd_rank": "dkd_rank"}
    other = run("other", THREE[THREE["arm"].isin(names)].replace({"arm": names}))
    other = replace(other, experiment=BASE.model_copy(update={"arms": arms}))
    assert {("kd", "dkd"), ("kd_rank", "dkd_rank")} == {*matching_arms(run("one", THREE), other)}


def test_the_only_arms_of_two_runs_belong_together() -> None:
    parts = [THREE[THREE["arm"] == arm] for arm in ("kd", "kd_rank")]
    assert matching_arms(run("one", parts[0]), run("other", parts[1])) == [("kd", "kd_rank")]
    with pytest.raises(UserError, match="no arm of the same name"):
        matching_arms(run("one", parts[0]), run("other", THREE.assign(arm=THREE["arm"] + "_2")))


@pytest.mark.parametrize(
    ("fingerprints", "reason"),
    [(("f", "f"), ""), (("f", "g"), "other images"), ((None, "g"), "does not say")],
)
def test_runs_are_paired_on_the_same_images_only(
    fingerprints: tuple[str | None, str | None], reason: str
) -> None:
    one, other = (run("run", THREE, one) for one in fingerprints)
    found = why_unpaired_across(one, other, ("kd", "kd"))
    assert reason in found
    assert bool(found) == bool(reason)
