"""The advice to install an extra, in processes that find rkkd installed in each way."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rkkd_cli import installation

COMMIT = {"vcs": "git", "commit_id": "0a1b2c"}
GIT = {"url": "https://example.org/rkkd.git", "vcs_info": COMMIT}
TAG = {**GIT, "vcs_info": {**COMMIT, "requested_revision": "v1"}, "subdirectory": "python"}
ARCHIVE = {"url": "https://example.org/rkkd-0.1.0-py3-none-any.whl", "archive_info": {}}


def put_package(folder: Path) -> Path:
    """Put the file under test into a package of this folder, as an installer or a clone does."""
    (folder / "rkkd_cli").mkdir(parents=True)
    (folder / "rkkd_cli" / "__init__.py").touch()
    source = Path(installation.__file__).read_text(encoding="utf-8")
    (folder / "rkkd_cli" / "installation.py").write_text(source, encoding="utf-8")
    return folder


def put_metadata(folder: Path, origin: dict[str, Any] | None) -> None:
    info = folder / "rkkd-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rkkd\nVersion: 0.1.0\n")
    if origin is not None:
        (info / "direct_url.json").write_text(json.dumps(origin), encoding="utf-8")


def advised(*folders: Path) -> str:
    """Return the command that rkkd gives for the extra ray, if it is found in these folders."""
    program = (
        f"import sys; sys.path[:0] = {[str(folder) for folder in folders]}\n"
        "from rkkd_cli.installation import install_command; print(install_command('ray'))"
    )
    command = [sys.executable, "-S", "-I", "-c", program]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return answer.stdout.rstrip("\n")


@pytest.mark.parametrize(
    ("origin", "requirement"),
    [
        (None, "rkkd[ray]"),
        (ARCHIVE, f"rkkd[ray] @ {ARCHIVE['url']}"),
        (GIT, "rkkd[ray] @ git+https://example.org/rkkd.git@0a1b2c"),
        (TAG, "rkkd[ray] @ git+https://example.org/rkkd.git@v1#subdirectory=python"),
    ],
    ids=["index", "archive", "git", "git-tag"],
)
def test_what_came_from_an_address_names_it(
    origin: dict[str, Any] | None, requirement: str, tmp_path: Path
) -> None:
    put_metadata(put_package(tmp_path), origin)
    assert advised(tmp_path) == f"pip install '{requirement}'"


def test_what_came_from_a_clone_names_its_folder_quoted(tmp_path: Path) -> None:
    clone = put_package(tmp_path / "it's my clone")
    put_metadata(tmp_path / "editable", {"url": clone.as_uri(), "dir_info": {"editable": True}})
    words = shlex.split(advised(clone, tmp_path / "editable"))
    assert words == ["pip", "install", "-e", f"{clone}[ray]"]
    site = put_package(tmp_path / "copied")
    put_metadata(site, {"url": clone.as_uri(), "dir_info": {}})
    assert shlex.split(advised(site)) == ["pip", "install", f"{clone}[ray]"]


def test_a_clone_that_is_gone_leaves_the_name(tmp_path: Path) -> None:
    put_metadata(put_package(tmp_path), {"url": (tmp_path / "gone").as_uri(), "dir_info": {}})
    assert advised(tmp_path) == "pip install 'rkkd[ray]'"


def test_a_checkout_that_is_run_without_being_installed_names_its_folder(tmp_path: Path) -> None:
    checkout = put_package(tmp_path / "checkout")
    (checkout / "pyproject.toml").touch()
    assert advised(checkout) == f"pip install '{checkout}[ray]'"
    put_metadata(put_package(tmp_path / "another"), None)
    assert advised(checkout, tmp_path / "another") == f"pip install '{checkout}[ray]'"


def test_no_other_message_advises_an_installation_by_name() -> None:
    package = Path(installation.__file__).parent
    named = [
        path.name
        for path in package.rglob("*.py")
        if "pip install" in path.read_text(encoding="utf-8")
    ]
    assert named == ["installation.py"]
