"""Weights & Biases: one W&B run per arm and seed, all in one group. Offline by default."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rkkd_cli.files import write_atomically
from rkkd_cli.sweep.jobs import Cell
from rkkd_cli.sweep.loggers.logger import LoggedRun, Point


class ToWandb:
    """Writes files under ``<run>/wandb``; ``wandb sync`` uploads them.

    Offline files do not tell which epochs they have: ``rkkd-epochs.json`` beside them does. A run
    that resumes writes further files with the same W&B run id.
    """

    def begin(self, run: LoggedRun) -> Mapping[Cell, int]:
        """Read which epochs earlier sessions have written."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self.run, self.open_runs = run, dict[Cell, Any]()
        self.epochs_file = run.directory.path / "wandb" / "rkkd-epochs.json"
        self.epochs = _read_epochs(self.epochs_file)
        return dict(self.epochs)

    def row(self, point: Point) -> None:
        """Log the columns of the epoch."""
        if point.cell not in self.open_runs:
            self.open_runs[point.cell] = self._init(point.cell)
        self.open_runs[point.cell].log(dict(point.values), step=point.epoch)
        self.epochs[point.cell] = point.epoch
        entries = [[arm, seed, epoch] for (arm, seed), epoch in self.epochs.items()]
        write_atomically(self.epochs_file, json.dumps(entries))
        if point.epoch >= self.run.arms[point.arm].experiment.training.epochs:
            self.open_runs.pop(point.cell).finish()

    def _init(self, cell: Cell) -> Any:
        import wandb

        arm, seed = cell
        self.epochs_file.parent.mkdir(exist_ok=True)
        run_id = hashlib.sha256(f"{self.run.id} {arm} {seed}".encode()).hexdigest()[:16]
        mode: Any = os.environ.get("WANDB_MODE", "offline")
        settings = wandb.Settings(
            console="off", silent=True, disable_git=True, save_code=False, x_disable_stats=True
        )
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", "rkkd"),
            id=run_id,
            name=f"{arm}-seed{seed}",
            group=self.run.directory.name,
            config=self.run.settings(cell),
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


def _read_epochs(path: Path) -> dict[Cell, int]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {(str(arm), int(seed)): int(epoch) for arm, seed, epoch in entries}
