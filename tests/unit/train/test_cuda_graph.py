"""Steps that are recorded and replayed: the same numbers, and eager steps where it cannot be.

A CUDA graph repeats operations on the same memory with the constants of the moment of recording.
So does the tape here, on the CPU: whatever a step leaves to Python is missing from its replays.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
import trained
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from trained import CPU, NEVER, Arms, Row, arm_of, labelled_images, notes_of, rows_of

from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.methods import methods_for
from rkkd_cli.data.stream import DeviceImages, Stream
from rkkd_cli.losses.kernels import cpu
from rkkd_cli.methods.ctkd import CTKD
from rkkd_cli.sweep.engines.worker import drain
from rkkd_cli.sweep.recording.run_state import Origin
from rkkd_cli.sweep.sources import obtain_teachers
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.cuda_graph import WARM_UP_STEPS, CudaGraphRecorder, GraphRecorder, Recording
from rkkd_cli.train.events import Event
from rkkd_cli.train.lockstep import Lockstep
from rkkd_cli.train.recipe import put_lr_on
from rkkd_cli.train.runtime import Runtime
from rkkd_cli.train.stop_controller import StopController

RECIPE = (
    "training.warmup_epochs=1", 'training.schedule="cosine"', "training.batch_size=40",
    "dataset.limit_train=220",  # five whole batches an epoch, and one of 20 images
    "dataset.limit_test=50", 'student.model="resnet8"', "dataset.crop_padding=1",
)  # fmt: skip
T = TypeVar("T")


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down the operations below it, and repeats them on the same tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, output))
        return output

    def replay(self) -> None:
        now: dict[int, Tensor] = {}

        def current(value: Any) -> Any:
            return now.get(id(value), value) if isinstance(value, Tensor) else value

        with torch.no_grad():
            for func, args, kwargs, output in self.calls:
                again = func(*tree_map(current, args), **tree_map(current, kwargs))
                for old, new in zip(tree_leaves(output), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor):
                        now[id(old)] = new
        self.now = now


class Tapes:
    """Records tapes: what a replay makes anew is copied to where the recorded work had it."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def warm_up(self, work: Callable[[], T]) -> T:
        return work()

    def record(self, work: Callable[[], T]) -> Recording[T]:
        with Tape() as tape:
            result = work()
        self.recorded += 1
        held = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]

        def replay() -> None:
            self.replayed += 1
            tape.replay()
            for one in held:
                one.copy_(tape.now.get(id(one), one))

        return Recording(replay, result)


@pytest.fixture(autouse=True)
def _in_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled kernels of the CPU are no operations of PyTorch; CUDA's are launched into graphs."""
    monkeypatch.setattr(cpu, "supports", lambda *_: False)


def experiment_with(arms: Arms, *overrides: str) -> Experiment:
    return trained.experiment_with(*RECIPE, *overrides, arms=arms)


def lockstep_of(
    cache: Path,
    experiment: Experiment,
    recorder: GraphRecorder | None,
    change: Callable[[ArmOnStream], None] = lambda _: None,
    device: torch.device = CPU,
) -> Lockstep:
    dataset = labelled_images(experiment, cache)
    runtime = Runtime(device, cache, StopController(NEVER))
    teacher = drain(obtain_teachers(experiment, dataset, runtime, Origin()))
    recipe, views = experiment.training, any("mlkd" in name for name in experiment.arms)
    stream = Stream(dataset, device, recipe.batch_size, 0, views)
    arms = [ArmOnStream(one, 0, teacher, stream.data.labels) for one in experiment.resolved_arms]
    for arm in arms:  # as build_optimizer has it on CUDA
        for group in arm.trained.optimizer.param_groups:
            group["fused"] = True
        put_lr_on(device, arm.trained.optimizer)
        change(arm)
    held_out = {"test": teacher.taught_split(DeviceImages(dataset.test, dataset, device))}
    how = recipe.epochs, held_out, bool(experiment.stacked)
    return Lockstep("seed-0", stream, teacher, arms, *how, graph_recorder=recorder)


def train(lockstep: Lockstep) -> tuple[list[Event], list[Row], list[Tensor]]:
    """Return what happens, the rows, and all that was trained."""
    events = list(lockstep.train())
    weights = [one for arm in lockstep.active for one in arm.trained.model.state_dict().values()]
    return events, rows_of(events), weights


ARMS: dict[str, dict[str, Any]] = {
    "kd": {"rank": {"grad": False}},
    "kd_rank": {"rank": {"grad": True, "steepness": 10.0}},
    "standardised": {"method": {"standardize_logits": True}, "rank": {"channels": "top:0.3"}},
    "union": {"rank": {"grad": True, "channels": "union:3"}},
    "z_scores": {"rank": {"grad": True, "steepness": 2.0, "standardize": True, "over": "both"}},
    "adamw": {"training": {"optimizer": "adamw", "lr": 0.01}},
    "no_momentum": {"training": {"momentum": 0.0}},
    "modern": {
        "training": {
            "optimizer": "adam",
            "lr": 0.01,
            "clip_grad_norm": 0.1,
            "norm_bias_decay": False,
            "weight_decay": 0.1,
            "ema_decay": 0.8,
        }
    },
    **{
        name: arm_of(name)
        for name in methods_for("classification")
        if name not in ("kd", "crd", "reviewkd")  # crd draws; reviewkd wants other stages
    },
}


SEVERAL: dict[str, dict[str, Any]] = {
    "one": {"method": {"teacher": "cnn2"}},
    "mean": {"rank": {"grad": True}},
    "shares": {"method": {"teacher": {"cnn2": 0.7, "other": 0.3}}, "rank": {"grad": True}},
}


def test_steps_with_several_teachers_are_replayed(cache: Path) -> None:
    small = "{model='cnn2', training={epochs=1, lr=0.05}}"
    words = ("teacher=none", f"teachers={{cnn2={small}, other={small.replace('05', '1')}}}")
    experiment, tapes = experiment_with(SEVERAL, *words), Tapes()
    _, rows, weights = train(lockstep_of(cache, experiment, tapes))
    assert tapes.replayed > tapes.recorded
    _, expected, same = train(lockstep_of(cache, experiment, None))
    assert rows == expected
    assert all(map(torch.equal, weights, same))


@pytest.mark.parametrize("name", ARMS)
def test_replayed_steps_are_the_steps_themselves(name: str, cache: Path) -> None:
    experiment = experiment_with({name: ARMS[name]})
    tapes = Tapes()
    events, rows, weights = train(lockstep_of(cache, experiment, tapes))
    assert notes_of(events) == []
    assert tapes.replayed > tapes.recorded  # not only to be held against the step
    _, expected, same = train(lockstep_of(cache, experiment, None))
    assert rows == expected
    assert all(map(torch.equal, weights, same))


def test_one_recording_serves_all_epochs_and_all_arms(cache: Path) -> None:
    chosen = {name: ARMS[name] for name in ("kd", "kd_rank", "dkd", "simkd")}
    experiment, tapes = experiment_with(chosen, "method.dkd.warmup_epochs=0"), Tapes()
    _, rows, _ = train(lockstep_of(cache, experiment, tapes))
    assert tapes.recorded == 1
    assert tapes.replayed == 2 * 5 - WARM_UP_STEPS  # the small batches are worked on as ever
    assert rows == train(lockstep_of(cache, experiment, None))[1]


def test_mixed_images_and_their_labels_are_replayed(cache: Path) -> None:
    smooth = {**ARMS["kd"], "training": {"label_smoothing": 0.1}}
    mixing = "dataset.mixup_alpha=0.8", "dataset.cutmix_alpha=1.0"
    experiment, tapes = experiment_with({"kd": ARMS["kd"], "smooth": smooth}, *mixing), Tapes()
    events, rows, _ = train(lockstep_of(cache, experiment, tapes))
    assert (notes_of(events), tapes.recorded) == ([], 1)
    assert rows == train(lockstep_of(cache, experiment, None))[1]


def test_stacked_arms_are_replayed(cache: Path) -> None:
    chosen = {name: ARMS[name] for name in ("kd", "kd_rank", "no_momentum", "modern")}
    experiment, tapes = experiment_with(chosen, "stacked=true"), Tapes()
    events, rows, _ = train(lockstep_of(cache, experiment, tapes))
    assert (notes_of(events), tapes.recorded) == ([], 1)
    assert rows == train(lockstep_of(cache, experiment, None))[1]


def with_dropout(arm: ArmOnStream) -> None:
    arm.student.add_module("noise", nn.Dropout(0.5))
    arm.student.register_forward_hook(lambda module, _, output: module.noise(output))


class Refusing(Tapes):
    """What CUDA does with work that reads from the device."""

    def record(self, work: Callable[[], T]) -> Recording[T]:
        work()
        raise RuntimeError("operation not permitted\nwhen stream is capturing")


class Broken(Tapes):
    """Replays nothing."""

    def record(self, work: Callable[[], T]) -> Recording[T]:
        return Recording(lambda: None, super().record(work).result)


OBSTACLES = {
    "noise": ({"kd": ARMS["kd"]}, Tapes(), with_dropout, "arm kd draws random numbers"),
    "refused": (
        {"kd": ARMS["kd"]},
        Refusing(),
        lambda _: None,
        "RuntimeError: operation not permitted when stream is capturing",
    ),
    "unlike": ({"kd": ARMS["kd"]}, Broken(), lambda _: None, "a replayed step changes the weights"),
}


@pytest.mark.parametrize("what", OBSTACLES)
def test_where_it_cannot_be_the_reason_is_told_once_and_no_number_changes(
    what: str, cache: Path
) -> None:
    arms, recorder, change, why = OBSTACLES[what]
    experiment = experiment_with(arms)
    events, rows, weights = train(lockstep_of(cache, experiment, recorder, change))
    (said,) = notes_of(events)
    assert said.startswith(f"seed-0 trains without a CUDA graph: {why}")
    _, expected, same = train(lockstep_of(cache, experiment, None, change))
    assert rows == expected
    assert all(map(torch.equal, weights, same))


def test_a_method_that_reads_the_epoch_must_say_so(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests above would see one that does not."""
    monkeypatch.setattr(CTKD, "reads_epoch", False)
    experiment = experiment_with({"ctkd": ARMS["ctkd"]})
    rows = train(lockstep_of(cache, experiment, Tapes()))[1]
    assert rows != train(lockstep_of(cache, experiment, None))[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ARMS)
def test_on_cuda_a_graph_takes_the_steps_that_it_stands_for(name: str, cache: Path) -> None:
    device = torch.device("cuda")
    experiment = experiment_with({name: ARMS[name]})
    recorder = CudaGraphRecorder(device)
    events, rows, _ = train(lockstep_of(cache, experiment, recorder, device=device))
    assert notes_of(events) == []
    expected = train(lockstep_of(cache, experiment, None, device=device))[1]
    for row, own in zip(rows, expected, strict=True):
        for term in ("ce", "kl", "rank", "test_ce", "test_kl", "test_rank"):
            assert row[term] == pytest.approx(own[term], rel=2e-2, abs=1e-2)
