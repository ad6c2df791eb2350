"""Where the time of a training goes. Phases are timed on request only."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch

# Takes an owner (an arm, or the stream) and a phase; returns a context that times the phase.
Timer = Callable[[str, str], AbstractContextManager[None]]

STREAM = "stream"
DATA, EVALUATION = "data", "evaluation"
WARM_UP_STEPS = 3  # are slower, and are left out


def untimed(owner: str, phase: str) -> AbstractContextManager[None]:
    """Time nothing."""
    return nullcontext()


class Span(NamedTuple):
    """A phase that was timed: its start, in seconds since the timer was made, and its seconds."""

    owner: str
    phase: str
    start: float
    seconds: float


class StepTimer:
    """Times every phase until it has ``max_spans``. Waits for the GPU at the end of each."""

    def __init__(self, max_spans: int = 50_000) -> None:
        self.max_spans, self.created = max_spans, time.perf_counter()
        self.spans: list[Span] = []

    def __call__(self, owner: str, phase: str) -> AbstractContextManager[None]:
        """Return a context that times the phase."""
        return self._timed(owner, phase) if len(self.spans) < self.max_spans else nullcontext()

    @contextmanager
    def _timed(self, owner: str, phase: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        ended = time.perf_counter()
        self.spans.append(Span(owner, phase, started - self.created, ended - started))

    def seconds_per_step(self) -> Mapping[tuple[str, str], float]:
        """Return the mean seconds of each owner and phase in a training step.

        The first steps are left out if there are more.
        """
        step_starts = [index for index, span in enumerate(self.spans) if span.phase == DATA]
        skipped = WARM_UP_STEPS if len(step_starts) > WARM_UP_STEPS else 0
        sums: dict[tuple[str, str], float] = defaultdict(float)
        for span in self.spans[step_starts[skipped] :] if step_starts else ():
            if span.phase != EVALUATION:
                sums[span.owner, span.phase] += span.seconds
        steps = len(step_starts) - skipped
        return {key: seconds / steps for key, seconds in sums.items()}

    def evaluations(self) -> list[float]:
        """Return the seconds of each evaluation of all arms on a held-out split."""
        return [span.seconds for span in self.spans if span.phase == EVALUATION]

    def trace(self) -> str:
        """Return the spans as JSON for chrome://tracing and ui.perfetto.dev."""
        owners = list(dict.fromkeys(span.owner for span in self.spans))
        rows = [
            {"name": "thread_name", "ph": "M", "pid": 1, "tid": index, "args": {"name": owner}}
            for index, owner in enumerate(owners)
        ]
        events = [
            {"name": span.phase, "ph": "X", "pid": 1, "tid": owners.index(span.owner),
             "ts": round(1e6 * span.start, 1), "dur": round(1e6 * span.seconds, 1)}
            for span in self.spans
        ]  # fmt: skip
        return json.dumps({"traceEvents": [*rows, *events]})
