import os
import pickle
import subprocess
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rkkd_cli.errors import UserError
from rkkd_cli.models.detection.array_pickle import read_array_pickle

ARRAYS = {
    "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "float64": np.array([0.1, -1e300]),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big_endian": np.arange(3, dtype=">f4"),
    "whole": np.array([[2**40, -1]]),
    "scalar": np.array(3.5),
    "empty": np.zeros((0, 4), np.float32),
}


class Command:
    """Runs a program when it is unpickled."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __reduce__(self) -> Any:
        return self.arguments


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL))
def test_arrays_are_read_as_numpy_reads_them(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "model.pkl"
    content = {"model": ARRAYS, "__author__": "someone", "score": np.float64(3)}
    path.write_bytes(pickle.dumps(content, protocol))
    weights = read_array_pickle(path)
    assert weights.tensors.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        tensor = weights.tensors[name]
        assert tensor.dtype == torch.from_numpy(array.astype(array.dtype.newbyteorder("="))).dtype
        assert np.array_equal(tensor.numpy(), array)
        assert tensor.shape == array.shape


def test_a_dict_of_arrays_alone_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(ARRAYS))
    assert read_array_pickle(path).tensors.keys() == ARRAYS.keys()


@pytest.mark.parametrize(
    "program",
    [
        (os.system, ("touch ran",)),
        (subprocess.check_output, (["touch", "ran"],)),
        (eval, ("open('ran', 'w')",)),
        (np.load, ("ran",)),
        (OrderedDict, ()),
    ],
)
def test_nothing_in_a_file_runs(
    tmp_path: Path, program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"model": {"weight": ARRAYS["float32"], "x": Command(*program)}}))
    with pytest.raises(UserError, match="could run code and is never unpickled"):
        read_array_pickle(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged, or no pickle of arrays"),
        (pickle.dumps({"model": ARRAYS})[:-40], "damaged, or no pickle of arrays"),
        (b"PK\x03\x04 something else", "damaged, or no pickle of arrays"),
        (pickle.dumps([1, 2]), "holds no arrays by their names"),
        (pickle.dumps({"model": {"epoch": 3}}), "holds no arrays by their names"),
        (pickle.dumps({"model": {"weight": np.array(["text"])}}), "no plain numbers in weight"),
        (pickle.dumps({"model": {"weight": np.array([None])}}), "no plain numbers in weight"),
        (pickle.dumps({"model": {"weight": np.array([1j])}}), "no plain numbers in weight"),
        (pickle.dumps({"model": {"weight": np.array([np.nan])}}), "has NaN or infinite values"),
    ],
)
def test_other_files_are_refused_in_a_sentence(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_array_pickle(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such checkpoint file"):
        read_array_pickle(tmp_path / "none.pkl")
