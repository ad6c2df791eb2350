"""ReviewKD: each stage of the teacher is compared with a fusion of the student's later stages.

Source: Chen et al., arXiv 2104.09044; structure as in mdistiller.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rkkd_cli.config.experiment import FrozenConfig, MethodConfig
from rkkd_cli.config.methods import ReviewKDConfig
from rkkd_cli.errors import UserError
from rkkd_cli.losses import hierarchical_context_loss
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.method import Method, ModelPair, require_maps, warm_up
from rkkd_cli.models import Features, FeatureShapes

MAX_FUSION_CHANNELS = 512


class Fusion(nn.Module):
    """Attention-based fusion of a stage with the fusion of the later stages.

    The last stage has no later one: ``fuses`` is false.
    """

    def __init__(self, inputs: int, middle: int, outputs: int, fuses: bool) -> None:
        super().__init__()
        self.enter = _conv_norm(inputs, middle, 1)
        self.leave = _conv_norm(middle, outputs, 3)
        self.attention = nn.Conv2d(2 * middle, 2, 1) if fuses else None

    def forward(
        self, x: Tensor, later: Tensor | None, size: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Return the map (B, outputs, *size) to compare, and the map for the next earlier stage.

        ``x`` is the student's map and ``later`` the second result of the next later stage.
        """
        x = self.enter(x)
        if self.attention is not None and later is not None:
            later = F.interpolate(later, x.shape[2:], mode="nearest")
            gates = torch.sigmoid(self.attention(torch.cat([x, later], dim=1)))
            x = x * gates[:, :1] + later * gates[:, 1:]
        if list(x.shape[2:]) != list(size):
            x = F.interpolate(x, tuple(size), mode="nearest")
        return self.leave(x), x


class ReviewKD(Method):
    """CE + min(epoch / warmup_epochs, 1)·weight·HCL over all stages and the pooled features.

    The teacher's maps are taken before their last ReLU, the student's after it. Of detectors all
    maps of the feature pyramids are compared, and nothing else.
    """

    Config = ReviewKDConfig
    terms = ("review",)
    reads_epoch = False
    needs_features = True
    config: ReviewKDConfig

    def __init__(self, method_config: MethodConfig, config: FrozenConfig, pair: ModelPair) -> None:
        super().__init__(method_config, config, pair)
        require_maps("reviewkd", pair, least=2)
        shapes = pair.student_shapes, pair.teacher_shapes
        student, teacher = (_stage_widths(one, pair.task) for one in shapes)
        if len(student) != len(teacher):
            raise UserError(
                f"reviewkd pairs stage with stage: the student has {len(student) - 1} stages, the "
                f"teacher {len(teacher) - 1}; choose models of the same family"
            )
        middle = min(MAX_FUSION_CHANNELS, student[-1])
        self.fusions = nn.ModuleList(
            Fusion(inputs, middle, outputs, fuses=stage < len(student) - 1)
            for stage, (inputs, outputs) in enumerate(zip(student, teacher, strict=True))
        )

    def term_weights(self, epoch: int) -> dict[str, float]:
        """Return the weight, scaled by the warm-up."""
        return {"review": warm_up(epoch, self.config.warmup_epochs) * self.config.weight}

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return the hierarchical context loss of all stages."""
        taught = inputs.teacher.preacts or inputs.teacher.maps
        targets = _stages(inputs.teacher, taught, self.task)
        stages = _stages(inputs.student, inputs.student.maps, self.task)
        later, fused_maps = None, []
        for x, target, fusion in reversed(list(zip(stages, targets, self.fusions, strict=True))):
            fused, later = fusion(x, later, target.shape[2:])
            fused_maps.append(fused)
        return {"review": hierarchical_context_loss(fused_maps[::-1], targets)}


def _stages(features: Features, maps: Sequence[Tensor], task: str) -> list[Tensor]:
    """Return all maps but the stem's, then the pooled features as a map of one position.

    Of detectors all maps of the feature pyramid: its pooled features are of regions.
    """
    if task == "detection":
        return [*maps]
    return [*maps[1:], features.pooled[:, :, None, None]]


def _stage_widths(shapes: FeatureShapes, task: str) -> list[int]:
    """Return the channels of :func:`_stages`."""
    if task == "detection":
        return [shape[0] for shape in shapes.maps]
    return [*(shape[0] for shape in shapes.maps[1:]), shapes.pooled]


def _conv_norm(inputs: int, outputs: int, kernel: int) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))
