"""Arms on batches of P classes × K images: apart, to go on with, and with cached logits."""

from pathlib import Path

import pytest
from trained import Arms, Row, checkpoints_of, events_of, experiment_with, going_on, rows_by_arm

from rkkd_cli.sweep.jobs import group_by_stream
from rkkd_cli.train.events import StreamStarted, TeacherBatch
from rkkd_cli.train.stop_controller import StopController

BY_CLASS = (
    "training.per_class=4", "training.batch_size=20", "training.batches_per_epoch=7",
    "training.epochs=2", "teacher.training.per_class=2", "teacher.training.batch_size=16",
    "teacher.training.epochs=1", "dataset.limit_train=65", "dataset.limit_test=33",
)  # fmt: skip
ARMS: Arms = {
    "kd": {"rank": {"grad": False}},
    "kd_rank": {"rank": {"grad": True}},
    "rkd": {"method": {"name": "rkd"}, "rank": {"grad": False}},
}


def rows_with(cache: Path, arms: Arms, *overrides: str) -> dict[str, list[Row]]:
    return rows_by_arm(events_of(experiment_with(*BY_CLASS, *overrides, arms=arms), cache))


@pytest.fixture(scope="module")
def company(cache: Path) -> dict[str, list[Row]]:
    return rows_with(cache, ARMS)


def test_teacher_and_students_have_as_many_batches_as_is_said(tmp_path: Path) -> None:
    events = list(events_of(experiment_with(*BY_CLASS, arms=ARMS), tmp_path))
    assert [event.batches for event in events if isinstance(event, StreamStarted)] == [7]
    teacher = [event for event in events if isinstance(event, TeacherBatch)]
    assert [(event.batch, event.batches) for event in teacher] == [(n, 4) for n in (1, 2, 3, 4)]


def test_arms_that_differ_in_their_batches_share_no_stream() -> None:
    arms: Arms = {
        **ARMS,
        "shuffled": {"training": {"per_class": "none", "batches_per_epoch": "none"}},
        "longer": {"training": {"batches_per_epoch": 8}},
    }
    streams = group_by_stream(experiment_with(*BY_CLASS, arms=arms).resolved_arms)
    assert [[arm.name for arm in arms] for arms in streams] == [[*ARMS], ["shuffled"], ["longer"]]


@pytest.mark.parametrize("name", ["kd", "rkd"])
def test_no_arm_changes_a_number_of_another(
    name: str, cache: Path, company: dict[str, list[Row]]
) -> None:
    assert rows_with(cache, {name: ARMS[name]}) == {name: company[name]}


def test_from_a_checkpoint_at_any_batch_the_same_rows_follow(
    cache: Path, company: dict[str, list[Row]]
) -> None:
    experiment = experiment_with(*BY_CLASS, arms=ARMS)
    events = events_of(experiment, cache, controller=StopController(0))
    for _, checkpoint in checkpoints_of(events)[2::5]:
        for name, rows in rows_by_arm(events_of(experiment, cache, going_on(checkpoint))).items():
            assert rows == company[name][-len(rows) :]


def test_the_teachers_outputs_are_kept_for_these_batches_alone(
    cache: Path, company: dict[str, list[Row]]
) -> None:
    logits_alone = {name: ARMS[name] for name in ("kd", "kd_rank")}
    for _ in range(2):  # written, then read
        rows = rows_with(cache, logits_alone, "cache_teacher=exact")
        assert rows == {name: company[name] for name in logits_alone}
    shuffled = "training.per_class=none", "training.batches_per_epoch=none"
    rows = rows_with(cache, logits_alone, *shuffled)
    assert rows_with(cache, logits_alone, *shuffled, "cache_teacher=exact") == rows != company
