"""DarkRank of embeddings (Chen et al., arXiv 1707.01220)."""

from torch import Tensor

from rkkd_cli.config.methods import DarkRankConfig
from rkkd_cli.losses import darkrank_loss
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.method import Method


class DarkRank(Method):
    """weight·DarkRank of the embeddings, without a triplet loss unless weighted."""

    Config = DarkRankConfig
    terms = ("darkrank",)
    reads_epoch = False
    needs_features = True
    config: DarkRankConfig

    def term_weights(self, epoch: int) -> dict[str, float]:
        """Return the weight of the loss."""
        return {"darkrank": self.config.weight}

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return the loss of the embeddings."""
        student, teacher, config = inputs.student.pooled, inputs.teacher.pooled, self.config
        return {
            "darkrank": darkrank_loss(student, teacher, config.alpha, config.beta, config.length)
        }
