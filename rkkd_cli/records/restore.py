"""Restore metrics.csv to the rows that the checkpoints hold."""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

from rkkd_cli.files import read_file, write_atomically
from rkkd_cli.records.metrics import MAX_METRICS_BYTES

StreamOf = Callable[[str], str | None]


def restore_metrics(
    path: Path, header: str, rows: Mapping[str, str], stream_of: StreamOf
) -> str | None:
    """Make the file hold exactly the ``rows`` of each stream; return what was wrong, or None.

    ``stream_of`` returns the stream of a line. Later rows than these are cut, since their epochs
    are trained again. A file that differs in another way is damaged: it is kept under another name.
    """
    expected = header + "".join(rows.values())
    try:
        text = read_file(path, MAX_METRICS_BYTES).replace(b"\r\n", b"\n").decode(errors="replace")
    except FileNotFoundError:
        write_atomically(path, expected)
        return f"{path.name} was missing; it is restored from the checkpoints"
    damage = _describe_damage(text, header, rows, stream_of)
    if damage is None:
        cut = len(text.splitlines()) - len(expected.splitlines())
        if cut == 0:
            return None
        write_atomically(path, expected)
        return f"rows after the last checkpoint were cut from {path.name}: {cut}"
    names = (f"{path.stem}.damaged{n or ''}{path.suffix}" for n in itertools.count())
    damaged = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    path.replace(damaged)
    write_atomically(path, expected)
    return (
        f"{path.name} was damaged ({damage}); it is restored from the checkpoints, the damaged one "
        f"is {damaged.name}"
    )


def _describe_damage(
    text: str, header: str, rows: Mapping[str, str], stream_of: StreamOf
) -> str | None:
    """Return how the file differs from the expected rows; None if it only has later ones."""
    lines = text.splitlines(keepends=True)
    if not lines or lines[0] != header:
        return "its header is another one"
    remaining = {stream: part.splitlines(keepends=True)[::-1] for stream, part in rows.items()}
    for number, line in enumerate(lines[1:], start=2):
        stream = stream_of(line)
        is_torn = number == len(lines) and not line.endswith("\n")
        if stream is None and not is_torn:
            return f"line {number} belongs to no arm and seed of the run"
        expected = remaining.get(stream or "")
        if expected and expected.pop() != line:
            return f"line {number} is not what was written"
    return "rows are missing" if any(remaining.values()) else None
