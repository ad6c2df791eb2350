"""Runs jobs one after another in this process."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

import torch

from rkkd_cli.data.detection.dataset import DetectionDataset
from rkkd_cli.data.model_input import ModelInput
from rkkd_cli.data.on_device import AnyDataset, AnyStream, open_stream
from rkkd_cli.data.stream import Stream
from rkkd_cli.data.streaming.loader import ImageError
from rkkd_cli.errors import RunError
from rkkd_cli.methods import wants_strong_view
from rkkd_cli.sweep.engines.engine import job_failed
from rkkd_cli.sweep.engines.worker import error_line
from rkkd_cli.sweep.estimate import free_memory
from rkkd_cli.sweep.jobs import Job
from rkkd_cli.sweep.logit_cache import describe_logit_cache, logit_cache_of
from rkkd_cli.sweep.recording.run_state import Work
from rkkd_cli.sweep.sources import Sources, open_sources
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.cost import inference_costs
from rkkd_cli.train.cuda_graph import CudaGraphRecorder
from rkkd_cli.train.device import pick_device
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
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stacked.stack import can_stack
from rkkd_cli.train.stacked.trial import seconds_per_step
from rkkd_cli.train.teacher.preprocessing import preprocessing_facts

State = Mapping[str, Any]

NO_STACKS = (
    "no arms are stacked: their students differ, draw noise (dropout, drop path), or are trained "
    "by methods that read features"
)


class LocalEngine:
    """This process. With ``keep_going`` a job that fails is given up, and the others continue."""

    jobs_at_once = 1
    threads = None

    def __init__(self, keep_going: bool = False) -> None:
        self.keep_going = keep_going

    def device(self, name: str) -> torch.device:
        """Return the device of an experiment's ``device`` setting. Raises UserError."""
        return pick_device(name)

    def free_memory(self, device: torch.device) -> int:
        """Return the free bytes of the device."""
        return free_memory(device)

    def run(self, work: Work, runtime: Runtime) -> Iterator[Event]:
        """Yield all events until the work is done."""
        return run_jobs(work, runtime, self.keep_going)


def run_jobs(work: Work, runtime: Runtime, keep_going: bool = False) -> Iterator[Event]:
    """Yield all events, from reading the images to the last epoch of the last job.

    With ``keep_going`` a job that fails (for lack of memory, say) is given up, and the others
    continue. Several ranks cannot do that, as each would have to do the same.
    """
    assert runtime.process_group.world_size == 1 or not keep_going
    for _, jobs in work.by_sources():
        try:
            sources = yield from open_sources(jobs[0].experiment, runtime, work.origin)
        except RunError as error:
            yield from _give_up(jobs, error, keep_going)
            continue
        for job in jobs:
            try:
                yield from run_job(job, sources, work.states.get(job.name), runtime)
            except (RuntimeError, MemoryError) as error:  # a RunError, or what torch raises
                yield from _give_up([job], error, keep_going)


def _give_up(jobs: Sequence[Job], error: Exception, keep_going: bool) -> Iterator[JobFailed]:
    if not keep_going:
        raise error
    for job in jobs:
        yield job_failed(job, error_line(error))


def run_job(
    job: Job, sources: Sources, state: State | None, runtime: Runtime
) -> Generator[Event, None, None]:
    """Train the job's arms from ``state``, or from their first weights, to their last epoch.

    Yields a checkpoint whenever one is due, and before a damaged image stops the training.
    """
    lockstep = yield from _start_lockstep(job, sources, state, runtime)
    origin = {"seed": job.seed, "number": job.number, "sources": sources.fingerprints}
    if job.is_retry and state is None:  # from now on the cells belong to this stream
        yield Checkpoint(job.name, {"lockstep": lockstep.state(), **origin})

    def checkpoint() -> Iterator[Event]:
        yield from lockstep.stop_diverged()
        yield Checkpoint(job.name, {"lockstep": lockstep.state(), **origin})

    controller = runtime.controller
    with controller.graceful():
        try:
            for event in lockstep.train():
                yield event
                may_stop = isinstance(event, BatchDone | Tick | EpochDone)
                if may_stop and controller.should_checkpoint(isinstance(event, EpochDone)):
                    yield from checkpoint()
                    controller.raise_if_stopped()
        except ImageError:
            if runtime.process_group.world_size == 1:  # other ranks would not take part
                yield from checkpoint()
                controller.raise_if_stopped()  # the signal may have ended the decoders, too
            raise


def _start_lockstep(
    job: Job, sources: Sources, state: State | None, runtime: Runtime
) -> Generator[Event, None, Lockstep]:
    """Return the job's arms in lockstep, as they were in ``state``; yields what the user sees."""
    recipe, teacher = job.experiment.training, sources.teacher
    process_group = runtime.process_group.for_batches(teacher.task.compares_images)
    strong = any(wants_strong_view(arm.experiment.method) for arm in job.arms)
    stream = open_stream(
        sources.dataset,
        teacher.device,
        recipe.batch_size,
        job.seed,
        strong,
        recipe.last_batch,
        recipe.per_class,
        recipe.batches_per_epoch,
    )
    stacked = yield from _choose_stacking(job, stream, sources, state, runtime)
    labels = stream.data.labels if isinstance(stream, Stream) else torch.empty(0)
    logit_cache = logit_cache_of(job, sources, runtime.cache)
    lockstep = Lockstep(
        name=job.name,
        stream=stream,
        teacher=teacher,
        arms=[ArmOnStream(arm, job.seed, teacher, labels, process_group) for arm in job.arms],
        epochs=recipe.epochs,
        held_out=sources.held_out,
        stacked=stacked,
        logit_cache=logit_cache,
        process_group=process_group,
        graph_recorder=CudaGraphRecorder(runtime.device) if job.experiment.cuda_graph else None,
        image_facts=_image_facts(job, sources.dataset),
    )
    if state is not None:
        lockstep.load(state["lockstep"])
    active = {arm.name for arm in lockstep.active}
    yield StreamStarted(
        stream=job.name,
        seed=job.seed,
        arms=tuple(arm for arm in job.arms if arm.name in active),
        epochs=recipe.epochs,
        batches=len(stream),
        epochs_done=lockstep.epochs_done,
        batches_done=lockstep.batches_done,
        costs=_student_facts(lockstep.active),
        objectives={arm.name: arm.objective.text(recipe.epochs) for arm in lockstep.active},
    )
    began = (arm.first_weights for arm in lockstep.active if arm.first_weights is not None)
    yield from (Note(f"the student {text}") for text in dict.fromkeys(map(str, began)))
    if job.experiment.stacked and len(lockstep.active) > 1 and not can_stack(lockstep.active):
        yield Note(NO_STACKS)
    if logit_cache is not None:
        yield Note(describe_logit_cache(logit_cache, recipe.epochs))
    return lockstep


def _student_facts(arms: Sequence[ArmOnStream]) -> dict[str, Any]:
    """Return each arm's cost, first weights and input, for the manifest."""
    costs = inference_costs(arms)
    # The first weights are hashed once for all arms of a student.
    origins = {arm.experiment.student: arm for arm in arms}
    facts = {student: arm.origin_facts() for student, arm in origins.items()}
    return {arm.name: {**costs[arm.name], **facts[arm.experiment.student]} for arm in arms}


def _image_facts(job: Job, dataset: AnyDataset) -> dict[str, Any]:
    """Return what the weights files of students say about the images."""
    images = dataset.image_format
    facts = preprocessing_facts(dataset, ModelInput(images, images))
    if isinstance(dataset, DetectionDataset):
        return facts | {"min_size": dataset.test_size, "max_size": dataset.max_size}
    is_held_out = dataset.crop != "padded" and dataset.is_streamed
    return facts | {"fit": "held_out" if is_held_out else job.experiment.dataset.resize}


def _choose_stacking(
    job: Job, stream: AnyStream, sources: Sources, state: State | None, runtime: Runtime
) -> Generator[Event, None, bool]:
    """Return whether to stack the arms: as configured, as before, or as a trial decides.

    Several ranks hold no trial, as each could come to another result.
    """
    if state is not None:
        return bool(state["lockstep"]["stacked"])
    configured, ranks = job.experiment.stacked, runtime.process_group.world_size
    on_cuda = runtime.device.type == "cuda"
    if configured is not None or ranks > 1 or not on_cuda or len(job.arms) < 2:
        return bool(configured)
    assert isinstance(stream, Stream)
    batch, labels = next(stream.epoch(1)), stream.data.labels
    one_by_one, stacked = seconds_per_step(job.arms, job.seed, sources.teacher, batch, labels)
    times = f"{1e3 * stacked:.1f} ms a batch stacked, {1e3 * one_by_one:.1f} ms one after another"
    yield Note(f"{len(job.arms)} arms take {times}")
    return stacked < one_by_one
