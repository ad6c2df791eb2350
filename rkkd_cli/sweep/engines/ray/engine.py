"""Runs jobs on a Ray cluster; this process records their events."""

from collections.abc import Generator, Iterator, Mapping
from typing import Any

import ray
import torch

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.errors import RunError
from rkkd_cli.sweep.engines.commit_buffer import MAX_RETRIES, CommitBuffer
from rkkd_cli.sweep.engines.pool import POLL_SECONDS, Pool, WorkerDied
from rkkd_cli.sweep.engines.ray.cluster import Actor, Cluster
from rkkd_cli.sweep.engines.ray.teacher_files import TeacherBundle, read_teacher_files
from rkkd_cli.sweep.engines.worker import EVENT, FAILED, STOPPED, WorkerOptions, deserialize
from rkkd_cli.sweep.recording.run_state import Origin, Work
from rkkd_cli.sweep.sources import dataset_facts, named, read_dataset
from rkkd_cli.train.events import DatasetReady, Event, Note, TeacherReady, Tick
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import StopController
from rkkd_cli.train.teacher.several import joint_fingerprint
from rkkd_cli.train.teacher.store import TeacherStore


class RayEngine:
    """A Ray cluster. With ``keep_going`` a job that fails is given up, and the others continue."""

    def __init__(self, cluster: Cluster, keep_going: bool) -> None:
        self.cluster, self.keep_going = cluster, keep_going
        self.jobs_at_once = cluster.checked_capacity()
        self.threads = cluster.resources.cpus

    def device(self, name: str) -> torch.device:
        """Return the device of the cluster's jobs."""
        return self.cluster.resources.device

    def free_memory(self, device: torch.device) -> int:
        """Return the free bytes for each job on a worker's machine. Raises RunError."""
        return self.cluster.free_memory_per_job()

    def run(self, work: Work, runtime: Runtime) -> Iterator[Event]:
        """Yield all events until the work is done."""
        cluster, controller = self.cluster, runtime.controller
        experiments = [arm.experiment for job in work.jobs for arm in job.arms]
        cluster.options = WorkerOptions.like_this_process(str(runtime.device), experiments, runtime)
        pool = Pool(cluster, CommitBuffer(work.states, self.keep_going), controller)
        try:
            for key, jobs in work.by_sources():
                refs = yield from _put_sources(jobs[0].experiment, cluster, runtime, work.origin)
                cluster.object_refs[key] = refs
            with controller.graceful():
                yield from pool.run(work.jobs)
        finally:
            pool.end()
            for actor in cluster.idle:
                actor.end()
        controller.raise_if_stopped()


def _put_sources(
    experiment: Experiment, cluster: Cluster, runtime: Runtime, origin: Origin
) -> Generator[Event, None, tuple[Any, Any]]:
    """Put the images and the teachers into Ray's object store; return references to both."""
    cache = runtime.cache
    dataset = yield from read_dataset(experiment, cache)
    origin.check_dataset(experiment, dataset.fingerprint)
    yield DatasetReady(dataset_facts(dataset))
    folders = [folder for folder in (origin.teachers, cache) if folder]
    dataset_ref, bundles = ray.put(dataset), {}
    for name in experiment.named_teachers:
        alone = experiment.taught_by(name)
        files = read_teacher_files(alone, dataset, folders)
        bundles[name] = yield from _obtain_teacher(
            alone, dataset_ref, files, cluster, runtime.controller
        )
    fingerprints = {name: bundle.fingerprint for name, bundle in bundles.items()}
    origin.check_teacher(experiment, joint_fingerprint(fingerprints))
    for name, bundle in bundles.items():
        in_cache = "key" in bundle.facts
        if in_cache:
            TeacherStore(cache).write_files(bundle.facts["key"], bundle.files)
        yield named(TeacherReady(bundle.facts, cache if in_cache else None), experiment, name)
    return dataset_ref, ray.put(bundles)


def _obtain_teacher(
    experiment: Experiment,
    dataset_ref: Any,
    files: Mapping[str, bytes],
    cluster: Cluster,
    controller: StopController,
) -> Generator[Event, None, TeacherBundle]:
    """Return the teacher that a worker has loaded or trained; replaces a worker that dies."""
    deaths = 0
    while True:
        actor = cluster.start()
        try:
            actor.obtain_teacher(experiment, dataset_ref, files)
            bundle = yield from _receive_bundle(actor, cluster, controller)
        except WorkerDied as death:
            deaths += 1
            if deaths > MAX_RETRIES:
                raise RunError(f"{death}, {deaths} times while the teacher was trained") from None
            cluster.capacity()  # raises RunError if there can be no worker any more
            yield Note(f"{death}; the training of the teacher begins again")
        else:
            cluster.idle.append(actor)
            return bundle


def _receive_bundle(
    actor: Actor, cluster: Cluster, controller: StopController
) -> Generator[Event, None, TeacherBundle]:
    is_stopping = False
    with controller.graceful():
        while True:
            if controller.stop_requested and not is_stopping:
                is_stopping = True
                actor.request_stop()
            if not cluster.wait([actor], POLL_SECONDS):
                yield Tick()
                continue
            kind, content = actor.receive()
            if kind == EVENT:
                yield deserialize(content)
            elif kind == FAILED:
                raise RunError(content)
            elif kind == STOPPED:
                controller.raise_if_stopped()
            else:
                bundle: TeacherBundle = content
                return bundle
