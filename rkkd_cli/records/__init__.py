"""What a run leaves behind: its directory, metrics.csv, manifest. Imports no torch."""

from pathlib import Path

DEFAULT_RESULTS = Path("results")
