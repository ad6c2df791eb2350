"""``rkkd teacher``: train teachers ahead of time, and list those that are cached."""

from typing import Annotated

import typer

from rkkd_cli.cli.options import Words, flag_overrides, split_words

app = typer.Typer(no_args_is_help=True, help="Train a preset's teacher, or list cached ones.")


@app.command()
def train(
    ctx: typer.Context,
    words: Words = None,
    dataset: Annotated[str | None, typer.Option(help="See `rkkd ls datasets`.")] = None,
    data_root: Annotated[str | None, typer.Option(help="Folder of the images.")] = None,
    limit_train: Annotated[int | None, typer.Option(help="A class-balanced subset of N images.")] = None,
    limit_test: Annotated[int | None, typer.Option(help="A class-balanced subset of N images.")] = None,
    val_share: Annotated[float | None, typer.Option(help="Share held out for validation.")] = None,
    teacher: Annotated[str | None, typer.Option(help="The teacher's model.")] = None,
    epochs: Annotated[int | None, typer.Option(help="The teacher's epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="The teacher's batch size.")] = None,
    lr: Annotated[float | None, typer.Option(help="The teacher's learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="The teacher's seed.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16.")] = None,
) -> None:
    """Train the teacher of a preset and cache it; a run of the same preset finds it there."""  # fmt: skip
    from rkkd_cli.config.overrides import Override
    from rkkd_cli.config.presets import load_experiment

    preset, overrides = split_words(words)
    own = {
        "teacher.training.epochs": epochs,
        "teacher.training.batch_size": batch_size,
        "teacher.training.lr": lr,
        "teacher.seed": seed,
    }
    shared = ("dataset", "data_root", "limit_train", "limit_test", "val_share", "teacher",
              "device", "precision")  # fmt: skip
    overrides += flag_overrides({name: ctx.params[name] for name in shared})
    overrides += [Override(key, value) for key, value in own.items() if value is not None]
    experiment = load_experiment(preset, overrides)

    from rkkd_cli.cli.console import err
    from rkkd_cli.cli.progress import make_reporter
    from rkkd_cli.records.cache import cache_directory
    from rkkd_cli.sweep.check import check_experiment
    from rkkd_cli.sweep.local import prepare_teacher
    from rkkd_cli.train.device import pick_device

    cache = cache_directory()
    check_experiment(experiment, cache)
    with make_reporter(err, quiet=False) as reporter:
        for event in prepare_teacher(experiment, pick_device(experiment.device), cache):
            reporter.show(event)


@app.command()
def ls() -> None:
    """List the cached teachers, the newest last."""
    from rkkd_cli.cli import console
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
    console.out.print(console.plain_table(header, rows))
