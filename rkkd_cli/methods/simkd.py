"""SimKD: the student's features are projected onto the teacher's, whose classifier is reused.

Source: Chen et al., arXiv 2203.14001, and a study of its variants: the position of the projectors,
their bias, the feature loss, and training only on images that the teacher classifies correctly.
"""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from rkkd_cli.config.experiment import FrozenConfig, MethodConfig
from rkkd_cli.config.methods import SimKDConfig
from rkkd_cli.errors import UserError
from rkkd_cli.losses import correctly_classified, feature_kl_loss, hint_loss, match_sizes
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.method import Method, ModelPair, require_maps
from rkkd_cli.models import Classifier, Features

FEATURE_LOSSES = {"l2": hint_loss, "kl": feature_kl_loss}


class Projector(nn.Module):
    """A bottleneck of 1×1, 3×3 and 1×1 convolutions, each with BatchNorm and ReLU.

    A map larger than the teacher's is first average-pooled to its size.
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
        """Return the projected map, with as many channels as the teacher's."""
        if tuple(x.shape[2:]) != self.size:
            x = F.adaptive_avg_pool2d(x, self.size)
        projected: Tensor = self.layers(x)
        return projected


class ReusedClassifier(Classifier):
    """A student with a projector after its final map and the teacher's frozen classifier.

    ``Features.final`` is the projected map. The teacher is not a submodule, so it is neither
    trained nor kept in checkpoints.
    """

    def __init__(self, student: Classifier, projector: Projector, teacher: Classifier) -> None:
        super().__init__()
        self.student, self.projector = student, projector
        self._teacher = (teacher,)  # in a tuple, so that it is not registered as a submodule

    @property
    def teacher(self) -> Classifier:
        """The teacher, of which the classifier is used."""
        return self._teacher[0]

    def forward_features(self, x: Tensor) -> Features:
        """Return the student's maps with the projected map, its pooled features and logits."""
        features = self.student.forward_features(x)
        assert features.final is not None
        projected = self.projector(features.final)
        pooled = projected.mean(dim=(2, 3))
        logits = self.teacher.classify(projected)
        return Features(features.maps, pooled, logits, features.preacts, projected)

    def classify(self, final: Tensor) -> Tensor:
        """Return the teacher's logits of a projected map."""
        return self.teacher.classify(final)


class StudentWithClassifier(nn.Module):
    """A student with its projector, and what of the teacher turns the projected map into logits."""

    def __init__(self, reused: ReusedClassifier, teacher: Classifier) -> None:
        super().__init__()
        self.features, self.projector, self.classifier = reused.student, reused.projector, teacher

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, num_classes) of the images x (B, in_channels, H, W)."""
        final = self.features.forward_features(x).final
        assert final is not None
        return self.classifier.classify(self.projector(final))


class _TensorsUsed(TorchFunctionMode):
    """While it is active, collects the identities of the tensors that PyTorch computes with."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[int] = set()

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.ids |= {id(value) for value in (*args, *(kwargs or {}).values())}
        return function(*args, **(kwargs or {}))


def classifier_alone(teacher: Classifier, final: tuple[int, ...]) -> Classifier:
    """Return a copy of the teacher without the weights that classifying a final map does not read.

    ``final`` is the shape of the map, (D, H, W).
    """
    classifier, used = deepcopy(teacher), _TensorsUsed()
    example = next(classifier.parameters())
    with used, torch.no_grad():
        classifier.classify(torch.zeros(2, *final, device=example.device, dtype=example.dtype))
    for module in classifier.modules():
        for tensors in (module._parameters, module._buffers):
            tensors.update({name: None for name in tensors if id(tensors[name]) not in used.ids})
    return classifier


class SimKD(Method):
    """weight·Σ of the feature losses over the projectors; no CE and no KL unless weighted.

    Both feature losses are recorded, each summed over the projectors: ``feature_l2``, the mean
    squared error, and ``feature_kl``, the KL divergence between softmaxes over channels. The
    student's logits are those of the reused classifier.
    """

    Config = SimKDConfig
    terms = ("feature_l2", "feature_kl")
    reads_epoch = False
    needs_features = True
    config: SimKDConfig

    def __init__(self, method_config: MethodConfig, config: FrozenConfig, pair: ModelPair) -> None:
        super().__init__(method_config, config, pair)
        student, teacher = pair.student_shapes, pair.teacher_shapes
        for role, shapes in (("student", student), ("teacher", teacher)):
            if shapes.final is None:
                raise UserError(
                    f"simkd projects a final feature map that the classifier pools, and the {role} "
                    "has none; choose a convolutional network"
                )
        assert student.final is not None
        assert teacher.final is not None
        self.stages = self._inner_stages(pair)
        factor, bias = self.config.factor, self.config.projector_bias
        self.inner = nn.ModuleList(
            Projector(tuple(student.maps[s]), tuple(teacher.maps[t]), factor, bias)
            for s, t in self.stages
        )
        final = Projector(tuple(student.final), tuple(teacher.final), factor, bias)
        self._final = tuple(teacher.final)
        # In a tuple, so that the student is not registered as a submodule of its method.
        self._wrapped = (ReusedClassifier(pair.student, final, pair.teacher),)

    def _inner_stages(self, pair: ModelPair) -> list[tuple[int, int]]:
        """Return the map indices of student and teacher that the inner projectors match.

        Stages are all maps but the stem's. Maps are matched by depth, the fraction of a model's
        stages, so the models may have different numbers of stages.
        """
        if self.config.projectors == "last":
            return []
        require_maps(f'simkd with projectors = "{self.config.projectors}"', pair, least=3)
        student, teacher = len(pair.student_shapes.maps) - 1, len(pair.teacher_shapes.maps) - 1
        fewest = min(student, teacher)
        depths = [n / fewest for n in range(1, fewest)]
        if self.config.projectors == "two_thirds_and_last":
            depths = [2 / 3]
        return [(_map_index(depth, student), _map_index(depth, teacher)) for depth in depths]

    def wrap_student(self, student: Classifier) -> Classifier:
        """Return the student with the projector of its final map and the teacher's classifier."""
        wrapped = self._wrapped[0]
        assert wrapped.student is student
        return wrapped

    def inference_model(self, student: Classifier) -> nn.Module:
        """Return student and projector with the teacher's classifier, as a module that owns it."""
        assert isinstance(student, ReusedClassifier)
        return StudentWithClassifier(student, classifier_alone(student.teacher, self._final))

    def inference_projector(self) -> nn.Module:
        """Return the projector of the final map."""
        return self._wrapped[0].projector

    def default_weights(self) -> dict[str, float]:
        """Return 0 for CE and KL."""
        return {"ce": 0.0, "kl": 0.0}

    def term_weights(self, epoch: int) -> dict[str, float]:
        """Return the weight of the chosen feature loss, and 0 for the other."""
        chosen = self.config.feature_loss
        return {f"feature_{name}": self.config.weight * (name == chosen) for name in FEATURE_LOSSES}

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return both feature losses, summed over the projectors."""
        assert inputs.student.final is not None
        assert inputs.teacher.final is not None
        image_weights = None
        if self.config.teacher_correct_only:
            image_weights = correctly_classified(inputs.teacher.logits, inputs.labels)
        projected = [
            (projector(inputs.student.maps[s]), inputs.teacher.maps[t])
            for projector, (s, t) in zip(self.inner, self.stages, strict=True)
        ]
        projected.append((inputs.student.final, inputs.teacher.final))
        matched = [match_sizes(student_map, teacher_map) for student_map, teacher_map in projected]
        return {
            f"feature_{name}": torch.stack([loss(s, t, image_weights) for s, t in matched]).sum()
            for name, loss in FEATURE_LOSSES.items()
        }


def _map_index(depth: float, stages: int) -> int:
    """Return the index of the map at a depth in (0, 1]; 0 is the stem's map."""
    return max(1, min(stages, round(depth * stages)))
