"""A user's own code by name."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rkkd_cli.errors import UserError
from rkkd_cli.plugins import check_signature, load_plugin

CODE = """
import math
def build(num_classes, in_channels): return (num_classes, in_channels)
def alone(num_classes): return num_classes
def free(*args, **kwargs): return args
number = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a module of its own."""
    (tmp_path / "own_code_of_a_user.py").write_text(CODE, encoding="utf-8")
    (tmp_path / "broken_code_of_a_user.py").write_text("1 / 0", encoding="utf-8")
    (tmp_path / "json.py").write_text("loads = None", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("own_code_of_a_user", None)


def test_a_function_of_an_installed_module_is_found() -> None:
    assert load_plugin("model", "os.path:join")("a", "b") == str(Path("a") / "b")


def test_a_module_of_the_working_folder_is_found_and_leaves_no_trace_in_the_path(
    folder: Path,
) -> None:
    before = list(sys.path)
    assert load_plugin("model", "own_code_of_a_user:build")(7, 1) == (7, 1)
    assert sys.path == before


def test_a_file_of_the_users_does_not_take_a_librarys_place(folder: Path) -> None:
    assert load_plugin("method", "json:loads")("[1]") == [1]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no_such_module:build", "cannot import no_such_module: ModuleNotFoundError: No module"),
        ("broken_code_of_a_user:build", "ZeroDivisionError: division by zero"),
        ("own_code_of_a_user:biuld", "no 'biuld'; did you mean own_code_of_a_user:build"),
        ("own_code_of_a_user:zzzzzzzz", "has no 'zzzzzzzz'$"),
        ("own_code_of_a_user:number", "is an int, which cannot be called"),
        ("own_code_of_a_user:", "not of the form package.module:name"),
        (":build", "not of the form package.module:name"),
        ("../evil:build", "not of the form package.module:name"),
        ("no_colon", "not of the form package.module:name"),
    ],
)
def test_what_cannot_be_loaded_is_answered_in_one_sentence(
    spec: str, message: str, folder: Path
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_plugin("model", spec)
    assert "\n" not in str(caught.value)
    assert spec in str(caught.value)


@pytest.mark.parametrize("name", ["build", "free"])
def test_a_function_that_takes_the_arguments_passes(name: str, folder: Path) -> None:
    spec = f"own_code_of_a_user:{name}"
    check_signature("model", spec, load_plugin("model", spec), 10, 3)


def test_a_function_that_takes_others_is_told_the_call(folder: Path) -> None:
    spec = "own_code_of_a_user:alone"
    with pytest.raises(UserError, match=r"must accept the call alone\(10, 3\): too many"):
        check_signature("model", spec, load_plugin("model", spec), 10, 3)


def test_a_function_without_a_signature_passes() -> None:
    check_signature("model", "builtins:max", max, 10, 3)
