"""The two ways in which a command ends badly, and what their sentences are made of."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Something the user said is wrong. One sentence: the thing and the way out. Exit status 2."""


class RunError(RuntimeError):
    """Something failed that the user did not get wrong. One sentence. Exit status 1."""


LONGEST_SHOWN = 60


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """Return the valid name that looks most like ``name``, ignoring case, or None."""
    by_lower = {choice.lower(): choice for choice in choices}
    close = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[close[0]] if close else None


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> UserError:
    """Return the error for a name that is not among ``choices``: the nearest one, then all."""
    names = list(choices)
    name = name if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]}…"
    close = nearest(name, names)
    hint = f"did you mean {close!r}? The" if close else "the"
    return UserError(f"unknown {kind} {name!r}; {hint} choices are {', '.join(names)}")


def unknown_among_many(kind: str, name: str, choices: Iterable[str], listing: str) -> UserError:
    """Return the error for a name that is not among choices too many to print.

    It names the nearest one, and ``listing``: the command that prints them all.
    """
    name = name if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]}…"
    close = nearest(name, choices)
    hint = f"did you mean {close!r}? All of them" if close else "all of them"
    return UserError(f"unknown {kind} {name!r}; {hint}: {listing}")


def printable(text: str) -> str:
    """Return the text with every line break and terminal sequence spelt out.

    What comes out of files may hold anything.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
