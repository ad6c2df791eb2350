"""The retrieval sheet of a run: in its folder, its figures and its page, also when it goes on."""

import shutil
from pathlib import Path

import pytest
from running import Program, quick, refused, succeeded
from written import content_below

from rkkd_cli.records.retrieval import RetrievalSheet

EMBEDDING = ("task=embedding", "student.embedding=8", "teacher.embedding=16")
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


def test_a_run_leaves_a_file_for_each_arm_and_a_figure(run: Path, warm_rkkd: Program) -> None:
    assert epochs_of(run) == {"kd": (0, 2), "kd_rank": (0, 2)}
    folder = run.parents[1]
    text = succeeded(warm_rkkd("plot", "run", "--metric", "rank", cwd=folder)).stdout
    assert "retrieval.png" not in text
    text = succeeded(warm_rkkd("plot", "run", "run", "--to", "both", cwd=folder)).stdout
    assert text.splitlines()[-1] == str(Path("both/retrieval.png"))
    assert (folder / "both" / "retrieval.png").is_file()


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


def test_workers_hand_it_over(trained: Path, tmp_path: Path, warm_rkkd: Program) -> None:
    succeeded(warm_rkkd(*RUN, "--workers", "2", cwd=tmp_path))
    made = content_below(tmp_path / "results" / "run" / "retrieval")
    assert made == content_below(trained / "retrieval")


def test_a_run_without_it_has_no_figure(run: Path, warm_rkkd: Program) -> None:
    shutil.rmtree(run / "retrieval")
    assert "retrieval" not in succeeded(warm_rkkd("plot", "run", cwd=run.parents[1])).stdout
    succeeded(warm_rkkd("report", "run", cwd=run.parents[1]))


@pytest.mark.parametrize("command", ["plot", "report"])
def test_a_damaged_one_is_named(command: str, run: Path, warm_rkkd: Program) -> None:
    (run / "retrieval" / "kd.safetensors").write_bytes(b"torn")
    answer = warm_rkkd(command, "run", cwd=run.parents[1])
    refused(answer, "kd.safetensors is damaged", "remove it to go without it")


def test_a_grid_has_none(tmp_path: Path, warm_rkkd: Program) -> None:
    words = ("grid", "--quiet", "--name", "run", *quick(*EMBEDDING, "training.epochs=1"))
    succeeded(warm_rkkd(*words, "--vary", "method.alpha=0.1,0.9", cwd=tmp_path))
    assert not (tmp_path / "results" / "run" / "retrieval").exists()
