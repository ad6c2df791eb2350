"""``rkkd run --profile`` and ``rkkd bench`` at the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pandas as pd
import pytest

Program = Callable[..., CompletedProcess[str]]
QUICK = (
    "training.epochs=2",
    "teacher.training.epochs=1",
    "seeds=[0]",
    "dataset.limit_train=400",
    "dataset.limit_test=100",
)
WHAT = {"data", "teacher", "forward", "backward", "optimiser", "records"}


@pytest.mark.parametrize("stack", [False, True])
def test_a_profile_tells_shares_and_changes_no_number(
    stack: bool, warm_rkkd: Program, tmp_path: Path
) -> None:
    words = [*QUICK, *(["--stack"] if stack else [])]
    plain = warm_rkkd("run", *words, "--name", "plain", cwd=tmp_path)
    assert plain.returncode == 0, plain.stderr
    ran = warm_rkkd("run", "--profile", *words, "--name", "watched", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    table = ran.stderr.partition("A step takes ")[2].partition("Evaluation: ")[0].splitlines()[2:]
    rows = [line.rsplit(maxsplit=3) for line in table if line.strip()]
    assert {what for _, what, _, _ in rows} == WHAT
    assert {who.strip() for who, *_ in rows} == (
        {"stream", "2 arms"} if stack else {"stream", "kd", "kd_rank"}
    )
    assert sum(float(share) for *_, share in rows) == pytest.approx(100, abs=1)
    trace = json.loads((tmp_path / "results/watched/trace.json").read_text(encoding="utf-8"))
    assert {e["name"] for e in trace["traceEvents"] if e["ph"] == "X"} == WHAT | {"evaluation"}
    frames = [
        pd.read_csv(tmp_path / "results" / name / "metrics.csv").drop(
            columns=["epoch_seconds", "images_per_second"]
        )
        for name in ("plain", "watched")
    ]
    pd.testing.assert_frame_equal(frames[0], frames[1])
    assert not (tmp_path / "results/plain/trace.json").exists()


def test_benchmarks_are_listed_run_and_their_failures_told(rkkd: Program) -> None:
    listed = rkkd("bench", "--list").stdout.splitlines()
    assert {"ranking_loss", "two_arms", "startup", "growth"} <= {one.split()[0] for one in listed}
    assert "What a pair of arms costs" in "\n".join(listed)
    unknown = rkkd("bench", "two_arm")
    assert unknown.returncode == 2
    assert "did you mean 'two_arms'" in unknown.stderr
    helped = rkkd("bench", "stacking", "--rounds", "1", "--nonsense")
    assert helped.returncode == 1
    assert "unrecognized arguments: --nonsense" in helped.stderr
    assert "benchmark stacking failed with exit status 2" in helped.stderr
