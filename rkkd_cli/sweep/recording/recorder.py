"""Records the events of a run in its directory: experiment, manifest, metrics, checkpoints."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rkkd_cli.config.description import Counts, with_counts
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.grid import varied_texts
from rkkd_cli.config.presets import to_toml
from rkkd_cli.files import atomic_file, write_atomically
from rkkd_cli.records.detections import detections_path
from rkkd_cli.records.manifest import EarlyEnd, FailedJob, Manifest, manifest_text
from rkkd_cli.records.metrics import (
    append_lines,
    csv_lines,
    header_line,
    metrics_sha256,
    parse_metrics,
    sort_lines,
)
from rkkd_cli.records.retrieval import RetrievalSheet
from rkkd_cli.records.run_directory import RunDirectory, create_run_directory
from rkkd_cli.sweep.jobs import group_by_stream
from rkkd_cli.sweep.loggers import Loggers
from rkkd_cli.sweep.recording.beginning import metrics_header, monitors_of, new_manifest, utc_now
from rkkd_cli.sweep.recording.detected import detection_sheet
from rkkd_cli.sweep.recording.own_code import keep_code, read_code
from rkkd_cli.sweep.recording.run_state import cell_of
from rkkd_cli.train.checkpoint import CheckpointStore
from rkkd_cli.train.events import (
    ArmStopped,
    Checkpoint,
    DatasetReady,
    Detected,
    EndedEarly,
    EpochDone,
    Event,
    JobFailed,
    Retrieved,
    StreamStarted,
    StudentWeights,
    TeacherReady,
    Warned,
)
from rkkd_cli.train.teacher.store import TeacherStore

CHECKPOINT_FORMAT = 6


class Recorder:
    """Writes each event as it happens. Creates the directory once the images are read.

    The checkpoints of a stream also hold the experiment, the manifest and the stream's rows, so
    they can restore those files. ``loggers`` get the rows of metrics.csv.
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
        self.code = read_code(experiment)
        self.accepted: Sequence[str] = ()  # changes of that code, recorded once a stream goes on
        self.rows: dict[str, str] = {}  # of each stream
        self.stopped: list[ArmStopped] = []
        self.ended: list[EndedEarly] = []
        self.manifest = new_manifest(name, device)
        self.manifest.monitors = monitors_of(experiment)

    def continue_run(
        self,
        run: RunDirectory,
        manifest: Manifest,
        rows: Mapping[str, str],
        stopped: Sequence[ArmStopped],
        ended: Sequence[EndedEarly],
    ) -> None:
        """Continue to record a run that has begun. The caller holds its lock."""
        self.run, self.rows = run, dict(rows)
        self.stopped, self.ended = list(stopped), list(ended)
        self.manifest = manifest.model_copy(update={"monitors": monitors_of(self.experiment)})
        self.header = metrics_header(self.experiment, manifest.datasets)
        self._write_stopped()
        self._begin_logging()

    def take(self, event: Event) -> None:
        """Record one event. Raises OSError if something cannot be written."""
        match event:
            case DatasetReady(facts):
                _add(self.manifest.datasets, facts, "fingerprint")
                counts = Counts(facts["classes"], facts["train_images"])
                self.experiment = with_counts(self.experiment, counts)
                self._open()
            case TeacherReady(facts, cache):
                _add(self.manifest.teachers, facts, "sha256", "name")
                if self.run is not None and cache is not None:  # a cache may be emptied
                    store = TeacherStore(self.run.path)
                    store.copy_from(TeacherStore(cache), facts["key"])
                self._write_manifest()
            case StreamStarted(costs=costs, objectives=objectives):
                self.manifest.students |= costs
                self.manifest.objectives |= objectives
                kept = self.manifest.code
                self.manifest.code = keep_code(self.started_run, self.code, kept)
                self.warn(self.accepted)
                self._write_manifest()
            case Warned(text):
                self.warn([text])
            case EpochDone(stream, rows=rows):
                self._append_rows(stream, rows)
            case ArmStopped(stream=stream, arm=arm):
                self._checkpoints(stream).pin(arm)
                self.stopped.append(event)
                self._write_stopped()
            case EndedEarly():
                self.ended.append(event)
                self._write_stopped()
            case StudentWeights(arm=arm, seed=seed, kind=kind, content=content):
                path = self.started_run.weights(kind, arm, seed)
                path.parent.mkdir(exist_ok=True)
                with atomic_file(path) as file:
                    file.write(content)
            case Retrieved() | Detected():
                self._keep_sheet(event)
            case Checkpoint(stream, state):
                self._save_checkpoint(stream, state)
            case JobFailed(stream, seed, arms, reason):
                failed = FailedJob(stream=stream, seed=seed, arms=list(arms), reason=reason)
                self.manifest.failed.append(failed)
                self._write_stopped()
            case _:
                pass

    @property
    def started_run(self) -> RunDirectory:
        """The directory of a run that has begun."""
        assert self.run is not None
        return self.run

    def warn(self, sentences: Iterable[str]) -> None:
        """Keep sentences about what makes the numbers doubtful, each once."""
        warnings = dict.fromkeys([*self.manifest.warnings, *sentences])
        self.manifest.warnings = list(warnings)
        self._write_manifest()

    def metrics(self) -> pd.DataFrame:
        """Return the recorded rows, as :func:`read_metrics` returns those of the file."""
        return parse_metrics(self._sorted_content(), self.started_run.metrics)

    def close(self, status: str, reason: str | None = None) -> None:
        """Write the end of the run into the manifest and release the run, if it ever began."""
        if self.run is None:
            return
        try:
            self._sort_rows()
            self.loggers.end([(event.arm, event.seed) for event in self.ended])
            end = {"status": status, "ended": utc_now(), "reason": reason, "process": None}
            metrics = {"metrics_sha256": metrics_sha256(self.run.metrics)}
            self.manifest = self.manifest.model_copy(update=end | metrics)
            self._write_manifest()
        finally:
            self.run.release()

    def _keep_sheet(self, found: Retrieved | Detected) -> None:
        """Write what an arm found in images, as a sheet.

        Of one seed, and not of a grid: nobody compares the pictures of so many cells.
        """
        if found.seed != self.experiment.seeds[0] or self.experiment.vary:
            return
        if isinstance(found, Detected):
            path = detections_path(self.started_run.path, found.arm)
            detection_sheet(found).write(path)
            return
        sheet = RetrievalSheet(found.arm, found.seed, found.epoch, found.images, found.classes)
        sheet.write(self.started_run.retrieval(found.arm))

    def _sort_rows(self) -> None:
        """Sort metrics.csv into an order that does not depend on which streams took turns."""
        content = self._sorted_content()
        if self.started_run.metrics.read_bytes() != content.encode():
            write_atomically(self.started_run.metrics, content)

    def _sorted_content(self) -> str:
        groups = enumerate(group_by_stream(self.experiment.resolved_arms))
        group_of = {arm.name: index for index, arms in groups for arm in arms}
        arms = {arm: group_of[arm] for arm in self.experiment.arms}
        lines = "".join(self.rows.values()).splitlines(keepends=True)
        return header_line(self.header) + sort_lines(lines, arms, self.experiment.seeds)

    def _open(self) -> None:
        """Create the run directory, unless it is there."""
        if self.run is None:
            self.run = create_run_directory(self.out, self.manifest.run, self.or_next)
            self.manifest.run = self.run.name
            self.header = metrics_header(self.experiment, self.manifest.datasets)
            write_atomically(self.run.experiment, to_toml(self.experiment))
            write_atomically(self.run.metrics, header_line(self.header))
            self.manifest.code = keep_code(self.run, self.code, kept={})
            self._write_manifest()
            self._begin_logging()
        self._write_manifest()

    def _begin_logging(self) -> None:
        lines = [header_line(self.header), *"".join(self.rows.values()).splitlines()]
        self.loggers.begin(self.started_run, self.manifest.id, self.experiment, lines)

    def _append_rows(self, stream: str, rows: Sequence[dict[str, Any]]) -> None:
        lines = csv_lines(self.header, [row | self.varied[row["arm"]] for row in rows])
        append_lines(self.started_run.metrics, lines)
        self.rows[stream] = self.rows.get(stream, "") + lines
        self.loggers.rows(rows, self.experiment.vary)

    def _save_checkpoint(self, stream: str, state: Mapping[str, Any]) -> None:
        record = {
            "format": CHECKPOINT_FORMAT,
            "stream": stream,
            "experiment": self.experiment.model_dump_json(),
            "manifest": manifest_text(self.manifest),
            "rows": self.rows.get(stream, ""),
        }
        self._checkpoints(stream).save({**state, **record})
        self._forget_retried(state)

    def _forget_retried(self, state: Mapping[str, Any]) -> None:
        """Remove the rows of diverged cells that this stream trains again."""
        cells = {(arm, state["seed"]) for arm in state["lockstep"]["arms"]}
        retried = [event for event in self.stopped if (event.arm, event.seed) in cells]
        if not retried:
            return
        self.stopped = [event for event in self.stopped if event not in retried]
        for stream in {event.stream for event in retried}:
            lines = self.rows.get(stream, "").splitlines(keepends=True)
            self.rows[stream] = "".join(line for line in lines if cell_of(line) not in cells)
        self._sort_rows()
        self._write_stopped()

    def _write_stopped(self) -> None:
        """Write into the manifest which arms diverged, ended early or were given up."""
        given_up = [
            f"seed {job['seed']}, {', '.join(job['arms'])}: given up: {job['reason']}"
            for job in self.manifest.failed
        ]
        self.manifest.diverged = [(event.arm, event.seed) for event in self.stopped]
        self.manifest.ended_early = [_early_end(event) for event in self.ended]
        self.manifest.stopped = [*map(self._sentence, self.stopped), *given_up]
        self._write_manifest()

    def _sentence(self, event: ArmStopped) -> str:
        pinned = self._checkpoints(event.stream).pinned(event.arm)
        return event.sentence + (f"; its last good checkpoint is {pinned}" if pinned else "")

    def _checkpoints(self, stream: str) -> CheckpointStore:
        return CheckpointStore(self.started_run.checkpoints / stream)

    def _write_manifest(self) -> None:
        if self.run is not None:
            self.run.write_manifest(self.manifest)


def _early_end(event: EndedEarly) -> EarlyEnd:
    return EarlyEnd(
        arm=event.arm,
        seed=event.seed,
        epoch=event.epoch,
        monitor=event.monitor,
        best=event.best,
        best_epoch=event.best_epoch,
    )


def _add(entries: list[Any], facts: dict[str, Any], *keys: str) -> None:
    """Append the facts, unless there is an entry with the same values of the ``keys``."""
    if all(any(facts.get(key) != entry.get(key) for key in keys) for entry in entries):
        entries.append(facts)
