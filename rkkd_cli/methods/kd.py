"""Knowledge distillation (Hinton et al., arXiv 1503.02531): cross-entropy and KL."""

from rkkd_cli.config.experiment import Method


def kd_weights(method: Method) -> dict[str, float]:
    """Return the weights of (1 − alpha)·CE + alpha·KL, or those given directly."""
    return {
        "ce": 1 - method.alpha if method.ce_weight is None else method.ce_weight,
        "kl": method.alpha if method.kl_weight is None else method.kl_weight,
    }
