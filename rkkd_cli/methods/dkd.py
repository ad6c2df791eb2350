"""Decoupled KD: separate terms for the target class and the others (arXiv 2203.08679)."""

from torch import Tensor

from rkkd_cli.config.methods import DKDConfig
from rkkd_cli.losses import dkd_terms
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.method import Method, warm_up


class DKD(Method):
    """CE + min(epoch / warmup_epochs, 1) · (alpha·TCKD + beta·NCKD), both × T²."""

    Config = DKDConfig
    terms = ("tckd", "nckd")
    reads_epoch = False
    config: DKDConfig

    def term_weights(self, epoch: int) -> dict[str, float]:
        """Return alpha and beta, scaled by the warm-up."""
        factor = warm_up(epoch, self.config.warmup_epochs)
        return {"tckd": factor * self.config.alpha, "nckd": factor * self.config.beta}

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return TCKD and NCKD."""
        tckd, nckd = dkd_terms(*self.logits(inputs), inputs.labels, self.method_config.temperature)
        return {"tckd": tckd, "nckd": nckd}
