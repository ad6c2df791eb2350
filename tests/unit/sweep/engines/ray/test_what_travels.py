"""What travels between machines without a common disk: teachers whole, streamed images as lists."""

import pickle
from collections.abc import Generator
from pathlib import Path

import pytest
import torch
from running import FolderMaker
from trained import CPU, events_of, experiment_on, experiment_with, rows_of, runtime

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.data.images import Dataset
from rkkd_cli.data.reading import load_dataset
from rkkd_cli.data.stream import Stream
from rkkd_cli.errors import RunError
from rkkd_cli.models import build_model
from rkkd_cli.sweep.datasets import dataset_request
from rkkd_cli.sweep.engines.ray.teacher_files import (
    Files,
    TeacherBundle,
    read_teacher_files,
    teacher_from_files,
)
from rkkd_cli.sweep.engines.ray.worker import RayWorker, check_images_here, versions
from rkkd_cli.sweep.engines.worker import (
    DONE,
    EVENT,
    FAILED,
    WorkerOptions,
    check_sources,
    deserialize,
    drain,
    messages,
)
from rkkd_cli.sweep.recording.run_state import RunState
from rkkd_cli.train.events import Event, TeacherEpoch
from rkkd_cli.train.teacher.model import Teacher
from rkkd_cli.train.teacher.store import TeacherStore, teacher_key


@pytest.fixture
def experiment() -> Experiment:
    return experiment_with()


@pytest.fixture
def dataset(experiment: Experiment, cache: Path) -> Dataset:
    return load_dataset(dataset_request(experiment), cache)


def obtained(
    files: Files, experiment: Experiment, dataset: Dataset, cache: Path
) -> tuple[Teacher, TeacherBundle]:
    return drain(teacher_from_files(files, experiment, dataset, runtime(cache)))


def test_trained_elsewhere_it_is_the_same_here(
    experiment: Experiment, dataset: Dataset, tmp_path: Path
) -> None:
    there, here, third = (tmp_path / name for name in ("there", "here", "third"))
    assert read_teacher_files(experiment, dataset, [here]) == {}
    teacher, shipped = obtained({}, experiment, dataset, there)
    assert (shipped.facts["source"], shipped.fingerprint) == ("trained", teacher.fingerprint)
    TeacherStore(here).write_files(teacher_key(experiment, dataset), shipped.files)
    files = read_teacher_files(experiment, dataset, [third, here])
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
    with_file = experiment_with(f"teacher.weights={tmp_path}/file.pt")
    files = read_teacher_files(with_file, dataset, [])
    (tmp_path / "file.pt").unlink()
    same, shipped = obtained(files, with_file, dataset, tmp_path / "elsewhere")
    assert (same.fingerprint, shipped.facts["source"]) == (teacher.fingerprint, "checkpoint")


def test_a_worker_trains_on_several_teachers_as_this_process_does(
    dataset: Dataset, tmp_path: Path
) -> None:
    small = "{model='cnn2', training={epochs=1, lr=0.05}}"
    named = f"teachers={{cnn2={small}, other={small.replace('05', '1')}}}"
    experiment = experiment_with("teacher=none", named, arms={"mean": {}})
    bundles = {
        name: obtained({}, experiment.taught_by(name), dataset, tmp_path / "there")[1]
        for name in experiment.teachers
    }
    (job,) = RunState(experiment).work().jobs
    options = WorkerOptions.like_this_process("cpu", [experiment], runtime(tmp_path))
    sent = RayWorker(versions()).train(options, job, None, dataset, bundles)
    there = [deserialize(content) for kind, content in sent if kind == EVENT]
    assert rows_of(there) == rows_of(events_of(experiment, tmp_path / "there"))


def test_a_file_whose_head_is_replaced_travels_and_so_does_what_was_trained_from_it(
    dataset: Dataset, tmp_path: Path
) -> None:
    file = tmp_path / "file.pt"
    torch.save(build_model("digits_teacher", 5, 1).state_dict(), file)
    began = experiment_with(f"teacher.weights={file}", "teacher.training.epochs=1")
    files = read_teacher_files(began, dataset, [])
    teacher, shipped = obtained(files, began, dataset, tmp_path / "there")
    assert shipped.facts["source"] == "trained"
    assert shipped.facts["weights"]["source"] == str(file)
    same, again = obtained(shipped.files, began, dataset, tmp_path / "elsewhere")
    assert (same.fingerprint, again.facts["source"]) == (teacher.fingerprint, "cache")


def test_its_training_is_told_and_its_result_comes_last(
    experiment: Experiment, dataset: Dataset, tmp_path: Path
) -> None:
    sent = list(messages(teacher_from_files({}, experiment, dataset, runtime(tmp_path))))
    epochs = [one for kind, one in sent if kind == EVENT and isinstance(one, TeacherEpoch)]
    assert [one.epoch for one in epochs] == [1, 2]
    assert [kind for kind, _ in sent].index(DONE) == len(sent) - 1


def test_a_failure_is_a_message_of_one_line() -> None:
    def failing() -> Generator[Event, None, None]:
        yield TeacherEpoch(1, 2, "ce", 0.5, 90.0)
        raise RuntimeError("out of\nmemory")

    assert list(messages(failing()))[1:] == [(FAILED, "RuntimeError: out of memory")]


def test_other_images_are_refused() -> None:
    check_sources({"dataset": "a"}, {"dataset": "a"})
    with pytest.raises(RunError, match="other images or another teacher"):
        check_sources({"dataset": "a"}, {"dataset": "b"})


@pytest.fixture
def shipped(make_folder: FolderMaker, tmp_path: Path) -> Dataset:
    """A streamed dataset as it comes out at a node."""
    experiment = experiment_on(make_folder(), "dataset.streaming=true", "decoders=2")
    dataset = load_dataset(dataset_request(experiment), tmp_path)
    first = next(Stream(dataset, CPU, 4, seed=0).epoch(1))  # its decoders are at work
    assert dataset.fingerprint
    copy: Dataset = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(next(Stream(copy, CPU, 4, seed=0).epoch(1)).images, first.images)
    return copy


def test_a_node_with_the_same_images_reads_them_from_its_own_disk(shipped: Dataset) -> None:
    check_images_here(shipped)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_node_with_other_images_or_none_refuses(shipped: Dataset, split: str) -> None:
    listed = {"train": shipped.train, "test": shipped.test}[split]
    root = listed.files.root  # type: ignore[union-attr]
    image = root / split / "class001" / "0.png"
    content = image.read_bytes()
    image.write_bytes(bytes(len(content)))
    with pytest.raises(RunError, match=rf"a node of the cluster has other images in {root}; a str"):
        check_images_here(shipped)
    image.unlink()
    with pytest.raises(RunError, match=r"cannot read the image .*0\.png: No such file.*same place"):
        check_images_here(shipped)
