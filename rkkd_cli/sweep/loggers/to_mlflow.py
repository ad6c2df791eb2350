"""MLflow: one MLflow experiment per run, one MLflow run per arm and seed. SQLite by default."""

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from rkkd_cli.sweep.jobs import Cell
from rkkd_cli.sweep.loggers.logger import LoggedRun, Point

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

ID, ARM, SEED, EPOCH = "rkkd.run_id", "rkkd.arm", "rkkd.seed", "epoch"
MAX_PARAMETERS_PER_CALL = 100


class ToMLflow:
    """Logs to MLFLOW_TRACKING_URI, or else to ``<run>/mlflow.db``."""

    def begin(self, run: LoggedRun) -> Mapping[Cell, int]:
        """Find the MLflow runs of earlier sessions and the epochs that they have."""
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):  # after the import, which sets its own levels
            logging.getLogger(name).setLevel(logging.WARNING)
        folder = run.directory.path.absolute()
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.as_posix()}/mlflow.db"
        self.run, self.client = run, MlflowClient(uri)
        self.experiment = self._experiment_id(run.directory.name, (folder / "mlflow").as_uri())
        self.run_ids, epochs = dict[Cell, str](), dict[Cell, int]()
        for mlflow_run in self._search_runs():
            cell = mlflow_run.data.tags[ARM], int(mlflow_run.data.tags[SEED])
            self.run_ids[cell] = mlflow_run.info.run_id
            epochs[cell] = int(mlflow_run.data.metrics.get(EPOCH, 0))
            if mlflow_run.info.status == "KILLED":  # when the last session ended
                self.client.update_run(mlflow_run.info.run_id, "RUNNING")
        return epochs

    def _experiment_id(self, name: str, artifacts: str) -> str:
        experiment = self.client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        return str(self.client.create_experiment(name, artifact_location=artifacts))

    def _search_runs(self) -> list[Any]:
        """Return the MLflow runs of this run, page by page."""
        query, runs, page_token = f"tags.`{ID}` = '{self.run.id}'", list[Any](), None
        while True:
            page = self.client.search_runs([self.experiment], query, page_token=page_token)
            runs += page
            page_token = page.token
            if not page_token:
                return runs

    def row(self, point: Point) -> None:
        """Log the columns of the epoch in one call."""
        from mlflow.entities import Metric

        if point.cell not in self.run_ids:
            self.run_ids[point.cell] = self._create(point.cell)
        milliseconds = int(1000 * time.time())
        values = {**point.values, EPOCH: float(point.epoch)}
        metrics = [Metric(name, value, milliseconds, point.epoch) for name, value in values.items()]
        self.client.log_batch(self.run_ids[point.cell], metrics=metrics)

    def _create(self, cell: Cell) -> str:
        from mlflow.entities import Param

        arm, seed = cell
        tags = {ID: self.run.id, ARM: arm, SEED: str(seed)}
        created = self.client.create_run(self.experiment, tags=tags, run_name=f"{arm}-seed{seed}")
        run_id = str(created.info.run_id)
        parameters = [Param(key, str(value)) for key, value in self.run.settings(cell).items()]
        for start in range(0, len(parameters), MAX_PARAMETERS_PER_CALL):
            part = parameters[start : start + MAX_PARAMETERS_PER_CALL]
            self.client.log_batch(run_id, params=part)
        return run_id

    def end(self, last: Mapping[Cell, Point]) -> None:
        """Mark each MLflow run as finished, or as killed if it will get more rows."""
        for cell, run_id in self.run_ids.items():
            self.client.set_terminated(run_id, "FINISHED" if cell in last else "KILLED")
