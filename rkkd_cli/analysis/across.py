"""Two runs compared: the arms that belong together, each once."""

from collections.abc import Sequence

from rkkd_cli.analysis.compare import Comparison, compare_arms
from rkkd_cli.analysis.pairing import (
    Recorded,
    matched,
    side_by_side,
    unpaired_across,
    with_caveats,
)


def compare_runs(
    one: Recorded, other: Recorded, names: Sequence[str], select: str = "last"
) -> list[Comparison]:
    """Compare the arms of the same name, or each run's only one, with what limits the answer.

    Raises UserError where no arms belong together.
    """
    pairs = matched(one, other)
    rows, called = side_by_side(one, other, pairs)
    reasons = {called[pair]: unpaired_across(one, other, pair) for pair in pairs}
    early = one.ended_early(f"{one.name}: ") | other.ended_early(f"{other.name}: ")
    monitors = one.monitors(f"{one.name}: ") | other.monitors(f"{other.name}: ")
    found = compare_arms(rows, names, select, list(called.values()), reasons, early, monitors)
    experiments = {
        name: run.by_arm[arm]
        for pair, names_of in called.items()
        for run, arm, name in zip((one, other), pair, names_of, strict=True)
    }
    return with_caveats(found, experiments)
