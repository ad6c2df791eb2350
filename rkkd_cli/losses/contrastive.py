"""Contrastive representation distillation: noise-contrastive estimation against a memory bank.

Student and teacher each have embeddings v (B, D) of a batch, and a memory bank (n, D) with the
embeddings of all n training images. The embeddings of one model are anchors against rows
w (B, 1 + K, D) of the other model's bank: first the image itself, the positive, then K negatives.
All embeddings have length 1. A training step sums the losses of both models and then updates both
banks. The teacher's embeddings come from a trainable projection.

Scores are kept as logarithms, so nothing overflows.

Source: Tian et al., arXiv 1910.10699, as in RepDistiller's ContrastMemory and ContrastLoss.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses.checks import in_one_dtype, positive, without_autocast
from rkkd_cli.losses.geometry import unit_vectors

EPSILON = 1e-7


@without_autocast
def contrastive_loss(
    anchors: Tensor, rows: Tensor, log_z: Tensor, num_data: int, temperature: float = 0.07
) -> Tensor:
    """Return the noise-contrastive loss of the anchors, averaged over the batch.

    With P_bk = exp(⟨v_b, w_bk⟩ / τ) / Z and c = K/n + 1e-7:

      L = −1/B · Σ_b (log P_b0 / (P_b0 + c) + Σ_{k=1…K} log (K/n) / (P_bk + c))

    The gradient goes to the anchors, not to the memory bank.

    Args:
        anchors: v, (B, D), of length 1.
        rows: w, (B, 1 + K, D), K ≥ 1, the positive first.
        log_z: log Z, a tensor with one element; see :func:`contrastive_log_z`.
        num_data: n, the number of training images.
        temperature: τ > 0.

    Raises:
        ValueError: the shapes do not match, or n or τ is not greater than 0.

    """
    v, w = _anchors_and_rows(anchors, rows)
    negatives = w.shape[1] - 1
    if negatives < 1:
        raise ValueError("the contrastive loss needs at least one negative row for each anchor")
    log_p = _log_scores(v, w, temperature) - log_z.detach().to(v.dtype).reshape(())
    noise = negatives / positive("num_data", num_data)
    # P / (P + c) is a sigmoid of log P − log c, and c / (P + c) of its negative.
    log_ratio = log_p - math.log(noise + EPSILON)
    log_noise_share = math.log(noise) - math.log(noise + EPSILON)
    positives = F.logsigmoid(log_ratio[:, 0])
    rejections = F.logsigmoid(-log_ratio[:, 1:]) + log_noise_share
    return -(positives.sum() + rejections.sum()) / v.shape[0]


@torch.no_grad()
@without_autocast
def contrastive_log_z(
    anchors: Tensor, rows: Tensor, num_data: int, temperature: float = 0.07
) -> Tensor:
    """Return log Z, Z = n · mean_bk exp(⟨v_b, w_bk⟩ / τ): estimated on the first batch, then kept.

    Arguments and errors are those of :func:`contrastive_loss`.
    """
    scores = _log_scores(*_anchors_and_rows(anchors, rows), temperature)
    count = positive("num_data", num_data)
    return scores.flatten().logsumexp(dim=0) + math.log(count / scores.numel())


@torch.no_grad()
def updated_rows(rows: Tensor, embeddings: Tensor, momentum: float = 0.5) -> Tensor:
    """Return the batch's new rows of a memory bank: m · w + (1 − m) · v, scaled to length 1.

    Args:
        rows: w, (B, D), the old rows of the batch's images.
        embeddings: v, (B, D), of the same model.
        momentum: m, from 0 to 1.

    Returns:
        (B, D) in the dtype of ``rows``, without gradient. A sum of zero stays zero (in RepDistiller
        it becomes NaN).

    Raises:
        ValueError: the shapes differ, or m is not between 0 and 1.

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
    """Return both in one dtype of at least float32, the rows detached. Raises ValueError."""
    if anchors.ndim != 2 or rows.ndim != 3 or (rows.shape[0], rows.shape[2]) != anchors.shape:
        raise ValueError(
            "anchors must be (batch, features) and their rows (batch, 1 + negatives, features); "
            f"got {tuple(anchors.shape)} and {tuple(rows.shape)}"
        )
    return in_one_dtype(anchors, rows, "embeddings")


def _log_scores(v: Tensor, w: Tensor, temperature: float) -> Tensor:
    """Return ⟨v, w⟩ / τ, (B, 1 + K)."""
    return (w @ v[:, :, None]).squeeze(2) / positive("temperature", temperature)
