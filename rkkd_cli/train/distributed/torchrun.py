"""Reads from torchrun's environment variables which rank this process is."""

import os
import socket
from collections.abc import Mapping
from datetime import timedelta

import psutil
import torch
from torch._C._distributed_c10d import PrefixStore, TCPStore

from rkkd_cli.errors import RunError, UserError
from rkkd_cli.train.device import pick_device
from rkkd_cli.train.distributed.process_group import TorchrunGroup, first_sentence

CONNECT_TIMEOUT = timedelta(minutes=5)
UNSHARED_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"


def connect(environment: Mapping[str, str]) -> TorchrunGroup:
    """Return the process group that torchrun has started, once all of its ranks are there.

    torchrun keeps its store over restarts, with everything that dead processes have written there,
    and gloo would look for those until its timeout. So each restart has its own key prefix. Nodes
    count their restarts separately, so several nodes need a store that does not outlive a restart.

    Raises UserError for several nodes without one, RunError if the store cannot be reached.
    """
    rank, world_size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    is_shared = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if is_shared and environment.get("GROUP_WORLD_SIZE", "1") != "1":
        raise UserError(
            "several nodes need a store that does not outlive a restart; start torchrun on each "
            f"of them with {UNSHARED_STORE} in its environment"
        )
    host, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    restart = environment.get("TORCHELASTIC_RESTART_COUNT", "0") if is_shared else "0"
    is_server = rank == 0 and not is_shared
    try:
        store = TCPStore(host, port, None, is_server, CONNECT_TIMEOUT, wait_for_workers=False)
    except RuntimeError as error:
        raise RunError(
            f"rank {rank} cannot reach {host}:{port} ({first_sentence(error)}); start torchrun "
            "again"
        ) from None
    return TorchrunGroup(rank, world_size, PrefixStore(f"rkkd {restart}", store))


def device_of_rank(name: str, environment: Mapping[str, str]) -> torch.device:
    """Return the device of this rank on its node: its own GPU, or the CPU.

    Raises UserError if the node has too few GPUs, or for a device that only one rank can have.
    """
    local_rank = int(environment["LOCAL_RANK"])
    local_world_size = int(environment["LOCAL_WORLD_SIZE"])
    has_cuda = torch.cuda.is_available()
    if name == "cpu" or (name == "auto" and not has_cuda):
        return torch.device("cpu")
    if name not in ("auto", "cuda"):
        raise UserError(
            f"device {name}: each rank takes a device of its own; use --device auto, cuda or cpu"
        )
    if has_cuda and torch.cuda.device_count() < local_world_size:
        raise UserError(
            f"{local_world_size} ranks on a machine with {torch.cuda.device_count()} GPUs; start "
            "torchrun with --nproc-per-node gpu, or use --device cpu"
        )
    return pick_device(f"cuda:{local_rank}" if has_cuda else "cuda")


def launch_id() -> str | None:
    """Return what identifies this launch of torchrun, over its restarts; None without torchrun."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    agent = psutil.Process(os.getppid())
    return f"{socket.gethostname()} {agent.pid} {agent.create_time():.2f}"
