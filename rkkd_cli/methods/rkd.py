"""Relational KD of distances and angles between pooled features (arXiv 1904.05068)."""

from torch import Tensor

from rkkd_cli.config.methods import RKDConfig
from rkkd_cli.losses import rkd_angle_loss, rkd_distance_loss
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.method import Method


class RKD(Method):
    """CE + distance_weight·distances + angle_weight·angles."""

    Config = RKDConfig
    terms = ("rkd_distance", "rkd_angle")
    reads_epoch = False
    needs_features = True
    config: RKDConfig

    def term_weights(self, epoch: int) -> dict[str, float]:
        """Return the two weights."""
        config, of_classes = self.config, self.task == "classification"
        distances, angles = (25.0, 50.0) if of_classes else (1.0, 2.0)
        given = config.distance_weight, config.angle_weight
        return {
            "rkd_distance": distances if given[0] is None else given[0],
            "rkd_angle": angles if given[1] is None else given[1],
        }

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return the distance loss and the angle loss of the pooled features."""
        student, teacher = inputs.student.pooled, inputs.teacher.pooled
        return {
            "rkd_distance": rkd_distance_loss(student, teacher, self.config.normalize),
            "rkd_angle": rkd_angle_loss(student, teacher, self.config.normalize),
        }
