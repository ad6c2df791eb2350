"""What a worker checks before its task."""

from pathlib import Path

import pytest
from trained import CPU, experiment_with, runtime

from rkkd_cli.errors import RunError
from rkkd_cli.sweep.engines.worker import WorkerOptions

NET = """
from torch import nn

def net(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
"""


def test_a_worker_with_other_code_of_the_users_refuses_its_task(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    experiments = [experiment_with("student.model=mine.py:net")]
    options = WorkerOptions.like_this_process("cpu", experiments, runtime(cache))
    monkeypatch.chdir(tmp_path.parent)
    assert options.apply() == CPU
    (tmp_path / "mine.py").write_text(NET.replace("64", "65"))
    with pytest.raises(RunError, match=r"mine\.py:net has changed, or is another one on its node"):
        options.apply()
