"""Weights & Biases: one W&B run per arm and seed, all in one group. Offline by default."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rkkd_cli.files import write_atomically
from rkkd_cli.sweep.jobs import Cell
from rkkd_cli.sweep.loggers.logger import LoggedRun, Point, RunFiles, Setting

LOGIN_SECONDS = 60.0  # for an answer of the server, or of the user who is asked for a key


class ToWandb:
    """Writes files under ``<run>/wandb``; ``wandb sync`` uploads them.

    Offline files do not tell which epochs they have: ``rkkd-epochs.json`` beside them does. A run
    that resumes writes further files with the same W&B run id. Figures, table and weights are in a
    W&B run of their own, ``summary``.
    """

    def __init__(self, project: str | None = None) -> None:
        self.project = project or os.environ.get("WANDB_PROJECT", "rkkd")

    def begin(self, run: LoggedRun) -> Mapping[Cell, int]:
        """Read which epochs earlier sessions have written, and begin the first W&B run."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self.run, self.open_runs = run, dict[Cell, Any]()
        folder = run.directory.path / "wandb"
        folder.mkdir(exist_ok=True)
        os.environ.setdefault("WANDB_DATA_DIR", str(folder.absolute()))  # copies of artifacts
        self.epochs_file = folder / "rkkd-epochs.json"
        self.epochs = _read_epochs(self.epochs_file)
        first = next(
            (cell for cell in run.cells if self.epochs.get(cell, 0) < self._last(cell)), None
        )
        if first is not None:
            self.open_runs[first] = self._begin_cell(first)
        return dict(self.epochs)

    def _last(self, cell: Cell) -> int:
        """Return the last epoch of a cell."""
        return self.run.arms[cell[0]].experiment.training.epochs

    def row(self, point: Point) -> None:
        """Log the columns of the epoch."""
        if point.cell not in self.open_runs:
            self.open_runs[point.cell] = self._begin_cell(point.cell)
        self.open_runs[point.cell].log(dict(point.values), step=point.epoch)
        self.epochs[point.cell] = point.epoch
        entries = [[arm, seed, epoch] for (arm, seed), epoch in self.epochs.items()]
        write_atomically(self.epochs_file, json.dumps(entries))
        if point.epoch >= self._last(point.cell):
            self.open_runs.pop(point.cell).finish()

    def _begin_cell(self, cell: Cell) -> Any:
        arm, seed = cell
        return self._init(f"{arm}-seed{seed}", f"{arm} {seed}", "train", self.run.settings(cell))

    def _init(self, name: str, key: str, job_type: str, config: dict[str, Setting]) -> Any:
        """Return a new W&B run, or the earlier one with this key, continued."""
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        settings = wandb.Settings(
            console="off", silent=True, disable_git=True, save_code=False, x_disable_stats=True,
            init_timeout=LOGIN_SECONDS, login_timeout=LOGIN_SECONDS,
        )  # fmt: skip
        return wandb.init(
            project=self.project,
            id=hashlib.sha256(f"{self.run.id} {key}".encode()).hexdigest()[:16],
            name=name,
            group=self.run.directory.name,
            job_type=job_type,
            tags=list(self.run.tags),
            config=config,
            dir=str(self.run.directory.path),
            mode=mode,
            resume="allow" if mode == "online" else None,
            reinit="create_new",
            settings=settings,
        )

    def end(self, last: Mapping[Cell, Point]) -> None:
        """Complete the files."""
        for run in self.open_runs.values():
            run.finish()
        self.open_runs.clear()

    def files(self, files: RunFiles) -> None:
        """Log the figures as images, the table as a table, and the weights as an artifact."""
        import wandb

        directory = self.run.directory
        with self._init("summary", "summary", "summary", {}) as run:
            run.log({f"figures/{path.stem}": wandb.Image(str(path)) for path in files.figures})
            run.log({"final_table": wandb.Table(dataframe=files.table)})
            name = re.sub(r"[^\w.-]", "-", directory.name)
            weights = wandb.Artifact(f"{name}-weights", type="model")
            for path in [path for of_cell in files.weights.values() for path in of_cell]:
                weights.add_file(str(path), name=path.relative_to(directory.path).as_posix())
            if weights.manifest.entries:
                run.log_artifact(weights)


def _read_epochs(path: Path) -> dict[Cell, int]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {(str(arm), int(seed)): int(epoch) for arm, seed, epoch in entries}
