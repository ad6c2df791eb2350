"""The distillation methods by name: their objectives and settings, known without torch.

The classes that compute them are in ``methods/``, under the same names.
"""

from typing import Literal, NamedTuple

from pydantic import Field

from rkkd_cli.config.frozen import FrozenConfig


class DKDConfig(FrozenConfig):
    """The settings of DKD."""

    alpha: float = Field(1.0, ge=0, description="Weight of TCKD, the target class.")
    beta: float = Field(8.0, ge=0, description="Weight of NCKD, the other classes.")
    warmup_epochs: int = Field(20, ge=0, description="Epochs over which both weights rise.")


class DISTConfig(FrozenConfig):
    """The settings of DIST."""

    beta: float = Field(1.0, ge=0, description="Weight of the correlation between classes.")
    gamma: float = Field(1.0, ge=0, description="Weight of the correlation within a class.")


class CTKDConfig(FrozenConfig):
    """The settings of CTKD."""

    start: float = Field(1.0, gt=0, description="Least temperature.")
    span: float = Field(20.0, gt=0, description="Range of the temperature above start.")
    strength: float = Field(1.0, ge=0, description="Final factor of the reversed gradient.")
    curriculum_epochs: int = Field(10, ge=1, description="Epochs over which that factor rises.")


class PLDConfig(FrozenConfig):
    """The settings of PLD."""

    weight: float = Field(1.0, ge=0, description="Weight of the loss.")
    temperature: float = Field(1.0, gt=0, description="Temperature of the teacher's weights.")


class RKDConfig(FrozenConfig):
    """The settings of RKD."""

    distance_weight: float | None = Field(
        None, ge=0, description="Weight of the distances; default: 25, of embeddings 1."
    )
    angle_weight: float | None = Field(
        None, ge=0, description="Weight of the angles; default: 50, of embeddings 2."
    )
    normalize: bool = Field(False, description="Scale features to length 1 first, as in mmrazor.")


class DarkRankConfig(FrozenConfig):
    """The settings of DarkRank."""

    weight: float = Field(1.0, ge=0, description="Weight of the loss.")
    alpha: float = Field(3.0, gt=0, description="Scale of the scores of neighbours.")
    beta: float = Field(3.0, gt=0, description="Power of their distances.")
    length: int = Field(4, ge=2, description="Neighbours in the teacher's order.")


class SPConfig(FrozenConfig):
    """The settings of SP."""

    weight: float = Field(3000.0, ge=0, description="Weight of the loss.")


class FitNetConfig(FrozenConfig):
    """The settings of FitNet."""

    weight: float = Field(100.0, ge=0, description="Weight of the loss.")
    hint_layer: int = Field(2, ge=0, description="Index of the hint's feature map; 0: the stem's.")


class ATConfig(FrozenConfig):
    """The settings of AT."""

    weight: float = Field(1000.0, ge=0, description="Weight of the loss.")
    p: float = Field(2.0, ge=1, description="Power of the activations.")


class VIDConfig(FrozenConfig):
    """The settings of VID."""

    weight: float = Field(1.0, ge=0, description="Weight of the loss.")
    initial_variance: float = Field(5.0, gt=1e-4, description="Variance of a channel at first.")


class CRDConfig(FrozenConfig):
    """The settings of CRD: its embeddings and memory banks."""

    weight: float = Field(0.8, ge=0, description="Weight of the loss.")
    features: int = Field(128, ge=1, description="Width of the embeddings.")
    negatives: int = Field(16384, ge=1, description="Negatives of each image.")
    temperature: float = Field(0.07, gt=0, description="Temperature of the scores.")
    momentum: float = Field(0.5, ge=0, le=1, description="Share of the old row in an update.")


class ReviewKDConfig(FrozenConfig):
    """The settings of ReviewKD."""

    weight: float = Field(1.0, ge=0, description="Weight of the loss.")
    warmup_epochs: int = Field(20, ge=0, description="Epochs over which the weight rises.")


class SimKDConfig(FrozenConfig):
    """The settings of SimKD."""

    weight: float = Field(1.0, ge=0, description="Weight of the loss.")
    feature_loss: Literal["l2", "kl"] = Field("l2", description="What compares the features.")
    projectors: Literal["last", "two_thirds_and_last", "all"] = Field(
        "last",
        description="Maps to project: the final one, also the one after two thirds of the stages, "
        "or that of each stage.",
    )
    projector_bias: bool = Field(False, description="Give the projectors' convolutions a bias.")
    teacher_correct_only: bool = Field(
        False, description="Count only the images that the teacher classifies correctly."
    )
    factor: int = Field(
        2, ge=1, description="Divisor of the channels in the projectors' bottleneck."
    )


class MethodFacts(NamedTuple):
    """What a method optimises, in one line, its own settings, and the tasks that it is for."""

    objective: str
    settings: type[FrozenConfig] = FrozenConfig
    tasks: tuple[str, ...] = ("classification",)


BOTH = ("classification", "embedding")
OF_CLASSES = ("classification", "detection")
ALL = (*BOTH, "detection")


METHODS: dict[str, MethodFacts] = {
    "ce": MethodFacts("CE alone: the student without distillation.", tasks=OF_CLASSES),
    "triplet": MethodFacts("The triplet loss alone.", tasks=("embedding",)),
    "kd": MethodFacts(
        "(1 − alpha)·CE + alpha·KL; KL is × T². Of detectors CE + alpha·KL.", tasks=ALL
    ),
    "soft_ce": MethodFacts("(1 − alpha)·CE + alpha·CE(σ(z_t/T), σ(z_s/T)), without T².", tasks=ALL),
    "dkd": MethodFacts(
        "CE + min(epoch / warmup_epochs, 1) · (alpha·TCKD + beta·NCKD), both × T².",
        DKDConfig,
        OF_CLASSES,
    ),
    "dist": MethodFacts("CE + beta·inter + gamma·intra, both × T².", DISTConfig, ALL),
    "ctkd": MethodFacts(
        "(1 − alpha)·CE + alpha·KL at a learnt global temperature, trained to make KL larger.",
        CTKDConfig,
    ),
    "mlkd": MethodFacts("(1 − alpha)·(CE of both views) + alpha·(instances + batch + classes)."),
    "pld": MethodFacts(
        "weight·PLD, which has a weighted CE in it; no CE and no KL unless weighted.", PLDConfig
    ),
    "rkd": MethodFacts("CE + distance_weight·distances + angle_weight·angles.", RKDConfig, BOTH),
    "sp": MethodFacts("CE + weight·SP of the last feature maps.", SPConfig, BOTH),
    "fitnet": MethodFacts(
        "CE + weight·MSE between the regressed map of the student and the teacher's.",
        FitNetConfig,
        ALL,
    ),
    "at": MethodFacts(
        "CE + weight·Σ of the attention maps' differences, over all maps but the stem's.",
        ATConfig,
        BOTH,
    ),
    "vid": MethodFacts(
        "CE + weight·Σ of the teacher maps' negative log-likelihoods, over all but the stem's.",
        VIDConfig,
        BOTH,
    ),
    "darkrank": MethodFacts(
        "weight·DarkRank of the embeddings, without a triplet loss unless weighted.",
        DarkRankConfig,
        ("embedding",),
    ),
    "crd": MethodFacts(
        "CE + weight·(student against the teacher's memory + teacher against the student's).",
        CRDConfig,
    ),
    "reviewkd": MethodFacts(
        "CE + min(epoch / warmup_epochs, 1)·weight·HCL over all stages and the pooled features.",
        ReviewKDConfig,
        OF_CLASSES,
    ),
    "simkd": MethodFacts(
        "weight·Σ of the feature losses over the projectors; no CE and no KL unless weighted.",
        SimKDConfig,
    ),
}


def methods_for(task: str) -> list[str]:
    """Return the names of the methods that the task has."""
    return [name for name, facts in METHODS.items() if task in facts.tasks]
