"""A step neither reads from the device nor sends anything there: a GPU is never waited for.

The step runs on PyTorch's device ``meta``, where tensors have no values to be read, while all
calls that would send Python's numbers, or tensors of the CPU, are watched for.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from running import EMBEDDING_KEYS
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from trained import Arms, arm_of, experiment_with

from rkkd_cli.config.experiment import TrainingConfig
from rkkd_cli.config.methods import methods_for
from rkkd_cli.data.model_input import taken_as_is
from rkkd_cli.data.stream import Batch
from rkkd_cli.data.targets import Mixed
from rkkd_cli.models import build_model
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.recipe import build_optimizer, set_learning_rate
from rkkd_cli.train.record_step import record_gradients, record_metrics
from rkkd_cli.train.rng import IsolatedRng
from rkkd_cli.train.stacked.stack import ArmGroup, Stack
from rkkd_cli.train.taught_batch import feature_needs, run_teacher
from rkkd_cli.train.teacher.model import Teacher, freeze
from rkkd_cli.train.teacher.several import Teachers, TeacherSet

META = torch.device("meta")
SENDING = {torch.tensor, torch.as_tensor, torch.from_numpy, Tensor.new_tensor}
CLIPPED = {"clip_grad_norm": 1.0, "ema_decay": 0.9, "norm_bias_decay": False}
INDEXING = {Tensor.__getitem__, Tensor.__setitem__}


class Calls(TorchFunctionMode):
    """Notes calls that send numbers to a device, as an index of Python's numbers does."""

    def __init__(self) -> None:
        super().__init__()
        self.sending: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in SENDING or (func in INDEXING and any(map(_is_list, _index(args[1])))):
            self.sending.append(func.__name__)
        return func(*args, **(kwargs or {}))


def _index(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def _is_list(index: Any) -> bool:
    return isinstance(index, list | range)


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes operations in which tensors of the CPU take part."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mixed: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        tensors = [one for one in tree_leaves((args, kwargs, output)) if isinstance(one, Tensor)]
        if any(one.device != META for one in tensors):
            self.mixed.append(str(func))
        return output


@contextmanager
def watched() -> Iterator[list[str]]:
    """Return what has been seen, afterwards."""
    found: list[str] = []
    with Operations() as operations, Calls() as calls:
        yield found
    found += operations.mixed + calls.sending


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Teacher:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it knows no meta
    # While a CUDA graph is recorded the generators, which are on the CPU, stay as they are.
    monkeypatch.setattr(IsolatedRng, "active", lambda _: nullcontext())
    made = freeze(build_model("resnet8x4", 10), META, "fp32", 10, taken_as_is(3, (32, 32)))
    made.__dict__["folded"] = made.model  # folding compares values, once
    return made


def arms_of(teacher: Teachers, arms: Arms, *overrides: str) -> list[ArmOnStream]:
    labels = torch.arange(100) % 10  # crd sorts them when it is made
    resolved = experiment_with("student.model=resnet8", *overrides, arms=arms).resolved_arms
    return [ArmOnStream(arm, 0, teacher, labels) for arm in resolved]


def batch(is_mixed: bool) -> Batch:
    images = torch.zeros(50, 3, 32, 32, device=META)
    indices = torch.zeros(50, dtype=torch.int64, device=META)
    mixed = Mixed(indices, torch.zeros((), device=META)) if is_mixed else None
    return Batch(images, indices, indices, images, mixed=mixed)


def step(teacher: Teachers, groups: list[ArmGroup], is_mixed: bool = False) -> None:
    """Take a step of all, and record it and its gradients."""
    arms = [arm for one in groups for arm in one.members]
    taught = run_teacher(teacher, batch(is_mixed), feature_needs(arm.objective for arm in arms))
    outputs = [one.step(taught) for one in groups]
    record_metrics(arms, outputs, taught)
    record_gradients(arms, outputs, taught)


@pytest.mark.parametrize("name", methods_for("classification"))
def test_a_step_of_any_method_reads_and_sends_nothing(name: str, teacher: Teacher) -> None:
    arms = {
        "logged": {**arm_of(name), "rank": {"grad": False}},
        "trained": {**arm_of(name), "rank": {"grad": True, "channels": "union:0.3"}},
    }
    groups: list[ArmGroup] = [*arms_of(teacher, arms)]
    with watched() as found:
        step(teacher, groups)
    assert found == []


@pytest.mark.parametrize("negatives", ["distance", "semihard", "all"])
@pytest.mark.parametrize("name", methods_for("embedding"))
def test_neither_does_a_step_of_embeddings(name: str, negatives: str, teacher: Teacher) -> None:
    arms = {"own": {**arm_of(name), "rank": {"grad": True}}}
    keys = (*EMBEDDING_KEYS, f"triplet.negatives={negatives}", "student.normalize=true")
    groups: list[ArmGroup] = [*arms_of(teacher, arms, *keys)]
    taught_by = replace(teacher, task=groups[0].members[0].task)
    taught_by.__dict__["folded"] = teacher.model
    with watched() as found:
        step(taught_by, groups)
    assert found == []


def test_mixed_labels_are_neither_read_nor_sent(teacher: Teacher) -> None:
    arms: Arms = {"kd": {}, "smooth": {"training": {"label_smoothing": 0.1}}}
    groups: list[ArmGroup] = [*arms_of(teacher, arms)]
    with watched() as found:
        step(teacher, groups, is_mixed=True)
    assert found == []


@pytest.mark.parametrize("over", ["classes", "images", "both"])
@pytest.mark.parametrize("surrogate", ["tanh", "tanh_product"])
def test_no_form_of_the_ranking_loss_reads_or_sends_anything(
    surrogate: str, over: str, teacher: Teacher
) -> None:
    rank = {"grad": True, "standardize": True, "over": over, "surrogate": surrogate}
    groups: list[ArmGroup] = [*arms_of(teacher, {"z_scores": {"rank": rank}})]
    with watched() as found:
        step(teacher, groups)
    assert found == []


def test_a_step_with_several_teachers_reads_and_sends_nothing(teacher: Teacher) -> None:
    targets: list[Any] = ["a", "mean_logits", "mean_probabilities", {"a": 0.7, "b": 0.3}]
    arms: Arms = {
        f"arm{number}": {"method": {"teacher": target}, "rank": {"grad": True}}
        for number, target in enumerate(targets)
    }
    several = TeacherSet({"a": teacher, "b": teacher})
    named = "teachers={a={model='resnet8x4'}, b={model='resnet8x4'}}"
    groups: list[ArmGroup] = [*arms_of(several, arms, "teacher=none", named)]
    with watched() as found:
        step(several, groups)
    assert found == []


def test_a_step_of_stacked_arms_reads_and_sends_nothing(teacher: Teacher) -> None:
    arms: Arms = {"logged": {"rank": {"grad": False}}, "clipped": {"training": CLIPPED}}
    stack = Stack(arms_of(teacher, arms))
    with watched() as found:
        step(teacher, [stack])
    assert found == []


def test_clipping_and_a_moving_average_read_and_send_nothing(teacher: Teacher) -> None:
    (arm,) = arms_of(teacher, {"clipped": {"training": CLIPPED}})
    step(teacher, [arm])  # the optimiser makes its state
    with watched() as found:
        step(teacher, [arm])
    assert found == []


SENT: dict[str, Any] = {
    "a number": lambda x: x.new_tensor([1.0]),
    "a constant": lambda _: torch.tensor([1.0], device=META),
    "an index": lambda x: x[[0, 1]],
    "an index to write to": lambda x: x.__setitem__([0, 1], x[:2]),
    "a scalar": lambda x: x * torch.ones(()),
}


@pytest.mark.parametrize("what", SENT)
def test_what_is_sent_is_seen(what: str) -> None:
    with watched() as found:
        SENT[what](torch.zeros(4, 3, device=META))
    assert found


@pytest.mark.parametrize("read", [Tensor.item, Tensor.tolist, Tensor.cpu, bool])
def test_what_is_read_fails(read: Any) -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        read(torch.zeros((), device=META))


class Launches(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what fused optimisers are given, which there is no stand-in for, and does nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.devices: list[set[str]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "_fused_" not in str(func):
            return func(*args, **(kwargs or {}))
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        self.devices.append({one.device.type for one in tensors})
        assert isinstance((kwargs or {})["lr"], Tensor)
        return None


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_on_cuda_an_optimiser_is_one_launch_that_reads_its_rate_there(
    optimizer: Literal["sgd", "adam", "adamw"],
) -> None:
    with FakeTensorMode(), torch.device("cuda"), Launches() as launches:
        model = nn.Linear(3, 2)
        made = build_optimizer(model, TrainingConfig(epochs=1, lr=0.1, optimizer=optimizer))
        for _ in range(2):
            model.weight.grad, model.bias.grad = torch.zeros(2, 3), torch.zeros(2)
            made.step()  # to read a value would raise
            set_learning_rate(made, 0.05)
    assert launches.devices == [{"cuda"}, {"cuda"}]
