"""The recipes of an experiment: how teacher and students are trained."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from rkkd_cli.config.frozen import Floats, FrozenConfig
from rkkd_cli.config.monitors import EMA_MONITORS
from rkkd_cli.config.tasks import CLASSIFICATION, TaskRecords


class TrainingConfig(FrozenConfig):
    """A training recipe: epochs, batch size, optimiser and learning-rate schedule.

    ``last_batch`` = None keeps the last batch, but merges a single image, which BatchNorm could not
    normalise. With ``per_class`` K, a batch has K images of each of batch_size / K classes (P × K
    batches); an image of a class that has fewer comes more than once. Without it, for detection,
    ``batches_per_epoch`` counts iterations: an epoch is so many of the next batches of an endless
    sequence of passes over the images. Weight decay is that of the optimiser in PyTorch: decoupled
    from the gradient in adamw, added to it (L2) in sgd and adam.
    """

    epochs: int = Field(ge=1, le=10**9)
    batch_size: int = Field(default=64, ge=1, le=10**9)
    last_batch: Literal["keep", "drop", "merge"] | None = Field(
        None, description="What becomes of an epoch's last, smaller batch; merge: into that before."
    )
    per_class: int | None = Field(
        default=None,
        ge=2,
        le=10**9,
        description="Images of each class in a batch, whose classes are drawn; none: shuffled.",
    )
    batches_per_epoch: int | None = Field(
        default=None,
        ge=1,
        le=10**9,
        description="Batches of an epoch, with per_class or for detectors, whose passes over the "
        "images may then end within epochs; default: as many as the images fill.",
    )
    optimizer: Literal["sgd", "adam", "adamw"] = Field("sgd", description="Optimiser.")
    lr: float = Field(gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum of sgd.")
    nesterov: bool = Field(False, description="Nesterov's momentum.")
    weight_decay: float = Field(default=5e-4, ge=0, description="Weight decay.")
    norm_bias_decay: bool = Field(
        True,
        description="Weight decay also on norms and biases; false: on none of them, nor on what "
        "the model's no_weight_decay() names, such as timm's position embeddings.",
    )
    clip_grad_norm: float | None = Field(
        default=None,
        gt=0,
        description="Largest norm of the gradient of all parameters; a larger one is scaled down.",
    )
    schedule: Literal["step", "cosine", "constant"] = Field(
        "step", description="How the learning rate falls."
    )
    milestones: Floats = Field(
        (),
        description="For the step schedule: finished epochs, or shares of all, after which the "
        "learning rate is multiplied by gamma; 150: from epoch 151 on.",
    )
    gamma: float = Field(default=0.1, gt=0, le=1, description="Factor at each milestone.")
    min_lr: float = Field(
        default=0.0, ge=0, description="Learning rate at the end of the cosine schedule."
    )
    warmup_epochs: float = Field(
        default=0.0, ge=0, description="Epochs over which the learning rate rises from warmup_lr."
    )
    warmup_lr: float = Field(
        default=0.0, ge=0, description="Learning rate at the start of the warm-up."
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
    def _batches_have_whole_classes(self) -> Self:
        if self.per_class is not None:
            classes, rest = divmod(self.batch_size, self.per_class)
            if rest or classes < 2:
                raise ValueError(
                    f"batch_size = {self.batch_size} with per_class = {self.per_class} must be a "
                    f"multiple of it, with two classes or more, such as {8 * self.per_class}"
                )
        return self

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.warmup_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs = {self.warmup_epochs} is more than epochs = {self.epochs}"
            )
        return self

    @model_validator(mode="after")
    def _rates_fit(self) -> Self:
        if self.min_lr and self.schedule != "cosine":
            raise ValueError(
                f"min_lr is where the cosine schedule ends, and schedule = {self.schedule!r}; set "
                "schedule = 'cosine', or leave min_lr out"
            )
        if self.warmup_lr and not self.warmup_epochs:
            raise ValueError("warmup_lr is where a warm-up starts; set warmup_epochs too")
        for name in ("min_lr", "warmup_lr"):
            if getattr(self, name) > self.lr:
                raise ValueError(f"{name} = {getattr(self, name)} is above lr = {self.lr}")
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

    With ``ema_decay`` d the student has an exponential moving average of its weights and buffers,
    which starts at the first weights: average ← d · average + (1 − d) · weights after each step.
    """

    ema_decay: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Decay of an exponential moving average of the student's weights, which gets "
        "an accuracy (or MAP@R) of its own: test_acc_ema.",
    )
    patience: int | None = Field(default=None, ge=1)
    min_delta: float = Field(default=0.0, ge=0)
    monitor: str | None = None

    @property
    def selects_by(self) -> str | None:
        """The metric that selects an epoch, or None if none is selected."""
        return self.monitor or (None if self.patience is None else CLASSIFICATION.default_monitor)

    def in_task(self, task: TaskRecords) -> Self:
        """Return the recipe with the task's own default monitor, where it needs one."""
        default = task.default_monitor
        if self.monitor is None and self.selects_by not in (None, default):
            return self.model_copy(update={"monitor": default})
        return self

    @property
    def no_validation_images(self) -> str:
        """What is said where the dataset has no images to select an epoch by."""
        key = "patience" if self.patience is not None else "monitor"
        return (
            f"training.{key} needs images for validation, neither trained on nor tested on; hold "
            "some out with dataset.val_share, such as 0.1"
        )

    @model_validator(mode="after")
    def _monitored_average_exists(self) -> Self:
        if self.monitor in EMA_MONITORS and self.ema_decay is None:
            raise ValueError(
                f"monitor = {self.monitor!r} is of the moving average of the weights; set ema_decay"
            )
        return self

    @model_validator(mode="after")
    def _min_delta_needs_patience(self) -> Self:
        if self.min_delta and self.patience is None:
            raise ValueError("min_delta says what counts as better for patience; set that too")
        return self
