"""What an arm optimises."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses import KendallRankingLoss, kl_divergence

TERMS = ("ce", "kl", "rank")


@dataclass(frozen=True)
class Objective:
    """The weights of the terms that an arm optimises, and the settings of all terms."""

    weights: Mapping[str, float]
    temperature: float
    ranking: KendallRankingLoss

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return Σ weight · term, a scalar, of (B, C) logits and (B,) labels.

        Only terms with a weight are computed: what is recorded is measured apart.
        """
        student = student.float() if student.dtype.itemsize < 4 else student
        terms: dict[str, Callable[[], Tensor]] = {
            "ce": lambda: F.cross_entropy(student, labels),
            "kl": lambda: kl_divergence(student, teacher, self.temperature),
            "rank": lambda: self.ranking(student, teacher),
        }
        weighted = [weight * terms[name]() for name, weight in self.weights.items() if weight]
        return sum(weighted[1:], start=weighted[0])
