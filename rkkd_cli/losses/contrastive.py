"""Contrastive representation distillation: noise-contrastive estimation against a memory.

Either side's embeddings v (B, D) are anchors against rows w (B, 1 + K, D) of a memory that holds
the other side's embeddings of all n training images: the image itself first, then K others. All
embeddings have length 1. The loss of a step is the sum of the two sides' losses, the student's
embeddings against the teacher's memory and the teacher's (of its trainable projector) against the
student's; the memories are updated after both.

Scores are kept as logarithms, so that nothing overflows.

Source: Tian et al., arXiv 1910.10699; as in RepDistiller's ContrastMemory and ContrastLoss.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses.checks import positive, without_autocast
from rkkd_cli.losses.geometry import unit_vectors

EPSILON = 1e-7


@without_autocast
def contrastive_loss(
    anchors: Tensor, rows: Tensor, log_z: Tensor, num_data: int, temperature: float = 0.07
) -> Tensor:
    """Return the noise-contrastive loss of the anchors, averaged over the batch.

    With P_bk = exp(⟨v_b, w_bk⟩ / τ) / Z and c = K/n + 1e-7:

      L = −1/B · Σ_b (log P_b0 / (P_b0 + c) + Σ_{k=1…K} log (K/n) / (P_bk + c))

    The gradient goes to the anchors; the memory has none.

    Args:
        anchors: v, (B, D), of length 1.
        rows: w, (B, 1 + K, D), K ≥ 1, the positive first.
        log_z: log Z, a tensor of one element; see :func:`contrastive_log_z`.
        num_data: n, the number of training images.
        temperature: τ > 0.

    Raises:
        ValueError: the shapes do not fit, or n or τ is not greater than 0.

    """
    v, w = _anchors_and_rows(anchors, rows)
    negatives = w.shape[1] - 1
    if negatives < 1:
        raise ValueError("the contrastive loss needs at least one negative row for each anchor")
    log_p = _log_scores(v, w, temperature) - log_z.detach().to(v.dtype).reshape(())
    noise = negatives / positive("num_data", num_data)
    relative = log_p - math.log(noise + EPSILON)
    # P / (P + c) is a sigmoid of log P − log c, and c / (P + c) of its negative.
    from_noise = math.log(noise) - math.log(noise + EPSILON)
    found = F.logsigmoid(relative[:, 0])
    refused = F.logsigmoid(-relative[:, 1:]) + from_noise
    return -(found.sum() + refused.sum()) / v.shape[0]


@torch.no_grad()
@without_autocast
def contrastive_log_z(
    anchors: Tensor, rows: Tensor, num_data: int, temperature: float = 0.07
) -> Tensor:
    """Return log Z of the first batch: Z = n · mean_bk exp(⟨v_b, w_bk⟩ / τ), then kept.

    Shapes and errors as of :func:`contrastive_loss`.
    """
    scores = _log_scores(*_anchors_and_rows(anchors, rows), temperature)
    count = positive("num_data", num_data)
    return scores.flatten().logsumexp(dim=0) + math.log(count / scores.numel())


@torch.no_grad()
def updated_rows(rows: Tensor, embeddings: Tensor, momentum: float = 0.5) -> Tensor:
    """Return the memory's new rows of the batch: m · w + (1 − m) · v, scaled to length 1.

    Args:
        rows: w, (B, D), the memory's rows of the batch's images.
        embeddings: v, (B, D), of the same side.
        momentum: m, from 0 to 1.

    Returns:
        (B, D) in the memory's dtype, without a gradient. A sum of zero stays zero (RepDistiller:
        NaN).

    Raises:
        ValueError: the shapes differ, or m is not within 0 and 1.

    """
    if rows.ndim != 2 or rows.shape != embeddings.shape:
        raise ValueError(
            "the memory's rows and the embeddings must both be (batch, features); got "
            f"{tuple(rows.shape)} and {tuple(embeddings.shape)}"
        )
    if not 0 <= momentum <= 1:
        raise ValueError(f"the memory's momentum must be from 0 to 1, not {momentum}")
    mixed = momentum * rows + (1 - momentum) * embeddings.to(rows.dtype)
    return unit_vectors(mixed)


def _anchors_and_rows(anchors: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    shapes = tuple(anchors.shape), tuple(rows.shape)
    if anchors.ndim != 2 or rows.ndim != 3 or (rows.shape[0], rows.shape[2]) != anchors.shape:
        raise ValueError(
            "anchors must be (batch, features) and their rows (batch, 1 + negatives, features); "
            f"got {shapes[0]} and {shapes[1]}"
        )
    if rows.numel() == 0:
        raise ValueError("the batch is empty")
    if not (anchors.is_floating_point() and rows.is_floating_point()):
        raise ValueError("embeddings must be floating-point tensors")
    dtype = torch.promote_types(anchors.dtype, rows.dtype)
    dtype = torch.promote_types(dtype, torch.float32)
    return anchors.to(dtype), rows.detach().to(dtype)


def _log_scores(v: Tensor, w: Tensor, temperature: float) -> Tensor:
    """Return ⟨v, w⟩ / τ, (B, 1 + K)."""
    return (w @ v[:, :, None]).squeeze(2) / positive("temperature", temperature)
