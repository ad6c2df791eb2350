"""Embeddings: rows of distances against loops, and lockstep's promises for their training."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from closed_form import wave
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from trained import Arms, checkpoints_of, events_of, experiment_with, going_on, rows_of

from rkkd_cli.config.experiment import Experiment, MethodConfig, RankConfig
from rkkd_cli.config.objective import TripletConfig
from rkkd_cli.config.tasks import EMBEDDING
from rkkd_cli.data.targets import Targets
from rkkd_cli.errors import UserError
from rkkd_cli.methods import DistillInputs, ModelPair, build_objective
from rkkd_cli.methods.inputs import logits_only
from rkkd_cli.models import build_model
from rkkd_cli.models.features import with_unit_outputs
from rkkd_cli.tasks import task_for
from rkkd_cli.tasks.embedding import Embedding
from rkkd_cli.tasks.retrieval import retrieval_metrics
from rkkd_cli.train.events import TeacherReady

TASK = Embedding(TripletConfig())
LABELS = torch.tensor([0, 1, 0, 2, 1, 2, 0])

IS_EMBEDDING = ("task=embedding", "student.embedding=8", "teacher.embedding=16",
                "teacher.normalize=true")  # fmt: skip
ARMS: Arms = {
    "triplet": {"method": {"name": "triplet"}},
    "rkd": {"method": {"name": "rkd"}},
    "rkd_rank": {"method": {"name": "rkd"}, "rank": {"grad": True}},
    "kd": {"method": {"name": "kd"}},
    "standard": {"method": {"name": "kd", "standardize_logits": True}},
    "dist": {"method": {"name": "dist"}},
    "darkrank": {"method": {"name": "darkrank"}},
    "sp": {"method": {"name": "sp"}},
    "fitnet": {"method": {"name": "fitnet", "fitnet": {"hint_layer": 1}}},
    "averaged": {"method": {"name": "kd"}, "training": {"ema_decay": 0.9}},
}


def embedding_with(*overrides: str, arms: Arms = ARMS) -> Experiment:
    return experiment_with(*IS_EMBEDDING, *overrides, arms=arms)


def loop_rows(e: Tensor) -> Tensor:
    rows = [
        [-((one - other) ** 2).sum() for j, other in enumerate(e) if j != i]
        for i, one in enumerate(e)
    ]
    return torch.stack([torch.stack(row) for row in rows])


@settings(max_examples=30)
@given(st.floats(0, 6), st.integers(2, 7), st.integers(1, 5))
def test_a_row_has_the_negative_squared_distances_to_all_others(
    phase: float, batch: int, dimensions: int
) -> None:
    e = wave([batch, dimensions], phase, 2.0)
    torch.testing.assert_close(TASK.rows(e), loop_rows(e), rtol=1e-9, atol=1e-11)


def test_the_gradient_of_rows_is_that_of_the_loop() -> None:
    e = wave([5, 3], 0.3).requires_grad_()
    weights = wave([5, 4], 1.0)
    found, expected = (
        torch.autograd.grad((weights * rows).sum(), e)[0] for rows in (TASK.rows(e), loop_rows(e))
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_the_rows_of_several_arms_are_those_of_each() -> None:
    several = wave([3, 6, 4], 0.2)
    alone = torch.stack([TASK.rows(one) for one in several])
    torch.testing.assert_close(TASK.rows(several), alone, rtol=1e-9, atol=1e-11)


def test_methods_see_the_embedding_as_pooled_features() -> None:
    e = wave([7, 3])
    features = TASK.features(logits_only(e))
    assert torch.equal(features.pooled, e)
    assert torch.equal(features.logits, TASK.rows(e))


@pytest.mark.parametrize("negatives", ["distance", "semihard", "all"])
def test_the_recorded_triplet_loss_is_the_optimised_one(negatives: Any) -> None:
    task, e = Embedding(TripletConfig(negatives=negatives, margin=0.7)), wave([7, 3])
    term = task.hard_term(experiment_with().training)
    optimised = term.loss(task.features(logits_only(e)), Targets(LABELS))
    recorded = task.hard_values([term, term], [e, 2 * e], Targets(LABELS)).mean(dim=1)
    torch.testing.assert_close(recorded[0], optimised.to(recorded.dtype))


def test_what_is_computed_does_not_depend_on_the_order_of_the_batch() -> None:
    student, teacher, order = wave([9, 3], 0.1), wave([9, 5], 2.0), torch.randperm(9)
    dist = build_objective(MethodConfig(name="dist"), RankConfig(), pair_of("embedding"))
    values = [
        dist.loss(DistillInputs(one, other, Targets(LABELS), LABELS)).method_terms
        for one, other in (
            [TASK.features(logits_only(e)) for e in (student, teacher)],
            [TASK.features(logits_only(e[order])) for e in (student, teacher)],
        )
    ]
    for term, value in values[0].items():
        torch.testing.assert_close(values[1][term], value)


def pair_of(task: str) -> ModelPair:
    models = [build_model("digits_student", 4, 1) for _ in range(2)]
    return ModelPair(models[0], models[1], 1, (8, 8), LABELS, task=task)


def test_agreement_counts_equal_nearest_neighbours() -> None:
    students, teacher = wave([2, 9, 3], 0.1), wave([9, 5], 2.0)
    counts = TASK.count(TASK.rows(students), TASK.rows(teacher), torch.zeros(9))
    for count, e in zip(counts["agreement"].tolist(), students, strict=True):
        nearest = [
            (torch.cdist(one, one) + torch.eye(9) * 1e9).argmin(dim=1) for one in (e, teacher)
        ]
        assert count == int((nearest[0] == nearest[1]).sum())


def test_a_model_with_outputs_of_length_1_keeps_the_names_of_its_weights() -> None:
    model = build_model("digits_student", 6, 1).eval()
    names, images = [*model.state_dict()], torch.randn(5, 1, 8, 8)
    raw = model(images)
    unit = copy.deepcopy(with_unit_outputs(model))
    assert [*unit.state_dict()] == names
    expected = raw / raw.norm(dim=1, keepdim=True)
    torch.testing.assert_close(unit(images), expected)
    torch.testing.assert_close(unit.forward_features(images).logits, expected)


@pytest.fixture(scope="module")
def events(cache: Path) -> Sequence[Any]:
    return events_of(embedding_with(), cache)


def test_every_method_trains_and_has_all_columns(events: Sequence[Any]) -> None:
    rows = rows_of(events)
    assert {row["arm"] for row in rows} == {*ARMS}
    for row in rows:
        assert {*EMBEDDING.training_columns, *EMBEDDING.split_columns("test")} <= {*row}
        assert not {"ce", "train_acc", "test_acc", "test_top5"} & {*row}
        has_average = "test_map_at_r_ema" in row
        assert has_average == (row["arm"] == "averaged")
    (ready,) = (event for event in events if isinstance(event, TeacherReady))
    assert {f"test_{name}" for name in EMBEDDING.held_out} <= {*ready.facts}


def test_an_arm_has_the_same_numbers_without_the_others(events: Sequence[Any], cache: Path) -> None:
    chosen = {name: ARMS[name] for name in ("rkd_rank", "triplet")}
    alone = rows_of(events_of(embedding_with(arms=chosen), cache))
    together = [row for row in rows_of(events) if row["arm"] in chosen]
    for row, own in zip(sorted(together, key=key_of), sorted(alone, key=key_of), strict=True):
        assert {column: numbers(row)[column] for column in numbers(own)} == numbers(own)


def numbers(row: dict[str, Any]) -> dict[str, str]:
    """All but the times, as they are written."""
    return {key: repr(row[key]) for key in row.keys() - {"epoch_seconds", "images_per_second"}}


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["arm"], row["seed"], row["epoch"]


def test_a_stopped_run_goes_on_as_if_nothing_had_happened(
    events: Sequence[Any], cache: Path
) -> None:
    checkpoints = checkpoints_of(events)
    _, checkpoint = checkpoints[0]
    rest = rows_of(events_of(embedding_with(), cache, going_on(checkpoint)))
    for row, own in zip(rows_of(events)[-len(rest) :], rest, strict=True):
        assert numbers(row) == numbers(own)


def test_stacked_arms_have_the_numbers_of_single_ones(cache: Path) -> None:
    chosen = {
        "triplet": ARMS["triplet"],
        "kd": ARMS["kd"],
        "kd_rank": {"method": {"name": "kd"}, "rank": {"grad": True, "steepness": 2.0}},
    }
    stacked = rows_of(events_of(embedding_with("stacked=true", arms=chosen), cache))
    alone = rows_of(events_of(embedding_with(arms=chosen), cache))
    for row, own in zip(stacked, alone, strict=True):
        for term in ("triplet", "kl", "rank", "test_triplet", "test_kl", "test_rank"):
            assert row[term] == pytest.approx(own[term], rel=2e-3, abs=2e-3)


def test_the_retrieval_metrics_are_those_of_all_test_images(events: Sequence[Any]) -> None:
    metrics = retrieval_metrics(torch.randn(60, 4), torch.arange(60) % 5)
    assert [*metrics.columns] == [*EMBEDDING.held_out]
    assert all(0 <= row["test_map_at_r"] <= row["test_recall_at_8"] for row in rows_of(events))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("task=embedding",), "task = 'embedding' needs student.embedding, its dimensions"),
        (("student.embedding=8",), "student.embedding is of the task embedding"),
        (("teacher.normalize=true",), "teacher.normalize is of the task embedding"),
        ((*IS_EMBEDDING, "student.embedding=0"), "student.embedding"),
        ((*IS_EMBEDDING, "dataset.mixup_alpha=0.2"), "leave mixing out"),
        ((*IS_EMBEDDING, "rank.over=both"), "embeddings have no classes"),
        ((*IS_EMBEDDING, "training.label_smoothing=0.1"), "label_smoothing is of classes"),
        ((*IS_EMBEDDING, "cache_teacher=exact"), "cache_teacher keeps logits of classes"),
        ((*IS_EMBEDDING, "triplet.negatives=hard"), "triplet.negatives"),
    ],
)
def test_what_does_not_fit_the_task_is_said(overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        _ = experiment_with(*overrides, arms={"rkd": ARMS["rkd"]}).resolved_arms


@pytest.mark.parametrize(
    ("task", "method", "said"),
    [
        (IS_EMBEDDING, "dkd", "'dkd' is for the task classification; for embedding there are"),
        ((), "triplet", "'triplet' is for the task embedding; for classification there are"),
    ],
)
def test_a_method_of_another_task_is_refused(task: tuple[str, ...], method: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        _ = experiment_with(*task, arms={"own": {"method": {"name": method}}}).resolved_arms


def test_rows_are_those_of_the_task(cache: Path) -> None:
    assert isinstance(task_for(embedding_with()), Embedding)
