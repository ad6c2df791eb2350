"""What torchrun tells a process: which rank it is, where the others are, which GPU is its own."""

import os
import sys
from collections.abc import Callable, Iterator
from subprocess import PIPE, Popen
from typing import Any

import pytest
import torch

from rkkd_cli.errors import UserError
from rkkd_cli.train.distributed.process_group import TorchrunGroup
from rkkd_cli.train.distributed.torchrun import connect, device_of_rank, launch_id

Together = Callable[..., list[Any]]
NODE = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}

SERVE = """
import sys
from torch._C._distributed_c10d import TCPStore
store = TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
print(store.port, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def store_port() -> Iterator[int]:
    """Return the port of a store in a program of its own, as torchrun's is.

    The ranks are forked from this process. Beside the thread of a store in it, one hung at times.
    """
    with Popen([sys.executable, "-c", SERVE], stdin=PIPE, stdout=PIPE, text=True) as server:
        assert server.stdout is not None
        yield int(server.stdout.readline())
        server.communicate()


@pytest.mark.slow
def test_each_attempt_has_keys_of_its_own_in_a_store_that_outlives_it(
    together: Together, store_port: int
) -> None:
    def attempt(number: str) -> list[bool]:
        def of_rank(group: TorchrunGroup) -> bool:
            environment = {
                "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store_port),
                "TORCHELASTIC_USE_AGENT_STORE": "True", "GROUP_WORLD_SIZE": "1",
                "TORCHELASTIC_RESTART_COUNT": number, "RANK": str(group.rank),
            }  # fmt: skip
            group.destroy()
            connected = connect(environment)
            is_new = connected.broadcast(not connected.store.check(["dead"]))
            if connected.is_first:
                connected.store.set("dead", "a word of a process that has died")
            return is_new

        return together(2, of_rank)

    assert attempt("0") == attempt("1") == [True, True]


def test_several_nodes_are_told_which_store_they_need() -> None:
    environment = {
        "RANK": "0", "WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }  # fmt: skip
    with pytest.raises(UserError, match="TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
        connect(environment)


def test_ranks_on_a_cpu_share_it_and_no_other_single_device() -> None:
    assert device_of_rank("cpu", NODE) == torch.device("cpu")
    for name in ("mps", "cuda:0", "tpu"):
        with pytest.raises(UserError, match=f"device {name}: each rank takes a device of its own"):
            device_of_rank(name, NODE)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused() -> None:
    assert device_of_rank("auto", NODE) == torch.device("cpu")
    with pytest.raises(UserError, match="cuda is not available"):
        device_of_rank("cuda", NODE)


def test_a_launch_is_told_by_its_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert launch_id() is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    own = launch_id()
    assert own is not None
    assert str(os.getppid()) in own.split()
    assert launch_id() == own
