"""docs/formats.md names every column and key that is written, and no other."""

import re
from pathlib import Path
from typing import get_type_hints

import pytest

from rkkd_cli.analysis.grid_run import read_grid_run
from rkkd_cli.config.grid import NUMBERS_VERSION
from rkkd_cli.config.tasks import CLASSIFICATION, DETECTOR_TERMS, TASKS
from rkkd_cli.records.manifest import (
    RUN_FORMAT,
    DatasetFacts,
    EarlyEnd,
    FailedJob,
    Manifest,
    StudentCost,
    TeacherFacts,
    parse_manifest,
)
from rkkd_cli.records.metrics import columns
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.recording.recorder import CHECKPOINT_FORMAT

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
SAMPLE = ROOT / "results" / "alpha-temperature-digits-sample"


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> list[tuple[str, str]]:
    """Return the first cell of each table row of a section, and the rest of the row."""
    found = re.findall(r"^\| ?(.*?) \| (.*) \|$", section(title), flags=re.MULTILINE)
    return [row for row in found if "`" in row[0]]


def names(text: str) -> set[str]:
    """Return what is in backquotes and no pattern."""
    return {name for name in re.findall("`([^`]+)`", text) if not re.search("NAME|…", name)}


def test_every_column_of_metrics_csv_is_named_and_no_other() -> None:
    written = {column for task in TASKS.values() for column in columns(False, task=task)}
    of_detectors = {term for terms in DETECTOR_TERMS.values() for term in terms}
    ema = {CLASSIFICATION.ema_column(split) for split in ("test", "val")}
    named = set[str]()
    for first, rest in rows("metrics.csv"):
        named |= names(rest) if first.strip("`") in TASKS else names(first)
    # Of other tasks the terms of the test images are those of training, and said to be.
    assert written - {"test_triplet"} | of_detectors | ema <= named
    assert named <= written | of_detectors | ema | {"tckd", "rkd_angle"}


def test_the_tasks_have_the_metrics_that_are_named() -> None:
    of_tasks = {first.strip("`"): names(rest) for first, rest in rows("metrics.csv")}
    for name, task in TASKS.items():
        assert of_tasks[name] >= {task.hard_term, *task.training}
        tested = {column for column in of_tasks[name] if column.startswith("test_")}
        assert tested == {f"test_{metric}" for metric in task.held_out}


def test_every_column_of_grid_csv_is_named_and_no_other() -> None:
    run = RunDirectory(SAMPLE)
    grid = read_grid_run(run, run.read_manifest())
    named = {name for first, _ in rows("grid.csv") for name in names(first)}
    assert named == set(grid.frame.columns) - set(grid.keys)


def test_every_key_of_the_manifest_is_named_and_no_other() -> None:
    named = {name for first, _ in rows("manifest.json") for name in names(first)}
    assert named == {*Manifest.model_fields, "checksum"}


@pytest.mark.parametrize(
    ("key", "facts"),
    [
        ("datasets", DatasetFacts),
        ("teachers", TeacherFacts),
        ("students", StudentCost),
        ("failed", FailedJob),
        ("ended_early", EarlyEnd),
    ],
)
def test_the_keys_of_the_manifests_entries_are_named(key: str, facts: type) -> None:
    rest = next(rest for first, rest in rows("manifest.json") if key in names(first))
    assert names(rest) == {*get_type_hints(facts)}


def test_the_versions_are_those_of_the_code() -> None:
    table = section("Where the versions are")
    assert f"`format` in `manifest.json`, now {RUN_FORMAT};" in table
    assert f"`numbers_version` in `manifest.json`, now {NUMBERS_VERSION}:" in table
    assert f"`format` in each file, now {CHECKPOINT_FORMAT} " in table


def test_a_manifest_of_the_first_versions_has_the_first_format() -> None:
    path = Path(__file__).with_name("manifest_of_the_first_versions.json")
    text = path.read_text(encoding="utf-8")
    assert '"format"' not in text
    manifest = parse_manifest(text, path.name)
    assert (manifest.format, manifest.numbers_version, manifest.status) == (1, 1, "finished")
