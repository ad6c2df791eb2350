"""Multi-level logit distillation of a weak and a strong view (Jin et al., CVPR 2023)."""

from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses import mlkd_terms
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.kd import KD


class MLKD(KD):
    """(1 − alpha)·(CE of both views) + alpha·(instances + batch + classes).

    Standardised logits concern the instance level only, as in the code of logit standardisation.
    """

    terms = ("ce_strong", "mlkd_instance", "mlkd_batch", "mlkd_classes")
    needs_strong_view = True

    def weights(self, epoch: int) -> dict[str, float]:
        """Return the weights; those of CE and KL are those of each of their terms."""
        weights = super().weights(epoch)
        levels = dict.fromkeys(self.terms[1:], weights["kl"])
        return {"ce": weights["ce"], "ce_strong": weights["ce"]} | levels

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return the strong view's CE and the three levels."""
        assert inputs.strong is not None
        strong = inputs.strong.student.logits
        levels = mlkd_terms(
            inputs.student.logits,
            inputs.teacher.logits,
            strong,
            inputs.strong.teacher.logits,
            temperature=self.method_config.temperature,
            standardize=self.method_config.standardize_logits,
        )
        terms = (F.cross_entropy(strong, inputs.labels), *levels)
        return dict(zip(self.terms, terms, strict=True))
