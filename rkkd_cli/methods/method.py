"""What a distillation method is: terms of its own, their weights, and trainable parts."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from torch import Tensor, nn

from rkkd_cli.config.experiment import FrozenConfig, MethodConfig
from rkkd_cli.errors import UserError
from rkkd_cli.losses import standardize_logits
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.models import Classifier
from rkkd_cli.models.shapes import FeatureShapes, feature_shapes


@dataclass(frozen=True)
class Pair:
    """A student and its teacher, and what they are trained on.

    ``labels`` (N,) are those of the training images, in the order of the training set.
    """

    student: Classifier
    teacher: Classifier
    in_channels: int
    image_size: tuple[int, int]
    labels: Tensor

    @cached_property
    def student_shapes(self) -> FeatureShapes:
        """The shapes of the student's features."""
        return feature_shapes(self.student, self.in_channels, self.image_size)

    @cached_property
    def teacher_shapes(self) -> FeatureShapes:
        """The shapes of the teacher's features."""
        return feature_shapes(self.teacher, self.in_channels, self.image_size)


class Method(nn.Module):
    """A distillation method. Its parameters are trained with the student; buffers are kept.

    A subclass names its ``terms`` and returns them from :meth:`forward`, unweighted; the terms
    ``ce``, ``kl`` and ``rank`` belong to every method and are computed elsewhere. What it adds to
    the section ``method`` of an experiment it declares as ``Config``: a user writes them in a
    section named like the method (``method.dkd.beta = 4.0``).

    ``needs_features`` asks for feature maps, ``needs_strong_view`` for a second, strongly
    augmented view of each batch. A method with ``keeps_memory`` changes a buffer of all training
    images with each batch, which ranks that share a batch could not do together. Without
    ``reads_epoch`` what it returns does not depend on the epoch, but through its weights: a CUDA
    graph of it serves all epochs.
    """

    Config: ClassVar[type[FrozenConfig]] = FrozenConfig
    terms: ClassVar[tuple[str, ...]] = ()
    needs_features: ClassVar[bool] = False
    needs_strong_view: ClassVar[bool] = False
    keeps_memory: ClassVar[bool] = False
    reads_epoch: ClassVar[bool] = True

    def __init__(self, method_config: MethodConfig, config: FrozenConfig, pair: Pair) -> None:
        """Check the settings and make the trainable parts. Raises UserError for a misfit."""
        super().__init__()
        self.method_config, self.config = method_config, config

    def default_weights(self) -> Mapping[str, float]:
        """Return the weights of ``ce`` and ``kl`` where the experiment gives none."""
        return {"ce": 1.0, "kl": 0.0}

    def term_weights(self, epoch: int) -> Mapping[str, float]:
        """Return the weights of the method's own terms in an epoch (from 1)."""
        return {}

    def forward(self, inputs: DistillInputs) -> Mapping[str, Tensor]:
        """Return the method's own terms, unweighted scalars."""
        return {}

    def wrap(self, student: Classifier) -> Classifier:
        """Return what is trained and evaluated as the student: itself, but for SimKD."""
        return student

    def projector(self) -> nn.Module | None:
        """Return the part that stays with the student when it is used, if there is one."""
        return None

    def logits(self, inputs: DistillInputs) -> tuple[Tensor, Tensor]:
        """Return the logits of student and teacher (B, C), standardised if the experiment says so.

        For the terms of logit-based methods; ``rank`` is always of raw logits.
        """
        return self.prepared(inputs.student.logits), self.prepared(inputs.teacher.logits)

    def prepared(self, logits: Tensor) -> Tensor:
        """Return the logits, standardised if the experiment says so."""
        return standardize_logits(logits) if self.method_config.standardize_logits else logits

    def weights(self, epoch: int) -> dict[str, float]:
        """Return the weights of ce, kl and the method's own terms in an epoch (from 1)."""
        given = {"ce": self.method_config.ce_weight, "kl": self.method_config.kl_weight}
        stated = {name: value for name, value in given.items() if value is not None}
        return {**self.default_weights(), **stated, **self.term_weights(epoch)}


def warm_up(epoch: int, epochs: int) -> float:
    """Return the share of a weight that rises linearly over the first ``epochs`` epochs."""
    return min(epoch / epochs, 1.0) if epochs else 1.0


def require_maps(method: str, pair: Pair, least: int) -> None:
    """Raise UserError unless both models of the pair have so many feature maps."""
    for who, shapes in (("student", pair.student_shapes), ("teacher", pair.teacher_shapes)):
        if len(shapes.maps) < least:
            raise UserError(
                f"{method} needs {least} feature map{'s' if least > 1 else ''}, and the {who} has "
                f"{len(shapes.maps)}; choose another model, or a method of logits"
            )
