"""What the words and flags of a command line choose: a preset, its overrides, loggers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rkkd_cli.config.arms import select_by_rank_grad
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import Override, looks_like_override, parse_override
from rkkd_cli.config.presets import DEFAULT_PRESET, load_experiment, override_experiment
from rkkd_cli.errors import UserError

Request = Callable[[Experiment | None], Experiment]


def split_words(words: Sequence[str] | None) -> tuple[str | None, list[Override]]:
    """Return the preset, if one is named, and the overrides. Raises UserError."""
    presets = [word for word in words or () if not looks_like_override(word)]
    if len(presets) > 1:
        raise UserError(
            f"more than one preset: {', '.join(presets)}; overrides are written KEY=VALUE"
        )
    overrides = [parse_override(word) for word in words or () if looks_like_override(word)]
    return (presets[0] if presets else None), overrides


def flag_overrides(flags: Mapping[str, Any], keys: Mapping[str, str]) -> list[Override]:
    """Return an override of ``keys[flag]`` for every flag that was given."""
    return [
        Override(keys[flag], value)
        for flag, value in flags.items()
        if flag in keys and value is not None
    ]


def requested_by(
    preset: str | None, overrides: Sequence[Override], rank_grad: str, from_record: bool
) -> Request:
    """Return what makes the experiment that a command line asks for.

    Without a preset, and with ``from_record``, that is what a run has recorded, with the
    overrides; else it is the preset with them.
    """

    def request(recorded: Experiment | None) -> Experiment:
        if recorded is not None and from_record and preset is None:
            return select_by_rank_grad(override_experiment(recorded, overrides), rank_grad)
        chosen = load_experiment(DEFAULT_PRESET if preset is None else preset, overrides)
        return select_by_rank_grad(chosen, rank_grad)

    return request


def preset_label(preset: str | None) -> str:
    """Return what a run of the preset is called: its name, or that of its file or run."""
    path = Path(DEFAULT_PRESET if preset is None else preset)
    return path.parent.name if path.name == "experiment.toml" and path.parent.name else path.stem


def chosen_loggers(tensorboard: bool, wandb: bool, mlflow: bool) -> tuple[str, ...]:
    """Return the names of the chosen loggers. Raises UserError where a package is missing."""
    wanted = {"tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow}
    names = tuple(name for name, is_wanted in wanted.items() if is_wanted)
    if names:
        from rkkd_cli.sweep.loggers import check_installed

        check_installed(names)
    return names
