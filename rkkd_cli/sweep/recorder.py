"""Turns the events of a run into its directory: experiment, manifest and metrics."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from rkkd_cli.config.arms import resolve_arms
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.presets import to_toml
from rkkd_cli.files import write_whole
from rkkd_cli.records.environment import command_line, environment
from rkkd_cli.records.metrics import MetricsWriter, columns
from rkkd_cli.records.run_directory import RunDirectory, create_run_directory
from rkkd_cli.train.events import (
    ArmStopped,
    DatasetReady,
    EpochDone,
    Event,
    StreamStarted,
    TeacherReady,
)


class Recorder:
    """Writes what happens as it happens. The directory appears when the first stream starts."""

    def __init__(
        self, experiment: Experiment, out: Path, name: str, device: str, or_next: bool = False
    ) -> None:
        self.experiment, self.out, self.name, self.or_next = experiment, out, name, or_next
        self.run: RunDirectory | None = None
        self.metrics: MetricsWriter | None = None
        self.stopped: list[ArmStopped] = []
        self.manifest: dict[str, Any] = {
            "run": name,
            "status": "running",
            "started": _now(),
            "ended": None,
            "command": command_line(),
            "device": device,
            "datasets": [],
            "teachers": [],
            "stopped": [],
        }

    def take(self, event: Event) -> None:
        """Record one event."""
        match event:
            case DatasetReady(facts):
                self.manifest["datasets"].append(facts)
            case TeacherReady(facts):
                self.manifest["teachers"].append(facts)
            case StreamStarted():
                self._open()
            case EpochDone(rows=rows):
                assert self.metrics is not None
                header = self.metrics.header
                self.metrics.append({c: row.get(c, "") for c in header} for row in rows)
            case ArmStopped():
                self.stopped.append(event)
                self.manifest["stopped"].append(event.sentence)
                self._save()
            case _:
                pass

    def close(self, status: str, reason: str | None = None) -> None:
        """Write the end of the run into the manifest, if the run ever began."""
        self.manifest |= {"status": status, "ended": _now()}
        if reason:
            self.manifest["reason"] = reason
        self._save()

    def _open(self) -> None:
        if self.run is None:
            self.run = create_run_directory(self.out, self.name, self.or_next)
            self.manifest |= {"run": self.run.name} | environment()
            self.manifest["versions"]["torch"] = str(torch.__version__)  # with its build
            write_whole(self.run.experiment, to_toml(self.experiment))
            arms = resolve_arms(self.experiment)
            with_validation = any(arm.experiment.dataset.val_share > 0 for arm in arms)
            self.metrics = MetricsWriter(self.run.metrics, columns(with_validation))
        self._save()

    def _save(self) -> None:
        if self.run is not None:
            self.run.write_manifest(self.manifest)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
