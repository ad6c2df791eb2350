"""Do two arms' seeds belong together? Only where a seed gave both the same batches.

And two runs compared: the arms that belong together, each once.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from rkkd_cli.analysis.compare import Comparison, Pair, compare_arms
from rkkd_cli.config.arms import resolve_arms
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import flatten
from rkkd_cli.errors import UserError
from rkkd_cli.records.manifest import Manifest

WHERE_IMAGES_LIE = {"root", "follow_links"}


@dataclass(frozen=True)
class Recorded:
    """What a run has left: what it is called, its experiment, its manifest and its rows."""

    name: str
    experiment: Experiment
    manifest: Manifest
    metrics: pd.DataFrame

    @property
    def arms(self) -> list[str]:
        """The arms that have rows, in the order of the file."""
        return [str(arm) for arm in self.metrics["arm"].unique()]

    def ended_early(self, prefix: str = "") -> set[tuple[str, int]]:
        """Return the arms and seeds whose last epoch is their own, the arms after ``prefix``."""
        return {(prefix + one["arm"], one["seed"]) for one in self.manifest.ended_early}

    def monitors(self, prefix: str = "") -> dict[str, str]:
        """Return the metric by which an arm's epoch is chosen, the arms after ``prefix``."""
        return {prefix + arm: metric for arm, metric in self.manifest.monitors.items()}

    @cached_property
    def by_arm(self) -> dict[str, Experiment]:
        """What each arm trains."""
        return {arm.name: arm.experiment for arm in resolve_arms(self.experiment)}


def unpaired_within(experiments: Mapping[str, Experiment]) -> dict[Pair, str]:
    """Return the pairs of a run's arms that saw other batches, in both orders, each with why."""
    reasons = {
        (one, other): other_batches(experiments[one], experiments[other])
        for one, other in itertools.permutations(experiments, 2)
    }
    return {pair: reason for pair, reason in reasons.items() if reason}


def other_batches(one: Experiment, other: Experiment) -> str:
    """Return why a seed gave the two other batches, or nothing.

    Images, their augmentation and the batch size make the batches; the teacher, the student and
    the epochs do not.
    """
    before, after = (_batches_of(experiment) for experiment in (one, other))
    for key, value in before.items():
        if after.get(key) != value:
            return f"{key} differs ({_told(value)} and {_told(after.get(key))})"
    return ""


def _batches_of(experiment: Experiment) -> dict[str, object]:
    dataset = experiment.dataset.model_dump(exclude=WHERE_IMAGES_LIE)
    table = {"dataset": dataset, "training": {"batch_size": experiment.training.batch_size}}
    return flatten(table)


def _told(value: object) -> str:
    return "none" if value is None else str(value)


def other_scale(one: Experiment, other: Experiment, metric: str) -> str:
    """Return why the metric of two arms is not the same quantity, or nothing.

    Each arm records the ranking loss at its own settings, and KL at its own temperature.
    """
    keys: list[str] = []
    if metric in ("rank", "test_rank", "val_rank"):
        keys, instead = ["rank.steepness", "rank.surrogate", "rank.channels"], "kendall_tau"
    elif metric in ("kl", "test_kl", "val_kl"):
        keys, instead = ["method.temperature"], "test_acc"
    before, after = (flatten(arm.model_dump(include={"rank", "method"})) for arm in (one, other))
    for key in keys:
        if before[key] != after[key]:
            differing = f"{before[key]} and {after[key]}"
            return f"each arm records it at its own {key} ({differing}), so rather see {instead}"
    return ""


def with_caveats(
    comparisons: Iterable[Comparison], experiments: Mapping[str, Experiment]
) -> list[Comparison]:
    """Return the comparisons with their caveats; ``experiments`` by what the arms are called."""
    found = []
    for c in comparisons:
        one, other = experiments[c.one], experiments[c.other]
        said = [other_scale(one, other, c.metric)]
        if c.select == "last":
            said += [
                _unfinished(c.one, c.epochs_one, one),
                _unfinished(c.other, c.epochs_other, other),
            ]
        found.append(replace(c, caveat="; ".join(sentence for sentence in said if sentence)))
    return found


def _unfinished(arm: str, epochs: Sequence[int], experiment: Experiment) -> str:
    planned = experiment.training.epochs
    if epochs[0] < epochs[-1]:
        return f"{arm} is at epochs {epochs[0]} to {epochs[-1]} of {planned}"
    return f"{arm} is at epoch {epochs[-1]} of {planned}" if epochs[-1] < planned else ""


def matched(one: Recorded, other: Recorded) -> list[Pair]:
    """Return the arms of two runs that belong together: by name, or each run's only one.

    Raises UserError where there are none.
    """
    common = [(arm, arm) for arm in one.arms if arm in other.arms]
    if common:
        return common
    if len(one.arms) == len(other.arms) == 1:
        return [(one.arms[0], other.arms[0])]
    raise UserError(
        f"runs {one.name} and {other.name} have no arm of the same name: {', '.join(one.arms)}; "
        f"{', '.join(other.arms)}"
    )


def unpaired_across(one: Recorded, other: Recorded, pair: Pair) -> str:
    """Return why the seeds of an arm of each run do not belong together, or nothing."""
    fingerprints = [
        {facts["fingerprint"] for facts in run.manifest.datasets} for run in (one, other)
    ]
    if not all(fingerprints):
        return "one of the runs does not say what its images were"
    if fingerprints[0] != fingerprints[1]:
        return "the runs have other images"
    return other_batches(one.by_arm[pair[0]], other.by_arm[pair[1]])


def side_by_side(
    one: Recorded, other: Recorded, pairs: Sequence[Pair]
) -> tuple[pd.DataFrame, dict[Pair, Pair]]:
    """Return the rows of both runs, their arms called ``run: arm``, and what a pair is called."""
    parts = [run.metrics.assign(arm=f"{run.name}: " + run.metrics["arm"]) for run in (one, other)]
    common = [column for column in parts[0] if column in parts[1]]
    names = {pair: (f"{one.name}: {pair[0]}", f"{other.name}: {pair[1]}") for pair in pairs}
    return pd.concat([part[common] for part in parts], ignore_index=True), names


def compare_runs(
    one: Recorded, other: Recorded, names: Sequence[str], select: str = "last"
) -> list[Comparison]:
    """Compare the arms of the same name, or each run's only one, with what limits the answer.

    Raises UserError where no arms belong together.
    """
    pairs = matched(one, other)
    rows, called = side_by_side(one, other, pairs)
    reasons = {called[pair]: unpaired_across(one, other, pair) for pair in pairs}
    early = one.ended_early(f"{one.name}: ") | other.ended_early(f"{other.name}: ")
    monitors = one.monitors(f"{one.name}: ") | other.monitors(f"{other.name}: ")
    found = compare_arms(rows, names, select, list(called.values()), reasons, early, monitors)
    experiments = {
        name: run.by_arm[arm]
        for pair, names_of in called.items()
        for run, arm, name in zip((one, other), pair, names_of, strict=True)
    }
    return with_caveats(found, experiments)
