"""What training costs: parameters and multiply-adds by hand, the times of a profile."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.autograd.profiler_util import FunctionEvent
from trained import CPU, experiment_with

from rkkd_cli.cli.runtime.profile import STEPS, StepProfile, profiling
from rkkd_cli.data.model_input import taken_as_is
from rkkd_cli.models import build_model, count_parameters
from rkkd_cli.sweep.recording.recorder import Recorder
from rkkd_cli.train.arm import ArmOnStream
from rkkd_cli.train.cost import inference_costs
from rkkd_cli.train.events import BatchDone, DatasetReady, StreamStarted
from rkkd_cli.train.profile import WARM_UP_STEPS, evaluation_seconds, stage, times_per_step
from rkkd_cli.train.teacher.model import Teacher, freeze

LABELS = torch.arange(100)


def teacher(name: str = "resnet8x4") -> Teacher:
    return freeze(build_model(name, 100), CPU, "fp32", 100, taken_as_is(3, (32, 32)))


def arms(of: Teacher, student: str = "resnet8", **methods: dict[str, Any]) -> list[ArmOnStream]:
    made = {name: {"method": method} for name, method in methods.items()}
    experiment = experiment_with(f"student.model={student}", arms=made)
    return [ArmOnStream(arm, 0, of, LABELS) for arm in experiment.resolved_arms]


def test_the_multiply_adds_of_resnet8x4_are_the_published_ones() -> None:
    of = teacher()
    cost = inference_costs(arms(of, "resnet8x4", kd={"name": "kd"}))["kd"]
    assert cost["macs"] / 1e6 == pytest.approx(177, abs=1)
    assert cost["parameters"] == count_parameters(build_model("resnet8x4", 100)) == 1_233_540
    assert cost["projector_parameters"] == cost["projector_macs"] == 0
    assert cost["training_parameters"] == 0


def test_a_projector_is_counted_apart() -> None:
    of = teacher()
    costs = inference_costs(arms(of, kd={"name": "kd"}, simkd={"name": "simkd"}))
    plain, projected = costs["kd"], costs["simkd"]
    weights = 64 * 128 + 128 * 128 * 9 + 128 * 256
    norms = 2 * (128 + 128 + 256)
    assert projected["parameters"] == plain["parameters"]
    assert projected["projector_parameters"] == weights + norms
    assert projected["projector_macs"] == weights * 8 * 8
    reused = 256 * 100  # the student's own classifier is there too, 6,400 more
    assert projected["macs"] == plain["macs"] + projected["projector_macs"] + reused


def test_parts_for_the_training_alone_are_told_apart() -> None:
    of = teacher()
    cost = inference_costs(arms(of, vid={"name": "vid"}))["vid"]
    assert cost["training_parameters"] > 0
    assert cost["projector_parameters"] == 0


def test_counting_leaves_the_student_as_it_was() -> None:
    of = teacher()
    (arm,) = arms(of, kd={"name": "kd"})
    before = {name: one.clone() for name, one in arm.student.state_dict().items()}
    inference_costs([arm])
    assert arm.student.training
    assert all(torch.equal(before[n], one) for n, one in arm.student.state_dict().items())


def event(name: str, start: float, seconds: float, thread: int = 1) -> Any:
    """Return an event as torch.profiler gives it, in microseconds."""
    new: Any = FunctionEvent  # has no types
    return new(0, name, thread, 1e6 * start, 1e6 * (start + seconds), use_device="cuda")


def steps_of(count: int) -> list[FunctionEvent]:
    """Return the events of steps that take 3 s, the first of them 33 s, and of an evaluation."""
    events, start = list[FunctionEvent](), 0.0
    for step in range(count):
        forward = event("rkkd/a/b/forward", start + 1, 30 if step == 0 else 2)
        kernel = event("aten::mm", start + 2, 0.1, thread=2)
        kernel.append_kernel("gemm", 0, 5e5)
        relu = event("aten::relu", start + 1, 1)
        events += [event("rkkd/stream/data", start, 1), forward, relu, kernel]
        start = 1e-6 * forward.time_range.end
    return [*events, event("rkkd/stream/evaluation", start, 5)]


def test_steps_are_averaged_without_the_first_ones_and_without_evaluation() -> None:
    events = steps_of(WARM_UP_STEPS + 4)
    times = times_per_step(events)
    assert times.keys() == {("stream", "data"), ("a/b", "forward")}
    assert times["stream", "data"].seconds == pytest.approx(1)
    assert times["a/b", "forward"].seconds == pytest.approx(2)
    assert evaluation_seconds(events) == pytest.approx(5)


def test_a_short_training_has_all_its_steps_counted() -> None:
    assert times_per_step(steps_of(1))["a/b", "forward"].seconds == pytest.approx(30)
    assert times_per_step([]) == {}
    assert evaluation_seconds([]) is None


def test_a_kernel_belongs_to_the_stage_during_which_any_thread_launched_it() -> None:
    times = times_per_step(steps_of(WARM_UP_STEPS + 4))
    assert times["a/b", "forward"].gpu_seconds == pytest.approx(0.5)
    assert times["stream", "data"].gpu_seconds == 0


def test_a_long_training_is_profiled_over_its_first_steps_and_no_teacher_is() -> None:
    profile = StepProfile()
    for stream in ("one", "two"):
        profile.take(DatasetReady({}))
        with stage("backward", "teacher"):
            pass
        profile.take(StreamStarted(stream, seed=0, arms=(), epochs=1, batches=2 * STEPS))
        for batch in range(2 * STEPS):
            with stage("forward", stream):
                pass
            profile.take(BatchDone(stream, epoch=1, batch=batch + 1))
    events: Any = profile.profiler.events()  # type: ignore[no-untyped-call]
    marks = [event.name for event in events if event.name.startswith("rkkd/")]
    assert marks == ["rkkd/one/forward"] * STEPS


def test_a_failed_run_is_no_longer_profiled(tmp_path: Path) -> None:
    recorder = Recorder(experiment_with(), tmp_path, name="run", device="cpu")

    def fail() -> None:
        with profiling(True, recorder) as take:
            take(StreamStarted("s", seed=0, arms=(), epochs=1, batches=9))
            assert torch.autograd._profiler_enabled()  # type: ignore[attr-defined]
            raise ValueError("it failed")

    with pytest.raises(ValueError, match="it failed"):
        fail()
    assert not torch.autograd._profiler_enabled()  # type: ignore[attr-defined]
