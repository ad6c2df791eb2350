"""Attention transfer (Zagoruyko and Komodakis, arXiv 1612.03928)."""

import torch
from torch import Tensor

from rkkd_cli.config.experiment import FrozenConfig, MethodConfig
from rkkd_cli.config.methods import ATConfig
from rkkd_cli.losses import attention_transfer_loss
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.method import Method, ModelPair, require_maps


class AT(Method):
    """CE + weight·Σ of the attention maps' differences, over all maps but the stem's.

    If one model has more maps, its last ones are left out, as in RepDistiller and mdistiller.
    """

    Config = ATConfig
    terms = ("attention",)
    reads_epoch = False
    needs_features = True
    config: ATConfig

    def __init__(self, method_config: MethodConfig, config: FrozenConfig, pair: ModelPair) -> None:
        super().__init__(method_config, config, pair)
        require_maps("at", pair, least=2)

    def term_weights(self, epoch: int) -> dict[str, float]:
        """Return the weight of the loss."""
        return {"attention": self.config.weight}

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return the loss, summed over the pairs of feature maps."""
        map_pairs = zip(inputs.student.maps[1:], inputs.teacher.maps[1:], strict=False)
        losses = [attention_transfer_loss(s, t, self.config.p) for s, t in map_pairs]
        return {"attention": torch.stack(losses).sum()}
