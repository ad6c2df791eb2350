"""Where the time of a training goes: named spans of it, only looked at on request."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch

# Called with who does something and what it is; gives what stands around that.
Spans = Callable[[str, str], AbstractContextManager[None]]

STREAM = "stream"
DATA, EVALUATION = "data", "evaluation"
WARM_UP = 3  # steps, which are slower and do not count


def untimed(who: str, what: str) -> AbstractContextManager[None]:
    """Look at no clock."""
    return nullcontext()


class Span(NamedTuple):
    """Something that was done: seconds since the watch began, and how many it took."""

    who: str
    what: str
    start: float
    seconds: float


class StepTimer:
    """Times every span until it has ``most`` of them. A GPU is waited for at each end."""

    def __init__(self, most: int = 50_000) -> None:
        self.most, self.began = most, time.perf_counter()
        self.spans: list[Span] = []

    def __call__(self, who: str, what: str) -> AbstractContextManager[None]:
        """Time what is done inside."""
        return self._timed(who, what) if len(self.spans) < self.most else nullcontext()

    @contextmanager
    def _timed(self, who: str, what: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        ended = time.perf_counter()
        self.spans.append(Span(who, what, started - self.began, ended - started))

    def seconds_a_step(self) -> Mapping[tuple[str, str], float]:
        """Return the mean seconds a step of everything that steps consist of.

        The first steps are left out where there are more.
        """
        begun = [number for number, span in enumerate(self.spans) if span.what == DATA]
        skipped = WARM_UP if len(begun) > WARM_UP else 0
        sums: dict[tuple[str, str], float] = defaultdict(float)
        for span in self.spans[begun[skipped] :] if begun else ():
            if span.what != EVALUATION:
                sums[span.who, span.what] += span.seconds
        steps = len(begun) - skipped
        return {key: seconds / steps for key, seconds in sums.items()}

    def evaluations(self) -> list[float]:
        """Return the seconds of each evaluation of all arms on a held-out split."""
        return [span.seconds for span in self.spans if span.what == EVALUATION]

    def trace(self) -> str:
        """Return the spans as browsers show them (chrome://tracing, ui.perfetto.dev): JSON."""
        names = list(dict.fromkeys(span.who for span in self.spans))
        rows = [
            {"name": "thread_name", "ph": "M", "pid": 1, "tid": n, "args": {"name": name}}
            for n, name in enumerate(names)
        ]
        events = [
            {"name": span.what, "ph": "X", "pid": 1, "tid": names.index(span.who),
             "ts": round(1e6 * span.start, 1), "dur": round(1e6 * span.seconds, 1)}
            for span in self.spans
        ]  # fmt: skip
        return json.dumps({"traceEvents": [*rows, *events]})
