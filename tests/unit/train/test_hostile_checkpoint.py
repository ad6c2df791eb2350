"""Files that somebody else put where a checkpoint belongs: refused, named, never executed."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from weights import Call, foreign, saved

from rkkd_cli.errors import UserError
from rkkd_cli.train.checkpoint import CheckpointStore

STATE: dict[str, Any] = {"number": 1, "weights": torch.ones(8)}


def newest(folder: Path, content: bytes) -> Path:
    """Write a foreign checkpoint beside one of ours."""
    CheckpointStore(folder).save(STATE)
    return foreign(folder, content)


class Disguised(nn.Module):
    """A model with a payload inside."""

    def __init__(self, mark: Path) -> None:
        super().__init__()
        self.layer, self.extra = nn.Linear(2, 2), Call(os.mkdir, str(mark))


@pytest.mark.parametrize("form", ["zip", "old format", "bare pickle", "inside", "key", "model"])
def test_a_payload_with_the_right_hash_is_refused_and_not_executed(
    form: str, tmp_path: Path
) -> None:
    mark = tmp_path / "executed"
    bad = Call(os.mkdir, str(mark))
    content = {
        "zip": lambda: saved(bad),
        "old format": lambda: saved(STATE | {"lockstep": bad}, zipped=False),
        "bare pickle": lambda: pickle.dumps(STATE | {"lockstep": bad}),
        "inside": lambda: saved(OrderedDict(STATE | {"arms": {"kd": [1, (bad,)]}})),
        "key": lambda: saved(STATE | {bad: 1}),
        "model": lambda: saved(Disguised(mark)),
    }[form]()
    path = newest(tmp_path / "checkpoints", content)
    with pytest.raises(UserError, match=r"remove it$") as refused:
        CheckpointStore(path.parent).load()
    assert str(path) in str(refused.value)
    assert not mark.exists()
    pickled = form == "bare pickle"  # the payload is a real one: whoever trusts it executes it
    pickle.loads(content) if pickled else torch.load(path, weights_only=False)
    assert mark.is_dir()


FOREIGN = {
    "empty": b"",
    "text": b"hello\n" * 20,
    "zip without a pickle": b"PK\x05\x06" + bytes(18),
    "half a checkpoint": saved(STATE)[:400],
    "a list": saved([1, 2]),
    "a tensor": saved(torch.zeros(3)),
    "a number": saved(3),
    "a pickled list": pickle.dumps([1]),
}


@pytest.mark.parametrize("form", FOREIGN)
def test_a_file_that_is_no_checkpoint_is_named_even_with_the_right_hash(
    form: str, tmp_path: Path
) -> None:
    path = newest(tmp_path, FOREIGN[form])
    with pytest.raises(UserError, match=r"checkpoint.*remove it$") as refused:
        CheckpointStore(tmp_path).load()
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
