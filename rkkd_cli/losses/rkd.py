"""Relational knowledge distillation: distances and angles between the images of a batch."""

from torch import Tensor
from torch.nn import functional as F

from rkkd_cli.losses.checks import paired_batches, without_autocast
from rkkd_cli.losses.geometry import pairwise_distances, unit_vectors


@without_autocast
def rkd_distance_loss(
    student_embedding: Tensor, teacher_embedding: Tensor, normalize: bool = False
) -> Tensor:
    """Return the smooth-L1 loss between the relative distances of student and teacher.

      L = 1/B² · Σ_ij h(d(s)_ij − d(t)_ij),  d(x)_ij = ‖x_i − x_j‖ / mean_{k≠l} ‖x_k − x_l‖
      h(x) = x²/2 for |x| ≤ 1, |x| − ½ otherwise

    Squared distances are at least 1e-12, so all pairs count in the mean. The diagonal counts in B²,
    as in mdistiller and RepDistiller. With one image the loss is 0 (in these repositories NaN). The
    gradient goes to the student only.

    Args:
        student_embedding: s, (B, D), or feature maps (B, D, …), which are flattened.
        teacher_embedding: t, (B, D′), or feature maps.
        normalize: compare s/‖s‖ and t/‖t‖, as mmrazor does with ``with_l2_norm``.

    Raises:
        ValueError: these are not two floating-point embeddings of one batch.

    Source: Park et al., arXiv 1904.05068. The usual weight is 25.

    """
    student, teacher = _embeddings(student_embedding, teacher_embedding, normalize)
    return F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher))


@without_autocast
def rkd_angle_loss(
    student_embedding: Tensor, teacher_embedding: Tensor, normalize: bool = False
) -> Tensor:
    """Return the smooth-L1 loss between the cosines of all angles at one image to two others.

      L = 1/B³ · Σ_jik h(a(s)_jik − a(t)_jik),  a(x)_jik = ⟨e_ij, e_kj⟩
      e_ij = (x_i − x_j) / ‖x_i − x_j‖

    h, the arguments, the errors and the source are those of :func:`rkd_distance_loss`; the usual
    weight is 50. Two images with equal embeddings have e = 0 and no gradient; mdistiller and
    RepDistiller multiply that gradient by 10¹². Memory grows with B²·D + B³.
    """
    student, teacher = _embeddings(student_embedding, teacher_embedding, normalize)
    return F.smooth_l1_loss(_cosines(student), _cosines(teacher))


def _embeddings(student: Tensor, teacher: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    student, teacher = (x.flatten(1) for x in paired_batches(student, teacher))
    return (unit_vectors(student), unit_vectors(teacher)) if normalize else (student, teacher)


def _relative_distances(x: Tensor) -> Tensor:
    """Return the distances (B, B), divided by the mean distance of different images."""
    distances = pairwise_distances(x)
    if len(x) == 1:
        return distances
    return distances / (distances.sum() / (len(x) * (len(x) - 1)))


def _cosines(x: Tensor) -> Tensor:
    """Return the cosines (B, B, B) of the angles at the first image between the other two."""
    directions = unit_vectors(x[None, :, :] - x[:, None, :])
    return directions @ directions.mT
