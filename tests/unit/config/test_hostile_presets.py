"""A preset from anywhere names nothing outside the working folder, and starts no program."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

import rkkd_cli
from rkkd_cli.config.experiment import Experiment
from rkkd_cli.config.overrides import Override, apply_overrides, parse_override
from rkkd_cli.config.presets import load_experiment, preset_directory, to_toml
from rkkd_cli.config.untrusted import escapes_cwd
from rkkd_cli.errors import UserError

DIGITS = (preset_directory() / "rank_grad.toml").read_text(encoding="utf-8")
FOLDER = DIGITS.replace('name = "digits"', 'name = "folder"')

OUT = [
    "/etc", "/", "//server/share", "..", "../elsewhere", "images/../../elsewhere", "images/..",
    "./../x", "~", "~/images", "~root/images", "./~/images", ".//~root", "C:\\images", "C:images",
    "c:/images", "\\images", "\\\\server\\share\\images", "\\\\?\\C:\\images",
    "images\\..\\..\\elsewhere", "..\\elsewhere", "images/..\\../elsewhere",
]  # fmt: skip
INSIDE = ["images", "./images", "a/b/c", "a..b", "...", "my images", "x~", "images/~", "-rf", ""]

# A key that names a path, where it stands in the file, and how it is said on the command line.
PLACES = {
    "dataset.root": ("[dataset]", "root = {}"),
    "teacher.checkpoint": ("[teacher]", "checkpoint = {}"),
}


def with_path(key: str, path: str) -> str:
    section, line = PLACES[key]
    return FOLDER.replace(section, f"{section}\n{line.format(toml_string(path))}")


def toml_string(text: str) -> str:
    return "'" + text + "'"


def loaded(text: str, folder: Path, *overrides: str) -> Experiment:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return load_experiment(str(path), [parse_override(one) for one in overrides])


@pytest.mark.parametrize("key", PLACES)
@pytest.mark.parametrize("path", OUT)
def test_a_file_may_not_name_what_lies_elsewhere(key: str, path: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refusal:
        loaded(with_path(key, path), tmp_path)
    sentence = str(refusal.value)
    assert sentence.startswith("mine.toml: ")
    assert f"{key} = {path!r} leads out of the working folder" in sentence
    assert "type it on the command line: --" in sentence


@pytest.mark.parametrize("key", PLACES)
@pytest.mark.parametrize("path", OUT)
def test_whoever_types_a_path_may_name_any(key: str, path: str, tmp_path: Path) -> None:
    typed = f"{key}={toml_string(path)}"
    assert loaded(with_path(key, "/etc"), tmp_path, typed)
    assert loaded(FOLDER, tmp_path, typed)


@pytest.mark.parametrize("path", INSIDE)
def test_a_file_may_name_what_lies_below(path: str, tmp_path: Path) -> None:
    assert loaded(with_path("dataset.root", path), tmp_path)
    assert not escapes_cwd(path)


@pytest.mark.parametrize(
    "lines",
    [
        "[arms.a]\ndataset.root = '/etc'",
        "[arms.a.dataset]\nroot = '../x'",
        "[arms.a]\ndataset = { root = '~/x' }",
        "[arms.a]\nteacher.checkpoint = '/etc/passwd'",
        "[arms.'a.b']\ndataset.root = '/etc'",
        "[arms.kd]\n[arms.a]\n'dataset' = { 'root' = '/etc' }",
    ],
)
def test_an_arm_of_a_file_may_not_either(lines: str, tmp_path: Path) -> None:
    text = with_path("dataset.root", "images") + f"\n{lines}\n"
    with pytest.raises(UserError, match=r"mine\.toml: arms\..* leads out of the working folder"):
        loaded(text, tmp_path)
    with pytest.raises(UserError, match=r"leads out of the working folder"):
        loaded(text, tmp_path, "dataset.root=/elsewhere")


@pytest.mark.parametrize("key", ["arms.a.dataset.root", "arms.a"])
def test_an_arm_that_is_typed_may_name_any_path(key: str, tmp_path: Path) -> None:
    text = with_path("dataset.root", "images") + "\n[arms.a]\ndataset.root = '/etc'\n"
    value = "/elsewhere" if key.endswith("root") else "{dataset = {root = '/elsewhere'}}"
    assert loaded(text, tmp_path, f"{key}={value}")


@pytest.mark.parametrize(
    "lines", ["[dataset]\nfollow_links = true", "[arms.a]\ndataset.follow_links = true"]
)
def test_a_file_may_not_let_links_lead_out(lines: str, tmp_path: Path) -> None:
    text = with_path("dataset.root", "images")
    if lines.startswith("[dataset]"):
        text = text.replace("[dataset]", lines)
    else:
        text += f"\n{lines}\n"
    with pytest.raises(UserError, match=r"mine\.toml: .*follow_links lets links lead out"):
        loaded(text, tmp_path)


def test_links_may_be_allowed_on_the_command_line(tmp_path: Path) -> None:
    text = with_path("dataset.root", "images").replace("[dataset]", "[dataset]\nfollow_links=true")
    assert loaded(text, tmp_path, "dataset.follow_links=true")
    assert loaded(text, tmp_path, "dataset.follow_links=false")


parts = st.sampled_from(["..", ".", "a", "~", "", "C:", " ", "a b", "\\", "...", "x\ty"])


@settings(max_examples=300)
@given(st.lists(parts, max_size=6), st.sampled_from(["/", "\\"]))
def test_no_path_that_is_allowed_leads_out(pieces: list[str], separator: str) -> None:
    path = separator.join(pieces)
    here = Path("/home/somebody/work")
    if not escapes_cwd(path):
        for read_as in (path, path.replace("\\", "/")):
            target = os.path.normpath(here / Path(read_as).expanduser())
            assert Path(target).is_relative_to(here)


def test_an_allowed_preset_of_the_same_text_is_what_a_run_records(tmp_path: Path) -> None:
    typed = load_experiment("rank_grad", [parse_override("teacher.checkpoint=/models/t.pth")])
    recorded = tmp_path / "experiment.toml"
    recorded.write_text(to_toml(typed), encoding="utf-8")
    with pytest.raises(UserError, match=r"--teacher-checkpoint /models/t\.pth"):
        load_experiment(str(recorded))
    assert len(typed.resolved_arms) == 2


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


def naming(key: str, name: str) -> str:
    """Return the preset with a name in a place."""
    return tomli_w.dumps(apply_overrides(tomllib.loads(DIGITS), [Override(key, name)]))


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
