"""Curriculum temperature KD: an adversarially learnt temperature (arXiv 2211.16231)."""

import torch
from torch import Tensor, nn

from rkkd_cli.config.experiment import FrozenConfig, MethodConfig
from rkkd_cli.config.methods import CTKDConfig
from rkkd_cli.losses import curriculum_temperature, kl_at_temperature, reversal_strength
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.kd import KD
from rkkd_cli.methods.method import ModelPair


class CTKD(KD):
    """(1 − alpha)·CE + alpha·KL at a learnt global temperature, trained to make KL larger.

    The term ``kl_curriculum`` is KL × T² at the learnt temperature, and ``temperature`` is that
    temperature. The term ``kl`` keeps the fixed temperature of the experiment.
    """

    Config = CTKDConfig
    terms = ("kl_curriculum", "temperature")
    reads_epoch = True
    config: CTKDConfig

    def __init__(self, method_config: MethodConfig, config: FrozenConfig, pair: ModelPair) -> None:
        super().__init__(method_config, config, pair)
        self.raw = nn.Parameter(torch.ones(()))

    def loss_weights(self, epoch: int) -> dict[str, float]:
        """Return the weights of KD; that of KL goes to ``kl_curriculum``."""
        weights = super().loss_weights(epoch)
        return {"ce": weights["ce"], "kl_curriculum": weights["kl"]}

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return KL at the learnt temperature, and the temperature."""
        config = self.config
        strength = reversal_strength(
            inputs.epoch, end=config.strength, epochs=config.curriculum_epochs
        )
        temperature = curriculum_temperature(self.raw, strength, config.start, config.span)
        kl = kl_at_temperature(*self.logits(inputs), temperature)
        return {"kl_curriculum": kl, "temperature": temperature}
