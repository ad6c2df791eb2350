"""Which arms' seeds are paired: those whose batches were the same. And the arms of two runs."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from rkkd_cli.analysis.compare import ArmNames, Comparison, compare_arms, correct_together
from rkkd_cli.analysis.record import RunRecord as RunRecord
from rkkd_cli.analysis.record import common_task
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import flatten
from rkkd_cli.config.teachers import target_columns, target_text
from rkkd_cli.errors import UserError, unknown_name

TO_THE_TEACHER = ("kl", "rank", "kendall_tau", "agreement")
NOT_IN_BATCHES = {"root", "follow_links"}  # keys of the dataset that change no image
MAX_PAIRS = 100
BATCH_KEYS = ("batch_size", "per_class", "batches_per_epoch")


def why_unpaired_within(experiments: Mapping[str, Experiment]) -> dict[ArmNames, str]:
    """Return the pairs of arms of a run, in both orders, whose batches differ, with the reason."""
    return {
        pair: reason
        for pair in itertools.permutations(experiments, 2)
        if (reason := why_batches_differ(*(experiments[arm] for arm in pair)))
    }


def why_batches_differ(first: Experiment, second: Experiment) -> str:
    """Return why the batches of a seed differ between two experiments, or an empty string.

    They depend on the images, their augmentation and the way batches are drawn, but not on the
    teacher, the student or the number of epochs.
    """
    of_first, of_second = (
        flatten({"dataset": arm.dataset.model_dump(exclude=NOT_IN_BATCHES)})
        | {f"training.{key}": getattr(arm.training, key) for key in BATCH_KEYS}
        for arm in (first, second)
    )
    for key, value in of_first.items():
        other_value = of_second.get(key)
        if other_value != value:
            values = ("none" if v is None else str(v) for v in (value, other_value))
            return f"{key} differs ({' and '.join(values)})"
    return ""


def why_scales_differ(first: Experiment, second: Experiment, metric: str) -> str:
    """Return why two arms' values of a metric are not on the same scale, or an empty string.

    Each arm records the ranking loss with its own settings, KL at its own temperature, and both, as
    τ and agreement, to what it learns from of several teachers.
    """
    term = metric.removeprefix("test_").removeprefix("val_")
    main = first.task_records.main_column
    if term in TO_THE_TEACHER and first.method.shares != second.method.shares:
        teachers = (first.method.teacher, second.method.teacher)
        values = " and ".join("its only teacher" if t is None else target_text(t) for t in teachers)
        return f"each arm records it to what it learns from ({values}), so rather see {main}"
    of_several = {*target_columns(first.teachers), *target_columns(second.teachers)}
    term = term.partition("_")[0] if term in of_several else term
    keys: list[str] = []
    if term == "rank":
        keys, instead = [f"rank.{key}" for key in first.rank.settings], "kendall_tau"
    elif term == "kl":
        keys, instead = ["method.temperature"], main
    settings = [flatten(arm.model_dump(include={"rank", "method"})) for arm in (first, second)]
    for key in keys:
        of_first, of_second = (table[key] for table in settings)
        if of_first != of_second:
            values = f"{of_first} and {of_second}"
            return f"each arm records it at its own {key} ({values}), so rather see {instead}"
    return ""


def add_caveats(
    comparisons: Iterable[Comparison], experiments: Mapping[str, Experiment]
) -> list[Comparison]:
    """Return the comparisons with their caveats; ``experiments`` has the experiment of each arm.

    Values on different scales are not judged, and leave the family of Holm's correction.
    """
    with_caveats = []
    for c in comparisons:
        first, second = experiments[c.first], experiments[c.second]
        caveats = []
        if c.select == "last":
            caveats = [
                _why_unfinished(c.first, c.epochs_first, first),
                _why_unfinished(c.second, c.epochs_second, second),
            ]
        other_scale = why_scales_differ(first, second, c.metric)
        caveat = "; ".join(filter(None, caveats))
        with_caveats.append(replace(c, caveat=caveat, why_not_judged=other_scale))
    return correct_together(with_caveats)


def _why_unfinished(arm: str, epochs: Sequence[int], experiment: Experiment) -> str:
    planned = experiment.training.epochs
    if epochs[0] < epochs[-1]:
        return f"{arm} is at epochs {epochs[0]} to {epochs[-1]} of {planned}"
    return f"{arm} is at epoch {epochs[-1]} of {planned}" if epochs[-1] < planned else ""


def chosen_pairs(run: RunRecord, arms: Sequence[str]) -> list[ArmNames]:
    """Return the pairs of these arms; of one with all others; of none all pairs.

    Raises UserError for an arm that has no rows, and for no pairs or too many.
    """
    for arm in arms:
        if arm not in run.arms:
            raise unknown_name("arm", arm, run.arms)
    if len(arms) == 1:
        pairs = [(arms[0], arm) for arm in run.arms if arm != arms[0]]
    else:
        pairs = list(itertools.combinations(arms or run.arms, 2))
    if not pairs:
        raise UserError(
            f"run {run.name} has one arm with rows, {', '.join(run.arms)}, and nothing to compare "
            f"it with; name another run: rkkd compare {run.name} RUN"
        )
    if len(pairs) > MAX_PAIRS:
        raise UserError(
            f"{len(run.arms)} arms make {len(pairs):,} pairs; name the arms to compare, or one to "
            f"compare with all others, such as rkkd compare {run.name} {run.arms[0]}"
        )
    return pairs


def compare_within(
    run: RunRecord, metrics_names: Sequence[str], pairs: Sequence[ArmNames], select: str = "last"
) -> list[Comparison]:
    """Compare pairs of arms of one run, with caveats: see :func:`compare_arms`."""
    reasons = why_unpaired_within({arm: run.by_arm[arm] for arm in itertools.chain(*pairs)})
    comparisons = compare_arms(
        run.metrics, metrics_names, select, pairs, reasons, run.ended_early(), run.monitors(),
        dict.fromkeys(run.arms, run.experiment.seeds),
    )  # fmt: skip
    return add_caveats(comparisons, run.by_arm)


def matching_arms(first: RunRecord, second: RunRecord) -> list[ArmNames]:
    """Return the arms of two runs to compare: those of the same name, or of the same overrides.

    Or each run's only one.

    Raises UserError where there are none.
    """
    common = [(arm, arm) for arm in first.arms if arm in second.arms]
    if common:
        return common
    of_first, of_second = first.experiment.arms, second.experiment.arms
    alike = [
        (one, other)
        for one, other in itertools.product(first.arms, second.arms)
        if flatten(of_first.get(one, {})) == flatten(of_second.get(other, {"": None}))
    ]
    if alike:
        return alike
    if len(first.arms) == len(second.arms) == 1:
        return [(first.arms[0], second.arms[0])]
    raise UserError(
        f"runs {first.name} and {second.name} have no arm of the same name: "
        f"{', '.join(first.arms)}; {', '.join(second.arms)}"
    )


def why_unpaired_across(first: RunRecord, second: RunRecord, arms: ArmNames) -> str:
    """Return why the seeds of an arm of each run are not paired, or an empty string."""
    fingerprints = [
        {dataset["fingerprint"] for dataset in run.manifest.datasets} for run in (first, second)
    ]
    if not all(fingerprints):
        return "one of the runs does not say what its images were"
    if fingerprints[0] != fingerprints[1]:
        return "the runs have other images"
    return why_batches_differ(first.by_arm[arms[0]], second.by_arm[arms[1]])


def concat_runs(
    first: RunRecord, second: RunRecord, pairs: Sequence[ArmNames]
) -> tuple[pd.DataFrame, dict[ArmNames, ArmNames]]:
    """Return the rows of both runs, with arms named ``run: arm``, and these names of each pair."""
    frames = [
        run.metrics.assign(arm=f"{run.name}: " + run.metrics["arm"]) for run in (first, second)
    ]
    common = [column for column in frames[0] if column in frames[1]]
    names = {pair: (f"{first.name}: {pair[0]}", f"{second.name}: {pair[1]}") for pair in pairs}
    return pd.concat([frame[common] for frame in frames], ignore_index=True), names


def compare_runs(
    first: RunRecord, second: RunRecord, metrics_names: Sequence[str], select: str = "last"
) -> list[Comparison]:
    """Compare the arms of the same name, or each run's only one, with their caveats.

    Raises UserError where no arms match, and for runs of different tasks.
    """
    common_task([first, second])
    pairs = matching_arms(first, second)
    rows, names = concat_runs(first, second, pairs)
    reasons = {names[pair]: why_unpaired_across(first, second, pair) for pair in pairs}
    ended_early: set[tuple[str, int]] = set()
    monitors: dict[str, str] = {}
    experiments: dict[str, Experiment] = {}
    planned: dict[str, tuple[int, ...]] = {}
    for run in (first, second):
        prefix = f"{run.name}: "
        planned |= dict.fromkeys([prefix + arm for arm in run.arms], run.experiment.seeds)
        ended_early |= run.ended_early(prefix)
        monitors |= run.monitors(prefix)
        experiments |= {prefix + arm: experiment for arm, experiment in run.by_arm.items()}
    comparisons = compare_arms(
        rows, metrics_names, select, list(names.values()), reasons, ended_early, monitors, planned
    )
    return add_caveats(comparisons, experiments)
