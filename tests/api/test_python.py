"""rkkd from Python: experiments, runs with callbacks, and what is read back of them."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pages import ROOT, python_blocks

import rkkd_cli
from rkkd_cli import Run, load_experiment, open_run, run
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.train.events import BatchDone, EpochDone, Event

SMALL = {
    "training.epochs": 2,
    "teacher.training.epochs": 2,
    "seeds": [0, 1, 2],
    "dataset.limit_train": 200,
    "dataset.limit_test": 100,
    "device": "cpu",
}


def small(**overrides: object) -> Experiment:
    return load_experiment("rank_grad", SMALL | overrides)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[Event]]:
    """A run of two arms and three seeds, and the events that its callback was given."""
    events: list[Event] = []
    results = tmp_path_factory.mktemp("api") / "results"
    of_run = run(small(), results=results, on_event=events.append, progress=False)
    return of_run, events


def test_a_run_is_recorded_as_the_command_records_it(ended: tuple[Run, list[Event]]) -> None:
    of_run, _ = ended
    assert of_run.status == "finished"
    assert of_run.name.startswith("rank_grad-")
    assert of_run.arms == ["kd", "kd_rank"]
    assert of_run.experiment.training.epochs == 2
    pd.testing.assert_frame_equal(of_run.metrics, pd.read_csv(of_run.path / "metrics.csv"))
    assert (of_run.path / "figures" / "sheet.png").is_file()
    assert [facts["model"] for facts in of_run.manifest.teachers] == ["digits_teacher"]


def test_the_callback_gets_every_event_with_the_rows(ended: tuple[Run, list[Event]]) -> None:
    of_run, events = ended
    rows = [row for event in events if isinstance(event, EpochDone) for row in event.rows]
    accuracies = {(row["arm"], row["seed"], row["epoch"]): row["test_acc"] for row in rows}
    recorded = of_run.metrics.set_index(["arm", "seed", "epoch"])["test_acc"].to_dict()
    assert accuracies == recorded
    assert len(accuracies) == 12
    batches = [event for event in events if isinstance(event, BatchDone)]
    assert len(batches) % 6 == 0
    assert len(batches) >= 6


@pytest.mark.slow
def test_a_run_equals_that_of_the_program(ended: tuple[Run, list[Event]], tmp_path: Path) -> None:
    of_run, _ = ended
    words = [f"{key}={json.dumps(value)}" for key, value in SMALL.items()]
    command = [sys.executable, "-m", "rkkd_cli", "run", *words, "--name", "same", "--no-figures"]
    subprocess.run(
        command, cwd=tmp_path, check=True, capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    timing = ["epoch_seconds", "images_per_second"]
    same = open_run("same", tmp_path / "results").metrics.drop(columns=timing)
    pd.testing.assert_frame_equal(of_run.metrics.drop(columns=timing), same)


def test_an_opened_run_is_compared_and_judged(ended: tuple[Run, list[Event]]) -> None:
    opened = open_run(ended[0].path)
    last = opened.metrics[opened.metrics["epoch"] == 2].groupby("arm")["test_acc"].mean()
    summary = opened.summary().set_index("arm")
    assert summary["test_acc"].to_dict() == pytest.approx(last.to_dict())
    (row,) = opened.compare("kd", "kd_rank", metrics=["test_acc"]).to_dict("records")
    assert row["difference"] == pytest.approx(last["kd_rank"] - last["kd"])
    assert row["t_low"] <= row["difference"] <= row["t_high"]
    assert {"consistent direction", "ranking_ends_lower"} <= {f.name for f in opened.findings()}
    figures = opened.figures()
    assert {"rank", "kl", "test_acc", "difference", "sheet"} <= figures.keys()
    assert len(figures["sheet"].axes) == 6
    assert [*opened.figures("test_ce")] == ["test_ce"]
    against_itself = opened.compare(open_run(ended[0].path), metrics=["test_acc"])
    assert against_itself["difference"].tolist() == [0, 0]


def test_a_student_is_a_module_that_infers(ended: tuple[Run, list[Event]]) -> None:
    student = ended[0].student("kd_rank", seed=1)
    assert not student.module.training
    logits = student.module(torch.zeros(3, student.facts.channels, *student.facts.size))
    assert logits.shape == (3, 10)
    assert torch.isfinite(logits).all()


def test_a_grid_has_cells(tmp_path: Path) -> None:
    grid = load_experiment(
        "rank_grad", SMALL | {"seeds": [0], "vary": {"rank.weight": [0.5, 1.0]}, "rank.grad": True}
    )
    of_grid = run(grid, results=tmp_path, name="grid", progress=False)
    assert of_grid.cells["rank.weight"].dropna().tolist() == [0.5, 1.0]
    assert "marginals" in of_grid.figures()


def test_values_may_be_nested_and_numpys() -> None:
    nested = load_experiment(
        "rank_grad",
        {
            "training": {"epochs": np.int64(3)},
            "seeds": range(2),
            "dataset.root": Path("photos"),
            "vary": {"rank.weight": np.linspace(0.5, 1.0, 2)},
            "arms": {"a": {"rank.grad": True}, "b": {"rank": {"grad": np.bool_(False)}}},
        },
    )
    assert nested.training.epochs == 3
    assert nested.training.lr == load_experiment("rank_grad").training.lr
    assert nested.seeds == (0, 1)
    assert nested.vary["rank.weight"] == (0.5, 1.0)
    assert [arm.experiment.rank.grad for arm in nested.resolved_arms] == [True, False]


@pytest.mark.slow
def test_a_script_needs_no_guard_for_workers(tmp_path: Path) -> None:
    script = tmp_path / "study.py"
    script.write_text(
        "from rkkd_cli import load_experiment, run\n"
        f"overrides = {SMALL | {'seeds': [0, 1]}}\n"
        "print(run(load_experiment('rank_grad', overrides), workers=2, progress=False).status)\n",
        encoding="utf-8",
    )
    answer = subprocess.run(
        [sys.executable, str(script), "word"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert answer.stdout == "finished\n", answer.stderr
    (folder,) = (tmp_path / "results").iterdir()
    assert open_run(folder).manifest.command == ["python", str(script), "word"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"training.epoch": 3}, "did you mean 'training.epochs'"),
        ({"training.epochs": 0}, "training.epochs"),
        ({"teacher.weights": "gone.pt"}, "gone.pt"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_is_written(
    overrides: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        run(small(**overrides), results=tmp_path / "results", progress=False)
    assert not (tmp_path / "results").exists()


def test_what_a_run_lacks_is_a_sentence_too(ended: tuple[Run, list[Event]]) -> None:
    of_run = ended[0]
    for call, sentence in (
        (lambda: of_run.student("kdd"), "unknown arm 'kdd'"),
        (lambda: of_run.student("kd", seed=9), "unknown seed '9'"),
        (lambda: of_run.compare("kd", metrics=["acc"]), "unknown metric 'acc'"),
        (lambda: of_run.compare("kd", of_run), "arms of this run, or one other run"),
        (lambda: of_run.cells, "is no grid"),
        (lambda: open_run("nothing", of_run.path.parent), "no run 'nothing'"),
        (lambda: of_run.student("kd", weights="x"), "unknown weights 'x'"),  # type: ignore[arg-type]
        (lambda: run(small(), resume=True), "needs the name"),
        (lambda: run(small(), workers=0), "workers = 0: must be"),
        (lambda: run(small(), on_event=3), "must be a function"),  # type: ignore[arg-type]
        (lambda: load_experiment("rank_grad", ["a=1"]), "values by key"),  # type: ignore[arg-type]
        (lambda: load_experiment("rank_grad", {3: 3}), "3 is no key"),  # type: ignore[dict-item]
        (lambda: run(small(), loggers=["wandbb"]), "unknown logger 'wandbb'"),
    ):
        with pytest.raises(UserError, match=sentence):
            call()


def test_ctrl_c_saves_a_checkpoint_and_the_run_continues(
    tmp_path: Path, ended: tuple[Run, list[Event]], caplog: pytest.LogCaptureFixture
) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, BatchDone) and (event.epoch, event.batch) == (2, 1):
            signal.raise_signal(signal.SIGINT)

    former = signal.default_int_handler
    signal.signal(signal.SIGINT, former)  # which a job in the background is started to ignore
    with pytest.raises(KeyboardInterrupt, match="resume=True"):
        run(small(), results=tmp_path, name="cut", on_event=interrupt, progress=False)
    assert signal.getsignal(signal.SIGINT) is former
    cut = open_run("cut", tmp_path)
    assert cut.status == "interrupted"
    assert 0 < len(cut.metrics) < 12
    run(small(), results=tmp_path, name="cut", resume=True, progress=False)
    timing = ["epoch_seconds", "images_per_second"]
    assert cut.status == "finished"
    pd.testing.assert_frame_equal(
        cut.metrics.drop(columns=timing), ended[0].metrics.drop(columns=timing)
    )
    with caplog.at_level(logging.WARNING, "rkkd"):
        run(small(), results=tmp_path, name="cut", resume=True, progress=False)
    assert "there is nothing to resume" in caplog.text


def test_an_error_of_the_callback_ends_the_run_and_is_recorded(tmp_path: Path) -> None:
    def fail(event: Event) -> None:
        if isinstance(event, EpochDone):
            raise ZeroDivisionError("of mine")

    with pytest.raises(ZeroDivisionError, match="of mine"):
        run(small(), results=tmp_path, name="failed", on_event=fail, progress=False)
    assert open_run("failed", tmp_path).status == "failed"
    assert open_run("failed", tmp_path).manifest.reason == "of mine"


def test_a_run_in_another_thread_leaves_signals_alone(tmp_path: Path) -> None:
    runs: list[Run] = []
    experiment = small(seeds=[0])
    thread = threading.Thread(
        target=lambda: runs.append(run(experiment, results=tmp_path, progress=False))
    )
    thread.start()
    thread.join()
    assert runs[0].status == "finished"


@pytest.mark.slow
def test_the_page_about_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in python_blocks(ROOT / "docs" / "python.md"):
        code = code.replace('{"training.epochs": 10, "seeds": [0, 1, 2, 3]}', repr(SMALL))
        exec(compile(code, "python.md", "exec"), names)
    assert (tmp_path / "sheet.svg").is_file()
    assert len([*(tmp_path / "results").iterdir()]) == 2


def test_the_progress_bar_reaches_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(small(seeds=[0]), results=tmp_path)
    last = capsys.readouterr().err.split("\r")[-1]
    assert "seed 0, epoch 2" in last
    assert "100 %" in last
    assert "kd_rank" in last


def test_importing_the_package_alone_is_quick_and_names_what_it_has() -> None:
    code = (
        "import sys, rkkd_cli; print(sorted({m.split('.')[0] for m in sys.modules}"
        " & {'torch', 'pandas', 'numpy', 'matplotlib', 'pydantic', 'tqdm'}), rkkd_cli.__all__)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout == f"[] {rkkd_cli.__all__}\n", answer.stderr
    for name in rkkd_cli.__all__:
        assert getattr(rkkd_cli, name).__module__.startswith("rkkd_cli.api")
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        _ = rkkd_cli.runn
    assert issubclass(UserError, ValueError)
    assert issubclass(RunError, RuntimeError)
