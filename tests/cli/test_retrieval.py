"""The retrieval sheet of a run: in its folder, its figures and its page, also when it goes on."""

import shutil
from pathlib import Path

import pytest
from running import Program, quick, refused, succeeded

from rkkd_cli.records.retrieval import RetrievalSheet

EMBEDDING = (
    "task=embedding", "student.embedding=8", "teacher.embedding=16", "training.schedule=constant",
)  # fmt: skip
RUN = ("run", "--quiet", "--name", "run", *quick(*EMBEDDING, "seeds=[0,1]"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, warm_rkkd: Program) -> Path:
    folder = tmp_path_factory.mktemp("retrieval")
    succeeded(warm_rkkd(*RUN, cwd=folder))
    return folder / "results" / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "results" / "run"))


def epochs_of(run: Path) -> dict[str, tuple[int, int]]:
    sheets = [RetrievalSheet.read(path) for path in (run / "retrieval").iterdir()]
    return {sheet.arm: (sheet.seed, sheet.epoch) for sheet in sheets}


def test_a_run_leaves_a_file_for_each_arm(trained: Path) -> None:
    assert epochs_of(trained) == {"kd": (0, 2), "kd_rank": (0, 2)}


@pytest.mark.slow
def test_the_end_of_a_run_draws_it(run: Path, warm_rkkd: Program) -> None:
    said = succeeded(
        warm_rkkd("resume", "run", "training.epochs=3", cwd=run.parents[1], figures=True)
    )
    assert epochs_of(run) == {"kd": (0, 3), "kd_rank": (0, 3)}
    assert str(Path("results/run/figures/retrieval.png")) in said.stdout
    assert (run / "figures" / "retrieval.png").is_file()
    succeeded(warm_rkkd("report", "run", cwd=run.parents[1]))
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Nearest test images after epoch 3, seed 0" in page


@pytest.mark.parametrize("command", ["plot", "report"])
def test_a_damaged_one_is_named(command: str, run: Path, warm_rkkd: Program) -> None:
    (run / "retrieval" / "kd.safetensors").write_bytes(b"torn")
    answer = warm_rkkd(command, "run", cwd=run.parents[1])
    refused(answer, "kd.safetensors is damaged", "remove it to go without it")


def test_a_grid_has_none(tmp_path: Path, warm_rkkd: Program) -> None:
    words = ("grid", "--quiet", "--name", "run", *quick(*EMBEDDING, "training.epochs=1"))
    succeeded(warm_rkkd(*words, "--vary", "method.alpha=0.1,0.9", cwd=tmp_path))
    assert not (tmp_path / "results" / "run" / "retrieval").exists()
