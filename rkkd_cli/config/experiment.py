"""The experiment: everything that one run is told, validated and frozen.

Every key has one place and one meaning; unknown keys are refused. Weights stand here and never
in the recorded numbers.
"""

import math
import re
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from rkkd_cli.config.dataset import DatasetConfig
from rkkd_cli.config.frozen import Floats
from rkkd_cli.config.frozen import FrozenConfig as FrozenConfig
from rkkd_cli.config.monitors import DEFAULT_MONITOR, monitor_problem
from rkkd_cli.config.stated_findings import FINDING_NAME, StatedFinding
from rkkd_cli.config.value_lists import parse_axes, parse_seeds

if TYPE_CHECKING:
    from rkkd_cli.config.arms import Arm

ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+=-]{0,63}")

# The keys that tell a reader about an experiment, with TOLD those that tell the program; none
# changes a number.
DESCRIPTION = ("title", "source", "command", "cost", "finding", "notes")
TOLD = (*DESCRIPTION, "findings")


def default_arms(method: object = "kd") -> dict[str, dict[str, Any]]:
    """Return the method with the ranking loss logged only and with it backpropagated.

    They are called ``dkd`` and ``dkd_rank``, say; ``package.module:Own`` gives ``Own``.
    """
    name = re.sub(r"[^A-Za-z0-9_.+=-]", "_", str(method).rpartition(":")[2])[:50].lstrip("_.+=-")
    name = name or "method"
    return {name: {"rank": {"grad": False}}, f"{name}_rank": {"rank": {"grad": True}}}


class TrainingConfig(FrozenConfig):
    """A training recipe: epochs, batches, optimiser and learning-rate schedule.

    ``milestones`` are where the step schedule multiplies the rate by ``gamma``: whole numbers
    are finished epochs (150 means: from epoch 151 on), numbers below 1 are shares of all epochs.
    """

    epochs: int = Field(ge=1)
    batch_size: int = Field(default=64, ge=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=5e-4, ge=0)
    schedule: Literal["step", "cosine", "constant"] = "step"
    milestones: Floats = ()
    gamma: float = Field(default=0.1, gt=0, le=1)
    warmup_epochs: float = Field(default=0.0, ge=0)

    @field_validator("milestones")
    @classmethod
    def _epochs_or_shares(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        for value in milestones:
            if value <= 0 or (value >= 1 and value != int(value)):
                raise ValueError("must be whole epochs, or shares of all epochs between 0 and 1")
        return milestones

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
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
    """The students' recipe, which may end before its last epoch.

    With ``patience`` an arm stops after so many epochs in which ``monitor``, a metric of the
    validation split, has not become better by more than ``min_delta``. With ``patience`` or
    ``monitor`` the weights of each arm's epoch with the best value are kept.
    """

    patience: int | None = Field(default=None, ge=1)
    min_delta: float = Field(default=0.0, ge=0)
    monitor: str | None = None

    @property
    def selects_by(self) -> str | None:
        """The metric by which an epoch is chosen, if any is."""
        return self.monitor or (None if self.patience is None else DEFAULT_MONITOR)

    @field_validator("monitor")
    @classmethod
    def _of_the_validation_split(cls, monitor: str | None) -> str | None:
        problem = None if monitor is None else monitor_problem(monitor)
        if problem:
            raise ValueError(problem)
        return monitor

    @model_validator(mode="after")
    def _min_delta_needs_patience(self) -> Self:
        if self.min_delta and self.patience is None:
            raise ValueError("min_delta says what counts as better for patience; give that too")
        return self


class TeacherConfig(FrozenConfig):
    """The teacher: a model trained by its own recipe, or read from a checkpoint file."""

    model: str
    checkpoint: str | None = None
    seed: int = Field(default=0, ge=0)
    training: TrainingConfig | None = None


class StudentConfig(FrozenConfig):
    """The student's model; its recipe is the experiment's ``training``."""

    model: str


class MethodConfig(FrozenConfig):
    """The distillation method, the weights of ce and kl, and sections with methods' own settings.

    ``kd``: the weights are 1 − alpha and alpha unless they are given directly; other methods have
    their own defaults (see `rkkd ls methods`). ``temperature`` is that at which KL is recorded.
    ``standardize_logits`` gives the terms of logits each image's logits with mean 0 and standard
    deviation 1; the ranking loss and all that is recorded of every arm stays with raw logits.
    A section named like a method, such as ``method.dkd``, holds that method's own settings.
    """

    model_config = ConfigDict(extra="allow")

    name: str = "kd"
    alpha: float = Field(default=0.9, ge=0, le=1)
    temperature: float = Field(default=4.0, gt=0)
    ce_weight: float | None = Field(default=None, ge=0)
    kl_weight: float | None = Field(default=None, ge=0)
    standardize_logits: bool = False

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """The sections with methods' own settings, as they were given."""
        return dict(self.model_extra or {})

    @model_validator(mode="before")
    @classmethod
    def _further_keys_are_sections(cls, table: Any) -> Any:
        for name, value in table.items() if isinstance(table, dict) else ():
            if name in cls.model_fields:
                continue
            if not isinstance(value, dict):
                raise PydanticCustomError("extra_forbidden", "unknown", {"name": str(name)})
            for key, setting in value.items():
                if not _is_setting(setting):
                    raise PydanticCustomError(
                        "setting",
                        "must be a finite number, a text, true or false, or a list of these",
                        {"name": f"{name}.{key}"},
                    )
        return table


def _is_setting(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_setting(one) and not isinstance(one, list | tuple) for one in value)
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


class RankConfig(FrozenConfig):
    """The ranking loss: always logged; backpropagated with ``weight`` when ``grad`` is true."""

    grad: bool = False
    weight: float = Field(default=0.9, ge=0)
    steepness: float = Field(default=100.0, gt=0)
    surrogate: str = "tanh"
    channels: str = "all"


def _cache_word(value: object) -> object:
    """Return ``exact`` for true and ``off`` for false: what a flag without a value says."""
    return {True: "exact", False: "off"}[value] if isinstance(value, bool) else value


class Experiment(FrozenConfig):
    """A base experiment and its arms.

    ``command`` runs it, ``cost`` is what it needs, ``finding`` a claim to hold the run against.
    ``threads`` are PyTorch's CPU threads (None: its own choice, all cores). They are part of the
    experiment because the order of a sum, hence its last bits, depends on them.
    ``decoders`` are the processes that decode the images of a stream (None: one for each core but
    one, at most 8; 0: this process does it between two steps); no number depends on them.
    ``precision`` is ``fp32``; ``tf32``, in which CUDA multiplies with 11 bits instead of 24 in
    convolutions and matrix products; or ``bf16``, bfloat16 autocast of weights kept in float32.
    ``deterministic`` makes CUDA repeat every number exactly, at some cost; a CPU always does.
    ``stacked`` lets arms of one architecture step as one stacked student, whose numbers differ by
    rounding (None: on CUDA where a trial shows that it is faster, elsewhere never).
    ``cuda_graph`` records a step of all arms as one CUDA graph, and replays it.
    ``cache_teacher`` keeps the teacher's logits on each stream's batches on disk, for runs that
    have the same: ``exact`` changes no number, ``fp16`` rounds them to half the size.
    ``sync_batchnorm`` lets batch normalisation see the whole batch where several ranks share it
    (torchrun); else each normalises its own images, and those of the first are kept for testing.
    ``findings`` are claims as data, which `rkkd findings` checks; they have names.
    ``vary`` names the keys that the arms vary and the values they take: the axes of a grid.
    """

    title: str = ""
    source: str = ""
    command: str = ""
    cost: str = ""
    finding: str = ""
    notes: str = ""
    dataset: DatasetConfig
    teacher: TeacherConfig
    student: StudentConfig
    training: StudentTrainingConfig
    method: MethodConfig = MethodConfig()
    rank: RankConfig = RankConfig()
    seeds: Annotated[tuple[int, ...], BeforeValidator(parse_seeds)] = (0,)
    device: str = "auto"
    threads: int | None = Field(default=None, ge=1)
    decoders: int | None = Field(default=None, ge=0, le=256)
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    deterministic: bool = False
    stacked: bool | None = None
    cuda_graph: bool = False
    cache_teacher: Annotated[Literal["off", "exact", "fp16"], BeforeValidator(_cache_word)] = "off"
    sync_batchnorm: bool = False
    vary: Annotated[dict[str, tuple[Any, ...]], BeforeValidator(parse_axes)] = Field(
        default_factory=dict
    )
    arms: dict[str, dict[str, Any]] = Field(default_factory=default_arms)
    findings: dict[str, StatedFinding] = Field(default_factory=dict)

    @cached_property
    def resolved_arms(self) -> "tuple[Arm, ...]":
        """Every arm as the whole, validated experiment that it trains, resolved at the first use.

        Raises UserError that names the arm.
        """
        from rkkd_cli.config.arms import resolve_arms

        return resolve_arms(self)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy, which resolves its own arms."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("resolved_arms", None)
        return copied

    @field_validator("arms")
    @classmethod
    def _arm_names(cls, arms: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if not arms:
            raise ValueError("must name at least one arm")
        for name in arms:
            if not ARM_NAME.fullmatch(name):
                raise ValueError(
                    f"must have names of letters, digits and _ . + = -, at most 64; got {name!r}"
                )
        return arms

    @model_validator(mode="after")
    def _selection_needs_a_split(self) -> Self:
        monitor = self.training.selects_by
        if monitor is not None and self.dataset.val_share == 0:
            key = "patience" if self.training.patience is not None else "monitor"
            raise ValueError(
                f"training.{key} needs images to look at that are neither trained on nor tested "
                "on; hold some out with dataset.val_share, such as 0.1"
            )
        return self

    @model_validator(mode="after")
    def _a_graph_asks_the_teacher(self) -> Self:
        if self.cuda_graph and self.cache_teacher != "off":
            raise ValueError(
                "cuda_graph replays the teacher's pass, and cache_teacher reads it from the disk; "
                "leave one of the two out"
            )
        return self

    @field_validator("findings")
    @classmethod
    def _finding_names(cls, findings: dict[str, StatedFinding]) -> dict[str, StatedFinding]:
        for name in findings:
            if not FINDING_NAME.fullmatch(name):
                raise ValueError(f"must have names of letters, digits and _ -; got {name!r}")
        return findings
