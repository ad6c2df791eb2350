"""TensorBoard event files in ``<run>/tensorboard/<arm>-seed<k>/``, with HParams summaries."""

from collections.abc import Mapping

from torch.utils.tensorboard import SummaryWriter

from rkkd_cli.sweep.jobs import Cell
from rkkd_cli.sweep.loggers.logger import LoggedRun, Point

FINAL_METRICS = ("test_acc", "test_kl", "test_rank", "test_kendall_tau", "kl", "rank")
MAX_OPEN_WRITERS = 256  # each has a file and a thread, and a grid may have thousands of cells


class ToTensorBoard:
    """One folder per cell. A run that goes on writes all files anew, from ``metrics.csv``."""

    def begin(self, run: LoggedRun) -> Mapping[Cell, int]:
        """Delete the files of earlier sessions, so that all rows are logged again."""
        self.run, self.writers = run, dict[Cell, SummaryWriter]()
        self.folder = run.directory.path / "tensorboard"
        for path in self.folder.glob("*/events.out.tfevents.*"):
            path.unlink()
        return {}

    def _writer(self, cell: Cell) -> SummaryWriter:
        """Return the cell's writer. One that was closed goes on with a further file."""
        if cell not in self.writers:
            if len(self.writers) == MAX_OPEN_WRITERS:
                self.writers.pop(next(iter(self.writers))).close()
            self.writers[cell] = SummaryWriter(self.folder / f"{cell[0]}-seed{cell[1]}")
        return self.writers[cell]

    def row(self, point: Point) -> None:
        """Write each column of the epoch as a scalar."""
        writer = self._writer(point.cell)
        for name, value in point.values.items():
            writer.add_scalar(name, value, point.epoch)
        writer.flush()

    def end(self, last: Mapping[Cell, Point]) -> None:
        """Write the settings and the final metrics of the cells that are done."""
        for cell, point in last.items():
            names = [name for name in FINAL_METRICS if name in point.values]
            final = {f"final/{name}": point.values[name] for name in names}
            settings = self.run.settings(cell)
            self._writer(cell).add_hparams(settings, final, run_name=".", global_step=point.epoch)
        for writer in self.writers.values():
            writer.close()
