"""A user's own code by name."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rkkd_cli.errors import UserError
from rkkd_cli.plugins import check_signature, load_plugin, source_files, source_hash

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
        ("no_colon", "not of the form package.module:name or file.py:name"),
        ("nowhere.py:build", "there is no file nowhere.py in /"),
        ("broken_code_of_a_user.py:build", "ZeroDivisionError: division by zero"),
        ("own_code_of_a_user.py:biuld", "did you mean own_code_of_a_user.py:build"),
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


def test_a_file_is_found_by_its_path_and_imports_what_lies_beside_it(folder: Path) -> None:
    (folder / "nets").mkdir()
    (folder / "nets" / "json.py").write_text("from parts_of_a_user import part as loads")
    (folder / "nets" / "parts_of_a_user.py").write_text("def part(): return 7")
    before = list(sys.path)
    for spec in ("nets/json.py:loads", f"{folder}/nets/json.py:loads", "./nets/json.py:loads"):
        assert load_plugin("model", spec)() == 7
    assert load_plugin("model", "json:loads")("[1]") == [1]
    assert sys.path == before
    with pytest.raises(UserError, match="ZeroDivisionError"):
        load_plugin("model", "broken_code_of_a_user.py:build")


def test_the_source_is_that_of_the_module_and_of_all_that_it_imports_beside_it(
    folder: Path,
) -> None:
    package = folder / "nets_of_a_user"
    (package / "blocks").mkdir(parents=True)
    files = {
        "nets_of_a_user/__init__.py": "",
        "nets_of_a_user/net.py": "import torch\nfrom .blocks.conv import conv\nfrom lone import x",
        "nets_of_a_user/blocks/__init__.py": "",
        "nets_of_a_user/blocks/conv.py": "import rkkd_cli.losses\ndef conv(): return 1",
        "nets_of_a_user/unused.py": "",
        "lone.py": "def x():\n    import late_one",
        "late_one.py": "",
    }
    for name, content in files.items():
        (folder / name).write_text(content)
    found = source_files("model", "nets_of_a_user.net:conv")
    assert found == {k: v.encode() for k, v in files.items() if "unused" not in k}
    before = source_hash("model", "nets_of_a_user.net:conv")
    (folder / "late_one.py").write_text("# other")
    assert source_hash("model", "nets_of_a_user.net:conv") != before
    assert source_files("model", "own_code_of_a_user.py:build").keys() == {"own_code_of_a_user.py"}


def test_of_an_installed_package_the_source_is_one_module() -> None:
    assert [*source_files("model", "filelock:FileLock")] == ["filelock/__init__.py"]
    assert [*source_files("model", "os.path:join")] == ["posixpath.py"]
