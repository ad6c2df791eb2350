"""PLD: the teacher's order of the classes as one list (Bassam et al., arXiv 2506.12542)."""

from torch import Tensor

from rkkd_cli.config.methods import PLDConfig
from rkkd_cli.losses import plackett_luce_loss
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.method import Method


class PLD(Method):
    """weight·PLD, which has a weighted CE in it; no CE and no KL unless weighted."""

    Config = PLDConfig
    terms = ("pld",)
    reads_epoch = False
    config: PLDConfig

    def default_weights(self) -> dict[str, float]:
        """Return 0 for CE and KL."""
        return {"ce": 0.0, "kl": 0.0}

    def term_weights(self, epoch: int) -> dict[str, float]:
        """Return the weight of PLD."""
        return {"pld": self.config.weight}

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return PLD."""
        student, teacher = self.logits(inputs)
        return {"pld": plackett_luce_loss(student, teacher, inputs.labels, self.config.temperature)}
