"""Loggers of a run's rows beside ``metrics.csv``: TensorBoard, Weights & Biases, MLflow.

metrics.csv is written first. A logger that fails is given up, and the run continues.
"""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec

from rkkd_cli.errors import UserError, unknown_name
from rkkd_cli.installation import install_command
from rkkd_cli.sweep.loggers.fan_out import Loggers, Warn
from rkkd_cli.sweep.loggers.logger import Logger

__all__ = ["Loggers", "check_installed", "make_loggers"]


def _tensorboard() -> Logger:
    from rkkd_cli.sweep.loggers.to_tensorboard import ToTensorBoard

    return ToTensorBoard()


def _wandb(project: str | None) -> Logger:
    from rkkd_cli.sweep.loggers.to_wandb import ToWandb

    return ToWandb(project)


def _mlflow() -> Logger:
    from rkkd_cli.sweep.loggers.to_mlflow import ToMLflow

    return ToMLflow()


REQUIRED_PACKAGES = {
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
}


def check_installed(names: Sequence[str]) -> None:
    """Raise UserError for a logger that does not exist, or whose package is missing."""
    for name in names:
        if name not in REQUIRED_PACKAGES:
            raise unknown_name("logger", name, REQUIRED_PACKAGES)
        packages = REQUIRED_PACKAGES[name]
        missing = next((package for package in packages if find_spec(package) is None), None)
        if missing:
            raise UserError(
                f"--{name} needs the package {missing}; install it: {install_command(name)}"
            )


def make_loggers(
    names: Sequence[str], warn: Warn, project: str | None = None, tags: tuple[str, ...] = ()
) -> Loggers:
    """Return the loggers of these names.

    ``warn`` shows a sentence to the user; ``project`` is that of W&B; ``tags`` are words for the
    run.
    """
    makers: dict[str, Callable[[], Logger]] = {
        "tensorboard": _tensorboard,
        "wandb": partial(_wandb, project),
        "mlflow": _mlflow,
    }
    return Loggers({name: makers[name] for name in names}, warn, tags)
