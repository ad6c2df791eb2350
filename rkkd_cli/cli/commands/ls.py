"""``rkkd ls``: list presets, models, methods, datasets, runs or surrogates."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rkkd_cli.cli.flags.flag import REQUIRED, Flag, takes
from rkkd_cli.cli.flags.runs import OUT
from rkkd_cli.errors import UserError, unknown_name

if TYPE_CHECKING:
    from rkkd_cli.config.experiment import FrozenConfig

Table = tuple[list[str], list[list[str]]]

SETTINGS = "settings, as method.NAME.SETTING=VALUE"
PROSE = ("title", "what", "objective", "formula", SETTINGS)  # columns that a terminal may fold


@takes(
    Flag("what", str, "What to list.", positional=True, default=REQUIRED,
         metavar="presets|models|methods|datasets|runs|surrogates"),
    Flag("library", str | None, "List the models of this library instead of the built-in ones.",
         positional=True, metavar="[torchvision|timm]"),
    OUT,
)  # fmt: skip
def ls(what: str, library: str | None, out: Path) -> None:
    """List presets, models, methods, datasets, runs or surrogates."""
    from rkkd_cli.cli.output import console, tables

    if what not in LISTS:
        raise unknown_name("list", what, LISTS)
    if library is not None and what != "models":
        raise UserError(f"rkkd ls {what} takes no library; only models are listed by library")
    header, rows = LISTS[what](out) if library is None else _library_models(library)
    console.print_table(tables.plain_table(header, rows, PROSE))


def _presets(out: Path) -> Table:
    from rkkd_cli.config.presets import preset_names, read_preset

    presets = {name: read_preset(name) for name in preset_names()}
    rows = [
        [name, str(preset.get("cost", "")).partition(".")[0], str(preset.get("title", ""))]
        for name, preset in presets.items()
    ]
    return ["preset", "needs", "title"], rows


def _models(out: Path) -> Table:
    import torch

    from rkkd_cli.models import MODELS, build_model, count_parameters

    with torch.device("meta"):  # to count parameters without allocating them
        models = {name: build_model(name, num_classes=100) for name in MODELS}
    rows = [[name, f"{count_parameters(model):,}"] for name, model in models.items()]
    return ["model", "parameters (3 channels, 100 classes)"], rows


def _library_models(library: str) -> Table:
    from rkkd_cli.models import LIBRARIES

    if library not in LIBRARIES:
        raise unknown_name("library", library, LIBRARIES)
    return ["model"], [[f"{library}:{name}"] for name in LIBRARIES[library]()]


def _datasets(out: Path) -> Table:
    from rkkd_cli.data.catalogue import DATASETS

    rows = [[name, dataset.description] for name, dataset in DATASETS.items()]
    return ["dataset", "what"], rows


def _methods(out: Path) -> Table:
    from rkkd_cli.methods import METHODS

    rows = [
        [name, (method.__doc__ or "").strip().splitlines()[0], _settings(method.Config)]
        for name, method in METHODS.items()
    ]
    return ["method", "objective", SETTINGS], rows


def _settings(config: "type[FrozenConfig]") -> str:
    return ", ".join(f"{name} {field.default}" for name, field in config.model_fields.items())


def _surrogates(out: Path) -> Table:
    from rkkd_cli.losses import SURROGATES

    rows = [[name, (function.__doc__ or "").strip()] for name, function in SURROGATES.items()]
    return ["surrogate", "formula"], rows


def _runs(out: Path) -> Table:
    from rkkd_cli.records.run_directory import find_runs

    rows = []
    for run in find_runs(out):
        try:
            manifest = run.read_manifest()
        except UserError as error:
            rows.append([run.name, "damaged", "", str(error)])
            continue
        teachers = ", ".join(facts["model"] for facts in manifest.teachers)
        datasets = ", ".join(facts["name"] for facts in manifest.datasets)
        started = manifest.started[:16].replace("T", " ")
        rows.append([run.name, run.status(manifest), started, f"{datasets}, teacher {teachers}"])
    return ["run", "status", "started", "what"], rows


LISTS: dict[str, Callable[[Path], Table]] = {
    "presets": _presets, "models": _models, "methods": _methods, "datasets": _datasets,
    "runs": _runs, "surrogates": _surrogates,
}  # fmt: skip
