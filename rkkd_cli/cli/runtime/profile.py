"""``rkkd run --profile``: where the time of a training step goes."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from torch.profiler import profile

from rkkd_cli.cli.output.console import err, print_line
from rkkd_cli.cli.output.tables import plain_table
from rkkd_cli.sweep.recording.recorder import Recorder
from rkkd_cli.train.events import BatchDone, DatasetReady, Event, StreamStarted
from rkkd_cli.train.profile import WARM_UP_STEPS, StageTime, evaluation_seconds, times_per_step
from rkkd_cli.train.stop_controller import Stopped

TRACE = "trace.json"
STEPS = WARM_UP_STEPS + 20  # not all, as every operation is kept in memory


class StepProfile:
    """``torch.profiler`` over the first steps of a run. A run with fewer steps has all of them."""

    def __init__(self) -> None:
        os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler's own lines between ours
        self.profiler, self.steps, self.is_running = profile(), 0, False

    def take(self, event: Event) -> None:
        """Begin with the first stream; end after enough steps, or before another teacher trains."""
        if isinstance(event, StreamStarted) and not (self.steps or self.is_running):
            self.profiler.start()
            self.is_running = True
        self.steps += isinstance(event, BatchDone)
        if isinstance(event, DatasetReady) or self.steps == STEPS:
            self.stop()

    def stop(self) -> None:
        """End the profile if it is running."""
        if self.is_running:
            self.profiler.stop()
            self.is_running = False

    def report(self, recorder: Recorder) -> None:
        """Write a trace to the run's folder, and print the time of each stage of a step."""
        self.stop()
        if not self.steps:
            print_line(err, "nothing was trained, so there is no profile")
            return
        path = recorder.started_run.path / TRACE
        self.profiler.export_chrome_trace(str(path))
        events = self.profiler.events()  # type: ignore[no-untyped-call]
        _print_times(times_per_step(events), evaluation_seconds(events))
        print_line(err, f"{path}: open it at chrome://tracing or ui.perfetto.dev")


@contextmanager
def profiling(wanted: bool, recorder: Recorder) -> Iterator[Callable[[Event], None]]:
    """Yield what takes the run's events; report at the end of the run, or when it is interrupted.

    Under torchrun it is the profile of rank 0.
    """
    if not wanted:
        yield lambda _: None
        return
    steps = StepProfile()
    try:
        yield steps.take
    except Stopped:
        steps.report(recorder)
        raise
    except BaseException:
        with suppress(RuntimeError):  # of a GPU that has failed
            steps.stop()  # PyTorch crashes at the end of a process that is still profiled
        raise
    steps.report(recorder)


def _print_times(times: Mapping[tuple[str, str], StageTime], evaluation: float | None) -> None:
    total = sum(time.seconds for time in times.values())
    gpu_total = sum(time.gpu_seconds for time in times.values())
    header = ["owner", "stage", "ms", "share (%)"]
    if gpu_total:
        header += ["GPU ms", "share (%)"]
    rows: list[Sequence[str]] = []
    for (owner, stage), time in times.items():
        row = [owner, stage, f"{1e3 * time.seconds:.2f}", f"{100 * time.seconds / total:.1f}"]
        if gpu_total:
            share = 100 * time.gpu_seconds / gpu_total
            row += [f"{1e3 * time.gpu_seconds:.2f}", f"{share:.1f}"]
        rows.append(row)
    err.print()
    print_line(err, f"A step takes {1e3 * total:.1f} ms under torch.profiler:")
    err.print(plain_table(header, rows))
    if evaluation is not None:
        each = f"{1e3 * evaluation:.1f} ms for each arm and batch of held-out images"
        print_line(err, f"Evaluation: {each}, beside the steps.")
