"""The curves of the arms of one rule: the same seeds and the same epochs of all of them."""

from dataclasses import dataclass

import pandas as pd

from rkkd_cli.analysis.numbers import counted
from rkkd_cli.analysis.selection import measurable
from rkkd_cli.analysis.stages import Stage, stages_of


@dataclass(frozen=True)
class Curves:
    """Rows of ``arms`` up to the epoch ``last`` that all have reached, of the seeds that did.

    ``planned`` is the epoch the experiment goes to; ``left_out`` counts the other seeds.
    """

    arms: tuple[str, ...]
    rows: pd.DataFrame
    last: int
    planned: int
    left_out: int

    @property
    def seeds(self) -> int:
        """How many seeds there are."""
        return int(self.rows["seed"].nunique())

    def of(self, arm: str, column: str) -> pd.DataFrame:
        """Return one row an epoch, one column a seed; what has no value is missing."""
        rows = self.rows[self.rows["arm"] == arm]
        return rows.assign(**{column: measurable(rows[column])}).pivot(
            index="epoch", columns="seed", values=column
        )

    def between(self, column: str) -> pd.DataFrame:
        """Return treated − control: the second arm less the first."""
        return self.of(self.arms[1], column) - self.of(self.arms[0], column)

    def has(self, column: str) -> bool:
        """Tell whether every arm has values of it."""
        if column not in self.rows:
            return False
        return all(one[column].notna().any() for _, one in self.rows.groupby("arm"))

    @property
    def stages(self) -> list[Stage]:
        """The stages of the learning rate."""
        return stages_of(self.rows[self.rows["arm"] == self.arms[0]], self.last)

    @property
    def early(self) -> Stage:
        """The epochs before the first drop, or the first third where the rate has none."""
        stages = self.stages
        return stages[0] if len(stages) > 1 else Stage(1, max(1, self.last // 3))

    @property
    def limits(self) -> list[str]:
        """What keeps these curves from being the whole run."""
        limits = []
        if not self.seeds:
            limits.append(f"no seed has rows of {' and '.join(self.arms)} at the same epochs")
        elif self.left_out:
            seeds = counted(self.left_out, "seed")
            limits.append(f"{seeds} left out, without every epoch up to {self.last} in all arms")
        if self.last < self.planned:
            limits.append(f"the arms have {self.last} of {self.planned} epochs in common")
        if self.seeds == 1:
            limits.append("one seed has no interval, so nothing is resolved")
        return limits


def curves_of(metrics: pd.DataFrame, arms: tuple[str, ...], planned: int) -> Curves:
    """Return the rows that the arms have in common."""
    rows = metrics[metrics["arm"].isin(arms)]
    reached = rows.groupby("arm")["epoch"].max()
    last = int(reached.min()) if set(reached.index) == set(arms) else 0
    rows = rows[rows["epoch"] <= last]
    counts = rows.groupby("seed").size()
    whole = counts.index[counts == last * len(arms)] if last else counts.index[:0]
    seeds = metrics[metrics["arm"].isin(arms)]["seed"].nunique()
    return Curves(arms, rows[rows["seed"].isin(whole)], last, planned, seeds - len(whole))
