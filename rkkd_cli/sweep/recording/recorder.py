"""Turns the events of a run into its directory: experiment, manifest, metrics, checkpoints."""

import os
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.grid import NUMBERS_VERSION, varied_texts
from rkkd_cli.config.presets import to_toml
from rkkd_cli.files import whole_file, write_whole
from rkkd_cli.methods import method_terms
from rkkd_cli.records.environment import command_line, environment
from rkkd_cli.records.manifest import EarlyEnd, FailedJob, Manifest, manifest_text
from rkkd_cli.records.metrics import (
    append_lines,
    columns,
    csv_lines,
    header_line,
    metrics_sha256,
    parse_metrics,
    sort_lines,
)
from rkkd_cli.records.run_directory import RunDirectory, create_run_directory
from rkkd_cli.sweep.jobs import grouped
from rkkd_cli.sweep.loggers import Loggers
from rkkd_cli.sweep.recording.run_state import cell_of
from rkkd_cli.train.checkpoint import CheckpointStore
from rkkd_cli.train.events import (
    ArmStopped,
    BestSoFar,
    Checkpoint,
    DatasetReady,
    EndedEarly,
    EpochDone,
    Event,
    JobFailed,
    StreamStarted,
    TeacherReady,
)
from rkkd_cli.train.teacher.store import TeacherStore

FORMAT = 4


class Recorder:
    """Writes what happens as it happens. The directory appears once the images are read.

    A stream's checkpoint also holds the experiment, the manifest and the stream's rows, so that
    it can restore the files beside it. ``loggers`` are told what stands in metrics.csv.
    """

    def __init__(
        self,
        experiment: Experiment,
        out: Path,
        name: str,
        device: str,
        or_next: bool = False,
        loggers: Loggers | None = None,
    ) -> None:
        self.loggers = loggers or Loggers({}, lambda _: None)
        self.experiment, self.out, self.or_next = experiment, out, or_next
        self.run: RunDirectory | None = None
        self.header = metrics_header(experiment)
        self.varied = {arm: varied_texts(experiment, arm) for arm in experiment.arms}
        self.rows: dict[str, str] = {}
        self.stopped: list[ArmStopped] = []
        self.ended: list[EndedEarly] = []
        self.manifest = new_manifest(name, device)
        self.manifest.monitors = _monitors(experiment)

    def continue_run(
        self,
        run: RunDirectory,
        manifest: Manifest,
        rows: Mapping[str, str],
        gone: Sequence[ArmStopped | EndedEarly],
    ) -> None:
        """Record on in a run that has begun; the caller holds its lock.

        ``gone`` are the arms that have left their streams.
        """
        self.run, self.rows = run, dict(rows)
        self.stopped = [one for one in gone if isinstance(one, ArmStopped)]
        self.ended = [one for one in gone if isinstance(one, EndedEarly)]
        self.manifest = manifest.model_copy(update={"monitors": _monitors(self.experiment)})
        self._say_stopped()
        self._begin_logging()

    def take(self, event: Event) -> None:
        """Record one event. Raises OSError where something cannot be written."""
        match event:
            case DatasetReady(facts):
                _add(self.manifest.datasets, facts, "fingerprint")
                self._open()
            case TeacherReady(facts, cache):
                _add(self.manifest.teachers, facts, "sha256")
                self._keep_teacher(facts, cache)
                self._save()
            case StreamStarted(costs=costs):
                self.manifest.students |= costs
                self._save()
            case EpochDone(stream, rows=rows):
                told = [row | self.varied[row["arm"]] for row in rows]
                self._append(stream, csv_lines(self.header, told))
                self.loggers.rows(rows, self.experiment.vary)
            case ArmStopped():
                self._stop(event)
            case EndedEarly():
                self.ended.append(event)
                self._say_stopped()
            case BestSoFar(arm=arm, seed=seed, content=content):
                self._keep_best(arm, seed, content)
            case Checkpoint(stream, state):
                self._store(stream).save(state | self._record(stream))
                self._hand_over(state)
            case JobFailed():
                self._give_up(event)
            case _:
                pass

    @property
    def finished_run(self) -> RunDirectory:
        """The directory of a run that has begun."""
        assert self.run is not None
        return self.run

    def metrics(self) -> pd.DataFrame:
        """Return the rows that were recorded, as :func:`read_metrics` returns those of the file."""
        return parse_metrics(self._ordered_lines(), self.finished_run.metrics)

    def close(self, status: str, reason: str | None = None) -> None:
        """Write the end of the run into the manifest, if the run ever began, and let go of it."""
        if self.run is None:
            return
        try:
            self._put_in_order()
            self.loggers.end([(one.arm, one.seed) for one in self.ended])
            end = {"status": status, "ended": now(), "reason": reason, "process": None}
            metrics = {"metrics_sha256": metrics_sha256(self.run.metrics)}
            self.manifest = self.manifest.model_copy(update=end | metrics)
            self._save()
        finally:
            self.run.release()

    def _put_in_order(self) -> None:
        """Let the rows stand in an order that does not depend on which streams took turns."""
        content = self._ordered_lines().encode()
        if self.finished_run.metrics.read_bytes() != content:
            write_whole(self.finished_run.metrics, content.decode())

    def _ordered_lines(self) -> str:
        groups = enumerate(grouped(self.experiment.resolved_arms))
        group_of = {arm.name: index for index, arms in groups for arm in arms}
        arms = {arm: group_of[arm] for arm in self.experiment.arms}
        lines = "".join(self.rows.values()).splitlines(keepends=True)
        return header_line(self.header) + sort_lines(lines, arms, self.experiment.seeds)

    def _open(self) -> None:
        if self.run is None:
            self.run = create_run_directory(self.out, self.manifest.run, self.or_next)
            self.manifest.run = self.run.name
            write_whole(self.run.experiment, to_toml(self.experiment))
            write_whole(self.run.metrics, header_line(self.header))
            self._save()
            self._begin_logging()
        self._save()

    def _begin_logging(self) -> None:
        assert self.run is not None
        lines = [header_line(self.header), *"".join(self.rows.values()).splitlines()]
        self.loggers.begin(self.run, self.manifest.id, self.experiment, lines)

    def _keep_teacher(self, facts: dict[str, Any], cache: Path | None) -> None:
        """Copy a teacher that stands in a cache: a run must go on where the cache has gone."""
        if self.run is not None and cache is not None:
            TeacherStore(self.run.path).copy_from(TeacherStore(cache), facts["key"])

    def _keep_best(self, arm: str, seed: int, content: bytes) -> None:
        assert self.run is not None
        path = self.run.best(arm, seed)
        path.parent.mkdir(exist_ok=True)
        with whole_file(path) as file:
            file.write(content)

    def _append(self, stream: str, lines: str) -> None:
        assert self.run is not None
        append_lines(self.run.metrics, lines)
        self.rows[stream] = self.rows.get(stream, "") + lines

    def _hand_over(self, state: Mapping[str, Any]) -> None:
        """Let a stream that trains cells again have them: what they did before goes."""
        cells = {(arm, state["seed"]) for arm in state["lockstep"]["arms"]}
        former = [one for one in self.stopped if (one.arm, one.seed) in cells]
        if not former:
            return
        self.stopped = [one for one in self.stopped if one not in former]
        for name in {one.stream for one in former}:
            lines = self.rows.get(name, "").splitlines(keepends=True)
            self.rows[name] = "".join(line for line in lines if cell_of(line) not in cells)
        self._put_in_order()
        self._say_stopped()

    def _stop(self, event: ArmStopped) -> None:
        self._store(event.stream).keep(event.arm)
        self.stopped.append(event)
        self._say_stopped()

    def _give_up(self, event: JobFailed) -> None:
        failed = FailedJob(
            stream=event.stream, seed=event.seed, arms=list(event.arms), reason=event.reason
        )
        self.manifest.failed.append(failed)
        self._say_stopped()

    def _say_stopped(self) -> None:
        given_up = [
            f"seed {one['seed']}, {', '.join(one['arms'])}: given up: {one['reason']}"
            for one in self.manifest.failed
        ]
        self.manifest.diverged = [(one.arm, one.seed) for one in self.stopped]
        self.manifest.ended_early = [_early_end(one) for one in self.ended]
        self.manifest.stopped = [*(self._sentence(one) for one in self.stopped), *given_up]
        self._save()

    def _sentence(self, event: ArmStopped) -> str:
        kept = self._store(event.stream).kept(event.arm)
        return event.sentence + (f"; its last good checkpoint is {kept}" if kept else "")

    def _store(self, stream: str) -> CheckpointStore:
        assert self.run is not None
        return CheckpointStore(self.run.checkpoints / stream)

    def _record(self, stream: str) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "stream": stream,
            "experiment": self.experiment.model_dump_json(),
            "manifest": manifest_text(self.manifest),
            "rows": self.rows.get(stream, ""),
        }

    def _save(self) -> None:
        if self.run is not None:
            self.run.write_manifest(self.manifest)


def metrics_header(experiment: Experiment) -> tuple[str, ...]:
    """Return the columns of the experiment's metrics.csv."""
    with_validation = any(arm.experiment.dataset.val_share > 0 for arm in experiment.resolved_arms)
    own = [term for arm in experiment.resolved_arms for term in method_terms(arm.experiment.method)]
    return columns(with_validation, tuple(experiment.vary), list(dict.fromkeys(own)))


def new_manifest(name: str, device: str) -> Manifest:
    """Return the manifest of a run that begins now, in this process."""
    facts = environment()
    facts["versions"]["torch"] = str(torch.__version__)  # with its build
    return Manifest(
        run=name,
        id=uuid.uuid4().hex,
        status="running",
        started=now(),
        command=command_line(),
        device=device,
        threads=torch.get_num_threads(),
        process=os.getpid(),
        numbers_version=NUMBERS_VERSION,
        **facts,
    )


def now() -> str:
    """Return the time, for the manifest."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _monitors(experiment: Experiment) -> dict[str, str]:
    """Return by which metric each arm's epoch is chosen, for the arms of which one is."""
    chosen = {arm.name: arm.experiment.training.selects_by for arm in experiment.resolved_arms}
    return {arm: monitor for arm, monitor in chosen.items() if monitor is not None}


def _early_end(event: EndedEarly) -> EarlyEnd:
    return EarlyEnd(
        arm=event.arm,
        seed=event.seed,
        epoch=event.epoch,
        monitor=event.monitor,
        best=event.best,
        best_epoch=event.best_epoch,
    )


def _add(known: list[Any], facts: dict[str, Any], key: str) -> None:
    if facts[key] not in {one[key] for one in known}:
        known.append(facts)
