"""How this rkkd was installed, and the command that adds an extra to that installation.

Installers record where a package came from in ``direct_url.json`` (PyPA's specification "Recording
the Direct URL Origin of installed distributions"); what came from an index has no such file.
"""

import json
import shlex
from collections.abc import Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

NAME = "rkkd"


def install_command(extra: str) -> str:
    """Return the command that installs rkkd with an extra from where this rkkd came from.

    It is quoted for a POSIX shell: ``pip install -e '/home/me/rkkd[ray]'`` from a clone,
    ``pip install 'rkkd[ray] @ git+https://…@v1'`` from a repository or an archive, and
    ``pip install 'rkkd[ray]'`` from an index.
    """
    package = Path(__file__).resolve().parent
    origin = _origin(package)
    options, requirement = "", f"{NAME}[{extra}]"
    if origin is None:
        if (package.parent / "pyproject.toml").is_file():  # a checkout that is not installed
            requirement = f"{package.parent}[{extra}]"
    elif "dir_info" in origin:
        folder = _folder(origin)
        if folder.is_dir():
            options = "-e " if origin["dir_info"].get("editable") else ""
            requirement = f"{folder}[{extra}]"
    elif origin:
        requirement = f"{requirement} @ {_address(origin)}"
    return f"pip install {options}{shlex.quote(requirement)}"


def _origin(package: Path) -> Mapping[str, Any] | None:
    """Return what is recorded of where the running package came from: from an index, nothing.

    None: it belongs to no installed distribution.
    """
    for distribution in distributions(name=NAME):
        origin = _recorded(distribution)
        is_editable = bool(origin.get("dir_info", {}).get("editable"))
        place = _folder(origin) if is_editable else Path(str(distribution.locate_file("")))
        if package.is_relative_to(place.resolve()):
            return origin
    return None


def _recorded(distribution: Distribution) -> Mapping[str, Any]:
    text = distribution.read_text("direct_url.json")
    recorded: Mapping[str, Any] = json.loads(text) if text else {}
    return recorded


def _folder(origin: Mapping[str, Any]) -> Path:
    return Path(url2pathname(urlsplit(origin["url"]).path))


def _address(origin: Mapping[str, Any]) -> str:
    """Return the address of a repository at its revision, or of an archive."""
    address: str = origin["url"]
    if vcs := origin.get("vcs_info"):
        revision = vcs.get("requested_revision") or vcs["commit_id"]
        address = f"{vcs['vcs']}+{address}@{revision}"
    within = origin.get("subdirectory")
    return f"{address}#subdirectory={within}" if within else address
