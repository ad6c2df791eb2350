"""Which of an arm's epochs is the best so far, and whether the arm has stopped getting better."""

from collections.abc import Mapping
from typing import Any

from rkkd_cli.config.experiment import StudentTrainingConfig
from rkkd_cli.config.monitors import is_better

Best = tuple[float, int]  # a value of the monitored metric and its epoch


class EarlyStopping:
    """Follows one metric of the validation split.

    ``best`` is the first of the epochs with the best value. ``mark`` is the last value that was
    better by more than ``min_delta`` than the mark before it: patience counts from its epoch.
    """

    def __init__(self, recipe: StudentTrainingConfig) -> None:
        self.monitor = recipe.selects_by
        self.patience, self.min_delta = recipe.patience, recipe.min_delta
        self.best: Best | None = None
        self.mark: Best | None = None

    def update(self, row: Mapping[str, Any], epoch: int) -> bool:
        """Take in the row of an epoch; tell whether it is the best one so far."""
        if self.monitor is None:
            return False
        value = row[self.monitor]
        if self.mark is None or is_better(self.monitor, value, self.mark[0], self.min_delta):
            self.mark = (value, epoch)
        if self.best is not None and not is_better(self.monitor, value, self.best[0]):
            return False
        self.best = (value, epoch)
        return True

    def is_exhausted(self, epoch: int) -> bool:
        """Tell whether the patience has come to its end with this epoch."""
        return (
            self.patience is not None
            and self.mark is not None
            and epoch - self.mark[1] >= self.patience
        )

    def state(self) -> dict[str, Any]:
        """Return all that :meth:`load` needs."""
        return {"best": self.best, "mark": self.mark}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go back to a state; an empty one, as earlier checkpoints have, to the beginning.

        Raises what Python raises for a state that cannot have been.
        """
        self.best, self.mark = (
            None if one is None else (float(one[0]), int(one[1]))
            for one in (state.get("best"), state.get("mark"))
        )
