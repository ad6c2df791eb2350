"""What early stopping and the choice of an epoch may look at: metrics of the validation split."""

from rkkd_cli.errors import nearest

# Each metric of the validation split, and whether a higher value is the better one.
MONITORS = {
    "val_acc": True,
    "val_top5": True,
    "val_ce": False,
    "val_kl": False,
    "val_rank": False,
    "val_kendall_tau": True,
}
DEFAULT_MONITOR = "val_acc"


def monitor_problem(name: str) -> str | None:
    """Return why nothing may be chosen by the metric, or None."""
    if name in MONITORS:
        return None
    choices = ", ".join(MONITORS)
    if name.startswith("test_"):
        return (
            "selecting on the test images flatters: their accuracy would no longer tell how the "
            f"student does on new images; monitor one of {choices}"
        )
    close = nearest(name, MONITORS)
    hint = f"did you mean {close!r}? The" if close else "the"
    return f"is no metric of the validation split; {hint} choices are {choices}"


def is_better(monitor: str, value: float, than: float, by: float = 0.0) -> bool:
    """Tell whether a value of the metric is better than another one by more than ``by``."""
    return value - than > by if MONITORS[monitor] else than - value > by
