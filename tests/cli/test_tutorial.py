"""The tutorial: every command on it, from an empty folder on."""

import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from pages import ROOT, commands, python_blocks
from running import Program, succeeded

PAGE = ROOT / "docs" / "tutorial.md"


def follow(program: Program, folder: Path, epochs: int, images: int) -> dict[str, str]:
    """Do what the page says, with so many epochs and images. Return what each command said."""
    (code,) = python_blocks(PAGE)
    script = code.replace("[:600]", f"[:{images}]")
    (folder / "make_photos.py").write_text(script, encoding="utf-8")
    subprocess.run([sys.executable, "make_photos.py"], cwd=folder, check=True)
    said = {}
    for command in commands(PAGE):
        words = [word.replace("epochs=20", f"epochs={epochs}") for word in shlex.split(command)]
        words = [str(epochs) if word == "20" else word for word in words]
        answer = succeeded(program(*words, cwd=folder))
        said[command] = answer.stdout + answer.stderr
    return said


def accuracies(folder: Path, run: str, arm: str) -> list[float]:
    rows = pd.read_csv(folder / "results" / run / "metrics.csv")
    return rows[rows.arm == arm].groupby("seed").test_acc.last().to_list()


def test_the_tutorial_does_what_it_says(tmp_path: Path, warm_rkkd: Program) -> None:
    said = [*follow(warm_rkkd, tmp_path, epochs=1, images=150).values()]
    assert accuracies(tmp_path, "first", "kd") == accuracies(tmp_path, "gentle", "kd")
    assert len(accuracies(tmp_path, "first", "kd_rank")) == 3
    assert (tmp_path / "results" / "first" / "report.html").is_file()
    assert "digit-" in said[-2]
    assert (tmp_path / "student.safetensors").is_file()


@pytest.mark.slow
def test_the_tutorial_comes_to_its_verdicts(tmp_path: Path, warm_rkkd: Program) -> None:
    said = follow(warm_rkkd, tmp_path, epochs=20, images=600)
    plan = next(iter(said.values()))
    for line in ("430 training + 50 validation + 120 test images", "resnet8, 78,042 parameters"):
        assert line in plan
    verdicts = [text for command, text in said.items() if command.startswith("compare")]
    assert all("not resolved" in text.lower() for text in verdicts)
    assert "consistent direction: SUPPORTED" in said["findings first"]
    assert accuracies(tmp_path, "first", "kd") == accuracies(tmp_path, "gentle", "kd")
