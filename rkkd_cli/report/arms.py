"""The arms of runs as curves: their rows, and what legends call them."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from rkkd_cli.errors import printable


class Curve(NamedTuple):
    """One arm's rows, over all its seeds, and what the legend calls it."""

    label: str
    rows: pd.DataFrame

    @property
    def arm(self) -> str:
        """The arm's name, without that of its run."""
        return str(self.rows["arm"].iloc[0])


def curves_of(runs: Sequence[tuple[str, pd.DataFrame]]) -> list[Curve]:
    """Return one curve per arm of each (run name, metrics); the run is named if there are more."""
    curves = []
    for run, metrics in runs:
        for arm, rows in metrics.groupby("arm", sort=False):
            n = rows["seed"].nunique()
            label = f"{arm} (n = {n})" if len(runs) == 1 else f"{run}: {arm} (n = {n})"
            curves.append(Curve(printable(label), rows))
    return curves
