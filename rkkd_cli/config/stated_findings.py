"""Findings that a preset states as data: claims about its arms, checked on any run."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from rkkd_cli.config.frozen import FrozenConfig, as_tuple
from rkkd_cli.config.overrides import flatten
from rkkd_cli.config.tasks import CLASSIFICATION
from rkkd_cli.errors import UserError, unknown_name

TEACHER = "teacher"  # stands for the run's teacher, unless an arm is called so
SIDES = ("better", "worse", "same")  # the keys that select arms
FINDING_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

# The name of an arm, several names, or the values that the arms have, such as {rank.grad = true}.
ArmSelector = Annotated[str | tuple[str, ...] | dict[str, Any], BeforeValidator(as_tuple)]


class StatedFinding(FrozenConfig):
    """A claim, and the comparison of arms that would support it.

    Either every arm of ``better`` is ahead of every arm of ``worse`` by more than ``margin`` (which
    may be negative: not behind by more). Or the arms of ``same`` differ by less than ``within``.
    ``teacher`` among arms is the run's teacher, with its metric on the test images.
    Both are in the unit of ``metric``, a column of metrics.csv, by default the main one of the
    experiment's task; for losses, lower is ahead.
    ``select`` is the epoch that counts.
    """

    claim: str = Field(min_length=1)
    metric: str = CLASSIFICATION.main_column
    select: Literal["last", "best", "val"] = "last"
    better: ArmSelector | None = None
    worse: ArmSelector | None = None
    margin: float = 0.0
    same: Annotated[tuple[str, ...] | None, BeforeValidator(as_tuple)] = None
    within: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _is_one_comparison(self) -> Self:
        order = [self.better is not None, self.worse is not None]
        equality = [self.same is not None, self.within is not None]
        if not (all(order) and not any(equality)) and not (all(equality) and not any(order)):
            raise ValueError("must have better and worse, or same and within")
        if self.same is not None and len(set(self.same)) < 2:
            raise ValueError("must name two or more arms in same")
        return self

    @property
    def arm_names(self) -> list[str]:
        """The arms that are selected by name."""
        names: list[str] = []
        for selector in (self.better, self.worse, self.same):
            if selector is not None and not isinstance(selector, dict):
                names += [selector] if isinstance(selector, str) else selector
        return names

    @property
    def keys(self) -> list[str]:
        """The keys whose values select arms."""
        selectors = [side for side in (self.better, self.worse) if isinstance(side, dict)]
        return [key for selector in selectors for key in flatten(selector)]


def select_arms(selector: ArmSelector, experiments: Mapping[str, BaseModel]) -> list[str]:
    """Return the selected arms of ``experiments`` (by arm). Names are returned as they are."""
    if isinstance(selector, str):
        return [selector]
    if isinstance(selector, tuple):
        return list(selector)
    wanted = flatten(selector).items()
    return [
        arm
        for arm, experiment in experiments.items()
        if wanted <= flatten(experiment.model_dump()).items()
    ]


def check_arm_names(findings: Mapping[str, StatedFinding], arms: Mapping[str, Any]) -> None:
    """Raise UserError for a finding that names an arm which the experiment does not have."""
    for name, finding in findings.items():
        for arm in finding.arm_names:
            if arm not in arms and arm != TEACHER:
                raise UserError(f"findings.{name}: {unknown_name('arm', arm, arms)}")
