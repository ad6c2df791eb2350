"""``rkkd doctor``: versions, devices, cache, and whether its folders can be written to."""

import os
from pathlib import Path

import typer

from rkkd_cli.cli.flags.flag import takes
from rkkd_cli.cli.flags.runs import OUT


@takes(OUT)
def doctor(out: Path) -> None:
    """Show versions, devices and cache. Exit status 1 if cache or results cannot be written to."""
    from importlib.metadata import version

    import torch

    from rkkd_cli.cli.output import console, tables
    from rkkd_cli.config.presets import preset_directory, preset_names
    from rkkd_cli.files import write_problem
    from rkkd_cli.records.cache import cache_directory
    from rkkd_cli.records.environment import environment
    from rkkd_cli.train.device import describe_device, pick_device

    facts = environment()
    rows = [[name, text] for name, text in facts["versions"].items()]
    rows += [[name, version(name)] for name in ("pydantic", "pandas", "matplotlib", "typer")]
    rows += [
        ["processor", f"{facts['processor']}, {os.cpu_count()} cores"],
        ["torch threads", str(torch.get_num_threads())],
        ["device auto", describe_device(pick_device("auto"))],
        ["CUDA devices", str(torch.cuda.device_count())],
        ["presets", f"{len(preset_names())} in {preset_directory()}"],
    ]
    paths = {"cache": cache_directory(), "results": out.absolute()}
    problems = {name: write_problem(path) for name, path in paths.items()}
    for name, problem in problems.items():
        state = f"cannot be written: {problem}" if problem else "can be written"
        rows.append([name, f"{paths[name]} ({state})"])
    rows.append(["cache size", _folder_size(paths["cache"])])
    console.print_table(tables.plain_table(["what", "here"], rows, ("here",)))
    if any(problems.values()):
        raise typer.Exit(1)


def _folder_size(folder: Path) -> str:
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{total / 1e6:.1f} MB"
