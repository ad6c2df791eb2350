"""What an arm optimises: a weighted sum of loss terms."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from rkkd_cli.config.experiment import MethodConfig
from rkkd_cli.config.teachers import target_text
from rkkd_cli.losses import KendallRankingLoss, kl_divergence, tail_bin_kl_divergence
from rkkd_cli.methods.hard_term import HardTerm
from rkkd_cli.methods.inputs import DistillInputs, ViewOutputs, as_float32
from rkkd_cli.methods.method import Method

STANDARDIZED_KL = "kl_standardized"


def method_term_names(method_config: MethodConfig, method: type[Method]) -> tuple[str, ...]:
    """Return the names of the terms that only arms with this method have."""
    standardized = (STANDARDIZED_KL,) if method_config.standardize_logits else ()
    return (*standardized, *method.terms)


class ObjectiveLoss(NamedTuple):
    """The weighted sum to backpropagate, and the raw, detached values of the method's terms."""

    total: Tensor
    method_terms: dict[str, Tensor]


@dataclass(frozen=True)
class Objective:
    """A method, the hard term, and the ranking loss, whose weight is 0 where it is only logged."""

    method: Method
    hard: HardTerm
    ranking: KendallRankingLoss
    rank_weight: float

    @property
    def temperature(self) -> float:
        """The temperature of the term ``kl``."""
        return self.method.method_config.temperature

    @property
    def shares(self) -> dict[str, float]:
        """The share of each of several teachers, or of their mean; of one teacher, nothing."""
        return self.method.method_config.shares

    @property
    def uses_logits_only(self) -> bool:
        """Whether one view's logits are all that it reads, and the student all that it trains."""
        reads_more = self.method.needs_features or self.method.needs_strong_view
        return not (reads_more or self.method.state_dict())

    @property
    def method_terms(self) -> tuple[str, ...]:
        """The names of the terms that only arms with this method have. Each is a column."""
        return method_term_names(self.method.method_config, type(self.method))

    def loss_weights(self, epoch: int) -> dict[str, float]:
        """Return the weight of each optimised term in an epoch (from 1)."""
        weights = {
            self.hard.name if term == "ce" else term: weight
            for term, weight in self.method.loss_weights(epoch).items()
        }
        if self.method.method_config.standardize_logits:
            weights[STANDARDIZED_KL] = weights.pop("kl", 0.0)
        weights |= dict.fromkeys(self.hard.others, 1.0)
        return {**weights, "rank": self.rank_weight} if self.rank_weight else weights

    def text(self, epochs: int) -> str:
        """Return the weighted sum as text: ``0.1·ce + 0.9·kl + 0.9·rank, k = 5``.

        Weights that change are those of the last of the ``epochs``, with those of the first.
        Settings follow that are not the default ones, and which of several teachers it learns from.
        """
        last, first = (weighted_sum(self.loss_weights(epoch)) for epoch in (epochs, 1))
        weighted = last if first == last else f"{last} (epoch 1: {first})"
        return ", ".join([weighted, *self._unusual_settings()])

    def _unusual_settings(self) -> Iterator[str]:
        if (target := self.method.method_config.teacher) is not None:
            yield f"from {target_text(target)}"
        if self.temperature != MethodConfig().temperature:
            yield f"T = {self.temperature:g}"
        yield from self.hard.settings
        if not self.rank_weight:
            return
        settings, usual = self.ranking.settings, KendallRankingLoss().settings
        if settings.steepness != usual.steepness:
            yield f"k = {settings.steepness:g}"
        for name in ("surrogate", "channels", "over"):
            value = getattr(settings, name)
            if value != getattr(usual, name):
                yield f"{name} {value}"
        if not settings.background:
            yield "without background"
        if settings.standardize:
            yield "of standardised logits"

    def loss(self, inputs: DistillInputs) -> ObjectiveLoss:
        """Return Σ weight · term, a scalar, and the raw values of the method's terms.

        Of the hard term, ``kl`` and ``rank`` only those with a weight are computed here. Their
        recorded values are measured elsewhere, for all arms at once.
        """
        inputs = _as_float32(inputs)
        student, teacher, kept = inputs.student.logits, inputs.teacher.logits, inputs.kept
        weights = {term: w for term, w in self.loss_weights(inputs.epoch).items() if w}
        values = {**inputs.label_terms, **self.method(inputs)}
        if self.method.method_config.standardize_logits:
            values[STANDARDIZED_KL] = kl_divergence(*self.method.logits(inputs), self.temperature)
        raw = {term: values[term].detach() for term in self.method_terms}
        if self.hard.name in weights and self.hard.name not in values:
            values[self.hard.name] = self.hard.loss(inputs.student, inputs.targets)
        if "kl" in weights:
            values["kl"] = (
                kl_divergence(student, teacher, self.temperature)
                if kept is None
                else tail_bin_kl_divergence(student, kept, self.temperature)
            )
        if "rank" in weights:
            ranked = (student, teacher) if kept is None else kept.pair(student)
            values["rank"] = self.ranking(*ranked)
        if not weights:  # an epoch before a warm-up begins
            return ObjectiveLoss(0.0 * student.sum(), raw)
        weighted = [weight * values[term] for term, weight in weights.items()]
        return ObjectiveLoss(sum(weighted[1:], start=weighted[0]), raw)


def weighted_mean(shares: Sequence[float], values: Sequence[Tensor]) -> Tensor:
    """Return Σ share · value; a single value as it is."""
    if len(values) == 1:
        return values[0]
    return torch.stack([share * one for share, one in zip(shares, values, strict=True)]).sum(dim=0)


def weighted_loss(shares: Sequence[float], losses: Sequence[ObjectiveLoss]) -> ObjectiveLoss:
    """Return the weighted mean of losses: of their totals, and of each of the method's terms."""
    terms = {
        name: weighted_mean(shares, [loss.method_terms[name] for loss in losses])
        for name in losses[0].method_terms
    }
    return ObjectiveLoss(weighted_mean(shares, [loss.total for loss in losses]), terms)


def weighted_sum(weights: Mapping[str, float]) -> str:
    """Return weights and terms as text, without terms of weight 0: ``ce + 8·nckd``."""
    terms = [
        term if weight == 1 else f"{weight:.4g}·{term}"
        for term, weight in weights.items()
        if weight
    ]
    return " + ".join(terms) or "0"


def _as_float32(inputs: DistillInputs) -> DistillInputs:
    student, teacher = as_float32(inputs.student), as_float32(inputs.teacher)
    strong_view = inputs.strong_view
    if strong_view is not None:
        strong_view = ViewOutputs(as_float32(strong_view.student), as_float32(strong_view.teacher))
    return replace(inputs, student=student, teacher=teacher, strong_view=strong_view)
