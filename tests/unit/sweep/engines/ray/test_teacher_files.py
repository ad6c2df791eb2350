"""A teacher that travels between machines without a common disk stays the same teacher."""

from collections.abc import Generator
from pathlib import Path

import pytest
import torch

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import Override, parse_override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.data.catalogue import load_dataset
from rkkd_cli.data.images import Dataset
from rkkd_cli.errors import RunError
from rkkd_cli.sweep.check import dataset_request
from rkkd_cli.sweep.engines.ray.teacher_files import Files, TeacherBundle, files_here, teacher_from
from rkkd_cli.sweep.engines.worker import DONE, EVENT, FAILED, check_sources, messages, result_of
from rkkd_cli.train.events import Event, TeacherEpoch
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import StopController
from rkkd_cli.train.teacher.model import Teacher
from rkkd_cli.train.teacher.store import TeacherStore, teacher_key

CPU = torch.device("cpu")
QUICK = ("teacher.training.epochs=2", "dataset.limit_train=200", "dataset.limit_test=100")


@pytest.fixture
def experiment() -> Experiment:
    return load_experiment("rank_grad", [parse_override(one) for one in QUICK])


@pytest.fixture
def dataset(experiment: Experiment, cache: Path) -> Dataset:
    return load_dataset(dataset_request(experiment), cache)


def obtained(
    files: Files, experiment: Experiment, dataset: Dataset, cache: Path
) -> tuple[Teacher, TeacherBundle]:
    return result_of(
        teacher_from(files, experiment, dataset, Runtime(CPU, cache, StopController(10)))
    )


def test_trained_elsewhere_it_is_the_same_here(
    experiment: Experiment, dataset: Dataset, tmp_path: Path
) -> None:
    there, here, third = (tmp_path / name for name in ("there", "here", "third"))
    assert files_here(experiment, dataset, [here]) == {}
    teacher, shipped = obtained({}, experiment, dataset, there)
    assert (shipped.facts["source"], shipped.fingerprint) == ("trained", teacher.fingerprint)
    TeacherStore(here).put(teacher_key(experiment, dataset), shipped.files)
    files = files_here(experiment, dataset, [third, here])
    assert files == shipped.files
    same, again = obtained(files, experiment, dataset, third)
    assert (again.facts["source"], again.fingerprint) == ("cache", shipped.fingerprint)
    images = torch.randn(4, 1, 8, 8)
    assert torch.equal(same.outputs(images, False).logits, teacher.outputs(images, False).logits)


def test_a_checkpoint_file_travels_too(
    experiment: Experiment, dataset: Dataset, tmp_path: Path
) -> None:
    teacher, _ = obtained({}, experiment, dataset, tmp_path / "there")
    torch.save(teacher.model.state_dict(), tmp_path / "file.pt")
    given = [*(parse_override(one) for one in QUICK)]
    given.append(Override("teacher.checkpoint", str(tmp_path / "file.pt")))
    with_file = load_experiment("rank_grad", given)
    files = files_here(with_file, dataset, [])
    (tmp_path / "file.pt").unlink()
    same, shipped = obtained(files, with_file, dataset, tmp_path / "elsewhere")
    assert (same.fingerprint, shipped.facts["source"]) == (teacher.fingerprint, "checkpoint")


def test_its_training_is_told_and_its_result_comes_last(
    experiment: Experiment, dataset: Dataset, tmp_path: Path
) -> None:
    sent = list(
        messages(teacher_from({}, experiment, dataset, Runtime(CPU, tmp_path, StopController(10))))
    )
    epochs = [one for kind, one in sent if kind == EVENT and isinstance(one, TeacherEpoch)]
    assert [one.epoch for one in epochs] == [1, 2]
    assert [kind for kind, _ in sent].index(DONE) == len(sent) - 1


def test_a_failure_is_a_message_of_one_line() -> None:
    def failing() -> Generator[Event, None, None]:
        yield TeacherEpoch(1, 2, 0.5, 90.0)
        raise RuntimeError("out of\nmemory")

    assert list(messages(failing()))[1:] == [(FAILED, "RuntimeError: out of memory")]


def test_other_images_are_refused() -> None:
    check_sources({"dataset": "a"}, {"dataset": "a"})
    with pytest.raises(RunError, match="other images or another teacher"):
        check_sources({"dataset": "a"}, {"dataset": "b"})
