"""Where a teacher comes from: its training, the cache under its key, or a checkpoint file."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
import trained
from trained import events_of, rows_of, runtime

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.data.reading import load_dataset
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.models import build_model, count_parameters
from rkkd_cli.sweep.datasets import dataset_request
from rkkd_cli.sweep.sources import prepare_teacher
from rkkd_cli.train.events import TeacherEpoch, TeacherReady
from rkkd_cli.train.teacher.store import TeacherStore, teacher_key


def experiment_with(*overrides: str) -> Experiment:
    one_epoch = ("training.epochs=1", "teacher.training.epochs=1")
    return trained.experiment_with(*one_epoch, *overrides)


def ready(cache: Path, *overrides: str) -> dict[str, Any]:
    events = list(prepare_teacher(experiment_with(*overrides), runtime(cache)))
    (event,) = [event for event in events if isinstance(event, TeacherReady)]
    has_trained = any(isinstance(event, TeacherEpoch) for event in events)
    assert has_trained == (event.facts["source"] == "trained")
    return event.facts


def key_of(*overrides: str) -> str:
    experiment = experiment_with(*overrides)
    return teacher_key(experiment, load_dataset(dataset_request(experiment), Path("unused")))


@pytest.mark.parametrize(
    "override",
    [
        "dataset.limit_train=210",
        "dataset.val_share=0.2",
        "dataset.mean=[0.5]",
        "dataset.std=[0.5]",
        "dataset.crop_padding=2",
        "dataset.flip=true",
        "teacher.model=digits_student",
        "teacher.seed=1",
        "teacher.training.epochs=2",
        "teacher.training.batch_size=32",
        "teacher.training.lr=0.04",
        "teacher.training.momentum=0.8",
        "teacher.training.nesterov=false",
        "teacher.training.weight_decay=0.0",
        "teacher.training.optimizer=adamw",
        "teacher.training.schedule=constant",
        "teacher.training.milestones=[0.5]",
        "teacher.training.gamma=0.5",
        "teacher.training.warmup_epochs=1",
        "teacher.training.label_smoothing=0.1",
        "teacher.training.per_class=8",
        "dataset.crop=resized",
        "dataset.auto_augment=trivial",
        "dataset.mixup_alpha=0.2",
        "teacher.training.norm_bias_decay=false",
        "teacher.training.clip_grad_norm=1",
        "teacher.options.drop_rate=0.1",
        "teacher.training.min_lr=1e-4",
        "precision=bf16",
    ],
)
def test_the_key_changes_with_everything_that_determines_the_teacher(override: str) -> None:
    assert key_of(override) != key_of()


@pytest.mark.parametrize(
    "override",
    [
        "student.model=cnn2",
        "training.epochs=9",
        "training.lr=0.9",
        "training.batch_size=16",
        "method.alpha=0.3",
        "method.temperature=2",
        "rank.steepness=7",
        "rank.weight=7",
        "seeds=0:5",
        "dataset.limit_test=120",
        "dataset.crop_padding=1",
        "title=another",
    ],
)
def test_the_key_does_not_change_with_anything_else(override: str) -> None:
    assert key_of(override) == key_of()


def test_a_teacher_is_trained_once_and_then_found(tmp_path: Path) -> None:
    first, second = ready(tmp_path), ready(tmp_path)
    assert (first["source"], second["source"]) == ("trained", "cache")
    assert first | {"source": "cache"} == second
    assert ready(tmp_path, "teacher.seed=1")["sha256"] != first["sha256"]
    assert len(TeacherStore(tmp_path).list()) == 2


def test_the_facts_are_those_of_the_file(tmp_path: Path) -> None:
    facts = ready(tmp_path)
    weights = tmp_path / "teachers" / facts["key"] / "weights.pt"
    assert facts["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert facts["model"] == "digits_teacher"
    assert facts["parameters"] == count_parameters(build_model("digits_teacher", 10, 1))
    assert facts["test_acc"] == int(facts["test_acc"])  # percent of 100 images
    assert 0 <= facts["test_acc"] <= 100


def test_a_trained_teacher_knows_more_than_chance(tmp_path: Path) -> None:
    assert ready(tmp_path, "teacher.training.epochs=10")["test_acc"] > 60


def test_a_found_teacher_teaches_exactly_like_the_one_just_trained(tmp_path: Path) -> None:
    first, second = (rows_of(events_of(experiment_with(), tmp_path)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied", "removed", "other weights"])
def test_a_damaged_file_in_the_cache_is_noticed_and_trained_again(
    damage: str, tmp_path: Path
) -> None:
    facts = ready(tmp_path)
    weights = tmp_path / "teachers" / facts["key"] / "weights.pt"
    content = weights.read_bytes()
    if damage == "truncated":
        weights.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        weights.write_bytes(bytes([*content[:5000], content[5000] ^ 1, *content[5001:]]))
    elif damage == "emptied":
        weights.write_bytes(b"")
    elif damage == "removed":
        weights.unlink()
    else:
        torch.save(build_model("digits_teacher", 10, 1).state_dict(), weights)
    again = ready(tmp_path)
    assert again == facts
    assert weights.read_bytes() == content
    assert ready(tmp_path)["source"] == "cache"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_description_in_the_cache_counts_as_no_teacher(text: str, tmp_path: Path) -> None:
    key = ready(tmp_path)["key"]
    (tmp_path / "teachers" / key / "teacher.json").write_text(text)
    assert TeacherStore(tmp_path).list() == []
    assert ready(tmp_path)["source"] == "trained"
    assert [facts["key"] for facts in TeacherStore(tmp_path).list()] == [key]


def test_nothing_half_written_stays_in_the_cache(tmp_path: Path) -> None:
    key = ready(tmp_path)["key"]
    assert [path.name for path in (tmp_path / "teachers").iterdir()] == [key]
    files = {path.name for path in (tmp_path / "teachers" / key).iterdir()}
    assert files == {"weights.pt", "teacher.json", ".lock"}


def test_a_checkpoint_file_is_taken_instead_of_training(tmp_path: Path) -> None:
    first = ready(tmp_path)
    copy = tmp_path / "mine.pt"
    copy.write_bytes((tmp_path / "teachers" / first["key"] / "weights.pt").read_bytes())
    facts = ready(tmp_path / "empty", f"teacher.checkpoint={copy}")
    assert facts["source"] == "checkpoint"
    for name in ("test_acc", "parameters", "sha256", "model"):
        assert facts[name] == first[name]
    assert not (tmp_path / "empty").exists()


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save(build_model("resnet8", 10, 1).state_dict(), path)
    with pytest.raises(UserError, match=r"other\.pt is of another architecture"):
        ready(tmp_path, f"teacher.checkpoint={path}")


def test_a_teacher_without_recipe_or_checkpoint_is_refused(tmp_path: Path) -> None:
    experiment = experiment_with()
    teacher = experiment.teacher.model_copy(update={"training": None})
    bare = experiment.model_copy(update={"teacher": teacher, "arms": {"kd": {}}})
    with pytest.raises(UserError, match="neither a recipe nor weights"):
        list(prepare_teacher(bare, runtime(tmp_path)))


def test_a_teacher_that_diverges_is_an_error_and_is_not_cached(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"diverged at epoch 1, step [2-4]: ce is not finite"):
        ready(tmp_path, "teacher.training.lr=1e30")
    assert TeacherStore(tmp_path).list() == []
