"""What a method reads of one batch.

Shapes: B batch, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from rkkd_cli.data.targets import Targets
from rkkd_cli.errors import UserError
from rkkd_cli.losses import TopLogits
from rkkd_cli.models import Features


class ViewOutputs(NamedTuple):
    """The outputs of student and teacher on one view of a batch."""

    student: Features
    teacher: Features


class MixedLabelsError(UserError):
    """A method reads class numbers, and the images are mixed ones, of two classes each."""

    def __init__(self) -> None:
        super().__init__(
            "reads the images' class numbers, which images mixed of two classes do not have; leave "
            "out dataset.mixup_alpha and dataset.cutmix_alpha"
        )


@dataclass(frozen=True)
class DistillInputs:
    """The outputs of student and teacher on a batch, its labels, and the epoch.

    ``targets`` are the classes, of which two may be mixed, and ``sample_indices`` (B,) the images'
    positions in the training set. ``epoch`` counts from 1 to ``epochs``. ``strong_view`` has the
    outputs on the second, strongly augmented view, for methods with ``needs_strong_view``. A method
    without ``needs_features`` may read nothing but the logits of ``student`` and ``teacher``.
    ``label_terms``: terms of the labels that the student has computed itself, raw.
    ``kept``: what is kept of the teacher's logits where that is not all; then ``teacher`` has none.
    Features and logits are float32 or float64; the teacher's have no gradient.
    """

    student: Features
    teacher: Features
    targets: Targets
    sample_indices: Tensor
    epoch: int = 1
    epochs: int = 1
    strong_view: ViewOutputs | None = None
    label_terms: Mapping[str, Tensor] = field(default_factory=dict)
    kept: TopLogits | None = None

    @property
    def labels(self) -> Tensor:
        """The class numbers (B,). Raises MixedLabelsError for mixed images."""
        if self.targets.mixed is not None:
            raise MixedLabelsError
        return self.targets.labels


def logits_only(logits: Tensor) -> Features:
    """Return features that hold nothing but logits (B, C)."""
    return Features((), logits[:, :0], logits)


def as_float32(features: Features) -> Features:
    """Return the features with float16 and bfloat16 tensors as float32."""
    return Features(
        maps=tuple(_as_float32(feature_map) for feature_map in features.maps),
        pooled=_as_float32(features.pooled),
        logits=_as_float32(features.logits),
        preacts=tuple(_as_float32(feature_map) for feature_map in features.preacts),
        final=None if features.final is None else _as_float32(features.final),
    )


def _as_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor
