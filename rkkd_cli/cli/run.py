"""``rkkd run``: train the arms of an experiment, record them, draw the figures."""

import json
from datetime import datetime
from typing import Annotated

import typer

from rkkd_cli.cli.options import (
    DEFAULT_RESULTS,
    Results,
    Words,
    flag_overrides,
    preset_label,
    split_words,
)

WHAT, HOW, RANK, WHERE = "What to train", "How to train it", "The ranking loss", "Where and how"


def run(
    ctx: typer.Context,
    words: Words = None,
    dataset: Annotated[str | None, typer.Option(help="See `rkkd ls datasets`.", rich_help_panel=WHAT)] = None,
    data_root: Annotated[str | None, typer.Option(help="Folder of the images, or for downloads.", rich_help_panel=WHAT)] = None,
    limit_train: Annotated[int | None, typer.Option(help="Train on a class-balanced subset of N images.", metavar="N", rich_help_panel=WHAT)] = None,
    limit_test: Annotated[int | None, typer.Option(help="Test on a class-balanced subset of N images.", metavar="N", rich_help_panel=WHAT)] = None,
    val_share: Annotated[float | None, typer.Option(help="Share of the training images held out for validation.", rich_help_panel=WHAT)] = None,
    teacher: Annotated[str | None, typer.Option(help="The teacher's model; see `rkkd ls models`.", rich_help_panel=WHAT)] = None,
    teacher_checkpoint: Annotated[str | None, typer.Option(help="Load the teacher from this file instead of training it.", metavar="FILE", rich_help_panel=WHAT)] = None,
    student: Annotated[str | None, typer.Option(help="The student's model.", rich_help_panel=WHAT)] = None,
    seeds: Annotated[str | None, typer.Option(help="Seed values: 0, or 0,1,2, or 0:3 (0, 1 and 2).", rich_help_panel=WHAT)] = None,
    epochs: Annotated[int | None, typer.Option(help="The student's epochs.", rich_help_panel=HOW)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per batch.", rich_help_panel=HOW)] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate at the start.", rich_help_panel=HOW)] = None,
    alpha: Annotated[float | None, typer.Option(help="Weight of KL; CE gets 1 − alpha.", rich_help_panel=HOW)] = None,
    temperature: Annotated[float | None, typer.Option(help="Temperature of the KL divergence.", rich_help_panel=HOW)] = None,
    rank_grad: Annotated[str, typer.Option(help="on: train the arms that backpropagate it; off: those that only log it; both.", rich_help_panel=RANK)] = "both",
    rank_weight: Annotated[float | None, typer.Option(help="Its weight in the objective.", rich_help_panel=RANK)] = None,
    rank_steepness: Annotated[float | None, typer.Option(help="Steepness k of the surrogate.", rich_help_panel=RANK)] = None,
    rank_surrogate: Annotated[str | None, typer.Option(help="See `rkkd ls surrogates`.", rich_help_panel=RANK)] = None,
    rank_channels: Annotated[str | None, typer.Option(help="all, top:SHARE or bottom:SHARE.", rich_help_panel=RANK)] = None,
    device: Annotated[str | None, typer.Option(help="auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:N or mps.", rich_help_panel=WHERE)] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, or bf16 (autocast).", rich_help_panel=WHERE)] = None,
    out: Results = DEFAULT_RESULTS,
    name: Annotated[str | None, typer.Option(help="The run's name; default: preset and time.", rich_help_panel=WHERE)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, show what would run, write nothing.", rich_help_panel=WHERE)] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the run's folder and nothing else.", rich_help_panel=WHERE)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object; everything else goes to stderr.", rich_help_panel=WHERE)] = False,
) -> None:
    """Train the arms kd (ranking loss logged only) and kd_rank (backpropagated) in lockstep.

    Without arguments: scikit-learn's digits, three seeds, about a minute on a CPU.
    """  # fmt: skip
    from rkkd_cli.config.arms import select_by_rank_grad
    from rkkd_cli.config.presets import load_experiment

    preset, overrides = split_words(words)
    overrides += flag_overrides(ctx.params)
    experiment = select_by_rank_grad(load_experiment(preset, overrides), rank_grad)
    from rkkd_cli.records.run_directory import check_free, new_name

    name = name or new_name(preset_label(preset), datetime.now().astimezone())
    check_free(out, name)
    if dry_run:
        from rkkd_cli.cli.dry_run import print_plan

        print_plan(experiment, out / name, as_json)
        return
    from rkkd_cli.cli.execute import execute

    result = execute(experiment, out, name, quiet=quiet)
    if as_json:
        typer.echo(json.dumps(result.as_json()))
    elif quiet:
        typer.echo(result.path)
    else:
        result.print()
    raise typer.Exit(result.exit_status)
