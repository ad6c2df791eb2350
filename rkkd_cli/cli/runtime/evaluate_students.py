"""``rkkd evaluate``: measure students, and print what was measured."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import typer

from rkkd_cli.analysis.summary import mean_std
from rkkd_cli.cli.output import console, tables
from rkkd_cli.records.cache import cache_directory
from rkkd_cli.sweep.students.evaluate import TOP, Measured, evaluate_folder, evaluate_split
from rkkd_cli.sweep.students.student import Student
from rkkd_cli.train.device import pick_device

Results = list[tuple[Student, Measured]]


def evaluate_students(
    students: Sequence[Student], root: Path | None, split: str, device: str, as_json: bool
) -> None:
    """Measure the students on a split of their run, or on the folder ``root``; print a table."""
    picked = pick_device(device)
    measured = (
        evaluate_split(students, split, cache_directory(), picked)
        if root is None
        else evaluate_folder(students, root, split, picked)
    )
    results = list(zip(students, measured, strict=True))
    if as_json:
        typer.echo(json.dumps({"students": [_as_json(student, its) for student, its in results]}))
        return
    header = ["arm", "seed", "images", "accuracy (%)", "cross-entropy", "top 5 (%)"]
    rows = _rows(results)
    if max(student.facts.classes for student in students) <= TOP:
        header, rows = header[:-1], [row[:-1] for row in rows]
    console.print_table(tables.plain_table(header, rows))


def _rows(results: Results) -> list[list[str]]:
    """Return a row for each student, and below an arm's students their mean ± deviation."""
    rows = []
    for arm in dict.fromkeys(student.arm for student, _ in results):
        its = [(student, measured) for student, measured in results if student.arm == arm]
        for student, measured in its:
            rows.append([arm, str(student.seed), *_cells([measured])])
        if len(its) > 1:
            rows.append([arm, f"mean ± sd, n = {len(its)}", *_cells([m for _, m in its])])
    return rows


def _cells(measured: Sequence[Measured]) -> list[str]:
    metrics = [(m.acc, m.ce, m.top5) for m in measured]
    digits = (2, 4, 2)
    values = [
        mean_std(pd.Series(column)).text(places)
        for column, places in zip(zip(*metrics, strict=True), digits, strict=True)
    ]
    return [f"{measured[0].images:,}", *values]


def _as_json(student: Student, measured: Measured) -> dict[str, object]:
    return {"arm": student.arm, "seed": student.seed, **measured._asdict()}
