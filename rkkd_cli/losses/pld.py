"""Plackett–Luce distillation: the likelihood of the teacher's order of the classes."""

import torch
from torch import Tensor

from rkkd_cli.losses.checks import check_target, positive
from rkkd_cli.losses.rows import paired_rows


def plackett_luce_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    temperature: float = 1.0,
    *,
    mask: Tensor | None = None,
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """Return the weighted negative log-likelihood of one order of the classes.

    π has the true class y first, then the others by falling teacher logit (of equal ones the lower
    class number first). The Plackett–Luce model draws the classes in this order, each from those
    that are left; the teacher's confidence weighs each draw. In nats, averaged over the batch:

      L = Σ_k w_k · (log Σ_{l ≥ k} exp s_π(l) − s_π(k)), with w_k = σ(t/T)_π(k)

    A teacher that is sure of the true class leaves CE; equal weights (T → ∞) leave ListMLE, divided
    by C. The gradient goes to the student only.

    Args:
        student_logits: s, (…, C).
        teacher_logits: t, (…, C).
        target: y, (…), int64.
        temperature: T > 0, of the weights alone.
        mask: the rows that count, (…), bool; None for all.
        normalizer: what the sum over these rows is divided by; None for their number.

    Raises:
        ValueError: the shapes differ, or T is not greater than 0.

    Source: Bassam et al., arXiv 2506.12542.

    """
    rows = paired_rows(student_logits, teacher_logits, mask)
    target = rows.of(check_target(student_logits, target))[:, None]
    weights = (rows.teacher / positive("temperature", temperature)).softmax(dim=1)
    first = rows.teacher.scatter(1, target, torch.inf)
    order = first.argsort(dim=1, descending=True, stable=True)
    costs = negative_log_draws(rows.student.gather(1, order))
    return rows.over((weights.gather(1, order) * costs).sum(dim=1).mean(), normalizer)


def negative_log_draws(scores: Tensor) -> Tensor:
    """Return log Σ_{l ≥ k} exp s_l − s_k of scores s (B, K), in the order in which they are drawn.

    It is −log of the probability that the Plackett–Luce model draws k from those that are left.
    """
    return scores.flip(1).logcumsumexp(dim=1).flip(1) - scores
