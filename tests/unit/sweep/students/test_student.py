"""Students that are read back from their run: as measured there, whatever their method adds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from running import quick
from safetensors.torch import load_file, save_file
from trained import CPU, arm_of, events_of, experiment_with, rows_by_arm

from rkkd_cli.errors import RunError, UserError
from rkkd_cli.models import build_model
from rkkd_cli.models.checkpoint.layout import read_weights
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.recording.recorder import Recorder
from rkkd_cli.sweep.students.evaluate import evaluate_split
from rkkd_cli.sweep.students.export import example_images, export_program
from rkkd_cli.sweep.students.student import read_student, read_students
from rkkd_cli.sweep.teacher_import import recognise_teacher

ARMS: dict[str, Any] = {
    "kd": {},
    "simkd": arm_of("simkd") | {"student": {"model": "resnet8"}},
    "bad": {"training": {"lr": 1e30}},
}


@pytest.fixture(scope="module")
def run(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run with a student of one network, one with a projector, and one that has diverged."""
    experiment = experiment_with(*quick("dataset.crop_padding=1"), arms=ARMS)
    recorder = Recorder(experiment, tmp_path_factory.mktemp("students"), "run", "cpu")
    events = events_of(experiment, cache, at_each=recorder.take)
    recorder.close("incomplete")
    assert rows_by_arm(events).keys() == {"kd", "simkd"}
    return recorder.started_run


@pytest.mark.parametrize("arm", ["kd", "simkd"])
def test_a_student_measures_as_it_did_after_its_last_epoch(
    arm: str, run: RunDirectory, cache: Path
) -> None:
    student = read_student(run, arm)
    (measured,) = evaluate_split([student], "test", cache, CPU)
    metrics = run.read_metrics(run.read_manifest())
    row = metrics[metrics["arm"] == arm].iloc[-1]
    assert (measured.acc, measured.top5) == (row["test_acc"], row["test_top5"])
    assert measured.ce == pytest.approx(row["test_ce"], rel=1e-5)
    assert student.facts.test_acc == row["test_acc"]


def test_a_student_of_simkd_needs_its_own_file_alone(run: RunDirectory) -> None:
    kept = load_file(run.weights("final", "simkd", 0))
    assert {name.partition(".")[0] for name in kept} == {"features", "projector", "classifier"}
    classifier = [name for name in kept if name.startswith("classifier.")]
    teacher = build_model("digits_teacher", 10, 1).state_dict()
    assert 0 < len(classifier) < len(teacher)
    student, other = read_student(run, "simkd"), build_model("digits_teacher", 10, 1)
    images = example_images(student, 3)
    assert not torch.equal(student.module(images), other(images))
    assert torch.equal(student.module(images), read_student(run, "simkd").module(images))


def test_a_student_of_simkd_is_no_teacher(run: RunDirectory) -> None:
    with pytest.raises(UserError, match="no model that can teach"):
        recognise_teacher(read_weights(run.weights("final", "simkd", 0)))
    assert recognise_teacher(read_weights(run.weights("final", "kd", 0))).model.model == (
        "digits_student"
    )


@pytest.mark.parametrize("arm", ["kd", "simkd"])
def test_an_exported_program_gives_the_same_logits(arm: str, run: RunDirectory) -> None:
    exported = export_program(read_student(run, arm))
    assert exported.difference is not None
    assert exported.difference < 1e-5


class Noisy(torch.nn.Module):
    """A network that never gives the same logits again."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :10] + torch.rand(10)


class Counting(torch.nn.Module):
    """A network that Python can only run for a fixed number of images."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(len(x), -1)[:, :10]


class Fickle(torch.nn.Module):
    """A network that cannot be traced: it looks at values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Noisy(), "of kd, seed 0 gives other logits than the network"),
        (Fickle(), r"digits_student cannot be exported as a graph .*; export .*\.safetensors"),
    ],
)
def test_a_graph_that_is_not_the_network_is_not_written(
    module: torch.nn.Module, message: str, run: RunDirectory
) -> None:
    student = replace(read_student(run, "kd"), module=module)
    with pytest.raises(RunError, match=message):
        export_program(student)


def test_a_network_may_count_its_images(run: RunDirectory) -> None:
    assert export_program(replace(read_student(run, "kd"), module=Counting())).difference == 0


def test_a_diverged_arm_has_no_weights(run: RunDirectory) -> None:
    with pytest.raises(UserError, match=r"arm bad, seed 0 of run 'run' has no .*: it diverged"):
        read_students(run, None, None, "final")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rkkd.mean": "[0.1, 0.2]"}, "is damaged"),
        ({"rkkd.mean": "much"}, "mean missing or damaged"),
        ({"rkkd.classes": "11"}, "is damaged"),
        ({"rkkd.image_size": "8"}, "image_size missing or damaged"),
    ],
)
def test_facts_that_make_no_sense_are_refused(
    changed: dict[str, str], message: str, run: RunDirectory, tmp_path: Path
) -> None:
    other = RunDirectory(tmp_path)
    other.experiment.write_bytes(run.experiment.read_bytes())
    path = other.weights("final", "kd", 0)
    path.parent.mkdir()
    student = read_student(run, "kd")
    facts = {f"rkkd.{key}": text for key, text in student.metadata.items()} | changed
    save_file(load_file(student.path), path, facts)
    with pytest.raises(UserError, match=message):
        read_student(other, "kd")
