"""``rkkd ls``: list presets, models, methods, datasets, runs, surrogates or keys."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rkkd_cli.cli.flags import experiment
from rkkd_cli.cli.flags.flag import REQUIRED, Flag, takes
from rkkd_cli.cli.flags.runs import JSON_ONLY, OUT
from rkkd_cli.errors import UserError, unknown_name
from rkkd_cli.installation import install_command

if TYPE_CHECKING:
    from rkkd_cli.config.frozen import FrozenConfig

Table = tuple[list[str], list[list[Any]]]  # the header, and rows of texts and whole numbers

SETTINGS = "settings, as method.NAME.SETTING=VALUE"
# The columns that a terminal may fold.
PROSE = ("title", "what", "formula", "value", "meaning", SETTINGS)


@takes(
    Flag("what", str, "What to list.", positional=True, default=REQUIRED,
         metavar="presets|models|methods|datasets|runs|surrogates|keys"),
    Flag("within", str | None, "List the models of this library, or the keys of this section.",
         positional=True, metavar="[torchvision|timm|SECTION]"),
    JSON_ONLY, OUT,
)  # fmt: skip
def ls(what: str, within: str | None, as_json: bool, out: Path) -> None:
    """List presets, models, methods, datasets, runs, surrogates, or the keys of an experiment."""
    if what not in LISTS:
        raise unknown_name("list", what, LISTS)
    if within is None:
        header, rows = LISTS[what](out)
    elif what in PARTS:
        header, rows = PARTS[what](within)
    else:
        raise UserError(f"rkkd ls {what} lists all of them; leave {within!r} away")
    if as_json:
        names = [name.partition(",")[0].partition(" (")[0] for name in header]
        typer.echo(json.dumps({what: [dict(zip(names, row, strict=True)) for row in rows]}))
        return
    from rkkd_cli.cli.output import tables

    if what == "keys":
        header, rows = _narrow_keys(rows)
    texts = [[f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows]
    spare = [header.index(name) for name in ("objective", "what")] if what == "runs" else []
    tables.print_narrowed(header, texts, spare, PROSE)


def _presets(out: Path) -> Table:
    from rkkd_cli.config.shipped import preset_description, preset_names

    presets = {name: preset_description(name) for name in preset_names()}
    rows = [
        [name, str(preset.get("cost", "")).partition(".")[0], str(preset.get("title", ""))]
        for name, preset in presets.items()
    ]
    return ["preset", "needs", "title"], rows


def _models(out: Path) -> Table:
    from rkkd_cli.config.names import MODELS

    return ["model", "parameters (3 channels, 100 classes)"], [[*row] for row in MODELS.items()]


def _library_models(library: str) -> Table:
    from rkkd_cli.config.names import LIBRARIES, library_models

    if library not in LIBRARIES:
        raise unknown_name("library", library, LIBRARIES)
    names = library_models(library)
    if not names:
        raise UserError(f"{library} is not installed: {install_command(library)}")
    return ["model"], [[f"{library}:{name}"] for name in names]


def _datasets(out: Path) -> Table:
    from rkkd_cli.config.names import DATASETS

    return ["dataset", "what"], [[*row] for row in DATASETS.items()]


def _methods(out: Path) -> Table:
    from rkkd_cli.config.methods import METHODS

    rows = [
        [name, ", ".join(one.tasks), one.objective, _settings(one.settings)]
        for name, one in METHODS.items()
    ]
    return ["method", "task", "objective", SETTINGS], rows


def _settings(config: "type[FrozenConfig]") -> str:
    defaults = {name: field.default for name, field in config.model_fields.items()}
    return ", ".join(f"{name} {'by task' if v is None else v}" for name, v in defaults.items())


def _surrogates(out: Path) -> Table:
    from rkkd_cli.config.names import SURROGATES

    return ["surrogate", "formula"], [[*row] for row in SURROGATES.items()]


def _keys(out: Path) -> Table:
    return _keys_in(None)


def _keys_in(section: str | None) -> Table:
    from rkkd_cli.config.keys import keys_in

    flags = {flag.key: flag for flag in vars(experiment).values() if isinstance(flag, Flag)}
    rows = []
    for key in keys_in(section):
        flag = flags.get(key.name)
        described = flag or flags.get(key.name.removeprefix("teacher."))
        meaning = key.meaning or (described.help if described else "")
        option = flag.option_names[0].partition("/")[0] if flag else ""
        rows.append([key.name, option, key.type, key.default, key.range, meaning])
    return ["key", "flag", "type", "default", "range", "meaning"], rows


def _narrow_keys(rows: list[list[Any]]) -> Table:
    """Return the keys with type and range in one column, and the flag behind the meaning."""
    narrow = [
        [key, f"{kind}, {bounds}" if bounds else kind, default,
         f"{meaning} ({flag})" if flag else meaning]
        for key, flag, kind, default, bounds, meaning in rows
    ]  # fmt: skip
    return ["key", "value", "default", "meaning"], narrow


def _runs(out: Path) -> Table:
    from rkkd_cli.config.presets import recorded_head
    from rkkd_cli.config.value_lists import seeds_text
    from rkkd_cli.records.manifest import NewerRunError, teacher_name
    from rkkd_cli.records.run_directory import find_runs
    from rkkd_cli.report.setting_text import objectives_text

    rows = []
    for run in find_runs(out):
        try:
            manifest = run.read_manifest()
        except UserError as error:
            status = "newer" if isinstance(error, NewerRunError) else "damaged"
            rows.append([run.name, status, "", "", str(error), ""])
            continue
        teachers = ", ".join(map(teacher_name, manifest.teachers))
        datasets = ", ".join(facts["name"] for facts in manifest.datasets)
        head = recorded_head(run.experiment)
        title = head.get("title") or f"{datasets}, teacher {teachers}"
        seeds = seeds_text(head["seeds"]) if head.get("seeds") else ""
        started, objective = manifest.started[:16].replace("T", " "), objectives_text(manifest)
        rows.append([run.name, run.status(manifest), started, seeds, title, objective])
    return ["run", "status", "started", "seeds", "what", "objective"], rows


LISTS: dict[str, Callable[[Path], Table]] = {
    "presets": _presets, "models": _models, "methods": _methods, "datasets": _datasets,
    "runs": _runs, "surrogates": _surrogates, "keys": _keys,
}  # fmt: skip
PARTS: dict[str, Callable[[str], Table]] = {"models": _library_models, "keys": _keys_in}
