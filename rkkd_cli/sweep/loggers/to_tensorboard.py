"""TensorBoard event files in ``<run>/tensorboard/<arm>-seed<k>/``, with those of HParams."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import hparams

from rkkd_cli.sweep.jobs import Cell
from rkkd_cli.sweep.loggers.logger import Logged, Point, Setting

FINAL = "final/"
FINAL_METRICS = ("test_acc", "test_kl", "test_rank", "test_kendall_tau", "kl", "rank")
VERSION = "brain.Event:2"  # how every event file begins


class Had(NamedTuple):
    """The last epoch that a folder has, and the one at which its final metrics stand."""

    epoch: int = 0
    final: int = 0


class ToTensorBoard:
    """One folder a cell; an epoch is one event, so it is there as a whole or not at all.

    Files are opened for each epoch only: a grid may have thousands of cells.
    """

    def begin(self, logged: Logged) -> Mapping[Cell, int]:
        """Read what earlier sessions have written."""
        self.logged, self.files = logged, dict[Cell, Path]()
        folders = {
            (arm, seed): self._folder((arm, seed))
            for arm, one in logged.arms.items()
            for seed in one.experiment.seeds
        }
        self.had = {cell: _read(folder) for cell, folder in folders.items() if folder.is_dir()}
        return {cell: had.epoch for cell, had in self.had.items()}

    def _folder(self, cell: Cell) -> Path:
        return self.logged.run.path / "tensorboard" / f"{cell[0]}-seed{cell[1]}"

    def row(self, point: Point) -> None:
        """Write all columns of the epoch as one event."""
        self._write(point.cell, _scalars(point.values), point.epoch)

    def end(self, last: Mapping[Cell, Point]) -> None:
        """Write the final metrics of the cells that are done."""
        for cell, point in last.items():
            if self.had.get(cell, Had()).final >= point.epoch:
                continue
            final = {FINAL + name: point.values[name] for name in _finals(point)}
            self._write(cell, _scalars(final), point.epoch)
            self._write(cell, _hparams(self.logged.settings(cell))[2], point.epoch)

    def _write(self, cell: Cell, summary: Summary, step: int) -> None:
        events = [Event(wall_time=time.time(), step=step, summary=summary)]
        if cell not in self.files:
            self.files[cell] = _next_file(self._folder(cell))
            events.insert(0, Event(wall_time=time.time(), file_version=VERSION))
            if cell not in self.had:
                told = _hparams(self.logged.settings(cell))[:2]
                events[1:1] = [Event(wall_time=time.time(), summary=one) for one in told]
        with self.files[cell].open("ab") as file:
            writer = RecordWriter(file)
            for event in events:
                writer.write(event.SerializeToString())


def _finals(point: Point) -> list[str]:
    return [name for name in FINAL_METRICS if name in point.values]


def _scalars(values: Mapping[str, float]) -> Summary:
    return Summary(value=[Summary.Value(tag=k, simple_value=v) for k, v in values.items()])


def _hparams(settings: Mapping[str, Setting]) -> tuple[Summary, Summary, Summary]:
    """Return the plugin's three summaries: what is measured, what was set, that it has ended."""
    metrics = {FINAL + name: 0.0 for name in FINAL_METRICS}  # their names are looked at alone
    made: tuple[Summary, Summary, Summary] = hparams(dict(settings), metrics)  # type: ignore[no-untyped-call]
    return made


def _next_file(folder: Path) -> Path:
    """Return a new file after those of earlier sessions, the last of which may end torn."""
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob("events.out.tfevents.*")))
    return folder / f"events.out.tfevents.{number:06d}.rkkd"


def _read(folder: Path) -> Had:
    had = Had()
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            had = had._replace(epoch=max(had.epoch, event.step))
            if any(value.tag.startswith(FINAL) for value in event.summary.value):
                had = had._replace(final=max(had.final, event.step))
    return had
