"""The files of a run: its directory, metrics.csv and manifest. Imports no torch."""

from pathlib import Path

DEFAULT_RESULTS = Path("results")
