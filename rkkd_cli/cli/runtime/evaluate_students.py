"""``rkkd evaluate``: measure students, and print what was measured."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import typer

from rkkd_cli.analysis.summary import mean_std
from rkkd_cli.cli.output import console, tables
from rkkd_cli.config.tasks import DETECTION, SHORT_NAMES
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.sweep.students.detect import MeasuredDetector, evaluate_detectors
from rkkd_cli.sweep.students.evaluate import TOP, Measured, evaluate_folder, evaluate_split
from rkkd_cli.sweep.students.student import Student
from rkkd_cli.train.device import pick_device

# What is measured by its name: in words, and the decimals that are shown.
OF_CLASSES = {"acc": ("accuracy (%)", 2), "ce": ("cross-entropy", 4), "top5": ("top 5 (%)", 2)}
OF_OBJECTS = {name: (f"{SHORT_NAMES[name]} (%)", 2) for name in DETECTION.held_out}

Results = list[tuple[Student, Measured | MeasuredDetector]]


def evaluate_students(
    students: Sequence[Student], root: Path | None, split: str, device: str, as_json: bool
) -> None:
    """Measure the students on a split of their run, or on the folder ``root``; print a table."""
    picked, columns = pick_device(device), OF_CLASSES
    measured: Iterable[Measured | MeasuredDetector]
    if students[0].experiment.task == "detection":
        measured = evaluate_detectors(students, root, split, cache_directory(), picked)
        columns = OF_OBJECTS
    elif root is None:
        measured = evaluate_split(students, split, cache_directory(), picked)
    else:
        measured = evaluate_folder(students, root, split, picked)
    results: Results = list(zip(students, measured, strict=True))
    if as_json:
        typer.echo(json.dumps({"students": [_as_json(student, its) for student, its in results]}))
        return
    measured_names = {name for _, its in results for name in its.metrics}
    shown = {name: column for name, column in columns.items() if name in measured_names}
    if max(student.facts.classes for student in students) <= TOP:
        shown.pop("top5", None)
    header = ["arm", "seed", "images", *(text for text, _ in shown.values())]
    digits = {name: places for name, (_, places) in shown.items()}
    console.print_table(tables.plain_table(header, _rows(results, digits)))


def _rows(results: Results, digits: Mapping[str, int]) -> list[list[str]]:
    """Return a row for each student, and below an arm's students their mean ± deviation."""
    rows = []
    for arm in dict.fromkeys(student.arm for student, _ in results):
        its = [(student, measured) for student, measured in results if student.arm == arm]
        for student, measured in its:
            rows.append([arm, str(student.seed), *_cells([measured], digits)])
        if len(its) > 1:
            rows.append([arm, f"mean ± sd, n = {len(its)}", *_cells([m for _, m in its], digits)])
    return rows


def _cells(measured: Sequence[Measured | MeasuredDetector], digits: Mapping[str, int]) -> list[str]:
    values = [
        mean_std(pd.Series([one.metrics.get(name) for one in measured])).text(places)
        for name, places in digits.items()
    ]
    return [f"{measured[0].images:,}", *values]


def _as_json(student: Student, measured: Measured | MeasuredDetector) -> dict[str, object]:
    of_student = {"arm": student.arm, "seed": student.seed, "images": measured.images}
    return of_student | measured.metrics
