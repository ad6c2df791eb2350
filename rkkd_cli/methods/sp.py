"""Similarity-preserving KD (Tung and Mori, arXiv 1907.09682)."""

from pydantic import Field
from torch import Tensor

from rkkd_cli.config.experiment import Frozen
from rkkd_cli.config.experiment import Method as Section
from rkkd_cli.losses import similarity_preserving_loss
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.method import Method, Pair, require_maps


class SPSettings(Frozen):
    """The weight of the loss."""

    weight: float = Field(default=3000.0, ge=0)


class SP(Method):
    """CE + weight·SP of the last feature maps."""

    Settings = SPSettings
    terms = ("sp",)
    reads_epoch = False
    needs_features = True
    settings: SPSettings

    def __init__(self, section: Section, settings: Frozen, pair: Pair) -> None:
        super().__init__(section, settings, pair)
        require_maps("sp", pair, least=1)

    def term_weights(self, epoch: int) -> dict[str, float]:
        """Return the weight."""
        return {"sp": self.settings.weight}

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return the loss of the last maps."""
        return {"sp": similarity_preserving_loss(inputs.student.maps[-1], inputs.teacher.maps[-1])}
