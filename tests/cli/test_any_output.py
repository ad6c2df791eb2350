"""Any output: encodings that lack characters, pipes, and terminals that are narrow or dumb."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from running import Program
from terminals import on_a_terminal

from rkkd_cli.cli.output.encoding import ERRORS


@pytest.mark.parametrize(
    ("encoding", "text", "written"),
    [
        ("ascii", "τ-b, α 1×8, 10.00 ± 0.00, KL × T²", "tau-b, alpha 1x8, 10.00 +- 0.00, KL x T^2"),
        ("ascii", "−1 → 2 … 3 – ‘é’ ½ 10⁻⁷ λ", "-1 -> 2 ... 3 - \\u2018e' 1/2 10^-7 lambda"),
        ("latin-1", "τ 1×8 ± − é …", "tau 1×8 ± - é ..."),
        ("cp1252", "τ 1×8 ± − … – ▁█", "tau 1×8 ± - … – .#"),
        ("ascii", "名 \udcff", "\\u540d \\udcff"),
        ("utf-8", "τ ± 名 \udcff", "τ ± 名 \\udcff"),
    ],
)
def test_what_an_encoding_lacks_is_written_plainly(encoding: str, text: str, written: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=ERRORS)
    stream.write(text)
    stream.flush()
    assert stream.buffer.getvalue().decode(encoding) == written


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_every_command_writes_in_the_encoding_and_keeps_its_columns(
    encoding: str, ended: Path, rkkd: Program
) -> None:
    folder = ended.parents[1]
    for words in (
        ("show", "run"),
        ("compare", "run"),
        ("watch", "run", "--once"),
        ("ls", "methods"),
    ):
        command = [sys.executable, "-m", "rkkd_cli", *words]
        env = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "40"}
        answer = subprocess.run(command, cwd=folder, env=env, capture_output=True)
        shown = answer.stdout.decode(encoding)
        assert (answer.returncode, answer.stderr) == (0, b"")
        assert "\\u" not in shown
        if words[0] == "show":
            table = shown[shown.index("arm ") :].splitlines()
            assert len(table) == 3  # nothing is folded
            assert len({len(line) for line in table}) == 1
            assert "test tau-b" in table[0]


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["pipe", "narrow terminal", "dumb terminal"])
def test_no_number_is_cut_but_columns_go(reader: str, ended: Path, warm_rkkd: Program) -> None:
    folder, narrow = ended.parents[1], {"COLUMNS": "30"}
    for command in ("show", "watch"):
        words = (command, "run")
        wide = warm_rkkd(*words, cwd=folder).stdout
        if reader == "pipe":
            assert warm_rkkd(*words, cwd=folder, env=narrow).stdout == wide
            continue
        dumb = {"TERM": "dumb"} if reader == "dumb terminal" else {}
        shown = on_a_terminal(*words, cwd=folder, env=narrow | dumb)
        assert ("\x1b[2K" in shown) == (command == "watch" and not dumb)
        if dumb:
            assert numbers_in_table(wide) == numbers_in_table(shown)
        else:
            assert numbers_in_table(shown) < numbers_in_table(wide)
            assert "test acc (%)" in shown
            assert "τ-b " not in shown


def test_a_narrow_terminal_has_rows_that_fit_and_explains_what_it_shows(ended: Path) -> None:
    narrow = {"COLUMNS": "60", "NO_COLOR": "1"}
    shown = on_a_terminal("ls", "runs", cwd=ended.parents[1], env=narrow)
    runs = re.sub(r"\x1b\[[0-9]*m", "", shown).splitlines()
    assert runs[0].split()[:4] == ["run", "status", "started", "seeds"]
    assert "0:3" in runs[1].split()
    assert max(map(len, runs)) <= 60
    text = on_a_terminal("compare", "run", cwd=ended.parents[1], env=narrow)
    head = text.splitlines()[1]
    assert "p Holm" in head
    assert "p exact" not in head
    assert "p Holm: of the t test" in text
    assert "p exact:" not in text
    assert "Hedges" not in text


def numbers_in_table(text: str) -> set[str]:
    """Return the numbers below the last heading."""
    words = text[text.rindex("arm ") :].replace("/", " ").split()
    return {word for word in words if word[0] in "-0123456789"}
