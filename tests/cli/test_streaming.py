"""Runs on streamed image folders: same rows whoever decodes, whatever interrupts them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from image_folders import write_folder
from running import (
    Ended,
    Program,
    has_checkpoint,
    has_rows,
    meanwhile,
    refused,
    signalled,
    succeeded,
    wait_until,
)
from safetensors import safe_open
from written import manifest_of, numbers_of

from rkkd_cli.data.streaming.split import SAMPLED_FILES

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

MODELS = ("--dataset", "folder", "--teacher", "digits_teacher", "--student", "digits_student")
SMALL = (
    *MODELS, "--data-root", "images", "--stream", "dataset.image_size=12", "--device", "cpu",
    "--batch-size", "8", "--epochs", "3", "teacher.training.epochs=1",
    "teacher.training.batch_size=20",
)  # fmt: skip
LOUD = ("run", *SMALL, "--seeds", "0")
RUN = (*LOUD, "-q")
HERE = "decoders=0"  # without the start of a DataLoader's workers


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``images`` of three classes, 300 for training: more than a sample."""
    place = tmp_path_factory.mktemp("streamed")
    write_folder(place / "images", classes=3, train=100, test=4, size=16)
    return place


@pytest.fixture(scope="module")
def whole(original: Path, warm_rkkd: Program) -> list[str]:
    """The numbers of a run that nothing interrupted; its teacher is then in the cache."""
    succeeded(warm_rkkd(*RUN, HERE, "--name", "whole", cwd=original))
    return numbers_of(original / "results" / "whole")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A working folder with a copy of the images."""
    shutil.copytree(original / "images", tmp_path / "images")
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Path:
    """Where a run of the name x will be."""
    return folder / "results" / "x"


@pytest.mark.slow
def test_any_number_of_decoders_and_of_arms_gives_the_same_rows(
    folder: Path, warm_rkkd: Program
) -> None:
    for decoders in (0, 2):
        words = (f"decoders={decoders}", "--name", f"d{decoders}")
        result = warm_rkkd(*RUN, *words, cwd=folder)
        assert (result.returncode, result.stderr) == (0, "")
    succeeded(warm_rkkd(*RUN, HERE, "--rank-grad", "on", "--name", "alone", cwd=folder))
    runs = [folder / "results" / name for name in ("d0", "d2", "alone")]
    zero, two, kd_rank = map(numbers_of, runs)
    assert len(zero) == 7
    assert zero == two
    assert kd_rank[1:] == [row for row in zero if row.startswith("kd_rank,")]
    (facts,) = manifest_of(runs[0])["datasets"]
    assert (facts["streamed"], facts["crop"], facts["crop_padding"]) == (True, "resized", 0)
    assert "decoders = 2" in (runs[1] / "experiment.toml").read_text()


def test_a_run_says_that_it_streams_and_a_dry_run_that_it_would(
    folder: Path, warm_rkkd: Program
) -> None:
    result = succeeded(warm_rkkd(*LOUD, "decoders=2", cwd=folder))
    said = "its 300 training images are streamed from the disk, in resized crops of 12×12, decoded"
    assert f"{said} by 2 processes" in result.stderr
    planned = warm_rkkd(*LOUD, "--dry-run", cwd=folder)
    assert "folder (streamed from the disk): 300 training" in planned.stdout
    as_json = json.loads(warm_rkkd(*LOUD, "--dry-run", "--json", cwd=folder).stdout)
    assert [one["streamed"] for one in as_json["streams"]] == [True]


@pytest.mark.slow
def test_other_methods_and_splits_train_on_a_stream(
    folder: Path, run: Path, warm_rkkd: Program
) -> None:
    """CRD needs the places and labels of all images, MLKD a second view."""
    arms = ("arms.crd.method.name=crd", "arms.mlkd.method.name=mlkd")
    words = (*arms, HERE, "--val-share", "0.2", "--limit-train", "60", "--name", "x")
    succeeded(warm_rkkd(*RUN, *words, cwd=folder))
    assert len(numbers_of(run)) == 1 + 4 * 3


def test_resized_crops_in_memory_leave_held_out_images_as_they_are(
    folder: Path, run: Path, warm_rkkd: Program
) -> None:
    words = [word for word in RUN if word != "--stream"]
    words += ["dataset.crop=resized", "dataset.streaming=false", "--limit-train", "60"]
    succeeded(warm_rkkd(*words, "--name", "x", cwd=folder))
    (facts,) = manifest_of(run)["datasets"]
    assert (facts["streamed"], facts["crop"], facts["crop_padding"]) == (False, "resized", 0)
    with safe_open(next((run / "final").glob("*.safetensors")), "pt") as file:
        assert file.metadata()["rkkd.fit"] == "crop"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("dataset.crop=resized dataset.crop_padding=2", "padding = 2 belongs to crop = 'padded'"),
        ("dataset.crop=square", "dataset.crop = 'square': must be 'padded', 'resized' or 'window'"),
        ("decoders=-1", "decoders = -1: must be greater than or equal to 0"),
        ("--stream", "dataset.streaming = true is for image folders; digits is held in memory"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_a_sentence(
    words: str, sentence: str, warm_rkkd: Program, tmp_path: Path
) -> None:
    refused(warm_rkkd("run", *words.split(), cwd=tmp_path), sentence)


def test_a_folder_that_memory_cannot_hold_is_refused_with_the_way_out(
    folder: Path, warm_rkkd: Program
) -> None:
    for number in range(20_000):  # of 4096×4096 pixels they would take a terabyte
        (folder / "images" / "train" / "class000" / f"x{number}.png").touch()
    words = ("run", *MODELS, "--data-root", "images", "--no-stream", "dataset.image_size=4096")
    answer = warm_rkkd(*words, "--dry-run", cwd=folder)
    said = "the decoded images of images take", "with --stream, or make them smaller"
    refused(answer, *said, alone=False)
    assert " image headers read: all 16×16" in answer.stderr
    assert " cannot be read: cannot read the image images/train/class000/x" in answer.stderr


def resumed(program: Program, folder: Path, *words: str) -> Ended:
    return succeeded(program("resume", "x", *words, cwd=folder))


@pytest.mark.slow
@posix
def test_after_a_signal_within_an_epoch_other_decoders_go_on_with_the_same_rows(
    folder: Path, run: Path, whole: list[str], warm_rkkd: Program
) -> None:
    after_each_step = ("--checkpoint-minutes", "0", "decoders=2", "--name", "x")
    in_the_second_epoch = has_checkpoint(run, 45)  # of 38 steps, and two evaluations, an epoch
    result = signalled(warm_rkkd, run, in_the_second_epoch, *RUN, *after_each_step)
    assert result.stderr == "rkkd: interrupted; `rkkd resume x` continues it\n"
    assert len(numbers_of(run)) < 7
    assert "batches, going on after epoch 1" in resumed(warm_rkkd, folder, "decoders=0").stderr
    assert numbers_of(run) == whole


@pytest.mark.slow
@posix
def test_a_killed_run_leaves_no_process_and_goes_on_with_the_same_rows(
    folder: Path, run: Path, whole: list[str], warm_rkkd: Program
) -> None:
    started = list[psutil.Process]()

    def kill() -> None:
        program = psutil.Process(manifest_of(run)["process"])
        started.extend(program.children(recursive=True))
        program.kill()

    words = (*RUN, "decoders=2", "--name", "x")
    result = meanwhile(kill, has_rows(run, 2), warm_rkkd, *words, cwd=folder)
    assert result.returncode == -signal.SIGKILL
    assert "Traceback" not in result.stderr  # Python may say that the killed one left semaphores
    assert len(started) >= 2
    assert not psutil.wait_procs(started, timeout=60)[1]
    resumed(warm_rkkd, folder, HERE)
    assert numbers_of(run) == whole


@pytest.mark.slow
@posix
def test_a_signal_to_all_processes_keeps_a_checkpoint(
    folder: Path, run: Path, whole: list[str], warm_rkkd: Program
) -> None:
    """As `timeout` or a batch system sends it: the decoders may end before the program does."""
    command = [sys.executable, "-m", "rkkd_cli", *RUN, "decoders=2", "--name", "x"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=folder, env=env, start_new_session=True) as program:
        wait_until(has_rows(run, 2))
        os.killpg(program.pid, signal.SIGTERM)
        assert program.wait(timeout=60) == 128 + signal.SIGTERM
    assert manifest_of(run)["status"] == "interrupted"
    resumed(warm_rkkd, folder, HERE)
    assert numbers_of(run) == whole


@posix
def test_an_image_that_breaks_meanwhile_ends_the_run_and_put_back_lets_it_go_on(
    folder: Path, run: Path, whole: list[str], warm_rkkd: Program
) -> None:
    image = sorted((folder / "images" / "train" / "class001").iterdir())[50]
    content = image.read_bytes()
    words = (*RUN, HERE, "--name", "x")
    damage = partial(image.write_bytes, b"broken")
    result = meanwhile(damage, has_rows(run, 2), warm_rkkd, *words, cwd=folder)
    sentence = refused(result, status=1)
    assert sentence.startswith(f"rkkd: error: cannot decode the image {image}: ")
    assert manifest_of(run)["status"] == "failed"
    changed = warm_rkkd("resume", "x", cwd=folder)
    refused(changed, "the images of folder are not those that the run began with", alone=False)
    image.write_bytes(content)
    assert " batches, going on after epoch " in resumed(warm_rkkd, folder).stderr
    assert numbers_of(run) == whole


@posix
def test_an_image_that_breaks_the_teachers_training_loses_no_step(
    folder: Path, warm_rkkd: Program
) -> None:
    images = sorted((folder / "images" / "train").rglob("*.png"))
    sampled = np.linspace(0, len(images) - 1, SAMPLED_FILES).astype(int)
    image = images[max({*range(len(images))} - {*sampled})]
    content = image.read_bytes()
    image.write_bytes(bytes(len(content)))  # which the fingerprint cannot tell
    words = ("teacher.seed=7", HERE, "--name", "x")
    broken = warm_rkkd(*RUN, *words, cwd=folder)
    refused(broken, f"cannot decode the image {image}: ", status=1)
    image.write_bytes(content)
    again = succeeded(warm_rkkd(*LOUD, *words[:2], "--name", "y", cwd=folder))
    assert "training the teacher digits_teacher on after epoch 0 and" in again.stderr


@pytest.mark.slow
def test_a_grid_in_two_processes_has_the_rows_of_one(folder: Path, warm_rkkd: Program) -> None:
    grid = ("grid", *SMALL, "--alpha", "0.2,0.8", "--temperature", "4", "--seeds", "0,1", "-q")
    rows = []
    for name, words in (("one", ()), ("two", ("--workers", "2"))):
        succeeded(warm_rkkd(*grid, *words, "--name", name, cwd=folder))
        rows.append(sorted(numbers_of(folder / "results" / name)))
    assert rows[0] == rows[1]
    assert len(rows[0]) == 1 + 3 * 2 * 3
