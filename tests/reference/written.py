"""What a run has written, as tests compare it."""

import json
from pathlib import Path
from typing import Any


def manifest_of(run: Path) -> dict[str, Any]:
    """Return the manifest, as it stands in the file."""
    content: dict[str, Any] = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    return content


def numbers_of(run: Path) -> list[str]:
    """Return the lines of metrics.csv without the two columns that are about time."""
    rows = (run / "metrics.csv").read_text(encoding="utf-8").splitlines()
    return [row.rsplit(",", 2)[0] for row in rows]
