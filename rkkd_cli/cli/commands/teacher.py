"""``rkkd teacher``: train teachers ahead of time, import and export files, list the cached ones."""

import json
from dataclasses import replace
from pathlib import Path

import typer

from rkkd_cli.cli.flags import experiment as flags
from rkkd_cli.cli.flags.flag import REQUIRED, Flag, takes
from rkkd_cli.cli.flags.runs import CHECKPOINT_MINUTES, FORCE, JSON_ONLY
from rkkd_cli.config.overrides import Override

app = typer.Typer(
    no_args_is_help=True,
    help="Train a preset's teacher, import or export one, list those there are.",
)


@app.command()
@takes(
    flags.WORDS, flags.DATA, flags.TEACHER,
    replace(flags.EPOCHS, key="teacher.training.epochs"),
    replace(flags.BATCH_SIZE, key="teacher.training.batch_size"),
    replace(flags.LR, key="teacher.training.lr"),
    Flag("seed", int | None, "Seed of the teacher's weights and batches.", key="teacher.seed"),
    flags.DEVICE, flags.PRECISION, flags.DETERMINISTIC, flags.SYNC_BATCHNORM, CHECKPOINT_MINUTES,
)  # fmt: skip
def train(
    ctx: typer.Context, preset: str | None, overrides: list[Override], checkpoint_minutes: float
) -> None:
    """Train the teacher of a preset and cache it; a run of the same preset finds it there.

    Interrupted, the same command goes on where it was.
    """
    from rkkd_cli.config.presets import DEFAULT_PRESET, load_experiment

    experiment = load_experiment(DEFAULT_PRESET if preset is None else preset, overrides)
    from rkkd_cli.cli.runtime.train_teacher import train_teacher

    train_teacher(experiment, checkpoint_minutes, ctx.obj)


@app.command("import")
@takes(
    Flag("file", Path, "A PyTorch or safetensors checkpoint.", positional=True, default=REQUIRED,
         metavar="FILE"),
    flags.WORDS,
    Flag("model", str | None, "Model of the checkpoint, such as torchvision:NAME or timm:NAME; one "
         "of the zoo is recognised."),
    Flag("ema", bool, "Take the moving averages of the weights.", default=False),
    Flag("entry", str | None, "Entry of the file with the weights, such as teacher or "
         "state.model; the usual ones, or the only one, are found.", metavar="NAME"),
    Flag("ignore_unexpected", bool, "Leave out entries that the model does not have, such as the "
         "counters of profilers.", default=False),
    flags.DATASET, flags.DATA_ROOT, flags.IMAGE_SIZE, flags.RESIZE, flags.TEST_SHARE,
    flags.LIMIT_TEST, flags.STREAM, flags.DEVICE, flags.PRECISION,
)  # fmt: skip
def import_(
    preset: str | None,
    overrides: list[Override],
    file: Path,
    model: str | None,
    ema: bool,
    entry: str | None,
    ignore_unexpected: bool,
) -> None:
    """Read a checkpoint file, measure it on the dataset's test images, and keep it.

    Nothing in the file is executed. Prints the command that uses it.
    """
    from rkkd_cli.cli.runtime.import_teacher import import_file, read_teacher

    weights = read_teacher(file.expanduser(), ema, entry, ignore_unexpected)
    import_file(weights, model, preset, overrides)


@app.command()
@takes(
    Flag("teacher", str, "A key of `rkkd teacher ls` or its beginning, a model's name, or a file.",
         positional=True, default=REQUIRED, metavar="TEACHER"),
    Flag("to", Path | None, "File to write; default: MODEL_DATASET.safetensors.", metavar="FILE"),
    FORCE,
)  # fmt: skip
def export(teacher: str, to: Path | None, force: bool) -> None:
    """Write a teacher as a safetensors file that says what it is."""
    from rkkd_cli.cli.runtime.export_teacher import export_teacher

    export_teacher(teacher, None if to is None else to.expanduser(), force)


@app.command()
@takes(JSON_ONLY)
def ls(as_json: bool) -> None:
    """List the cached teachers, the newest last."""
    from rkkd_cli.cli.output import console, tables
    from rkkd_cli.config.tasks import task_of
    from rkkd_cli.records.cache import cache_directory
    from rkkd_cli.records.manifest import teacher_metric
    from rkkd_cli.report.words import short_name
    from rkkd_cli.train.teacher.store import TeacherStore

    teachers = TeacherStore(cache_directory()).list()
    if as_json:
        typer.echo(json.dumps({"teachers": teachers}))
        return
    names = {short_name(task_of(facts).main_column): None for facts in teachers} or ["test acc"]
    level = f"{' or '.join(names)} (%)"
    header = ["key", "model", "dataset", "images", "epochs", level, "parameters", "sha256"]
    rows = [
        [facts["key"], facts["model"], facts["dataset"],
         f"{facts['train_images']:,}" if "train_images" in facts else "imported",
         str(facts.get("epochs", "–")), f"{teacher_metric(facts):.2f}", f"{facts['parameters']:,}",
         facts["sha256"][:16]]
        for facts in teachers
    ]  # fmt: skip
    console.print_table(tables.plain_table(header, rows))


@app.command()
@takes(
    Flag("evict", str | None, "Remove the outputs of the stream with this key, or of all streams.",
         metavar="KEY|all"),
)  # fmt: skip
def outputs(evict: str | None) -> None:
    """List what --cache-teacher keeps, a stream a line, the newest last; or remove it."""
    from rkkd_cli.cli.output import console, tables
    from rkkd_cli.records.cache import cache_directory
    from rkkd_cli.sweep.logit_cache import cached_streams, format_bytes
    from rkkd_cli.sweep.logit_cache import evict as remove

    cache = cache_directory()
    if evict is not None:
        console.out.print(f"removed {format_bytes(remove(cache, evict))}")
        return
    header = ["key", "teacher", "dataset", "seed", "kind", "epochs", "size"]
    rows = [
        [one.key, *(str(one.facts.get(fact, "–")) for fact in ("model", "dataset", "seed", "kind")),
         str(len(one.files)), format_bytes(one.bytes)]
        for one in cached_streams(cache)
    ]  # fmt: skip
    console.print_table(tables.plain_table(header, rows))
