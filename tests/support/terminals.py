"""The program on a pseudo-terminal."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest


def on_a_terminal(*words: str, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Return all that the program shows on a terminal of 120 columns until it ends well."""
    if sys.platform == "win32":
        pytest.skip("needs a pseudo-terminal")
    import pty

    ours, theirs = pty.openpty()
    surroundings = {"TERM": "xterm", "COLUMNS": "120", "LINES": "40", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "rkkd_cli", *words]
    with subprocess.Popen(
        command, cwd=cwd, env={**os.environ, **surroundings, **(env or {})},
        stdin=theirs, stdout=theirs, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = _everything(ours).decode()
    os.close(ours)
    assert process.returncode == 0, shown
    return shown


def _everything(terminal: int) -> bytes:
    shown = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # how Linux says that the other side has gone
            return shown
        if not part:
            return shown
        shown += part
