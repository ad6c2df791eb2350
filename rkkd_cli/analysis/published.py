"""Published accuracies, found by what an arm is, and ours of the same epoch beside them.

Or published values of another metric of the experiment's task, of which the same holds.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from rkkd_cli.analysis.published_csv import metric_columns, read_accuracies
from rkkd_cli.analysis.selection import select_rows
from rkkd_cli.analysis.summary import MeanStd, mean_std
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.keys import all_keys
from rkkd_cli.config.methods import METHODS
from rkkd_cli.config.overrides import flatten, is_unset, parse_value
from rkkd_cli.config.tasks import CLASSIFICATION, HARD_TERMS, METRIC_NAMES
from rkkd_cli.config.validation import check_known_key
from rkkd_cli.errors import UserError

PUBLISHED_SELECTIONS = ("best", "last")
NO_KEYS = {"arm", "epoch", "acc", "seed", "select", "source", "std"}
# The sections whose names stand for one of their keys.
OF_SECTIONS = {
    "dataset": "dataset.name", "teacher": "teacher.model", "student": "student.model",
    "method": "method.name",
}  # fmt: skip
MODELS_ALONE = re.compile(r" *\([^()]*no distillation\)$")  # resnet18 (teacher, no distillation)


class PublishedAccuracy(NamedTuple):
    """A published accuracy in percent, and its epoch: best, last, or empty if not stated.

    Or another metric, the column ``metric`` of ours.
    """

    acc: float
    select: str
    metric: str = CLASSIFICATION.main_column


class ComparedAccuracy(NamedTuple):
    """A published accuracy, and the measured one of the epoch selected alike, if there is one."""

    published: PublishedAccuracy
    measured: MeanStd | None

    @property
    def difference(self) -> float | None:
        """Measured − published, in points."""
        return None if self.measured is None else self.measured.mean - self.published.acc


@dataclass(frozen=True)
class Published:
    """What a file states of an experiment: accuracies by arm, and of teachers by model.

    Those without a statement of their epoch stand beside the measured ones of ``select``.
    ``unstated`` names the arms without a row, and what the nearest row says instead.
    """

    arms: Mapping[str, PublishedAccuracy]
    teachers: Mapping[str, PublishedAccuracy]
    select: str = "last"
    metric: str = CLASSIFICATION.main_column
    unstated: str = ""

    def beside(
        self, metrics: pd.DataFrame, ended_early: Collection[tuple[str, int]] = ()
    ) -> dict[str, ComparedAccuracy]:
        """Return each arm's accuracy with the measured one, whose epoch is selected alike."""
        measured: dict[tuple[str, str], MeanStd] = {}
        for select in {stated.select or self.select for stated in self.arms.values()}:
            rows = select_rows(metrics, select, ended_early, best_by=self.metric)
            for arm, seeds in rows.groupby("arm", sort=False):
                measured[str(arm), select] = mean_std(seeds[self.metric])
        return {
            arm: ComparedAccuracy(stated, measured.get((arm, stated.select or self.select)))
            for arm, stated in self.arms.items()
        }


class _Row(NamedTuple):
    """A row of the file: the arm that it names, if any, and the values that an arm must have."""

    arm: str | None
    wanted: Mapping[str, Any]
    accuracy: PublishedAccuracy

    def misses(self, arm: str, settings: Mapping[str, Any]) -> list[str]:
        """Return the keys in which an arm is not what the row states; of its name: ``arm``."""
        missed = [key for key, value in self.wanted.items() if settings.get(key) != value]
        if self.arm is not None:
            return ["arm", *missed] if self.arm != arm else missed
        # What a row without a method states is of distillation, so of no student alone.
        is_alone = settings["method.name"] in HARD_TERMS and "method.name" not in self.wanted
        return [*missed, "method.name"] if is_alone else missed


def read_published(path: Path, experiment: Experiment, select: str = "last") -> Published:
    """Return what a CSV file states of an experiment's arms and teachers.

    Columns are keys of the experiment (or their last parts), ``arm``, ``select``, and the accuracy,
    or a metric of the experiment's task: its main one, if the file has several. A row applies to
    every arm whose experiment has its values; an empty cell says nothing. A row of models alone is
    of the student without distillation (method ``ce`` or ``triplet``). Of several rows for an arm
    the last one counts; those of ``select``, which the measured values beside are, before others.

    Raises UserError, also if no row applies to any arm.
    """
    table, metric = read_accuracies(path, experiment.task_records)
    rows = list(_rows(table, experiment, path, metric))
    arms, teachers = {}, {}
    settings = {arm.name: _settings(arm.experiment) for arm in experiment.resolved_arms}
    for row in sorted(rows, key=lambda row: row.accuracy.select == select):
        for arm, of_arm in settings.items():
            if not row.misses(arm, of_arm):
                arms[arm] = row.accuracy
        if row.arm is None and row.wanted.get("method.name") in HARD_TERMS:
            teachers[row.wanted.get("student.model")] = row.accuracy
    if not arms:
        name = METRIC_NAMES[metric.removeprefix("test_")]
        raise UserError(f"{path} states no {name} of {_nearest(rows, settings)}")
    models = {arm.experiment.teacher.model for arm in experiment.resolved_arms}
    stated = {model: teachers[model.lower()] for model in models if model.lower() in teachers}
    without = {arm: of_arm for arm, of_arm in settings.items() if arm not in arms}
    return Published(arms, stated, select, metric, _nearest(rows, without) if without else "")


def _rows(table: pd.DataFrame, experiment: Experiment, path: Path, metric: str) -> Iterator[_Row]:
    """Yield the rows that say of what they are."""
    keys, alone = _key_columns(table, experiment, path), experiment.task_records.hard_term
    for cells in table.to_dict("records"):
        stated = {str(column): cell for column, cell in cells.items() if not pd.isna(cell)}
        wanted = {key: _plain(stated[column]) for column, key in keys.items() if column in stated}
        model = wanted.get("student.model")
        if isinstance(model, str):
            wanted["student.model"] = MODELS_ALONE.sub("", model)
        arm = stated.get("arm")
        if wanted and arm is None and all(key in OF_SECTIONS.values() for key in wanted):
            wanted.setdefault("method.name", alone)
        chosen = "last" if "epoch" in stated else str(stated.get("select", "")).lower()
        if chosen not in ("", *PUBLISHED_SELECTIONS):
            raise UserError(
                f"{path}: select is {' or '.join(PUBLISHED_SELECTIONS)}, or empty where the source "
                f"does not state it, not {chosen!r}"
            )
        if wanted or arm is not None:
            yield _Row(arm, wanted, PublishedAccuracy(float(stated["acc"]), chosen, metric))


def _key_columns(table: pd.DataFrame, experiment: Experiment, path: Path) -> dict[str, str]:
    """Return the key of the experiment that each column holds. Raises UserError.

    A last part stands for a varied key, or for the key of the fewest parts. Other columns without a
    dot hold what they like.
    """
    no_keys = NO_KEYS | metric_columns(experiment.task_records).keys()
    known = [key.name for key in all_keys() if "." in key.name]
    columns = {}
    for column in map(str, table.columns):
        if column in no_keys:
            continue
        if "." in column:
            try:
                check_known_key(column)
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
            columns[column] = column
        elif column in OF_SECTIONS:
            columns[column] = OF_SECTIONS[column]
        elif meant := _ending_in(column, experiment.vary) or _ending_in(column, known):
            if len(meant) > 1:
                choices = " or ".join(meant)
                raise UserError(f"{path}: the column {column!r} may be {choices}; write which")
            columns[column] = meant[0]
    return columns


def _ending_in(last: str, keys: Collection[str]) -> list[str]:
    """Return the keys with this last part that have the fewest parts."""
    ending = [key for key in keys if key.rpartition(".")[2] == last]
    fewest = min((key.count(".") for key in ending), default=0)
    return [key for key in ending if key.count(".") == fewest]


def _settings(experiment: Experiment) -> dict[str, Any]:
    """Return the values that an arm has, with the defaults of its method's own settings."""
    name = experiment.method.name
    own = METHODS[name].settings().model_dump() if name in METHODS else {}
    settings = flatten({"method": {name: own}}) | flatten(experiment.model_dump())
    return {key: _plain(value) for key, value in settings.items()}


def _plain(value: Any) -> Any:
    """Return a value as it is compared: read as on the command line, texts in lower case."""
    if isinstance(value, str):
        value = None if is_unset(value) else parse_value(value.strip().lower())
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _nearest(rows: Sequence[_Row], settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the arms, and by what the nearest row differs from which of them."""
    arms = ", ".join(settings) if len(settings) <= 4 else f"the {len(settings):,} arms"
    pairs = [(row.misses(arm, settings[arm]), row, arm) for row in rows for arm in settings]
    if not pairs:
        return f"{arms}: no row says of what it is, in columns such as student.model or arm"
    missed, row, arm = min(pairs, key=lambda pair: (len(pair[0]), -len(pair[1].wanted)))
    theirs, ours = {"arm": row.arm, **row.wanted}, {"arm": arm, **settings[arm]}
    differs = (f"{key} {theirs.get(key, 'not stated')}, not {ours.get(key)}" for key in missed)
    return f"{arms}: the row nearest to {arm} has {'; '.join(differs)}"
