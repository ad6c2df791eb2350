"""What many tests need: a cache of their own, the real program, small image folders."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from image_folders import write_folder
from running import Ended, FolderMaker, Program

from rkkd_cli.methods import ModelPair
from rkkd_cli.models import build_model

# One thread: the networks here are tiny, and two threads that wait for each other on a busy
# machine take many times as long.
torch.set_num_threads(1)

# How long an example takes says more about what else the machine does than about the code.
settings.register_profile("rkkd", deadline=None)
settings.load_profile("rkkd")


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder shared by all tests of the session, so that teachers are trained once."""
    folder = tmp_path_factory.getbasetemp() / "rkkd-cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RKKD_CACHE", str(folder))
        yield folder


@pytest.fixture
def digits_pair() -> ModelPair:
    """A student and a teacher for digits, for methods that are built."""
    torch.manual_seed(0)
    models = [build_model(name, 10, 1) for name in ("digits_student", "digits_teacher")]
    return ModelPair(models[0], models[1], 1, (8, 8), torch.arange(40) % 10)


@pytest.fixture
def rkkd(tmp_path: Path) -> Program:
    """Run the real program in a folder of its own: ``rkkd("run", "--seeds", "0")``."""

    def program(
        *arguments: str, cwd: Path = tmp_path, env: Mapping[str, str] | None = None
    ) -> Ended:
        command = [sys.executable, "-m", "rkkd_cli", *arguments]
        surroundings = {**os.environ, "COLUMNS": "160", "OMP_NUM_THREADS": "1", **(env or {})}
        return subprocess.run(
            command, cwd=cwd, env=surroundings, capture_output=True, text=True, timeout=300
        )

    return program


@pytest.fixture
def make_folder(tmp_path: Path) -> FolderMaker:
    """Write an image folder of random RGB images: ``make_folder(classes=3, size=16)``."""

    def write(classes: int = 3, train: int = 6, test: int = 2, size: int = 16) -> Path:
        root = tmp_path / f"images-{classes}-{train}-{test}-{size}"
        return write_folder(root, classes, train, test, size)

    return write
