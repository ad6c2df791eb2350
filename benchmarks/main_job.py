"""How long `rkkd run` takes, and how much memory: whole processes, the teacher's training included.

    python benchmarks/main_job.py [RUNS]

Every run begins with an empty cache in a new folder. Prints median, minimum and maximum of wall
time and peak resident memory, and the machine. POSIX only.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rkkd_cli.records.environment import environment


def measure() -> tuple[float, float]:
    """Return (seconds, peak memory in MB) of one run from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        surroundings = {**os.environ, "RKKD_CACHE": str(Path(folder) / "cache")}
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "rkkd_cli", "run", "--quiet"],
            cwd=folder,
            env=surroundings,
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise SystemExit(f"rkkd run failed with exit status {process.returncode}")
        unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, else KiB
        return seconds, usage.ru_maxrss * unit / 1e6


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    measured = [measure() for _ in range(runs)]
    facts = environment()
    cores = os.cpu_count()
    print(f"rkkd run, {runs} runs on {facts['processor']}, {cores} cores, {facts['versions']}")
    for name, unit, values in zip(
        ("wall time", "peak memory"), ("s", "MB"), zip(*measured, strict=True), strict=True
    ):
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"{name:12} median {middle:7.1f} {unit}   {low:.1f} to {high:.1f}")


if __name__ == "__main__":
    main()
