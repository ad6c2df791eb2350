"""Similarity-preserving KD (Tung and Mori, arXiv 1907.09682)."""

from torch import Tensor

from rkkd_cli.config.experiment import FrozenConfig, MethodConfig
from rkkd_cli.config.methods import SPConfig
from rkkd_cli.losses import similarity_preserving_loss
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.method import Method, ModelPair, require_maps


class SP(Method):
    """CE + weight·SP of the last feature maps."""

    Config = SPConfig
    terms = ("sp",)
    reads_epoch = False
    needs_features = True
    config: SPConfig

    def __init__(self, method_config: MethodConfig, config: FrozenConfig, pair: ModelPair) -> None:
        super().__init__(method_config, config, pair)
        require_maps("sp", pair, least=1)

    def term_weights(self, epoch: int) -> dict[str, float]:
        """Return the weight of the loss."""
        return {"sp": self.config.weight}

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return the loss of the last feature maps."""
        return {"sp": similarity_preserving_loss(inputs.student.maps[-1], inputs.teacher.maps[-1])}
