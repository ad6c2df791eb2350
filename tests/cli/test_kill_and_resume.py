"""Runs that are killed at random moments and resumed: the script of the README's figures, shorter.

The script ends with another status than 0 where rows, weights, optimiser states or generators
differ from those of an undisturbed run, or where a process ends in another way than it should.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill_and_resume.py"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork and /proc")
@pytest.mark.parametrize(
    ("signal", "count"),
    [("kill", 8), ("term", 3), pytest.param("kill", 25, marks=pytest.mark.slow)],
)
def test_a_run_that_is_killed_again_and_again_ends_as_if_nothing_had_happened(
    signal: str, count: int, tmp_path: Path
) -> None:
    answer = subprocess.run(
        [sys.executable, str(SCRIPT), "--kills", str(count), "--signal", signal],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert f"{count} × SIG{signal.upper()} in " in answer.stdout
    if signal == "kill":
        moments = re.findall(r"^ *(\d+) (before|after|at any)", answer.stdout, re.MULTILINE)
        assert sum(int(number) for number, _ in moments) == count
        assert {"before", "after", "at any"} == {kind for number, kind in moments if int(number)}
    else:
        longest = re.search(r"at most ([\d.]+) s", answer.stdout)
        assert longest is not None
        assert float(longest[1]) < 10
