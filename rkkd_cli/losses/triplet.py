"""The triplet loss of an embedding, and the negatives that it is computed with.

Shapes: B batch, D features.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses.checks import check_target, without_autocast
from rkkd_cli.losses.geometry import pairwise_distances, unit_vectors

NEGATIVES = ("distance", "semihard", "all")

# Of unit vectors: distances below the first count as the first; a negative beyond the second has no
# weight (Wu et al., and the code of RKD).
NEAREST, FARTHEST = 0.5, 1.4
# Triplets that are held at once: 16 MiB in float32.
TRIPLETS_PER_BLOCK = 2**22


@without_autocast
def triplet_loss(
    embedding: Tensor, labels: Tensor, margin: float = 0.2, negatives: str = "distance"
) -> Tensor:
    """Return the mean over triplets of max(0, ‖e_a − e_p‖ − ‖e_a − e_n‖ + margin).

    The anchor a and the positive p are all ordered pairs of two images of one class. The negative
    n, an image of another class, is one of three:

    - ``distance``: all of them, weighted by d^(2−D)·(1 − d²/4)^((3−D)/2), the inverse of the
      density of distances on a sphere, with a sum of 1 for each anchor. d is the distance from the
      anchor as unit vectors, at least 0.5. Those beyond 1.4 have no weight, unless all are. This is
      the expectation of drawing one negative for each pair with these probabilities.
    - ``semihard``: for each pair the nearest one beyond the positive; if there is none, the
      farthest.
    - ``all``: for each pair all of them.

    A pair without any negative does not count; without triplets the loss is 0.

    Args:
        embedding: e, (B, D).
        labels: the classes, (B,), int64.
        margin: a distance.
        negatives: ``distance``, ``semihard`` or ``all``.

    Raises:
        ValueError: a shape or dtype is wrong, or ``negatives`` is none of the three.

    Source: Park et al., arXiv 1904.05068, and its code, which draws, and adds 1e-6 to each
    difference of two embeddings; Wu et al., arXiv 1706.07567.

    """
    return triplet_per_image(embedding, labels, margin, negatives).mean()


@without_autocast
def triplet_per_image(
    embedding: Tensor, labels: Tensor, margin: float = 0.2, negatives: str = "distance"
) -> Tensor:
    """Return each image's part as an anchor, (B,), whose mean is :func:`triplet_loss`."""
    if negatives not in NEGATIVES:
        raise ValueError(f"negatives must be one of {', '.join(NEGATIVES)}, not {negatives!r}")
    embedding = _checked(embedding)
    labels = check_target(embedding, labels)
    distances = pairwise_distances(embedding)
    is_negative = labels[:, None] != labels[None, :]
    is_positive = ~is_negative & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    is_positive &= is_negative.any(dim=1, keepdim=True)
    weights = is_negative.to(distances.dtype)
    if negatives == "distance":
        weights = _inverse_density(embedding.detach(), is_negative)
    size = max(1, TRIPLETS_PER_BLOCK // len(labels) ** 2)
    sums, counts = [], []
    for block in map(slice, range(0, len(labels), size), range(size, len(labels) + size, size)):
        d, positive = distances[block], is_positive[block]
        chosen = weights[block][:, None, :]
        if negatives == "semihard":
            chosen = _semihard(d.detach(), is_negative[block]).to(d.dtype)
        hinge = F.relu(d[:, :, None] - d[:, None, :] + margin) * chosen
        sums.append((hinge.sum(dim=2) * positive).sum(dim=1))
        counts.append((chosen.sum(dim=2) * positive).sum())
    triplets = torch.stack(counts).sum()
    # Without triplets all sums are 0, and any finite factor will do.
    return torch.cat(sums) * (len(labels) / triplets.clamp(min=0.5))


def _checked(embedding: Tensor) -> Tensor:
    """Return the embedding with at least float32."""
    if embedding.ndim != 2 or not embedding.is_floating_point() or not embedding.numel():
        raise ValueError(
            "the embedding must be a floating-point tensor (batch, features) that is not empty; "
            f"got {tuple(embedding.shape)} of {embedding.dtype}"
        )
    return embedding.to(torch.promote_types(embedding.dtype, torch.float32))


def _inverse_density(embedding: Tensor, is_negative: Tensor) -> Tensor:
    """Return the weight (B, B) of each anchor's negatives; 0 for all others."""
    dimensions = embedding.shape[1]
    distances = pairwise_distances(unit_vectors(embedding))
    is_near = is_negative & (distances < FARTHEST)
    d = distances.clamp(NEAREST, FARTHEST)
    log_density = (dimensions - 2) * d.log() + (dimensions - 3) / 2 * (1 - d.square() / 4).log()
    weighed = torch.where(is_near.any(dim=1, keepdim=True), is_near, is_negative)
    # Where all are beyond, all are at FARTHEST, and so weigh the same.
    weights = (-log_density).masked_fill(~weighed, -torch.inf).softmax(dim=1)
    return torch.where(is_negative.any(dim=1, keepdim=True), weights, 0.0)


def _semihard(distances: Tensor, is_negative: Tensor) -> Tensor:
    """Return for anchors (A, B) which negative each positive has, (A, B, B) with one True.

    It is the nearest one beyond the positive, else the farthest.
    """
    to_positive, to_others = distances[:, :, None], distances[:, None, :]
    negative = is_negative[:, None, :]
    beyond = negative & (to_others > to_positive)
    nearest = to_others.masked_fill(~beyond, torch.inf).argmin(dim=2, keepdim=True)
    farthest = to_others.masked_fill(~negative, -torch.inf).argmax(dim=2, keepdim=True)
    index = torch.where(beyond.any(dim=2, keepdim=True), nearest, farthest)
    chosen = torch.zeros_like(beyond).scatter_(2, index, value=True)
    return chosen & negative
