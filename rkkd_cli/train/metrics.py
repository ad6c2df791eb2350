"""What is recorded beside the loss terms."""

import torch
from torch import Tensor

from rkkd_cli.losses import kendall_tau_b


@torch.no_grad()
def batch_metrics(student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return ``kendall_tau`` (a mean) and the hits ``agreement``, ``acc``, ``top5`` of a batch.

    Logits are (B, C), labels (B,). ``agreement`` counts the images for which student and teacher
    name the same class. With fewer than five classes, ``top5`` looks at all of them.
    """
    best = student.topk(min(5, student.shape[1]), dim=1).indices
    return {
        "kendall_tau": kendall_tau_b(student, teacher),
        "agreement": (best[:, 0] == teacher.argmax(dim=1)).sum(),
        "acc": (best[:, 0] == labels).sum(),
        "top5": (best == labels[:, None]).sum(),
    }
