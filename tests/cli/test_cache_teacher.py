"""``--cache-teacher`` at the command line: kept, read again, listed, removed, refused."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pandas as pd

Program = Callable[..., CompletedProcess[str]]
QUICK = (
    "training.epochs=2",
    "teacher.training.epochs=1",
    "seeds=[0]",
    "dataset.limit_train=200",
    "dataset.limit_test=100",
)
TIMING = ["epoch_seconds", "images_per_second"]


def rows(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "results" / name / "metrics.csv").drop(columns=TIMING)


def test_a_repeated_run_reads_what_the_first_one_kept(warm_rkkd: Program, tmp_path: Path) -> None:
    warm_rkkd("teacher", "outputs", "--evict", "all", cwd=tmp_path)
    for name in ("first", "second"):
        ran = warm_rkkd("run", "--cache-teacher", *QUICK, "--name", name, cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
        kept = 0 if name == "first" else 2
        assert f"the teacher's outputs: {kept} of 2 epochs are kept, 8.0 kB each" in ran.stderr
    plain = warm_rkkd("run", *QUICK, "--name", "plain", cwd=tmp_path)
    assert "outputs" not in plain.stderr
    pd.testing.assert_frame_equal(rows(tmp_path, "first"), rows(tmp_path, "plain"))
    pd.testing.assert_frame_equal(rows(tmp_path, "second"), rows(tmp_path, "plain"))
    header, line = warm_rkkd("teacher", "outputs", cwd=tmp_path).stdout.splitlines()
    key, *facts = line.split()
    assert facts == ["digits_teacher", "digits", "0", "exact", "2", "16.3", "kB"]
    wrong = warm_rkkd("teacher", "outputs", "--evict", "nothing", cwd=tmp_path)
    assert wrong.returncode == 2
    assert f"the choices are all, {key}" in wrong.stderr
    gone = warm_rkkd("teacher", "outputs", "--evict", key, cwd=tmp_path)
    assert gone.stdout == "removed 16.3 kB\n"
    assert warm_rkkd("teacher", "outputs", cwd=tmp_path).stdout.split() == header.split()


def test_a_resumed_run_has_the_same_rows(warm_rkkd: Program, tmp_path: Path) -> None:
    longer = ["training.schedule=constant", *QUICK]
    assert warm_rkkd("run", *longer, "--name", "a", cwd=tmp_path).returncode == 0
    assert warm_rkkd("resume", "a", "--epochs", "4", cwd=tmp_path).returncode == 0
    cached = ["run", "--cache-teacher", *longer, "--name", "b"]
    assert warm_rkkd(*cached, cwd=tmp_path).returncode == 0
    resumed = warm_rkkd("resume", "b", "--epochs", "4", cwd=tmp_path)
    assert "2 of 4 epochs are kept" in resumed.stderr
    pd.testing.assert_frame_equal(rows(tmp_path, "a"), rows(tmp_path, "b"))


def test_what_only_logits_have_is_refused_for_methods_of_features(
    warm_rkkd: Program, tmp_path: Path
) -> None:
    for method in ("simkd", "mlkd"):
        refused = warm_rkkd("run", "--cache-teacher", "--method", method, *QUICK, cwd=tmp_path)
        assert refused.returncode == 2
        assert f"method {method} looks at more of the teacher than its logits" in refused.stderr
        assert not (tmp_path / "results").exists()
    wrong = warm_rkkd("run", "cache_teacher=fp8", *QUICK, cwd=tmp_path)
    assert wrong.returncode == 2
    assert "cache_teacher" in wrong.stderr
