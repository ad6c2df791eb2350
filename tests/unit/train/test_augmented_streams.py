"""Arms on augmented, mixed images: apart, to go on with, and the same on several ranks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trained import Arms, Row, checkpoints_of, events_of, experiment_with, going_on, rows_by_arm

from rkkd_cli.sweep.jobs import group_by_stream
from rkkd_cli.train.distributed.process_group import TorchrunGroup
from rkkd_cli.train.events import TeacherEpoch
from rkkd_cli.train.stop_controller import StopController

AUGMENTED = (
    "dataset.crop=resized", "dataset.auto_augment=rand", "dataset.color_jitter=0.4",
    "dataset.random_erase=0.25", "dataset.mixup_alpha=0.8", "dataset.cutmix_alpha=1.0",
    "dataset.limit_train=65", "training.batch_size=16", "dataset.limit_test=33",
    "teacher.training.epochs=1",
)  # fmt: skip
ARMS: Arms = {
    "kd": {"rank": {"grad": False}},
    "smooth": {"training": {"label_smoothing": 0.2}},
    "ce": {"method": {"name": "ce"}, "rank": {"grad": False}},
    "dist": {"method": {"name": "dist"}},
}


def rows_with(cache: Path, arms: Arms, *overrides: str) -> dict[str, list[Row]]:
    return rows_by_arm(events_of(experiment_with(*AUGMENTED, *overrides, arms=arms), cache))


@pytest.fixture(scope="module")
def company(cache: Path) -> dict[str, list[Row]]:
    return rows_with(cache, ARMS)


def test_arms_that_differ_in_label_smoothing_share_a_stream_those_in_augmentation_do_not() -> None:
    arms: Arms = {**ARMS, "plain": {"dataset": {"cutmix_alpha": 0.0}}}
    streams = group_by_stream(experiment_with(*AUGMENTED, arms=arms).resolved_arms)
    assert [[arm.name for arm in stream] for stream in streams] == [[*ARMS], ["plain"]]


@pytest.mark.parametrize("name", ARMS)
def test_no_arm_changes_a_number_of_another(
    name: str, cache: Path, company: dict[str, list[Row]]
) -> None:
    assert rows_with(cache, {name: ARMS[name]}) == {name: company[name]}


def test_from_a_checkpoint_at_any_batch_the_same_rows_follow(
    cache: Path, company: dict[str, list[Row]]
) -> None:
    experiment = experiment_with(*AUGMENTED, arms=ARMS)
    events = events_of(experiment, cache, controller=StopController(0))
    checkpoints = [checkpoint for _, checkpoint in checkpoints_of(events)]
    for checkpoint in (checkpoints[1], checkpoints[-3]):
        later = rows_by_arm(events_of(experiment, cache, going_on(checkpoint)))
        for name, rows in later.items():
            assert rows == company[name][-len(rows) :]


def test_two_ranks_end_with_the_same_rows_close_to_those_of_one(
    cache: Path, together: Callable[..., list[Any]]
) -> None:
    arms = {name: ARMS[name] for name in ("kd", "smooth")}
    experiment = experiment_with(*AUGMENTED, "training.epochs=1", arms=arms)

    def rows(group: TorchrunGroup) -> dict[str, list[Row]]:
        return rows_by_arm(events_of(experiment, cache, group=group))

    first, second = together(2, rows)
    assert first == second
    for name, (row,) in rows_by_arm(events_of(experiment, cache)).items():
        assert first[name][0]["ce"] == pytest.approx(row["ce"], rel=0.05)  # BatchNorm is each one's


def test_the_teacher_learns_from_augmented_and_mixed_images_too(tmp_path: Path) -> None:
    def losses(*overrides: str) -> list[float]:
        experiment = experiment_with(*overrides, "teacher.training.epochs=1", arms={"kd": {}})
        events = events_of(experiment, tmp_path)
        return [event.loss for event in events if isinstance(event, TeacherEpoch)]

    (plain,), (mixed,) = losses(), losses("dataset.mixup_alpha=5.0")
    (smooth,) = losses("teacher.training.label_smoothing=0.3")
    assert len({plain, mixed, smooth}) == 3


def test_smoothing_is_in_the_training_ce_and_not_in_the_held_out_one(cache: Path) -> None:
    arms: Arms = {
        "plain": {"training": {"lr": 1e-12}},
        "smooth": {"training": {"lr": 1e-12, "label_smoothing": 0.4}},
    }
    rows = rows_with(cache, arms)
    for plain, smooth in zip(rows["plain"], rows["smooth"], strict=True):
        assert plain["ce"] != smooth["ce"]
        same = ("kl", "rank", "test_ce", "test_acc", "train_acc", "agreement")
        assert [plain[key] for key in same] == [smooth[key] for key in same]
