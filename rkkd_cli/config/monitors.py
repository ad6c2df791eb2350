"""The metrics of the validation split, which early stopping and epoch selection may monitor."""

from rkkd_cli.errors import nearest

# Each metric of the validation split, and whether higher is better.
MONITORS = {
    "val_acc": True,
    "val_top5": True,
    "val_ce": False,
    "val_kl": False,
    "val_rank": False,
    "val_kendall_tau": True,
    "val_acc_ema": True,
}
EMA_MONITORS = ("val_acc_ema",)  # of the moving average of the student's weights
DEFAULT_MONITOR = "val_acc"


def monitor_problem(name: str) -> str | None:
    """Return why the metric may not be monitored, or None if it may."""
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
    """Whether ``value`` of the metric is better than the value ``than`` by more than ``by``."""
    return value - than > by if MONITORS[monitor] else than - value > by
