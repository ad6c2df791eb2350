"""Accounts without a home folder, without a writable one, and without a name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rkkd_cli.files import write_problem
from rkkd_cli.records.cache import cache_directory

NOBODY = 12345  # a user id without a passwd entry

PROGRAM = f"""
import os, sys
if len(sys.argv) > 1:
    os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
from rkkd_cli.records.account import help_libraries
from rkkd_cli.records.cache import cache_directory
help_libraries()
print(cache_directory(), cache_directory())
import getpass
print(getpass.getuser())
from pathlib import Path
print(Path.home())
print(os.environ.get("MPLCONFIGDIR"))
"""


def test_a_cache_that_cannot_be_written_is_a_temporary_one_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv("RKKD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    caches = {cache_directory() for _ in range(2)}
    (line,) = caplog.messages
    (cache,) = caches
    assert str(cache) in line
    assert "RKKD_CACHE" in line
    assert write_problem(cache) is None
    assert cache.parent.stat().st_mode & 0o077 == 0
    monkeypatch.delenv("RKKD_CACHE")  # which cache_directory has set


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() != 0, reason="changes the user")
@pytest.mark.parametrize("home", [None, "/", "/root"])
def test_a_user_without_passwd_entry_and_home(home: str | None, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    env = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)} | ({"HOME": home} if home else {})
    script = ["import rkkd_cli.records.cache", PROGRAM]  # imported as a user who may read it
    command = [sys.executable, "-c", "\n".join(script), "nobody"]
    for folder in tmp_path.parents[:3]:
        folder.chmod(folder.stat().st_mode | 0o011)
    answer = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    own = tmp_path / f"rkkd-{NOBODY}"
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.count("\n") == 1, answer.stderr
    assert answer.stdout.splitlines() == [
        f"{own / 'cache'} {own / 'cache'}", f"uid{NOBODY}", home or "/nonexistent", str(own),
    ]  # fmt: skip
