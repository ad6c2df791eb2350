"""What a page is made of: the records of runs, and what analysis says of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from rkkd_cli.analysis.published_curves import PublishedCurves
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.records.manifest import Manifest
from rkkd_cli.report.grid_figures import GridPicture


@dataclass(frozen=True)
class PageGrid:
    """A run that is a grid: its picture, and the lines below its tables."""

    picture: GridPicture
    notes: Sequence[str]


@dataclass(frozen=True)
class PageRun:
    """One run: its records, its files as they are, and published accuracies by arm."""

    name: str
    experiment: Experiment
    manifest: Manifest
    status: str
    metrics: pd.DataFrame
    files: Mapping[str, bytes]
    published: Mapping[str, float] = field(default_factory=dict)
    grid: PageGrid | None = None


@dataclass(frozen=True)
class PageSource:
    """All that a page shows. ``published`` curves belong to all the runs."""

    runs: Sequence[PageRun]
    published: PublishedCurves | None = None

    @property
    def named_metrics(self) -> list[tuple[str, pd.DataFrame]]:
        """The metrics of each run with its name, as figures take them."""
        return [(run.name, run.metrics) for run in self.runs]
