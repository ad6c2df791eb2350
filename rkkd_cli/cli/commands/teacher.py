"""``rkkd teacher``: train teachers ahead of time, import and export files, list the cached ones."""

from pathlib import Path
from typing import Annotated

import typer

from rkkd_cli.cli.flags import common as flags
from rkkd_cli.cli.flags.keys import FLAG_KEYS, TEACHER_FLAG_KEYS

IMPORT_FLAGS = ("dataset", "data_root", "limit_test", "stream", "device", "precision")

app = typer.Typer(
    no_args_is_help=True,
    help="Train a preset's teacher, import or export one, list those there are.",
)


@app.command()
def train(
    ctx: typer.Context,
    words: flags.Words = None,
    dataset: flags.Dataset = None,
    data_root: flags.DataRoot = None,
    limit_train: flags.LimitTrain = None,
    limit_test: flags.LimitTest = None,
    val_share: flags.ValShare = None,
    stream: flags.Stream = None,
    teacher: flags.TeacherModel = None,
    epochs: flags.Epochs = None,
    batch_size: flags.BatchSize = None,
    lr: flags.LearningRate = None,
    seed: Annotated[int | None, typer.Option(help="The teacher's seed.")] = None,
    device: flags.Device = None,
    precision: flags.Precision = None,
    deterministic: flags.Deterministic = None,
    sync_batchnorm: flags.SyncBatchNorm = None,
    checkpoint_minutes: flags.CheckpointMinutes = flags.DEFAULT_CHECKPOINT_MINUTES,
) -> None:
    """Train the teacher of a preset and cache it; a run of the same preset finds it there.

    Interrupted, the same command goes on where it was.
    """
    from rkkd_cli.cli.flags.overrides import flag_overrides, split_words
    from rkkd_cli.config.presets import DEFAULT_PRESET, load_experiment

    preset, overrides = split_words(words)
    overrides += flag_overrides(ctx.params, TEACHER_FLAG_KEYS)
    experiment = load_experiment(DEFAULT_PRESET if preset is None else preset, overrides)
    from rkkd_cli.cli.runtime.train_teacher import train_teacher

    train_teacher(experiment, checkpoint_minutes, ctx.obj)


@app.command("import")
def import_(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A PyTorch or safetensors checkpoint.")
    ],
    words: flags.Words = None,
    model: Annotated[
        str | None,
        typer.Option(help="Which model it is, where names and shapes leave that open."),
    ] = None,
    ema: Annotated[
        bool, typer.Option("--ema", help="Take the moving averages of the weights.")
    ] = False,
    dataset: flags.Dataset = None,
    data_root: flags.DataRoot = None,
    limit_test: flags.LimitTest = None,
    stream: flags.Stream = None,
    device: flags.Device = None,
    precision: flags.Precision = None,
) -> None:
    """Recognise a checkpoint file, measure it on the dataset's test images, and keep it.

    Nothing in the file is executed. Prints the command that uses it.
    """
    from rkkd_cli.cli.flags.overrides import flag_overrides, split_words

    preset, overrides = split_words(words)
    keys = {k: v for k, v in FLAG_KEYS.items() if k in IMPORT_FLAGS}
    overrides += flag_overrides(ctx.params, keys)
    from rkkd_cli.cli.runtime.import_teacher import import_file

    import_file(file.expanduser(), model, ema, preset, overrides)


@app.command()
def export(
    teacher: Annotated[
        str,
        typer.Argument(
            metavar="TEACHER",
            help="A key of `rkkd teacher ls` or its beginning, a model's name, or a file.",
        ),
    ],
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Default: MODEL_DATASET.safetensors.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a teacher as a safetensors file that says what it is."""
    from rkkd_cli.cli.runtime.export_teacher import export_teacher

    export_teacher(teacher, None if to is None else to.expanduser(), force)


@app.command()
def ls() -> None:
    """List the cached teachers, the newest last."""
    from rkkd_cli.cli.output import console, tables
    from rkkd_cli.records.cache import cache_directory
    from rkkd_cli.train.teacher.store import TeacherStore

    header = ["key", "model", "dataset", "images", "epochs", "test acc (%)", "parameters", "sha256"]
    rows = [
        [
            facts["key"],
            facts["model"],
            facts["dataset"],
            f"{facts['train_images']:,}" if "train_images" in facts else "imported",
            str(facts.get("epochs", "–")),
            f"{facts['test_acc']:.2f}",
            f"{facts['parameters']:,}",
            facts["sha256"][:16],
        ]
        for facts in TeacherStore(cache_directory()).list()
    ]
    console.wide.print(tables.plain_table(header, rows))


@app.command()
def outputs(
    evict: Annotated[
        str | None,
        typer.Option(metavar="KEY|all", help="Remove those of a stream.", show_default=False),
    ] = None,
) -> None:
    """List what --cache-teacher keeps, a stream a line, the newest last; or remove it."""
    from rkkd_cli.cli.output import console, tables
    from rkkd_cli.records.cache import cache_directory
    from rkkd_cli.sweep.logit_cache import cached_streams, format_bytes
    from rkkd_cli.sweep.logit_cache import evict as remove

    cache = cache_directory()
    if evict is not None:
        console.wide.print(f"removed {format_bytes(remove(cache, evict))}")
        return
    header = ["key", "teacher", "dataset", "seed", "kind", "epochs", "size"]
    rows = [
        [one.key, *(str(one.facts.get(fact, "–")) for fact in ("model", "dataset", "seed", "kind")),
         str(len(one.files)), format_bytes(one.bytes)]
        for one in cached_streams(cache)
    ]  # fmt: skip
    console.wide.print(tables.plain_table(header, rows))
