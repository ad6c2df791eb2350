"""Where the time of a training step goes: stages are marked, and ``torch.profiler`` times them."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import record_function

PREFIX = "rkkd/"  # tells our marks from those of PyTorch
DATA, EVALUATION = "data", "evaluation"
# The first steps are slower, and not yet a CUDA graph. They are left out if there are more.
WARM_UP_STEPS = 5
SECONDS = 1e-6  # torch.profiler counts microseconds


def stage(name: str, owner: str = "stream") -> record_function:
    """Return a context that marks a stage of a step: an arm's, or one that all arms share.

    Stages are not nested. Outside a profile a mark costs about 5 µs.
    """
    return record_function(f"{PREFIX}{owner}/{name}")


@dataclass
class StageTime:
    """The seconds that a stage takes in this process, and those of the GPU kernels it launches."""

    seconds: float = 0.0
    gpu_seconds: float = 0.0


def times_per_step(events: Sequence[FunctionEvent]) -> Mapping[tuple[str, str], StageTime]:
    """Return the mean times of each owner and stage in a training step."""
    stages = [event for event in _stages(events) if _key(event)[1] != EVALUATION]
    step_starts = [event.time_range.start for event in stages if _key(event)[1] == DATA]
    if not step_starts:
        return {}
    skipped = WARM_UP_STEPS if len(step_starts) > WARM_UP_STEPS else 0
    stages = [event for event in stages if event.time_range.start >= step_starts[skipped]]
    times: dict[tuple[str, str], StageTime] = defaultdict(StageTime)
    share = SECONDS / (len(step_starts) - skipped)
    for event in stages:
        times[_key(event)].seconds += share * event.cpu_time_total
    # A backward pass on a GPU launches its kernels from another thread, while this one waits. So
    # a kernel belongs to the stage during which it was launched.
    for event in events:
        around = _stage_at(event.time_range.start, stages) if event.kernels else None
        if around is not None:
            gpu_time = sum(kernel.duration for kernel in event.kernels)
            times[_key(around)].gpu_seconds += share * gpu_time
    return times


def evaluation_seconds(events: Iterable[FunctionEvent]) -> float | None:
    """Return the mean seconds of an arm on a batch of a held-out split; None if there was none."""
    evaluations = [event for event in _stages(events) if _key(event)[1] == EVALUATION]
    return fmean(SECONDS * e.cpu_time_total for e in evaluations) if evaluations else None


def _stages(events: Iterable[FunctionEvent]) -> list[FunctionEvent]:
    """Return the events that are our marks, in the order in which they began.

    A mark may be there a second time, with the time on the GPU and none on the CPU.
    """
    marks = (event for event in events if event.name.startswith(PREFIX) and event.cpu_time_total)
    return sorted(marks, key=lambda event: event.time_range.start)


def _key(event: FunctionEvent) -> tuple[str, str]:
    """Return the owner and the name of a stage."""
    owner, _, name = event.name.removeprefix(PREFIX).rpartition("/")
    return owner, name


def _stage_at(start: float, stages: Sequence[FunctionEvent]) -> FunctionEvent | None:
    """Return the stage during which something started, if any."""
    index = bisect_right(stages, start, key=lambda event: event.time_range.start) - 1
    return stages[index] if index >= 0 and start <= stages[index].time_range.end else None
