"""Which epoch of an arm is the best so far, and whether its training should end early."""

from collections.abc import Mapping
from typing import Any

from rkkd_cli.config.monitors import is_better
from rkkd_cli.config.training import StudentTrainingConfig

ValueAndEpoch = tuple[float, int]


class EarlyStopping:
    """Follows one metric of the validation split.

    ``best`` is the first epoch with the best value. ``mark`` is the last epoch whose value was
    better by more than ``min_delta`` than the mark before it; patience counts from there.
    """

    def __init__(self, recipe: StudentTrainingConfig) -> None:
        self.monitor = recipe.selects_by
        self.patience, self.min_delta = recipe.patience, recipe.min_delta
        self.best: ValueAndEpoch | None = None
        self.mark: ValueAndEpoch | None = None

    def update(self, row: Mapping[str, Any], epoch: int) -> None:
        """Take the row of an epoch into account."""
        if self.monitor is None:
            return
        value = row[self.monitor]
        if self.mark is None or is_better(self.monitor, value, self.mark[0], self.min_delta):
            self.mark = (value, epoch)
        if self.best is None or is_better(self.monitor, value, self.best[0]):
            self.best = (value, epoch)

    def is_best(self, epoch: int) -> bool:
        """Tell whether this epoch is the best one so far."""
        return self.best is not None and self.best[1] == epoch

    def is_exhausted(self, epoch: int) -> bool:
        """Tell whether the patience is exhausted after this epoch."""
        return (
            self.patience is not None
            and self.mark is not None
            and epoch - self.mark[1] >= self.patience
        )

    def state(self) -> dict[str, Any]:
        """Return the state dict."""
        return {"best": self.best, "mark": self.mark}

    def load(self, state: Mapping[str, Any]) -> None:
        """Load a state dict; an empty one, as in older checkpoints, is that of the beginning.

        Raises what Python raises for one that is malformed.
        """
        self.best, self.mark = (
            None if pair is None else (float(pair[0]), int(pair[1]))
            for pair in (state.get("best"), state.get("mark"))
        )
