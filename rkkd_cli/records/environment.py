"""What numbers depend on besides the experiment: versions, machine, commit."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("rkkd", "torch", "torchvision", "pillow", "numpy", "scikit-learn")


def environment() -> dict[str, Any]:
    """Return versions, platform, processor, and the git commit of the current folder, if any."""
    return {
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        "platform": platform.platform(terse=True),
        "processor": processor(),
        "git_commit": _git_commit(),
    }


def command_line() -> list[str]:
    """Return the command as typed, without the paths of interpreter and program.

    Of a script of the user's it names the script, of a notebook only Python.
    """
    program = Path(sys.argv[0])
    if program.stem == "rkkd" or program.parent.name == "rkkd_cli":
        return ["rkkd", *sys.argv[1:]]
    is_script = program.suffix == ".py" and program.stem != "ipykernel_launcher"
    return ["python", *(sys.argv if is_script else ())]


def processor() -> str:
    """Return the system's name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git_commit() -> str | None:
    """Return HEAD of the current folder's repository, with ``+changes`` if it is not clean.

    The repository may come from anywhere, and its settings can name programs that git would start:
    filters, hooks and the file monitor are switched off.
    """
    try:
        head = _git("rev-parse", "HEAD")
        names = _git("config", "--name-only", "--list").splitlines()
        filters = [name for name in names if name.startswith("filter.")]
        off = {name: "false" if name.endswith(".required") else "" for name in filters}
        changed = _git("status", "--porcelain", "-uno", "--ignore-submodules=all", settings=off)
        return f"{head}+changes" if changed else head
    except (OSError, subprocess.SubprocessError):
        return None


WITHOUT_PROGRAMS = {"core.fsmonitor": "false", "core.hooksPath": os.devnull}


def _git(*arguments: str, settings: Mapping[str, str] | None = None) -> str:
    settings = WITHOUT_PROGRAMS | dict(settings or {})
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for n, (key, value) in enumerate(settings.items()):
        variables |= {f"GIT_CONFIG_KEY_{n}": key, f"GIT_CONFIG_VALUE_{n}": value}
    command = ["git", "--no-optional-locks", *arguments]
    answer = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=10, env=os.environ | variables
    )
    return answer.stdout.strip()
