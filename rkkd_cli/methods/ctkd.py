"""Curriculum temperature KD: the temperature learns against the student (arXiv 2211.16231)."""

import torch
from pydantic import Field
from torch import Tensor, nn

from rkkd_cli.config.experiment import FrozenConfig, MethodConfig
from rkkd_cli.losses import curriculum_temperature, kl_at_temperature, reversal_strength
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.method import Method, Pair


class CTKDConfig(FrozenConfig):
    """Temperatures lie between ``start`` and ``start + span``.

    The reversal of the temperature's gradient rises to ``strength`` over ``curriculum_epochs``.
    """

    start: float = Field(default=1.0, gt=0)
    span: float = Field(default=20.0, gt=0)
    strength: float = Field(default=1.0, ge=0)
    curriculum_epochs: int = Field(default=10, ge=1)


class CTKD(Method):
    """(1 − alpha)·CE + alpha·KL at a learnt global temperature, trained to make KL larger.

    ``kl_curriculum`` is KL × T² at the learnt temperature, which is recorded as ``temperature``;
    ``kl`` stays that at the fixed one.
    """

    Config = CTKDConfig
    terms = ("kl_curriculum", "temperature")
    config: CTKDConfig

    def __init__(self, method_config: MethodConfig, config: FrozenConfig, pair: Pair) -> None:
        super().__init__(method_config, config, pair)
        self.raw = nn.Parameter(torch.ones(()))

    def weights(self, epoch: int) -> dict[str, float]:
        """Return the weights; that of KL is the learnt temperature's."""
        method_config = self.method_config
        return {
            "ce": 1 - method_config.alpha
            if method_config.ce_weight is None
            else method_config.ce_weight,
            "kl_curriculum": method_config.alpha
            if method_config.kl_weight is None
            else method_config.kl_weight,
        }

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return KL at the learnt temperature, and the temperature."""
        config = self.config
        strength = reversal_strength(
            inputs.epoch, end=config.strength, epochs=config.curriculum_epochs
        )
        temperature = curriculum_temperature(self.raw, strength, config.start, config.span)
        kl = kl_at_temperature(*self.logits(inputs), temperature)
        return {"kl_curriculum": kl, "temperature": temperature}
