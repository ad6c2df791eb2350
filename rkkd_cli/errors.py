"""The two errors that end a command, and helpers for their messages."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """The user's input is wrong. One sentence names the thing and the way out. Exit status 2."""


class RunError(RuntimeError):
    """Something failed, and not because of the user's input. One sentence. Exit status 1."""


MAX_SHOWN_LENGTH = 60  # of a name or reason in a message


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """Return the valid name that looks most like ``name``, ignoring case, or None."""
    by_lower = {choice.lower(): choice for choice in choices}
    close = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[close[0]] if close else None


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> UserError:
    """Return the error for a name that is not among ``choices``; it names the nearest, then all."""
    name, names = _shorten(name), list(choices)
    close = nearest(name, names)
    hint = f"did you mean {close!r}? The" if close else "the"
    return UserError(f"unknown {kind} {name!r}; {hint} choices are {', '.join(names)}")


def unknown_among_many(kind: str, name: str, choices: Iterable[str], listing: str) -> UserError:
    """Return the error for a name that is not among ``choices``, which are too many to print.

    It names the nearest one, and ``listing``, the command that prints all of them.
    """
    name = _shorten(name)
    close = nearest(name, choices)
    hint = f"did you mean {close!r}? All of them" if close else "all of them"
    return UserError(f"unknown {kind} {name!r}; {hint}: {listing}")


def first_of(names: Iterable[object], most: int) -> str:
    """Return the first ``most`` names, comma-separated, and … where there are more."""
    texts = [str(name) for name in names]
    return ", ".join(texts[:most] + ["…"] * (len(texts) > most))


def _shorten(name: str) -> str:
    return name if len(name) <= MAX_SHOWN_LENGTH else f"{name[:MAX_SHOWN_LENGTH]}…"


def printable(text: str) -> str:
    """Return the text with line breaks and control characters escaped.

    Text from files may hold terminal sequences.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
