"""What is recorded of a batch, held against naive loops, and arm by arm against all at once."""

import math
from collections.abc import Sequence
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau
from torch import Tensor

from rkkd_cli.config.experiment import MethodConfig, RankConfig
from rkkd_cli.data.targets import Mixed, Targets
from rkkd_cli.methods import ModelPair, Objective, build_objective
from rkkd_cli.methods.hard_term import CROSS_ENTROPY, CrossEntropy
from rkkd_cli.models.zoo.small import cnn2
from rkkd_cli.tasks import CLASSIFICATION_TASK
from rkkd_cli.train.metrics.batch import BatchMetrics, mean_names, measure


def logits(arms: int, images: int, classes: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(arms + images + classes)
    return torch.randn(arms, images, classes, generator=generator, dtype=torch.float64).to(dtype)


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def naive(student: Tensor, teacher: Tensor, labels: Tensor, objective: Objective) -> list[float]:
    """Return ce, kl, rank and τ-b of one arm, by loops."""
    sums = [0.0] * 4
    k, t = objective.ranking.settings.steepness, objective.temperature
    for s, z, label in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        pairs = list(combinations(range(len(s)), 2))
        agreed = [math.tanh(k * (z[i] - z[j])) * math.tanh(k * (s[i] - s[j])) for i, j in pairs]
        both = zip(softmax(z, t), softmax(s, t), strict=True)
        sums[0] -= math.log(softmax(s, 1.0)[label])
        sums[1] += t**2 * sum(p * math.log(p / q) for p, q in both)
        sums[2] -= sum(agreed) / len(pairs)
        sums[3] += kendalltau(s, z).statistic
    return [one / len(labels) for one in sums]


def measured(
    objectives: Sequence[Objective],
    students: Tensor,
    teacher: Tensor,
    targets: Targets,
    smoothings: Sequence[float] = (),
) -> BatchMetrics:
    terms = [CrossEntropy(one) for one in smoothings] or [CROSS_ENTROPY] * len(students)
    return measure(CLASSIFICATION_TASK, objectives, terms, [students], teacher, targets)


def counts(metrics: BatchMetrics) -> Tensor:
    return torch.stack([*metrics.counts.values()], dim=1)


PAIR = ModelPair(cnn2(10, 1), cnn2(10, 1), 1, (8, 8), torch.arange(10))

OBJECTIVES = [
    build_objective(method, rank, PAIR)
    for method, rank in (
        (MethodConfig(temperature=1.0), RankConfig(steepness=0.5)),
        (MethodConfig(temperature=4.0, ce_weight=9.0), RankConfig(steepness=100.0)),
        (MethodConfig(temperature=10.0), RankConfig(steepness=0.5, grad=True, weight=5.0)),
    )
]
OTHER_FORMS = [
    build_objective(MethodConfig(), rank, PAIR)
    for rank in (
        RankConfig(steepness=2.0, standardize=True),
        RankConfig(steepness=2.0, standardize=True, over="images"),
        RankConfig(steepness=2.0, over="both"),
    )
]


def test_terms_and_tau_are_those_of_the_definitions() -> None:
    students, teacher, labels = logits(3, 6, 5), logits(1, 6, 5)[0], torch.arange(6) % 5
    means, _ = measured(OBJECTIVES, students, teacher, Targets(labels))
    assert mean_names(CLASSIFICATION_TASK) == ("ce", "kl", "rank", "kendall_tau")
    for objective, student, found in zip(OBJECTIVES, students, means.tolist(), strict=True):
        assert found == pytest.approx(naive(student, teacher, labels, objective), rel=1e-9)


def test_hits_count_images() -> None:
    students, teacher, labels = logits(2, 40, 7), logits(1, 40, 7)[0], torch.arange(40) % 7
    found = measured(OBJECTIVES[:2], students, teacher, Targets(labels))
    assert [*found.counts] == ["agreement", "acc", "top5"]
    correct = counts(found).tolist()
    for student, found in zip(students, correct, strict=True):
        order = student.argsort(dim=1, descending=True)
        expected = [
            sum(int(o[0] == t.argmax()) for o, t in zip(order, teacher, strict=True)),
            sum(int(o[0] == label) for o, label in zip(order, labels, strict=True)),
            sum(int(label in o[:5]) for o, label in zip(order, labels, strict=True)),
        ]
        assert found == expected


@pytest.mark.parametrize("threads", [1, 2])
@given(arms=st.integers(2, 50), images=st.integers(1, 130), classes=st.sampled_from([2, 3, 10, 33]))
@settings(max_examples=20)
def test_no_number_depends_on_the_other_arms(
    threads: int, arms: int, images: int, classes: int
) -> None:
    students = logits(arms, images, classes, torch.float32)
    teacher, labels = logits(1, images, classes, torch.float32)[0], torch.arange(images) % classes
    objectives = [(*OBJECTIVES, *OTHER_FORMS)[number % 6] for number in range(arms)]
    former = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = measured(objectives, students, teacher, Targets(labels))
        for number in (0, arms // 2, arms - 1):
            one = slice(number, number + 1)
            alone = measured(objectives[one], students[one], teacher, Targets(labels))
            assert torch.equal(alone.means, together.means[one])
            assert torch.equal(counts(alone), counts(together)[one])
    finally:
        torch.set_num_threads(former)


def test_each_form_of_the_ranking_loss_is_recorded_as_it_is_optimised() -> None:
    students, teacher = logits(3, 8, 6), logits(1, 8, 6)[0]
    means, _ = measured(OTHER_FORMS, students, teacher, Targets(torch.arange(8) % 6))
    for objective, student, found in zip(OTHER_FORMS, students, means, strict=True):
        torch.testing.assert_close(found[2], objective.ranking(student, teacher))


@pytest.mark.parametrize("channels", ["all", "bottom:0.5", "union:0.3"])
def test_many_classes_are_measured_arm_by_arm(channels: str) -> None:
    objectives = [
        build_objective(MethodConfig(), RankConfig(steepness=1.0, channels=channels), PAIR)
    ] * 3
    students, teacher = logits(3, 8, 300), logits(1, 8, 300)[0]
    means, _ = measured(objectives, students, teacher, Targets(torch.arange(8)))
    for student, found in zip(students, means, strict=True):
        torch.testing.assert_close(found[2], objectives[0].ranking(student, teacher))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_give_float32_terms(dtype: torch.dtype) -> None:
    students, teacher, labels = logits(3, 6, 5, dtype), logits(1, 6, 5)[0], torch.arange(6) % 5
    means, _ = measured(OBJECTIVES, students, teacher.float(), Targets(labels))
    assert means.dtype == torch.float32
    for objective, student, found in zip(OBJECTIVES, students, means.tolist(), strict=True):
        exact = naive(student.double(), teacher, labels, objective)
        assert found[:3] == pytest.approx(exact[:3], rel=1e-4)


def test_arms_may_smooth_their_labels_and_change_no_other_arms_numbers() -> None:
    students, teacher = logits(3, 8, 6), logits(1, 8, 6)[0]
    generator = torch.Generator().manual_seed(0)
    labels, other = torch.randint(0, 6, (2, 8), generator=generator).unbind()
    objectives, smoothings = OBJECTIVES[:3], (0.0, 0.1, 0.4)
    for mixed in (None, Mixed(other, torch.tensor(0.7, dtype=torch.float64))):
        targets = Targets(labels, mixed)
        together = measured(objectives, students, teacher, targets, smoothings)
        plain = measured(objectives, students, teacher, targets)
        assert torch.equal(together.means[0], plain.means[0])
        assert torch.equal(together.means[:, 1:], plain.means[:, 1:])
        assert torch.equal(counts(together), counts(plain))
        for arm, smoothing in enumerate(smoothings):
            expected = targets.cross_entropy(students[arm], smoothing)
            assert together.means[arm, 0].item() == pytest.approx(expected.item(), rel=1e-12)
            one = slice(arm, arm + 1)
            alone = measured(objectives[one], students[one], teacher, targets, [smoothing])
            assert torch.equal(alone.means[0], together.means[arm])
