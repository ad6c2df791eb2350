"""Connects to a Ray cluster, and starts workers on it. Needs the extra rkkd[ray]."""

import os
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.sweep.engines.pool import WorkerDied
from rkkd_cli.sweep.engines.ray.worker import RayWorker, versions
from rkkd_cli.sweep.engines.worker import Message, WorkerOptions
from rkkd_cli.sweep.estimate import free_memory
from rkkd_cli.sweep.jobs import Job, SourcesKey, sources_key

SECONDS_TO_CONNECT = 5.0
SECONDS_TO_START = 60.0
MAX_UNREAD_MESSAGES = 8  # a worker waits while there are so many


@dataclass(frozen=True)
class JobResources:
    """The resources of each job, and how many jobs may run at once (None: all that fit)."""

    cpus: int
    gpus: float
    max_jobs: int | None

    @property
    def device(self) -> torch.device:
        """The device of the jobs."""
        return torch.device("cuda" if self.gpus else "cpu")

    def fit(self, resources: Mapping[str, float]) -> int:
        """Return how many jobs fit on a node with these resources."""
        by_cpu = int(resources.get("CPU", 0) // self.cpus)
        return min(by_cpu, int(resources.get("GPU", 0) / self.gpus + 1e-9)) if self.gpus else by_cpu

    def describe(self) -> str:
        """Return the resources in words."""
        gpus = f" and {self.gpus:g} GPU" + "s" * (self.gpus > 1) if self.gpus else ""
        return f"{self.cpus} CPU" + "s" * (self.cpus > 1) + gpus


def connect(address: str | None) -> None:
    """Connect to the cluster; without an address, start one on this machine.

    Raises UserError for one that cannot be reached.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if address and address.startswith("ray://"):
        raise UserError(
            f"--address {address}: Ray's client cannot stream; run rkkd on a node of the cluster, "
            "with --address auto"
        )
    if address and address != "auto":
        _check_reachable(address)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options = {} if address else {"include_dashboard": False}
    try:
        with _keep_signal_handlers():
            ray.init(
                address=address, log_to_driver=False, logging_level="ERROR",
                ignore_reinit_error=True, **options,
            )  # fmt: skip
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        why = " ".join(str(error).split())
        hint = "" if address is None else "; if it asks for a token, set RAY_AUTH_MODE=token"
        origin = f"--address {address}" if address else "started on this machine"
        raise UserError(f"cannot connect to a Ray cluster ({origin}): {why}{hint}") from None


def _check_reachable(address: str) -> None:
    """Raise UserError unless there may be a cluster.

    At a closed port, or one of something else, ``ray.init`` has no timeout of its own and tries for
    minutes. So the port is tried first, and whether HTTP/2, hence gRPC, is spoken there: its first
    frame is of type 4, SETTINGS.
    """
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        raise UserError(f"--address {address!r}: write HOST:PORT, or auto for the cluster at hand")
    try:
        with socket.create_connection((host, int(port)), SECONDS_TO_CONNECT) as connection:
            uses_tls = os.environ.get("RAY_USE_TLS", "0") != "0"
            if not uses_tls and connection.recv(4)[3:] != b"\4":
                raise OSError("something else is listening there")
    except (OSError, OverflowError) as error:
        raise UserError(
            f"no Ray cluster answers at {address}: {error}; start one with `ray start --head`, or "
            "leave out --address"
        ) from None


@contextmanager
def _keep_signal_handlers() -> Iterator[None]:
    """Restore this program's signal handlers, which Ray replaces."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _nodes() -> list[Mapping[str, float]]:
    """Return the resources of each node of the cluster, busy or not."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def cluster_has_gpus() -> bool:
    """Tell whether any node has a GPU."""
    return any(node.get("GPU", 0) > 0 for node in _nodes())


class Cluster:
    """A connected cluster, as the worker factory of a pool.

    Workers get ``options`` with each task, and with each job the ``object_refs`` of its images and
    its teacher.
    """

    def __init__(self, resources: JobResources) -> None:
        self.resources = resources
        self.options: WorkerOptions | None = None
        self.object_refs: dict[SourcesKey, tuple[Any, Any]] = {}
        self.idle: list[Actor] = []

    def checked_capacity(self) -> int:
        """Return how many workers there can be. Raises UserError if no node has the resources."""
        try:
            return self.capacity()
        except RunError as error:
            counts = [(node.get("CPU", 0), node.get("GPU", 0)) for node in _nodes()]
            listed = "; ".join(f"{cpus:g} CPUs, {gpus:g} GPUs" for cpus, gpus in counts)
            raise UserError(
                f"{error} (nodes: {listed}); ask for less with --cpus-per-job and --gpus-per-job"
            ) from None

    def capacity(self) -> int:
        """Return how many workers there can be. Raises RunError if there can be none."""
        fit = sum(self._fit_on_nodes())
        if not fit:
            raise RunError(f"no node of the cluster has {self.resources.describe()} for a job")
        return min(fit, self.resources.max_jobs or fit)

    def _fit_on_nodes(self) -> list[int]:
        return [self.resources.fit(node) for node in _nodes()]

    def start(self) -> "Actor":
        """Return an idle worker, or a new one, which Ray starts when there are resources for it."""
        return self.idle.pop() if self.idle else Actor(self)

    def wait(self, workers: Sequence["Actor"], seconds: float) -> list["Actor"]:
        """Return the workers that have sent a message or died, after at most so many seconds."""
        by_messages = {worker.messages: worker for worker in workers}
        if not by_messages:
            return []
        streams = list(by_messages)
        ray.wait(streams, num_returns=1, timeout=seconds)
        ready, _ = ray.wait(streams, num_returns=len(streams), timeout=0)
        return [by_messages[stream] for stream in ready]

    def free_memory_per_job(self) -> int:
        """Return the free bytes for each job on a worker's machine. Raises RunError.

        The jobs of a node share its memory; on GPUs, the jobs of one GPU share that. While the
        cluster has no resources left, this machine's memory is taken instead of a worker's.
        """
        actor = self.start()
        try:
            reply = actor.handle.free_memory.remote(str(self.resources.device))
            free: int = ray.get(reply, timeout=SECONDS_TO_START)
        except GetTimeoutError:
            free = free_memory(torch.device("cpu"))
        except RayTaskError as error:
            raise RunError(_cause(error)) from None
        except RayError as error:
            raise RunError(f"no worker starts on the cluster: {_cause(error)}") from None
        self.idle.append(actor)
        max_fit = max(self._fit_on_nodes())
        jobs_on_node = min(max_fit, self.resources.max_jobs or max_fit)
        sharing = int(1 / self.resources.gpus) if self.resources.gpus else jobs_on_node
        return free // max(1, sharing)


class Actor:
    """A worker on the cluster, which does one task at a time."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, resources = cluster, cluster.resources
        self.handle = ray.remote(RayWorker).options(
            num_cpus=resources.cpus, num_gpus=resources.gpus, max_concurrency=2,
        ).remote(versions())  # fmt: skip
        self.messages: Any = None

    def obtain_teacher(
        self, experiment: Experiment, dataset_ref: Any, files: Mapping[str, bytes]
    ) -> None:
        """Start loading the teacher, or training it if it has no files."""
        obtain_teacher = _streaming(self.handle.obtain_teacher)
        self.messages = obtain_teacher.remote(self.cluster.options, experiment, dataset_ref, files)

    def submit(self, job: Job, state: bytes | None) -> None:
        """Start training the job from a serialised state."""
        dataset_ref, bundle_ref = self.cluster.object_refs[sources_key(job.experiment)]
        train = _streaming(self.handle.train)
        self.messages = train.remote(self.cluster.options, job, state, dataset_ref, bundle_ref)

    def receive(self) -> Message:
        """Return the next message. Raises WorkerDied."""
        try:
            message: Message = ray.get(next(self.messages))
        except (RayError, StopIteration) as error:
            raise WorkerDied(f"a worker of the cluster ended: {_cause(error)}") from None
        return message

    def request_stop(self) -> None:
        """Ask the worker to stop after its current step and a checkpoint."""
        self.handle.stop.remote()

    def end(self) -> None:
        """Kill the worker."""
        with suppress(RayError):
            ray.kill(self.handle)


def _streaming(method: Any) -> Any:
    return method.options(
        num_returns="streaming", _generator_backpressure_num_objects=MAX_UNREAD_MESSAGES
    )


def _cause(error: BaseException) -> str:
    """Return the line of one of Ray's errors that says what happened."""
    if isinstance(error, RayTaskError):
        return " ".join(str(error.cause).split())
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
