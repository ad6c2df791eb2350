"""Multi-level logit distillation of a weak and a strong view (Jin et al., CVPR 2023)."""

from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses import mlkd_terms
from rkkd_cli.methods.inputs import DistillInputs
from rkkd_cli.methods.kd import KD


class MLKD(KD):
    """(1 − alpha)·(CE of both views) + alpha·(instances + batch + classes).

    ``standardize_logits`` changes the instance level only, as in the code of logit standardisation.
    """

    terms = ("ce_strong", "mlkd_instance", "mlkd_batch", "mlkd_classes")
    needs_strong_view = True

    def loss_weights(self, epoch: int) -> dict[str, float]:
        """Return the weight of CE for either view, and that of KL for each of the three levels."""
        weights = super().loss_weights(epoch)
        levels = dict.fromkeys(self.terms[1:], weights["kl"])
        return {"ce": weights["ce"], "ce_strong": weights["ce"]} | levels

    def forward(self, inputs: DistillInputs) -> dict[str, Tensor]:
        """Return the strong view's CE and the three levels."""
        assert inputs.strong_view is not None
        strong_logits = inputs.strong_view.student.logits
        levels = mlkd_terms(
            inputs.student.logits,
            inputs.teacher.logits,
            strong_logits,
            inputs.strong_view.teacher.logits,
            temperature=self.method_config.temperature,
            standardize=self.method_config.standardize_logits,
        )
        terms = (F.cross_entropy(strong_logits, inputs.labels), *levels)
        return dict(zip(self.terms, terms, strict=True))
