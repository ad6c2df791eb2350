"""SimKD: the student's features projected onto the teacher's, its classifier reused.

Source: Chen et al., arXiv 2203.14001, and a study of its variants: where projectors stand, with or
without bias, the feature loss, and learning only from images that the teacher classifies rightly.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from rkkd_cli.config.experiment import FrozenConfig, MethodConfig
from rkkd_cli.errors import UserError
from rkkd_cli.losses import correctly_classified, feature_kl_loss, hint_loss, match_sizes
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.method import Method, Pair, require_maps
from rkkd_cli.models import Classifier, Features

LOSSES = {"l2": hint_loss, "kl": feature_kl_loss}


class SimKDConfig(FrozenConfig):
    """Which feature loss, where the projectors stand, and from which images is learnt.

    ``projectors``: ``last`` projects the final map; ``two_thirds_and_last`` also the map after two
    thirds of the stages; ``all`` each stage. ``factor`` narrows the projector's middle.
    """

    weight: float = Field(default=1.0, ge=0)
    feature_loss: Literal["l2", "kl"] = "l2"
    projectors: Literal["last", "two_thirds_and_last", "all"] = "last"
    projector_bias: bool = False
    teacher_correct_only: bool = False
    factor: int = Field(default=2, ge=1)


class Projector(nn.Module):
    """A bottleneck of 1×1, 3×3 and 1×1 convolutions, each with BatchNorm and ReLU.

    A map larger than the teacher's is averaged down first.
    """

    def __init__(
        self, student: tuple[int, ...], teacher: tuple[int, ...], factor: int, bias: bool
    ) -> None:
        super().__init__()
        inputs, outputs, middle = student[0], teacher[0], max(1, teacher[0] // factor)
        self.size = min(student[1], teacher[1]), min(student[2], teacher[2])
        layers: list[nn.Module] = []
        for i, o, kernel in ((inputs, middle, 1), (middle, middle, 3), (middle, outputs, 1)):
            conv = nn.Conv2d(i, o, kernel, padding=kernel // 2, bias=bias)
            layers += [conv, nn.BatchNorm2d(o), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the projected map, of the teacher's channels."""
        if tuple(x.shape[2:]) != self.size:
            x = F.adaptive_avg_pool2d(x, self.size)
        projected: Tensor = self.layers(x)
        return projected


class ReusedClassifier(Classifier):
    """A student whose final map is projected and read by the teacher's frozen classifier.

    ``final`` is the projected map. The teacher is no part of the module: it is neither trained
    nor kept in checkpoints.
    """

    def __init__(self, student: Classifier, projector: Projector, teacher: Classifier) -> None:
        super().__init__()
        self.student, self.projector = student, projector
        self._teacher = (teacher,)

    def forward_features(self, x: Tensor) -> Features:
        """Return the student's maps, and projected map, its pooled features and logits."""
        features = self.student.forward_features(x)
        assert features.final is not None
        projected = self.projector(features.final)
        pooled = projected.mean(dim=(2, 3))
        logits = self._teacher[0].classify(projected)
        return Features(features.maps, pooled, logits, features.preacts, projected)

    def classify(self, final: Tensor) -> Tensor:
        """Return the teacher's logits of a projected map."""
        return self._teacher[0].classify(final)


class SimKD(Method):
    """weight·Σ of the feature losses over the projectors; no CE and no KL unless weighted.

    Both feature losses are recorded, each the sum over the projectors: ``feature_l2`` the mean
    squared error, ``feature_kl`` the KL divergence between softmaxes over channels. All logits
    are those of the reused classifier.
    """

    Config = SimKDConfig
    terms = ("feature_l2", "feature_kl")
    reads_epoch = False
    needs_features = True
    config: SimKDConfig

    def __init__(self, method_config: MethodConfig, config: FrozenConfig, pair: Pair) -> None:
        super().__init__(method_config, config, pair)
        student, teacher = pair.student_shapes, pair.teacher_shapes
        for who, shapes in (("student", student), ("teacher", teacher)):
            if shapes.final is None:
                raise UserError(
                    f"simkd projects a final feature map that the classifier pools, and the {who} "
                    "has none; choose a convolutional network"
                )
        assert student.final is not None
        assert teacher.final is not None
        self.stages = self._inner_stages(pair)
        narrow, bias = self.config.factor, self.config.projector_bias
        self.inner = nn.ModuleList(
            Projector(tuple(student.maps[s]), tuple(teacher.maps[t]), narrow, bias)
            for s, t in self.stages
        )
        final = Projector(tuple(student.final), tuple(teacher.final), narrow, bias)
        self._wrapped = (ReusedClassifier(pair.student, final, pair.teacher),)

    def _inner_stages(self, pair: Pair) -> list[tuple[int, int]]:
        """Return which maps of student and teacher are matched before the final one.

        The stages are the maps without the stem's. The same depth is the same share of a model's
        stages, so models with different numbers of stages can be matched.
        """
        if self.config.projectors == "last":
            return []
        require_maps(f'simkd with projectors = "{self.config.projectors}"', pair, least=3)
        numbers = [len(one.maps) - 1 for one in (pair.student_shapes, pair.teacher_shapes)]
        fewest = min(numbers)
        shares = [n / fewest for n in range(1, fewest)]
        if self.config.projectors == "two_thirds_and_last":
            shares = [2 / 3]
        return [(_stage(share, numbers[0]), _stage(share, numbers[1])) for share in shares]

    def wrap(self, student: Classifier) -> Classifier:
        """Return the student with the projector of its final map and the reused classifier."""
        wrapped = self._wrapped[0]
        assert wrapped.student is student
        return wrapped

    def projector(self) -> nn.Module:
        """Return the projector of the final map."""
        return self._wrapped[0].projector

    def default_weights(self) -> dict[str, float]:
        """Return that neither CE nor KL is optimised."""
        return {"ce": 0.0, "kl": 0.0}

    def term_weights(self, epoch: int) -> dict[str, float]:
        """Return the weight, for the chosen loss."""
        chosen = self.config.feature_loss
        return {f"feature_{name}": self.config.weight * (name == chosen) for name in LOSSES}

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return both feature losses."""
        assert inputs.student.final is not None
        assert inputs.teacher.final is not None
        weights = None
        if self.config.teacher_correct_only:
            weights = correctly_classified(inputs.teacher.logits, inputs.labels)
        projected = [
            (projector(inputs.student.maps[s]), inputs.teacher.maps[t])
            for projector, (s, t) in zip(self.inner, self.stages, strict=True)
        ]
        projected.append((inputs.student.final, inputs.teacher.final))
        pairs = [match_sizes(*maps) for maps in projected]
        return {
            f"feature_{name}": torch.stack([loss(*maps, weights) for maps in pairs]).sum()
            for name, loss in LOSSES.items()
        }


def _stage(share: float, stages: int) -> int:
    """Return the number of the map (0 is the stem's) that ends this share of the stages."""
    return max(1, min(stages, round(share * stages)))
