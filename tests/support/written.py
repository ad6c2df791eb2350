"""What runs have written, as tests compare it."""

import json
from pathlib import Path
from typing import Any

from rkkd_cli.records.metrics import TIMING


def manifest_of(run: Path) -> dict[str, Any]:
    """Return the manifest, as it stands in the file."""
    content: dict[str, Any] = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    return content


def numbers_of(run: Path) -> list[str]:
    """Return the lines of metrics.csv, which are whole, without the columns that are about time."""
    *lines, rest = (run / "metrics.csv").read_bytes().decode().split("\n")
    assert rest == ""
    header, *rows = table = [line.split(",") for line in lines] or [[]]
    assert all(len(row) == len(header) for row in rows)
    kept = [number for number, name in enumerate(header) if name not in TIMING]
    return [",".join(row[number] for number in kept) for row in table]


def content_below(folder: Path) -> dict[str, bytes]:
    """Return the content of every file."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def times_below(*folders: Path) -> dict[str, int]:
    """Return when each file and folder was last changed, but for locks, which are only locked."""
    paths = [path for folder in folders for path in folder.rglob("*") if path.name != ".lock"]
    return {str(path): path.stat().st_mtime_ns for path in paths}
