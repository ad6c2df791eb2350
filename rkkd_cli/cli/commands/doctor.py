"""``rkkd doctor``: versions, devices, extras, cache, and whether its folders can be written to."""

import json
import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from rkkd_cli.cli.flags.flag import takes
from rkkd_cli.cli.flags.runs import JSON_ONLY, OUT
from rkkd_cli.installation import install_command

FOR_DEVELOPERS = ("test", "dev")  # extras


@takes(JSON_ONLY, OUT)
def doctor(as_json: bool, out: Path) -> None:
    """Show versions, devices, extras and cache; status 1 if cache or results cannot be written."""
    facts = _facts(out)
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        from rkkd_cli.cli.output import console, tables

        console.print_table(tables.plain_table(["what", "here"], _rows(facts), ("here",)))
    if facts["cache"]["problem"] or facts["results"]["problem"]:
        raise typer.Exit(1)


def _facts(out: Path) -> dict[str, Any]:
    """Return what is installed, what there is to compute on, and the folders."""
    from importlib.metadata import version

    import torch

    from rkkd_cli.config.shipped import preset_directory, preset_names
    from rkkd_cli.records.cache import cache_directory
    from rkkd_cli.records.environment import environment
    from rkkd_cli.train.device import describe_device, pick_device

    here, cache = environment(), cache_directory()
    others = {name: version(name) for name in ("pydantic", "pandas", "matplotlib", "typer")}
    return {
        "versions": here["versions"] | others,
        "extras": _extras(),
        "processor": here["processor"],
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": describe_device(pick_device("auto")),
        "cuda": torch.version.cuda,
        "driver": _driver(),
        "gpus": [_gpu(index) for index in range(torch.cuda.device_count())],
        "presets": {"folder": str(preset_directory()), "count": len(preset_names())},
        "cache": _folder(cache) | {"bytes": _folder_bytes(cache)},
        "results": _folder(out.absolute()),
    }


def _extras() -> dict[str, dict[str, str | None]]:
    """Return the optional packages of rkkd by extra, each with its version, or None if missing.

    A checkout that is not installed has no metadata that names them.
    """
    from importlib.metadata import PackageNotFoundError, requires

    extras: dict[str, dict[str, str | None]] = {}
    requirements: list[str] = []
    with suppress(PackageNotFoundError):
        requirements = requires("rkkd") or []
    for requirement in requirements:
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        package = re.match(r"[\w.-]+", requirement)
        if extra is None or package is None or extra[1] in FOR_DEVELOPERS:
            continue
        extras.setdefault(extra[1], {})[package[0]] = _version(package[0])
    return extras


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _driver() -> str | None:
    """Return the version of NVIDIA's driver, or None where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.partition("\n")[0].strip() or None if answer.returncode == 0 else None


def _gpu(index: int) -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(index)
    return {
        "name": properties.name,
        "bytes": properties.total_memory,
        "free_bytes": torch.cuda.mem_get_info(index)[0],
        "capability": f"{properties.major}.{properties.minor}",
    }


def _folder(path: Path) -> dict[str, Any]:
    from rkkd_cli.files import write_problem

    return {"folder": str(path), "problem": write_problem(path)}


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _rows(facts: dict[str, Any]) -> list[list[str]]:
    """Return the facts as lines of a table."""
    rows = [[name, text] for name, text in facts["versions"].items()]
    rows += [[f"extra {name}", _extra_text(name, found)] for name, found in facts["extras"].items()]
    rows += [
        ["processor", f"{facts['processor']}, {facts['cores']} cores"],
        ["torch threads", str(facts["torch_threads"])],
        ["device auto", facts["device"]],
        ["CUDA of torch", facts["cuda"] or "none: this torch computes on the CPU"],
        ["NVIDIA driver", facts["driver"] or "none"],
        ["CUDA devices", str(len(facts["gpus"]))],
    ]
    rows += [[f"GPU {index}", _gpu_text(gpu)] for index, gpu in enumerate(facts["gpus"])]
    rows.append(["presets", f"{facts['presets']['count']} in {facts['presets']['folder']}"])
    for name in ("cache", "results"):
        problem = facts[name]["problem"]
        state = f"cannot be written: {problem}" if problem else "can be written"
        rows.append([name, f"{facts[name]['folder']} ({state})"])
    return [*rows, ["cache size", f"{facts['cache']['bytes'] / 1e6:.1f} MB"]]


def _extra_text(name: str, packages: dict[str, str | None]) -> str:
    missing = [package for package, found in packages.items() if found is None]
    if missing:
        return f"not here ({', '.join(missing)}): {install_command(name)}"
    return ", ".join(f"{package} {found}" for package, found in packages.items())


def _gpu_text(gpu: dict[str, Any]) -> str:
    sizes = f"{gpu['bytes'] / 1e9:.1f} GB, {gpu['free_bytes'] / 1e9:.1f} GB free"
    return f"{gpu['name']}, {sizes}, compute capability {gpu['capability']}"
