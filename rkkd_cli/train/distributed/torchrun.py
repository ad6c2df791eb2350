"""How torchrun tells a process which of several it is."""

import os
import socket
from collections.abc import Mapping
from datetime import timedelta

import psutil
import torch
from torch._C._distributed_c10d import PrefixStore, TCPStore

from rkkd_cli.errors import RunError, UserError
from rkkd_cli.train.device import pick_device
from rkkd_cli.train.distributed.control_channel import ControlChannel, reason
from rkkd_cli.train.distributed.process_group import TorchrunGroup

TO_CONNECT = timedelta(minutes=5)
UNSHARED = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"


def connect(environment: Mapping[str, str]) -> TorchrunGroup:
    """Return the ranks that torchrun has started, of which this process is one.

    torchrun keeps its store over restarts, with all that the dead have written there: gloo would
    look for them until its timeout. So each attempt has names of its own. Nodes count their
    restarts apart, so several of them need a store that does not outlive an attempt.

    Raises UserError for such nodes, RunError where the store cannot be reached.
    """
    rank, count = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    is_shared = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if is_shared and environment.get("GROUP_WORLD_SIZE", "1") != "1":
        raise UserError(
            "several nodes need a store that does not outlive a restart; start torchrun on each "
            f"of them with {UNSHARED} in its environment"
        )
    host, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    attempt = environment.get("TORCHELASTIC_RESTART_COUNT", "0") if is_shared else "0"
    serves = rank == 0 and not is_shared
    try:
        store = TCPStore(host, port, None, serves, TO_CONNECT, wait_for_workers=False)
    except RuntimeError as error:
        told = f"rank {rank} cannot reach {host}:{port} ({reason(error)}); start torchrun again"
        raise RunError(told) from None
    return TorchrunGroup(rank, count, ControlChannel(PrefixStore(f"rkkd {attempt}", store)))


def device_of_rank(name: str, environment: Mapping[str, str]) -> torch.device:
    """Return the device of this process among those of its node: a GPU of its own, or the CPU.

    Raises UserError where the node has too few GPUs, and for a device that only one can have.
    """
    local, on_node = int(environment["LOCAL_RANK"]), int(environment["LOCAL_WORLD_SIZE"])
    has_cuda = torch.cuda.is_available()
    if name == "cpu" or (name == "auto" and not has_cuda):
        return torch.device("cpu")
    if name not in ("auto", "cuda"):
        raise UserError(
            f"device {name}: each rank takes a device of its own; use --device auto, cuda or cpu"
        )
    if has_cuda and torch.cuda.device_count() < on_node:
        raise UserError(
            f"{on_node} ranks on a machine with {torch.cuda.device_count()} GPUs; start torchrun "
            "with --nproc-per-node gpu, or use --device cpu"
        )
    return pick_device(f"cuda:{local}" if has_cuda else "cuda")


def launch() -> str | None:
    """Return what tells this torchrun from all others, over its restarts; None without one."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    agent = psutil.Process(os.getppid())
    return f"{socket.gethostname()} {agent.pid} {agent.create_time():.2f}"
