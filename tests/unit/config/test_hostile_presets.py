"""A preset from anywhere names no code to run, and starts no program."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tomli_w

import rkkd_cli
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.grid import CellSelection
from rkkd_cli.config.overrides import Override, apply_overrides, flatten
from rkkd_cli.config.presets import load_experiment, load_grid, preset_directory, to_toml
from rkkd_cli.errors import UserError

DIGITS = (preset_directory() / "rank_grad.toml").read_text(encoding="utf-8")


def naming(key: str, value: object) -> str:
    """Return the preset with a value in a place."""
    return tomli_w.dumps(apply_overrides(tomllib.loads(DIGITS), [Override(key, value)]))


def loaded(text: str, folder: Path) -> Experiment:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return load_experiment(str(path))


@pytest.mark.parametrize("path", ["/data/images", "~/images", "../images", "images", "C:\\images"])
@pytest.mark.parametrize("key", ["dataset.root", "teacher.weights", "arms.kd.dataset.root"])
def test_a_file_may_name_any_path_which_is_recorded_as_given(
    key: str, path: str, tmp_path: Path
) -> None:
    experiment = loaded(naming(key, path), tmp_path)
    assert flatten(tomllib.loads(to_toml(experiment)))[key] == path


CALLS = {"eval", "exec", "compile", "__import__", "system", "popen", "getoutput", "execv", "spawnv"}


@pytest.mark.parametrize(
    "path", sorted(Path(rkkd_cli.__file__).parent.rglob("*.py")), ids=lambda path: path.stem
)
def test_nothing_in_the_program_reaches_a_shell_or_the_interpreter(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name):
                assert called.id not in CALLS
            if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                from_os = called.value.id in ("os", "subprocess", "pickle", "builtins", "yaml")
                assert not (from_os and called.attr in CALLS | {"load", "loads"})
            given = {word.arg: word.value for word in node.keywords}
            assert "shell" not in given
            if isinstance(called, ast.Attribute) and ast.unparse(called) == "torch.load":
                assert ast.unparse(given["weights_only"]) == "True"
            if isinstance(called, ast.Attribute) and ast.unparse(called) == "np.load":
                assert ast.unparse(given["allow_pickle"]) == "False"


FILTERS = ["filter.x.clean", "filter.x.process", "filter.a=b.clean", "filter.B.x.clean"]
HOOKS = ["core.fsmonitor", "core.pager", "diff.external", "core.sshCommand", "core.editor"]


@pytest.mark.skipif(sys.platform == "win32", reason="the program is a shell script")
@pytest.mark.parametrize("setting", [*HOOKS, *FILTERS, "core.hooksPath"])
def test_a_repository_with_hostile_settings_starts_no_program(setting: str, tmp_path: Path) -> None:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}

    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=tmp_path, env=environment, check=True)

    driver = setting[7:].rpartition(".")[0] if setting in FILTERS else "x"
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n")
    trap.chmod(0o755)
    git("init", "--quiet")
    (tmp_path / ".gitattributes").write_text(f"file filter={driver}\n")
    (tmp_path / "file").write_text("content")
    git("add", "file", ".gitattributes")
    words = ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "one")
    git(*words)
    if setting == "core.hooksPath":
        (tmp_path / "hooks").mkdir()
        for hook in ("post-index-change", "fsmonitor-watchman", "pre-auto-gc"):
            (tmp_path / "hooks" / hook).write_bytes(trap.read_bytes())
            (tmp_path / "hooks" / hook).chmod(0o755)
        git("config", setting, str(tmp_path / "hooks"))
    else:
        git("config", setting, str(trap))
    (tmp_path / "file").write_text("CONTENT")  # of the same size: git has to read it
    (tmp_path / "sprung").unlink(missing_ok=True)
    code = "from rkkd_cli.records.environment import environment; print(environment())"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("key", ["dataset.name", "method.name", "arms.kd.method.name"])
@pytest.mark.parametrize("name", ["mine:thing", "torchvision:thing", "timm:thing"])
def test_the_names_of_model_libraries_excuse_models_only(
    key: str, name: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="names code to run"):
        loaded(naming(key, name), tmp_path)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet10t"])
def test_a_preset_may_name_a_librarys_model(name: str, tmp_path: Path) -> None:
    assert loaded(naming("student.model", name), tmp_path).student.model == name


def test_code_may_not_be_named_among_the_values_of_a_grid(tmp_path: Path) -> None:
    path, key, names = tmp_path / "grid.toml", "method.name", ("kd", "mine:thing")
    values = {"vary": {"training.lr": [0.1, 0.2]}, "arms": {"a": {"method": {"name": names[1]}}}}
    for text in (
        naming("vary.method.name", list(names)),
        naming("vary.method.name", ",".join(names)),
        tomli_w.dumps(tomllib.loads(DIGITS) | values),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=r"= 'mine:thing' names code to run"):
            load_grid(str(path), [], {}, CellSelection())
        with pytest.raises(UserError, match=r"= 'mine:thing' names code to run"):
            load_experiment(str(path))
        assert load_grid(str(path), [], {key: names}, CellSelection()).vary[key] == names
