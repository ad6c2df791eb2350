"""The experiment: everything that one run is told, validated and frozen.

Every key has one place and one meaning; unknown keys are refused. Weights stand here and never
in the recorded numbers.
"""

import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from rkkd_cli.config.frozen import Frozen as Frozen
from rkkd_cli.config.stated import FINDING_NAME, StatedFinding
from rkkd_cli.config.values import parse_axes

ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+=-]{0,63}")

MOST_SEEDS = 10_000

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


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Floats = Annotated[tuple[float, ...], BeforeValidator(_as_tuple)]


class Dataset(Frozen):
    """Which images, how many of them, and how they are augmented.

    ``crop_padding``, ``flip``, ``mean`` and ``std`` default to what the field uses for the
    dataset; for ``digits`` and ``folder`` mean and std are measured on the training images.
    ``follow_links`` lets links lead out of an image folder.
    """

    name: str
    root: str | None = None
    image_size: int | None = Field(default=None, ge=4, le=4096)
    crop_padding: int | None = Field(default=None, ge=0)
    flip: bool | None = None
    mean: Floats | None = None
    std: Floats | None = None
    limit_train: int | None = Field(default=None, ge=1)
    limit_test: int | None = Field(default=None, ge=1)
    val_share: float = Field(default=0.0, ge=0.0, lt=1.0)
    follow_links: bool = False

    @field_validator("std")
    @classmethod
    def _positive(cls, std: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if std is not None and min(std, default=1.0) <= 0:
            raise ValueError("must be greater than 0 for every channel")
        return std


class Training(Frozen):
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


class Teacher(Frozen):
    """The teacher: a model trained by its own recipe, or read from a checkpoint file."""

    model: str
    checkpoint: str | None = None
    seed: int = Field(default=0, ge=0)
    training: Training | None = None


class Student(Frozen):
    """The student's model; its recipe is the experiment's ``training``."""

    model: str


class Method(Frozen):
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


class Rank(Frozen):
    """The ranking loss: always logged; backpropagated with ``weight`` when ``grad`` is true."""

    grad: bool = False
    weight: float = Field(default=0.9, ge=0)
    steepness: float = Field(default=100.0, gt=0)
    surrogate: str = "tanh"
    channels: str = "all"


class Experiment(Frozen):
    """A base experiment and its arms.

    ``command`` runs it, ``cost`` is what it needs, ``finding`` a claim to hold the run against.
    ``threads`` are PyTorch's CPU threads (None: its own choice, all cores). They are part of the
    experiment because the order of a sum, hence its last bits, depends on them.
    ``deterministic`` makes CUDA repeat every number exactly, at some cost; a CPU always does.
    ``stacked`` lets arms of one architecture step as one stacked student, whose numbers differ by
    rounding (None: on CUDA where a trial shows that it is faster, elsewhere never).
    ``findings`` are claims as data, which `rkkd findings` checks; they have names.
    ``vary`` names the keys that the arms vary and the values they take: the axes of a grid.
    """

    title: str = ""
    source: str = ""
    command: str = ""
    cost: str = ""
    finding: str = ""
    notes: str = ""
    dataset: Dataset
    teacher: Teacher
    student: Student
    training: Training
    method: Method = Method()
    rank: Rank = Rank()
    seeds: Annotated[tuple[int, ...], BeforeValidator(lambda value: parse_seeds(value))] = (0,)
    device: str = "auto"
    threads: int | None = Field(default=None, ge=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    deterministic: bool = False
    stacked: bool | None = None
    vary: Annotated[dict[str, tuple[Any, ...]], BeforeValidator(parse_axes)] = Field(
        default_factory=dict
    )
    arms: dict[str, dict[str, Any]] = Field(default_factory=default_arms)
    findings: dict[str, StatedFinding] = Field(default_factory=dict)

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

    @field_validator("findings")
    @classmethod
    def _finding_names(cls, findings: dict[str, StatedFinding]) -> dict[str, StatedFinding]:
        for name in findings:
            if not FINDING_NAME.fullmatch(name):
                raise ValueError(f"must have names of letters, digits and _ -; got {name!r}")
        return findings


def parse_seeds(value: Any) -> tuple[int, ...]:
    """Return seed values from ``0``, ``"0,1,2"``, ``"0:3"`` (0, 1, 2) or a list of integers.

    Raises ValueError for anything else, for negative or repeated seeds and for none at all.
    """
    if isinstance(value, bool) or not isinstance(value, int | str | list | tuple):
        raise ValueError("must be seed values such as 0, '0,1,2' or '0:3'")
    if isinstance(value, int):
        seeds = [value]
    elif isinstance(value, str):
        seeds = [seed for part in value.split(",") for seed in _seed_range(part.strip())]
    else:
        seeds = list(value)
    if not seeds:
        raise ValueError("must name at least one seed, such as 0 or 0,1,2")
    if any(isinstance(seed, bool) or not isinstance(seed, int) or seed < 0 for seed in seeds):
        raise ValueError("must be whole numbers from 0 on")
    if len(set(seeds)) != len(seeds):
        raise ValueError("must not name a seed twice")
    return tuple(seeds)


def _seed_range(part: str) -> list[int]:
    match = re.fullmatch(r"(\d+)(?::(\d+))?", part)
    if match is None:
        raise ValueError("must be seed values such as 0, '0,1,2' or '0:3'")
    first = int(match[1])
    last = first + 1 if match[2] is None else int(match[2])
    if last - first > MOST_SEEDS:
        raise ValueError(f"must be at most {MOST_SEEDS} seeds")
    return list(range(first, last))
