"""Cross-entropy alone, and two forms of KD (Hinton et al., arXiv 1503.02531)."""

from rkkd_cli.config.experiment import Method


def ce_weights(_: Method) -> dict[str, float]:
    """Return the weights of CE alone: the student without distillation."""
    return {"ce": 1.0}


def kd_weights(method: Method) -> dict[str, float]:
    """Return the weights of (1 − alpha)·CE + alpha·KL, or those given directly; KL is × T²."""
    return {
        "ce": 1 - method.alpha if method.ce_weight is None else method.ce_weight,
        "kl": method.alpha if method.kl_weight is None else method.kl_weight,
    }


def soft_ce_weights(method: Method) -> dict[str, float]:
    """Return the weights of (1 − alpha)·CE + alpha·CE(σ(z_t/T), σ(z_s/T)), without T².

    The soft cross-entropy is the KL divergence plus the teacher's entropy, which has no gradient.
    As the recorded KL carries the factor T², its weight is alpha/T²: the student's gradient is that
    of the stated objective, and the term ``kl`` means the same as everywhere else.
    """
    weights = kd_weights(method)
    return weights | {"kl": weights["kl"] / method.temperature**2}
