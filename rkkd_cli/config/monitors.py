"""The metrics of the validation split, which early stopping and epoch selection may monitor."""

from rkkd_cli.config.tasks import TASKS, TaskRecords
from rkkd_cli.errors import nearest

# Each metric of any task's validation split, and whether higher is better.
MONITORS = {name: more for task in TASKS.values() for name, more in task.monitors.items()}
# Those of the moving average of the student's weights.
EMA_MONITORS = tuple(task.ema_column("val") for task in TASKS.values())


def monitor_problem(name: str, task: TaskRecords) -> str | None:
    """Return why the metric may not be monitored in such a task, or None if it may."""
    if name in task.monitors:
        return None
    choices = ", ".join(task.monitors)
    if name.startswith("test_"):
        return (
            f"selecting on the test images flatters: their {task.main_name} would no longer tell "
            f"how the student does on new images; monitor one of {choices}"
        )
    close = nearest(name, task.monitors)
    hint = f"did you mean {close!r}? The" if close else "the"
    if name in MONITORS:
        return f"is no metric of the task {task.name}; the choices are {choices}"
    return f"is no metric of the validation split; {hint} choices are {choices}"


def is_better(monitor: str, value: float, than: float, by: float = 0.0) -> bool:
    """Whether ``value`` of the metric is better than the value ``than`` by more than ``by``."""
    return value - than > by if MONITORS[monitor] else than - value > by
