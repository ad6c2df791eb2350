"""Where a run's rows go beside ``metrics.csv``: TensorBoard, Weights & Biases, MLflow.

The CSV is the truth and is written first. A logger is told what the CSV has; one that fails is
given up, and the run goes on.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec

from rkkd_cli.errors import UserError
from rkkd_cli.sweep.loggers.fan_out import Loggers, Tell
from rkkd_cli.sweep.loggers.logger import Logger

__all__ = ["Loggers", "check_installed", "make_loggers"]


def _tensorboard() -> Logger:
    from rkkd_cli.sweep.loggers.to_tensorboard import ToTensorBoard

    return ToTensorBoard()


def _wandb() -> Logger:
    from rkkd_cli.sweep.loggers.to_wandb import ToWandb

    return ToWandb()


def _mlflow() -> Logger:
    from rkkd_cli.sweep.loggers.to_mlflow import ToMLflow

    return ToMLflow()


LOGGERS: dict[str, Callable[[], Logger]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
NEEDS = {
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
}


def check_installed(names: Sequence[str]) -> None:
    """Raise UserError for a logger whose package is missing."""
    for name in names:
        missing = next((one for one in NEEDS[name] if find_spec(one) is None), None)
        if missing:
            raise UserError(
                f"--{name} needs the package {missing}; install it: pip install 'rkkd[{name}]'"
            )


def make_loggers(names: Sequence[str], tell: Tell) -> Loggers:
    """Return the loggers of these names; ``tell`` takes a sentence for the user."""
    return Loggers({name: LOGGERS[name] for name in names}, tell)
