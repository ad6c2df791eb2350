"""What a job asks of a cluster, in words and against a node's resources."""

import pytest

pytest.importorskip("ray")
from rkkd_cli.api.engines import _gpus_per_job
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.sweep.engines.ray.cluster import JobResources
from rkkd_cli.sweep.engines.ray.worker import check_versions, versions


@pytest.mark.parametrize(
    ("cpus", "gpus", "node", "jobs", "told"),
    [
        (1, 0.0, {"CPU": 4.0}, 4, "1 CPU"),
        (3, 0.0, {"CPU": 8.0, "GPU": 2.0}, 2, "3 CPUs"),
        (1, 1.0, {"CPU": 8.0, "GPU": 2.0}, 2, "1 CPU and 1 GPU"),
        (8, 1.0, {"CPU": 8.0, "GPU": 2.0}, 1, "8 CPUs and 1 GPU"),
        (1, 2.0, {"CPU": 8.0, "GPU": 1.0}, 0, "1 CPU and 2 GPUs"),
        (1, 0.1, {"CPU": 99.0, "GPU": 3.0}, 30, "1 CPU and 0.1 GPU"),
        (1, 0.0, {"memory": 1e9}, 0, "1 CPU"),
    ],
)
def test_how_many_jobs_fit_on_a_node(
    cpus: int, gpus: float, node: dict[str, float], jobs: int, told: str
) -> None:
    request = JobResources(cpus, gpus, None)
    assert request.fit(node) == jobs
    assert request.describe() == told
    assert request.device.type == ("cuda" if gpus else "cpu")


@pytest.mark.parametrize(
    ("stated", "device", "there_are", "gpus"),
    [
        (None, "auto", True, 1.0), (None, "auto", False, 0.0), (None, "cpu", True, 0.0),
        (0.0, "auto", True, 0.0), (0.5, "cuda", True, 0.5),
    ],
)  # fmt: skip
def test_gpus_are_used_where_there_are_some(
    stated: float | None, device: str, there_are: bool, gpus: float
) -> None:
    assert _gpus_per_job(stated, device, there_are) == gpus


@pytest.mark.parametrize(("stated", "device"), [(None, "cuda"), (0.0, "cuda:1"), (1.0, "cpu")])
def test_a_device_that_the_job_does_not_get_is_refused(stated: float | None, device: str) -> None:
    with pytest.raises(UserError, match=rf"device {device} .*--gpus-per-job"):
        _gpus_per_job(stated, device, False)


def test_other_versions_on_a_node_are_refused() -> None:
    check_versions(versions())
    with pytest.raises(RunError, match=r"instead of 1\.0; install the same versions"):
        check_versions(versions() | {"PyTorch": "1.0"})
