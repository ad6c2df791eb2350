"""``rkkd bench``: what the README's speed claims are measured with."""

import ast
import subprocess
import sys
from pathlib import Path

import typer

from rkkd_cli.cli.flags.flag import Flag, takes
from rkkd_cli.errors import RunError, unknown_name

SPEED = ("ranking_loss", "two_arms", "startup")  # what is run where nothing is named
SHARED = ("turns", "history")  # no benchmarks, but what these import


@takes(
    Flag("name", str | None, "A benchmark of --list; its own options may follow.",
         positional=True, metavar="[NAME]"),
    Flag("listed", bool, "List the benchmarks, and what each measures.",
         default=False, option=("--list",)),
)  # fmt: skip
def bench(ctx: typer.Context, name: str | None, listed: bool) -> None:
    """Measure the speed claims on this machine: median, range and environment.

    Without a name: the ranking loss, two arms beside plain scripts, and start-up, in about ten
    minutes. Nothing else should be running meanwhile.
    """
    folder = benchmarks_folder()
    there = {path.stem: path for path in sorted(folder.glob("*.py")) if path.stem not in SHARED}
    if listed:
        for stem, path in there.items():
            typer.echo(f"{stem:16} {_first_line(path)}")
        return
    if name is not None and name not in there:
        raise unknown_name("benchmark", name, there)
    for one in SPEED if name is None else (name,):
        typer.echo(f"== {one}: {_first_line(there[one])}")
        ended = subprocess.run([sys.executable, str(there[one]), *ctx.args], check=False)
        if ended.returncode != 0:
            raise RunError(f"benchmark {one} failed with exit status {ended.returncode}")


def benchmarks_folder() -> Path:
    """Return the scripts' folder: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).parents[2]
    inside = package / "benchmarks"
    return inside if inside.is_dir() else package.parent / "benchmarks"


def _first_line(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]
