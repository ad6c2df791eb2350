"""The words of a command line that are no flags: a preset, and overrides of its keys."""

from collections.abc import Sequence

from rkkd_cli.config.overrides import Override, looks_like_override, parse_override
from rkkd_cli.errors import UserError


def split_words(words: Sequence[str] | None) -> tuple[str | None, list[Override]]:
    """Return the preset, if one is named, and the overrides. Raises UserError."""
    presets = [word for word in words or () if not looks_like_override(word)]
    if len(presets) > 1:
        raise UserError(
            f"more than one preset: {', '.join(presets)}; overrides are written KEY=VALUE"
        )
    overrides = [parse_override(word) for word in words or () if looks_like_override(word)]
    return (presets[0] if presets else None), overrides
