"""Variational information distillation (Ahn et al., arXiv 1904.05835)."""

import torch
from torch import Tensor, nn

from rkkd_cli.config.experiment import FrozenConfig, MethodConfig
from rkkd_cli.config.methods import VIDConfig
from rkkd_cli.losses import match_sizes, vid_log_scale, vid_loss
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.method import Method, ModelPair, require_maps


class VID(Method):
    """CE + weight·Σ of the teacher maps' negative log-likelihoods, over all but the stem's.

    If one model has more maps, its last ones are left out, as in RepDistiller and mdistiller.
    """

    Config = VIDConfig
    terms = ("vid",)
    reads_epoch = False
    needs_features = True
    config: VIDConfig

    def __init__(self, method_config: MethodConfig, config: FrozenConfig, pair: ModelPair) -> None:
        super().__init__(method_config, config, pair)
        require_maps("vid", pair, least=2)
        shapes = zip(pair.student_shapes.maps[1:], pair.teacher_shapes.maps[1:], strict=False)
        widths = [(student[0], teacher[0]) for student, teacher in shapes]
        self.regressors = nn.ModuleList(_regressor(inputs, outputs) for inputs, outputs in widths)
        initial = vid_log_scale(self.config.initial_variance)
        self.log_scales = nn.ParameterList(
            nn.Parameter(torch.full((outputs,), initial)) for _, outputs in widths
        )

    def term_weights(self, epoch: int) -> dict[str, float]:
        """Return the weight of the loss."""
        return {"vid": self.config.weight}

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return the loss, summed over the pairs of feature maps."""
        map_pairs = zip(inputs.student.maps[1:], inputs.teacher.maps[1:], strict=False)
        losses = []
        for regressor, log_scale, (student_map, teacher_map) in zip(
            self.regressors, self.log_scales, map_pairs, strict=True
        ):
            student, teacher = match_sizes(student_map, teacher_map)
            losses.append(vid_loss(regressor(student), log_scale, teacher))
        return {"vid": torch.stack(losses).sum()}


def _regressor(inputs: int, outputs: int) -> nn.Module:
    """Return three 1×1 convolutions without bias, with ReLU between them."""
    first = nn.Conv2d(inputs, outputs, 1, bias=False)
    second, third = (nn.Conv2d(outputs, outputs, 1, bias=False) for _ in range(2))
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
