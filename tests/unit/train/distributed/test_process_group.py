"""Ranks that share batches: gradients, totals and generators are those of all images together."""

import math
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from trained import CPU, arm_of

from rkkd_cli.config.experiment import MethodConfig, RankConfig, TrainingConfig
from rkkd_cli.config.objective import TripletConfig
from rkkd_cli.data.model_input import taken_as_is
from rkkd_cli.data.stream import Batch, Shard
from rkkd_cli.errors import RunError, UserError
from rkkd_cli.losses import KendallRankingLoss
from rkkd_cli.methods import ModelPair, build_objective
from rkkd_cli.methods.inputs import logits_only
from rkkd_cli.models import Classifier, Features, build_model
from rkkd_cli.tasks import CLASSIFICATION_TASK
from rkkd_cli.tasks.embedding import Embedding
from rkkd_cli.tasks.task import Task
from rkkd_cli.train.arm import DistillationLoss
from rkkd_cli.train.distributed.process_group import (
    FAILURE_KEY,
    SINGLE_PROCESS,
    ProcessGroup,
    TorchrunGroup,
)
from rkkd_cli.train.metrics.batch import measure
from rkkd_cli.train.metrics.meters import EpochMeters
from rkkd_cli.train.stop_controller import SharedStopController
from rkkd_cli.train.taught_batch import feature_needs, run_teacher
from rkkd_cli.train.trained_model import TrainedModel

Together = Callable[..., list[Any]]
RECIPE = TrainingConfig(epochs=1, lr=0.1)

# Image-wise terms, so that a batch's loss is the mean of those of its images.
IMAGE_WISE = ("kd", "dkd", "soft_ce")


def part_of(images: Tensor, labels: Tensor, part: Shard) -> Batch:
    """The rank's part, as a stream would give it."""
    own = part.within(0, len(labels))
    if own.start == own.stop:
        return Batch(images[:1], labels[:1], labels[:1], None, len(labels), True)
    return Batch(images[own], labels[own], labels[own], None, len(labels))


class InFloat64:
    """A teacher whose outputs are not rounded."""

    def __init__(self, model: Classifier, task: Task) -> None:
        self.model, self.task = model, task

    @torch.no_grad()
    def outputs(self, images: Tensor, features: bool) -> Features:
        outputs = self.model.forward_features(images)
        return outputs if features else logits_only(outputs.logits)


def step(
    process_group: ProcessGroup, method: str, count: int, task: Task = CLASSIFICATION_TASK
) -> dict[str, Tensor]:
    """One step of a student in float64 on ``count`` images.

    Returns weights, gradients and metrics.
    """
    process_group = process_group.for_batches(task.compares_images)
    torch.manual_seed(0)
    images, labels = torch.randn(count, 1, 8, 8).double(), torch.arange(count) % task_classes(task)
    student, teacher = (build_model(f"digits_{who}", 10, 1) for who in ("student", "teacher"))
    student, teacher = student.double().train(), teacher.double().eval()
    pair = ModelPair(student, teacher, 1, (8, 8), labels, task=task.records.name)
    config = MethodConfig(**arm_of(method)["method"])
    rank = RankConfig(grad=True, steepness=2.0)
    objective = build_objective(config, rank, pair, task.hard_term(RECIPE))
    objective.method.double()
    for module in student.modules():  # as in eval mode, where images do not see each other
        module.train(not isinstance(module, nn.BatchNorm2d))
    model = nn.ModuleDict({"student": student, "method": objective.method})
    takes = taken_as_is(1, (8, 8))
    alone = DistillationLoss(model, student, objective, "fp32", takes, task, process_group)
    loss = process_group.wrap(alone, sync_batchnorm=False, uses_all=False)
    trained = TrainedModel(model, RECIPE, 0, EpochMeters((), (), CPU), process_group)
    batch = part_of(images, labels, process_group.shard)
    needs = feature_needs([objective])
    taught = run_teacher(InFloat64(teacher, task), batch, needs, process_group=process_group)
    total, output = loss(taught)
    trained.backward_and_step(process_group.scale_loss(total, batch))
    compared = taught.compared
    metrics = measure(
        task,
        [objective],
        [objective.hard],
        [output.outputs],
        compared.teacher,
        compared.targets,
    )
    (means,), _ = process_group.reduce_metrics([metrics.means[0]], [], batch)
    gradients = {f"{name}.grad": one.grad for name, one in model.named_parameters()}
    return {
        "means": means,
        **{n: one.detach() for n, one in model.state_dict().items()},
        **{n: one for n, one in gradients.items() if one is not None},
    }


def task_classes(task: Task) -> int:
    """So many classes that few images have others of their own."""
    return 2 if task.compares_images else 10


def same_on_all_ranks(
    together: Together, world_size: int, method: str, images: int, task: Task
) -> None:
    alone = step(SINGLE_PROCESS, method, images, task)
    for own in together(world_size, lambda group: step(group, method, images, task)):
        assert own.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(own[name], value, rtol=0, atol=1e-12, msg=name)


SHARED = [(2, 8), (2, 7), (3, 7), (2, 1)]  # ranks and images


@pytest.mark.parametrize("method", IMAGE_WISE)
@pytest.mark.parametrize(("world_size", "images"), SHARED)
def test_ranks_step_as_one_process_does_on_all_the_images(
    method: str, world_size: int, images: int, together: Together
) -> None:
    same_on_all_ranks(together, world_size, method, images, CLASSIFICATION_TASK)


@pytest.mark.parametrize("method", ["kd", "triplet", "rkd", "darkrank", "sp", "fitnet"])
@pytest.mark.parametrize(("world_size", "images"), [(2, 7), (6, 5)])
def test_ranks_compare_all_images_of_a_batch_as_one_process_does(
    method: str, world_size: int, images: int, together: Together
) -> None:
    same_on_all_ranks(together, world_size, method, images, Embedding(TripletConfig()))


class MeanSquare(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        mean: Tensor = values.square().mean()
        return mean


def test_every_rank_normalises_its_own_images_and_evaluates_with_the_buffers_of_the_first(
    together: Together,
) -> None:
    def plain(group: TorchrunGroup) -> dict[str, Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(108, 2)
        )
        batch = part_of(torch.randn(6, 1, 8, 8), torch.arange(6), group.shard)
        loss = group.wrap(nn.Sequential(model, MeanSquare()), sync_batchnorm=False, uses_all=True)
        trained = TrainedModel(model, RECIPE, 0, EpochMeters((), (), CPU), group)
        trained.backward_and_step(group.scale_loss(loss(batch.images), batch))
        group.broadcast_tensors(list(model.buffers()))
        with torch.no_grad():
            expected = nn.BatchNorm2d(3)
            torch.manual_seed(0)
            first = nn.Conv2d(1, 3, 3)
            nn.Linear(108, 2)
            expected(first(torch.randn(6, 1, 8, 8)[:3]))
        return {**model.state_dict(), "expected": expected.running_mean}

    first, second = together(2, plain)
    assert all(torch.equal(first[name], second[name]) for name in first)
    torch.testing.assert_close(first["1.running_mean"], first["expected"])


def test_a_parameter_without_a_gradient_stays_as_it_is_on_all_ranks(together: Together) -> None:
    class WarmsUp(nn.Module):
        """The second layer has a gradient from the second step on."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.steps = nn.Linear(3, 3), nn.Linear(3, 3), 0

        def forward(self, images: Tensor) -> Tensor:
            self.steps += 1
            y = self.first(images)
            used: Tensor = y if self.steps == 1 else self.second(y)
            return used.square().mean()

    def steps(group: TorchrunGroup) -> list[tuple[bool, Tensor]]:
        torch.manual_seed(group.rank)  # the first rank's weights are those of all
        model = WarmsUp()
        loss = group.wrap(model, sync_batchnorm=False, uses_all=False)
        trained = TrainedModel(model, RECIPE, 0, EpochMeters((), (), CPU), group)
        seen = []
        for _ in range(2):
            trained.backward_and_step(loss(torch.randn(4, 3)))
            seen.append((model.second.weight.grad is None, model.first.weight.detach().clone()))
        return seen

    first, second = together(2, steps)
    assert [unused for unused, _ in first] == [unused for unused, _ in second] == [True, False]
    for (_, one), (_, other) in zip(first, second, strict=True):
        assert torch.equal(one, other)


def test_a_mean_of_all_images_weighs_each_rank_by_its_images(together: Together) -> None:
    def pooled(group: TorchrunGroup) -> Any:
        labels = torch.arange(5)
        batch = part_of(torch.zeros(5, 1), labels, group.shard)
        mean = batch.labels.float().mean()[None]
        count = (batch.labels >= 2).sum()[None]
        return group.reduce_metrics([mean, mean * math.inf], [count], batch)

    for means, counts in together(2, pooled):
        assert means[0].item() == 2.0
        assert not means[1].isfinite()
        assert counts[0].item() == 3


def test_each_rank_ranks_its_own_images(together: Together) -> None:
    student, teacher = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0))
    ranking = KendallRankingLoss(1.0, over="images")

    def ranked(group: TorchrunGroup) -> float:
        own = group.shard.within(0, 7)
        batch = part_of(student, torch.arange(7), group.shard)
        means, _ = group.reduce_metrics([ranking(student[own], teacher[own])], [], batch)
        return means[0].item()

    parts = (slice(0, 4), slice(4, 7))
    expected = sum(len(student[p]) / 7 * ranking(student[p], teacher[p]).item() for p in parts)
    assert together(2, ranked) == [pytest.approx(expected)] * 2


def test_what_is_not_finite_on_one_rank_is_so_on_all_but_not_if_it_does_not_count(
    together: Together,
) -> None:
    def pooled(group: TorchrunGroup, images: int) -> bool:
        batch = part_of(torch.zeros(images, 1), torch.arange(images), group.shard)
        mean = torch.tensor([math.nan if group.rank == 1 else 1.0])
        (row,), (counts,) = group.reduce_metrics([mean], [torch.ones(1, dtype=torch.int64)], batch)
        meters = EpochMeters(("kl",), ("acc",), CPU)
        meters.add(row, counts, batch.total)
        return meters.first_non_finite() is None

    assert together(2, lambda group: pooled(group, 4)) == [False, False]
    assert together(2, lambda group: pooled(group, 1)) == [True, True]


def test_totals_of_parts_add_up_to_those_of_the_whole(together: Together) -> None:
    def added(group: TorchrunGroup) -> Any:
        meters = EpochMeters(("ce", "kl"), ("acc",), CPU)
        mean = torch.tensor([1.0 + group.rank, math.inf if group.rank else 0.0])
        meters.add(mean, torch.tensor([2]), 3 + group.rank)
        meters.reduce(group)
        return meters.averages()["ce"], meters.averages()["acc"], meters.first_non_finite()

    first, second = together(2, added)
    assert first == second
    assert first[:2] == ((3 * 1.0 + 4 * 2.0) / 7, 100 * 4 / 7)
    assert first[2].term == "kl"


def noisy(process_group: ProcessGroup) -> tuple[nn.Sequential, nn.Module, TrainedModel]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5), nn.Linear(64, 1))
    loss = process_group.wrap(
        nn.Sequential(model, MeanSquare()), sync_batchnorm=False, uses_all=True
    )
    return model, loss, TrainedModel(model, RECIPE, 3, EpochMeters((), (), CPU), process_group)


def test_ranks_draw_their_own_noise_and_go_on_with_it_where_they_left_off(
    together: Together,
) -> None:
    batch = Batch(torch.ones(2, 4), torch.zeros(2), torch.arange(2), None, 4)

    def steps(
        model: nn.Sequential, loss: nn.Module, trained: TrainedModel, count: int
    ) -> list[Tensor]:
        drawn = []
        for _ in range(count):
            with trained.rng.active():
                hidden = model[1](torch.ones(1, 64))
                scaled = trained.process_group.scale_loss(loss(batch.images), batch)
                trained.backward_and_step(scaled)
            drawn.append(hidden)
        return drawn

    def stopped(group: TorchrunGroup) -> Any:
        model, loss, trained = noisy(group)
        steps(model, loss, trained, 2)
        state = group.broadcast(trained.state())  # as from the first one's file
        model, loss, resumed = noisy(group)
        resumed.load(state)
        drawn = steps(model, loss, resumed, 3)
        return drawn, [one.detach() for one in model.parameters()]

    def undisturbed(group: TorchrunGroup) -> Any:
        model, loss, trained = noisy(group)
        return steps(model, loss, trained, 5)[2:], [one.detach() for one in model.parameters()]

    whole, parts = together(2, undisturbed), together(2, stopped)
    for (drawn, weights), (drawn_later, weights_later) in zip(whole, parts, strict=True):
        assert all(torch.equal(*pair) for pair in zip(drawn, drawn_later, strict=True))
        assert all(torch.equal(*pair) for pair in zip(weights, weights_later, strict=True))
    assert not torch.equal(whole[0][0][0], whole[1][0][0])  # two ranks, two noises


def test_a_stop_asked_of_one_rank_stops_all_after_the_same_step(together: Together) -> None:
    def steps(group: TorchrunGroup) -> int:
        controller = SharedStopController(60.0, group)
        for number in range(1, 100):
            if group.rank == 1 and number == 7:
                controller.stop_requested = True
            if controller.should_checkpoint(epoch_over=False) and controller.has_agreed_to_stop:
                return number
        return 0

    assert together(3, steps) == [7, 7, 7]


def test_the_clock_of_the_first_rank_says_when_all_keep_a_checkpoint(together: Together) -> None:
    def should_checkpoint(group: TorchrunGroup) -> list[bool]:
        controller = SharedStopController(60.0 if group.rank else 0.0, group)
        other = SharedStopController(0.0 if group.rank else 60.0, group)
        return [one.should_checkpoint(epoch_over=False) for one in (controller, other)]

    assert together(2, should_checkpoint) == [[True, False]] * 2


def test_a_rank_that_has_gone_is_noticed_long_before_the_timeout(together: Together) -> None:
    def lost(group: TorchrunGroup) -> str:
        group.any(False)
        if group.rank == 1:
            os._exit(1)
        with pytest.raises(RunError, match="rank 0 of 2 has lost another rank"):
            group.all_reduce([torch.zeros(3)])
        return "noticed"

    assert together(2, lost) == ["noticed", "died"]


def test_the_first_rank_says_why_another_one_has_failed(together: Together) -> None:
    def lost(group: TorchrunGroup) -> str:
        group.any(False)
        if group.rank == 1:
            group.store.set(FAILURE_KEY, "rank 1: its images are damaged")
            os._exit(1)
        with pytest.raises(RunError, match=r"^rank 1: its images are damaged$"):
            group.any(False)
        return "said"

    assert together(2, lost) == ["said", "died"]


def test_a_layer_that_does_more_than_normalise_is_not_replaced(together: Together) -> None:
    class WithActivation(nn.BatchNorm2d):
        pass

    def wrap(group: TorchrunGroup) -> nn.Module:
        return group.wrap(nn.Sequential(nn.Conv2d(1, 2, 3), WithActivation(2)), True, True)

    (error,) = together(1, wrap, UserError)
    assert "WithActivation is more than batch normalisation" in str(error)
