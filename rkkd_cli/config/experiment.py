"""The experiment: all settings of a run, validated and frozen.

Unknown keys are errors. The weights of the terms are settings; recorded terms are unweighted.
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
from rkkd_cli.config.value_lists import fits_64_bits, parse_axes, parse_seeds

if TYPE_CHECKING:
    from rkkd_cli.config.arms import Arm

ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+=-]{0,63}")

# Keys that describe the experiment; no number depends on them.
DESCRIPTION_TEXTS = ("title", "source", "command", "cost", "finding", "notes")
DESCRIPTIVE_KEYS = (*DESCRIPTION_TEXTS, "findings")


def name_from(text: str, most: int) -> str:
    """Return the text as a name that arms and runs can have; it may be empty."""
    return re.sub(r"[^A-Za-z0-9_.+=-]", "_", text).lstrip("_.+=-")[:most]


def default_arms(method: object = "kd") -> dict[str, dict[str, Any]]:
    """Return two arms: one only logs the ranking loss, the other backpropagates it.

    They are named after the method: ``dkd`` and ``dkd_rank``, ``Own`` and ``Own_rank`` for
    ``package.module:Own``.
    """
    name = name_from(str(method).rpartition(":")[2], 50) or "method"
    return {name: {"rank": {"grad": False}}, f"{name}_rank": {"rank": {"grad": True}}}


class TrainingConfig(FrozenConfig):
    """A training recipe: epochs, batch size, optimiser and learning-rate schedule.

    At each of its ``milestones`` the step schedule multiplies the learning rate by ``gamma``. A
    milestone is a number of finished epochs (150: from epoch 151 on) or, below 1, a share of all
    epochs. ``last_batch``: keep an epoch's last, smaller batch, drop it, or merge it into the batch
    before. None keeps it, but merges a single image, which BatchNorm could not normalise.
    """

    epochs: int = Field(ge=1, le=10**9)
    batch_size: int = Field(default=64, ge=1, le=10**9)
    last_batch: Literal["keep", "drop", "merge"] | None = None
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


class TeacherConfig(FrozenConfig):
    """The teacher: a model, trained by its own recipe or loaded from a checkpoint file."""

    model: str
    checkpoint: str | None = None
    seed: int = Field(default=0, ge=0)
    training: TrainingConfig | None = None


class StudentConfig(FrozenConfig):
    """The student's model. Its recipe is the experiment's ``training``."""

    model: str


class MethodConfig(FrozenConfig):
    """The distillation method, the weights of CE and KL, and the settings of single methods.

    The weights default to 1 − alpha for CE and alpha for KL with the method ``kd``; other methods
    have their own defaults (see `rkkd ls methods`). ``temperature`` is also that of the recorded
    KL. ``standardize_logits`` shifts and scales each image's logits to mean 0 and standard
    deviation 1 in the terms of the method; the ranking loss and everything recorded use raw logits.
    A section named after a method, such as ``method.dkd``, has the settings of that method.
    """

    model_config = ConfigDict(extra="allow")

    name: str = "kd"
    alpha: float = Field(default=0.9, ge=0, le=1)
    temperature: float = Field(default=4.0, gt=0, le=1e30)
    ce_weight: float | None = Field(default=None, ge=0)
    kl_weight: float | None = Field(default=None, ge=0)
    standardize_logits: bool = False

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """The settings of single methods, unvalidated: ``{"dkd": {"beta": 2.0}}``."""
        return dict(self.model_extra or {})

    @model_validator(mode="before")
    @classmethod
    def _check_method_sections(cls, table: Any) -> Any:
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
        return all(_is_setting(item) and not isinstance(item, list | tuple) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str) or (isinstance(value, int) and fits_64_bits(value))


class RankConfig(FrozenConfig):
    """The ranking loss: always logged, and backpropagated with ``weight`` if ``grad`` is true.

    The other settings are those of ``kendall_ranking_loss``, and of what is logged: ``standardize``
    compares z-scores, ``over`` ranks the classes of each image, the images of each batch, or both.
    """

    grad: bool = False
    weight: float = Field(default=0.9, ge=0)
    steepness: float = Field(default=100.0, gt=0)
    surrogate: str = "tanh"
    channels: str = "all"
    standardize: bool = False
    over: Literal["classes", "images", "both"] = "classes"

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of ``kendall_ranking_loss``, with which the term is recorded."""
        return self.model_dump(exclude={"grad", "weight"})


def _cache_mode(value: object) -> object:
    """Return the mode that ``--cache-teacher`` (true) or ``--no-cache-teacher`` (false) means."""
    return {True: "exact", False: "off"}[value] if isinstance(value, bool) else value


class Experiment(FrozenConfig):
    """A base experiment and its arms.

    No number depends on the keys that describe it: ``title``, ``source``, ``notes``, ``command``
    (which runs it), ``cost`` (what that needs), ``finding`` (a claim to check the run against), and
    ``findings`` (claims that `rkkd findings` checks, by name).

    ``arms``: the overrides of each arm.
    ``vary``: the axes of a grid, which are keys with the values that its arms have.
    ``threads``: CPU threads of PyTorch (None: PyTorch's own choice, all cores). The order of a sum,
    hence its last bits, depends on them.
    ``decoders``: processes that decode the images of a streamed dataset (None: one per core but
    one, at most 8; 0: decode in this process, between steps). No number depends on them.
    ``precision``: ``fp32``; ``tf32``, in which CUDA multiplies with 11 bits instead of 24 in
    convolutions and matrix products; or ``bf16``, bfloat16 autocast of float32 weights.
    ``deterministic``: CUDA repeats every number exactly, at some cost. A CPU always does.
    ``stacked``: arms of one architecture step as one stacked student; their numbers differ by
    rounding (None: on CUDA if a trial shows that it is faster, elsewhere never).
    ``cuda_graph``: record a step of all arms as one CUDA graph, and replay it.
    ``cache_teacher``: keep the teacher's logits on disk, for later runs with the same stream.
    ``exact`` changes no number; ``fp16`` takes half the space, and rounds them.
    ``sync_batchnorm``: under torchrun on GPUs, BatchNorm uses the statistics of the whole batch.
    Otherwise each rank uses those of its own images, and evaluation those of the first rank.
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
    threads: int | None = Field(default=None, ge=1, le=4096)
    decoders: int | None = Field(default=None, ge=0, le=256)
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    deterministic: bool = False
    stacked: bool | None = None
    cuda_graph: bool = False
    cache_teacher: Annotated[Literal["off", "exact", "fp16"], BeforeValidator(_cache_mode)] = "off"
    sync_batchnorm: bool = False
    vary: Annotated[dict[str, tuple[Any, ...]], BeforeValidator(parse_axes)] = Field(
        default_factory=dict
    )
    arms: dict[str, dict[str, Any]] = Field(default_factory=default_arms)
    findings: dict[str, StatedFinding] = Field(default_factory=dict)

    @cached_property
    def resolved_arms(self) -> "tuple[Arm, ...]":
        """Every arm with the validated experiment that it trains. Resolved once, at first use.

        Raises UserError that names the arm.
        """
        from rkkd_cli.config.arms import resolve_arms

        return resolve_arms(self)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy, which resolves its arms anew."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("resolved_arms", None)
        return copied

    @field_validator("arms")
    @classmethod
    def _check_arm_names(cls, arms: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if not arms:
            raise ValueError("must name at least one arm")
        for name in arms:
            if not ARM_NAME.fullmatch(name):
                raise ValueError(
                    f"must have names of letters, digits and _ . + = -, at most 64; got {name!r}"
                )
        return arms

    @model_validator(mode="after")
    def _selection_needs_validation_images(self) -> Self:
        monitor = self.training.selects_by
        if monitor is not None and self.dataset.val_share == 0:
            key = "patience" if self.training.patience is not None else "monitor"
            raise ValueError(
                f"training.{key} needs images for validation, neither trained on nor tested on; "
                "hold some out with dataset.val_share, such as 0.1"
            )
        return self

    @model_validator(mode="after")
    def _cuda_graph_runs_the_teacher(self) -> Self:
        if self.cuda_graph and self.cache_teacher != "off":
            raise ValueError(
                "cuda_graph replays the teacher's forward pass, and cache_teacher reads its "
                "results from the disk; leave one of the two out"
            )
        return self

    @field_validator("findings")
    @classmethod
    def _check_finding_names(cls, findings: dict[str, StatedFinding]) -> dict[str, StatedFinding]:
        for name in findings:
            if not FINDING_NAME.fullmatch(name):
                raise ValueError(f"must have names of letters, digits and _ -; got {name!r}")
        return findings
