"""From the words and flags of a command line to a preset and its overrides."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rkkd_cli.config.overrides import Override, looks_like_override, parse_override
from rkkd_cli.config.presets import DEFAULT_PRESET
from rkkd_cli.errors import UserError


def split_words(words: Sequence[str] | None) -> tuple[str, list[Override]]:
    """Return the preset (the default one if none is named) and the overrides. Raises UserError."""
    presets = [word for word in words or () if not looks_like_override(word)]
    if len(presets) > 1:
        raise UserError(
            f"more than one preset: {', '.join(presets)}; overrides are written KEY=VALUE"
        )
    overrides = [parse_override(word) for word in words or () if looks_like_override(word)]
    return (presets[0] if presets else DEFAULT_PRESET), overrides


def flag_overrides(flags: Mapping[str, Any], keys: Mapping[str, str]) -> list[Override]:
    """Return an override of ``keys[flag]`` for every flag that was given."""
    return [
        Override(keys[flag], value)
        for flag, value in flags.items()
        if flag in keys and value is not None
    ]


def preset_label(preset: str) -> str:
    """Return what a run of the preset is called: its name, or that of its file or run."""
    path = Path(preset)
    return path.parent.name if path.name == "experiment.toml" and path.parent.name else path.stem
