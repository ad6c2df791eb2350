"""Cross-entropy alone, and two forms of KD (Hinton et al., arXiv 1503.02531)."""

from rkkd_cli.methods.method import Method


class CE(Method):
    """CE alone: the student without distillation."""

    reads_epoch = False

    def loss_weights(self, epoch: int) -> dict[str, float]:
        """Return weight 1 for CE, whatever ``ce_weight`` and ``kl_weight`` are."""
        return {"ce": 1.0}


class TripletAlone(CE):
    """The triplet loss alone."""


class KD(Method):
    """(1 − alpha)·CE + alpha·KL; KL is × T². Of detectors CE + alpha·KL."""

    reads_epoch = False

    def default_weights(self) -> dict[str, float]:
        """Return 1 − alpha and alpha; of detectors 1 and alpha, as published."""
        alpha = self.method_config.alpha
        return {"ce": 1.0 if self.task == "detection" else 1 - alpha, "kl": alpha}


class SoftCE(KD):
    """(1 − alpha)·CE + alpha·CE(σ(z_t/T), σ(z_s/T)), without T².

    The soft cross-entropy is KL plus the teacher's entropy, which has no gradient. The term ``kl``
    is KL × T² in every method, so its weight here is alpha/T². The student's gradient is then that
    of the objective above.
    """

    def loss_weights(self, epoch: int) -> dict[str, float]:
        """Return the weights of KD, with that of KL divided by T²."""
        weights = super().loss_weights(epoch)
        return weights | {"kl": weights["kl"] / self.method_config.temperature**2}
