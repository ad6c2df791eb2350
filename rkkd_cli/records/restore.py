"""Bring metrics.csv back to the rows that the checkpoints vouch for."""

from pathlib import Path

from rkkd_cli.files import write_whole


def restore_metrics(path: Path, lines: str) -> str | None:
    """Let the file hold exactly ``lines``; return what was wrong with it, or None.

    Rows after them are cut: they are trained again. A file that differs otherwise is damaged; it
    is kept beside the restored one.
    """
    try:
        found = path.read_bytes().replace(b"\r\n", b"\n")
    except FileNotFoundError:
        write_whole(path, lines)
        return f"{path.name} was missing; it is restored from the checkpoints"
    wanted = lines.encode()
    if found == wanted:
        return None
    if found.startswith(wanted):
        write_whole(path, lines)
        cut = found[len(wanted) :].count(b"\n")
        torn = "" if found.endswith(b"\n") else " and one torn in the middle"
        return f"{cut} rows{torn} after the last checkpoint were cut from {path.name}"
    damaged = path.with_name(f"{path.stem}.damaged{path.suffix}")
    path.replace(damaged)
    write_whole(path, lines)
    return (
        f"{path.name} was damaged ({_first_difference(found, wanted)}); it is restored from the "
        f"checkpoints, the damaged one is {damaged.name}"
    )


def _first_difference(found: bytes, wanted: bytes) -> str:
    pairs = zip(found.split(b"\n"), wanted.split(b"\n"), strict=False)
    number = next((n for n, (one, other) in enumerate(pairs, 1) if one != other), None)
    if number == 1:
        return "the header is another one"
    return f"line {number} is not what was written" if number else "rows are missing"
