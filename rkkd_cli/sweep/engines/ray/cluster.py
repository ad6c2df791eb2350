"""A Ray cluster: connecting, what fits on it, and its workers. Needs the extra rkkd[ray]."""

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
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # what gRPC, hence Ray, begins with
HTTP2_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # an empty frame of type 4
UNREAD_MESSAGES = 8  # a worker waits when so many are on their way


@dataclass(frozen=True)
class Request:
    """What each job asks of the cluster, and how many may run at once (None: all that fit)."""

    cpus: int
    gpus: float
    most: int | None

    @property
    def device(self) -> torch.device:
        """Where the jobs compute."""
        return torch.device("cuda" if self.gpus else "cpu")

    def fit(self, resources: Mapping[str, float]) -> int:
        """Return how many jobs fit on a node with these resources."""
        by_cpu = int(resources.get("CPU", 0) // self.cpus)
        return min(by_cpu, int(resources.get("GPU", 0) / self.gpus + 1e-9)) if self.gpus else by_cpu

    def describe(self) -> str:
        """Return the request in words."""
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
        with _own_signals():
            ray.init(
                address=address, log_to_driver=False, logging_level="ERROR",
                ignore_reinit_error=True, **options,
            )  # fmt: skip
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        why = " ".join(str(error).split())
        hint = "" if address is None else "; if it asks for a token, set RAY_AUTH_MODE=token"
        raise UserError(
            f"cannot connect to a Ray cluster ({_place(address)}): {why}{hint}"
        ) from None


def _check_reachable(address: str) -> None:
    """Raise UserError unless a cluster may be there: Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        raise UserError(f"--address {address!r}: write HOST:PORT, or auto for the cluster at hand")
    try:
        with socket.create_connection((host, int(port)), SECONDS_TO_CONNECT) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "0":
                _check_speaks_http2(connection)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"no Ray cluster answers at {address}: {error}; start one with `ray start --head`, or "
            "leave --address away"
        ) from None


def _check_speaks_http2(connection: socket.socket) -> None:
    """Raise OSError unless the other end answers a preface with its settings (RFC 9113, 3.4)."""
    connection.settimeout(SECONDS_TO_CONNECT)
    connection.sendall(HTTP2_PREFACE + HTTP2_SETTINGS)
    header = connection.recv(len(HTTP2_SETTINGS), socket.MSG_WAITALL)
    if header[3:4] != HTTP2_SETTINGS[3:4]:
        raise OSError("something else is listening there")


def _place(address: str | None) -> str:
    return f"--address {address}" if address else "started on this machine"


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this program's signal handlers, which Ray replaces."""
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, action in former.items():
            signal.signal(number, action)


def _nodes() -> list[Mapping[str, float]]:
    """Return the resources of each node of the cluster, busy or not."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def cluster_has_gpus() -> bool:
    """Tell whether any node has a GPU."""
    return any(node.get("GPU", 0) > 0 for node in _nodes())


class Cluster:
    """A cluster that is connected: a crew for a pool.

    ``options`` and ``object_refs``, what refers to the images and the teacher of a job, are given to
    the workers with each thing that they do.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.options: WorkerOptions | None = None
        self.object_refs: dict[SourcesKey, tuple[Any, Any]] = {}
        self.idle: list[Actor] = []

    def checked_room(self) -> int:
        """Return how many workers there can be. Raises UserError for a request that no node has."""
        try:
            return self.room()
        except RunError as error:
            counts = [(node.get("CPU", 0), node.get("GPU", 0)) for node in _nodes()]
            listed = "; ".join(f"{cpus:g} CPUs, {gpus:g} GPUs" for cpus, gpus in counts)
            raise UserError(
                f"{error} (nodes: {listed}); ask for less with --cpus-per-job and --gpus-per-job"
            ) from None

    def room(self) -> int:
        """Return how many workers there can be. Raises RunError when there can be none."""
        room = sum(self._fitting())
        if not room:
            raise RunError(f"no node of the cluster has {self.request.describe()} for a job")
        return min(room, self.request.most or room)

    def _fitting(self) -> list[int]:
        return [self.request.fit(node) for node in _nodes()]

    def start(self) -> "Actor":
        """Return a worker: a spare one, or a new one that waits for room."""
        return self.idle.pop() if self.idle else Actor(self)

    def wait(self, workers: Sequence["Actor"], seconds: float) -> list["Actor"]:
        """Return those of the workers that have told something or died."""
        by_messages = {worker.messages: worker for worker in workers}
        if not by_messages:
            return []
        for count, timeout in (
            (1, seconds),
            (len(by_messages), 0),
        ):  # the first one, then all of them
            ready, _ = ray.wait(list(by_messages), num_returns=count, timeout=timeout)
        return [by_messages[one] for one in ready]

    def free_for_a_job(self) -> int:
        """Return the free bytes of a job on a worker's machine. Raises RunError.

        On a CPU, jobs of one node share its memory; on a GPU, those with a part of one do. While
        the cluster has no room, this machine's memory stands for a worker's.
        """
        actor = self.start()
        try:
            asked = actor.handle.free_memory.remote(str(self.request.device))
            free: int = ray.get(asked, timeout=SECONDS_TO_START)
        except GetTimeoutError:
            free = free_memory(torch.device("cpu"))
        except RayTaskError as error:
            raise RunError(_cause(error)) from None
        except RayError as error:
            raise RunError(f"no worker starts on the cluster: {_cause(error)}") from None
        self.idle.append(actor)
        most = max(self._fitting())
        on_a_node = min(most, self.request.most or most)
        sharing = int(1 / self.request.gpus) if self.request.gpus else on_a_node
        return free // max(1, sharing)


class Actor:
    """A worker on the cluster that trains one thing at a time."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, request = cluster, cluster.request
        self.handle = ray.remote(RayWorker).options(
            num_cpus=request.cpus, num_gpus=request.gpus, max_concurrency=2,
        ).remote(versions())  # fmt: skip
        self.messages: Any = None

    def teach(self, experiment: Experiment, dataset: Any, files: Mapping[str, bytes]) -> None:
        """Let it make sure of the teacher."""
        self.messages = _streamed(self.handle.teach).remote(
            self.cluster.options, experiment, dataset, files
        )

    def give(self, job: Job, state: bytes | None) -> None:
        """Let it train the job from the state."""
        refs = self.cluster.object_refs[sources_key(job.experiment)]
        train = _streamed(self.handle.train)
        self.messages = train.remote(self.cluster.options, job, state, *refs)

    def receive(self) -> Message:
        """Return what it has told. Raises WorkerDied."""
        try:
            message: Message = ray.get(next(self.messages))
        except (RayError, StopIteration) as error:
            raise WorkerDied(f"a worker of the cluster ended: {_cause(error)}") from None
        return message

    def ask_to_stop(self) -> None:
        """Let it leave off after its step and a checkpoint."""
        self.handle.stop.remote()

    def end(self) -> None:
        """End it at once."""
        with suppress(RayError):
            ray.kill(self.handle)


def _streamed(method: Any) -> Any:
    return method.options(
        num_returns="streaming", _generator_backpressure_num_objects=UNREAD_MESSAGES
    )


def _cause(error: BaseException) -> str:
    """Return the one line of an error of Ray's that says what happened."""
    if isinstance(error, RayTaskError):
        return " ".join(str(error.cause).split())
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
