"""Files that would run code: nothing of it runs, and the refusal names what they hold."""

import argparse
import builtins
import io
import os
import pickle
import re
import subprocess
import sys
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from weights import Call, same

from rkkd_cli.errors import UserError
from rkkd_cli.models import build_model, load_checkpoint
from rkkd_cli.models.checkpoint.read import read_file
from rkkd_cli.models.checkpoint.stand_ins import Stub

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


class Config:
    """Somebody's class."""

    depth = 3


def state() -> dict[str, Any]:
    torch.manual_seed(0)
    return dict(build_model("digits_student", 10, 1).state_dict())


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_checkpoint(build_model("digits_student", 10, 1), path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    return str(caught.value)


def evil(kind: str, trace: Path) -> Any:
    """An object whose pickle makes a file where it is trusted."""
    shell = f"touch {trace}"
    python = f"open({str(trace)!r}, 'w').close()"
    return {
        "os.system": Call(os.system, shell),
        "subprocess.Popen": Call(subprocess.Popen, ["touch", str(trace)]),
        "eval": Call(builtins.eval, python),
        "exec": Call(builtins.exec, python),
        "in options": argparse.Namespace(model="resnet8", hook=Call(os.system, shell)),
        "in an array": np.array([Call(os.system, shell)], dtype=object),
        "in a set": {(Call(os.system, shell), 1)},
    }[kind]


KINDS = ["os.system", "subprocess.Popen", "eval", "exec", "in options", "in an array", "in a set"]
# Python 2's names, which files of PyTorch use.
NAMED = {"subprocess.Popen": "commands.Popen", "eval": "eval", "exec": "exec"}


@FORMATS
@pytest.mark.parametrize("kind", KINDS)
def test_a_call_in_a_file_is_never_made(kind: str, zipped: bool, tmp_path: Path) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    content = {"model": state(), "x": evil(kind, trace)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    said = refusal(path)
    named = NAMED.get(kind, f"{os.name}.system")
    assert re.search(rf"holds a (builtins\.)?{named} object", said)  # PyTorch 2.6 names builtins
    assert "never unpickled" in said
    assert not trace.exists()


def test_the_same_file_does_what_it_says_where_files_are_trusted(tmp_path: Path) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    torch.save({"x": evil("os.system", trace)}, path)
    torch.load(path, weights_only=False)
    assert trace.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_bare_pickle_is_never_run(protocol: int, tmp_path: Path) -> None:
    path, trace = tmp_path / "evil.pkl", tmp_path / "trace"
    path.write_bytes(pickle.dumps(evil("os.system", trace), protocol))
    refusal(path)
    assert not trace.exists()


@FORMATS
def test_a_payload_in_the_bytes_of_a_numpy_scalar_is_never_run(
    zipped: bool, tmp_path: Path
) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    payload = pickle.dumps(evil("os.system", trace), 2)
    scalar: Any = np.float64(0).__reduce__()[0]
    content = {"model": state(), "lr": Call(scalar, np.dtype(object), payload)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    load_checkpoint(build_model("digits_student", 10, 1), path)
    assert not trace.exists()


def test_a_method_put_into_options_is_never_called(tmp_path: Path) -> None:
    # A pickle by hand: an instance gets an attribute __setstate__, then a state again. A class
    # with a __dict__ would have the attribute called.
    path = tmp_path / "evil.pth"
    torch.save({"model": state(), "x": argparse.Namespace()}, path)
    calls = (
        b"\x80\x02cargparse\nNamespace\n)\x81"
        b"}X\x0c\x00\x00\x00__setstate__ctorch\nSize\nsb"
        b"}X\x01\x00\x00\x00aK\x01sb."
    )
    with zipfile.ZipFile(path) as old:
        entries = {entry.filename: old.read(entry) for entry in old.infolist()}
    path.unlink()
    with zipfile.ZipFile(path, "w") as new:
        for name, content in entries.items():
            new.writestr(name, calls if name.endswith("data.pkl") else content)
    read = read_file(path).content
    assert type(read) is Stub
    assert read.attributes == {"a": 1}


def test_a_mapping_with_methods_of_its_own_is_read_with_those_of_dict(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    content = OrderedDict(model=state())
    for name in ("get", "keys", "values"):
        content.__dict__[name] = torch.Size
    torch.save(content, path)
    load_checkpoint(build_model("digits_student", 10, 1), path)


@FORMATS
def test_a_foreign_object_is_named(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "foreign.pth"
    content = {"model": state(), "cfg": Config()}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert f"holds a {Config.__module__}.Config object, which could run code" in refusal(path)


@FORMATS
@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(lr=0.1, nested=argparse.Namespace(path=PurePosixPath("x"))),
        SimpleNamespace(arch="resnet8"),
        np.arange(6).reshape(2, 3),
        np.array(["a", "b"]),
        np.str_("text"),
        np.dtype("float32"),
        {"a": {1, 2}, "b": frozenset([3]), "c": slice(1, 2), "d": range(3), "e": 1j, "f": b"x"},
        {"type": int},
    ],
    ids=str,
)
def test_plain_data_beside_the_weights_does_no_harm(
    beside: Any, zipped: bool, tmp_path: Path
) -> None:
    path = tmp_path / "data.pth"
    torch.save({"model": state(), "x": beside}, path, _use_new_zipfile_serialization=zipped)
    model = build_model("digits_student", 10, 1)
    load_checkpoint(model, path)
    assert same(model.state_dict(), state())


def test_a_script_archive_is_refused_and_never_run(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    with zipfile.ZipFile(path, "w") as archive:  # what torch.jit.save writes, in short
        for name in ("script/data.pkl", "script/constants.pkl", "script/code/x.py"):
            archive.writestr(name, b"\x80\x02}.")
    assert "TorchScript archive, whose code is never run" in refusal(path)


def test_an_archive_that_swells_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "swelling.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\0" * 10_000_000)
    assert "is damaged" in refusal(path)


def zipped_text() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "x")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("tensors")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"\x80\x02}."))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("said", "content"),
    [
        ("is empty", b""),
        ("is a text file", "α text\nof lines".encode()),
        ("git lfs pull", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
        ("is a web page", b"\n<!DOCTYPE html><html><title>Drive</title>"),
        ("is damaged", bytes(range(256)) * 9),
        ("is a zip archive, but no checkpoint", zipped_text()),
        ("is a tar archive", tarred()),
    ],
)
def test_what_is_no_checkpoint_is_named(said: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    path.write_bytes(content)
    assert said in refusal(path)


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)
    assert "no such checkpoint file" in refusal(tmp_path / "nothing.pth")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "secret.pth"
    path.write_bytes(b"x")
    path.chmod(0)
    assert "Permission denied" in refusal(path)
