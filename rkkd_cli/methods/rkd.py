"""Relational KD of distances and angles between pooled features (arXiv 1904.05068)."""

from pydantic import Field
from torch import Tensor

from rkkd_cli.config.experiment import FrozenConfig
from rkkd_cli.losses import rkd_angle_loss, rkd_distance_loss
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.method import Method


class RKDConfig(FrozenConfig):
    """Weights, and whether features are scaled to length 1 first, as mmrazor does."""

    distance_weight: float = Field(default=25.0, ge=0)
    angle_weight: float = Field(default=50.0, ge=0)
    normalize: bool = False


class RKD(Method):
    """CE + distance_weight·distances + angle_weight·angles."""

    Config = RKDConfig
    terms = ("rkd_distance", "rkd_angle")
    reads_epoch = False
    needs_features = True
    config: RKDConfig

    def term_weights(self, epoch: int) -> dict[str, float]:
        """Return the two weights."""
        config = self.config
        return {"rkd_distance": config.distance_weight, "rkd_angle": config.angle_weight}

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return the two losses of the pooled features."""
        pooled, normalize = (inputs.student.pooled, inputs.teacher.pooled), self.config.normalize
        return {
            "rkd_distance": rkd_distance_loss(*pooled, normalize),
            "rkd_angle": rkd_angle_loss(*pooled, normalize),
        }
