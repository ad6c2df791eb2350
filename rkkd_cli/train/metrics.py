"""What is recorded beside the loss terms."""

import torch
from torch import Tensor

from rkkd_cli.losses import kendall_tau_b


@torch.no_grad()
def batch_metrics(student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return ``kendall_tau``, and ``agreement``, ``acc``, ``top5`` as shares, of (B, C) logits.

    ``agreement`` is the share of images for which student and teacher name the same class.
    With fewer than five classes, ``top5`` looks at all of them.
    """
    best = student.topk(min(5, student.shape[1]), dim=1).indices
    return {
        "kendall_tau": kendall_tau_b(student, teacher),
        "agreement": _share(best[:, 0] == teacher.argmax(dim=1)),
        "acc": _share(best[:, 0] == labels),
        "top5": _share((best == labels[:, None]).any(dim=1)),
    }


def _share(hits: Tensor) -> Tensor:
    return hits.float().mean()
