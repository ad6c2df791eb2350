"""Weights under any entry, among strangers, in shards and arrays; sizes that no machine has."""

import datetime
import decimal
import json
import sys
import uuid
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from weights import same

from rkkd_cli.errors import UserError
from rkkd_cli.models import build_model
from rkkd_cli.models.checkpoint.layout import read_weights
from rkkd_cli.models.checkpoint.read import MAX_ENTRIES
from rkkd_cli.models.checkpoint.recognise import recognise


def state(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return dict(build_model("digits_student", 10, 1).state_dict())


def file_of(content: object, folder: Path, zipped: bool = True) -> Path:
    path = folder / "x.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        recognise(read_weights(path, **options))
    assert str(path) in str(caught.value)
    return str(caught.value)


NAMES = ["model_state", "student", "params", "module", "best_state_dict", "a b", "ünïcode", "0"]


@pytest.mark.parametrize("name", NAMES)
def test_the_only_state_dict_is_taken_and_named(name: str, tmp_path: Path) -> None:
    optimizer = {"state": {0: {"exp_avg": torch.zeros(2, 2)}}, "param_groups": [{"params": [0]}]}
    content = {"epoch": 3, name: state(), "optimizer": optimizer, "acc": torch.zeros(1)}
    weights = read_weights(file_of(content, tmp_path))
    assert weights.key == name
    assert same(recognise(weights).state, state())


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({"nets": {"ours": state()}, "epoch": 1}, "nets.ours"),
        ([state(), {"lr": 0.1}], "0"),
        ({"model": {"state_dict": state()}, "other": {"w": torch.zeros(2, 2)}}, "model.state_dict"),
        ({"model": {"depth": 8}, "weights_": state()}, "weights_"),
    ],
)
def test_a_state_dict_inside_others_is_found(content: object, name: str, tmp_path: Path) -> None:
    weights = read_weights(file_of(content, tmp_path))
    assert weights.key == name
    assert same(weights.tensors, state())


def test_of_several_one_has_to_be_named(tmp_path: Path) -> None:
    path = file_of({"student": state(1), "teacher": state(2), "epoch": 3}, tmp_path)
    for options in ({}, {"entry": "epoch"}, {"entry": "x" * 1000}):
        said = refusal(path, **options)
        assert "student (14 entries), teacher (14 entries)" in said
        assert len(said) < 500
    assert same(read_weights(path, entry="teacher").tensors, state(2))


def test_a_file_without_weights_says_what_it_has(tmp_path: Path) -> None:
    said = refusal(file_of({"epoch": 3, "args": {"lr": 0.1}}, tmp_path))
    assert "holds no state dict; its entries are epoch (int), args (dict)" in said


def with_counters() -> dict[str, Any]:
    counters = {f"{key.rpartition('.')[0]}.total_ops": torch.zeros(1) for key in state()}
    return {"total_params": torch.zeros(1, dtype=torch.float64)} | counters | state()


@pytest.mark.parametrize("prefix", ["", "module."])
def test_counters_beside_the_weights_are_named_and_may_be_left_out(
    prefix: str, tmp_path: Path
) -> None:
    content = {f"{prefix}{key}": tensor for key, tensor in with_counters().items()}
    path = file_of(content, tmp_path)
    said = refusal(path)
    for part in ("is a digits_student with ", "total_params", "--ignore-unexpected"):
        assert part in said
    model = recognise(read_weights(path, ignore_unexpected=True))
    assert (model.model, "total_params" in model.ignored) == ("digits_student", True)
    assert same(model.state, state())


def test_counters_outside_a_wrapper_s_prefix(tmp_path: Path) -> None:
    content = {f"module.{key}": tensor for key, tensor in state().items()}
    path = file_of(content | {"total_ops": torch.zeros(1)}, tmp_path)
    assert same(recognise(read_weights(path, ignore_unexpected=True)).state, state())


def test_what_is_no_tensor_is_named_and_may_be_left_out(tmp_path: Path) -> None:
    strangers = {"detach": OrderedDict(float=1), "epoch": 3, 7: None}
    path = file_of(state() | strangers, tmp_path)
    assert "no tensors: detach, epoch, 7;" in refusal(path)
    weights = read_weights(path, ignore_unexpected=True)
    assert len(recognise(weights).ignored) == 3
    assert same(recognise(weights).state, state())


def test_ignoring_makes_no_other_model_fit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = build_model("resnet14", 10).state_dict()  # has all the names of resnet8
    model = recognise(read_weights(file_of(dict(weights), tmp_path), ignore_unexpected=True))
    assert (model.model, model.ignored) == ("resnet14", ())


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "beside",
    [
        datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC),
        [datetime.date(2024, 5, 1), datetime.time(3), datetime.timedelta(hours=2)],
        OrderedDict(a=1),
        defaultdict(list, a=[1]),
        Counter("aab"),
        deque([1, 2], maxlen=5),
        [decimal.Decimal("0.1"), uuid.UUID(int=5)],
        {"nested": OrderedDict(deeper=deque([defaultdict(dict)]))},
    ],
    ids=lambda beside: type(beside).__name__,
)
def test_plain_containers_and_dates_are_read(beside: Any, zipped: bool, tmp_path: Path) -> None:
    path = file_of({"model": state(), "x": beside}, tmp_path, zipped)
    assert same(read_weights(path).tensors, state())


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("yacs.config.CfgNode", dict),
        ("easydict.EasyDict", dict),
        ("addict.addict.Dict", dict),
        ("omegaconf.dictconfig.DictConfig", object),
    ],
)
def test_options_of_libraries_are_read(
    name: str, base: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, kind = name.rpartition(".")
    options: Any = type(kind, (base,), {"__module__": module})()
    options.__dict__ |= {"frozen": True, "arch": "x"}
    if base is dict:
        options["lr"] = 0.1
    fake = ModuleType(module)
    setattr(fake, kind, type(options))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, module.partition(".")[0], fake)
        patch.setitem(sys.modules, module, fake)
        path = file_of({"model": state(), "config": options}, tmp_path)
    assert same(read_weights(path).tensors, state())


def test_shards_are_read_by_their_index(tmp_path: Path) -> None:
    keys = list(state())
    parts = {"a.safetensors": keys[:5], "b.safetensors": keys[5:]}
    for name, part in parts.items():
        save_file({key: state()[key] for key in part}, tmp_path / name)
    index = tmp_path / "model.safetensors.index.json"
    weight_map = {key: name for name, part in parts.items() for key in part}
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    weights = read_weights(index)
    assert [file.name for file in weights.files] == list(parts)
    assert same(recognise(weights).state, state())
    (tmp_path / "b.safetensors").unlink()
    assert "names b.safetensors, which is not beside it" in refusal(index)
    assert "is a folder; name a file in it, such as model.safetensors.index" in refusal(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{}", "[" * 100_000, '{"weight_map": 3}', '{"weight_map": {"a": 3}}',
        '{"weight_map": {"a": "../x.bin"}}', '{"weight_map": {"a": "/etc/passwd"}}',
        '{"weight_map": {"a": "x.index.json"}}', '{"weight_map": {"a": ""}}',
        '{"weight_map": {"a": ".."}}', '{"weight_map": {}}', '{"weight_map": {"a": [1]}}',
        '{"weight_map": {"a": "b", "c": 5}}', '{"weight_map": {"a": "x\\u0000"}}',
    ],
)  # fmt: skip
def test_an_index_leads_nowhere_else(content: str, tmp_path: Path) -> None:
    index = tmp_path / "x.index.json"
    index.write_text(content)
    refusal(index)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_numpy_s_archives_are_read(save: Any, tmp_path: Path) -> None:
    save(tmp_path / "x.npz", **{key: tensor.numpy() for key, tensor in state().items()})
    assert same(recognise(read_weights(tmp_path / "x.npz")).state, state())


def test_arrays_of_objects_and_swelling_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    for array in (np.array([{}], dtype=object), np.array(["a"]), np.zeros(2, np.uint64)):
        np.savez(path, a=array)
        refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00")
    refusal(path)
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (9000000000000,), }"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    refusal(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.onnx", b"\x08\x08\x12\x07pytorch", "is an ONNX graph"),
        ("x.h5", b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file"),
        ("x.gguf", b"GGUF\x03" + bytes(99), "is a GGUF file"),
        ("x.pth.gz", b"\x1f\x8b\x08" + bytes(99), "is a gzip archive"),
        ("x.msgpack", b"\x81\xa6params\x80\xff", "is a msgpack file"),
        ("x.npy", b"\x93NUMPY\x01\x00" + bytes(99), "is a single NumPy array"),
        ("config.json", b'{"architectures": ["ResNet"]}', "is a text file"),
    ],
)
def test_other_kinds_are_named(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert said in refusal(tmp_path / name)


@pytest.mark.parametrize("count", [8 * 10**12, 10**15])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8])
def test_sizes_that_no_machine_has_are_refused(
    count: int, dtype: torch.dtype, tmp_path: Path
) -> None:
    huge = torch.zeros(1, 1, dtype=dtype).expand(count, 1)
    for content in ({"fc.weight": huge}, {"model": state() | {"fc.weight": huge}}):
        path = file_of(content, tmp_path)
        assert path.stat().st_size < 100_000
        assert "GB of memory are free" in refusal(path)


def test_a_sparse_file_is_refused_at_once(tmp_path: Path) -> None:
    for name, size in (("x.pt", 5 * 2**30), ("x.ckpt", 2**42), ("x.safetensors", 2**42)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
        refusal(tmp_path / name)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_more_tensors_than_any_model_has_are_refused(kind: str, tmp_path: Path) -> None:
    tensors = {f"a{i}": torch.zeros(1, 1) for i in range(MAX_ENTRIES + 1)}
    if kind == "safetensors":
        path = tmp_path / "x.safetensors"
        save_file(tensors, path)
    else:
        path = file_of(tensors, tmp_path, zipped=kind == "zip")
    assert f"at most {MAX_ENTRIES:,} are read" in refusal(path)


@pytest.mark.skipif(not hasattr(torch, "float4_e2m1fn_x2"), reason="PyTorch 2.8 has it")
def test_numbers_that_pytorch_does_not_convert_are_named(tmp_path: Path) -> None:
    packed = torch.zeros(4, 4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    assert "torch.float4_e2m1fn_x2 in fc.w" in refusal(file_of({"fc.w": packed}, tmp_path))


def test_attributes_of_a_tensor_change_nothing(tmp_path: Path) -> None:
    weights = {key: nn.Parameter(t, requires_grad=False) for key, t in state().items()}
    for name in ("detach", "float", "numel", "is_floating_point", "dim", "element_size"):
        setattr(weights["fc.weight"], name, OrderedDict())
    path = file_of(OrderedDict(weights), tmp_path)
    assert same(recognise(read_weights(path)).state, state())


def test_a_container_that_holds_itself_is_searched_once(tmp_path: Path) -> None:
    content: dict[str, Any] = {f"k{i}": {} for i in range(25)}
    for value in content.values():
        value |= content
    assert "holds no state dict" in refusal(file_of(content, tmp_path))
