"""`rkkd grid --engine ray` on a real cluster of this machine: same rows, whatever dies."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
from running import FolderMaker, Program, quick, refused, succeeded, wait_until
from written import numbers_of

from rkkd_cli.installation import install_command

pytest.importorskip("ray")
from ray.cluster_utils import Cluster

GRID = (
    "grid", "--alpha=0.1,0.5,0.9", "--temperature=1,4", *quick(without="training.epochs"),
    "--name=six",
)  # fmt: skip
SHORT, LONG = "--epochs=2", "--epochs=30"


def workers(cluster: Cluster) -> list[psutil.Process]:
    """Return the processes of the workers on the cluster."""
    raylets = [node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()]
    found = []
    for process in psutil.process_iter(["cmdline", "ppid"]):
        words = process.info["cmdline"] or [""]
        if words[0].startswith("ray::RayWorker") and process.info["ppid"] in raylets:
            found.append(process)
    return found


def start(folder: Path, address: str, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "rkkd_cli", *GRID, *words, "--engine=ray"]
    return subprocess.Popen(
        [*command, "--address", address], cwd=folder, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that runs no jobs, and a node for two."""
    quickly = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500,
               "health_check_failure_threshold": 2}  # fmt: skip
    head = {"num_cpus": 0, "num_gpus": 0, "_system_config": quickly}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=2, num_gpus=0)
    try:
        yield cluster
    finally:
        cluster.shutdown()


@pytest.fixture(scope="module")
def expected(
    warm_rkkd: Program, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], list[str]]:
    """The rows of a grid of so many epochs, trained in one process."""

    @cache
    def rows(epochs: str) -> list[str]:
        folder = tmp_path_factory.mktemp("local")
        succeeded(warm_rkkd(*GRID, epochs, "-q", cwd=folder))
        return numbers_of(folder / "results/six")

    return rows


@pytest.mark.slow
def test_a_cluster_gives_the_rows_of_one_process_and_needs_no_common_disk(
    cluster: Cluster, expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RKKD_CACHE", str(tmp_path / "cache of the driver"))
    with start(tmp_path, cluster.address, SHORT) as process:
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert numbers_of(tmp_path / "results/six") == expected(SHORT)
    assert len(list((tmp_path / "results/six/checkpoints").iterdir())) == 2
    assert list((tmp_path / "cache of the driver/teachers").glob("*/weights.pt"))
    wait_until(lambda: not workers(cluster))


@pytest.mark.slow
def test_the_seeds_of_a_run_have_the_rows_of_one_process(
    cluster: Cluster, warm_rkkd: Program, tmp_path: Path
) -> None:
    words = ("run", *quick("seeds=[0,1]"), "--name", "two", "-q")
    succeeded(warm_rkkd(*words, "--engine=ray", "--address", cluster.address, cwd=tmp_path))
    (tmp_path / "local").mkdir()
    succeeded(warm_rkkd(*words, cwd=tmp_path / "local"))
    assert numbers_of(tmp_path / "results/two") == numbers_of(tmp_path / "local/results/two")


@pytest.mark.slow
def test_a_streamed_folder_is_read_from_the_disk_of_each_node(
    cluster: Cluster, make_folder: FolderMaker, warm_rkkd: Program, tmp_path: Path
) -> None:
    root = make_folder(classes=3, train=100, test=40)
    words = (
        "--dataset=folder", f"--data-root={root}", "--stream", "dataset.image_size=12",
        "--teacher=digits_teacher", "--student=digits_student", SHORT,
    )  # fmt: skip
    with start(tmp_path, cluster.address, *words) as process:
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    (tmp_path / "local").mkdir()
    succeeded(warm_rkkd(*GRID, *words, "-q", cwd=tmp_path / "local"))
    assert numbers_of(tmp_path / "results/six") == numbers_of(tmp_path / "local/results/six")


@pytest.mark.slow
def test_a_killed_worker_costs_a_retry_and_no_row(
    cluster: Cluster, expected: Any, tmp_path: Path
) -> None:
    with start(tmp_path, cluster.address, LONG) as process:
        wait_until(lambda: list(tmp_path.glob("results/six/checkpoints/*/*.pt")))
        workers(cluster)[0].kill()
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "goes on from its last checkpoint" in said
    assert numbers_of(tmp_path / "results/six") == expected(LONG)


@pytest.mark.slow
def test_a_node_that_goes_away_costs_a_retry_and_no_row(
    cluster: Cluster, expected: Any, tmp_path: Path
) -> None:
    node = cluster.add_node(num_cpus=1, num_gpus=0)
    (raylet,) = [one.process.pid for one in node.all_processes["raylet"]]
    with start(tmp_path, cluster.address, LONG) as process:

        def on_the_node() -> list[psutil.Process]:
            return [one for one in workers(cluster) if one.ppid() == raylet]

        wait_until(lambda: on_the_node() and list(tmp_path.glob("results/six/checkpoints/*/*.pt")))
        assert on_the_node()
        cluster.remove_node(node, allow_graceful=False)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "goes on from its last checkpoint" in said
    assert numbers_of(tmp_path / "results/six") == expected(LONG)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_a_killed_driver_goes_on(
    number: signal.Signals, cluster: Cluster, expected: Any, warm_rkkd: Program, tmp_path: Path
) -> None:
    with start(tmp_path, cluster.address, LONG) as process:
        wait_until(lambda: list(tmp_path.glob("results/six/checkpoints/*/*.pt")))
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == (143 if number == signal.SIGTERM else -number), said
    wait_until(lambda: not workers(cluster))
    succeeded(warm_rkkd(*GRID, LONG, "-q", cwd=tmp_path))
    assert numbers_of(tmp_path / "results/six") == expected(LONG)


@pytest.mark.slow
def test_each_job_sees_its_own_gpus(tmp_path: Path) -> None:
    script = """
import os, ray
from rkkd_cli.sweep.engines.ray.cluster import Actor, Cluster, JobResources, connect
connect(None)
cluster = Cluster(JobResources(cpus=1, gpus=1.0, max_jobs=None))
actors = [cluster.start() for _ in range(cluster.capacity())]
seen = lambda worker: os.environ["CUDA_VISIBLE_DEVICES"]
print(sorted(ray.get([actor.handle.__ray_call__.remote(seen) for actor in actors])))
"""
    here = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 2})
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=60,
            env={**os.environ, "RAY_ADDRESS": here.address},
        )  # fmt: skip
    finally:
        here.shutdown()
    assert done.stdout.strip() == "['0', '1']", done.stderr


MISTAKES = [
    (("--engine=rai",), ["'rai'", "ray"]),
    (("--address=auto",), ["--address", "--engine ray"]),
    (("--gpus-per-job=1",), ["--gpus-per-job", "--engine ray"]),
    (("--engine=ray", "--address=127.0.0.1:1"), ["127.0.0.1:1", "ray start --head"]),
    (("--engine=ray", "--address=here"), ["'here'", "HOST:PORT"]),
    (("--engine=ray", "--address=ray://here:1"), ["--address auto"]),
    (("--engine=ray", "--address=CLUSTER", "--cpus-per-job=3"), ["3 CPUs", "--cpus-per-job"]),
    (("--engine=ray", "--address=CLUSTER", "--gpus-per-job=0.5"), ["0.5 GPU", "--gpus-per-job"]),
    (("--engine=ray", "--address=CLUSTER", "--device=cuda"), ["device cuda", "--gpus-per-job"]),
]


@pytest.mark.parametrize(("words", "says"), MISTAKES, ids=[" ".join(w) for w, _ in MISTAKES])
def test_a_mistake_is_one_sentence_before_anything_is_trained(
    words: tuple[str, ...], says: list[str], cluster: Cluster, warm_rkkd: Program, tmp_path: Path
) -> None:
    given = [word.replace("CLUSTER", cluster.address) for word in words]
    refused(warm_rkkd(*GRID, SHORT, *given, cwd=tmp_path), *says)
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_port_of_something_else_is_no_cluster(rkkd: Program) -> None:
    def answer() -> None:
        with server.accept()[0] as connection:
            connection.sendall(b"SSH-2.0-OpenSSH_9.2p1")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        done = rkkd(*GRID, SHORT, "--engine=ray", "--address", address)
    refused(done, f"no Ray cluster answers at {address}")


def test_without_ray_the_extra_is_named(tmp_path: Path) -> None:
    script = "import sys; sys.modules['ray'] = None\nfrom rkkd_cli.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, *GRID, SHORT, "--engine=ray"], cwd=tmp_path,
        capture_output=True, text=True,
    )  # fmt: skip
    refused(done, f"needs Ray; install it: {install_command('ray')}")
    assert not (tmp_path / "results").exists()
