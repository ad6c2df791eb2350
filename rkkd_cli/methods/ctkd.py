"""Curriculum temperature KD: the temperature learns against the student (arXiv 2211.16231)."""

import torch
from pydantic import Field
from torch import Tensor, nn

from rkkd_cli.config.experiment import Frozen
from rkkd_cli.config.experiment import Method as Section
from rkkd_cli.losses import curriculum_temperature, kl_at_temperature, reversal_strength
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.method import Method, Pair


class CTKDSettings(Frozen):
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

    Settings = CTKDSettings
    terms = ("kl_curriculum", "temperature")
    settings: CTKDSettings

    def __init__(self, section: Section, settings: Frozen, pair: Pair) -> None:
        super().__init__(section, settings, pair)
        self.raw = nn.Parameter(torch.ones(()))

    def weights(self, epoch: int) -> dict[str, float]:
        """Return the weights; that of KL is the learnt temperature's."""
        section = self.section
        return {
            "ce": 1 - section.alpha if section.ce_weight is None else section.ce_weight,
            "kl_curriculum": section.alpha if section.kl_weight is None else section.kl_weight,
        }

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return KL at the learnt temperature, and the temperature."""
        settings = self.settings
        strength = reversal_strength(
            inputs.epoch, end=settings.strength, epochs=settings.curriculum_epochs
        )
        temperature = curriculum_temperature(self.raw, strength, settings.start, settings.span)
        kl = kl_at_temperature(*self.logits(inputs), temperature)
        return {"kl_curriculum": kl, "temperature": temperature}
