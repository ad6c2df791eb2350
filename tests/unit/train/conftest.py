"""Real processes that train together, joined by gloo."""

import multiprocessing
import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._C._distributed_c10d import FileStore

from rkkd_cli.train.distributed.process_group import TorchrunGroup

Together = Callable[..., list[Any]]


@pytest.fixture
def together(tmp_path: Path) -> Together:
    """Run a function of its ranks in so many processes: ``together(2, work)`` gives its results.

    An error of any rank is one of the test, unless it is among the ``expected`` ones: then it is
    the result.
    """
    if sys.platform == "win32":
        pytest.skip("needs fork")
    calls = 0

    def run(
        count: int, work: Callable[[TorchrunGroup], Any], *expected: type[Exception]
    ) -> list[Any]:
        nonlocal calls
        calls += 1
        store = tmp_path / f"store-{calls}"
        context = multiprocessing.get_context("fork")
        pipes = [context.Pipe(duplex=False) for _ in range(count)]
        processes = [
            context.Process(target=_rank, args=(rank, count, store, work, expected, pipe[1]))
            for rank, pipe in enumerate(pipes)
        ]
        for process in processes:
            process.start()
        for _, there in pipes:
            there.close()
        results = []
        for here, _ in pipes:
            try:
                results.append(pickle.loads(here.recv_bytes()) if here.poll(60) else "hangs")
            except EOFError:
                results.append("died")
        for process in processes:
            process.kill()
            process.join()
        assert not [one for one in results if isinstance(one, str) and "Traceback" in one], results
        return results

    return run


def _rank(
    rank: int,
    count: int,
    store: Path,
    work: Callable[[TorchrunGroup], Any],
    expected: tuple[type[Exception], ...],
    pipe: Any,
) -> None:
    torch.set_num_threads(1)
    try:
        result = work(TorchrunGroup(rank, count, FileStore(str(store), count)))
    except expected as error:
        result = error
    except BaseException:
        result = traceback.format_exc()
    pipe.send_bytes(pickle.dumps(result))  # tensors by value: the process ends
