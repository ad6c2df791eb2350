"""Where a run computes, and with how many threads."""

from collections.abc import Iterator

import pytest
import torch

from rkkd_cli.errors import UserError
from rkkd_cli.train.device import describe_device, pick_device, use_threads


@pytest.fixture
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def test_the_stated_threads_are_used_and_described(threads: int) -> None:
    use_threads(None)
    assert torch.get_num_threads() == threads
    use_threads(2)
    assert describe_device(torch.device("cpu")) == "cpu (2 threads)"
    use_threads(1)
    assert describe_device(torch.device("cpu")) == "cpu (1 thread)"


def test_auto_takes_the_best_device_that_is_there() -> None:
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    assert pick_device("auto").type == ("cuda" if cuda else "mps" if mps else "cpu")
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "xpu", "meta", "cpu:3", "cuda:99"])
def test_a_device_that_is_unknown_or_absent_is_refused_with_a_way_out(name: str) -> None:
    with pytest.raises(UserError, match=r"use (auto|--device auto)"):
        pick_device(name)
