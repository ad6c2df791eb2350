"""Arms that are named after their method, when another method is given."""

from collections.abc import Mapping
from typing import Any

from rkkd_cli.config.overrides import flatten
from rkkd_cli.config.stated_findings import SIDES
from rkkd_cli.errors import UserError


def rename_arms(table: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return the sections arms and findings with the arms in ``names`` renamed.

    An arm that sets its own method keeps its name. Findings about a renamed arm are left out: they
    are claims about the former method. Raises UserError if a new name is taken.
    """
    arms, findings = table["arms"], table.get("findings", {})
    if not isinstance(arms, Mapping) or not isinstance(findings, Mapping):
        return {}  # the validation reports it
    renamed = {
        arm: names[arm]
        for arm, overrides in arms.items()
        if arm in names and "method.name" not in flatten(overrides)
    }
    for former, new in renamed.items():
        if new in arms:
            raise UserError(
                f"arm {former!r} would be called {new!r} with this method, and there is an arm of "
                "that name; leave method.name as it is"
            )
    kept = {
        name: finding
        for name, finding in findings.items()
        if not renamed.keys() & _arms_named_in(finding)
    }
    return {"arms": {renamed.get(arm, arm): o for arm, o in arms.items()}, "findings": kept}


def _arms_named_in(finding: object) -> set[str]:
    """Return the arms that the table of a finding names."""
    sides = [finding.get(key) for key in SIDES] if isinstance(finding, Mapping) else []
    return {name for side in sides for name in ([side] if isinstance(side, str) else side or ())}
