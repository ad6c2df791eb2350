"""TensorBoard event files in ``<run>/tensorboard/<arm>-seed<k>/``, with HParams summaries."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from rkkd_cli.sweep.jobs import Cell
from rkkd_cli.sweep.loggers.logger import LoggedRun, Point, RunFiles

MAX_OPEN_WRITERS = 256  # each has a file and a thread, and a grid may have thousands of cells


class ToTensorBoard:
    """One folder per cell. A run that goes on writes all files anew, from ``metrics.csv``."""

    def begin(self, run: LoggedRun) -> Mapping[Cell, int]:
        """Delete the files of earlier sessions, so that all rows are logged again."""
        self.run, self.writers = run, dict[Cell, SummaryWriter]()
        self.folder = run.directory.path / "tensorboard"
        self.folder.mkdir(exist_ok=True)
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
            task = self.run.arms[point.arm].experiment.task_records
            names = [name for name in task.summary_columns if name in point.values]
            final = {f"final/{name}": point.values[name] for name in names}
            settings = self.run.settings(cell)
            if self.run.tags:
                settings["tags"] = ", ".join(self.run.tags)
            self._writer(cell).add_hparams(settings, final, run_name=".", global_step=point.epoch)
        for writer in self.writers.values():
            writer.close()
        self.writers.clear()

    def files(self, files: RunFiles) -> None:
        """Write figures and table into a folder of their own. There is no place for weights."""
        with SummaryWriter(self.folder / "summary") as writer:
            for path in files.figures:
                pixels = np.asarray(Image.open(path).convert("RGB"))
                writer.add_image(f"figures/{path.stem}", pixels, dataformats="HWC")
            writer.add_text("final table", _markdown(files.table))


def _markdown(table: pd.DataFrame) -> str:
    rows = [[str(name) for name in table.columns], ["---"] * len(table.columns)]
    rows += [["" if pd.isna(cell) else f"{cell}" for cell in row] for row in table.to_numpy()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
