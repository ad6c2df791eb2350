"""The numbers of a short digits run, held against those in ``golden_digits.json``.

Terms may differ by 2 % and accuracies by 3 points, for other processors and libraries. The file
says under which version of the numbers it was recorded. So a change that is meant to move them
raises ``NUMBERS_VERSION``, without which old runs would be resumed with other numbers, and is
followed by one explicit command, which writes the file instead of comparing with it::

    RKKD_UPDATE_GOLDEN=1 pytest tests/regression/test_golden_digits.py
"""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from rkkd_cli.config.grid import NUMBERS_VERSION
from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.sweep.engines.local import run_jobs
from rkkd_cli.sweep.recording.run_state import RunState
from rkkd_cli.train.events import EpochDone
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import StopController

GOLDEN = Path(__file__).with_name("golden_digits.json")
ANEW = f"record them anew: RKKD_UPDATE_GOLDEN=1 pytest tests/regression/{Path(__file__).name}"
TERMS = ("ce", "kl", "rank")
SHORT: dict[str, Any] = {
    "training.epochs": 2,
    "teacher.training.epochs": 10,
    "seeds": [0],
    "dataset.limit_train": 200,
    "dataset.limit_test": 100,
}

Numbers = dict[str, list[dict[str, float]]]


class Golden(NamedTuple):
    """Recorded numbers, and the version of the numbers under which they were recorded."""

    numbers_version: int
    arms: Numbers


def read(path: Path) -> Golden:
    return Golden(**json.loads(path.read_text(encoding="utf-8")))


def moved(measured: Numbers, recorded: Numbers) -> Iterator[str]:
    """Yield a text for each number that is not the recorded one within the tolerances."""
    shapes = [{arm: len(rows) for arm, rows in arms.items()} for arms in (measured, recorded)]
    if shapes[0] != shapes[1]:
        yield f"epochs of the arms: {shapes[0]}, recorded {shapes[1]}"
        return
    for arm, rows in recorded.items():
        for epoch, (found, expected) in enumerate(zip(measured[arm], rows, strict=True), start=1):
            within = {term: pytest.approx(expected[term], rel=0.02) for term in TERMS}
            within["test_acc"] = pytest.approx(expected["test_acc"], abs=3)
            for name, allowed in within.items():
                if found[name] != allowed:
                    yield f"{arm}, epoch {epoch}: {name} {found[name]}, recorded {expected[name]}"


def compare(measured: Numbers, path: Path, version: int = NUMBERS_VERSION) -> None:
    """Fail where the numbers are not the recorded ones, or not of this version."""
    golden = read(path)
    assert golden.numbers_version == version, (
        f"{path.name} was recorded under version {golden.numbers_version} of the numbers, and "
        f"NUMBERS_VERSION is {version}. If it was raised, {ANEW}; it is never lowered."
    )
    assert_unmoved(measured, golden, path)


def assert_unmoved(measured: Numbers, golden: Golden, path: Path) -> None:
    texts = list(moved(measured, golden.arms))
    assert not texts, (
        f"The numbers are not those of {path.name}: {'; '.join(texts)}. If nobody meant to change "
        "them this is a fault. If they are meant to change, raise NUMBERS_VERSION in "
        f"rkkd_cli/config/grid.py, and {ANEW}"
    )


def record(measured: Numbers, path: Path, version: int = NUMBERS_VERSION) -> None:
    """Write the numbers of a version that was raised; refuse to move those of the same version."""
    if path.exists():
        golden = read(path)
        assert golden.numbers_version <= version, (
            f"Not recorded: {path.name} is of version {golden.numbers_version} of the numbers, and "
            f"NUMBERS_VERSION is {version}; it is never lowered."
        )
        if golden.numbers_version == version:
            assert_unmoved(measured, golden, path)
            return
    content = Golden(version, measured)._asdict()
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def measured(cache: Path) -> Numbers:
    """Terms and test accuracy of each arm, epoch by epoch."""
    given = [Override(key, value) for key, value in SHORT.items()]
    numbers: Numbers = {}
    begun = RunState(load_experiment("rank_grad", given))
    for event in run_jobs(begun.work(), Runtime(torch.device("cpu"), cache, StopController(10))):
        for row in event.rows if isinstance(event, EpochDone) else ():
            kept = {name: row[name] for name in (*TERMS, "test_acc")}
            numbers.setdefault(row["arm"], []).append(kept)
    return numbers


def test_the_numbers_are_the_recorded_ones(measured: Numbers) -> None:
    if os.environ.get("RKKD_UPDATE_GOLDEN") == "1":
        record(measured, GOLDEN)
        pytest.skip(f"{GOLDEN.name} has the numbers of version {NUMBERS_VERSION}; not compared")
    compare(measured, GOLDEN)


def test_a_fresh_student_is_about_as_unsure_as_ten_classes_allow(measured: Numbers) -> None:
    for epochs in measured.values():
        assert epochs[0]["ce"] == pytest.approx(math.log(10), abs=0.5)


def test_the_terms_lie_where_their_definitions_say(measured: Numbers) -> None:
    for epochs in measured.values():
        for row in epochs:
            assert row["kl"] > 0
            assert -1 <= row["rank"] <= 1
            assert row["test_acc"] == int(row["test_acc"])  # percent of 100 images


ROW = {"ce": 2.5, "kl": 0.25, "rank": -0.125, "test_acc": 50.0}
RECORDED: Numbers = {"kd": [ROW, ROW], "kd_rank": [ROW, ROW]}
VERSION = 7


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A file of recorded numbers, made up."""
    path = tmp_path / "golden.json"
    record(RECORDED, path, VERSION)
    return path


def with_last(name: str, value: float) -> Numbers:
    """Return the recorded numbers but for one of the last epoch of kd_rank."""
    return RECORDED | {"kd_rank": [ROW, ROW | {name: value}]}


@pytest.mark.parametrize(
    "numbers",
    [
        with_last("ce", 2.56),
        with_last("kl", 0.24),
        with_last("rank", -0.128),
        with_last("test_acc", 46.0),
        with_last("kl", math.nan),
        RECORDED | {"kd_rank": [ROW]},
        {"kd": [ROW, ROW]},
        RECORDED | {"dkd": [ROW, ROW]},
    ],
)
def test_numbers_that_moved_fail_and_are_recorded_only_under_a_raised_version(
    numbers: Numbers, golden: Path
) -> None:
    before = golden.read_bytes()
    for act in (compare, record):
        with pytest.raises(AssertionError, match=r"raise NUMBERS_VERSION in .*RKKD_UPDATE_GOLDEN"):
            act(numbers, golden, VERSION)
    assert golden.read_bytes() == before
    record(numbers, golden, VERSION + 1)
    assert read(golden).numbers_version == VERSION + 1
    assert json.dumps(read(golden).arms) == json.dumps(numbers)


def test_a_file_of_an_earlier_version_fails_until_it_is_recorded_anew(golden: Path) -> None:
    with pytest.raises(AssertionError, match=r"recorded under version 7 .* is 8.*RKKD_UPDATE_GOLD"):
        compare(RECORDED, golden, VERSION + 1)
    record(RECORDED, golden, VERSION + 1)
    compare(RECORDED, golden, VERSION + 1)


def test_a_version_is_never_lowered(golden: Path) -> None:
    for act in (compare, record):
        with pytest.raises(AssertionError, match="never lowered"):
            act(RECORDED, golden, VERSION - 1)
    assert read(golden) == Golden(VERSION, RECORDED)


@pytest.mark.parametrize(("name", "value"), [("ce", 2.45), ("rank", -0.127), ("test_acc", 53.0)])
def test_another_machines_numbers_are_no_change_and_leave_the_file_as_it_is(
    name: str, value: float, golden: Path
) -> None:
    for act in (compare, record):
        act(with_last(name, value), golden, VERSION)
    assert read(golden) == Golden(VERSION, RECORDED)
