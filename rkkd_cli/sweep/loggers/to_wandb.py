"""Weights & Biases: a run of theirs for each arm and seed, in one group; offline unless told."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rkkd_cli.files import write_whole
from rkkd_cli.sweep.jobs import Cell
from rkkd_cli.sweep.loggers.logger import Logged, Point


class ToWandb:
    """Files under ``<run>/wandb``; ``wandb sync`` sends them.

    Offline files cannot be asked what they have: ``rkkd-epochs.json`` beside them says it. A run
    that goes on writes further files with the same W&B run id.
    """

    def begin(self, logged: Logged) -> Mapping[Cell, int]:
        """Read which epochs earlier sessions have written."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self.logged, self.open = logged, dict[Cell, Any]()
        self.epochs = _read(self._record)
        return dict(self.epochs)

    @property
    def _record(self) -> Path:
        return self.logged.run.path / "wandb" / "rkkd-epochs.json"

    def row(self, point: Point) -> None:
        """Log the columns of the epoch."""
        if point.cell not in self.open:
            self.open[point.cell] = self._init(point.cell)
        self.open[point.cell].log(dict(point.values), step=point.epoch)
        self.epochs[point.cell] = point.epoch
        told = [[arm, seed, epoch] for (arm, seed), epoch in self.epochs.items()]
        write_whole(self._record, json.dumps(told))
        if point.epoch >= self.logged.arms[point.arm].experiment.training.epochs:
            self.open.pop(point.cell).finish()

    def _init(self, cell: Cell) -> Any:
        import wandb

        arm, seed = cell
        self._record.parent.mkdir(exist_ok=True)
        identity = hashlib.sha256(f"{self.logged.id} {arm} {seed}".encode()).hexdigest()
        settings = wandb.WorkerOptions(
            console="off", silent=True, disable_git=True, save_code=False, x_disable_stats=True
        )
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", "rkkd"),
            id=identity[:16],
            name=f"{arm}-seed{seed}",
            group=self.logged.run.name,
            config=self.logged.settings(cell),
            dir=str(self.logged.run.path),
            mode=_mode(),
            resume="allow" if _mode() == "online" else None,
            reinit="create_new",
            settings=settings,
        )

    def end(self, last: Mapping[Cell, Point]) -> None:
        """Let the files be complete."""
        for run in self.open.values():
            run.finish()
        self.open.clear()


def _mode() -> Any:
    return os.environ.get("WANDB_MODE", "offline")


def _read(path: Path) -> dict[Cell, int]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {(str(arm), int(seed)): int(epoch) for arm, seed, epoch in told}
