"""`rkkd grid` as its users run it: repeated, extended, killed, shared out, mistyped."""

import io
import json
import shutil
import signal
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from processes import children_of
from running import FolderMaker, Program, meanwhile, quick, refused, signalled, succeeded
from written import manifest_of, numbers_of

SIX = ("--alpha=0.1,0.5,0.9", "--temperature=1,4")
NAMED = (*quick(), "--name=six")
GRID = ("grid", *SIX, *NAMED)


def in_any_order(run: Path) -> set[str]:
    rows = numbers_of(run)
    assert len(set(rows)) == len(rows)
    return set(rows)


def any_checkpoint(run: Path) -> bool:
    return any(run.glob("checkpoints/*/*.pt"))


@pytest.fixture(scope="module")
def six(warm_rkkd: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The grid of six cells, run at once."""
    folder = tmp_path_factory.mktemp("six")
    done = succeeded(warm_rkkd(*GRID, cwd=folder, figures=True))
    assert "alpha \\ temperature" in done.stdout
    return folder / "results" / "six"


@pytest.fixture
def copy(six: Path, tmp_path: Path) -> Path:
    """A copy of its results folder, to be changed."""
    shutil.copytree(six, tmp_path / "results" / "six")
    return tmp_path


def test_the_records_have_a_column_per_key(six: Path) -> None:
    metrics = pd.read_csv(six / "metrics.csv")
    assert len(metrics) == 7 * 2
    cells = metrics[metrics["arm"] != "baseline"]
    assert sorted(cells["method.alpha"].unique()) == [0.1, 0.5, 0.9]
    assert metrics.loc[metrics["arm"] == "baseline", "method.alpha"].isna().all()
    grid = pd.read_csv(six / "grid.csv")
    assert list(grid["status"].unique()) == ["done"]
    last = metrics[metrics["epoch"] == 2].set_index("arm")
    by_arm = grid.set_index("arm").loc[last.index]
    assert by_arm["last_acc"].tolist() == last["test_acc"].tolist()
    assert by_arm["kl"].tolist() == last["kl"].tolist()
    best = metrics.groupby("arm")["test_acc"].max()
    assert by_arm["best_acc"].tolist() == best[last.index].tolist()
    for name in ("heatmap", "marginals"):
        assert (six / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_grid_again_runs_nothing(warm_rkkd: Program, copy: Path) -> None:
    before = (copy / "results/six/metrics.csv").read_bytes()
    again = succeeded(warm_rkkd(*GRID, cwd=copy))
    assert "nothing to resume" in again.stderr
    assert "epoch" not in again.stderr
    part = warm_rkkd("grid", "--alpha=0.5", "--temperature=4", *NAMED, cwd=copy)
    assert "nothing to resume" in part.stderr
    assert (copy / "results/six/metrics.csv").read_bytes() == before


def test_an_ended_grid_needs_neither_its_images_nor_its_checkpoints(
    warm_rkkd: Program, make_folder: FolderMaker, tmp_path: Path
) -> None:
    root = make_folder(classes=3, train=6)
    words = ("grid", *SIX, "--epochs=1", "teacher.training.epochs=1", "--name=own")
    own = (*words, "--dataset=folder", "--data-root", str(root))
    succeeded(warm_rkkd(*own, cwd=tmp_path))
    shutil.rmtree(root)
    shutil.rmtree(tmp_path / "results/own/checkpoints")
    assert "nothing to resume" in succeeded(warm_rkkd(*own, cwd=tmp_path)).stderr


def test_added_values_run_only_new_cells_and_end_in_the_same_rows(
    warm_rkkd: Program, six: Path, tmp_path: Path
) -> None:
    succeeded(warm_rkkd("grid", "--alpha=0.5", "--temperature=4", *NAMED, cwd=tmp_path))
    second = succeeded(warm_rkkd(*GRID, cwd=tmp_path))
    assert "seed 0  alpha=0.5_temperature=4 " not in second.stderr
    assert "seed 0  baseline " not in second.stderr
    assert in_any_order(tmp_path / "results/six") == in_any_order(six)


@pytest.mark.parametrize(
    "how", [pytest.param(("--workers=2",), marks=pytest.mark.slow), ("--cells-per-job=2",)]
)
def test_shared_out_it_has_the_same_rows_in_the_same_order(
    how: tuple[str, ...], warm_rkkd: Program, six: Path, tmp_path: Path
) -> None:
    succeeded(warm_rkkd(*GRID, *how, "-q", cwd=tmp_path))
    assert numbers_of(tmp_path / "results/six") == numbers_of(six)
    streams = list((tmp_path / "results/six/checkpoints").iterdir())
    assert len(streams) == (2 if "workers" in how[0] else 4)


def test_killed_it_goes_on_and_loses_no_row(warm_rkkd: Program, six: Path, tmp_path: Path) -> None:
    run = tmp_path / "results/six"
    seen = partial(any_checkpoint, run)
    signalled(warm_rkkd, run, seen, *GRID, "-q", number=signal.SIGKILL)
    succeeded(warm_rkkd(*GRID, "-q", cwd=tmp_path))
    assert numbers_of(run) == numbers_of(six)


def test_plot_and_resume_know_a_grid(warm_rkkd: Program, copy: Path) -> None:
    succeeded(warm_rkkd("plot", "six", "--to=figures", "--format=svg", cwd=copy))
    assert {path.name for path in (copy / "figures").iterdir()} == {"heatmap.svg", "marginals.svg"}
    assert "alpha \\ temperature" in succeeded(warm_rkkd("resume", "six", cwd=copy)).stdout


@pytest.mark.slow
def test_a_killed_worker_costs_a_retry_and_no_row(warm_rkkd: Program, tmp_path: Path) -> None:
    run = tmp_path / "results/six"

    def kill() -> None:
        children_of(manifest_of(run)["process"], "spawn_main")[0].kill()

    words = ("grid", *SIX, *quick("training.epochs=10"), "--name=six", "--workers=2")
    done = meanwhile(kill, partial(any_checkpoint, run), warm_rkkd, *words, cwd=tmp_path)
    assert "goes on from its last checkpoint" in succeeded(done).stderr
    frame = pd.read_csv(run / "metrics.csv")
    assert len(frame) == 7 * 10
    assert not frame.duplicated(["arm", "seed", "epoch"]).any()


def test_a_cell_that_fails_is_tried_again_when_asked(warm_rkkd: Program, tmp_path: Path) -> None:
    words = ("grid", "--vary=training.lr=0.05,1e30", *quick(), "--name=hot")
    first = warm_rkkd(*words, cwd=tmp_path)
    assert first.returncode == 1
    assert "lr=1e+30" in first.stderr
    grid = pd.read_csv(tmp_path / "results/hot/grid.csv").set_index("arm")
    assert grid.loc["lr=1e+30", "status"] == "failed"
    assert grid.loc["lr=0.05", "status"] == "done"
    again = warm_rkkd(*words, cwd=tmp_path)
    assert "nothing to resume" in again.stderr
    retried = warm_rkkd(*words, "--retry-failed", cwd=tmp_path)
    assert retried.returncode == 1
    assert "lr=1e+30, seed 0 stopped" in retried.stderr
    assert "seed 0  lr=0.05 " not in retried.stderr
    shutil.rmtree(tmp_path / "results/hot/checkpoints")
    lost = warm_rkkd(*words, "--retry-failed", cwd=tmp_path)
    refused(lost, "its checkpoints", status=1)


def test_fail_fast_ends_at_the_first_failure(warm_rkkd: Program, tmp_path: Path) -> None:
    words = ("grid", "--vary=training.lr=1e30,0.05", *quick("seeds=[0,1]"), "--name=hot")
    done = warm_rkkd(*words, "--fail-fast", cwd=tmp_path)
    assert done.returncode == 1
    assert "--fail-fast ends the run here" in done.stderr
    assert set(pd.read_csv(tmp_path / "results/hot/metrics.csv")["seed"]) == {0}
    assert warm_rkkd(*words, cwd=tmp_path).returncode == 1
    assert set(pd.read_csv(tmp_path / "results/hot/metrics.csv")["seed"]) == {0, 1}


def test_a_dry_run_tells_every_cell_and_writes_nothing(warm_rkkd: Program, copy: Path) -> None:
    before = sorted(path for path in copy.rglob("*") if path.name != ".lock")
    more = ("--alpha=0.1,0.2", "--temperature=1,4", "--dry-run", "--json")
    done = succeeded(warm_rkkd("grid", *more, *NAMED, cwd=copy))
    told = json.loads(done.stdout)
    status = {cell["arm"]: cell["status"] for cell in told["cells"]}
    assert [arm for arm in status if status[arm] == "pending"] == [
        "alpha=0.2_temperature=1", "alpha=0.2_temperature=4",
    ]  # fmt: skip
    assert list(status.values()).count("done") == 7
    (job,) = told["jobs"]
    assert job["cells"] == 2
    assert job["seconds"] > 0
    assert job["bytes"] > 0
    assert sorted(path for path in copy.rglob("*") if path.name != ".lock") == before


BAD = [
    (("--alpha=",), ["--alpha", "empty"]),
    (("--alpha=0.1,,0.5",), ["--alpha", "empty"]),
    (("--alpha=0.1:0.9",), ["0.1:0.9", "START:STOP:STEP"]),
    (("--vary=method.alhpa=1",), ["method.alhpa", "method.alpha"]),
    (("--vary=alpha",), ["KEY=VALUES"]),
    (("--alpha=0.1", "--vary=method.alpha=0.2"), ["method.alpha", "twice"]),
    (("--alpha=0.5,1.5", "--temperature=1"), ["alpha=1.5_temperature=1", "method.alpha"]),
    (("--vary=student.model=cnn3",), ["cnn3", "cnn2"]),
    (("--vary=seeds=0,1",), ["--seeds"]),
    (("--alpha=0:1:0.001", "--temperature=1:9:1"), ["9,009 cells", "--yes"]),
    (("--alpha=0.1", "--sample=0"), ["--sample 0"]),
    (("--alpha=0.1", "--sampler=soboll", "--sample=1"), ["sobol"]),
    (("--published=nope.csv",), ["nope.csv"]),
    (("rank_grad",), ["nothing is varied"]),
]


@pytest.mark.parametrize(("words", "says"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_a_mistake_is_one_sentence(
    words: tuple[str, ...], says: list[str], warm_rkkd: Program, tmp_path: Path
) -> None:
    refused(warm_rkkd("grid", *words, cwd=tmp_path), *says)
    assert not (tmp_path / "results").exists()


def test_a_changed_base_is_refused_with_its_keys(warm_rkkd: Program, copy: Path) -> None:
    refused(warm_rkkd(*GRID, "--lr=0.3", cwd=copy), "training.lr (0.2 → 0.3)")
    assert in_any_order(copy / "results/six")


def test_a_table_is_never_cut_to_the_width_of_a_terminal(warm_rkkd: Program, copy: Path) -> None:
    narrow = warm_rkkd("table", "six", cwd=copy, env={"COLUMNS": "30"}).stdout
    assert narrow == warm_rkkd("table", "six", cwd=copy).stdout
    assert "…" not in narrow


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--format=md",), "| alpha \\\\ temperature | 1 | 4 |"),
        (("--format=latex",), "\\begin{tabular}{lrr}"),
        (("--format=csv",), "method.alpha,method.temperature,mean,std,n"),
        (("--format=text",), "baseline (the student without distillation): "),
        (("--published", "published.csv"), "(60.00, "),
        (("--published", "alone.csv"), "has teacher.model resnet56, not digits_teacher."),
    ],
)
def test_tables(words: tuple[str, ...], says: str, warm_rkkd: Program, copy: Path) -> None:
    (copy / "published.csv").write_text("alpha,temperature,test_acc_percent\n0.5,4,60\n")
    of_others = (
        "student,teacher,alpha,test_acc\ndigits_student,,,50\ndigits_student,resnet56,0.5,60\n"
    )
    (copy / "alone.csv").write_text(of_others)
    assert says in succeeded(warm_rkkd("table", "six", *words, cwd=copy)).stdout


def test_a_table_as_json_has_the_numbers_of_the_csv(warm_rkkd: Program, copy: Path) -> None:
    told = json.loads(succeeded(warm_rkkd("table", "six", "--json", cwd=copy)).stdout)
    csv = io.StringIO(warm_rkkd("table", "six", "--format=csv", cwd=copy).stdout)
    wanted = pd.read_csv(csv)[["method.alpha", "method.temperature", "mean", "n"]]
    assert pd.DataFrame(told["cells"])[[*wanted]].to_numpy().tolist() == wanted.to_numpy().tolist()
    assert list(told["baselines"]) == ["baseline"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("six", "--format=html"), "format"),
        (("six", "--select=val"), "--val-share"),
        (("sixx",), "did you mean 'six'"),
        (("six", "--published=auto"), "no preset with published values"),
        (("six", "--published=simkd_variants"), "the row nearest to "),
    ],
)
def test_a_table_that_cannot_be_had(
    words: tuple[str, ...], says: str, warm_rkkd: Program, copy: Path
) -> None:
    refused(warm_rkkd("table", *words, cwd=copy), says)


def test_more_than_two_keys_have_parallel_coordinates_and_a_validation_choice(
    warm_rkkd: Program, tmp_path: Path
) -> None:
    words = (*SIX[1:], "--alpha=0.1,0.9", "--vary=rank.grad=true,false", "--val-share=0.2")
    line = ("grid", *words, *quick(), "--name=three")
    done = succeeded(warm_rkkd(*line, cwd=tmp_path, figures=True))
    assert "grad = true" in done.stdout
    figures = {path.stem for path in (tmp_path / "results/three/figures").iterdir()}
    assert figures == {"heatmap", "marginals", "parallel"}
    assert pd.read_csv(tmp_path / "results/three/grid.csv")["val_selected_acc"].notna().all()
    chosen = warm_rkkd("table", "three", "--select=val", cwd=tmp_path)
    assert "best validation accuracy" in chosen.stdout
