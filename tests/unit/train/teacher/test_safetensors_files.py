"""Safetensors files that say what they are, and the teachers that names and keys mean."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load

from rkkd_cli import __version__
from rkkd_cli.errors import UserError
from rkkd_cli.models import build_model
from rkkd_cli.train.teacher.safetensors_files import find_teacher, save_imported, teacher_bytes
from rkkd_cli.train.teacher.store import TeacherStore

FACTS: dict[str, Any] = {
    "model": "resnet8",
    "classes": 10,
    "channels": 3,
    "dataset": "cifar10",
    "test_acc": 61.25,
    "test_images": 10_000,
    "sha256": "ab" * 32,
    "parameters": 5,
}


def state(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return dict(build_model("resnet8", 10).state_dict())


def test_the_file_has_the_weights_bit_for_bit_and_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(teacher_bytes(state(), FACTS))
    assert all(torch.equal(t, state()[n]) for n, t in load(path.read_bytes()).items())
    with safe_open(path, "pt") as file:
        assert file.metadata() == {
            "format": "pt",
            "rkkd.version": __version__,
            "rkkd.model": "resnet8",
            "rkkd.classes": "10",
            "rkkd.channels": "3",
            "rkkd.dataset": "cifar10",
            "rkkd.test_acc": "61.25",
            "rkkd.test_images": "10000",
            "rkkd.source_sha256": "ab" * 32,
        }


def test_strides_and_shared_memory_are_written_out() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"turned": base.T, "whole": base, "again": base, "part": base[1:, ::2]}
    tensors["last"] = torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)
    read = load(teacher_bytes(tensors, {}))
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def test_an_imported_teacher_is_listed_and_found_by_key_and_model(tmp_path: Path) -> None:
    path = save_imported(tmp_path, "imported-0123456789abcdef", state(), FACTS)
    (facts,) = TeacherStore(tmp_path).list()
    assert (facts["key"], facts["sha256"]) == ("imported-0123456789abcdef", "ab" * 32)
    names = ["imported-0123456789abcdef", "0123", "resnet8", str(path), str(path.parent)]
    assert {find_teacher(name, tmp_path).path for name in names} == {path}


def test_a_name_that_means_several_teachers_or_none_is_refused(tmp_path: Path) -> None:
    for key in ("imported-0123456789abcdef", "imported-0123400000000000"):
        save_imported(tmp_path, key, state(), FACTS)
    for name in ("resnet8", "01234"):
        with pytest.raises(UserError, match=r"may be imported-\d+\w* or imported-"):
            find_teacher(name, tmp_path)
    for name in ("resnet20", "012", "nothing.pth", str(tmp_path)):
        with pytest.raises(UserError, match="no cached teacher or file"):
            find_teacher(name, tmp_path)


def test_a_damaged_teacher_is_refused(tmp_path: Path) -> None:
    path = save_imported(tmp_path, "imported-0123456789abcdef", state(), FACTS)
    path.write_bytes(teacher_bytes(state(1), FACTS))
    with pytest.raises(UserError, match="is damaged; train or import the teacher again"):
        find_teacher("0123", tmp_path)


def test_facts_without_weights_count_as_none(tmp_path: Path) -> None:
    path = save_imported(tmp_path, "imported-0123456789abcdef", state(), FACTS)
    assert json.loads((path.parent / "teacher.json").read_text())["weights_sha256"]
    path.unlink()
    assert TeacherStore(tmp_path).list() == []
