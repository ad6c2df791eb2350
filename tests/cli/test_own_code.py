"""A user's own method, model and dataset, named as package.module:name, in the real program."""

import re
import signal
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest
from running import TWELVE, Program, has_rows, quick, refused, signalled, succeeded
from written import manifest_of

from rkkd_cli.methods import METHODS

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"
ONE_EPOCH = "training.epochs=1"
MINE = """
import numpy as np
from torch import nn


def net(num_classes, in_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, num_classes),
    )


def load(root):
    random = np.random.default_rng(0)
    sizes = (60, 30)
    images = [random.integers(0, 256, (n, 3, 8, 8), dtype=np.uint8) for n in sizes]
    labels = [np.arange(n) % 3 for n in sizes]
    return images[0], labels[0], images[1], labels[1]


def floats(root):
    images, labels, *test = load(root)
    return images / 255, labels, *test


def wrong_width(num_classes, in_channels):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes + 1))


def no_arguments():
    return nn.Identity()
"""


def example() -> str:
    """Return the first Python block of CONTRIBUTING.md, the method's file."""
    text = CONTRIBUTING.read_text(encoding="utf-8")
    block = re.search(r"```python\n(# rkkd_cli/methods/logit_mse\.py\n.*?)```", text, re.DOTALL)
    assert block is not None
    return block[1]


def metrics(folder: Path, run: str) -> pd.DataFrame:
    return pd.read_csv(folder / "results" / run / "metrics.csv")


def test_the_worked_example_of_contributing_runs(warm_rkkd: Program, tmp_path: Path) -> None:
    (tmp_path / "logit_mse.py").write_text(example(), encoding="utf-8")
    words = ("run", "--method", "logit_mse:LogitMSE", "method.plugin.weight=0.5", "--name", "mse")
    succeeded(warm_rkkd(*words, *quick(ONE_EPOCH), cwd=tmp_path))
    rows = metrics(tmp_path, "mse")
    assert rows["arm"].tolist() == ["LogitMSE", "LogitMSE_rank"]
    assert (rows["logit_mse"] > 0).all()
    assert "logit_mse" not in METHODS


def test_a_users_own_model_and_dataset_are_used(warm_rkkd: Program, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    words = ("run", "--dataset", "mine:load", "--student", "mine:net", "--teacher", "cnn2")
    small = (ONE_EPOCH, "teacher.training.epochs=1", "seeds=[0]")
    succeeded(warm_rkkd(*words, *small, "--name", "own", cwd=tmp_path))
    assert metrics(tmp_path, "own")["test_acc"].between(0, 100).all()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--student", "mine:nett"), ["mine:nett", "did you mean mine:net"]),
        (("--student", "nowhere:net"), ["nowhere:net", "nowhere"]),
        (("--student", "mine:wrong_width"), ["mine:wrong_width"]),
        (("--student", "mine.py:net", "method.dkd.beta=2"), ["method.dkd.beta has no effect"]),
        (("--dataset", "mine:floats"), ["train_images must be uint8", "float64"]),
        (("--dataset", "mine:net"), ["mine:net", "must accept the call"]),
        (("--method", "mine:net"), ["no subclass of rkkd_cli.methods.Method"]),
        (("--method", "mine:lod"), ["mine:lod", "did you mean mine:load"]),
    ],
)
def test_mistakes_are_said_in_one_sentence(
    words: tuple[str, ...], parts: list[str], warm_rkkd: Program, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    refused(warm_rkkd("run", *words, "--dry-run", cwd=tmp_path), *parts)


def test_a_preset_file_may_not_name_code(warm_rkkd: Program, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    warm_rkkd("cp", "rank_grad", "preset.toml", cwd=tmp_path)
    path = tmp_path / "preset.toml"
    text = path.read_text(encoding="utf-8").replace('"digits_student"', '"mine:net"')
    path.write_text(text, encoding="utf-8")
    words = ("run", "preset.toml", "--dry-run")
    refused(warm_rkkd(*words, cwd=tmp_path), "names code to run")
    succeeded(warm_rkkd(*words, "student.model=mine:net", cwd=tmp_path))


def test_a_call_that_cannot_be_made_by_names_is_answered_with_a_wrapper_to_copy(
    warm_rkkd: Program, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    answer = warm_rkkd("run", "--student", "mine.py:no_arguments", "--dry-run", cwd=tmp_path)
    assert answer.returncode == 2
    sentence, *wrapper = answer.stderr.splitlines()
    assert sentence.endswith("and name that, mine.py:make_no_arguments")
    assert wrapper == [
        "    def make_no_arguments(num_classes, in_channels):",
        "        return no_arguments()",
    ]


def test_changed_code_is_refused_on_resume_or_taken_and_recorded(
    warm_rkkd: Program, tmp_path: Path
) -> None:
    source, run = tmp_path / "mine.py", tmp_path / "results" / "own"
    source.write_text(MINE, encoding="utf-8")
    words = ("run", "--student", "mine.py:net", *TWELVE, "-q", "--name", "own")
    signalled(warm_rkkd, run, has_rows(run, 4), *words, number=signal.SIGKILL)
    assert (run / "code" / "mine.py").read_text(encoding="utf-8") == MINE
    assert manifest_of(run)["code"] == {"mine.py": sha256(MINE.encode()).hexdigest()}

    source.write_text(MINE.replace("nn.ReLU()", "nn.PReLU()"), encoding="utf-8")
    answer = warm_rkkd("resume", "own", "-q", "--accept-changed-code", cwd=tmp_path)
    assert answer.returncode == 1
    assert "put back the code that it was trained with" in answer.stderr
    assert manifest_of(run)["code"] == {"mine.py": sha256(MINE.encode()).hexdigest()}
    assert not manifest_of(run)["warnings"]

    changed = MINE.replace("nn.ReLU()", "nn.GELU()")
    source.write_text(changed, encoding="utf-8")
    parts = ("mine.py has changed since run 'own' was trained", "code", "--accept-changed-code")
    refused(warm_rkkd("resume", "own", "-q", cwd=tmp_path), *parts, alone=False)
    answer = warm_rkkd("resume", "own", "-q", "--accept-changed-code", cwd=tmp_path)
    assert "mine.py has changed since the run began" in succeeded(answer).stderr
    manifest = manifest_of(run)
    digest = sha256(changed.encode()).hexdigest()
    assert manifest["code"] == {"mine.py": digest}
    assert "mine.py has changed" in manifest["warnings"][0]
    assert "mine.py has changed" in manifest["resumed"][0]["notes"][-1]
    assert (run / "code" / digest[:8] / "mine.py").read_text(encoding="utf-8") == changed
    assert (run / "code" / "mine.py").read_text(encoding="utf-8") == MINE
