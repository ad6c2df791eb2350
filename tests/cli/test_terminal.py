"""A run on a terminal: the live display, and the end by Ctrl-C. Both in processes started cold."""

import signal
import sys
from pathlib import Path

import pytest
from running import quick, started
from terminals import on_a_terminal
from written import manifest_of, numbers_of


@pytest.mark.slow
def test_a_terminal_shows_a_live_line_per_arm_and_ends_clean(tmp_path: Path) -> None:
    shown = on_a_terminal("run", *quick("device=cpu"), cwd=tmp_path)
    assert "seed 0 kd " in shown
    assert "seed 0 kd_rank " in shown
    assert "\x1b[2K" in shown  # lines are drawn again in place
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor comes back
    assert "Last epoch" in shown[shown.rindex("\x1b[?25h") :]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_ends_the_run_with_130_and_whole_rows(tmp_path: Path) -> None:
    words = ("run", *quick("device=cpu", "training.epochs=100000"))
    with started(*words, cwd=tmp_path) as process:
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
    manifest = manifest_of(run)
    assert manifest["status"] == "interrupted"
    assert manifest["started"] < manifest["ended"]
    assert len(numbers_of(run)) > 6  # which are whole
