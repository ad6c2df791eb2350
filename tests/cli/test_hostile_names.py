"""Names out of files and folders: one line, no escape sequence, no markup, no shell."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from image_folders import write_folder
from running import Ended, Program, succeeded

from rkkd_cli.config.presets import preset_directory
from rkkd_cli.records.metrics import columns, csv_lines, header_line
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.recording.beginning import new_manifest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="such names are refused there")

NAMES = [
    "a\nrkkd: error: b",
    "a\r\x1b[2K\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "[/red][bold]x[/nothing]",
    "a;touch sprung;b",
    "$(touch sprung)`touch sprung`",
    "-rf --help",
    "{0} %s {x}",
    "\u202egnp.exe\u2066",
    "\x9b31m",
    os.fsdecode(b"\xff\xfe"),
]


def check_plain(answer: Ended, place: Path) -> None:
    for text in (answer.stdout, answer.stderr):
        assert "Traceback" not in text
        lines = text.split("\n")
        assert [line for line in lines if not line.isprintable()] == []
        assert sum(line.startswith("rkkd: error: ") for line in lines) <= 1
    assert not (place / "sprung").exists()


def check_mistake(answer: Ended, place: Path) -> None:
    check_plain(answer, place)
    assert answer.returncode == 2, answer.stderr
    assert answer.stderr.splitlines()[-1].startswith("rkkd: error: ")


@pytest.mark.parametrize("name", NAMES)
def test_names_below_an_image_folder_are_shown_as_they_can_be(
    name: str, tmp_path: Path, warm_rkkd: Program
) -> None:
    write_folder(tmp_path / "images", classes=2, train=1, test=1, size=16)
    words = ("run", "--dataset", "folder", "--data-root", "images", "--student", "cnn2")
    name = name.replace("/", "⁄")
    image = tmp_path / "images" / "train" / "class000" / f"{name}.png"
    image.write_bytes(b"no image")
    check_mistake(warm_rkkd(*words, "--teacher", "cnn2", cwd=tmp_path), tmp_path)
    image.unlink()
    unknown = tmp_path / "images" / "test" / name
    unknown.mkdir()
    check_plain(warm_rkkd(*words, "--teacher", "cnn2", "--dry-run", cwd=tmp_path), tmp_path)
    (unknown / "0.png").write_bytes(b"no image")
    check_mistake(warm_rkkd(*words, "--teacher", "cnn2", cwd=tmp_path), tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_names_in_and_of_a_preset_are_shown_as_they_can_be(
    name: str, tmp_path: Path, warm_rkkd: Program
) -> None:
    text = (preset_directory() / "rank_grad.toml").read_text(encoding="utf-8")
    path = tmp_path / f"{name.replace('/', '⁄')}.toml"
    path.write_text(text.replace("alpha", "alpa"), encoding="utf-8")
    check_mistake(warm_rkkd("run", f"./{path.name}", cwd=tmp_path), tmp_path)
    quoted = "".join(f"\\U{ord(c):08x}" for c in name if not 0xD800 <= ord(c) < 0xE000)
    for before, after in (
        ('model = "digits_student"', f'model = "{quoted}"'),
        ('name = "digits"', f'name = "{quoted}"'),
        ("[rank]", f'[arms."{quoted}"]\n[rank]'),
        ("[rank]", f'[rank]\n"{quoted}" = 1'),
        ("[dataset]", f'[dataset]\nroot = "/{quoted}"'),
    ):
        (tmp_path / "mine.toml").write_text(text.replace(before, after), encoding="utf-8")
        check_mistake(warm_rkkd("run", "mine.toml", cwd=tmp_path), tmp_path)


@pytest.mark.parametrize("name", NAMES[:-1])
def test_what_a_run_directory_holds_is_shown_as_it_can_be(
    name: str, tmp_path: Path, warm_rkkd: Program
) -> None:
    run = tmp_path / "results" / "run"
    run.mkdir(parents=True)
    manifest = new_manifest("run", "cpu").model_copy(
        update={"status": "failed", "reason": name, "stopped": [name], "started": name}
    )
    RunDirectory(run).write_manifest(manifest)
    row = dict.fromkeys(columns(False), 0.5) | {"arm": name, "seed": 0, "epoch": 1}
    text = header_line(columns(False)) + csv_lines(columns(False), [row])
    (run / "metrics.csv").write_text(text, encoding="utf-8", newline="\n")
    for words in (("show", "run"), ("ls", "runs"), ("plot", "run")):
        check_plain(warm_rkkd(*words, cwd=tmp_path), tmp_path)
    other = Path(shutil.copytree(run, run.with_name(name.replace("/", "⁄"))))
    (other / "manifest.json").write_text("{}")
    check_plain(succeeded(warm_rkkd("ls", "runs", cwd=tmp_path)), tmp_path)


def test_a_word_that_is_no_text_is_the_users_mistake(tmp_path: Path, warm_rkkd: Program) -> None:
    answer = warm_rkkd("run", "title=\udcff", "training.epochs=1", "seeds=0", cwd=tmp_path)
    check_mistake(answer, tmp_path)
    assert not (tmp_path / "results").exists()
