"""What the ranking loss ranks: the classes of an image, the images of a batch, or both."""

import math
from typing import NamedTuple

from torch import Tensor

from rkkd_cli.errors import UserError, unknown_name
from rkkd_cli.losses.channels import Ranked, parse_channels, select_channels
from rkkd_cli.losses.checks import in_one_dtype, positive
from rkkd_cli.losses.rows import Rows
from rkkd_cli.losses.surrogates import SURROGATES

OVER = ("classes", "images", "both")


class RankingSettings(NamedTuple):
    """The arguments of :func:`kendall_ranking_loss` beside the logits."""

    steepness: float = 100.0
    surrogate: str = "tanh"
    channels: str = "all"
    standardize: bool = False
    over: str = "classes"
    background: bool = True

    def check(self) -> None:
        """Raise ValueError for settings that no logits have."""
        positive("steepness", self.steepness)
        if self.surrogate not in SURROGATES:
            raise unknown_name("surrogate", self.surrogate, SURROGATES)
        parse_channels(self.channels)
        if self.over not in OVER:
            raise unknown_name("over", self.over, OVER)
        if self.over != "classes" and self.channels != "all":
            raise UserError(
                f"channels = {self.channels} chooses classes, image by image, and over = "
                f"{self.over} ranks images: leave channels at all, or over at classes"
            )


def ranked_rows(rows: Rows, settings: RankingSettings) -> list[Ranked]:
    """Return the logits of student and teacher whose rows are ranked; for both orders, two pairs.

    They are of one dtype of at least float32. Chosen classes are gathered before they are cast, so
    that of many classes no copy of all is made; z-scores are of all classes.

    Raises ValueError for less than 2 classes or wrong settings.
    """
    student, teacher = rows.student, rows.teacher
    if not settings.background:
        student, teacher = student[:, :-1], teacher[:, :-1]
    if student.shape[1] < 2:
        raise ValueError("the ranking loss needs at least 2 classes: one class has no order")
    settings.check()
    if settings.channels != "all":
        if settings.standardize:
            student, teacher = map(_z_scores, in_one_dtype(student, teacher, "logits"))
        chosen = select_channels(student, teacher, settings.channels)
        both = in_one_dtype(chosen.student, chosen.teacher, "logits")
        return [Ranked(*both, chosen.counts)]
    student, teacher = in_one_dtype(student, teacher, "logits")
    pairs = []
    if settings.over != "images":
        pairs.append(Ranked(student, teacher))
    if settings.over != "classes":
        pairs.append(Ranked(student.T, teacher.T))
    if settings.standardize:
        pairs = [Ranked(_z_scores(one.student), _z_scores(one.teacher)) for one in pairs]
    return pairs


def _z_scores(rows: Tensor) -> Tensor:
    """Return the rows with mean 0 and standard deviation 1; rows of equal entries become zeros."""
    # A shift changes only the rounding. It makes equal entries exact zeros.
    x = rows - rows.detach().amax(dim=1, keepdim=True)
    if x.shape[1] == 1:
        return x
    spread = x.std(dim=1, keepdim=True)
    return (x - x.mean(dim=1, keepdim=True)) / spread.masked_fill(spread == 0, math.inf)


def per_image(values: list[Tensor], settings: RankingSettings, images: int) -> Tensor:
    """Return the values of each order's rows as one value for each image, (B,).

    The order of the batch's images belongs to none of them: each has the mean over the classes.
    """
    if settings.over != "classes":
        values = [*values[:-1], values[-1].mean().expand(images)]
    return mean_of_orders(values)


def mean_of_orders(values: list[Tensor]) -> Tensor:
    """Return the only value, or the mean of the two of both orders."""
    return values[0] if len(values) == 1 else (values[0] + values[1]) / 2
