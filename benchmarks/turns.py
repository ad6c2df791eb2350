"""What the benchmarks share: contestants in processes of their own that take turns, and tables."""

import argparse
import multiprocessing as mp
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import NamedTuple

from rkkd_cli.records.environment import environment

Step = Callable[[], object]


class Row(NamedTuple):
    """One measured quantity: the median of its rounds and their range."""

    what: str
    median: float
    low: float
    high: float
    unit: str
    bar: str = ""


class Finding(NamedTuple):
    """What a part of a benchmark found, in words and figures.

    ``outcome`` is passed, failed, measured, skipped or left out.
    """

    what: str
    outcome: str
    text: str
    figures: Mapping[str, object] = {}


def row(what: str, values: Sequence[float], unit: str, bar: str = "") -> Row:
    """Return the median and the range of the rounds' values."""
    return Row(what, statistics.median(values), min(values), max(values), unit, bar)


def ratios(slower: Sequence[float], faster: Sequence[float]) -> list[float]:
    """Return slower / faster, round by round."""
    return [one / other for one, other in zip(slower, faster, strict=True)]


def take_turns(
    makers: Mapping[str, Callable[[], Step]], rounds: int, steps: int, warm_up: int = 2
) -> dict[str, list[float]]:
    """Return each contestant's seconds a step in every round.

    Each lives in a process of its own, as it would in use, and waits while the others compute.
    The order turns round from round to round.
    """
    context = mp.get_context("spawn")
    lines: dict[str, Connection] = {}
    for name, maker in makers.items():
        lines[name], theirs = context.Pipe()
        context.Process(target=_serve, args=(theirs, maker, warm_up), daemon=True).start()
        lines[name].recv()  # it is warm
    seconds: dict[str, list[float]] = {name: [] for name in makers}
    for number in range(rounds):
        for name in list(makers)[:: 1 if number % 2 else -1]:
            lines[name].send(steps)
            seconds[name].append(lines[name].recv())
    for line in lines.values():
        line.send(0)
    return seconds


def _serve(line: Connection, maker: Callable[[], Step], warm_up: int) -> None:
    step = maker()
    for _ in range(warm_up):
        step()
    line.send("warm")
    while steps := line.recv():
        started = time.perf_counter()
        for _ in range(steps):
            step()
        line.send((time.perf_counter() - started) / steps)


def parser(doc: str) -> argparse.ArgumentParser:
    """Return the parser of a benchmark's own options."""
    return argparse.ArgumentParser(description=doc.splitlines()[0])


def show(rows: Sequence[Row]) -> None:
    """Print the rows as a table."""
    facts = environment()
    print(f"{facts['processor']}, PyTorch {facts['versions']['torch']}")
    width = max(len(one.what) for one in rows)
    for one in rows:
        spread = f"{one.median:9.3g} {one.unit:3} ({one.low:.3g} to {one.high:.3g})"
        print(f"{one.what:{width}} {spread:34} {one.bar}".rstrip())
