"""What an arm optimises: its method with the weights of CE and KL, and the ranking loss."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from rkkd_cli.config.frozen import FrozenConfig
from rkkd_cli.config.teachers import Target, parse_target, shares_of
from rkkd_cli.config.value_lists import SETTING_RULE, is_setting


class MethodConfig(FrozenConfig):
    """The distillation method, the weights of CE and KL, and the settings of single methods.

    The weights default to 1 − alpha for CE and alpha for KL with the method ``kd``; other methods
    have their own defaults (see `rkkd ls methods`). ``temperature`` is also that of the recorded
    KL. ``standardize_logits`` shifts and scales each image's logits to mean 0 and standard
    deviation 1 in the terms of the method; the ranking loss and everything recorded use raw logits.
    ``teacher`` says which of several teachers is learnt from: see the experiment's ``teachers``.
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
    teacher: Annotated[Target | None, PlainValidator(parse_target)] = Field(
        default=None,
        description="Of several teachers: the name of one, mean_logits, mean_probabilities (the "
        "default), or a weight for each.",
    )

    @property
    def shares(self) -> dict[str, float]:
        """The share of each of several teachers, or of their mean; of one teacher, nothing."""
        return {} if self.teacher is None else shares_of(self.teacher)

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
    background: bool = Field(
        True, description="Of detectors: rank the background among the classes of a region."
    )

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of ``kendall_ranking_loss``, with which the term is recorded."""
        return self.model_dump(exclude={"grad", "weight"})


class TripletConfig(FrozenConfig):
    """The triplet loss of the task ``embedding``: max(0, to positive − to negative + margin)."""

    margin: float = Field(0.2, ge=0, description="Margin of the triplet loss, a distance.")
    negatives: Literal["distance", "semihard", "all"] = Field(
        "distance",
        description="Negatives of a pair: all weighted by distance, the nearest beyond the "
        "positive, or all alike.",
    )


class DetectionConfig(FrozenConfig):
    """What student and teacher are compared on in the task ``detection``.

    ``proposals``: ``student``: the regions that each student is trained on, which the teacher's
    head classifies too, as in mdistiller. ``teacher``: regions of the teacher, the same for all
    arms; each student classifies them beside its own, on which its hard terms stay.
    """

    proposals: Literal["student", "teacher"] = Field(
        "student",
        description="Where student and teacher are compared: at the regions that each student is "
        "trained on, or at the teacher's own, the same for all arms.",
    )
