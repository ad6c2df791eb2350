"""``rkkd run``: train the arms of an experiment, record them, draw the figures."""

from datetime import datetime
from pathlib import Path

import typer

from rkkd_cli.cli.flags import common as flags
from rkkd_cli.cli.flags.keys import FLAG_KEYS


def run(
    ctx: typer.Context,
    words: flags.Words = None,
    dataset: flags.Dataset = None,
    data_root: flags.DataRoot = None,
    limit_train: flags.LimitTrain = None,
    limit_test: flags.LimitTest = None,
    val_share: flags.ValShare = None,
    stream: flags.Stream = None,
    teacher: flags.TeacherModel = None,
    teacher_checkpoint: flags.TeacherCheckpoint = None,
    student: flags.StudentModel = None,
    seeds: flags.Seeds = None,
    method: flags.Method = None,
    standardize_logits: flags.StandardizeLogits = None,
    epochs: flags.Epochs = None,
    batch_size: flags.BatchSize = None,
    lr: flags.LearningRate = None,
    patience: flags.Patience = None,
    min_delta: flags.MinDelta = None,
    monitor: flags.Monitor = None,
    alpha: flags.Alpha = None,
    temperature: flags.Temperature = None,
    rank_grad: flags.RankGrad = "both",
    rank_weight: flags.RankWeight = None,
    rank_steepness: flags.RankSteepness = None,
    rank_surrogate: flags.RankSurrogate = None,
    rank_channels: flags.RankChannels = None,
    device: flags.Device = None,
    precision: flags.Precision = None,
    deterministic: flags.Deterministic = None,
    stack: flags.Stack = None,
    cuda_graph: flags.CudaGraph = None,
    cache_teacher: flags.CacheTeacher = None,
    sync_batchnorm: flags.SyncBatchNorm = None,
    out: flags.Results = flags.DEFAULT_RESULTS,
    name: flags.Name = None,
    resume: flags.Resume = None,
    checkpoint_minutes: flags.CheckpointMinutes = flags.DEFAULT_CHECKPOINT_MINUTES,
    tensorboard: flags.TensorBoard = False,
    wandb: flags.Wandb = False,
    mlflow: flags.MLflow = False,
    dry_run: flags.DryRun = False,
    quiet: flags.Quiet = False,
    profile: flags.Profile = False,
    as_json: flags.Json = False,
) -> None:
    """Train the arms kd (ranking loss logged only) and kd_rank (backpropagated) in lockstep.

    Without arguments: scikit-learn's digits, three seeds, about a minute on a CPU.
    """
    from rkkd_cli.cli.flags.overrides import (
        chosen_loggers,
        flag_overrides,
        preset_label,
        requested_by,
        split_words,
    )
    from rkkd_cli.cli.runtime.begun import begun_before_restart, begun_run, planned
    from rkkd_cli.records.run_directory import AUTO, check_free, new_name

    loggers = chosen_loggers(tensorboard, wandb, mlflow)
    preset, overrides = split_words(words)
    overrides += flag_overrides(ctx.params, FLAG_KEYS)
    request = requested_by(preset, overrides, rank_grad, from_record=resume not in (None, AUTO))
    begun = begun_run(resume, name, out) or (None if dry_run else begun_before_restart(out))
    chosen = name or new_name(preset_label(preset), datetime.now().astimezone())
    if begun is None:
        request(None)  # what is wrong with it is said first
        check_free(out, chosen, or_next=name is None)
    if dry_run:
        from rkkd_cli.cli.runtime.dry_run import print_plan

        print_plan(planned(begun, request), begun.path if begun else out / chosen, as_json)
        return
    from rkkd_cli.cli.output.run_result import say_result
    from rkkd_cli.cli.runtime.execute import Manner, begin, go_on
    from rkkd_cli.cli.runtime.profile import engine_of, say_profile, watch_for

    watch = watch_for(profile, ctx.obj)
    manner = Manner(checkpoint_minutes, quiet, engine_of(watch), loggers=loggers).on(ctx.obj)
    if begun is None:
        result = begin(request(None), out, chosen, name is None, manner)
    else:
        result = go_on(begun, request, manner)
    say_profile(watch, Path(result.path))
    say_result(result, quiet, as_json)
