"""Better accuracy at all stages: at the end of each stage of the learning rate, and on the way."""

from rkkd_cli.analysis.findings.curves import Curves
from rkkd_cli.analysis.findings.judge import judged
from rkkd_cli.analysis.findings.verdict import Part

CLAIM = "{treated} has the higher test accuracy than {control} at all stages of training."


def accuracy(curves: Curves) -> list[Part]:
    """Return the lead over all epochs with the share of epochs in the lead, and at each end."""
    gap = curves.between("test_acc")
    shares = (gap > 0).mean() * 100
    more = f"in the lead in {shares.mean():.0f} % of the epochs"
    if len(shares) > 1:
        more += f" ({shares.min():.0f} to {shares.max():.0f} % by seed)"
    unit = " points"
    at_epoch = gap.T  # a column an epoch
    ends = [
        judged(f"ahead at the end of stage {number} of {len(curves.stages)} (epoch {stage.last})",
               at_epoch[stage.last], +1, unit=unit)
        for number, stage in enumerate(curves.stages, 1)
    ]  # fmt: skip
    on_the_way = f"ahead on the way (mean lead over {curves.last} epochs)"
    return [judged(on_the_way, gap.mean(), +1, unit=unit, more=more), *ends]
