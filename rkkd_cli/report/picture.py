"""What the curves of runs show: arms, their paired differences, reference levels, a title."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import pandas as pd

from rkkd_cli.analysis.paired_curves import (
    arm_pairs,
    is_undistilled,
    mean_and_interval,
    paired_differences,
)
from rkkd_cli.analysis.pairing import RunRecord, why_scales_differ
from rkkd_cli.analysis.published_curves import PublishedCurves
from rkkd_cli.analysis.record import common_task
from rkkd_cli.analysis.summary import summarise
from rkkd_cli.config.description import Counts, short_title
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.tasks import TaskRecords
from rkkd_cli.errors import printable
from rkkd_cli.records.manifest import Manifest, teacher_metric, teacher_name
from rkkd_cli.records.metrics import method_terms_in, teacher_terms_in
from rkkd_cli.report.arms import ArmCurve, arm_curves, seeds_text
from rkkd_cli.report.words import Quantity, quantity_of


@dataclass(frozen=True, eq=False)
class ArmDifference:
    """``second − first`` of two arms whose seeds are paired, for the columns on one scale."""

    first: ArmCurve
    second: ArmCurve
    on_other_scales: Collection[str] = ()

    def has(self, column: str) -> bool:
        """Whether both arms have comparable values of a column."""
        if column in self.on_other_scales:
            return False
        both = (self.first.rows, self.second.rows)
        return all(column in rows and rows[column].notna().any() for rows in both)

    def by_seed(self, column: str) -> pd.DataFrame:
        """Return the differences, a row per epoch and a column per seed."""
        return paired_differences(self.first.rows, self.second.rows, column)

    def interval(self, column: str) -> pd.DataFrame:
        """Return ``mean``, ``low`` and ``high`` by epoch."""
        return mean_and_interval(self.by_seed(column))

    @property
    def label(self) -> str:
        """The names of the arms, and how many seeds both have, at the end too."""
        both = self.second.rows[["seed", "epoch"]].merge(self.first.rows[["seed", "epoch"]])
        run, _, _ = self.second.label.rpartition(f"{printable(self.second.arm)} (")
        return printable(f"{run}{self.second.arm} − {self.first.arm} ({seeds_text(both)})")


class ReferenceLevel(NamedTuple):
    """A test accuracy (or MAP@R) in percent to compare curves with.

    ``curve`` is the arm that ends there.
    """

    label: str
    value: float
    curve: ArmCurve | None = None


@dataclass(frozen=True)
class CurvePicture:
    """The arms of one or several runs, and what is drawn with them."""

    title: str
    curves: Sequence[ArmCurve]
    differences: Sequence[ArmDifference]
    references: Sequence[ReferenceLevel]
    task: TaskRecords
    published: PublishedCurves | None = None
    on_other_scales: Collection[str] = ()  # columns that not all arms record on the same scale

    @classmethod
    def of(
        cls, runs: Sequence[RunRecord], published: PublishedCurves | None = None
    ) -> "CurvePicture":
        """Return the picture of runs; the ``published`` curves are drawn with those of all.

        Raises UserError for runs of different tasks.
        """
        task = common_task(runs)
        curves = arm_curves([(run.name, run.metrics) for run in runs])
        of_runs, left = [], iter(curves)
        for run in runs:
            of_runs.append({arm: next(left) for arm in run.arms})
        return cls(
            title=" and ".join(
                run_title(run.name, run.experiment, run.manifest) for run in runs
            ),
            curves=curves,
            differences=[
                difference
                for run, by_arm in zip(runs, of_runs, strict=True)
                for difference in _differences(run, by_arm)
            ],
            references=[*dict.fromkeys(
                level
                for run, by_arm in zip(runs, of_runs, strict=True)
                for level in _reference_levels(run, by_arm)
            )],
            task=task,
            published=published,
            on_other_scales=_on_other_scales(
                [run.by_arm[arm] for run in runs for arm in run.arms if arm in run.by_arm]
            ),
        )  # fmt: skip

    @cached_property
    def main_quantities(self) -> Sequence[Quantity]:
        """What is drawn of every run of the task, also as paired differences."""
        return [quantity_of(column) for column in self.task.curves]

    @cached_property
    def method_terms(self) -> list[Quantity]:
        """The terms of single methods, one's own among them, that any arm has values of."""
        columns: dict[str, None] = {}
        for curve in self.curves:
            terms = method_terms_in(list(curve.rows.columns))
            columns |= dict.fromkeys(c for c in terms if curve.rows[c].notna().any())
        return [quantity_of(column) for column in columns]

    @cached_property
    def teacher_terms(self) -> list[Quantity]:
        """KL and ranking loss to each of several teachers and to their means, on the test images.

        Those of KL come first, and there are as many of each.
        """
        columns: dict[str, None] = {}
        for curve in self.curves:
            columns |= dict.fromkeys(teacher_terms_in(list(curve.rows.columns)))
        return [quantity_of(f"test_{column}") for column in sorted(columns, key=_term_of)]

    @property
    def quantities(self) -> Sequence[Quantity]:
        """All that is drawn against the epoch, but for differences and gradients."""
        return (*self.main_quantities, *self.method_terms, *self.teacher_terms)

    def differences_of(self, column: str) -> list[ArmDifference]:
        """Return the differences that have comparable values of a column."""
        return [difference for difference in self.differences if difference.has(column)]

    def why_no_difference(self, column: str) -> str:
        """Return why a column has no paired differences, or an empty string."""
        if self.differences_of(column):
            return ""
        if any(column in difference.on_other_scales for difference in self.differences):
            return "each arm records it on a scale of its own"
        return "no two arms to compare have values of it"

    def why_no_interval(self, column: str) -> str:
        """Return why the differences of a column have no interval, or an empty string."""
        tables = [difference.by_seed(column) for difference in self.differences_of(column)]
        if any(mean_and_interval(table)["low"].notna().any() for table in tables):
            return ""
        most = max((int(table.count(axis="columns").max()) for table in tables), default=0)
        return "one seed: no interval" if most < 2 else "the same in every seed: no interval"

    def references_of(self, column: str) -> Sequence[ReferenceLevel]:
        """Return the levels to compare a column with, without those far from all curves."""
        if column != self.task.main_column:
            return []
        means = pd.concat([curve.means[column] for curve in self.curves])
        low, high = float(means.min()), float(means.max())
        room = max(high - low, 5.0)
        return [level for level in self.references if low - room <= level.value <= high + room]

    def only(self, curves: Sequence[ArmCurve]) -> "CurvePicture":
        """Return the picture of some of the arms."""
        kept = set(curves)
        differences = [d for d in self.differences if {d.first, d.second} <= kept]
        levels = [level for level in self.references if level.curve is None or level.curve in kept]
        return replace(self, curves=curves, differences=differences, references=levels)


def _term_of(column: str) -> str:
    return column.partition("_")[0]


def _differences(run: RunRecord, by_arm: dict[str, ArmCurve]) -> list[ArmDifference]:
    differences = []
    for pair in arm_pairs(run):
        first, second = (run.by_arm[arm] for arm in pair)
        apart = _on_other_scales([first, second])
        differences.append(ArmDifference(by_arm[pair[0]], by_arm[pair[1]], apart))
    return differences


def _on_other_scales(arms: Sequence[Experiment]) -> list[str]:
    """Return the columns that not all arms record on the scale of the first."""
    terms = [
        term
        for term in ("rank", "kl")
        if any(why_scales_differ(arms[0], arm, term) for arm in arms[1:])
    ]
    return [column for term in terms for column in (term, f"test_{term}", f"val_{term}")]


def _reference_levels(run: RunRecord, by_arm: dict[str, ArmCurve]) -> list[ReferenceLevel]:
    """Return the teachers, and the students without distillation at their last epoch."""
    levels = [
        ReferenceLevel(printable(f"teacher {teacher_name(teacher)}"), teacher_metric(teacher))
        for teacher in run.manifest.teachers
    ]
    baselines = {arm: curve for arm, curve in by_arm.items() if is_undistilled(arm, run.by_arm)}
    rows = run.metrics[run.metrics["arm"].isin(baselines)]
    for summary in summarise(rows, run.ended_early()) if len(rows) else ():
        label = printable(f"no distillation ({summary.arm}), at the end")
        mean = summary.metrics[run.experiment.task_records.main_column].mean
        levels.append(ReferenceLevel(label, mean, baselines[summary.arm]))
    return levels


def run_title(name: str, experiment: Experiment, manifest: Manifest) -> str:
    """Return the title of a figure: the run's name, and its data, models and epochs.

    A title of the user's own stands in their place.
    """
    counts = {Counts(facts["classes"], facts["train_images"]) for facts in manifest.datasets}
    title = short_title(experiment, counts.pop() if len(counts) == 1 else None)
    return printable(f"{name} – {title}")
