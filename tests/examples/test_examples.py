"""The examples of other trainers: each runs offline, learns, is short, and is what the page shows."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rkkd_cli

ROOT = Path(__file__).parents[2]
NEEDS = {  # what must be installed, by example
    "plain_pytorch": [],
    "lightning_module": ["lightning"],
    "timm_task": ["timm"],
    "hf_trainer": ["transformers", "accelerate"],
    "trl_distillation": ["trl"],
}
FILES = sorted(path for path in (ROOT / "examples").glob("*.py"))
LEARNT = re.compile(r"^τ-b on held-out (?:images|tokens): (\S+) → (\S+)$", flags=re.MULTILINE)


def test_every_example_is_tested() -> None:
    assert {path.stem for path in FILES} == NEEDS.keys()


@pytest.mark.parametrize("name", NEEDS)
def test_it_runs_offline_and_the_student_learns_the_teachers_order(
    name: str, tmp_path: Path
) -> None:
    for library in NEEDS[name]:
        if importlib.util.find_spec(library) is None:  # importing them here would take seconds
            pytest.skip(f"{library} is not installed")
    surroundings = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    ended = subprocess.run(
        [sys.executable, ROOT / "examples" / f"{name}.py"],
        cwd=tmp_path,
        env={**os.environ, **surroundings, "PYTHONPATH": str(Path(rkkd_cli.__file__).parents[1])},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    (learnt,) = LEARNT.findall(ended.stdout)
    before, after = map(float, learnt)
    assert abs(before) < 0.15
    assert after > 0.3
    assert not list(tmp_path.iterdir())  # it leaves nothing behind
