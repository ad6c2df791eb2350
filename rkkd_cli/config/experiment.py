"""The experiment: all settings of a run, validated and frozen.

Unknown keys are errors. The weights of the terms are settings; recorded terms are unweighted.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from rkkd_cli.config.dataset import DatasetConfig
from rkkd_cli.config.frozen import FrozenConfig as FrozenConfig
from rkkd_cli.config.models import ModelConfig
from rkkd_cli.config.stated_findings import FINDING_NAME, StatedFinding
from rkkd_cli.config.training import StudentTrainingConfig
from rkkd_cli.config.training import TrainingConfig as TrainingConfig
from rkkd_cli.config.value_lists import SETTING_RULE, is_setting, parse_axes, parse_seeds

if TYPE_CHECKING:
    from rkkd_cli.config.arms import Arm

ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+=-]{0,63}")

# Keys that describe the experiment; no number depends on them.
DESCRIPTION_TEXTS = ("title", "source", "command", "cost", "finding", "notes")
DESCRIPTION_KEYS = (*DESCRIPTION_TEXTS, "based_on")
DESCRIPTIVE_KEYS = (*DESCRIPTION_KEYS, "findings")


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


class TeacherConfig(ModelConfig):
    """The teacher. Weights that fit the classes are used as they are.

    Without weights, or if their head is replaced, it is trained by its own recipe, ``training``.
    """

    role = "teacher"

    seed: int = Field(default=0, ge=0, description="Seed of the teacher's weights and batches.")
    training: TrainingConfig | None = None


class StudentConfig(ModelConfig):
    """The student's model. Its recipe is the experiment's ``training``."""

    role = "student"


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
    ce_weight: float | None = Field(
        default=None, ge=0, description="Weight of CE; default: the method's own."
    )
    kl_weight: float | None = Field(
        default=None, ge=0, description="Weight of KL; default: the method's own."
    )
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
                if not is_setting(setting):
                    raise PydanticCustomError("setting", SETTING_RULE, {"name": f"{name}.{key}"})
        return table


class RankConfig(FrozenConfig):
    """The ranking loss: always logged, and backpropagated with ``weight`` if ``grad`` is true.

    The other settings are those of ``kendall_ranking_loss``, and of what is logged: ``standardize``
    compares z-scores, ``over`` ranks the classes of each image, the images of each batch, or both.
    """

    grad: bool = Field(False, description="Backpropagate the ranking loss; false: only log it.")
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
    (which runs it), ``cost`` (what that needs), ``finding`` (a claim to check the run against),
    ``based_on`` (the preset that was changed, and what was), and ``findings`` (claims that
    `rkkd findings` checks, by name).

    ``arms``: the overrides of each arm.
    ``vary``: the axes of a grid, which are keys with the values that its arms have.
    ``threads``: the order of a sum, hence its last bits, depends on them.
    ``decoders``: no number depends on them. 0 decodes in this process, between steps.
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

    title: str = Field("", description="What the experiment is called.")
    source: str = Field("", description="Where its settings come from.")
    command: str = Field("", description="The command that runs it.")
    cost: str = Field("", description="What it needs.")
    finding: str = Field("", description="A claim to check the run against, in words.")
    notes: str = Field("", description="What else to know.")
    based_on: str = Field("", description="The preset that was changed, and what was changed.")
    dataset: DatasetConfig
    teacher: TeacherConfig
    student: StudentConfig
    training: StudentTrainingConfig
    method: MethodConfig = MethodConfig()
    rank: RankConfig = RankConfig()
    seeds: Annotated[tuple[int, ...], BeforeValidator(parse_seeds)] = (0,)
    device: str = "auto"
    threads: int | None = Field(
        default=None, ge=1, le=4096, description="CPU threads of PyTorch; default: all cores."
    )
    decoders: int | None = Field(
        default=None,
        ge=0,
        le=256,
        description="Processes that decode streamed images; default: the cores but one, at most 8.",
    )
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    deterministic: bool = False
    stacked: bool | None = None
    cuda_graph: bool = False
    cache_teacher: Annotated[Literal["off", "exact", "fp16"], BeforeValidator(_cache_mode)] = "off"
    sync_batchnorm: bool = False
    vary: Annotated[dict[str, tuple[Any, ...]], BeforeValidator(parse_axes)] = Field(
        default_factory=dict, description="The axes of a grid: vary.KEY = its values."
    )
    arms: dict[str, dict[str, Any]] = Field(
        default_factory=default_arms, description="The arms: arms.NAME.KEY = a value of one arm."
    )
    findings: dict[str, StatedFinding] = Field(
        default_factory=dict, description="Claims that `rkkd findings` checks, by name."
    )

    @cached_property
    def resolved_arms(self) -> "tuple[Arm, ...]":
        """Every arm with the validated experiment that it trains. Resolved once, at first use.

        Raises UserError that names the arm.
        """
        from rkkd_cli.config.arms import resolve_arms

        return resolve_arms(self)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy, which resolves its arms anew unless only descriptions differ."""
        copied = super().model_copy(update=update, deep=deep)
        if not {*(update or ())} <= {*DESCRIPTIVE_KEYS}:
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
        may_have_its_own = self.dataset.name == "folder"
        if self.training.selects_by and not (self.dataset.val_share or may_have_its_own):
            raise ValueError(self.training.no_validation_images)
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
