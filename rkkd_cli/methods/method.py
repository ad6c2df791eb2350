"""The base class of a distillation method, and the pair of models that a method is built for."""

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
class ModelPair:
    """A student, its teacher, and the training set that they see.

    ``image_size`` is the (height, width) of the images that the student takes, and the teacher
    unless it has a ``teacher_image_size``. ``train_labels`` (N,) are the class numbers of the N
    training images; ``DistillInputs.sample_indices`` index into them.
    """

    student: Classifier
    teacher: Classifier
    in_channels: int
    image_size: tuple[int, int]
    train_labels: Tensor
    teacher_image_size: tuple[int, int] | None = None
    task: str = "classification"

    @cached_property
    def student_shapes(self) -> FeatureShapes:
        """The shapes of the student's features, without the batch dimension."""
        return feature_shapes(self.student, self.in_channels, self.image_size)

    @cached_property
    def teacher_shapes(self) -> FeatureShapes:
        """The shapes of the teacher's features, without the batch dimension."""
        size = self.teacher_image_size or self.image_size
        return feature_shapes(self.teacher, self.in_channels, size)


class Method(nn.Module):
    """A distillation method: loss terms, their weights, and trainable parts.

    A subclass lists its own ``terms`` and returns their raw values from :meth:`forward`. The terms
    ``ce``, ``kl`` and ``rank`` belong to every arm; the objective computes them. Submodules and
    parameters are trained with the student. Parameters and buffers are kept in checkpoints.

    A subclass may set these class attributes:

    - ``Config``: its own settings, a subclass of :class:`FrozenConfig`. Users write them in a
      section with the method's name (``method.dkd.beta = 4.0``), or in ``method.plugin`` for a
      method that is not part of rkkd.
    - ``terms``: the names of its own terms. Each is a column of ``metrics.csv``.
    - ``needs_features``: it reads feature maps or pooled features, not only logits.
    - ``needs_strong_view``: it reads a second, strongly augmented view of each batch.
    - ``has_memory_bank``: each batch updates a buffer that covers all training images. Such a
      method is refused when several ranks share a batch.
    - ``reads_epoch``: :meth:`forward` reads ``inputs.epoch``. Set it to False if only the weights
      depend on the epoch: one CUDA graph then serves all epochs.

    An instance has ``config``, its own settings, and ``method_config``, the settings that all
    methods share, such as ``method_config.temperature``.
    """

    Config: ClassVar[type[FrozenConfig]] = FrozenConfig
    terms: ClassVar[tuple[str, ...]] = ()
    needs_features: ClassVar[bool] = False
    needs_strong_view: ClassVar[bool] = False
    has_memory_bank: ClassVar[bool] = False
    reads_epoch: ClassVar[bool] = True

    def __init__(self, method_config: MethodConfig, config: FrozenConfig, pair: ModelPair) -> None:
        """Build the trainable parts for this pair of models.

        Before a run every method is built once on the ``meta`` device. A subclass raises UserError
        for a pair of models that it cannot train.
        """
        super().__init__()
        self.method_config, self.config, self.task = method_config, config, pair.task

    def forward(self, inputs: DistillInputs) -> Mapping[str, Tensor]:
        """Return the raw value of each of ``terms``, a scalar, without its weight."""
        return {}

    def term_weights(self, epoch: int) -> Mapping[str, float]:
        """Return the weights of the method's own terms in an epoch (from 1)."""
        return {}

    def default_weights(self) -> Mapping[str, float]:
        """Return the weights of ``ce`` and ``kl`` where the experiment sets none.

        ``ce`` stands for the task's term of the labels. Embeddings learn without it, as published.
        """
        return {"ce": 0.0 if self.task == "embedding" else 1.0, "kl": 0.0}

    def loss_weights(self, epoch: int) -> dict[str, float]:
        """Return the weights of all optimised terms but ``rank`` in an epoch (from 1).

        These are :meth:`default_weights`, then the ``ce_weight`` and ``kl_weight`` of the
        experiment, then :meth:`term_weights`; a later one replaces an earlier one.
        """
        given = {"ce": self.method_config.ce_weight, "kl": self.method_config.kl_weight}
        overrides = {term: weight for term, weight in given.items() if weight is not None}
        return {**self.default_weights(), **overrides, **self.term_weights(epoch)}

    def logits(self, inputs: DistillInputs) -> tuple[Tensor, Tensor]:
        """Return the logits (B, C) of student and teacher for the method's terms to compare.

        They are standardised if the experiment sets ``standardize_logits``. The term ``rank``
        always compares raw logits.
        """
        student, teacher = inputs.student.logits, inputs.teacher.logits
        if self.method_config.standardize_logits:
            return standardize_logits(student), standardize_logits(teacher)
        return student, teacher

    def wrap_student(self, student: Classifier) -> Classifier:
        """Return the model that is trained and evaluated as the student: by default, ``student``.

        SimKD adds a projector and the teacher's classifier.
        """
        return student

    def inference_model(self, student: Classifier) -> nn.Module:
        """Return the module of which all weights are kept, given what :meth:`wrap_student` returns.

        By default, ``student`` itself. A method whose student reads other modules returns one that
        owns them too: it is built anew from this pair of models, and gets its weights from a file.
        """
        return student

    def inference_projector(self) -> nn.Module | None:
        """Return the part of :meth:`wrap_student` that inference needs too, or None.

        Its parameters and multiply-adds are reported beside the student's.
        """
        return None


def warm_up(epoch: int, warmup_epochs: int) -> float:
    """Return a factor that rises linearly to 1 over the first ``warmup_epochs`` epochs."""
    return min(epoch / warmup_epochs, 1.0) if warmup_epochs else 1.0


def require_maps(method: str, pair: ModelPair, least: int) -> None:
    """Raise UserError unless both models have at least ``least`` feature maps."""
    for role, shapes in (("student", pair.student_shapes), ("teacher", pair.teacher_shapes)):
        if len(shapes.maps) < least:
            raise UserError(
                f"{method} needs {least} feature map{'s' if least > 1 else ''}, and the {role} has "
                f"{len(shapes.maps)}; choose another model, or a method of logits"
            )
