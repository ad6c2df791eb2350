"""Variational information distillation (Ahn et al., arXiv 1904.05835)."""

import torch
from pydantic import Field
from torch import Tensor, nn

from rkkd_cli.config.experiment import FrozenConfig, MethodConfig
from rkkd_cli.losses import match_sizes, vid_log_scale, vid_loss
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.method import Method, Pair, require_maps


class VIDConfig(FrozenConfig):
    """The weight of the loss, and the variance with which every channel begins."""

    weight: float = Field(default=1.0, ge=0)
    initial_variance: float = Field(default=5.0, gt=1e-4)


class VID(Method):
    """CE + weight·Σ of the teacher maps' negative log-likelihoods, over all but the stem's.

    Maps without a counterpart are left out, as in RepDistiller and mdistiller.
    """

    Config = VIDConfig
    terms = ("vid",)
    reads_epoch = False
    needs_features = True
    config: VIDConfig

    def __init__(self, method_config: MethodConfig, config: FrozenConfig, pair: Pair) -> None:
        super().__init__(method_config, config, pair)
        require_maps("vid", pair, least=2)
        shapes = zip(pair.student_shapes.maps[1:], pair.teacher_shapes.maps[1:], strict=False)
        widths = [(student[0], teacher[0]) for student, teacher in shapes]
        self.regressors = nn.ModuleList(_regressor(*pair_of) for pair_of in widths)
        begin = vid_log_scale(self.config.initial_variance)
        self.log_scales = nn.ParameterList(
            nn.Parameter(torch.full((outputs,), begin)) for _, outputs in widths
        )

    def term_weights(self, epoch: int) -> dict[str, float]:
        """Return the weight."""
        return {"vid": self.config.weight}

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return the sum over the pairs of maps."""
        pairs = zip(inputs.student.maps[1:], inputs.teacher.maps[1:], strict=False)
        losses = []
        for regressor, scale, maps in zip(self.regressors, self.log_scales, pairs, strict=True):
            student, teacher = match_sizes(*maps)
            losses.append(vid_loss(regressor(student), scale, teacher))
        return {"vid": torch.stack(losses).sum()}


def _regressor(inputs: int, outputs: int) -> nn.Module:
    """Return three 1×1 convolutions without bias, ReLU between them, as wide as the teacher."""
    widths = ((inputs, outputs), (outputs, outputs), (outputs, outputs))
    first, second, third = (nn.Conv2d(i, o, 1, bias=False) for i, o in widths)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
