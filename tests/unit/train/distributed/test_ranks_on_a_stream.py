"""Whole streams on several ranks: the same rows everywhere, and those of one process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trained
from trained import CPU, NEVER, Row, checkpoints_of, rows_of

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.errors import UserError
from rkkd_cli.sweep.engines.ranks import check_ranks
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup, TorchrunGroup
from rkkd_cli.train.events import BatchDone, Event, TeacherReady, Tick
from rkkd_cli.train.stop_controller import SharedStopController

Together = Callable[..., list[Any]]

# 65 images: the last batch has one, which only the first rank gets.
SMALL = (
    "training.batch_size=16", "teacher.training.epochs=1", "dataset.limit_train=65",
    "dataset.limit_test=33", "dataset.val_share=0.0",
)  # fmt: skip


def experiment_with(*overrides: str) -> Experiment:
    return trained.experiment_with(*SMALL, *overrides)


def events_of(cache: Path, group: ProcessGroup, *overrides: str) -> list[Event]:
    return trained.events_of(experiment_with(*overrides), cache, group=group)


def rows_together(together: Together, cache: Path, count: int, *overrides: str) -> list[list[Row]]:
    return together(count, lambda group: rows_of(events_of(cache, group, *overrides)))


@pytest.mark.parametrize("stacked", ["stacked=false", "stacked=true"])
def test_all_ranks_end_with_the_same_rows(stacked: str, cache: Path, together: Together) -> None:
    first, second = rows_together(together, cache, 2, stacked)
    assert [row["arm"] for row in first] == ["kd", "kd_rank"] * 2
    assert first == second
    assert rows_together(together, cache, 2, stacked)[0] == first  # to the last bit


def test_moving_averages_and_clipped_gradients_are_the_same_on_all_ranks(
    cache: Path, together: Together
) -> None:
    recipe = ("training.ema_decay=0.5", "training.clip_grad_norm=0.5", "training.momentum=0.0")
    first, second = rows_together(together, cache, 2, *recipe)
    assert first == second
    assert all("test_acc_ema" in row for row in first)


def test_a_larger_part_is_like_another_batch_size(cache: Path, together: Together) -> None:
    alone = rows_of(events_of(cache, SINGLE_PROCESS))
    first, _ = rows_together(together, cache, 2)
    assert first != alone
    for row, expected in zip(first, alone, strict=True):
        assert row["ce"] == pytest.approx(expected["ce"], rel=0.05)


def test_ranks_train_one_teacher_which_the_first_one_keeps(
    tmp_path: Path, together: Together
) -> None:
    def trained(group: TorchrunGroup) -> Any:
        events = events_of(tmp_path / f"cache-{group.rank}", group)
        ready = next(event for event in events if isinstance(event, TeacherReady))
        ticks = sum(isinstance(event, Tick) for event in events)
        return rows_of(events), ready.facts.get("source"), ticks

    first, second = together(2, trained)
    assert first[0] == second[0]
    assert first[1] == "trained"
    assert first[2] == second[2]
    assert list((tmp_path / "cache-0" / "teachers").glob("*/weights.pt"))
    assert not list((tmp_path / "cache-1").rglob("*.pt"))  # others need no cache at all
    kept = rows_of(events_of(tmp_path / "cache-0", SINGLE_PROCESS, "dataset.limit_train=64"))
    assert kept


@pytest.mark.parametrize("stop_after", [2, 7])
def test_stopped_after_any_batch_they_go_on_as_if_nothing_had_happened(
    stop_after: int, cache: Path, together: Together
) -> None:
    experiment = experiment_with()

    def resumed(group: TorchrunGroup) -> list[Row]:
        controller, steps = SharedStopController(NEVER, group), 0

        def ask(event: Event) -> None:
            nonlocal steps
            steps += isinstance(event, BatchDone)
            controller.stop_requested = group.rank == 1 and steps >= stop_after

        before = trained.events_of(experiment, cache, None, controller, ask, group)
        assert steps == stop_after
        _, checkpoint = checkpoints_of(before)[-1]
        states = group.broadcast({checkpoint.stream: checkpoint.state})
        return rows_of(before + trained.events_of(experiment, cache, states, group=group))

    assert together(2, resumed) == rows_together(together, cache, 2)


def test_an_arm_that_diverges_leaves_all_ranks(cache: Path, together: Together) -> None:
    arms = "arms={good={}, bad={training={lr=1e30}}}"
    first, second = rows_together(together, cache, 2, arms)
    assert first == second
    assert {row["arm"] for row in first} == {"good"}


@pytest.mark.parametrize(
    ("overrides", "count", "sentence"),
    [
        (("training.batch_size=3",), 4, "training.batch_size = 3 is shared by all ranks, and"),
        (("teacher.training.batch_size=1",), 2, "teacher.training.batch_size = 1 is shared"),
        (("method.name=crd",), 2, "method crd keeps a memory of all training images"),
        (
            ("sync_batchnorm=true",),
            2,
            "synchronises BatchNorm on CUDA devices only, and this is cpu",
        ),
    ],
)
def test_what_ranks_cannot_do_is_refused(
    overrides: tuple[str, ...], count: int, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        check_ranks(experiment_with(*overrides), count, CPU)


OF_EMBEDDINGS = (
    "task=embedding", "dataset.classes={train='0:5', test='5:10'}", "dataset.val_share=0.2",
    "student.embedding=8", "teacher.embedding=8", "training.per_class=5",
    "training.batch_size=15", "teacher.training.per_class=4", "teacher.training.batch_size=20",
)  # fmt: skip
ARMS_OF_EMBEDDINGS = "arms={triplet={method={name='triplet'}}, rkd={method={name='rkd'}}}"


def test_ranks_see_all_embeddings_of_a_batch_and_of_a_split(
    tmp_path: Path, together: Together
) -> None:
    def trained(group: ProcessGroup) -> list[Row]:
        cache = tmp_path / f"cache-{group.rank}-of-{group.world_size}"
        return rows_of(events_of(cache, group, *OF_EMBEDDINGS, ARMS_OF_EMBEDDINGS))

    first, second = together(2, trained)
    assert first == second
    alone = trained(SINGLE_PROCESS)
    for row, expected in zip(first, alone, strict=True):  # each rank has BatchNorm of its own
        assert row.keys() == expected.keys()
        assert row["triplet"] == pytest.approx(expected["triplet"], rel=0.2)
        assert row["val_map_at_r"] == pytest.approx(expected["val_map_at_r"], rel=0.2)
