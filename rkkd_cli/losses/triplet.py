"""The triplet loss of an embedding, and the negatives that it is computed with.

Shapes: B batch, D features, P pairs of two images of one class.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses.checks import check_target, without_autocast
from rkkd_cli.losses.geometry import pairwise_distances, unit_vectors

NEGATIVES = ("distance", "semihard", "all")

# Of unit vectors: distances below the first count as the first; a negative beyond the second is not
# drawn (Wu et al., and the code of RKD).
NEAREST, FARTHEST = 0.5, 1.4


@without_autocast
def triplet_loss(
    embedding: Tensor,
    labels: Tensor,
    margin: float = 0.2,
    negatives: str = "distance",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the mean over triplets of max(0, ‖e_a − e_p‖ − ‖e_a − e_n‖ + margin).

    The anchor a and the positive p are all ordered pairs of two images of one class. The negative
    n, an image of another class, is one of three:

    - ``distance``: one for each pair, drawn with probability ∝ d^(2−D)·(1 − d²/4)^((3−D)/2), the
      inverse of the density of distances on a sphere. d is its distance from the anchor as unit
      vectors, at least 0.5. None beyond 1.4 is drawn, unless all are.
    - ``semihard``: for each pair the nearest one beyond the positive; if there is none, the
      farthest.
    - ``all``: for each pair all of them.

    A pair without any negative does not count; without triplets the loss is 0.

    Args:
        embedding: e, (B, D).
        labels: the classes, (B,), int64.
        margin: a distance.
        negatives: ``distance``, ``semihard`` or ``all``.
        generator: draws on the CPU, on whatever device the embedding is.

    Raises:
        ValueError: a shape or dtype is wrong, or ``negatives`` is none of the three.

    Source: Park et al., arXiv 1904.05068, and its code, which adds 1e-6 to each difference of two
    embeddings; Wu et al., arXiv 1706.07567.

    """
    if negatives not in NEGATIVES:
        raise ValueError(f"negatives must be one of {', '.join(NEGATIVES)}, not {negatives!r}")
    embedding = _checked(embedding)
    distances = pairwise_distances(embedding)
    labels = check_target(embedding, labels)
    is_negative = labels[:, None] != labels[None, :]
    is_positive = ~is_negative & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    is_positive &= is_negative.any(dim=1, keepdim=True)
    anchors, positives = is_positive.nonzero(as_tuple=True)
    if not len(anchors):
        return 0.0 * embedding.sum()
    to_positive = distances[anchors, positives][:, None]
    if negatives == "all":
        hinge = F.relu(to_positive - distances[anchors] + margin)
        counts = is_negative[anchors]
        return torch.where(counts, hinge, 0.0).sum() / counts.sum()
    with torch.no_grad():
        if negatives == "distance":
            weights = _inverse_density(embedding, is_negative)[anchors]
            chosen = _draw(weights, generator)
        else:
            chosen = _semihard(to_positive, distances[anchors], is_negative[anchors])
    return F.relu(to_positive - distances[anchors].gather(1, chosen) + margin).mean()


def _checked(embedding: Tensor) -> Tensor:
    """Return the embedding with at least float32."""
    if embedding.ndim != 2 or not embedding.is_floating_point() or not embedding.numel():
        raise ValueError(
            "the embedding must be a floating-point tensor (batch, features) that is not empty; "
            f"got {tuple(embedding.shape)} of {embedding.dtype}"
        )
    return embedding.to(torch.promote_types(embedding.dtype, torch.float32))


def _inverse_density(embedding: Tensor, is_negative: Tensor) -> Tensor:
    """Return the probability (B, B) with which an anchor draws each of its negatives."""
    dimensions = embedding.shape[1]
    distances = pairwise_distances(unit_vectors(embedding))
    is_near = is_negative & (distances < FARTHEST)
    d = distances.clamp(NEAREST, FARTHEST)
    log_density = (dimensions - 2) * d.log() + (dimensions - 3) / 2 * (1 - d.square() / 4).log()
    drawable = torch.where(is_near.any(dim=1, keepdim=True), is_near, is_negative)
    # Where all are beyond, all are at FARTHEST, and so equally likely.
    return (-log_density).masked_fill(~drawable, -torch.inf).softmax(dim=1)


def _draw(weights: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return one index (P, 1) for each row of weights (P, B), never one of weight 0."""
    cumulative = weights.double().cumsum(dim=1)
    uniform = torch.rand(len(weights), 1, dtype=torch.float64, generator=generator)
    drawn = uniform.to(weights.device) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, drawn, right=True).clamp_(max=weights.shape[1] - 1)


def _semihard(to_positive: Tensor, to_others: Tensor, is_negative: Tensor) -> Tensor:
    """Return for each pair the nearest negative beyond the positive, else the farthest (P, 1)."""
    is_beyond = is_negative & (to_others > to_positive)
    nearest = to_others.masked_fill(~is_beyond, torch.inf).argmin(dim=1, keepdim=True)
    farthest = to_others.masked_fill(~is_negative, -torch.inf).argmax(dim=1, keepdim=True)
    return torch.where(is_beyond.any(dim=1, keepdim=True), nearest, farthest)
