"""``rkkd bench gpu`` where there is no GPU: the same list at toy size, and parts that go wrong."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPT = """
import os, sys, time, gpu
from gpu_checks import check

def wrong(device, seconds):
    return [check("weights", float("nan"), 1.0), check("others", 0.5, 1.0)]

def raising(device, seconds):
    raise ValueError("no such thing")

def dying(device, seconds):
    os._exit(3)

def hanging(device, seconds):
    time.sleep(100)

for name, parts in (
    ("whole", gpu.PARTS),
    ("broken", (
        gpu.Part("raising", raising, 9), gpu.Part("dying", dying, 9),
        gpu.Part("hanging", hanging, 0.2), gpu.Part("long", wrong, 600),
        gpu.Part("wrong", wrong, 9), gpu.Part("on CUDA", wrong, 9, needs_cuda=True),
    )),
):
    gpu.PARTS = parts
    sys.argv = ["gpu", "--device", "cpu", "--json", f"{name}.json"]
    sys.argv += ["--minutes", "1"] if name == "broken" else []
    try:
        gpu.main()
    except SystemExit as end:
        print(f"{name} has exit status {end.code}")
"""
Rows = dict[str, list[dict[str, Any]]]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork and /proc"),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the benchmark printed, and the folder of its JSON files."""
    folder = tmp_path_factory.mktemp("bench")
    surroundings = {"PYTHONPATH": str(BENCHMARKS), "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=folder, env={**os.environ, **surroundings},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout, folder


def rows_in(path: Path) -> Rows:
    """The rows of each part."""
    rows = defaultdict(list)
    for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
        rows[row["part"]].append(row)
    return rows


def test_on_a_cpu_every_part_holds_or_says_why_it_is_skipped(written: tuple[str, Path]) -> None:
    printed, folder = written
    rows = rows_in(folder / "whole.json")
    for part in ("CUDA graph", "ranking kernel"):
        assert [(row["outcome"], row["text"]) for row in rows.pop(part)] == [
            ("skipped", "needs CUDA")
        ]
    for part in ("optimisers", "resume", "one rank"):
        for row in rows.pop(part):
            assert row["outcome"] == "passed", row
            assert 0 <= row["error"] <= row["bound"]
    assert list(rows) == ["two arms", "stacking", "ranking loss", "input pipeline"]
    for row in chain.from_iterable(rows.values()):
        assert row["outcome"] == "measured", row
        assert 0 < row["low"] <= row["median"] <= row["high"]
        is_ours = "plain" not in row["what"] and row["part"] != "input pipeline"
        assert ("ratio" in row) == is_ours
        assert row["what"] in printed
    assert "whole has exit status 0" in printed


def test_the_file_says_what_the_numbers_depend_on(written: tuple[str, Path]) -> None:
    facts = json.loads((written[1] / "whole.json").read_text(encoding="utf-8"))["environment"]
    assert {"rkkd", "torch", "python"} <= set(facts["versions"])
    assert facts["device"] == "cpu (1 thread)"


def test_a_part_that_goes_wrong_says_so_and_the_others_go_on(written: tuple[str, Path]) -> None:
    printed, folder = written
    rows = rows_in(folder / "broken.json")
    (left_out,) = rows.pop("long")
    assert left_out["outcome"] == "left out"
    assert "may take 600 s" in left_out["text"]
    assert {
        part: [(row["outcome"], row["text"]) for row in found] for part, found in rows.items()
    } == {
        "raising": [("failed", "ValueError: no such thing")],
        "dying": [("failed", "its process ended with status 3")],
        "hanging": [("failed", "took longer than 0.2 s")],
        "wrong": [
            ("failed", "largest error nan, bound 1e+00"),
            ("passed", "largest error 5.0e-01, bound 1e+00"),
        ],
        "on CUDA": [("skipped", "needs CUDA")],
    }
    assert "broken has exit status 1" in printed
