"""Retrieval metrics of an embedding: each image is a query, all others are searched.

Shapes: N images, D features.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from rkkd_cli.config.tasks import RECALLS

# Similarities that are held at once: 256 MiB in float32.
PAIRS_PER_BLOCK = 2**26
MAX_QUERIES = 6


class RetrievalMetrics(NamedTuple):
    """Percent, averaged over the queries that have another image of their class.

    With R other images of a query's class, and its neighbours sorted by distance:

    - ``recalls``: at least one of the first 1, 2, 4, 8 is of its class (Recall@1 …),
    - ``r_precision``: the share of its class among the first R,
    - ``map_at_r``: 1/R · Σ of the share of its class among the first i, over those i ≤ R that are
      of its class themselves.
    """

    recalls: tuple[float, ...]
    r_precision: float
    map_at_r: float

    @property
    def columns(self) -> dict[str, float]:
        """The metrics by the names that they are recorded with."""
        recalls = {f"recall_at_{k}": one for k, one in zip(RECALLS, self.recalls, strict=True)}
        return {"map_at_r": self.map_at_r, "r_precision": self.r_precision, **recalls}


def retrieval_metrics(embedding: Tensor, labels: Tensor) -> RetrievalMetrics:
    """Return the metrics of an embedding (N, D) with classes (N,), by Euclidean distance.

    Neighbours are searched block by block; memory is 256 MiB and N · the largest class.

    Raises ValueError if no two images share a class.

    Source: Musgrave et al., arXiv 2003.08505 (MAP@R, R-precision).
    """
    _, class_of, sizes = torch.unique(labels, return_inverse=True, return_counts=True)
    others = sizes[class_of] - 1
    if not (others > 0).any():
        raise ValueError("retrieval needs two images of a class; every image has its own class")
    most = min(max(int(others.max()), *RECALLS), len(labels) - 1)
    sums = torch.zeros(len(RECALLS) + 2, dtype=torch.float64, device=embedding.device)
    queries = (others > 0).nonzero().squeeze(1)
    embedding = embedding - embedding.mean(dim=0)  # distances stay, and cancel less
    for block in queries.split(max(1, PAIRS_PER_BLOCK // len(labels))):
        hits = labels[nearest_to(block, embedding, most)] == labels[block][:, None]
        sums += _sums(hits, others[block])
    *recalls, r_precision, map_at_r = (100 * sums / len(queries)).tolist()
    return RetrievalMetrics(tuple(recalls), r_precision, map_at_r)


def nearest_to(queries: Tensor, embedding: Tensor, count: int) -> Tensor:
    """Return the images nearest to some, (Q,) of an embedding (N, D), as (Q, count), in order."""
    # Of a query all similarities are shifted alike: −‖q − x‖² + ‖q‖².
    similarity = (2 * embedding[queries] @ embedding.T).sub_(embedding.square().sum(dim=1))
    similarity.scatter_(1, queries[:, None], -torch.inf)
    return similarity.topk(count, dim=1).indices


def first_queries(labels: Tensor) -> Tensor:
    """Return the first image of each of the first six classes (N,) that have two, as (Q,)."""
    classes, sizes = torch.unique(labels, return_counts=True)
    chosen = classes[sizes > 1][:MAX_QUERIES]
    return torch.eq(labels, chosen[:, None]).int().argmax(dim=1)


def _sums(hits: Tensor, others: Tensor) -> Tensor:
    """Return the sums over queries, given which neighbours are of their class, nearest first."""
    ranks = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    within = hits & (ranks <= others[:, None])
    precision = hits.cumsum(dim=1).double() / ranks
    per_query = [hits[:, :k].any(dim=1) for k in RECALLS]
    per_query.append(within.sum(dim=1) / others.double())
    per_query.append((precision * within).sum(dim=1) / others)
    return torch.stack([values.double().sum() for values in per_query])
