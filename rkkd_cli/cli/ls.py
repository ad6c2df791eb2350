"""``rkkd ls``: what there is to choose from."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from rkkd_cli.cli import flags
from rkkd_cli.errors import unknown_name

Table = tuple[list[str], list[list[str]]]


def ls(
    what: Annotated[
        str, typer.Argument(metavar="presets|models|datasets|runs|surrogates", help="What to list.")
    ],
    out: flags.Results = flags.DEFAULT_RESULTS,
) -> None:
    """List presets, models, datasets, runs or surrogates."""
    from rkkd_cli.cli import console, tables

    if what not in LISTS:
        raise unknown_name("list", what, LISTS)
    header, rows = LISTS[what](out)
    console.out.print(tables.plain_table(header, rows))


def _presets(out: Path) -> Table:
    from rkkd_cli.config.presets import preset_names, read_preset

    rows = []
    for name in preset_names():
        table = read_preset(name)
        needs = str(table.get("cost", "")).partition(".")[0]
        rows.append([name, needs, str(table.get("title", ""))])
    return ["preset", "needs", "title"], rows


def _models(out: Path) -> Table:
    from rkkd_cli.models import MODELS, build_model, count_parameters

    rows = [[name, f"{count_parameters(build_model(name, num_classes=100)):,}"] for name in MODELS]
    return ["model", "parameters (3 channels, 100 classes)"], rows


def _datasets(out: Path) -> Table:
    from rkkd_cli.data.catalogue import DATASETS

    return ["dataset", "what"], [[name, d.description] for name, d in DATASETS.items()]


def _surrogates(out: Path) -> Table:
    from rkkd_cli.losses import SURROGATES

    rows = [[name, (function.__doc__ or "").strip()] for name, function in SURROGATES.items()]
    return ["surrogate", "formula"], rows


def _runs(out: Path) -> Table:
    from rkkd_cli.errors import UserError
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
        what = f"{datasets}, teacher {teachers}"
        rows.append([run.name, run.status(manifest), started, what])
    return ["run", "status", "started", "what"], rows


LISTS: dict[str, Callable[[Path], Table]] = {
    "presets": _presets,
    "models": _models,
    "datasets": _datasets,
    "runs": _runs,
    "surrogates": _surrogates,
}
