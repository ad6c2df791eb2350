"""Loggers: every row once, whatever happens in between; one that fails is told once and dropped."""

import re
import struct
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from rkkd_cli.cli.flags.runs import choose_loggers
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.grid import CellSelection, with_cells
from rkkd_cli.config.overrides import Override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.errors import UserError
from rkkd_cli.installation import install_command
from rkkd_cli.records.metrics import csv_lines, header_line
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.jobs import Cell
from rkkd_cli.sweep.loggers import check_installed, make_loggers
from rkkd_cli.sweep.loggers.fan_out import Loggers
from rkkd_cli.sweep.loggers.logger import LoggedRun, Point, RunFiles
from rkkd_cli.sweep.recording.beginning import metrics_header

EPOCHS = 3
SEEDS = (0, 1)
ARMS = ("kd", "kd_rank")


def experiment_with(epochs: int = EPOCHS) -> Experiment:
    given = {"training.epochs": epochs, "seeds": list(SEEDS)}
    return load_experiment("rank_grad", [Override(key, value) for key, value in given.items()])


def rows(experiment: Experiment, epochs: range, seeds: tuple[int, ...] = SEEDS) -> list[Any]:
    """Return rows whose numbers tell the epoch and the seed; KL has no value in epoch 2."""
    return [
        dict.fromkeys(metrics_header(experiment), epoch + seed / 10)
        | {"arm": arm, "seed": seed, "epoch": epoch, "grad_cosine": float("nan")}
        | ({"kl": ""} if epoch == 2 else {})
        for epoch in epochs
        for seed in seeds
        for arm in experiment.arms
    ]


def lines(experiment: Experiment, some: list[Any]) -> list[str]:
    header = metrics_header(experiment)
    return [header_line(header), *csv_lines(header, some).splitlines()]


def cells(experiment: Experiment) -> list[Cell]:
    return [(arm, seed) for arm in experiment.arms for seed in experiment.seeds]


class Fake:
    """Remembers what it is told, and fails when it is told to."""

    def __init__(self, had: Mapping[Cell, int] | None = None, fails_at: int = 99) -> None:
        self.had, self.fails_at = had or {}, fails_at
        self.told: list[tuple[str, int, int]] = []
        self.last: Mapping[Cell, Point] = {}
        self.left: RunFiles | None = None

    def begin(self, logged: LoggedRun) -> Mapping[Cell, int]:
        if self.fails_at == 0:
            raise OSError("no\nroom")
        return self.had

    def row(self, point: Point) -> None:
        if point.epoch >= self.fails_at:
            raise RuntimeError("it broke")
        self.told.append((point.arm, point.seed, point.epoch))

    def end(self, last: Mapping[Cell, Point]) -> None:
        self.last = last

    def files(self, files: RunFiles) -> None:
        self.left = files


def test_each_logger_is_told_what_it_lacks_and_nothing_twice(tmp_path: Path) -> None:
    experiment, said = experiment_with(), list[str]()
    new, older = Fake(), Fake({("kd", 0): 2, ("kd_rank", 1): 1})
    loggers = Loggers({"new": lambda: new, "older": lambda: older}, said.append)
    run = RunDirectory(tmp_path)
    loggers.begin(run, "id", experiment, lines(experiment, rows(experiment, range(1, 2))))
    for epoch in (2, 3):
        loggers.rows(rows(experiment, range(epoch, epoch + 1)), ())
    loggers.end([])
    all_of_it = [(row["arm"], row["seed"], row["epoch"]) for row in rows(experiment, range(1, 4))]
    assert new.told == all_of_it
    had = {("kd", 0, 1), ("kd", 0, 2), ("kd_rank", 1, 1)}
    assert older.told == [one for one in all_of_it if one not in had]
    finals = {cell: (point.epoch, point.values["kl"]) for cell, point in new.last.items()}
    assert finals == {(arm, seed): (3, 3 + seed / 10) for arm, seed in cells(experiment)}
    assert said == []


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_logger_that_fails_is_told_once_and_the_others_go_on(at: int, tmp_path: Path) -> None:
    experiment, said = experiment_with(), list[str]()
    bad, good = Fake(fails_at=at), Fake()
    loggers = Loggers({"bad": lambda: bad, "good": lambda: good}, said.append)
    loggers.begin(RunDirectory(tmp_path), "id", experiment, lines(experiment, []))
    for epoch in (1, 2, 3):
        loggers.rows(rows(experiment, range(epoch, epoch + 1)), ())
    loggers.end([])
    (sentence,) = said
    assert sentence.startswith("--bad is given up (")
    assert "\n" not in sentence
    assert len(good.told) == 3 * len(cells(experiment)) == 3 * len(good.last)


def test_a_logger_whose_package_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rkkd_cli.sweep.loggers.find_spec", lambda _: None)
    for name in ("tensorboard", "wandb", "mlflow"):
        with pytest.raises(UserError, match=re.escape(install_command(name))):
            check_installed([name])
    check_installed([])


def leave_files(run: RunDirectory, experiment: Experiment) -> pd.DataFrame:
    """Leave a figure and weights as an ended run does; return its final table."""
    run.figures.mkdir()
    Image.new("RGB", (8, 6), (255, 0, 0)).save(run.figures / "sheet.png")
    for cell in cells(experiment):
        path = run.weights("final", *cell)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"weights of %b" % repr(cell).encode())
    return pd.DataFrame({"arm": list(experiment.arms), "acc": [50.0, 51.5], "std": [None, 1.5]})


def test_what_an_ended_run_leaves_is_handed_on(tmp_path: Path) -> None:
    experiment, fake, said = experiment_with(), Fake(), list[str]()
    loggers, run = Loggers({"fake": lambda: fake}, said.append), RunDirectory(tmp_path)
    loggers.begin(run, "id", experiment, lines(experiment, rows(experiment, range(1, 4))))
    loggers.end([])
    table = leave_files(run, experiment)
    run.weights("best", "kd", 1).parent.mkdir()
    run.weights("best", "kd", 1).write_bytes(b"best")
    loggers.files(run, table)
    assert said == []
    assert fake.left is not None
    assert [path.name for path in fake.left.figures] == ["sheet.png"]
    assert fake.left.table is table
    places = {cell: [p.parent.name for p in paths] for cell, paths in fake.left.weights.items()}
    assert places.pop(("kd", 1)) == ["final", "best"]
    assert list(places.values()) == [["final"]] * (len(cells(experiment)) - 1)


def test_a_server_that_does_not_answer_is_told_before_the_first_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # discard: nobody listens
    experiment, said = experiment_with(), list[str]()
    loggers = make_loggers(["mlflow"], said.append)
    loggers.begin(RunDirectory(tmp_path), "id", experiment, lines(experiment, []))
    (sentence,) = said
    assert "--mlflow is given up (OSError: no answer from http://127.0.0.1:9" in sentence


@pytest.mark.parametrize(
    ("options", "names", "tags"),
    [
        ({}, (), ()),
        ({"mlflow": True, "tags": ["a,b", "c=d", "a"]}, ("mlflow",), ("a", "b", "c=d")),
        ({"wandb_project": "mine"}, ("wandb",), ()),
    ],
)
def test_loggers_are_chosen_by_flags(
    options: Any, names: Any, tags: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rkkd_cli.sweep.loggers.find_spec", lambda _: True)
    wanted = {"wandb_project": None, "tags": None, "wandb": False, "mlflow": False} | options
    assert choose_loggers(**wanted) == (names, wanted["wandb_project"], tags)


@pytest.mark.parametrize(
    ("tags", "wandb", "reason"),
    [(["a"], False, "--tag needs a logger"), (["a,,b"], True, "1 to 64"), (["x" * 65], True, "64")],
)
def test_tags_that_no_logger_takes_are_refused(
    tags: list[str], wandb: bool, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rkkd_cli.sweep.loggers.find_spec", lambda _: True)
    with pytest.raises(UserError, match=reason):
        choose_loggers(None, tags, wandb=wandb)


def sessions(name: str, tmp_path: Path, torn: str = "") -> list[str]:
    """Log in three sessions: the first is cut short and its last epoch is trained again.

    The third, of the ended run, logs what it has left.
    """
    said: list[str] = []
    experiment, run = experiment_with(), RunDirectory(tmp_path)
    first = make_loggers([name], said.append, "project", ("quick", "lr=0.1"))
    first.begin(run, "id", experiment, lines(experiment, []))
    first.rows(rows(experiment, range(1, 3)), ())
    first.end([])
    for path in tmp_path.glob(torn) if torn else ():
        with path.open("ab") as file:
            file.write(struct.pack("<Q", 1000) + b"torn")
    second = make_loggers([name], said.append)
    second.begin(run, "id", experiment, lines(experiment, rows(experiment, range(1, 2))))
    second.rows(rows(experiment, range(2, 4)), ())
    second.end([])
    third = make_loggers([name], said.append)
    third.begin(run, "id", experiment, lines(experiment, rows(experiment, range(1, 4))))
    third.end([])
    third.files(run, leave_files(run, experiment))
    return said


def test_event_files_have_every_epoch_once_also_after_a_torn_end(tmp_path: Path) -> None:
    assert sessions("tensorboard", tmp_path, torn="tensorboard/kd-seed1/events.*") == []
    folders = sorted(path.name for path in (tmp_path / "tensorboard").iterdir())
    assert folders == ["kd-seed0", "kd-seed1", "kd_rank-seed0", "kd_rank-seed1", "summary"]
    summary = EventAccumulator(str(tmp_path / "tensorboard" / folders.pop()))
    summary.Reload()
    (image,) = summary.Images("figures/sheet")
    assert (image.width, image.height) == (8, 6)
    (table,) = summary.Tensors("final table/text_summary")
    assert b"| kd | 50.0 |  |\n| kd_rank | 51.5 | 1.5 |" in table.tensor_proto.string_val[0]
    for folder in folders:
        seed = int(folder[-1])
        found = EventAccumulator(str(tmp_path / "tensorboard" / folder))
        found.Reload()
        points = [(one.step, one.value) for one in found.Scalars("rank")]
        assert points == [(e, pytest.approx(e + seed / 10)) for e in (1, 2, 3)]
        assert [one.step for one in found.Scalars("kl")] == [1, 3]  # no value in epoch 2
        assert "grad_cosine" not in found.Tags()["scalars"]
        assert [one.step for one in found.Scalars("final/test_acc")] == [3]
        told = found.PluginTagToContent("hparams")
        start = HParamsPluginData.FromString(told["_hparams_/session_start_info"])
        settings = start.session_start_info.hparams
        assert settings["arm"].string_value == folder[:-6]
        assert settings["seed"].number_value == seed
        assert settings["rank.grad"].number_value == (folder == f"kd_rank-seed{seed}")
        assert "_hparams_/session_end_info" in told


def test_a_grid_with_more_cells_than_open_writers_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rkkd_cli.sweep.loggers.to_tensorboard.MAX_OPEN_WRITERS", 8)
    axes = {"method.temperature": tuple(range(1, 31)), "training.lr": (0.1, 0.01)}
    base = experiment_with(epochs=2).model_copy(update={"vary": axes, "seeds": (0,)})
    experiment, said = with_cells(base, CellSelection()), list[str]()
    loggers = make_loggers(["tensorboard"], said.append)
    loggers.begin(RunDirectory(tmp_path), "id", experiment, lines(experiment, []))
    loggers.rows(rows(experiment, range(1, 3), (0,)), experiment.vary)
    loggers.end([])
    assert said == []
    assert len(list(tmp_path.glob("tensorboard/*"))) == len(experiment.arms) > 60
    found = EventAccumulator(str(tmp_path / "tensorboard/temperature=7_lr=0.01-seed0"))
    found.Reload()
    assert [one.step for one in found.Scalars("kl")] == [1]  # no value in epoch 2
    assert [one.step for one in found.Scalars("rank")] == [1, 2]
    assert "method.temperature" not in found.Tags()["scalars"]  # it is a setting, not a metric


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the library's own
def test_mlflow_has_every_epoch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert sessions("mlflow", tmp_path) == []
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = [one for one in client.search_experiments() if one.name == tmp_path.name]
    runs = client.search_runs([experiment.experiment_id])
    runs.sort(key=lambda run: str(run.info.run_name))
    names = [run.info.run_name for run in runs]
    assert names == ["kd-seed0", "kd-seed1", "kd_rank-seed0", "kd_rank-seed1", "summary"]
    summary = runs.pop()
    assert summary.info.status == "FINISHED"
    left = client.list_artifacts(summary.info.run_id)
    assert sorted(one.path for one in left) == ["figures", "final_table.csv"]
    for run in runs:
        (kept,) = client.list_artifacts(run.info.run_id, "final")
        assert kept.path == f"final/{run.info.run_name}.safetensors"
        assert (run.data.tags["quick"], run.data.tags["lr"]) == ("true", "0.1")
        seed = int(run.data.params["seed"])
        history = client.get_metric_history(run.info.run_id, "rank")
        assert [(one.step, one.value) for one in history] == [(e, e + seed / 10) for e in (1, 2, 3)]
        assert run.data.params["method.temperature"] == "4.0"
        assert run.info.status == "FINISHED"


def wandb_records(path: Path) -> list[Any]:
    """Return the records in a .wandb file: LevelDB's log format, a protobuf message a record."""
    message = import_module("wandb.proto.wandb_internal_pb2").Record
    content, place, records, part = path.read_bytes(), 7, list[bytes](), b""
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        part += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            records.append(part)
            part = b""
    return [message.FromString(one) for one in records]


def whole_wandb_records(path: Path) -> list[Any]:
    """Return the records once the file is whole: the library's own process writes it."""
    for _ in range(100):
        records = wandb_records(path)
        if records and records[-1].WhichOneof("record_type") == "exit":
            return records
        time.sleep(0.1)
    raise AssertionError(f"{path} has no end")


def wandb_rows(records: list[Any]) -> list[dict[str, float]]:
    """Return the history among the records."""
    return [
        {one.key or one.nested_key[0]: float(one.value_json) for one in record.history.item}
        for record in records
        if record.history.item
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the library's own
def test_wandb_files_have_every_epoch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    assert sessions("wandb", tmp_path) == []
    found: dict[str, list[tuple[float, float]]] = {}
    for path in sorted(tmp_path.glob("wandb/offline-run-*/run-*.wandb")):
        records = whole_wandb_records(path)
        (begun,) = [one.run for one in records if one.run.run_id]
        if begun.display_name == "summary":
            made = {one.artifact.name: one.artifact.manifest.contents for one in records}
            paths = sorted(entry.path for entry in made[f"{tmp_path.name}-weights"])
            assert paths == [f"final/{arm}-seed{k}.safetensors" for arm in ARMS for k in SEEDS]
            continue
        assert set(begun.tags) in ({"quick", "lr=0.1"}, set())  # of the first session, and later
        told = [(row["_step"], row["rank"]) for row in wandb_rows(records)]
        found.setdefault(path.name, []).extend(told)
    assert len(found) == len(cells(experiment_with()))
    expected = [[(e, e + seed / 10) for e in (1, 2, 3)] for seed in SEEDS]
    assert all(sorted(rows) in expected for rows in found.values())


def test_only_cells_that_will_have_no_more_rows_are_final(tmp_path: Path) -> None:
    experiment, fake = experiment_with(), Fake()
    loggers = Loggers({"fake": lambda: fake}, lambda _: None)
    loggers.begin(RunDirectory(tmp_path), "id", experiment, lines(experiment, []))
    loggers.rows(rows(experiment, range(1, 3)), ())
    loggers.end([("kd", 1)])
    assert {cell: point.epoch for cell, point in fake.last.items()} == {("kd", 1): 2}
