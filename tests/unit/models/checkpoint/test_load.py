"""Checkpoint files: the layouts in use load strictly, everything else is refused untouched."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from weights import Call, same, saved

from rkkd_cli.errors import UserError
from rkkd_cli.models import Classifier, build_model, load_checkpoint

State = Mapping[str, Tensor]
FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
FILE_FIXTURES = [HealthCheck.function_scoped_fixture]


def student(classes: int = 10, name: str = "digits_student", seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    return build_model(name, classes, 1)


def copied(model: Classifier) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def refusal(path: Path) -> str:
    """What loading ``path`` is answered with; the model must be as it was before."""
    model = student(seed=7)
    before = copied(model)
    with pytest.raises(UserError) as caught:
        load_checkpoint(model, path)
    assert same(model.state_dict(), before)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "bare": lambda state: state,
    "model": lambda state: {"epoch": 240, "accuracy": 79.4, "model": state},
    "state_dict": lambda state: {"arch": "x", "state_dict": state, "best": torch.tensor(1.0)},
    "net": lambda state: {"net": state, "acc": 95.0},
    "model_state_dict": lambda state: {"model_state_dict": state},
    "parallel": lambda state: {"module." + name: tensor for name, tensor in state.items()},
    "nested parallel": lambda state: {
        "model": {"module." + name: tensor for name, tensor in state.items()}
    },
}


@FORMATS
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_in_use_loads(layout: str, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "teacher.pth"
    teacher = student(seed=1)
    path.write_bytes(saved(LAYOUTS[layout](teacher.state_dict()), zipped))
    model = student(seed=2)
    assert not same(model.state_dict(), teacher.state_dict())
    load_checkpoint(model, path)
    assert same(model.state_dict(), teacher.state_dict())


@FORMATS
@pytest.mark.parametrize("rate", [np.float64(0.0005), np.float32(0.0005), np.int64(3)])
def test_a_numpy_learning_rate_beside_the_weights_does_no_harm(
    rate: np.generic, zipped: bool, tmp_path: Path
) -> None:
    path = tmp_path / "ckpt_epoch_240.pth"
    teacher = student(seed=1)
    optimizer = torch.optim.SGD(teacher.parameters(), lr=0.1, momentum=0.9).state_dict()
    optimizer["param_groups"][0]["lr"] = rate
    content = {"epoch": 240, "model": teacher.state_dict(), "optimizer": optimizer}
    path.write_bytes(saved(content, zipped))
    model = student(seed=2)
    load_checkpoint(model, str(path))
    assert same(model.state_dict(), teacher.state_dict())


def test_a_numpy_learning_rate_under_its_name_of_old_loads(tmp_path: Path) -> None:
    path = tmp_path / "ckpt_epoch_240.pth"
    teacher = student(seed=1)
    content = {"model": teacher.state_dict(), "lr": np.float64(0.0005)}
    new = saved(content, zipped=False)
    old = new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"numpy.core.multiarray" in old
    path.write_bytes(old)
    model = student(seed=2)
    load_checkpoint(model, path)
    assert same(model.state_dict(), teacher.state_dict())


def test_a_missing_file_and_a_folder_are_no_checkpoint(tmp_path: Path) -> None:
    assert "no such checkpoint file" in refusal(tmp_path / "nothing.pth")
    assert "no such checkpoint file" in refusal(tmp_path)


@FORMATS
@settings(max_examples=60, suppress_health_check=FILE_FIXTURES)
@given(share=st.floats(0, 0.999))
def test_a_truncated_file_is_damaged(zipped: bool, share: float, tmp_path: Path) -> None:
    path = tmp_path / "cut.pth"
    whole = saved(student().state_dict(), zipped)
    path.write_bytes(whole[: int(len(whole) * share)])
    refusal(path)


@settings(max_examples=150, suppress_health_check=FILE_FIXTURES)
@given(content=st.binary(max_size=40))
@example(content=b"")
@example(content=b".")
@example(content=b"M")
@example(content=b"\x80\x09.")
@example(content=b"PK\x03\x04")
def test_bytes_that_are_no_checkpoint_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "noise.pth"
    path.write_bytes(content)
    refusal(path)


@FORMATS
@settings(max_examples=150, suppress_health_check=FILE_FIXTURES)
@given(place=st.floats(0, 0.999), bit=st.integers(0, 7))
def test_a_flipped_bit_gives_weights_or_a_refusal(
    zipped: bool, place: float, bit: int, tmp_path: Path
) -> None:
    path = tmp_path / "flipped.pth"
    damaged = bytearray(saved(student().state_dict(), zipped))
    damaged[int(len(damaged) * place)] ^= 1 << bit
    path.write_bytes(damaged)
    model = student(seed=7)
    before = copied(model)
    try:
        load_checkpoint(model, path)
    except UserError:
        assert same(model.state_dict(), before)


@FORMATS
def test_a_payload_is_refused_and_never_run(zipped: bool, tmp_path: Path) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    path.write_bytes(
        saved({"model": student().state_dict(), "x": Call(os.mkdir, str(trace))}, zipped)
    )
    assert "never unpickled" in refusal(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)  # it does what it says where files are trusted
    assert trace.is_dir()


@FORMATS
def test_a_whole_pickled_model_is_refused_with_the_way_out(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "whole.pth"
    path.write_bytes(saved(student(), zipped))
    assert "save its state_dict alone" in refusal(path)


@pytest.mark.parametrize(
    "content", [{}, [], {"model": {}}, torch.zeros(3), {"epoch": 3}, {"a": [torch.zeros(1)]}, 5]
)
def test_a_file_without_weights_is_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / "empty.pth"
    path.write_bytes(saved(content))
    assert "holds no" in refusal(path)


def test_another_number_of_classes_is_named(tmp_path: Path) -> None:
    path = tmp_path / "classes.pth"
    path.write_bytes(saved(student(classes=7).state_dict()))
    assert "was trained on 7 classes, the dataset has 10" in refusal(path)


@pytest.mark.parametrize("name", ["digits_teacher", "cnn2", "resnet8"])
def test_another_architecture_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    path.write_bytes(saved(student(name=name).state_dict()))
    assert "is of another architecture" in refusal(path)


def test_a_file_that_lacks_or_adds_one_parameter_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "partial.pth"
    state = copied(student())
    path.write_bytes(saved({k: v for k, v in state.items() if k != "fc.bias"}))
    assert "1 parameters missing, 0 unexpected (first: missing fc.bias)" in refusal(path)
    path.write_bytes(saved({**state, "fc2.bias": state["fc.bias"]}))
    assert "0 parameters missing, 1 unexpected (first: unexpected fc2.bias)" in refusal(path)
