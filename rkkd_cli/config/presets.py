"""Presets: experiments in TOML files, shipped with the package or anywhere on disk."""

import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomli_w

from rkkd_cli.config.arms import refuse_hidden_overrides
from rkkd_cli.config.experiment import Experiment, default_arms
from rkkd_cli.config.grid import Choice, with_cells
from rkkd_cli.config.overrides import Override, apply_overrides, flatten, is_too_deep
from rkkd_cli.config.stated_findings import SIDES, check_named_arms
from rkkd_cli.config.untrusted import refuse_reaching_out
from rkkd_cli.config.validation import check_known_key, experiment_from
from rkkd_cli.config.value_lists import parse_axes
from rkkd_cli.errors import UserError, unknown_name

DEFAULT_PRESET = "rank_grad"


def preset_directory() -> Path:
    """Return the folder of the shipped presets: inside the wheel, or beside the package."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "ablations"
    return inside if inside.is_dir() else package.parent / "ablations"


def preset_names() -> list[str]:
    """Return the names of the shipped presets, sorted."""
    return sorted(path.stem for path in preset_directory().glob("*.toml"))


def preset_path(preset: str) -> Path:
    """Return the file of a shipped preset, or the path itself. Raises UserError."""
    if preset in preset_names():
        return preset_directory() / f"{preset}.toml"
    path = Path(preset)
    with suppress(OSError):  # a name too long to be a path
        if path.is_dir():
            path = path / "experiment.toml"
        if path.is_file():
            return path
    if path.suffix == ".toml" or len(path.parts) > 1:
        raise UserError(f"no such preset file: {preset}")
    raise unknown_name("preset", preset, preset_names())


def published_path(published: str) -> Path:
    """Return the file of published values: a shipped preset's own, or the path itself.

    Raises UserError for a shipped preset that has none.
    """
    if published not in preset_names():
        return Path(published)
    path = preset_directory() / f"{published}_published.csv"
    if not path.is_file():
        raise UserError(
            f"preset {published} has no published values; `rkkd cat {published}` says why"
        )
    return path


def published_preset(experiment: Experiment) -> str | None:
    """Return the shipped preset with published values whose title the experiment has, or None."""
    for path in sorted(preset_directory().glob("*_published.csv")):
        name = path.stem.removesuffix("_published")
        if name in preset_names() and read_preset(name).get("title") == experiment.title != "":
            return name
    return None


def preset_text(preset: str) -> str:
    """Return the text of a preset. Raises UserError that names the file."""
    return _text(preset_path(preset))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no valid TOML: {error}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def read_preset(preset: str) -> dict[str, Any]:
    """Return the table of a preset. Raises UserError that names the file and the line."""
    return _table(preset_path(preset))


def _table(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no valid TOML: {error}") from None
    if is_too_deep(table):
        raise UserError(f"{path} is nested deeper than any experiment")
    return table


def load_experiment(preset: str, overrides: Sequence[Override] = ()) -> Experiment:
    """Return the preset with the overrides laid over it; every arm is validated too.

    Where it varies keys and names no arms, these are the cells of the grid. Raises UserError, also
    for a path in the file that leads out of the working folder.
    """
    path = preset_path(preset)
    table, given = _overridden(path, overrides)
    experiment = experiment_from(table, path.name, given)
    if "arms" not in table:
        experiment = with_cells(experiment, Choice())
    refuse_reaching_out(table, given, path.name)
    _check_findings(experiment)
    return _checked(experiment, given)


def _check_findings(experiment: Experiment) -> None:
    """Raise UserError for a finding about arms or keys that there are not."""
    check_named_arms(experiment.findings, experiment.arms)
    for name, finding in experiment.findings.items():
        for key in finding.keys:
            try:
                check_known_key(key)
            except UserError as error:
                raise UserError(f"findings.{name}: {error}") from None


def load_grid(
    preset: str,
    overrides: Sequence[Override],
    axes: Mapping[str, Any],
    choice: Choice,
    only_axes: bool = False,
) -> Experiment:
    """Return the preset with overrides and the cells of its varied keys and of ``axes`` as arms.

    With ``only_axes`` those of the preset are left out. A recorded grid keeps its arms where
    neither axes nor a sample are given. Raises UserError.
    """
    path = preset_path(preset)
    table, given = _overridden(path, overrides)
    recorded = table.get("vary") and "arms" in table and not axes and choice.sample is None
    usual = default_arms(_method_of(table))
    arms = table.pop("arms", usual)
    if not table.get("vary") and arms != usual:
        raise UserError(
            f"{path.name} names arms of its own, and those of a grid are its cells; train them "
            "with `rkkd run`, or vary their keys"
        )
    if not (axes or table.get("vary")):
        raise UserError(
            f"nothing is varied: {path.name} has no section vary; give --alpha, --temperature or "
            "--vary KEY=VALUES"
        )
    experiment = experiment_from(table, path.name, given)
    varied = parse_axes({**({} if only_axes else experiment.vary), **axes})
    experiment = experiment.model_copy(update={"vary": varied})
    if recorded:
        experiment = experiment.model_copy(update={"arms": arms})
    else:
        experiment = with_cells(experiment, choice)
    refuse_reaching_out(table, given, path.name)
    return _checked(experiment, given)


def _overridden(path: Path, overrides: Sequence[Override]) -> tuple[dict[str, Any], list[str]]:
    """Return the table of the file with the overrides laid over it, and the overridden keys.

    Where neither names arms or varies keys, there are the default arms, named after the method.
    Arms of the file that are named after its method follow another one.
    """
    given = [key for override in overrides for key in flatten({override.key: override.value})]
    table = _table(path)
    former, method = _method_of(table), _method_of(apply_overrides(table, overrides))
    varies = table.get("vary") or any(key.startswith("vary.") for key in given)
    if not varies and table.get("arms", default_arms(former)) == default_arms(former):
        table["arms"] = default_arms(method)
    elif not varies and former != method:
        table |= _renamed_arms(
            table, dict(zip(default_arms(former), default_arms(method), strict=True))
        )
    return apply_overrides(table, overrides), given


def _renamed_arms(table: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return the sections arms and findings with other names for arms that train another method.

    These are arms that are named after the file's method, and do not set it themselves. Findings
    that speak of them are left out. Raises UserError where the new name is taken.
    """
    arms, findings = table["arms"], table.get("findings", {})
    if not isinstance(arms, Mapping) or not isinstance(findings, Mapping):
        return {}  # refused where it is validated
    renamed = {
        arm: names[arm]
        for arm, overrides in arms.items()
        if arm in names and "method.name" not in flatten(overrides)
    }
    for former, new in renamed.items():
        if new in arms:
            raise UserError(
                f"arm {former!r} would be called {new!r} with this method, and there is an arm of "
                "that name; leave method.name as it is"
            )
    kept = {name: one for name, one in findings.items() if not renamed.keys() & _named_in(one)}
    return {"arms": {renamed.get(arm, arm): o for arm, o in arms.items()}, "findings": kept}


def _named_in(finding: object) -> set[str]:
    """Return the arms that the table of a finding names."""
    sides = [finding.get(key) for key in SIDES] if isinstance(finding, Mapping) else []
    return {name for side in sides for name in ([side] if isinstance(side, str) else side or ())}


def _method_of(table: Mapping[str, Any]) -> object:
    """Return the name of the method that a table states, whatever it is, or the default."""
    section = table.get("method")
    return section.get("name", "kd") if isinstance(section, Mapping) else "kd"


def override_experiment(experiment: Experiment, overrides: Sequence[Override]) -> Experiment:
    """Return the experiment with the overrides laid over it. Raises UserError."""
    given = [key for override in overrides for key in flatten({override.key: override.value})]
    table = apply_overrides(experiment.model_dump(), overrides)
    return _checked(experiment_from(table, "the experiment", given), given)


def _checked(experiment: Experiment, given: Sequence[str]) -> Experiment:
    _ = experiment.resolved_arms  # raises UserError for an arm that is not valid
    refuse_hidden_overrides(experiment, given)
    return experiment


def read_experiment(path: Path) -> Experiment:
    """Return the experiment that a run has recorded. Raises UserError that names the file."""
    experiment = experiment_from(_table(path), str(path))
    return _checked(experiment, given=())


def to_toml(experiment: Experiment) -> str:
    """Return the experiment as TOML that :func:`load_experiment` reads back unchanged."""
    return tomli_w.dumps(experiment.model_dump(mode="json", exclude_none=True))
