"""The numbers of a short digits run, held against those in ``golden_digits.json``.

A change that is meant to move them is followed by one explicit command, which writes the file
instead of comparing with it::

    RKKD_UPDATE_GOLDEN=1 pytest tests/regression/test_golden_digits.py

Terms may differ by 2 % and accuracies by 3 points, for other processors and libraries.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.sweep.engines.local import run_jobs
from rkkd_cli.sweep.recording.run_state import Begun
from rkkd_cli.train.events import EpochDone
from rkkd_cli.train.pace import Pace

GOLDEN = Path(__file__).with_name("golden_digits.json")
TERMS = ("ce", "kl", "rank")
SHORT: dict[str, Any] = {
    "training.epochs": 2,
    "teacher.training.epochs": 10,
    "seeds": [0],
    "dataset.limit_train": 200,
    "dataset.limit_test": 100,
}

Numbers = dict[str, list[dict[str, float]]]


@pytest.fixture
def measured(cache: Path) -> Numbers:
    """Terms and test accuracy of each arm, epoch by epoch."""
    given = [Override(key, value) for key, value in SHORT.items()]
    numbers: Numbers = {}
    begun = Begun(load_experiment("rank_grad", given))
    for event in run_jobs(begun, torch.device("cpu"), cache, Pace(10)):
        for row in event.rows if isinstance(event, EpochDone) else ():
            kept = {name: row[name] for name in (*TERMS, "test_acc")}
            numbers.setdefault(row["arm"], []).append(kept)
    return numbers


def test_the_numbers_are_the_recorded_ones(measured: Numbers) -> None:
    if os.environ.get("RKKD_UPDATE_GOLDEN") == "1":
        GOLDEN.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
        pytest.skip(f"{GOLDEN.name} was written, not compared")
    golden: Numbers = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert measured.keys() == golden.keys()
    for arm, epochs in golden.items():
        for found, expected in zip(measured[arm], epochs, strict=True):
            for term in TERMS:
                assert found[term] == pytest.approx(expected[term], rel=0.02), (arm, term)
            assert found["test_acc"] == pytest.approx(expected["test_acc"], abs=3), arm


def test_a_fresh_student_is_about_as_unsure_as_ten_classes_allow(measured: Numbers) -> None:
    for epochs in measured.values():
        assert epochs[0]["ce"] == pytest.approx(math.log(10), abs=0.5)


def test_the_terms_lie_where_their_definitions_say(measured: Numbers) -> None:
    for epochs in measured.values():
        for row in epochs:
            assert row["kl"] > 0
            assert -1 <= row["rank"] <= 1
            assert row["test_acc"] == int(row["test_acc"])  # percent of 100 images
