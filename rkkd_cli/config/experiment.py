"""The experiment: all settings of a run, validated and frozen.

Unknown keys are errors. The weights of the terms are settings; recorded terms are unweighted.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from rkkd_cli.config.cache_modes import CacheMode, kept_classes
from rkkd_cli.config.dataset import DatasetConfig
from rkkd_cli.config.frozen import FrozenConfig as FrozenConfig
from rkkd_cli.config.frozen import key_error
from rkkd_cli.config.models import ModelConfig
from rkkd_cli.config.monitors import monitor_problem
from rkkd_cli.config.objective import DetectionConfig, TripletConfig
from rkkd_cli.config.objective import MethodConfig as MethodConfig
from rkkd_cli.config.objective import RankConfig as RankConfig
from rkkd_cli.config.stated_findings import FINDING_NAME, StatedFinding
from rkkd_cli.config.task_fit import task_problem
from rkkd_cli.config.tasks import TASKS, TaskRecords
from rkkd_cli.config.teachers import check_names, check_target, choose_among_teachers
from rkkd_cli.config.training import StudentTrainingConfig
from rkkd_cli.config.training import TrainingConfig as TrainingConfig
from rkkd_cli.config.value_lists import parse_axes, parse_seeds

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


class Experiment(FrozenConfig):
    """A base experiment and its arms.

    No number depends on the keys that describe it: ``title``, ``source``, ``notes``, ``command``
    (which runs it), ``cost`` (what that needs), ``finding`` (a claim to check the run against),
    ``based_on`` (the preset that was changed, and what was), and ``findings`` (claims that
    `rkkd findings` checks, by name).

    ``teachers``: several teachers by name, in place of ``teacher``, which then is the one that
    ``method.teacher`` names, or else the first. Files have them as ``[[teachers]]``.
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
    ``exact`` changes no number; ``fp16`` takes half the space, and rounds them; ``top:64`` keeps
    those of each image's top 64 classes, and the mass of the others.
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
    task: Literal["classification", "embedding", "detection"] = Field(
        "classification",
        description="What student and teacher are compared on: each image's classes, its "
        "distances to the other images of its batch, or the classes of its regions.",
    )
    dataset: DatasetConfig
    teachers: dict[str, TeacherConfig] = Field(
        default_factory=dict,
        description="Several teachers by name: teachers.NAME.KEY is as teacher.KEY.",
    )
    teacher: TeacherConfig
    student: StudentConfig
    training: StudentTrainingConfig
    method: MethodConfig = MethodConfig()
    rank: RankConfig = RankConfig()
    triplet: TripletConfig = TripletConfig()
    detection: DetectionConfig = DetectionConfig()
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
    cache_teacher: CacheMode = Field(
        "off",
        description="Keep the teacher's logits on disk: exact, rounded (fp16), or of each image's "
        "top K classes with the mass of the others (top:K).",
    )
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

    @property
    def task_records(self) -> TaskRecords:
        """The columns that depend on the task."""
        return TASKS[self.task]

    @property
    def named_teachers(self) -> dict[str, TeacherConfig]:
        """The teachers by name; one alone is called ``teacher``."""
        return self.teachers or {"teacher": self.teacher}

    @property
    def teacher_sections(self) -> dict[str, TeacherConfig]:
        """The teachers by the section that has their keys: ``teacher``, or ``teachers.NAME``."""
        of_several = {f"teachers.{name}": one for name, one in self.teachers.items()}
        return of_several or {"teacher": self.teacher}

    def taught_by(self, name: str) -> Self:
        """Return the experiment with this one of its teachers alone."""
        return self.model_copy(update={"teacher": self.named_teachers[name], "teachers": {}})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy, which resolves its arms anew unless only descriptions differ."""
        copied = super().model_copy(update=update, deep=deep)
        if not {*(update or ())} <= {*DESCRIPTIVE_KEYS}:
            copied.__dict__.pop("resolved_arms", None)
        return copied

    @model_validator(mode="before")
    @classmethod
    def _choose_among_teachers(cls, table: Any) -> Any:
        return choose_among_teachers(table)

    @model_serializer(mode="wrap")
    def _without_the_other_kind(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        table: dict[str, Any] = dump(self)
        table.pop("teacher" if self.teachers else "teachers", None)
        return table

    @model_validator(mode="after")
    def _method_learns_from_a_teacher(self) -> Self:
        check_target(self.method.teacher, self.teachers)
        return self

    @field_validator("teachers")
    @classmethod
    def _check_teacher_names(cls, teachers: dict[str, TeacherConfig]) -> dict[str, TeacherConfig]:
        check_names(teachers)
        return teachers

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

    @field_validator("training")
    @classmethod
    def _monitor_is_of_the_task(
        cls, training: StudentTrainingConfig, info: ValidationInfo
    ) -> StudentTrainingConfig:
        task = TASKS.get(info.data.get("task", ""))
        if task is None:  # which is refused for itself
            return training
        problem = training.monitor and monitor_problem(training.monitor, task)
        if problem:
            raise key_error("monitor", training.monitor, problem)
        return training.in_task(task)

    @field_validator("findings", mode="before")
    @classmethod
    def _are_about_the_main_metric(cls, findings: Any, info: ValidationInfo) -> Any:
        task = TASKS.get(info.data.get("task", ""))
        if task is None or not isinstance(findings, Mapping):
            return findings
        default = {"metric": task.main_column}
        return {
            name: default | dict(finding) if isinstance(finding, Mapping) else finding
            for name, finding in findings.items()
        }

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

    @model_validator(mode="after")
    def _top_classes_are_of_one_teacher(self) -> Self:
        if self.teachers and kept_classes(self.cache_teacher) is not None:
            raise ValueError(
                f"cache_teacher = {self.cache_teacher} keeps the top classes of one teacher, and "
                "several have different ones; use cache_teacher=exact"
            )
        return self

    @model_validator(mode="after")
    def _task_fits(self) -> Self:
        problem = task_problem(self)
        if problem:
            raise ValueError(problem)
        return self

    @field_validator("findings")
    @classmethod
    def _check_finding_names(cls, findings: dict[str, StatedFinding]) -> dict[str, StatedFinding]:
        for name in findings:
            if not FINDING_NAME.fullmatch(name):
                raise ValueError(f"must have names of letters, digits and _ -; got {name!r}")
        return findings
