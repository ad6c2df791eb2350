"""How long commands take to answer, and a run to its first step: whole processes.

    python benchmarks/startup.py [--rounds 5]

The large run of ``rkkd plot`` has 240 epochs of 45 arms with 5 seeds, 54,000 rows of random
numbers; what ``rkkd run`` needs for its first step includes all steps of the first epoch, of the
teacher where it is not cached, of both arms where it is.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from history import write_large_run
from turns import Row, parser, row, show


def seconds(words: Sequence[str], cwd: Path, cache: Path, until: str = "") -> float:
    """Return the seconds of a command, or those until a line on stderr begins with ``until``."""
    command = [sys.executable, "-m", "rkkd_cli", *words]
    surroundings = {**os.environ, "RKKD_CACHE": str(cache)}
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=cwd, env=surroundings, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if until and line.startswith(until):
            taken = time.perf_counter() - started
            process.kill()
            process.wait()
            return taken
    if process.wait() != 0 or until:
        raise SystemExit(f"rkkd {' '.join(words)} failed")
    return time.perf_counter() - started


def measure(rounds: int) -> list[Row]:
    """Return the times of all commands, which take turns."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        write_large_run(place / "results" / "large")
        warm, cold = place / "cache", place / "none"
        seconds(["run", "--seeds", "0", "--epochs", "1", "--name", "first"], place, warm)

        def run(cache: Path, until: str) -> Callable[[], float]:
            return lambda: seconds(["run", "--out", f"{place}/out"], place, cache, until)

        def cold_run() -> float:
            shutil.rmtree(cold, ignore_errors=True)
            return run(cold, "teacher epoch")()

        commands: dict[str, tuple[Callable[[], float], str]] = {
            "rkkd --help": (lambda: seconds(["--help"], place, warm), "under 0.5"),
            "rkkd ls presets": (lambda: seconds(["ls", "presets"], place, warm), "under 1"),
            "rkkd ls runs": (lambda: seconds(["ls", "runs"], place, warm), "under 1"),
            "rkkd plot, 54,000 rows": (lambda: seconds(["plot", "large"], place, warm), "under 3"),
            "rkkd show, 54,000 rows": (lambda: seconds(["show", "large"], place, warm), ""),
            "rkkd run to its first epoch": (run(warm, "seed 0  kd  epoch"), "step under 6"),
            "rkkd run to the teacher's first epoch": (cold_run, "step under 6"),
        }
        times: dict[str, list[float]] = {what: [] for what in commands}
        for _ in range(rounds):
            for what, (take, _) in commands.items():
                times[what].append(take())
        return [row(what, times[what], "s", bar) for what, (_, bar) in commands.items()]


def main() -> None:
    """Measure and print."""
    own = parser(__doc__)
    own.add_argument("--rounds", type=int, default=5)
    options = own.parse_args()
    show(measure(options.rounds))


if __name__ == "__main__":
    main()
