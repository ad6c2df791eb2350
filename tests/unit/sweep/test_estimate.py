"""What a job is said to need, against what can be counted by hand."""

from pathlib import Path
from typing import Any

import pytest
from clock import Clock
from detection_folders import coco_content, write_roboflow
from running import FolderMaker
from trained import CPU, experiment_on, experiment_with

from rkkd_cli.config.arms import Arm
from rkkd_cli.config.overrides import parse_override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.sweep import decoding_time, estimate
from rkkd_cli.sweep.estimate import JobMemory, epoch_time, job_memory
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.teacher.model import Teacher


def memory(*overrides: str) -> JobMemory:
    given = [parse_override(one) for one in overrides]
    return job_memory(load_experiment("rank_grad", given).resolved_arms)


def test_an_arm_keeps_weights_gradients_optimizer_and_checkpoints() -> None:
    floats = 438  # of the digits student
    assert memory().per_arm == 4 * floats * (1 + 2 + 2 * 2)
    assert memory("training.optimizer=adamw").per_arm == 4 * floats * (1 + 3 + 2 * 3)


def test_larger_batches_need_more_and_more_arms_nothing_shared() -> None:
    assert memory("training.batch_size=128").shared > memory().shared
    one = job_memory(load_experiment("rank_grad", []).resolved_arms[:1])
    assert one.shared == memory().shared


@pytest.mark.parametrize(("free", "arms"), [(0, 1), (1_000, 1), (10_000, 70), (20_000, 150)])
def test_as_many_arms_fit_as_four_fifths_of_the_memory_hold(free: int, arms: int) -> None:
    assert JobMemory(shared=1_000, per_arm=100).max_arms(free) == arms


class Steps:
    """A step of an arm takes a second, a look of the teacher 10, decoding an image 100."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.looks = Clock(), 0
        monkeypatch.setattr(estimate, "time", self.clock)
        monkeypatch.setattr(decoding_time, "time", self.clock)
        monkeypatch.setattr(decoding_time, "decode", lambda all: self.clock.sleep(100 * len(all)))
        step, look = ArmOnStream.step, Teacher.outputs

        def timed_step(arm: ArmOnStream, *batch: Any) -> Any:
            self.clock.sleep(1)
            return step(arm, *batch)

        def timed_look(teacher: Teacher, *images: Any, **how: Any) -> Any:
            self.clock.sleep(10)
            self.looks += 1
            return look(teacher, *images, **how)

        monkeypatch.setattr(ArmOnStream, "step", timed_step)
        monkeypatch.setattr(Teacher, "outputs", timed_look)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def test_an_epoch_takes_its_steps_its_evaluation_and_the_teachers_looks(steps: Steps) -> None:
    arms = experiment_with("dataset.limit_train=256", "training.batch_size=64").resolved_arms
    one, both = (epoch_time(some, CPU) for some in (arms[:1], arms))
    evaluation = 100 / 64 / 3  # the images of a batch, forward alone
    assert one.teacher == 4 * 10
    assert one.arms == pytest.approx(4 + evaluation)
    assert (both.teacher, both.arms) == (one.teacher, 2 * one.arms)
    assert one.epoch == one.teacher + one.arms


@pytest.mark.parametrize(("method", "looks"), [("kd", 1), ("mlkd", 2)])
def test_the_teachers_second_look_is_counted_only_where_a_method_asks_for_it(
    method: str, looks: int, steps: Steps
) -> None:
    arms = experiment_with(f"method.name={method}").resolved_arms
    assert epoch_time(arms, CPU).teacher == looks * 4 * 10
    assert steps.looks == looks * (2 + 1)  # one that is not counted, and one: they take long


def arms_on(root: Path, *overrides: str) -> tuple[Arm, ...]:
    return experiment_on(root, *overrides).resolved_arms


def test_a_stream_needs_no_more_memory_for_more_images(make_folder: FolderMaker) -> None:
    few, many = make_folder(classes=2, train=50), make_folder(classes=2, train=400)
    small, large = (job_memory(arms_on(root, "dataset.streaming=true")) for root in (few, many))
    assert small == large
    held = [job_memory(arms_on(root, "dataset.streaming=false")).shared for root in (few, many)]
    assert held[1] - held[0] == 2 * 700 * 3 * 16**2


def test_an_epoch_takes_at_least_as_long_as_its_decoding(
    make_folder: FolderMaker, steps: Steps
) -> None:
    root = make_folder(classes=2, train=300)
    by_one, by_hundred, held = (
        epoch_time(arms_on(root, *words), CPU)
        for words in (
            ("dataset.streaming=true", "decoders=1"),
            ("dataset.streaming=true", "decoders=100"),
            ("dataset.streaming=false",),
        )
    )
    assert (held.decoding, by_one.decoding) == (0, 604 * 100)
    assert by_one.epoch == by_one.decoding == 100 * by_hundred.decoding
    assert by_hundred.epoch == max(604, by_hundred.teacher + by_hundred.arms)


def test_a_detectors_epoch_on_images_from_the_disk_has_a_time(tmp_path: Path) -> None:
    root = write_roboflow(tmp_path, train=coco_content(4), valid=coco_content(2))
    model, options = "retinanet:resnet8", "{out_channels=8}"
    words = (
        "dataset.name=coco_folder", f"dataset.root={root}", "dataset.min_size=64", "decoders=1",
        "dataset.limit_train=none", "dataset.limit_test=none", "training.batch_size=2",
        f"teacher.model={model}", f"student.model={model}", f"teacher.options={options}",
        f"student.options={options}", "training.batches_per_epoch=3",
    )  # fmt: skip
    given = [parse_override(word) for word in words]
    arms = load_experiment("detection_scenes", given).resolved_arms
    epoch = epoch_time(arms[:1], CPU)
    assert min(epoch.teacher, epoch.arms, epoch.decoding) > 0
    assert job_memory(arms).per_arm > 0


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch, steps: Steps) -> list[int]:
    """The number of images of each timed step."""
    noted: list[int] = []
    step = ArmOnStream.step

    def noted_step(arm: ArmOnStream, batch: Any) -> Any:
        noted.append(len(batch.batch.images))
        return step(arm, batch)

    monkeypatch.setattr(ArmOnStream, "step", noted_step)
    return noted


def test_a_part_is_timed_if_a_student_takes_long_and_its_teacher_does_not(
    monkeypatch: pytest.MonkeyPatch, steps: Steps, sizes: list[int]
) -> None:
    created = ArmOnStream.__init__

    def slow(arm: ArmOnStream, *given: Any) -> None:
        created(arm, *given)
        arm.student.register_forward_pre_hook(lambda *_: steps.clock.sleep(0.5))

    monkeypatch.setattr(ArmOnStream, "__init__", slow)
    epoch_time(experiment_with("training.batch_size=64").resolved_arms, CPU)
    assert {*sizes} == {2 * estimate.FEW_IMAGES}


def test_of_a_batch_that_takes_long_a_part_is_timed(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    arms = experiment_with("dataset.limit_train=256", "training.batch_size=64").resolved_arms
    whole = epoch_time(arms, CPU)
    monkeypatch.setattr(estimate, "MAX_SECONDS", 0.0)
    part = epoch_time(arms, CPU)
    assert {*sizes} == {64, estimate.FEW_IMAGES}
    assert part.arms == pytest.approx(8 * whole.arms)  # a step takes a second, of any size
