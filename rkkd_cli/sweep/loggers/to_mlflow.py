"""MLflow: one MLflow experiment per run, one MLflow run per arm and seed. SQLite by default."""

import logging
import os
import socket
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from rkkd_cli.sweep.jobs import Cell
from rkkd_cli.sweep.loggers.logger import LoggedRun, Point, RunFiles

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

ID, ARM, SEED, EPOCH = "rkkd.run_id", "rkkd.arm", "rkkd.seed", "epoch"
MAX_PARAMETERS_PER_CALL = 100
PORTS = {"http": 80, "https": 443}
CONNECT_SECONDS = 10.0


class ToMLflow:
    """Logs to MLFLOW_TRACKING_URI, or else to ``<run>/mlflow.db``."""

    def begin(self, run: LoggedRun) -> Mapping[Cell, int]:
        """Find the MLflow runs of earlier sessions and the epochs that they have."""
        folder = run.directory.path.absolute()
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.as_posix()}/mlflow.db"
        _check_server(uri)
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):  # after the import, which sets its own levels
            logging.getLogger(name).setLevel(logging.WARNING)
        self.run, self.client = run, MlflowClient(uri)
        self.experiment = self._experiment_id(run.directory.name, (folder / "mlflow").as_uri())
        self.run_ids, epochs = dict[Cell, str](), dict[Cell, int]()
        self.summary_id: str | None = None
        for mlflow_run in self._search_runs():
            if ARM not in mlflow_run.data.tags:
                self.summary_id = mlflow_run.info.run_id
                continue
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
            self.run_ids[point.cell] = self._create_cell(point.cell)
        milliseconds = int(1000 * time.time())
        values = {**point.values, EPOCH: float(point.epoch)}
        metrics = [Metric(name, value, milliseconds, point.epoch) for name, value in values.items()]
        self.client.log_batch(self.run_ids[point.cell], metrics=metrics)

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        words = [word.partition("=") for word in self.run.tags]
        tags = {**{key: value or "true" for key, _, value in words}, ID: self.run.id, **tags}
        return str(self.client.create_run(self.experiment, tags=tags, run_name=name).info.run_id)

    def _create_cell(self, cell: Cell) -> str:
        from mlflow.entities import Param

        arm, seed = cell
        run_id = self._create(f"{arm}-seed{seed}", {ARM: arm, SEED: str(seed)})
        parameters = [Param(key, str(value)) for key, value in self.run.settings(cell).items()]
        for start in range(0, len(parameters), MAX_PARAMETERS_PER_CALL):
            part = parameters[start : start + MAX_PARAMETERS_PER_CALL]
            self.client.log_batch(run_id, params=part)
        return run_id

    def end(self, last: Mapping[Cell, Point]) -> None:
        """Mark each MLflow run as finished, or as killed if it will get more rows."""
        for cell, run_id in self.run_ids.items():
            self.client.set_terminated(run_id, "FINISHED" if cell in last else "KILLED")

    def files(self, files: RunFiles) -> None:
        """Log weights with their cells, figures and table in an MLflow run ``summary``."""
        for cell, paths in files.weights.items():
            for path in paths:
                self.client.log_artifact(self.run_ids[cell], str(path), path.parent.name)
        summary = self.summary_id or self._create("summary", {})
        for path in files.figures:
            self.client.log_artifact(summary, str(path), "figures")
        self.client.log_text(summary, files.table.to_csv(index=False), "final_table.csv")
        self.client.set_terminated(summary, "FINISHED")


def _check_server(uri: str) -> None:
    """Raise OSError if the server of an URI does not answer; MLflow would try for minutes."""
    server = urlsplit(uri)
    if server.scheme in PORTS and server.hostname:
        address = server.hostname, server.port or PORTS[server.scheme]
        try:
            socket.create_connection(address, CONNECT_SECONDS).close()
        except OSError as error:
            raise OSError(f"no answer from {uri}: {error.strerror or error}") from None
