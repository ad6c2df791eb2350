"""A run on a terminal: the live display, and the end by Ctrl-C. Both in processes started cold."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SHORT = ("--limit-train", "200", "--limit-test", "100", "--device", "cpu", "--seeds", "0")
QUICK = ("teacher.training.epochs=2", *SHORT)


def read_terminal(terminal: int) -> bytes:
    shown = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # how Linux says that the other side has gone
            return shown
        if not part:
            return shown
        shown += part


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_shows_a_live_line_per_arm_and_ends_clean(tmp_path: Path) -> None:
    import pty

    command = [sys.executable, "-m", "rkkd_cli", "run", *QUICK, "--epochs", "2"]
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=env, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = read_terminal(ours).decode()
    os.close(ours)
    assert process.returncode == 0, shown
    assert "seed 0 kd " in shown
    assert "seed 0 kd_rank " in shown
    assert "\x1b[2K" in shown  # lines are drawn again in place
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor comes back
    assert "Last epoch" in shown[shown.rindex("\x1b[?25h") :]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_ends_the_run_with_130_and_whole_rows(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rkkd_cli", "run", *QUICK, "--epochs", "100000"]
    with subprocess.Popen(
        command, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "kd_rank" in line and " 3/100000" in line:
                process.send_signal(signal.SIGINT)
                break
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert "interrupted" in err.splitlines()[-1]
    (run,) = (tmp_path / "results").iterdir()
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["status"] == "interrupted"
    assert manifest["started"] < manifest["ended"]
    metrics = (run / "metrics.csv").read_text(encoding="utf-8")
    header, *rows = metrics.splitlines()
    assert metrics.endswith("\n")
    assert len(rows) >= 6
    assert {row.count(",") for row in rows} == {header.count(",")}
