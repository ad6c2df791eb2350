"""Bring metrics.csv back to the rows that the checkpoints vouch for."""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

from rkkd_cli.files import write_whole

StreamOf = Callable[[str], str | None]


def restore_metrics(
    path: Path, header: str, rows: Mapping[str, str], stream_of: StreamOf
) -> str | None:
    """Let the file hold exactly the ``rows`` of each stream; return what was wrong, or None.

    ``stream_of`` tells the stream of a line. Rows after the vouched ones are cut: they are trained
    again. A file that differs otherwise is damaged; it is kept beside the restored one.
    """
    wanted = header + "".join(rows.values())
    try:
        found = path.read_bytes().replace(b"\r\n", b"\n").decode(errors="replace")
    except FileNotFoundError:
        write_whole(path, wanted)
        return f"{path.name} was missing; it is restored from the checkpoints"
    damage = _damage(found, header, rows, stream_of)
    if damage is None:
        cut = len(found.splitlines()) - len(wanted.splitlines())
        if cut == 0:
            return None
        write_whole(path, wanted)
        return f"rows after the last checkpoint were cut from {path.name}: {cut}"
    damaged = _free_name(path)
    path.replace(damaged)
    write_whole(path, wanted)
    return (
        f"{path.name} was damaged ({damage}); it is restored from the checkpoints, the damaged one "
        f"is {damaged.name}"
    )


def _free_name(path: Path) -> Path:
    """Return where the damaged file is kept: nothing that was kept before is overwritten."""
    names = (f"{path.stem}.damaged{n or ''}{path.suffix}" for n in itertools.count())
    return next(path.with_name(name) for name in names if not path.with_name(name).exists())


def _damage(found: str, header: str, rows: Mapping[str, str], stream_of: StreamOf) -> str | None:
    """Return what differs from the vouched rows; None if there are only further ones."""
    lines = found.splitlines(keepends=True)
    if not lines or lines[0] != header:
        return "its header is another one"
    left = {stream: text.splitlines(keepends=True)[::-1] for stream, text in rows.items()}
    for number, line in enumerate(lines[1:], start=2):
        stream = stream_of(line)
        is_torn = number == len(lines) and not line.endswith("\n")
        if stream is None and not is_torn:
            return f"line {number} belongs to no arm and seed of the run"
        waiting = left.get(stream or "")
        if waiting and waiting.pop() != line:
            return f"line {number} is not what was written"
    return "rows are missing" if any(left.values()) else None
