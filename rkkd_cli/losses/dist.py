"""DIST: compares correlations between and within classes instead of probabilities."""

from typing import NamedTuple

from torch import Tensor
from torch.linalg import vector_norm
from torch.nn import functional as F

from rkkd_cli.losses.checks import positive
from rkkd_cli.losses.rows import paired_rows

# Added to the product of the two norms, as in the DIST repository.
EPSILON = 1e-8


class DistTerms(NamedTuple):
    """The inter-class and the intra-class term of DIST, × T², without their weights."""

    inter: Tensor
    intra: Tensor


def dist_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 4.0,
    *,
    mask: Tensor | None = None,
    normalizer: float | Tensor | None = None,
) -> DistTerms:
    """Return the inter-class and the intra-class term, both × T².

    With p = σ(t/T) and q = σ(s/T), both (B, C), and Pearson's correlation ρ with 1e-8 added to its
    denominator:

      inter = T² · (1 − 1/B · Σ_b ρ(q_b·, p_b·)),   intra = T² · (1 − 1/C · Σ_c ρ(q_·c, p_·c))

    The rows that count are the batch. A constant row or column has ρ = 0 and no gradient; with one
    image every column is constant. The gradient goes to the student only. The DIST repository has
    no T²: its loss is this one at T = 1, and on logits divided by T it is this one divided by T².
    Other repositories multiply by T² for CIFAR-100, as is done here.

    Args:
        student_logits: s, (…, C).
        teacher_logits: t, (…, C).
        temperature: T > 0.
        mask: the rows that count, (…), bool; None for all.
        normalizer: what the sum over these rows is divided by; None for their number.

    Raises:
        ValueError: the shapes differ, or T is not greater than 0.

    Source: Huang et al., arXiv 2205.10536.

    """
    rows = paired_rows(student_logits, teacher_logits, mask)
    t = positive("temperature", temperature)
    q, p = F.softmax(rows.student / t, dim=1), F.softmax(rows.teacher / t, dim=1)
    inter, intra = (1 - _pearson(q, p, dim).mean() for dim in (1, 0))
    return DistTerms(rows.over(inter * t**2, normalizer), rows.over(intra * t**2, normalizer))


def dist_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 4.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    *,
    mask: Tensor | None = None,
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """Return β · inter + γ · intra, × T².

    Equation, shapes, errors and source are those of :func:`dist_terms`.
    """
    inter, intra = dist_terms(
        student_logits, teacher_logits, temperature, mask=mask, normalizer=normalizer
    )
    return beta * inter + gamma * intra


def _pearson(x: Tensor, y: Tensor, dim: int) -> Tensor:
    """Return the correlation of x and y along ``dim``."""
    x, y = x - x.mean(dim, keepdim=True), y - y.mean(dim, keepdim=True)
    norms: Tensor = vector_norm(x, dim=dim) * vector_norm(y, dim=dim)
    return (x * y).sum(dim) / (norms + EPSILON)
