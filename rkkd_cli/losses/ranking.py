"""The ranking loss: a differentiable Kendall τ between the teacher's and the student's logits."""

import torch
from torch import Tensor, nn

from rkkd_cli.losses.kernels import cpu, cuda, torch_blocks
from rkkd_cli.losses.own_gradient import OwnGradient
from rkkd_cli.losses.ranked_rows import RankingSettings, mean_of_orders, per_image, ranked_rows
from rkkd_cli.losses.rows import paired_rows, rows_of_logits
from rkkd_cli.losses.surrogates import COMPILED_SURROGATES, SURROGATES


def kendall_ranking_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    steepness: float = 100.0,
    surrogate: str = "tanh",
    channels: str = "all",
    standardize: bool = False,
    over: str = "classes",
    background: bool = True,
    *,
    mask: Tensor | None = None,
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """Return the ranking loss, the negative of a smooth Kendall τ, averaged over the batch.

      L = −1/B · Σ_b 2/(C(C−1)) · Σ_{i<j} φ(k(t_i − t_j)) · φ(k(s_i − s_j))

    L lies in [−1, 1]; −1 means that all pairs of classes have the same order, clearly apart. It
    compares raw logits, without a temperature. The gradient goes to the student only.

    Value and gradient are closed forms, computed together; the loss can be differentiated once.
    Below float64 φ has an error of 10⁻⁶. So has the value, and the gradient has an error of 10⁻⁶
    times its largest possible entry, 2k/C (with ``tanh_product``, 2k/C times the largest Δt). An
    image with a logit that is not finite has loss NaN, unless its class takes no part.

    Memory grows with B·C, on a GPU with B·C²/32, and with B·C²/128 above 4096 classes; time grows
    with B·C². So from some thousands of classes on rank ``top:64`` or ``union:64``: they are
    gathered before they are cast (but for z-scores), and cost little more than their ``topk``.

    Float32 logits use the numba kernel in ``numba_pairs`` on the CPU and the Triton kernel in
    ``triton_tiles`` on a GPU. Other dtypes, and machines without numba or Triton, use PyTorch's
    operations in ``torch_blocks``. On the CPU an image's numbers depend neither on the other images
    nor on the number of threads; with ``over`` other than ``classes`` they depend on the images.

    Args:
        student_logits: s, (…, C) with C ≥ 2.
        teacher_logits: t, (…, C).
        steepness: k > 0. Pairs further apart than about 1/k count as ordered.
        surrogate: φ: ``tanh``, ``softsign`` ``x/(1 + |x|)`` or ``arctan`` 2/π · arctan x. Or
            ``tanh_product``, which replaces the product φ · φ by tanh(k·Δt·Δs).
        channels: the classes that take part: ``all``, ``top:SHARE`` or ``bottom:SHARE`` (0.1), or
            their number (``top:64``), chosen by the teacher's logits of each image. ``union:SHARE``
            takes the top ones of the teacher and those of the student, each class once; the choice
            has no gradient. Of each side at least 2 and at most all take part, and of equal logits
            any. C above is their number in that image: an image with a union of 70 classes is
            divided by its 70·69/2 pairs.
        standardize: compare z-scores: each row's logits less their mean, divided by their standard
            deviation (of n − 1), both of all its entries. Rows are what is ranked: an image's
            classes, or a class's images. Equal logits become zeros, without a gradient.
        over: what is ranked: the ``classes`` of each image, as above; the ``images`` of the batch
            by the logits of each class, L of the transposed logits; or ``both``, the mean of the
            two. One image alone has no order among images, which counts as 0. Of several processes
            each ranks its own images. Images are the rows that count.
        background: False leaves out the last class, which is the background of a detector.
        mask: the rows that count, (…), bool; None for all.
        normalizer: what the sum over these rows is divided by; None for their number.

    Raises:
        ValueError: the shapes differ, C < 2, k is not greater than 0, the surrogate, ``channels``
            or ``over`` is unknown, or ``channels`` are chosen where images are ranked.

    Source: arXiv 2409.17823 (RKKD). z-scores and both orders: Monotonic Rank Distillation (github
    ebolk/MonotonicRankDistillation). The means of its two ranking terms add up to 2·L + 2 with
    ``over="both"``, ``standardize=True``, ``surrogate="tanh_product"`` and k = 0.25. The
    union of both models' top classes: RLKD (arXiv 2409.12545), with Spearman's coefficient; BiLD
    (arXiv 2406.13555) compares the differences within each of the two.

    """
    settings = RankingSettings(steepness, surrogate, channels, standardize, over, background)
    wants_gradient = torch.is_grad_enabled() and student_logits.requires_grad
    with torch.autocast(student_logits.device.type, enabled=False):
        rows = rows_of_logits(student_logits, teacher_logits, mask)
        losses = [
            _RankingLoss.apply(s, t, counts, steepness, surrogate, wants_gradient)[0]
            for s, t, counts in ranked_rows(rows, settings)
        ]
        return rows.over(mean_of_orders(losses), normalizer)


@torch.no_grad()
def ranking_per_image(
    student_logits: Tensor, teacher_logits: Tensor, settings: RankingSettings
) -> Tensor:
    """Return the ranking loss of each image, (B,), without gradient.

    :func:`kendall_ranking_loss` is their mean. The order of a batch's images belongs to none of
    them, so each of them has its loss.
    """
    k, surrogate = settings.steepness, settings.surrogate
    rows = ranked_rows(paired_rows(student_logits, teacher_logits), settings)
    losses = [_losses_and_gradients(*one, k, surrogate, wants_gradient=False)[0] for one in rows]
    return per_image(losses, settings, len(student_logits))


@torch.no_grad()
def ranking_gradient_per_image(
    student_logits: Tensor, teacher_logits: Tensor, settings: RankingSettings
) -> Tensor:
    """Return the gradient of each image's ranking loss by its student logits, (B, C).

    It is B times the gradient of :func:`kendall_ranking_loss`.
    """
    given = paired_rows(student_logits, teacher_logits)
    with torch.enable_grad():
        leaf = given.student.detach().requires_grad_()
        rows = ranked_rows(given._replace(student=leaf), settings)
    gradients = [
        _losses_and_gradients(*one, settings.steepness, settings.surrogate)[1]
        * (len(leaf) / (len(one.student) * len(rows)))
        for one in rows
    ]
    return torch.autograd.grad([one.student for one in rows], leaf, gradients)[0]


class KendallRankingLoss(nn.Module):
    """:func:`kendall_ranking_loss` as a module. Raises ValueError for wrong settings at once."""

    def __init__(
        self,
        steepness: float = 100.0,
        surrogate: str = "tanh",
        channels: str = "all",
        standardize: bool = False,
        over: str = "classes",
        background: bool = True,
    ) -> None:
        super().__init__()
        settings = steepness, surrogate, channels, standardize, over, background
        self.settings = RankingSettings(*settings)
        self.settings.check()

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        *,
        mask: Tensor | None = None,
        normalizer: float | Tensor | None = None,
    ) -> Tensor:
        """Return the loss of (…, C) logits."""
        settings = self.settings._asdict()
        return kendall_ranking_loss(
            student_logits, teacher_logits, **settings, mask=mask, normalizer=normalizer
        )

    def extra_repr(self) -> str:
        """Show the settings in the module's repr."""
        return ", ".join(f"{name}={value!r}" for name, value in self.settings._asdict().items())


class _RankingLoss(OwnGradient):
    """Returns the loss and its gradient (B, C), which is kept for the backward pass."""

    @staticmethod
    def forward(
        student: Tensor,
        teacher: Tensor,
        counts: Tensor | None,
        k: float,
        surrogate: str,
        wants_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        losses, gradients = _losses_and_gradients(
            student, teacher, counts, k, surrogate, wants_gradient
        )
        return losses.mean(), gradients / len(student)


def _losses_and_gradients(
    s: Tensor,
    t: Tensor,
    counts: Tensor | None,
    k: float,
    surrogate: str,
    wants_gradient: bool = True,
) -> tuple[Tensor, Tensor]:
    """Return the loss of each row, (B,), and its gradient by s, (B, C), of :class:`Ranked` rows.

    Without ``wants_gradient`` the gradient may be anything.
    """
    if s.shape[1] == 1:  # one image has no order among images
        return (s - s)[:, 0], torch.zeros_like(s)
    if surrogate in COMPILED_SURROGATES:
        index = COMPILED_SURROGATES.index(surrogate)
        if cpu.supports(s, t):
            return cpu.losses_and_gradients(s, t, k, index, counts)
        if cuda.supports(s, t):
            return cuda.losses_and_gradients(s, t, k, index, counts)
    agreement = SURROGATES[surrogate]
    return torch_blocks.losses_and_gradients(s, t, k, agreement, wants_gradient, counts)
