"""Findings that a preset states as data: claims about its arms that any run can be held against."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from rkkd_cli.config.frozen import FrozenConfig, as_tuple
from rkkd_cli.config.overrides import flatten
from rkkd_cli.errors import UserError, unknown_name

SIDES = ("better", "worse", "same")  # the keys that say which arms are meant
FINDING_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

# An arm's name, several, or the values by which arms are known, such as {rank.grad = true}.
Who = Annotated[str | tuple[str, ...] | dict[str, Any], BeforeValidator(as_tuple)]


class StatedFinding(FrozenConfig):
    """A claim, and what would show it.

    Either every arm of ``better`` is ahead of every one of ``worse`` by more than ``margin`` (which
    may be negative: not behind by more), or the arms of ``same`` lie ``within`` so much of each
    other. Margins are in the unit of ``metric``, a column of metrics.csv; for losses, ahead is
    lower. ``select`` is the epoch that counts.
    """

    claim: str = Field(min_length=1)
    metric: str = "test_acc"
    select: Literal["last", "best", "val"] = "last"
    better: Who | None = None
    worse: Who | None = None
    margin: float = 0.0
    same: Annotated[tuple[str, ...] | None, BeforeValidator(as_tuple)] = None
    within: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        ordered = [self.better is not None, self.worse is not None]
        alike = [self.same is not None, self.within is not None]
        if not (all(ordered) and not any(alike)) and not (all(alike) and not any(ordered)):
            raise ValueError("must have better and worse, or same and within")
        if self.same is not None and len(set(self.same)) < 2:
            raise ValueError("must name two or more arms in same")
        return self

    @property
    def named(self) -> list[str]:
        """The arms that are spoken of by name."""
        sides = [side for side in (self.better, self.worse, self.same) if side is not None]
        names: list[str] = []
        for side in sides:
            names += [side] if isinstance(side, str) else side if isinstance(side, tuple) else []
        return names

    @property
    def keys(self) -> list[str]:
        """The keys by whose values arms are meant."""
        sides = (self.better, self.worse)
        return [key for side in sides if isinstance(side, dict) for key in flatten(side)]


def arms_meant(who: Who, experiments: Mapping[str, BaseModel]) -> list[str]:
    """Return the arms that are meant, named ones whether there or not; experiments by arm."""
    if isinstance(who, str):
        return [who]
    if isinstance(who, tuple):
        return list(who)
    wanted = flatten(who)
    return [
        name
        for name, one in experiments.items()
        if all(flatten(one.model_dump()).get(key) == value for key, value in wanted.items())
    ]


def check_named_arms(findings: Mapping[str, StatedFinding], arms: Mapping[str, Any]) -> None:
    """Raise UserError for a finding about an arm that the experiment has not."""
    for name, finding in findings.items():
        for arm in finding.named:
            if arm not in arms:
                raise UserError(f"findings.{name}: {unknown_name('arm', arm, arms)}")
