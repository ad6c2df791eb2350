"""``rkkd bench``: run the benchmarks behind the README's speed claims."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import typer

from rkkd_cli.cli.flags.flag import Flag, takes
from rkkd_cli.errors import RunError, unknown_name

DEFAULT_BENCHMARKS = ("ranking_loss", "two_arms", "startup")
HELPER_MODULES = ("gpu_checks", "gpu_speed", "history", "turns")  # imported by the benchmarks


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
    from rkkd_cli.cli.output.console import print_text

    paths = sorted(benchmarks_folder().glob("*.py"))
    scripts = {path.stem: path for path in paths if path.stem not in HELPER_MODULES}
    if listed:
        for benchmark, path in scripts.items():
            print_text(f"{benchmark:16} {_first_line(path)}\n")
        return
    if name is not None and name not in scripts:
        raise unknown_name("benchmark", name, scripts)
    for benchmark in DEFAULT_BENCHMARKS if name is None else (name,):
        script = scripts[benchmark]
        print_text(f"== {benchmark}: {_first_line(script)}\n")
        # Its words are plain text as well where the encoding lacks a character.
        any_text = {**os.environ, "PYTHONIOENCODING": f"{sys.stdout.encoding}:replace"}
        command = [sys.executable, str(script), *ctx.args]
        process = subprocess.run(command, check=False, env=any_text)
        if process.returncode != 0:
            raise RunError(f"benchmark {benchmark} failed with exit status {process.returncode}")


def benchmarks_folder() -> Path:
    """Return the folder of the scripts: inside the package, or beside it in a checkout."""
    package = Path(__file__).parents[2]
    inside = package / "benchmarks"
    return inside if inside.is_dir() else package.parent / "benchmarks"


def _first_line(path: Path) -> str:
    """Return the first line of the script's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]
