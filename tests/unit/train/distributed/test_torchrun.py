"""What torchrun tells a process: which rank it is, where the others are, which GPU is its own."""

import os
import threading

import pytest
import torch
from torch._C._distributed_c10d import TCPStore

from rkkd_cli.errors import UserError
from rkkd_cli.train.distributed.torchrun import connect, device_of_rank, launch_id

NODE = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}


def test_each_attempt_has_words_of_its_own_in_a_store_that_outlives_it() -> None:
    store = TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    environment = {
        "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True", "GROUP_WORLD_SIZE": "1",
    }  # fmt: skip
    for attempt in ("0", "1"):
        now = {**environment, "TORCHELASTIC_RESTART_COUNT": attempt}
        first, second = (connect({**now, "RANK": rank}) for rank in ("0", "1"))
        assert (first.rank, second.rank, second.world_size) == (0, 1, 2)
        timer = threading.Timer(0.3, first.send, [f"word of attempt {attempt}"])
        timer.start()
        assert second.receive() == f"word of attempt {attempt}"
        timer.join()


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
