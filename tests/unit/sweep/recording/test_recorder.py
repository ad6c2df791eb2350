"""Which arms share a stream, and what a run leaves behind at each of its stages."""

from pathlib import Path
from typing import Any

import pytest
import torch
from trained import DIVERGING, experiment_with, runtime
from written import manifest_of, numbers_of

from rkkd_cli.config.description import made_title
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.presets import load_experiment, read_experiment
from rkkd_cli.errors import UserError
from rkkd_cli.records.metrics import columns, read_metrics
from rkkd_cli.sweep.engines.local import run_jobs
from rkkd_cli.sweep.jobs import group_by_stream
from rkkd_cli.sweep.recording.recorder import Recorder
from rkkd_cli.sweep.recording.run_state import RunState
from rkkd_cli.train.events import (
    ArmStopped,
    DatasetReady,
    EpochDone,
    Note,
    StreamStarted,
    TeacherReady,
    Warned,
)

REQUIRED = {
    "run", "status", "started", "ended", "command", "device", "datasets", "teachers", "stopped",
    "versions", "platform", "processor", "git_commit",
}  # fmt: skip


@pytest.mark.parametrize(
    "overrides",
    [
        {"rank": {"grad": True, "steepness": 3.0}},
        {"method": {"temperature": 8.0}},
        {"training": {"lr": 0.9, "optimizer": "adamw", "schedule": "cosine"}},
        {"student": {"model": "cnn2"}},
    ],
)
def test_arms_that_differ_in_what_the_student_does_share_a_stream(
    overrides: dict[str, Any],
) -> None:
    (arms,) = group_by_stream(experiment_with(arms={"base": {}, "other": overrides}).resolved_arms)
    assert [arm.name for arm in arms] == ["base", "other"]


@pytest.mark.parametrize(
    "overrides",
    [
        {"training": {"batch_size": 32}},
        {"training": {"epochs": 3}},
        {"dataset": {"flip": True}},
        {"dataset": {"val_share": 0.2}},
        {"teacher": {"model": "digits_student"}},
        {"teacher": {"training": {"lr": 0.01}}},
        {"precision": "bf16"},
    ],
)
def test_arms_that_differ_in_data_batches_or_teacher_ride_on_streams_of_their_own(
    overrides: dict[str, Any],
) -> None:
    groups = group_by_stream(
        experiment_with(arms={"a": {}, "other": overrides, "b": {}}).resolved_arms
    )
    assert [[arm.name for arm in arms] for arms in groups] == [["a", "b"], ["other"]]


class Run:
    """A recorder fed with the events of a real run, up to a point."""

    def __init__(self, experiment: Experiment, out: Path, cache: Path) -> None:
        self.recorder = Recorder(experiment, out, "first", "cpu (test)")
        self.events = run_jobs(RunState(experiment).work(), runtime(cache))
        self.directory = out / "first"

    def until(self, kind: type) -> None:
        for event in self.events:
            self.recorder.take(event)
            if isinstance(event, kind):
                return

    def to_the_end(self) -> None:
        for event in self.events:
            self.recorder.take(event)

    def manifest(self) -> dict[str, Any]:
        return manifest_of(self.directory)


@pytest.fixture
def run(tmp_path: Path, cache: Path) -> Run:
    return Run(experiment_with(arms={"kd": {}}), tmp_path, cache)


def test_nothing_is_written_before_the_images_are_read(run: Run, tmp_path: Path) -> None:
    run.until(Note)
    assert list(tmp_path.iterdir()) == []
    run.recorder.close("failed", "the images cannot be read")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [DatasetReady, TeacherReady, StreamStarted])
def test_a_run_is_running_once_the_images_are_read(run: Run, kind: type) -> None:
    run.until(kind)
    manifest = run.manifest()
    assert set(manifest) >= REQUIRED
    assert (manifest["status"], manifest["ended"]) == ("running", None)
    assert manifest["run"] == "first"
    assert manifest["device"] == "cpu (test)"
    assert manifest["versions"]["torch"] == torch.__version__
    assert read_metrics(run.directory / "metrics.csv").empty


def test_the_manifest_names_dataset_and_teacher(run: Run) -> None:
    run.until(StreamStarted)
    (dataset,), (teacher,) = run.manifest()["datasets"], run.manifest()["teachers"]
    assert (dataset["name"], dataset["train_images"], dataset["classes"]) == ("digits", 200, 10)
    assert len(dataset["fingerprint"]) == len(teacher["sha256"]) == 64
    assert teacher["model"] == "digits_teacher"
    assert {"source", "test_acc", "parameters", "key"} <= set(teacher)


def test_the_manifest_has_class_names_objectives_and_each_warning_once(run: Run) -> None:
    run.until(StreamStarted)
    for _ in range(2):
        run.recorder.take(Warned("The teacher is near chance."))
    manifest = run.manifest()
    assert manifest["datasets"][0]["class_names"] == [*map(str, range(10))]
    assert manifest["objectives"] == {"kd": "0.1·ce + 0.9·kl"}
    assert manifest["warnings"] == ["The teacher is near chance."]


def test_a_made_title_gets_the_number_of_classes(tmp_path: Path, cache: Path) -> None:
    experiment = experiment_with(arms={"kd": {}})
    run = Run(experiment.model_copy(update={"title": made_title(experiment)}), tmp_path, cache)
    run.until(DatasetReady)
    assert ", 10 classes: " in read_experiment(run.directory / "experiment.toml").title


def test_rows_are_on_the_disk_after_each_epoch(run: Run) -> None:
    for epoch in (1, 2):
        run.until(EpochDone)
        frame = read_metrics(run.directory / "metrics.csv")
        assert frame["epoch"].tolist() == list(range(1, epoch + 1))
    assert tuple(frame.columns) == columns(with_validation=False)


def test_a_finished_run_says_so_and_when(run: Run) -> None:
    run.to_the_end()
    run.recorder.close("finished")
    manifest = run.manifest()
    assert manifest["status"] == "finished"
    assert manifest["started"] <= manifest["ended"]
    assert manifest["stopped"] == []
    assert (manifest["reason"], manifest["process"]) == (None, None)
    assert {path.name for path in run.directory.iterdir()} == {
        "manifest.json", "metrics.csv", "experiment.toml", "checkpoints", "teachers",
        "final", ".lock",
    }  # fmt: skip


def test_a_failed_run_keeps_its_rows_and_the_reason(run: Run) -> None:
    run.until(EpochDone)
    run.recorder.close("failed", "no space left on device")
    assert run.manifest()["status"] == "failed"
    assert run.manifest()["reason"] == "no space left on device"
    assert len(read_metrics(run.directory / "metrics.csv")) == 1


def test_the_recorded_experiment_repeats_the_run(run: Run, tmp_path: Path, cache: Path) -> None:
    run.to_the_end()
    again = load_experiment(str(run.directory))
    assert again == run.recorder.experiment
    repeated = Run(again, tmp_path / "again", cache)
    repeated.to_the_end()
    assert numbers_of(run.directory) == numbers_of(repeated.directory)


def test_an_arm_that_stops_is_in_the_manifest_at_once(tmp_path: Path, cache: Path) -> None:
    run = Run(experiment_with(arms={**DIVERGING, "kd": {}}), tmp_path, cache)
    run.until(ArmStopped)
    (sentence,) = run.manifest()["stopped"]
    assert sentence.startswith("arm bad, seed 0 stopped at epoch 1")
    assert run.manifest()["status"] == "running"
    run.to_the_end()
    run.recorder.close("incomplete")
    assert [stop.arm for stop in run.recorder.stopped] == ["bad"]
    assert run.manifest()["status"] == "incomplete"
    assert read_metrics(run.directory / "metrics.csv")["arm"].tolist() == ["kd", "kd"]


def test_a_validation_split_of_one_arm_gives_the_file_its_columns(
    tmp_path: Path, cache: Path
) -> None:
    arms: dict[str, dict[str, Any]] = {"whole": {}, "held": {"dataset": {"val_share": 0.2}}}
    run = Run(experiment_with(arms=arms), tmp_path, cache)
    run.to_the_end()
    frame = read_metrics(run.directory / "metrics.csv")
    assert tuple(frame.columns) == columns(with_validation=True)
    assert frame.groupby("arm")["val_acc"].count().to_dict() == {"held": 2, "whole": 0}


def test_a_run_never_writes_into_another(run: Run, tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="run 'first' exists"):
        run.to_the_end()
    run.recorder.close("failed", "taken")
    assert [path.name for path in (tmp_path / "first").iterdir()] == ["notes.txt"]
