"""TensorBoard event files in ``<run>/tensorboard/<arm>-seed<k>/``, with HParams summaries."""

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
from rkkd_cli.sweep.loggers.logger import LoggedRun, Point, Setting

FINAL_PREFIX = "final/"
FINAL_METRICS = ("test_acc", "test_kl", "test_rank", "test_kendall_tau", "kl", "rank")
FILE_VERSION = "brain.Event:2"  # how every event file begins


class WrittenEpochs(NamedTuple):
    """The last epoch in a folder, and the epoch of its final metrics (0 if there are none)."""

    last: int = 0
    final: int = 0


class ToTensorBoard:
    """One folder per cell. An epoch is one event, so it is written completely or not at all.

    A file is opened only while an epoch is written: a grid may have thousands of cells.
    """

    def begin(self, run: LoggedRun) -> Mapping[Cell, int]:
        """Read what earlier sessions have written."""
        self.run, self.files = run, dict[Cell, Path]()
        folders = {
            (name, seed): self._folder((name, seed))
            for name, arm in run.arms.items()
            for seed in arm.experiment.seeds
        }
        self.written = {
            cell: _read_epochs(folder) for cell, folder in folders.items() if folder.is_dir()
        }
        return {cell: epochs.last for cell, epochs in self.written.items()}

    def _folder(self, cell: Cell) -> Path:
        return self.run.directory.path / "tensorboard" / f"{cell[0]}-seed{cell[1]}"

    def row(self, point: Point) -> None:
        """Write all columns of the epoch as one event."""
        self._write(point.cell, _scalars(point.values), point.epoch)

    def end(self, last: Mapping[Cell, Point]) -> None:
        """Write the final metrics of the cells that are done."""
        for cell, point in last.items():
            if self.written.get(cell, WrittenEpochs()).final >= point.epoch:
                continue
            names = [name for name in FINAL_METRICS if name in point.values]
            final = {FINAL_PREFIX + name: point.values[name] for name in names}
            self._write(cell, _scalars(final), point.epoch)
            self._write(cell, _hparams(self.run.settings(cell))[2], point.epoch)

    def _write(self, cell: Cell, summary: Summary, step: int) -> None:
        events = [Event(wall_time=time.time(), step=step, summary=summary)]
        if cell not in self.files:
            self.files[cell] = _next_file(self._folder(cell))
            events.insert(0, Event(wall_time=time.time(), file_version=FILE_VERSION))
            if cell not in self.written:
                summaries = _hparams(self.run.settings(cell))[:2]
                events[1:1] = [Event(wall_time=time.time(), summary=each) for each in summaries]
        with self.files[cell].open("ab") as file:
            writer = RecordWriter(file)
            for event in events:
                writer.write(event.SerializeToString())


def _scalars(values: Mapping[str, float]) -> Summary:
    return Summary(value=[Summary.Value(tag=k, simple_value=v) for k, v in values.items()])


def _hparams(settings: Mapping[str, Setting]) -> tuple[Summary, Summary, Summary]:
    """Return HParams' three summaries: the metrics, the settings, and that the session ended."""
    metrics = {FINAL_PREFIX + name: 0.0 for name in FINAL_METRICS}  # only the names are used
    summaries: tuple[Summary, Summary, Summary] = hparams(dict(settings), metrics)  # type: ignore[no-untyped-call]
    return summaries


def _next_file(folder: Path) -> Path:
    """Return a new file after those of earlier sessions, the last of which may be incomplete."""
    folder.mkdir(parents=True, exist_ok=True)
    count = len(list(folder.glob("events.out.tfevents.*")))
    return folder / f"events.out.tfevents.{count:06d}.rkkd"


def _read_epochs(folder: Path) -> WrittenEpochs:
    last = final = 0
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            last = max(last, event.step)
            if any(value.tag.startswith(FINAL_PREFIX) for value in event.summary.value):
                final = max(final, event.step)
    return WrittenEpochs(last, final)
