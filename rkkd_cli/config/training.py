"""The recipes of an experiment: how teacher and students are trained."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from rkkd_cli.config.frozen import Floats, FrozenConfig
from rkkd_cli.config.monitors import DEFAULT_MONITOR, monitor_problem


class TrainingConfig(FrozenConfig):
    """A training recipe: epochs, batch size, optimiser and learning-rate schedule.

    ``last_batch`` = None keeps the last batch, but merges a single image, which BatchNorm could not
    normalise.
    """

    epochs: int = Field(ge=1, le=10**9)
    batch_size: int = Field(default=64, ge=1, le=10**9)
    last_batch: Literal["keep", "drop", "merge"] | None = Field(
        None, description="What becomes of an epoch's last, smaller batch; merge: into that before."
    )
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="Optimiser.")
    lr: float = Field(gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum of sgd.")
    nesterov: bool = Field(False, description="Nesterov's momentum.")
    weight_decay: float = Field(default=5e-4, ge=0, description="Weight decay.")
    schedule: Literal["step", "cosine", "constant"] = Field(
        "step", description="How the learning rate falls."
    )
    milestones: Floats = Field(
        (),
        description="For the step schedule: finished epochs, or shares of all, after which the "
        "learning rate is multiplied by gamma; 150: from epoch 151 on.",
    )
    gamma: float = Field(default=0.1, gt=0, le=1, description="Factor at each milestone.")
    warmup_epochs: float = Field(
        default=0.0, ge=0, description="Epochs over which the learning rate rises from 0."
    )
    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of each label that all classes divide, in the training ce, optimised "
        "and recorded.",
    )

    @property
    def milestone_epochs(self) -> tuple[int, ...]:
        """The milestones as epochs: a share is rounded, halves to the even one."""
        return tuple(
            int(value) if value >= 1 else max(1, round(value * self.epochs))
            for value in self.milestones
        )

    @field_validator("milestones")
    @classmethod
    def _are_epochs_or_shares(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        for value in milestones:
            if value <= 0 or (value >= 1 and value != int(value)):
                raise ValueError("must be whole epochs, or shares of all epochs between 0 and 1")
        return milestones

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.warmup_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs = {self.warmup_epochs} is more than epochs = {self.epochs}"
            )
        return self

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and self.optimizer == "sgd" and self.momentum == 0:
            raise ValueError("nesterov = true needs momentum > 0")
        return self


class StudentTrainingConfig(TrainingConfig):
    """The students' recipe, with early stopping and the selection of an epoch.

    With ``patience`` an arm stops after this many epochs in which ``monitor``, a metric of the
    validation split, has not improved by more than ``min_delta``. With ``patience`` or ``monitor``
    the weights of each arm's best epoch are kept.
    """

    patience: int | None = Field(default=None, ge=1)
    min_delta: float = Field(default=0.0, ge=0)
    monitor: str | None = None

    @property
    def selects_by(self) -> str | None:
        """The metric that selects an epoch, or None if none is selected."""
        return self.monitor or (None if self.patience is None else DEFAULT_MONITOR)

    @property
    def no_validation_images(self) -> str:
        """What is said where the dataset has no images to select an epoch by."""
        key = "patience" if self.patience is not None else "monitor"
        return (
            f"training.{key} needs images for validation, neither trained on nor tested on; hold "
            "some out with dataset.val_share, such as 0.1"
        )

    @field_validator("monitor")
    @classmethod
    def _can_be_monitored(cls, monitor: str | None) -> str | None:
        problem = None if monitor is None else monitor_problem(monitor)
        if problem:
            raise ValueError(problem)
        return monitor

    @model_validator(mode="after")
    def _min_delta_needs_patience(self) -> Self:
        if self.min_delta and self.patience is None:
            raise ValueError("min_delta says what counts as better for patience; set that too")
        return self
