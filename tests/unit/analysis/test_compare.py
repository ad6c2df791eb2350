"""Arms compared: which rows count, which seeds are paired, and what the sentence says."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_rows import metric_row

from rkkd_cli.analysis.compare import Comparison, compare_arms
from rkkd_cli.analysis.conclusion import comparison_sentence
from rkkd_cli.analysis.selection import select_rows
from rkkd_cli.analysis.statistics import holm_corrected, paired_difference, seeds_needed
from rkkd_cli.config.tasks import CLASSIFICATION
from rkkd_cli.errors import UserError

COMPARED = CLASSIFICATION.compared_columns

Accuracies = Mapping[str, Mapping[int, list[float]]]


def frame(accuracies: Accuracies, **further: Accuracies) -> pd.DataFrame:
    """Return rows from {arm: {seed: test_acc of each epoch}}; other columns are 1."""
    tables = {"test_acc": accuracies, **further}
    rows = []
    for arm, seeds in accuracies.items():
        for seed, epochs in seeds.items():
            for n in range(len(epochs)):
                values = {name: table[arm][seed][n] for name, table in tables.items()}
                rows.append(metric_row(arm, seed, n + 1, **values))
    return pd.DataFrame(rows)


def only(comparisons: list[Comparison]) -> Comparison:
    (one,) = comparisons
    return one


THREE = frame(
    {
        "kd": {0: [1.0, 33.24], 1: [50.0, 33.70], 2: [2.0, 33.66]},
        "kd_rank": {0: [1.0, 34.34], 1: [1.0, 33.86], 2: [60.0, 33.80]},
    }
)


def test_the_last_epoch_counts_unless_told_otherwise() -> None:
    last = only(compare_arms(THREE, ["test_acc"]))
    assert last.mean_first == pytest.approx((33.24 + 33.70 + 33.66) / 3)
    assert (last.epochs_first, last.epochs_second) == ((2,), (2,))
    best = only(compare_arms(THREE, ["test_acc"], "best"))
    assert best.mean_first == pytest.approx((33.24 + 50.0 + 33.66) / 3)
    assert best.mean_second == pytest.approx((34.34 + 33.86 + 60.0) / 3)
    assert best.epochs_first == (1, 2)
    assert "flatters" in comparison_sentence(best)
    assert "flatters" not in comparison_sentence(last)


def test_the_validation_split_selects_for_each_arm_and_seed() -> None:
    held_out: Accuracies = {"a": {0: [9.0, 8.0], 1: [7.0, 8.0]}, "b": {0: [1.0, 2.0], 1: [3, 2]}}
    tested: Accuracies = {"a": {0: [50.0, 60.0], 1: [51, 61]}, "b": {0: [52, 62], 1: [53, 63]}}
    found = only(compare_arms(frame(tested, val_acc=held_out), ["test_acc"], "val"))
    assert found.mean_first == pytest.approx((50 + 61) / 2)
    assert found.mean_second == pytest.approx((62 + 53) / 2)
    assert "validation" in comparison_sentence(found)


def test_an_arm_with_a_monitor_is_selected_by_it() -> None:
    losses: Accuracies = {"a": {0: [0.5, 0.9]}, "b": {0: [0.3, 0.1]}, "c": {0: [0.2, 0.4]}}
    held_out: Accuracies = {arm: {0: [1.0, 2.0]} for arm in "abc"}
    tested: Accuracies = {"a": {0: [50.0, 60.0]}, "b": {0: [52, 62]}, "c": {0: [53, 63]}}
    rows = frame(tested, val_kl=losses, val_acc=held_out)
    monitors = {"a": "val_kl", "b": "val_kl"}
    pairs = [("a", "b"), ("a", "c")]
    same, mixed = compare_arms(rows, ["test_acc"], "val", pairs, monitors=monitors)
    assert (same.mean_first, same.mean_second, mixed.mean_second) == (50, 62, 63)
    assert "epoch with the best val_kl." in comparison_sentence(same)
    assert "epoch with the best val_kl and val_acc." in comparison_sentence(mixed)


def test_without_a_validation_split_nothing_is_selected_by_it() -> None:
    with pytest.raises(UserError, match="--val-share"):
        compare_arms(THREE, ["test_acc"], "val")


def test_every_pair_and_metric_is_compared_and_is_one_family() -> None:
    values = {"a": [1, 2, 3, 4], "b": [2, 4, 3, 5], "c": [1, 3, 3, 6]}
    arms = {arm: {n: [float(v)] for n, v in enumerate(of_arm)} for arm, of_arm in values.items()}
    found = compare_arms(frame(arms, **dict.fromkeys(COMPARED[1:], arms)))
    assert {(c.first, c.second) for c in found} == {("a", "b"), ("a", "c"), ("b", "c")}
    assert [one.metric for one in found] == list(COMPARED) * 3
    assert {one.family for one in found} == {12}
    assert [one.p_holm for one in found] == holm_corrected([one.difference.p for one in found])


@given(st.lists(st.tuples(*[st.floats(0, 100)] * 2), min_size=2, max_size=6), st.randoms())
@settings(max_examples=25)
def test_the_order_of_the_rows_does_not_matter(
    pairs: list[tuple[float, float]], random: Any
) -> None:
    rows = frame({arm: {n: [p[i]] for n, p in enumerate(pairs)} for i, arm in enumerate("ab")})
    order = list(range(len(rows)))
    random.shuffle(order)
    before = only(compare_arms(rows, ["test_acc"], pairs=[("a", "b")]))
    after = only(compare_arms(rows.iloc[order], ["test_acc"], pairs=[("a", "b")]))
    assert after.difference.mean == pytest.approx(before.difference.mean, abs=1e-9)
    assert after.difference.n == len(pairs)


def test_seeds_of_one_arm_alone_are_dropped_and_counted() -> None:
    rows = frame({"a": {0: [1.0], 1: [2.0], 2: [9.0]}, "b": {1: [3.0], 2: [11.0], 7: [0.0]}})
    found = only(compare_arms(rows, ["test_acc"]))
    assert found.difference == paired_difference(np.array([2.0, 9.0]), np.array([3.0, 11.0]))
    assert (found.seeds, found.dropped) == (2, 2)
    assert "2 seeds left out" in comparison_sentence(found)


def test_seeds_that_have_not_come_to_the_last_epoch_are_dropped_and_counted() -> None:
    seeds = {0: [1.0, 2.0], 1: [1.0, 3.0], 2: [50.0]}
    found = only(compare_arms(frame({"a": seeds, "b": seeds}), ["test_acc"]))
    assert (found.difference.n, found.dropped) == (2, 1)


@pytest.mark.parametrize(
    ("other", "reason"), [((5, 6), "no seed in common"), ((1, 5), "only one seed is in common")]
)
def test_without_common_seeds_the_test_is_unpaired(other: tuple[int, int], reason: str) -> None:
    rows = frame({"a": {0: [1.0], 1: [2.0]}, "b": {seed: [float(seed)] for seed in other}})
    found = only(compare_arms(rows, ["test_acc"]))
    assert not found.difference.paired
    assert reason in found.why_unpaired
    said = comparison_sentence(found)
    assert "Welch" in said
    assert reason in said


def test_fewer_than_three_seeds_give_no_verdict_and_say_so() -> None:
    found = only(compare_arms(frame({"a": {0: [1.0]}, "b": {0: [2.0]}}), ["test_acc"]))
    assert (found.verdict, found.p_holm, found.seeds_needed) == ("too few seeds", None, None)
    assert comparison_sentence(found) == (
        "test_acc, b − a: +1.00. Too few seeds: 1 seed, and a verdict takes 3."
    )
    two = frame({"a": {0: [1.0], 1: [2.0]}, "b": {0: [91.0], 1: [92.1]}})
    found = only(compare_arms(two, ["test_acc"]))
    assert found.difference.interval is not None
    assert found.difference.interval.low > 80
    assert found.verdict == "too few seeds"
    assert "paired t, 2 seeds). Too few seeds: 2 seeds" in comparison_sentence(found)


def test_seeds_that_were_planned_and_have_no_rows_are_counted() -> None:
    planned = dict.fromkeys(("kd", "kd_rank"), range(6))
    found = only(compare_arms(THREE, ["test_acc"], planned=planned))
    assert (found.difference.n, found.dropped) == (3, 3)
    assert "3 seeds left out" in comparison_sentence(found)


def test_the_same_in_every_seed_is_not_taken_for_certainty() -> None:
    seeds = {seed: [float(seed)] for seed in range(3)}
    rows = frame({"a": seeds, "b": {seed: [seed + 0.25] for seed in seeds}})
    found = only(compare_arms(rows, ["test_acc"]))
    assert found.verdict == "not resolved"
    assert "the same in every seed" in comparison_sentence(found)


def test_what_is_not_resolved_says_how_many_seeds_would_do() -> None:
    found = only(compare_arms(THREE, ["test_acc"]))
    assert found.verdict == "not resolved"
    assert found.seeds_needed == 13
    assert "contains 0; about 13 seeds would resolve" in comparison_sentence(found)


@pytest.mark.parametrize(
    ("metric", "verdict", "word"),
    [("test_acc", "higher", "better"), ("test_kl", "higher", "worse")],
)
def test_which_way_is_better_depends_on_the_metric(metric: str, verdict: str, word: str) -> None:
    values = {"a": {0: [1.0], 1: [2.0], 2: [3.0]}, "b": {0: [5.0], 1: [6.1], 2: [6.9]}}
    found = only(compare_arms(frame(values, **{metric: values}), [metric]))
    assert found.verdict == verdict
    said = comparison_sentence(found)
    assert f"b is {verdict}, which is {word} (p < 0.001)" in said


def test_of_a_gradients_norm_neither_way_is_better() -> None:
    values = {"a": {0: [1.0], 1: [2.0], 2: [3.0]}, "b": {0: [5.0], 1: [6.1], 2: [6.9]}}
    said = comparison_sentence(
        only(compare_arms(frame(values, grad_norm_kl=values), ["grad_norm_kl"]))
    )
    assert "b is higher (p " in said


def test_a_family_leaves_open_what_an_interval_resolves_by_chance() -> None:
    random = np.random.default_rng(0)
    arms = {name: {seed: [float(random.normal())] for seed in range(8)} for name in "abcdefgh"}
    found = compare_arms(frame(arms), ["test_acc"])
    lucky = [one for one in found if (one.difference.p or 1) < 0.05 <= (one.p_holm or 1)]
    assert lucky, "of 28 null comparisons one or two leave 0 out"
    for one in lucky:
        assert one.verdict == "not resolved"
        assert "after Holm's correction for 28 comparisons; about" in comparison_sentence(one)
        assert one.difference.effect is not None
        assert one.seeds_needed == seeds_needed(one.difference.effect, alpha=0.05 / 28)


def test_arms_at_other_epochs_are_told() -> None:
    rows = frame({"a": {0: [1.0, 2.0], 1: [1.0, 3.0]}, "b": {0: [1.0], 1: [1.5]}})
    assert "the last epochs differ, 1 against 2" in comparison_sentence(
        only(compare_arms(rows, ["test_acc"]))
    )


def test_values_that_are_none_are_left_out() -> None:
    rows = THREE.assign(tckd=[np.nan] * 6 + [1.0, 2.0, 1.0, np.inf, 1.0, 4.0])
    assert compare_arms(rows, ["tckd"]) == []
    with_own = THREE.assign(tckd=[1.0, np.inf] + [1.0, 2.0] * 5)
    found = only(compare_arms(with_own, ["tckd"]))
    assert (found.difference.n, found.dropped) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((THREE, ["test_ac"]), "unknown metric 'test_ac'; did you mean 'test_acc'"),
        ((THREE, ["arm"]), "unknown metric 'arm'"),
        ((THREE, ["test_acc"], "lats"), "unknown selection 'lats'; did you mean 'last'"),
        ((THREE, ["test_acc"], "last", [("kd", "kd_rnk")]), "unknown arm 'kd_rnk'"),
        ((THREE.iloc[:0], ["test_acc"]), "no finished epoch"),
    ],
)
def test_what_is_not_there_is_named(arguments: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compare_arms(*arguments)


def test_a_seed_that_ended_early_counts_at_its_own_last_epoch() -> None:
    rows = pd.DataFrame(
        {"arm": "kd", "seed": [0, 0, 1], "epoch": [1, 2, 1], "test_acc": [1.0, 2.0, 3.0]}
    )
    assert select_rows(rows, "last")["seed"].tolist() == [0]
    kept = select_rows(rows, "last", {("kd", 1)})
    assert kept[["seed", "epoch"]].to_numpy().tolist() == [[0, 2], [1, 1]]
