"""Whole streams on several ranks: the same rows everywhere, and those of one process."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import parse_override
from rkkd_cli.config.presets import load_experiment
from rkkd_cli.errors import UserError
from rkkd_cli.sweep.engines.local import run_jobs
from rkkd_cli.sweep.engines.ranks import check_ranks
from rkkd_cli.sweep.recording.run_state import RunState
from rkkd_cli.train.distributed.process_group import SINGLE_PROCESS, ProcessGroup, TorchrunGroup
from rkkd_cli.train.events import BatchDone, Checkpoint, EpochDone, Event, TeacherReady, Tick
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import SharedStopController, StopController, Stopped

Together = Callable[..., list[Any]]
Row = dict[str, Any]
CPU = torch.device("cpu")

# 65 images: the last batch has one, which only the first rank gets.
SMALL = (
    "training.epochs=2", "training.batch_size=16", "teacher.training.epochs=1", "seeds=[0]",
    "dataset.limit_train=65", "dataset.limit_test=33", "dataset.val_share=0.0",
)  # fmt: skip


def experiment_with(*overrides: str) -> Experiment:
    given = {text.partition("=")[0]: text for text in (*SMALL, *overrides)}
    return load_experiment("rank_grad", [parse_override(text) for text in given.values()])


def rows_of(events: list[Event]) -> list[Row]:
    timing = ("epoch_seconds", "images_per_second")
    rows = [row for event in events if isinstance(event, EpochDone) for row in event.rows]
    return [{k: v for k, v in row.items() if k not in timing} for row in rows]


def events_of(cache: Path, process_group: ProcessGroup, *overrides: str) -> list[Event]:
    controller = (
        SharedStopController(10, process_group)
        if process_group.world_size > 1
        else StopController(10)
    )
    return list(
        run_jobs(
            RunState(experiment_with(*overrides)).work(),
            Runtime(CPU, cache, controller, process_group),
        )
    )


def rows_together(together: Together, cache: Path, count: int, *overrides: str) -> list[list[Row]]:
    return together(count, lambda group: rows_of(events_of(cache, group, *overrides)))


@pytest.mark.parametrize("stacked", ["stacked=false", "stacked=true"])
def test_all_ranks_end_with_the_same_rows(stacked: str, cache: Path, together: Together) -> None:
    first, second = rows_together(together, cache, 2, stacked)
    assert [row["arm"] for row in first] == ["kd", "kd_rank"] * 2
    assert first == second
    assert rows_together(together, cache, 2, stacked)[0] == first  # to the last bit


@pytest.mark.parametrize("count", [2, 3])
def test_with_synchronised_normalisation_they_are_those_of_one_process(
    count: int, cache: Path, together: Together
) -> None:
    exact = "dataset.limit_train=64"  # with an image that stands in, the statistics have it twice
    alone = rows_of(events_of(cache, SINGLE_PROCESS, exact))
    for rows in rows_together(together, cache, count, exact, "sync_batchnorm=true"):
        for row, expected in zip(rows, alone, strict=True):
            assert row.pop("arm") == expected["arm"]
            wanted = {name: value for name, value in expected.items() if name != "arm"}
            assert row == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_without_it_a_larger_part_is_like_another_batch_size(
    cache: Path, together: Together
) -> None:
    alone = rows_of(events_of(cache, SINGLE_PROCESS))
    first, _ = rows_together(together, cache, 2)
    assert first != alone
    for row, expected in zip(first, alone, strict=True):
        assert row["ce"] == pytest.approx(expected["ce"], rel=0.05)


def test_ranks_train_one_teacher_which_the_first_one_keeps(
    tmp_path: Path, together: Together
) -> None:
    def trained(group: TorchrunGroup) -> Any:
        events = events_of(tmp_path / f"cache-{group.rank}", group, "sync_batchnorm=true")
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

    def stopped(group: TorchrunGroup) -> tuple[list[Row], Any]:
        events: list[Event] = []
        controller = SharedStopController(10, group)
        with suppress(Stopped):
            for event in run_jobs(
                RunState(experiment).work(), Runtime(CPU, cache, controller, group)
            ):
                events.append(event)
                done = sum(isinstance(one, BatchDone) for one in events)
                controller.stop_requested = group.rank == 1 and done >= stop_after
        assert sum(isinstance(one, BatchDone) for one in events) == stop_after
        state = [event for event in events if isinstance(event, Checkpoint)][-1]
        return rows_of(events), group.broadcast({state.stream: state.state})

    def resumed(group: TorchrunGroup) -> list[Row]:
        before, states = stopped(group)
        events = run_jobs(
            RunState(experiment, states).work(),
            Runtime(CPU, cache, SharedStopController(10, group), group),
        )
        return before + rows_of(list(events))

    assert together(2, resumed) == rows_together(together, cache, 2)


def test_an_arm_that_diverges_leaves_all_ranks(cache: Path, together: Together) -> None:
    arms = "arms={good={}, bad={training={lr=1e30}}}"
    first, second = rows_together(together, cache, 2, arms)
    assert first == second
    assert {row["arm"] for row in first} == {"good"}


@pytest.mark.parametrize(
    ("overrides", "count", "sentence"),
    [
        (
            ("training.batch_size=3",),
            4,
            "training.batch_size = 3 is shared by all ranks, and there",
        ),
        (("teacher.training.batch_size=1",), 2, "teacher.training.batch_size = 1 is shared"),
        (("method.name=crd",), 2, "method crd keeps a memory of all training images"),
        (("stacked=true", "sync_batchnorm=true"), 2, "stacked arms have no sync_batchnorm"),
    ],
)
def test_what_ranks_cannot_do_is_refused(
    overrides: tuple[str, ...], count: int, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        check_ranks(experiment_with(*overrides), count)
