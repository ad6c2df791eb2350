"""MLflow: an experiment a run, a run of theirs for each arm and seed; SQLite unless told."""

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from rkkd_cli.sweep.jobs import Cell
from rkkd_cli.sweep.loggers.logger import Logged, Point

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

ID, ARM, SEED, EPOCH = "rkkd.run_id", "rkkd.arm", "rkkd.seed", "epoch"
MOST_PARAMETERS = 100  # in one call


class ToMLflow:
    """``<run>/mlflow.db``, or where MLFLOW_TRACKING_URI says."""

    def begin(self, logged: Logged) -> Mapping[Cell, int]:
        """Find the runs of earlier sessions and the epochs that they have."""
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):  # after the import, which sets levels of its own
            logging.getLogger(name).setLevel(logging.WARNING)
        folder = logged.run.path.absolute()
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.as_posix()}/mlflow.db"
        self.logged, self.client = logged, MlflowClient(uri)
        self.experiment = self._experiment_id(logged.run.name, (folder / "mlflow").as_uri())
        self.runs, known = dict[Cell, str](), dict[Cell, int]()
        for run in self._found():
            cell = run.data.tags[ARM], int(run.data.tags[SEED])
            self.runs[cell] = run.info.run_id
            known[cell] = int(run.data.metrics.get(EPOCH, 0))
            if run.info.status == "KILLED":  # until now
                self.client.update_run(run.info.run_id, "RUNNING")
        return known

    def _experiment_id(self, name: str, artifacts: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        return str(self.client.create_experiment(name, artifact_location=artifacts))

    def _found(self) -> list[Any]:
        """Return the MLflow runs of this run, page by page."""
        ours, found, page = f"tags.`{ID}` = '{self.logged.id}'", list[Any](), None
        while True:
            answer = self.client.search_runs([self.experiment], ours, page_token=page)
            found += answer
            page = answer.token
            if not page:
                return found

    def row(self, point: Point) -> None:
        """Log the columns of the epoch in one call."""
        from mlflow.entities import Metric

        if point.cell not in self.runs:
            self.runs[point.cell] = self._create(point.cell)
        now = int(1000 * time.time())
        values = {**point.values, EPOCH: float(point.epoch)}
        metrics = [Metric(name, value, now, point.epoch) for name, value in values.items()]
        self.client.log_batch(self.runs[point.cell], metrics=metrics)

    def _create(self, cell: Cell) -> str:
        from mlflow.entities import Param

        arm, seed = cell
        tags = {ID: self.logged.id, ARM: arm, SEED: str(seed)}
        run = self.client.create_run(self.experiment, tags=tags, run_name=f"{arm}-seed{seed}")
        parameters = [Param(key, str(one)) for key, one in self.logged.settings(cell).items()]
        for start in range(0, len(parameters), MOST_PARAMETERS):
            some = parameters[start : start + MOST_PARAMETERS]
            self.client.log_batch(run.info.run_id, params=some)
        return str(run.info.run_id)

    def end(self, last: Mapping[Cell, Point]) -> None:
        """Say of each MLflow run whether it is finished."""
        for cell, run in self.runs.items():
            self.client.set_terminated(run, "FINISHED" if cell in last else "KILLED")
