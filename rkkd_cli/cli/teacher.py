"""``rkkd teacher``: train teachers ahead of time, and list those that are cached."""

from typing import Annotated

import typer

from rkkd_cli.cli import flags

app = typer.Typer(no_args_is_help=True, help="Train a preset's teacher, or list cached ones.")


@app.command()
def train(
    ctx: typer.Context,
    words: flags.Words = None,
    dataset: flags.Dataset = None,
    data_root: flags.DataRoot = None,
    limit_train: flags.LimitTrain = None,
    limit_test: flags.LimitTest = None,
    val_share: flags.ValShare = None,
    teacher: flags.TeacherModel = None,
    epochs: flags.Epochs = None,
    batch_size: flags.BatchSize = None,
    lr: flags.LearningRate = None,
    seed: Annotated[int | None, typer.Option(help="The teacher's seed.")] = None,
    device: flags.Device = None,
    precision: flags.Precision = None,
    deterministic: flags.Deterministic = None,
    checkpoint_minutes: flags.CheckpointMinutes = flags.DEFAULT_CHECKPOINT_MINUTES,
) -> None:
    """Train the teacher of a preset and cache it; a run of the same preset finds it there.

    Interrupted, the same command goes on where it was.
    """
    from rkkd_cli.cli.options import flag_overrides, split_words
    from rkkd_cli.config.presets import DEFAULT_PRESET, load_experiment

    preset, overrides = split_words(words)
    overrides += flag_overrides(ctx.params, flags.TEACHER_FLAG_KEYS)
    experiment = load_experiment(DEFAULT_PRESET if preset is None else preset, overrides)

    from rkkd_cli.cli.train_teacher import train_teacher

    train_teacher(experiment, checkpoint_minutes)


@app.command()
def ls() -> None:
    """List the cached teachers, the newest last."""
    from rkkd_cli.cli import console, tables
    from rkkd_cli.records.cache import cache_directory
    from rkkd_cli.train.teacher_store import TeacherStore

    header = ["key", "model", "dataset", "images", "epochs", "test acc (%)", "parameters", "sha256"]
    rows = [
        [
            facts["key"],
            facts["model"],
            facts["dataset"],
            f"{facts['train_images']:,}",
            str(facts["epochs"]),
            f"{facts['test_acc']:.2f}",
            f"{facts['parameters']:,}",
            facts["sha256"][:16],
        ]
        for facts in TeacherStore(cache_directory()).list()
    ]
    console.out.print(tables.plain_table(header, rows))
