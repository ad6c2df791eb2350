"""Decoupled KD: the target class and the others apart (Zhao et al., arXiv 2203.08679)."""

from pydantic import Field
from torch import Tensor

from rkkd_cli.config.experiment import Frozen
from rkkd_cli.losses import dkd_terms
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.method import Method, warm_up


class DKDSettings(Frozen):
    """Weights of target-class (alpha) and non-target-class KD (beta), and how they begin."""

    alpha: float = Field(default=1.0, ge=0)
    beta: float = Field(default=8.0, ge=0)
    warmup_epochs: int = Field(default=20, ge=0)


class DKD(Method):
    """CE + min(epoch / warmup_epochs, 1) · (alpha·TCKD + beta·NCKD), both × T²."""

    Settings = DKDSettings
    terms = ("tckd", "nckd")
    reads_epoch = False
    settings: DKDSettings

    def term_weights(self, epoch: int) -> dict[str, float]:
        """Return alpha and beta, risen as far as the epoch says."""
        share = warm_up(epoch, self.settings.warmup_epochs)
        return {"tckd": share * self.settings.alpha, "nckd": share * self.settings.beta}

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return TCKD and NCKD."""
        tckd, nckd = dkd_terms(*self.logits(inputs), inputs.labels, self.section.temperature)
        return {"tckd": tckd, "nckd": nckd}
