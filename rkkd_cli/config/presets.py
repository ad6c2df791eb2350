"""Presets: experiments in TOML files, those shipped with the package and any other."""

import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomli_w

from rkkd_cli.config.arms import check_overrides_take_effect
from rkkd_cli.config.dataset import AUGMENTATION_KEYS
from rkkd_cli.config.experiment import DESCRIPTION_KEYS, Experiment, default_arms
from rkkd_cli.config.grid import CellSelection, with_cells
from rkkd_cli.config.method_arms import rename_arms
from rkkd_cli.config.overrides import (
    Override,
    apply_overrides,
    is_too_deep,
    looks_like_override,
    overridden_keys,
    with_current_keys,
)
from rkkd_cli.config.shipped import preset_description
from rkkd_cli.config.shipped import preset_directory as preset_directory
from rkkd_cli.config.shipped import preset_names as preset_names
from rkkd_cli.config.stated_findings import check_arm_names
from rkkd_cli.config.teachers import check_typed_teachers, named_teachers
from rkkd_cli.config.untrusted import check_code_is_typed
from rkkd_cli.config.validation import check_known_key, experiment_from
from rkkd_cli.config.value_lists import parse_axes
from rkkd_cli.errors import UserError, unknown_name
from rkkd_cli.files import decode_text, read_file

DEFAULT_PRESET = "rank_grad"
# How `based_on` names a changed method.
CHOICE_OF_METHOD = ("method=", "method.standardize_logits=")


def preset_path(preset: str) -> Path:
    """Return the file of a shipped preset, of a TOML file's path, or of a run's folder.

    Raises UserError.
    """
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


def word_of(path: Path) -> str:
    """Return the word that names a preset's file on a command line.

    It is the path, marked as one if it would mean something else there.
    """
    word = str(path)
    is_other = word in preset_names() or word.startswith("-") or looks_like_override(word)
    return f"./{word}" if is_other else word


def published_path(published: str) -> Path:
    """Return the file of a shipped preset's published values, or the path itself.

    Raises UserError for a shipped preset without published values.
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
    """Return the shipped preset that has published values and is the experiment's own, or None.

    It still is with another method: published values say of which method they are.
    """
    based_on, _, changed = experiment.based_on.partition(", changed: ")
    is_own = all(change.startswith(CHOICE_OF_METHOD) for change in changed.split(", ") if change)
    for path in sorted(preset_directory().glob("*_published.csv")):
        name = path.stem.removesuffix("_published")
        if name not in preset_names():
            continue
        has_title = preset_description(name).get("title") == experiment.title != ""
        if has_title or (is_own and based_on == name):
            return name
    return None


def preset_text(preset: str) -> str:
    """Return the text of a preset. Raises UserError that names the file."""
    return _read_text(preset_path(preset))


def _read_text(path: Path) -> str:
    try:
        return decode_text(read_file(path))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8: {error.reason}; save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def read_table(path: Path) -> dict[str, Any]:
    """Return the table in a TOML file, several teachers by name.

    Raises UserError that names the file and the line.
    """
    text = _read_text(path)
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no valid TOML: {error}") from None
    if is_too_deep(table):
        raise UserError(f"{path} is nested deeper than any experiment")
    return with_current_keys(_with_named_teachers(table, str(path)))


def _with_named_teachers(table: dict[str, Any], where: str) -> dict[str, Any]:
    if "teachers" not in table:
        return table
    return table | {"teachers": named_teachers(table["teachers"], where)}


def load_experiment(preset: str, overrides: Sequence[Override] = ()) -> Experiment:
    """Return the preset with the overrides laid over it, its arms validated.

    A preset that varies keys and names no arms gets all cells of its grid. Raises UserError, also
    if the file names code to run.
    """
    path = preset_path(preset)
    table, typed = _read_with_overrides(path, overrides)
    experiment = experiment_from(table, path.name, typed)
    if "arms" not in table:
        experiment = with_cells(experiment, CellSelection())
    check_code_is_typed(table, typed, path.name)
    _check_findings(experiment)
    return _with_valid_arms(experiment, typed)


def _check_findings(experiment: Experiment) -> None:
    """Raise UserError for a finding about an arm or a key that does not exist."""
    check_arm_names(experiment.findings, experiment.arms)
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
    selection: CellSelection,
    only_axes: bool = False,
) -> Experiment:
    """Return the preset with the overrides, and the cells of a grid as its arms.

    The grid varies the keys of ``axes`` and, unless ``only_axes``, those of the preset. A recorded
    grid keeps its arms if neither axes nor a sample are given. Raises UserError.
    """
    path = preset_path(preset)
    table, typed = _read_with_overrides(path, overrides)
    keeps_arms = table.get("vary") and "arms" in table and not axes and selection.sample is None
    defaults = default_arms(_method_name(table))
    arms = table.pop("arms", defaults)
    if not table.get("vary") and arms != defaults:
        raise UserError(
            f"{path.name} names arms of its own, but the arms of a grid are its cells; train them "
            "with `rkkd run`, or leave them out with arms=none"
        )
    if not (axes or table.get("vary")):
        raise UserError(
            f"nothing is varied: {path.name} has no section vary; give --alpha, --temperature or "
            "--vary KEY=VALUES"
        )
    experiment = experiment_from(table, path.name, typed)
    vary = parse_axes({**({} if only_axes else experiment.vary), **axes})
    experiment = experiment.model_copy(update={"vary": vary})
    if keeps_arms:
        table["arms"] = arms
        experiment = experiment.model_copy(update={"arms": arms})
    else:
        experiment = with_cells(experiment, selection)
    check_code_is_typed(table, [*typed, *(f"vary.{key}" for key in axes)], path.name)
    return _with_valid_arms(experiment, typed)


def _read_with_overrides(
    path: Path, overrides: Sequence[Override]
) -> tuple[dict[str, Any], list[str]]:
    """Return the table of the file with the overrides laid over it, and the overridden keys.

    What the file says of its dataset's images holds for no other: if another dataset is given, only
    ``val_share`` and the augmentation after crop and flip stay. For a folder, which may have the
    same images, the split into classes does, too.

    The default arms, which a table without arms gets unless it varies keys, are named after its
    method. So arms of the file that are named after its method are renamed if another method is
    given.
    """
    typed = overridden_keys(overrides)
    table = read_table(path)
    given, dataset = apply_overrides(table, overrides), table.get("dataset")
    if isinstance(dataset, Mapping) and _name(given, "dataset") != _name(table, "dataset"):
        kept = ["name", "val_share", *AUGMENTATION_KEYS]
        kept += ["classes"] * (_name(given, "dataset") == "folder")
        table["dataset"] = {key: dataset[key] for key in kept if key in dataset}
    former, method = _method_name(table), _method_name(given)
    varies = given.get("vary")
    if not varies and table.get("arms", default_arms(former)) == default_arms(former):
        table["arms"] = default_arms(method)
    elif not varies and former != method:
        names = dict(zip(default_arms(former), default_arms(method), strict=True))
        table |= rename_arms(table, names)
    check_typed_teachers(table, typed)
    return _with_named_teachers(apply_overrides(table, overrides), "teachers"), typed


def _method_name(table: Mapping[str, Any]) -> object:
    """Return the name of the table's method, which may be of any type before the validation."""
    name = _name(table, "method")
    return "kd" if name is None else name


def _name(table: Mapping[str, Any], section: str) -> object:
    """Return the key ``name`` of a section, or None."""
    values = table.get(section)
    return values.get("name") if isinstance(values, Mapping) else None


def read_unchecked(path: Path) -> Experiment:
    """Return the experiment of a file as it stands there; it may name code, and need arms.

    Raises UserError for a table that is no whole experiment.
    """
    table = read_table(path)
    if not table.get("vary"):
        table.setdefault("arms", default_arms(_method_name(table)))
    return experiment_from(table, path.name)


def override_experiment(experiment: Experiment, overrides: Sequence[Override]) -> Experiment:
    """Return the experiment with the overrides laid over it. Raises UserError."""
    typed = overridden_keys(overrides)
    table = apply_overrides(experiment.model_dump(), overrides)
    return _with_valid_arms(experiment_from(table, "the experiment", typed), typed)


def read_experiment(path: Path) -> Experiment:
    """Return the experiment that a run has recorded. Raises UserError that names the file."""
    return _with_valid_arms(experiment_from(read_table(path), str(path)), typed=())


def recorded_arms(path: Path) -> set[str] | None:
    """Return the names of a run's arms, or None if its experiment cannot be read."""
    with suppress(UserError):
        arms = read_table(path).get("arms")
        return set(arms) if isinstance(arms, Mapping) else None
    return None


def recorded_head(path: Path) -> dict[str, Any]:
    """Return the keys of a run's experiment before its sections: title, seeds and the like.

    Without a section no time goes into a grid's many arms. A file that cannot be read has no keys.
    """
    with suppress(UserError, ValueError):
        return tomllib.loads(_read_text(path).partition("\n[")[0])
    return {}


def _with_valid_arms(experiment: Experiment, typed: Sequence[str]) -> Experiment:
    """Return the experiment with its arms resolved. Raises UserError that names the arm or key."""
    _ = experiment.resolved_arms
    check_overrides_take_effect(experiment, typed)
    return experiment


def to_toml(experiment: Experiment) -> str:
    """Return the experiment as TOML that :func:`load_experiment` reads back unchanged."""
    table = experiment.model_dump(mode="json", exclude_none=True)
    return tomli_w.dumps({k: v for k, v in table.items() if v or k not in DESCRIPTION_KEYS})
