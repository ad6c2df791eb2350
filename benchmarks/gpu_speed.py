"""The measurements of ``rkkd bench gpu``, beside plain PyTorch in the same process.

On a CPU everything is so small that it shows nothing but that it runs.
"""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from ranking_loss import LOSSES, Case, inputs, least_seconds
from torch.profiler import profile
from turns import Finding, Row, Step, ratios, row
from two_arms import TWO_ARMS, Study, batches_of, lockstep_of, plain_batches

from rkkd_cli.train.device import use_precision
from rkkd_cli.train.profile import DATA, WARM_UP_STEPS, times_per_step

MOST_ROUNDS, WARM_UP = {"cuda": 7}, {"cuda": 6}  # else one; graphs are recorded within six batches
TURN = 0.5  # seconds on a GPU, which works on while the next batches are launched
SMALL = Study("alpha_temperature", "cnn2", "cnn2", 128, 10, (3, 32, 32))
TOY = Study("rank_grad", "digits_teacher", "digits_student", 8, 10, (1, 8, 8))
TORCH_BACKENDS: Any = torch.backends  # its type stubs lack these settings
CUDNN = TORCH_BACKENDS.cudnn
BACKENDS = (TORCH_BACKENDS.cuda.matmul, CUDNN.conv, CUDNN.rnn)
DEFAULTS = [backend.fp32_precision for backend in BACKENDS]


class Contestant(NamedTuple):
    """What makes its step, and its precision; without one it has PyTorch's defaults."""

    make: Callable[[], Step]
    precision: str = ""

    def prepare(self, device: torch.device) -> None:
        """Set the precision of this process."""
        for backend, default in zip(BACKENDS, DEFAULTS, strict=True):
            backend.fp32_precision = default
        if self.precision:
            use_precision(device, self.precision)


Taken = dict[str, list[float] | str]  # seconds a batch in each round, or why there are none


def take_turns_here(contestants: Mapping[str, Contestant], device: str, seconds: float) -> Taken:
    """Let the contestants take turns in this process, as many rounds as fit in the seconds."""
    end, where = time.perf_counter() + 0.8 * seconds, torch.device(device)
    batches: dict[str, tuple[Step, int]] = {}
    taken: Taken = {}
    for name, contestant in contestants.items():
        contestant.prepare(where)
        try:
            batch = contestant.make()
            _seconds(batch, where, WARM_UP.get(where.type, 1))
            batches[name] = batch, max(1, int(TURN / _seconds(batch, where, 1)))
        except (Exception, SystemExit) as error:  # the others go on
            taken[name] = sentence(error)
    rounds: dict[str, list[float]] = {name: [] for name in batches}
    for _ in range(MOST_ROUNDS.get(where.type, 1)):
        began = time.perf_counter()
        for name, (batch, count) in batches.items():
            contestants[name].prepare(where)
            rounds[name].append(_seconds(batch, where, count if where.type == "cuda" else 1))
        if 2 * time.perf_counter() - began > end:  # another round would end too late
            break
    return taken | rounds


def _seconds(batch: Step, device: torch.device, count: int) -> float:
    """Return the seconds a batch of so many."""
    started = time.perf_counter()
    for _ in range(count):
        batch()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / count


def sentence(error: BaseException) -> str:
    """Return an error in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = "; ".join(dict.fromkeys((lines[:1] + lines[-1:]) if lines else [type(error).__name__]))
    return text if isinstance(error, SystemExit) else f"{type(error).__name__}: {text}"


def against_plain(taken: Taken, plain: Sequence[str], copies: int, prefix: str) -> list[Finding]:
    """Return the finding of each contestant, with its ratio to the sum of the plain ones."""
    times = {name: one for name, one in taken.items() if not isinstance(one, str)}
    of_plain = [
        copies * sum(one) for one in zip(*(times.get(name, ()) for name in plain), strict=False)
    ]
    findings = [_timing(f"{prefix}, plain", of_plain, ())] if of_plain else []
    for name, one in taken.items():
        if isinstance(one, str):
            findings.append(Finding(f"{prefix}, {name}", "failed", one))
        elif name not in plain:
            findings.append(_timing(f"{prefix}, {name}", one, of_plain))
    return findings


def _timing(what: str, seconds: Sequence[float], plain: Sequence[float]) -> Finding:
    times = row(what, seconds, "s")
    text, figures = spread(times), _figures(times)
    if plain:
        ratio = row(what, ratios(plain, seconds), "times")
        text, figures = (
            f"{text}, plain / this {spread(ratio)}",
            figures | {"ratio": _figures(ratio)},
        )
    return Finding(what, "measured", text, figures)


def spread(one: Row) -> str:
    """Return median and range in words, seconds in a handy unit."""
    units = ((1, "s"), (1e-3, "ms"), (1e-6, "µs")) if one.unit == "s" else ((1, one.unit),)
    scale, unit = next((known for known in units if one.median >= known[0]), units[-1])
    median, low, high = (f"{value / scale:.3g}" for value in (one.median, one.low, one.high))
    return f"{median} {unit} ({low} to {high})"


def _figures(one: Row) -> dict[str, object]:
    return {"median": one.median, "low": one.low, "high": one.high, "unit": one.unit}


def two_arms(device: str, seconds: float) -> list[Finding]:
    """Time two arms in each precision, with and without CUDA graphs."""
    on_gpu = torch.device(device).type == "cuda"
    study = TWO_ARMS if on_gpu else TOY
    plain = {
        name: Contestant(partial(plain_batches, study, ranking, device))
        for name, ranking in (("kd", False), ("kd_rank", True))
    }
    ours = {
        f"rkkd {precision}{', CUDA graph' * graph}": Contestant(
            partial(_rkkd, precision, device, graph=graph, study=study), precision
        )
        for precision in (("fp32", "tf32", "bf16") if on_gpu else ("fp32", "bf16"))
        for graph in ((False, True) if on_gpu else (False,))
    }
    taken = take_turns_here(plain | ours, device, seconds)
    return against_plain(taken, list(plain), 1, "two arms, a batch")


def _rkkd(*arguments: Any, **named: Any) -> Step:
    return batches_of(lockstep_of(*arguments, **named))


def stacked(device: str, seconds: float) -> list[Finding]:
    """Time 2 and 45 small students, one after another and stacked."""
    on_gpu = torch.device(device).type == "cuda"
    study = SMALL if on_gpu else TOY._replace(preset="alpha_temperature_digits")
    findings = []
    for arms in (2, 45):
        contestants = {
            "script": Contestant(partial(plain_batches, study, False, device)),
            **{
                name: Contestant(
                    partial(
                        _rkkd,
                        precision,
                        device,
                        graph=graph,
                        stacked=stacked,
                        arms=arms,
                        study=study,
                    ),
                    precision,
                )
                for name, precision, stacked, graph in (
                    ("one after another", "fp32", False, False),
                    ("stacked", "fp32", True, False),
                    ("stacked, CUDA graph", "fp32", True, True),
                    ("stacked bf16, CUDA graph", "bf16", True, True),
                )
                if on_gpu or not graph
            },
        }
        taken = take_turns_here(contestants, device, seconds / 2)
        findings += against_plain(taken, ["script"], arms, f"{arms} small arms, a batch")
    return findings


def ranking(device: str, seconds: float) -> list[Finding]:
    """Time value and gradient of the ranking loss, also in parts of what the hardware allows."""
    on_gpu = torch.device(device).type == "cuda"
    cases = (Case(64, 100, 10), Case(32, 1000, 10), Case(8, 32_000, 10, plain=False))
    findings = []
    for case in cases if on_gpu else (Case(4, 100, 10), Case(2, 1000, 10)):
        contestants = {
            name: Contestant(partial(_ranking_step, name, case, device))
            for name in LOSSES
            if name == "ours" or case.plain
        }
        taken = take_turns_here(contestants, device, seconds / len(cases))
        title = f"ranking loss, B = {case.batch}, C = {case.classes}"
        findings += against_plain(taken, ["plain"] if case.plain else [], 1, title)
        ours = taken["ours"]
        if on_gpu and not isinstance(ours, str):
            findings.append(_beside_limit(case, device, ours, title))
    return findings


def _ranking_step(name: str, case: Case, device: str) -> Step:
    student, teacher = inputs(case, torch.device(device))
    return lambda: torch.autograd.grad(LOSSES[name](student, teacher, case.steepness), student)


def _beside_limit(case: Case, device: str, ours: Sequence[float], title: str) -> Finding:
    what = f"{title}, of the special functions' limit"
    try:
        least = least_seconds(case, torch.device(device))
    except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
        return Finding(what, "skipped", f"the GPU's clock is not known ({sentence(error)})")
    parts = row(what, [one / least for one in ours], "times")
    text = f"{spread(parts)} the limit of {1e6 * least:.3g} µs"
    return Finding(what, "measured", text, _figures(parts) | {"limit_seconds": least})


def input_pipeline(device: str, seconds: float) -> list[Finding]:
    """Measure the share of a step that gathering, cropping, flipping and normalising takes."""
    on_gpu = torch.device(device).type == "cuda"
    study = TWO_ARMS if on_gpu else TOY
    use_precision(torch.device(device), "fp32")
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler's own lines between ours
    end, batch = time.perf_counter() + 0.8 * seconds, _rkkd("fp32", device, study=study)
    shares: dict[str, list[float]] = {}
    for _ in range(3 if on_gpu else 1):
        began = time.perf_counter()
        with profile() as watched:
            for _ in range(WARM_UP_STEPS + (5 if on_gpu else 1)):
                batch()
        stages = times_per_step(watched.events())
        for name, attribute in (("CPU time", "seconds"), ("GPU time", "gpu_seconds")):
            of_stage = {key: getattr(one, attribute) for key, one in stages.items()}
            if total := sum(of_stage.values()):
                data = sum(one for (_, stage), one in of_stage.items() if stage == DATA)
                shares.setdefault(name, []).append(100 * data / total)
        if 2 * time.perf_counter() - began > end:
            break
    rows = [
        row(f"input pipeline, share of a step's {name}", one, "%") for name, one in shares.items()
    ]
    return [Finding(one.what, "measured", spread(one), _figures(one)) for one in rows]
