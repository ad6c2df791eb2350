"""A damaged metrics.csv is restored from the checkpoints, or named; its numbers are never shown."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rkkd_cli.errors import RunError, UserError
from rkkd_cli.records.metrics import columns
from rkkd_cli.records.run_directory import RunDirectory
from rkkd_cli.sweep.recording.reopen import reopen

Program = Callable[..., subprocess.CompletedProcess[str]]
Damage = Callable[[bytes], bytes]

SHORT = ("seeds=[0,1,2]", "training.epochs=3", "teacher.training.epochs=1")
SMALL = ("dataset.limit_train=128", "dataset.limit_test=20")
COLUMNS = columns(with_validation=False)
TIMING = {COLUMNS.index("epoch_seconds"), COLUMNS.index("images_per_second")}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the warm program needs fork")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, warm_rkkd: Program) -> Path:
    """A run that has ended; each of its three streams has its checkpoints."""
    place = tmp_path_factory.mktemp("finished")
    answer = warm_rkkd("run", "--quiet", "--name", "run", *SHORT, *SMALL, cwd=place)
    assert answer.returncode == 0, answer.stderr
    return place / "results" / "run"


@pytest.fixture(scope="module")
def dead(tmp_path_factory: pytest.TempPathFactory, finished: Path, warm_rkkd: Program) -> Path:
    """A run killed in its second stream or later, with rows and checkpoints; it says running."""
    place = tmp_path_factory.mktemp("dead")
    run = place / "results" / "run"
    killer = threading.Thread(target=kill_after, args=(run, 7))
    killer.start()
    answer = warm_rkkd("run", "--quiet", "--name", "run", *SHORT, *SMALL, cwd=place)
    killer.join()
    assert answer.returncode == -signal.SIGKILL, answer.stderr
    assert json.loads((run / "manifest.json").read_text())["status"] == "running"
    return run


def kill_after(run: Path, rows: int) -> None:
    end = time.monotonic() + 100
    while time.monotonic() < end:
        path = run / "metrics.csv"
        if path.is_file() and path.read_bytes().count(b"\n") > rows:
            os.kill(json.loads((run / "manifest.json").read_text())["process"], signal.SIGKILL)
            return
        time.sleep(0.001)


@contextmanager
def copied(run: Path) -> Iterator[Path]:
    with TemporaryDirectory() as place:
        yield Path(shutil.copytree(run, Path(place) / "results" / "run"))


def numbers(run: Path) -> list[list[str]]:
    """Return the rows without the timing columns, as text."""
    lines = (run / "metrics.csv").read_bytes().decode().split("\n")
    return [[v for n, v in enumerate(ln.split(",")) if n not in TIMING] for ln in lines]


def the_sentence(answer: subprocess.CompletedProcess[str]) -> str:
    """Return the one error of a program that failed as it should."""
    assert answer.returncode in (1, 2), answer.stderr
    assert "Traceback" not in answer.stderr + answer.stdout
    errors = [line for line in answer.stderr.splitlines() if line.startswith("rkkd: error: ")]
    assert len(errors) == 1, answer.stderr
    return errors[0]


def swapped(content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join([lines[0], lines[2], lines[1], *lines[3:]])


def without_column(content: bytes, name: str = "test_kl") -> bytes:
    lines = [line.split(",") for line in content.decode().splitlines()]
    place = lines[0].index(name)
    kept = (",".join(v for n, v in enumerate(line) if n != place) for line in lines)
    return "".join(f"{line}\n" for line in kept).encode()


def with_value(column: str, value: str) -> Damage:
    def damage(content: bytes) -> bytes:
        head, _, row, *rest = content.decode().splitlines()
        values = row.split(",")
        values[COLUMNS.index(column)] = value
        return "".join(f"{line}\n" for line in (head, _, ",".join(values), *rest)).encode()

    return damage


def repeated(content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join([*lines, lines[-1]])


# How a file is damaged, and what the sentence about it says where only its form can tell.
FORMS: dict[str, tuple[Damage, str]] = {
    "torn": (lambda content: content[:-7], "ends in the middle of a row"),
    "torn at its beginning": (lambda content: content[:5], "lacks the column"),
    "one column less": (without_column, "'test_kl'"),
    "one header less": (lambda content: content.partition(b"\n")[2], "lacks the column"),
    "foreign header": (lambda _: b"a,b,c\n1,2,3\n", "lacks the column 'arm'"),
    "columns exchanged": (lambda content: content.replace(b",ce,kl,", b",kl,ce,"), "column"),
    "row twice": (repeated, "two rows for arm"),
    "value missing": (lambda content: content.replace(b",0.", b"0.", 1), "line 2"),
    "no number": (with_value("kl", "0.0x3"), "kl is '0.0x3', not a number"),
    "nan": (with_value("kl", "nan"), "not a number"),
    "truth value": (with_value("kl", "True"), "not a number"),
    "no value": (with_value("test_acc", ""), "not a number"),
    "half an epoch": (with_value("epoch", "1.5"), "epoch"),
    "carriage return in a row": (lambda content: content.replace(b",0.", b",\r.", 1), "line 2"),
    "quotation mark": (lambda content: content.replace(b",0.", b',"0.', 1), "line"),
    "endless value": (with_value("kl", "1" * 200_000), "metrics.csv"),
    "empty": (lambda _: b"", "lacks the column"),
    "no text": (lambda content: b"\xff\xfe\x00" + content, "cannot be read"),
}  # fmt: skip

# What cannot be told from the form of the file.
SILENT: dict[str, Damage] = {
    "digit": lambda content: content.replace(b",0.", b",1.", 1),
    "two rows less": lambda content: b"".join(content.splitlines(keepends=True)[:-2]),
    "rows exchanged": swapped,
    "space": lambda content: content.replace(b",0.", b", 0.", 1),
}
EVERY: dict[str, Damage] = {name: damage for name, (damage, _) in FORMS.items()} | SILENT


def damaged(run: Path, damage: Damage) -> Path:
    path = run / "metrics.csv"
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert path.read_bytes() != content
    return path


@pytest.mark.parametrize("name", FORMS)
def test_damage_is_named_where_a_killed_run_is_shown(
    name: str, dead: Path, warm_rkkd: Program
) -> None:
    damage, says = FORMS[name]
    with copied(dead) as run:
        path = damaged(run, damage)
        sentence = the_sentence(warm_rkkd("show", "run", cwd=run.parent.parent))
        assert "metrics.csv" in sentence
        assert says in sentence
        assert "rkkd resume " in sentence
        assert path.read_bytes() == damage((dead / "metrics.csv").read_bytes())


@pytest.mark.parametrize("command", ["show", "plot"])
@pytest.mark.parametrize("name", ["torn", "row twice", "digit", "two rows less"])
def test_no_number_of_a_changed_file_is_shown_or_drawn(
    name: str, command: str, finished: Path, warm_rkkd: Program
) -> None:
    with copied(finished) as run:
        damaged(run, EVERY[name])
        shutil.rmtree(run / "figures")
        answer = warm_rkkd(command, "run", cwd=run.parent.parent)
        assert "rkkd resume " in the_sentence(answer)
        assert answer.stdout == ""
        assert not (run / "figures").exists()


def shown(run: Path) -> bytes | str:
    """Return the rows that would be shown, or the sentence that says why not."""
    directory = RunDirectory(run)
    try:
        return directory.read_metrics(directory.read_manifest()).to_csv().encode()
    except UserError as error:
        return str(error)


def reopened(run: Path) -> bytes | str:
    """Return metrics.csv as `rkkd resume` leaves it, or the sentence that says why not."""
    directory = RunDirectory(run)
    directory.acquire()
    try:
        reopen(directory, lambda recorded: recorded or pytest.fail("there is an experiment"))
    except (UserError, RunError) as error:
        return str(error)
    finally:
        directory.release()
    return directory.metrics.read_bytes()


cuts = st.builds(lambda at: lambda content: content[:at], st.integers(0, 4000))
flips = st.builds(
    lambda at, bit: (
        lambda content: bytes(
            byte ^ (1 << bit if n == at % len(content) else 0) for n, byte in enumerate(content)
        )
    ),
    st.integers(0, 6000),
    st.integers(0, 7),
)


def on_lines(change: Callable[[list[bytes], int], list[bytes]]) -> st.SearchStrategy[Damage]:
    def damage(at: int) -> Damage:
        return lambda content: b"".join(change(content.splitlines(keepends=True), at))

    return st.builds(damage, st.integers(0, 30))


any_damage = st.one_of(
    cuts,
    flips,
    on_lines(lambda lines, at: [*lines[:at], *lines[at : at + 1], *lines[at:]]),
    on_lines(lambda lines, at: lines[:at] + lines[at + 1 :]),
    on_lines(lambda lines, at: lines[at:] + lines[:at]),
    on_lines(lambda lines, at: [*lines[:at], b"foreign,1,2,3\n", *lines[at:]]),
    st.sampled_from(list(EVERY.values())),
)


@settings(max_examples=60)
@given(damage=any_damage)
@example(damage=lambda content: content.replace(b"\n", b"\r\n"))
@example(damage=lambda _: b"")
def test_any_damage_of_a_run_that_has_ended_is_noticed_and_undone(
    damage: Damage, finished: Path
) -> None:
    whole = (finished / "metrics.csv").read_bytes()
    with copied(finished) as run:
        (run / "metrics.csv").write_bytes(damage(whole))
        if damage(whole).replace(b"\r\n", b"\n") == whole:
            assert shown(run) == shown(finished)
        else:
            sentence = shown(run)
            assert isinstance(sentence, str)
            assert "rkkd resume " in sentence
        after = reopened(run)
        assert isinstance(after, bytes)
        assert after.replace(b"\r\n", b"\n") == whole


@settings(max_examples=60)
@given(damage=any_damage)
@example(damage=lambda content: content.replace(b"\n", b"\r\n"))
def test_any_damage_of_a_killed_run_is_undone_or_named_and_left(damage: Damage, dead: Path) -> None:
    with copied(dead) as run:
        vouched = reopened(run)
    assert isinstance(vouched, bytes)
    before = (dead / "metrics.csv").read_bytes()
    assert before.startswith(vouched)
    with copied(dead) as run:
        (run / "metrics.csv").write_bytes(damage(before))
        assert isinstance(shown(run), bytes | str)
        after = reopened(run)
        if isinstance(after, str):
            assert "checkpoints" in after
            assert (run / "metrics.csv").read_bytes() == damage(before)
        else:
            assert after == vouched


# What happens to the file between the kill and the resume.
BETWEEN: dict[str, Callable[[Path], object]] = {
    "a digit changes": lambda path: path.write_bytes(EVERY["digit"](path.read_bytes())),
    "it is deleted": Path.unlink,
    "its line ends change": lambda path: path.write_bytes(
        path.read_bytes().replace(b"\n", b"\r\n")
    ),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_a_killed_run_with_a_damaged_file_ends_as_if_nothing_had_happened(
    name: str, dead: Path, finished: Path, warm_rkkd: Program
) -> None:
    with copied(dead) as run:
        BETWEEN[name](run / "metrics.csv")
        answer = warm_rkkd("resume", "run", cwd=run.parent.parent)
        assert answer.returncode == 0, answer.stderr
        assert numbers(run) == numbers(finished)
        assert b"\r" not in (run / "metrics.csv").read_bytes()
        notes = json.loads((run / "manifest.json").read_text())["resumed"][-1]["notes"]
        assert name == "its line ends change" or any("metrics.csv was" in one for one in notes)
