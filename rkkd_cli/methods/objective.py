"""What an arm optimises."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.config.experiment import MethodConfig
from rkkd_cli.losses import KendallRankingLoss, kl_divergence
from rkkd_cli.methods.inputs import DistillInputs, ViewOutputs, in_float32
from rkkd_cli.methods.method import Method

TERMS = ("ce", "kl", "rank")
STANDARDIZED = "kl_standardized"


def term_names(method_config: MethodConfig, method: type[Method]) -> tuple[str, ...]:
    """Return the names of the terms that only arms of this kind have."""
    return (*((STANDARDIZED,) if method_config.standardize_logits else ()), *method.terms)


class Losses(NamedTuple):
    """The weighted sum that an arm descends, and the raw values of its own terms, detached."""

    total: Tensor
    own: dict[str, Tensor]


@dataclass(frozen=True)
class Objective:
    """A method, and the ranking loss beside it, which may weigh nothing."""

    method: Method
    ranking: KendallRankingLoss
    rank_weight: float

    @property
    def temperature(self) -> float:
        """The temperature at which ``kl`` is recorded."""
        return self.method.method_config.temperature

    @property
    def of_logits_alone(self) -> bool:
        """Tell whether one view's logits are enough, and only the student is trained."""
        asks = self.method.needs_features or self.method.needs_strong_view
        return not (asks or self.method.state_dict())

    @property
    def method_terms(self) -> tuple[str, ...]:
        """The names of the terms that only arms of this kind have: each has a column."""
        return term_names(self.method.method_config, type(self.method))

    def weights(self, epoch: int) -> dict[str, float]:
        """Return the weight of each optimised term in an epoch (from 1)."""
        weights = self.method.weights(epoch)
        if self.method.method_config.standardize_logits:
            weights[STANDARDIZED] = weights.pop("kl", 0.0)
        return {**weights, "rank": self.rank_weight} if self.rank_weight else weights

    def loss(self, inputs: DistillInputs) -> Losses:
        """Return Σ weight · term, a scalar, and the raw values of the own terms.

        Of the terms that every arm has, only those with a weight are computed: what is recorded
        of them is measured apart.
        """
        inputs = _in_float32(inputs)
        student, teacher = inputs.student.logits, inputs.teacher.logits
        own = dict(self.method(inputs))
        if self.method.method_config.standardize_logits:
            own[STANDARDIZED] = kl_divergence(*self.method.logits(inputs), self.temperature)
        weights = {name: one for name, one in self.weights(inputs.epoch).items() if one}
        terms: dict[str, Callable[[], Tensor]] = {
            "ce": lambda: F.cross_entropy(student, inputs.labels),
            "kl": lambda: kl_divergence(student, teacher, self.temperature),
            "rank": lambda: self.ranking(student, teacher),
        }
        values = own | {name: terms[name]() for name in weights if name in terms}
        weighted = [weight * values[name] for name, weight in weights.items()]
        raw = {name: values[name].detach() for name in self.method_terms}
        if not weighted:  # an epoch in which a warm-up has not begun
            return Losses(0.0 * student.sum(), raw)
        return Losses(sum(weighted[1:], start=weighted[0]), raw)


def _in_float32(inputs: DistillInputs) -> DistillInputs:
    strong = inputs.strong and ViewOutputs(*(in_float32(one) for one in inputs.strong))
    student, teacher = in_float32(inputs.student), in_float32(inputs.teacher)
    return replace(inputs, student=student, teacher=teacher, strong=strong)
