"""``rkkd teacher import`` and ``export`` as a user types them."""

import argparse
import json
import os
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from running import Program, quick, refused, succeeded
from safetensors.torch import load_file, save_file
from torch import Tensor
from weights import Call, same

from rkkd_cli.models import build_model

RECIPE = ("--device", "cpu", "teacher.training.epochs=4", "--limit-test", "100")


class Config:
    """Somebody's class."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, warm_rkkd: Program) -> Path:
    """A folder with a cache that has a trained teacher, and that teacher exported."""
    place = tmp_path_factory.mktemp("teacher-files")
    for words in (("train", *RECIPE), ("export", "digits_teacher", "--to", "t.safetensors")):
        succeeded(warm_rkkd("teacher", *words, cwd=place, env=cache_of(place)))
    return place


def cache_of(place: Path) -> dict[str, str]:
    return {"RKKD_CACHE": str(place / "cache")}


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "t.safetensors")


def test_an_exported_teacher_is_the_trained_one_bit_for_bit(folder: Path) -> None:
    (trained,) = (folder / "cache" / "teachers").glob("*/weights.pt")
    assert same(weights(folder), torch.load(trained, weights_only=True))


def test_an_export_says_all_that_import_needs(
    folder: Path, tmp_path: Path, warm_rkkd: Program
) -> None:
    env = cache_of(tmp_path)
    answer = warm_rkkd(
        "teacher", "import", str(folder / "t.safetensors"), "--limit-test", "100", cwd=tmp_path,
        env=env,
    )  # fmt: skip
    succeeded(answer)
    assert "warning" not in answer.stderr
    assert "digits_teacher" in answer.stdout
    assert "of the 100 test images of digits, 10 classes" in answer.stdout
    (kept,) = (tmp_path / "cache" / "teachers").glob("imported-*")
    facts = json.loads((kept / "teacher.json").read_text())
    (trained,) = (folder / "cache" / "teachers").glob("*/teacher.json")
    assert facts["test_acc"] == json.loads(trained.read_text())["test_acc"]
    assert facts["sha256"] in answer.stdout
    assert same(load_file(kept / "weights.safetensors"), weights(folder))
    listed = warm_rkkd("teacher", "ls", cwd=tmp_path, env=env).stdout
    assert kept.name in listed
    assert facts["sha256"][:16] in listed
    again = warm_rkkd("teacher", "export", kept.name[9:14], cwd=tmp_path, env=env)
    assert again.stdout.startswith("digits_teacher_digits.safetensors: digits_teacher, 10 classes")
    assert same(load_file(tmp_path / "digits_teacher_digits.safetensors"), weights(folder))
    words = ("digits_teacher_digits.safetensors", "--limit-test", "100")
    succeeded(warm_rkkd("teacher", "import", *words, cwd=tmp_path, env=env))
    assert list((tmp_path / "cache" / "teachers").glob("imported-*")) == [kept]  # the same weights


def test_the_printed_command_runs_with_the_imported_teacher(
    folder: Path, tmp_path: Path, warm_rkkd: Program
) -> None:
    path = tmp_path / "digits_teacher_best.pth"
    content = {"opt": argparse.Namespace(model="digits_teacher"), "model": weights(folder)}
    torch.save(content, path)
    answer = warm_rkkd("teacher", "import", path.name, cwd=tmp_path, env=cache_of(tmp_path))
    command = answer.stdout.splitlines()[-1]
    short = (*quick("training.epochs=1", "device=cpu"), "--json")
    words = [*shlex.split(command), *short]
    assert words[:2] == ["rkkd", "run"]
    ran = json.loads(warm_rkkd(*words[1:], cwd=tmp_path, env=cache_of(tmp_path)).stdout)
    assert ran["teachers"][0]["source"] == "checkpoint"
    same = warm_rkkd(
        "run", "--teacher-checkpoint", path.name, *short, cwd=tmp_path,
        env=cache_of(tmp_path),
    )  # fmt: skip
    assert json.loads(same.stdout)["summary"] == ran["summary"]


def test_the_printed_command_repeats_what_was_typed_and_a_run_without_it_warns(
    folder: Path, tmp_path: Path, warm_rkkd: Program
) -> None:
    env, typed = cache_of(tmp_path), ("dataset.mean=[0.9]", "dataset.std=[0.01]")
    words = ("teacher", "import", str(folder / "t.safetensors"), *typed, "student.model=cnn2")
    imported = succeeded(warm_rkkd(*words, "--limit-test", "100", cwd=tmp_path, env=env))
    assert "measured on images normalised with mean [0.30" in imported.stderr
    command = shlex.split(imported.stdout.splitlines()[-1])
    assert command[:5] == ["rkkd", "run", *typed, "student.model=cnn2"]
    assert not any("limit_test" in word for word in command)
    short = quick("training.epochs=1", "device=cpu")
    told = []
    for again in (command[1:], [word for word in command[1:] if word not in typed]):
        ran = succeeded(warm_rkkd(*again, *short, cwd=tmp_path, env=env))
        told.append([line for line in ran.stderr.splitlines() if "rkkd: warning: " in line])
    assert any("of guessing" in line for line in told[0])
    assert any("mean [0.9] and std [0.01], here they have mean" in line for line in told[1])
    assert not any("of guessing" in line for line in told[1])
    manifest = max((tmp_path / "results").glob("*/manifest.json"), key=lambda p: p.stat().st_mtime)
    assert "normalised" in str(json.loads(manifest.read_text())["teachers"][0]["notes"])


def test_classes_in_another_order_than_the_file_s_are_refused(
    folder: Path, tmp_path: Path, warm_rkkd: Program
) -> None:
    names = json.dumps([str(index) for index in reversed(range(10))])
    path = tmp_path / "turned.safetensors"
    save_file(weights(folder), path, {"rkkd.class_names": names})
    for words in (("teacher", "import", path.name), ("run", "--teacher-checkpoint", path.name)):
        answer = warm_rkkd(*words, cwd=tmp_path, env=cache_of(tmp_path))
        refused(answer, "turned.safetensors has the classes in another order", alone=False)


def test_an_entry_is_taken_and_strangers_left_out(
    folder: Path, tmp_path: Path, warm_rkkd: Program
) -> None:
    counted = weights(folder) | {"fc.total_ops": torch.zeros(1)}
    torch.save({"ours": weights(folder), "counted": counted}, tmp_path / "two.pth")
    words, env = ("teacher", "import", "two.pth"), cache_of(tmp_path)
    for more, part in (
        ((), "holds ours (20 entries), counted (21 entries); name one with"),
        (("--entry", "theirs"), "has no weights under 'theirs'; it holds ours"),
        (("--entry", "counted"), "such as fc.total_ops; if they are no weights"),
    ):
        refused(warm_rkkd(*words, *more, cwd=tmp_path, env=env), part)
    taken = ("--entry", "counted", "--ignore-unexpected")
    imported = succeeded(warm_rkkd(*words, *taken, cwd=tmp_path, env=env))
    assert "entry counted, without 1 entries that the model does not have" in imported.stdout
    (kept,) = (tmp_path / "cache" / "teachers").glob("*/*.safetensors")
    assert same(load_file(kept), weights(folder))


def test_moving_averages_are_told_and_taken_where_asked_for(
    folder: Path, tmp_path: Path, warm_rkkd: Program
) -> None:
    state = weights(folder)
    averaged = {k: v * 0.5 if k.startswith("fc.") else v for k, v in state.items()}
    torch.save({"state_dict": state, "state_dict_ema": averaged}, tmp_path / "both.pth.tar")
    plain, ema = (
        warm_rkkd("teacher", "import", "both.pth.tar", *more, cwd=tmp_path, env=cache_of(tmp_path))
        for more in ((), ("--ema",))
    )
    assert "entry state_dict (not the moving averages that it also has" in plain.stdout
    assert "entry state_dict_ema (moving averages)" in ema.stdout
    kept = [load_file(p) for p in (tmp_path / "cache" / "teachers").glob("*/*.safetensors")]
    assert [any(same(k, one) for k in kept) for one in (state, averaged)] == [True, True]


def test_a_teacher_no_better_than_guessing_is_warned_of(
    folder: Path, tmp_path: Path, warm_rkkd: Program
) -> None:
    state = weights(folder)
    state |= {name: state[name].roll(3, 0) for name in ("fc.weight", "fc.bias")}
    torch.save(state, tmp_path / "rolled.pth")
    answer = warm_rkkd("teacher", "import", "rolled.pth", cwd=tmp_path, env=cache_of(tmp_path))
    succeeded(answer)
    warning = answer.stderr.splitlines()[-1]
    for part in ("warning", "of guessing", "normalisation", "order of the classes"):
        assert part in warning


def test_export_replaces_nothing_unless_forced(folder: Path, warm_rkkd: Program) -> None:
    before = (folder / "t.safetensors").read_bytes()
    exported = weights(folder)
    words = ("teacher", "export", "digits_teacher", "--to", "t.safetensors")
    refused(warm_rkkd(*words, cwd=folder, env=cache_of(folder)), "t.safetensors exists", "--force")
    assert (folder / "t.safetensors").read_bytes() == before
    succeeded(warm_rkkd(*words, "--force", cwd=folder, env=cache_of(folder)))
    assert same(weights(folder), exported)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("nothing", ["no cached teacher or file 'nothing'", "rkkd teacher ls"]),
        ("digits_teacher --to t.pth", ["t.pth must end in .safetensors"]),
        ("digits_teacher --to no/t.safetensors", ["no folder no"]),
    ],
)
def test_what_export_refuses(
    words: str, parts: list[str], folder: Path, warm_rkkd: Program
) -> None:
    refused(
        warm_rkkd("teacher", "export", *words.split(), cwd=folder, env=cache_of(folder)), *parts
    )


def write_bad(name: str, path: Path, state: dict[str, Tensor]) -> None:
    good = path.with_suffix(".good")
    torch.save(state, good)
    whole = good.read_bytes()
    good.unlink()
    contents: dict[str, bytes] = {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "text": b"just words\n",
        "lying": (2**40).to_bytes(8, "little") + b'{"a":{}}',
        "lying offsets": b"",
    }
    header = json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}).encode()
    contents["lying offsets"] = len(header).to_bytes(8, "little") + header + b"1234"
    objects: dict[str, Any] = {
        "foreign": {"model": state, "config": Config()},
        "other": {"conv.weight": torch.zeros(3, 3), "conv.bias": torch.zeros(3)},
        "classes": dict(build_model("digits_teacher", 7, 1).state_dict()),
        "channels": dict(build_model("digits_teacher", 10, 3).state_dict()),
    }
    if name in objects:
        torch.save(objects[name], path)
    elif name == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "x")
    elif name == "folder":
        path.mkdir()
    elif name in contents:
        path.write_bytes(contents[name])


BAD = {
    "missing": ["no such checkpoint file"],
    "folder": ["no such checkpoint file", "is a folder"],
    "empty": ["is empty"],
    "cut": ["damaged"],
    "text": ["is a text file"],
    "zip": ["is a zip archive, but no checkpoint"],
    "lying": ["no sound safetensors file", "header"],
    "lying offsets": ["no sound safetensors file"],
    "foreign": [f"holds a {Config.__module__}.Config object", "save its state_dict alone"],
    "other": ["fits no model of the zoo", "say which model it is with --model"],
    "classes": ["was trained on 7 classes, the dataset digits has 10", "--dataset"],
    "channels": ["takes images of 3 channels, those of the dataset digits have 1"],
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_sentence(
    name: str, folder: Path, tmp_path: Path, warm_rkkd: Program
) -> None:
    file = f"{name}.safetensors" if name.startswith("lying") else f"{name}.pth"
    write_bad(name, tmp_path / file, weights(folder))
    env = cache_of(tmp_path)
    refused(warm_rkkd("teacher", "import", file, cwd=tmp_path, env=env), file, *BAD[name])
    words = ("run", "--teacher-weights", file, "teacher.training=none")
    used = warm_rkkd(*words, cwd=tmp_path, env=env)
    refused(used, file, *(BAD[name][:1] if name not in ("classes", "channels", "other") else []))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--model digit_teacher", ["unknown model 'digit_teacher'", "'digits_teacher'"]),
        ("--model resnet8", ["is of another architecture", "missing conv1.weight"]),
        ("--ema", ["has no EMA weights"]),
        ("--dataset cifar", ["unknown dataset 'cifar'", "'cifar10'"]),
        ("--dataset folder", ["needs --data-root"]),
        ("--dataset cifar100", ["was trained on 10 classes, the dataset cifar100 has 100"]),
        ("alpha_temperatur", ["preset 'alpha_temperatur'", "'alpha_temperature'"]),
        ("training.lrr=1", ["key 'training.lrr'"]),
        ("--device cuda:99", ["device cuda:99 is not available"]),
    ],
)
def test_what_import_refuses(
    words: str, parts: list[str], folder: Path, tmp_path: Path, warm_rkkd: Program
) -> None:
    path = str(folder / "t.safetensors")
    answer = warm_rkkd("teacher", "import", path, *words.split(), cwd=tmp_path)
    refused(answer, *parts)


def test_run_names_the_model_that_a_file_of_another_one_holds(
    tmp_path: Path, warm_rkkd: Program
) -> None:
    torch.save(build_model("cnn2", 10, 1).state_dict(), tmp_path / "c.pth")
    words = ("run", "--teacher", "digits_teacher", "--teacher-checkpoint", "c.pth")
    answer = warm_rkkd(*words, cwd=tmp_path)
    refused(answer, "c.pth is of another architecture: it holds a cnn2", "add --teacher cnn2")


def test_a_checkpoint_without_a_teacher_says_which_model_it_is(
    tmp_path: Path, warm_rkkd: Program
) -> None:
    torch.save(build_model("cnn2", 10, 1).state_dict(), tmp_path / "c.pth")
    words = ("run", "--teacher-checkpoint", "c.pth", "--dry-run", "--json")
    plan = json.loads(succeeded(warm_rkkd(*words, cwd=tmp_path)).stdout)
    assert plan["experiment"]["teacher"]["model"] == "cnn2"


def test_a_preset_file_may_name_files_anywhere(
    folder: Path, tmp_path: Path, warm_rkkd: Program
) -> None:
    env = {**cache_of(tmp_path), "HOME": str(folder)}
    succeeded(warm_rkkd("cp", "rank_grad", "mine.toml", cwd=tmp_path))
    preset = (tmp_path / "mine.toml").read_text()
    for path, parts in (
        ("~/t.safetensors", []),
        ("/dev/zero", ["no such checkpoint file: /dev/zero"]),
    ):
        text = preset.replace("[teacher]", f"[teacher]\ncheckpoint = '{path}'")
        (tmp_path / "mine.toml").write_text(text)
        answer = warm_rkkd("run", "mine.toml", "--dry-run", cwd=tmp_path, env=env)
        _ = refused(answer, *parts) if parts else succeeded(answer)


@pytest.mark.slow
def test_an_ambiguous_file_wants_the_model_named(folder: Path, tmp_path: Path) -> None:
    torch.save(weights(folder), tmp_path / "x.pth")
    code = (
        "from rkkd_cli.models import MODELS; MODELS['twin'] = MODELS['digits_teacher'];"
        "from rkkd_cli.cli.main import main; main()"
    )
    command = [sys.executable, "-c", code, "teacher", "import", "x.pth"]
    env = {**os.environ, **cache_of(tmp_path), "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100
    )
    refused(answer, "x.pth fits digits_teacher, twin alike; say which with --model")


def test_a_payload_is_not_run_and_is_named(
    folder: Path, tmp_path: Path, warm_rkkd: Program
) -> None:
    bad = Call(os.system, f"touch {shlex.quote(str(tmp_path / 'trace'))}")
    torch.save({"model": weights(folder), "x": bad}, tmp_path / "evil.pth")
    for words in (("teacher", "import", "evil.pth"), ("teacher", "export", "evil.pth")):
        refused(
            warm_rkkd(*words, cwd=tmp_path),
            f"evil.pth holds a {os.name}.system object",
            "never unpickled",
        )
    assert not (tmp_path / "trace").exists()
