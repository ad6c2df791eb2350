"""Runs jobs one after another in this process."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from rkkd_cli.data.stream import Stream
from rkkd_cli.data.streaming.pool import ImageError
from rkkd_cli.errors import RunError
from rkkd_cli.methods import wants_strong_view
from rkkd_cli.sweep.engines.worker import told
from rkkd_cli.sweep.jobs import Job, teacher_of
from rkkd_cli.sweep.logit_cache import describe_logit_cache, logit_cache_of
from rkkd_cli.sweep.recording.run_state import Begun
from rkkd_cli.sweep.sources import Sources, open_sources
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.cost import costs_of
from rkkd_cli.train.cuda_graph import CudaGraphRecorder, GraphRecorder
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from rkkd_cli.train.events import (
    BatchDone,
    Checkpoint,
    EpochDone,
    Event,
    JobFailed,
    Note,
    StreamStarted,
    Tick,
)
from rkkd_cli.train.lockstep import Lockstep
from rkkd_cli.train.profile import Spans, untimed
from rkkd_cli.train.stacked.trial import seconds_a_step
from rkkd_cli.train.stop_controller import StopController
from rkkd_cli.train.teacher.model import Teacher

Engine = Callable[[Begun, torch.device, Path, StopController, Sequence[Job]], Iterator[Event]]


def run_jobs(
    begun: Begun,
    device: torch.device,
    cache: Path,
    controller: StopController,
    jobs: Sequence[Job] | None = None,
    keep_going: bool = False,
    process_group: ProcessGroup = SINGLE_PROCESS,
    spans: Spans = untimed,
) -> Iterator[Event]:
    """Yield everything that happens, from reading the images to the last epoch of the last job.

    Without ``jobs``, those that are left. With ``keep_going`` a job whose training fails (out of
    memory, say) is given up, and the others go on: not among several ``ranks``, of which each
    must do the same.
    """
    assert process_group.world_size == 1 or not keep_going
    left = begun.plan() if jobs is None else jobs
    for _, sharing in groupby(left, key=lambda job: teacher_of(job.experiment)):
        same = list(sharing)
        try:
            shared = same[0].experiment
            sources = yield from open_sources(
                shared, device, cache, controller, begun, process_group
            )
        except RunError as error:
            yield from _given_up(same, error, keep_going)
            continue
        for job in same:
            try:
                yield from run_job(
                    job, sources, begun.states.get(job.name), controller, process_group, spans
                )
            except (RuntimeError, MemoryError) as error:  # a RunError, or what torch raises
                yield from _given_up([job], error, keep_going)


def _given_up(jobs: Sequence[Job], error: Exception, keep_going: bool) -> Iterator[JobFailed]:
    if not keep_going:
        raise error
    for job in jobs:
        yield JobFailed(job.name, job.seed, tuple(arm.name for arm in job.arms), told(error))


def run_job(
    job: Job,
    sources: Sources,
    state: Mapping[str, Any] | None,
    controller: StopController,
    process_group: ProcessGroup = SINGLE_PROCESS,
    spans: Spans = untimed,
) -> Generator[Event, None, None]:
    """Train the job's arms from where its state is to their last epoch."""
    recipe, teacher = job.experiment.training, sources.teacher
    strong = any(wants_strong_view(arm.experiment.method) for arm in job.arms)
    stream = Stream(sources.dataset, teacher.device, recipe.batch_size, job.seed, strong)
    stacked = yield from _stacked(job, stream, teacher, state, process_group)
    arms = [
        ArmOnStream(arm, job.seed, teacher, stream.data.labels, process_group) for arm in job.arms
    ]
    logit_cache = logit_cache_of(job, sources)
    recorder = yield from _recorder(job, teacher, spans)
    how = recipe.epochs, sources.held_out, stacked, logit_cache, process_group, spans, recorder
    lockstep = Lockstep(job.name, stream, teacher, arms, *how)
    if state is not None:
        lockstep.load(state["lockstep"])
    for arm in lockstep.active:  # other hardware may have drawn other first weights
        process_group.all_reduce(
            [], [*arm.trained.model.parameters(), *arm.trained.model.buffers()]
        )
    active = {one.name for one in lockstep.active}
    yield StreamStarted(
        job.name,
        job.seed,
        tuple(arm for arm in job.arms if arm.name in active),
        recipe.epochs,
        len(stream),
        lockstep.epochs_done,
        lockstep.batches_done,
        costs_of(lockstep.active, teacher),
    )
    where = {"seed": job.seed, "number": job.number, "sources": sources.fingerprints}
    if logit_cache is not None:
        yield Note(describe_logit_cache(logit_cache, recipe.epochs))
    if job.is_retry and state is None:  # from now on the cells are this stream's
        yield Checkpoint(job.name, {"lockstep": lockstep.state(), **where})
    yield from _train(lockstep, where, controller)


def _stacked(
    job: Job,
    stream: Stream,
    teacher: Teacher,
    state: Mapping[str, Any] | None,
    process_group: ProcessGroup,
) -> Generator[Event, None, bool]:
    """Tell whether the arms step as stacks: as told, as before, or as a trial shows.

    Several ranks hold no trial: each would come to its own end.
    """
    if state is not None:
        return bool(state["lockstep"]["stacked"])
    wanted = job.experiment.stacked
    if (
        wanted is not None
        or process_group.world_size > 1
        or teacher.device.type != "cuda"
        or len(job.arms) < 2
    ):
        return bool(wanted)
    batch, labels = next(stream.epoch(1)), stream.data.labels
    alone, together = seconds_a_step(job.arms, job.seed, teacher, batch, labels)
    times = f"{1e3 * together:.1f} ms a batch stacked, {1e3 * alone:.1f} ms one after another"
    yield Note(f"{len(job.arms)} arms take {times}")
    return together < alone


def _recorder(
    job: Job, teacher: Teacher, spans: Spans
) -> Generator[Event, None, GraphRecorder | None]:
    """Return what records steps, if they shall be."""
    if not job.experiment.cuda_graph:
        return None
    if spans is not untimed:
        yield Note("a profile is of steps without a CUDA graph, which has no parts to look at")
        return None
    return CudaGraphRecorder(teacher.device)


def _train(
    lockstep: Lockstep, where: Mapping[str, Any], controller: StopController
) -> Iterator[Event]:
    """Train to the end; yields a checkpoint whenever one is due, and before a broken image."""

    def kept() -> Iterator[Event]:
        yield from lockstep.stop_diverged()
        yield Checkpoint(lockstep.name, {"lockstep": lockstep.state(), **where})

    with controller.graceful():
        try:
            for event in lockstep.train():
                yield event
                may_leave = isinstance(event, BatchDone | Tick | EpochDone)
                if may_leave and controller.should_checkpoint(isinstance(event, EpochDone)):
                    yield from kept()
                    controller.raise_if_stopped()
        except ImageError:
            if lockstep.process_group.world_size == 1:  # the others cannot know
                yield from kept()
            raise
