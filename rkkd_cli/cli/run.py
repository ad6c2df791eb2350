"""``rkkd run``: train the arms of an experiment, record them, draw the figures."""

import json
from datetime import datetime

import typer

from rkkd_cli.cli import flags


def run(
    ctx: typer.Context,
    words: flags.Words = None,
    dataset: flags.Dataset = None,
    data_root: flags.DataRoot = None,
    limit_train: flags.LimitTrain = None,
    limit_test: flags.LimitTest = None,
    val_share: flags.ValShare = None,
    teacher: flags.TeacherModel = None,
    teacher_checkpoint: flags.TeacherCheckpoint = None,
    student: flags.StudentModel = None,
    seeds: flags.Seeds = None,
    epochs: flags.Epochs = None,
    batch_size: flags.BatchSize = None,
    lr: flags.LearningRate = None,
    alpha: flags.Alpha = None,
    temperature: flags.Temperature = None,
    rank_grad: flags.RankGrad = "both",
    rank_weight: flags.RankWeight = None,
    rank_steepness: flags.RankSteepness = None,
    rank_surrogate: flags.RankSurrogate = None,
    rank_channels: flags.RankChannels = None,
    device: flags.Device = None,
    precision: flags.Precision = None,
    out: flags.Results = flags.DEFAULT_RESULTS,
    name: flags.Name = None,
    dry_run: flags.DryRun = False,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """Train the arms kd (ranking loss logged only) and kd_rank (backpropagated) in lockstep.

    Without arguments: scikit-learn's digits, three seeds, about a minute on a CPU.
    """
    from rkkd_cli.cli.options import flag_overrides, preset_label, split_words
    from rkkd_cli.config.arms import select_by_rank_grad
    from rkkd_cli.config.presets import load_experiment
    from rkkd_cli.records.run_directory import check_free, new_name

    preset, overrides = split_words(words)
    overrides += flag_overrides(ctx.params, flags.FLAG_KEYS)
    experiment = select_by_rank_grad(load_experiment(preset, overrides), rank_grad)
    chosen = name or new_name(preset_label(preset), datetime.now().astimezone())
    check_free(out, chosen, or_next=name is None)
    if dry_run:
        from rkkd_cli.cli.dry_run import print_plan

        print_plan(experiment, out / chosen, as_json)
        return
    from rkkd_cli.cli.execute import execute

    result = execute(experiment, out, chosen, or_next=name is None, quiet=quiet)
    if as_json:
        typer.echo(json.dumps(result.as_json()))
    elif quiet:
        typer.echo(result.path)
    else:
        result.print()
    raise typer.Exit(result.exit_status)
