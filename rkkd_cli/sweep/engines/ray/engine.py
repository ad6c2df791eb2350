"""Runs jobs on a Ray cluster; this process records what they tell."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import ray
import torch

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.errors import RunError
from rkkd_cli.sweep.engines.ledger import MOST_RETRIES, Ledger
from rkkd_cli.sweep.engines.local import Engine
from rkkd_cli.sweep.engines.pool import SECONDS_BETWEEN_LOOKS, Pool, WorkerDied
from rkkd_cli.sweep.engines.ray.cluster import Actor, Cluster
from rkkd_cli.sweep.engines.ray.teacher_files import Shipped, files_here
from rkkd_cli.sweep.engines.worker import EVENT, FAILED, STOPPED, WorkerOptions, unpack
from rkkd_cli.sweep.jobs import Job, teacher_of
from rkkd_cli.sweep.recording.run_state import Begun
from rkkd_cli.sweep.sources import dataset_facts, read_dataset
from rkkd_cli.train.events import DatasetReady, Event, Note, TeacherReady, Tick
from rkkd_cli.train.stop_controller import StopController
from rkkd_cli.train.teacher.store import TeacherStore


def on_ray(cluster: Cluster, keep_going: bool) -> Engine:
    """Return the engine that runs jobs on the cluster."""

    def engine(
        begun: Begun,
        device: torch.device,
        cache: Path,
        controller: StopController,
        jobs: Sequence[Job],
    ) -> Iterator[Event]:
        threads, deterministic = torch.get_num_threads(), begun.experiment.deterministic
        cluster.settings = WorkerOptions(str(device), threads, deterministic, controller.minutes)
        pool = Pool(cluster, Ledger(begun, keep_going), controller)
        try:
            for key, sharing in groupby(jobs, key=lambda job: teacher_of(job.experiment)):
                experiment = next(sharing).experiment
                ticket = yield from _share(experiment, cluster, cache, controller, begun)
                cluster.tickets[repr(key)] = ticket
            with controller.graceful():
                yield from pool.run(jobs)
        finally:
            pool.end()
            for actor in cluster.spare:
                actor.end()
        controller.raise_if_stopped()

    return engine


def _share(
    experiment: Experiment, cluster: Cluster, cache: Path, controller: StopController, begun: Begun
) -> Generator[Event, None, tuple[Any, Any]]:
    """Put the images and the teacher where all nodes find them; return what refers to them."""
    dataset = yield from read_dataset(experiment, cache)
    begun.check_dataset(experiment, dataset.fingerprint)
    yield DatasetReady(dataset_facts(dataset))
    stores = [folder for folder in (begun.teachers, cache) if folder]
    files, images = files_here(experiment, dataset, stores), ray.put(dataset)
    shipped = yield from _taught(experiment, images, files, cluster, controller)
    begun.check_teacher(experiment, shipped.fingerprint)
    in_cache = "key" in shipped.facts
    if in_cache:
        TeacherStore(cache).put(shipped.facts["key"], shipped.files)
    yield TeacherReady(shipped.facts, cache if in_cache else None)
    return images, ray.put(shipped)


def _taught(
    experiment: Experiment,
    images: Any,
    files: Mapping[str, bytes],
    cluster: Cluster,
    controller: StopController,
) -> Generator[Event, None, Shipped]:
    """Return the teacher that a worker has loaded or trained; a worker that dies is replaced."""
    deaths = 0
    while True:
        actor = cluster.start()
        try:
            actor.teach(experiment, images, files)
            shipped = yield from _until_taught(actor, cluster, controller)
        except WorkerDied as death:
            deaths += 1
            if deaths > MOST_RETRIES:
                raise RunError(f"{death}, {deaths} times while the teacher was trained") from None
            cluster.room()
            yield Note(f"{death}; the teacher begins again")
        else:
            cluster.spare.append(actor)
            return shipped


def _until_taught(
    actor: Actor, cluster: Cluster, controller: StopController
) -> Generator[Event, None, Shipped]:
    is_stopping = False
    with controller.graceful():
        while True:
            if controller.stop_requested and not is_stopping:
                is_stopping = True
                actor.ask_to_stop()
            if not cluster.wait([actor], SECONDS_BETWEEN_LOOKS):
                yield Tick()
                continue
            kind, content = actor.receive()
            if kind == EVENT:
                yield unpack(content)
            elif kind == FAILED:
                raise RunError(content)
            elif kind == STOPPED:
                controller.raise_if_stopped()
            else:
                shipped: Shipped = content
                return shipped
