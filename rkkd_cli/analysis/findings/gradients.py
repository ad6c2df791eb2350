"""Gradient balance: KL's gradient neglects the low channels, the ranking loss' does not."""

from rkkd_cli.analysis.findings.curves import Curves
from rkkd_cli.analysis.findings.judge import judged
from rkkd_cli.analysis.findings.verdict import Part

CLAIM = "In {control} KL's gradient neglects the low channels, and the ranking loss' does not."
COLUMNS = ("grad_low_share_kl", "grad_low_share_rank")
NEGLECTED = 0.25


def gradients(curves: Curves) -> list[Part]:
    """Return the shares of the gradients on the lower half of the channels, means over epochs.

    An even spread puts half of a gradient's absolute values there; less than half of that is
    neglect. In the control arm, where KL acts without the ranking loss.
    """
    (arm,) = curves.arms
    kl, rank = (curves.of(arm, column).mean() for column in COLUMNS)
    half = "on the lower half of the channels"
    return [
        judged(f"less than a quarter of KL's gradient is {half}", kl, -1, than=NEGLECTED),
        judged(f"more than a quarter of the ranking loss' is {half}", rank, +1, than=NEGLECTED),
        judged("the ranking loss' share is the larger one", rank - kl, +1),
    ]
