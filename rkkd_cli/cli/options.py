"""Options that several commands share, and the way from flags to overrides."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rkkd_cli.config.overrides import Override, looks_like_override, parse_override
from rkkd_cli.config.presets import DEFAULT_PRESET
from rkkd_cli.errors import UserError

WORDS_HELP = (
    "A preset (see `rkkd ls presets`), a TOML file or a run to repeat, then any number of "
    "overrides such as training.weight_decay=1e-4."
)

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PRESET] [KEY=VALUE]...", help=WORDS_HELP, show_default=False),
]
Results = Annotated[Path, typer.Option("--out", help="The folder that holds the runs.")]
DEFAULT_RESULTS = Path("results")

# The typed flags and the keys of the experiment that they set.
FLAG_KEYS = {
    "dataset": "dataset.name",
    "data_root": "dataset.root",
    "limit_train": "dataset.limit_train",
    "limit_test": "dataset.limit_test",
    "val_share": "dataset.val_share",
    "teacher": "teacher.model",
    "teacher_checkpoint": "teacher.checkpoint",
    "student": "student.model",
    "epochs": "training.epochs",
    "batch_size": "training.batch_size",
    "lr": "training.lr",
    "alpha": "method.alpha",
    "temperature": "method.temperature",
    "rank_weight": "rank.weight",
    "rank_steepness": "rank.steepness",
    "rank_surrogate": "rank.surrogate",
    "rank_channels": "rank.channels",
    "seeds": "seeds",
    "device": "device",
    "precision": "precision",
}


def split_words(words: Sequence[str] | None) -> tuple[str, list[Override]]:
    """Return the preset (the default one if none is named) and the overrides. Raises UserError."""
    presets = [word for word in words or () if not looks_like_override(word)]
    if len(presets) > 1:
        raise UserError(
            f"more than one preset: {', '.join(presets)}; overrides are written KEY=VALUE"
        )
    overrides = [parse_override(word) for word in words or () if looks_like_override(word)]
    return (presets[0] if presets else DEFAULT_PRESET), overrides


def flag_overrides(flags: Mapping[str, Any]) -> list[Override]:
    """Return an override for every flag that was given."""
    return [
        Override(FLAG_KEYS[flag], value)
        for flag, value in flags.items()
        if flag in FLAG_KEYS and value is not None
    ]


def preset_label(preset: str) -> str:
    """Return what a run of the preset is called: its name, or that of its file or run."""
    path = Path(preset)
    return path.parent.name if path.name == "experiment.toml" and path.parent.name else path.stem
