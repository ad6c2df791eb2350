"""What a claim comes to: a verdict for each of its parts, and one for all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["supported", "contradicted", "not resolved"]


@dataclass(frozen=True)
class Part:
    """One measurable part of a claim: what is held to be so, and the numbers behind the verdict."""

    what: str
    verdict: Verdict
    numbers: str


@dataclass(frozen=True)
class Finding:
    """A claim held against a run; ``note`` says what limits the answer."""

    name: str
    claim: str
    verdict: Verdict
    parts: list[Part]
    note: str = ""


def combined(parts: Sequence[Part]) -> Verdict:
    """Return supported if all parts are, contradicted if any is, else not resolved.

    Asking for all of them needs no correction for their number: it makes no error likelier.
    """
    verdicts = [part.verdict for part in parts]
    if "contradicted" in verdicts:
        return "contradicted"
    return "supported" if verdicts and set(verdicts) == {"supported"} else "not resolved"
