"""The presets that come with rkkd: their folder, their names, and what their files begin with."""

import tomllib
from pathlib import Path
from typing import Any


def preset_directory() -> Path:
    """Return the folder of the shipped presets: inside the package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "ablations"
    return inside if inside.is_dir() else package.parent / "ablations"


def preset_names() -> list[str]:
    """Return the names of the shipped presets, sorted."""
    return sorted(path.stem for path in preset_directory().glob("*.toml"))


def preset_description(name: str) -> dict[str, Any]:
    """Return the keys of a shipped preset that stand before its first section, such as title."""
    text = (preset_directory() / f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text.partition("\n[")[0])
