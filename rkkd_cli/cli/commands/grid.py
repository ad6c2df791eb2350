"""``rkkd grid``: train every combination of the values of some keys."""

from collections.abc import Mapping
from typing import Any

import typer

from rkkd_cli.cli.flags import common as flags
from rkkd_cli.cli.flags import grid as own


def grid(
    ctx: typer.Context,
    words: flags.Words = None,
    alpha: own.Alpha = None,
    temperature: own.Temperature = None,
    vary: own.Vary = None,
    sample: own.Sample = None,
    sampler: own.Sampler = "random",
    sample_seed: own.SampleSeed = 0,
    yes: own.Yes = False,
    retry_failed: own.RetryFailed = False,
    fail_fast: own.FailFast = False,
    published: own.PublishedValues = None,
    engine: own.Engine = "local",
    workers: own.Workers = None,
    address: own.Address = None,
    gpus_per_job: own.GpusPerJob = None,
    cpus_per_job: own.CpusPerJob = None,
    cells_per_job: own.CellsPerJob = None,
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
    device: flags.Device = None,
    precision: flags.Precision = None,
    deterministic: flags.Deterministic = None,
    stack: flags.Stack = None,
    cuda_graph: flags.CudaGraph = None,
    cache_teacher: flags.CacheTeacher = None,
    sync_batchnorm: flags.SyncBatchNorm = None,
    out: flags.Results = flags.DEFAULT_RESULTS,
    name: flags.Name = None,
    checkpoint_minutes: flags.CheckpointMinutes = flags.DEFAULT_CHECKPOINT_MINUTES,
    tensorboard: flags.TensorBoard = False,
    wandb: flags.Wandb = False,
    mlflow: flags.MLflow = False,
    dry_run: flags.DryRun = False,
    quiet: flags.Quiet = False,
    as_json: flags.Json = False,
) -> None:
    """Train every combination of values in lockstep, with the student alone as baseline.

    The same command again goes on, or runs what is new: other values, further seeds. Without
    arguments: 5 × 9 values of alpha and temperature on scikit-learn's digits, in minutes.
    """
    from rkkd_cli.cli.flags.overrides import chosen_loggers, flag_overrides, split_words
    from rkkd_cli.cli.runtime.grid import GridRequest, run_grid
    from rkkd_cli.config.grid import Choice

    loggers = chosen_loggers(tensorboard, wandb, mlflow)
    preset, overrides = split_words(words)
    overrides += flag_overrides(ctx.params, own.FLAG_KEYS)
    choice = Choice(sample, sampler, sample_seed, yes)
    axes = _axes({"alpha": alpha, "temperature": temperature}, vary or [])
    request = GridRequest(preset, tuple(overrides), axes, choice, out, name)
    placing = own.Placing(engine, workers, address, gpus_per_job, cpus_per_job)
    placing.check(several_ranks=ctx.obj is not None)
    experiment = request.planned()
    if published:
        from rkkd_cli.cli.output.grid_result import read_stated

        read_stated(published, experiment)
    if dry_run:
        from rkkd_cli.cli.runtime.grid_dry_run import print_cells

        print_cells(request, experiment, retry_failed, as_json)
        return
    from rkkd_cli.cli.output.run_result import say_result
    from rkkd_cli.cli.runtime.engines import make_place

    place = make_place(placing, experiment, not fail_fast, ctx.obj)
    result = run_grid(
        request, place, cells_per_job, checkpoint_minutes, retry_failed, fail_fast, quiet,
        published, loggers, ctx.obj,
    )  # fmt: skip
    say_result(result, quiet, as_json)


def _axes(typed: Mapping[str, str | None], vary: list[str]) -> dict[str, tuple[Any, ...]]:
    """Return ``{key: values}`` of the typed flags and of every --vary. Raises UserError."""
    from rkkd_cli.config.overrides import looks_like_override
    from rkkd_cli.config.value_lists import parse_values
    from rkkd_cli.errors import UserError

    given = [
        (f"--{flag}", f"method.{flag}", text) for flag, text in typed.items() if text is not None
    ]
    for word in vary:
        key, _, text = word.partition("=")
        if not looks_like_override(word):
            raise UserError(f"--vary {word!r}: write KEY=VALUES, such as training.lr=0.1,0.05")
        given.append((f"--vary {key.strip()}", key.strip(), text))
    axes: dict[str, tuple[Any, ...]] = {}
    for said, key, text in given:
        if key in axes:
            raise UserError(f"{said}: {key} is varied twice; give all its values at once")
        try:
            axes[key] = parse_values(text)
        except ValueError as error:
            raise UserError(f"{said} {text!r}: {error}") from None
    return axes
