"""What an arm records and what it optimises."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses import KendallRankingLoss, kl_divergence

TERMS = ("ce", "kl", "rank")


@dataclass(frozen=True)
class Objective:
    """The terms that every arm records, unweighted, and the weights of those it optimises."""

    weights: Mapping[str, float]
    temperature: float
    ranking: KendallRankingLoss

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return every term of (B, C) logits and (B,) labels as a scalar.

        A term without weight gets logits without gradient: it is recorded and costs no backward.
        """
        student = student.float() if student.dtype.itemsize < 4 else student
        free = student.detach()

        def logits(term: str) -> Tensor:
            return student if self.weights.get(term) else free

        return {
            "ce": F.cross_entropy(logits("ce"), labels),
            "kl": kl_divergence(logits("kl"), teacher, self.temperature),
            "rank": self.ranking(logits("rank"), teacher),
        }

    def weighted_sum(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return Σ weight · term over the terms with a weight."""
        weighted = [weight * terms[name] for name, weight in self.weights.items() if weight]
        return sum(weighted[1:], start=weighted[0])
