"""A damaged metrics.csv is restored from the checkpoints, or named; its numbers are never shown."""

from collections.abc import Callable
from pathlib import Path

import pytest
from damage import copied, reopened
from hypothesis import example, given, settings
from hypothesis import strategies as st
from running import Program, refused, succeeded
from written import manifest_of, numbers_of

from rkkd_cli.errors import RunError, UserError
from rkkd_cli.records.metrics import columns
from rkkd_cli.records.run_directory import RunDirectory

Damage = Callable[[bytes], bytes]

COLUMNS = columns(with_validation=False)


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
    "a name of no arm": (with_value("arm", "<b>"), "arm '<b>', a name that no arm can have"),
    "another arm": (with_value("arm", "other"), "arm 'other', which experiment.toml does not"),
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
        answer = warm_rkkd("show", "run", cwd=run.parent.parent)
        refused(answer, "metrics.csv", says, "rkkd resume ")
        assert path.read_bytes() == damage((dead / "metrics.csv").read_bytes())


@pytest.mark.parametrize("command", ["show", "plot"])
@pytest.mark.parametrize("name", ["torn", "row twice", "digit", "two rows less"])
def test_no_number_of_a_changed_file_is_shown_or_drawn(
    name: str, command: str, ended: Path, warm_rkkd: Program
) -> None:
    with copied(ended) as run:
        damaged(run, EVERY[name])
        refused(warm_rkkd(command, "run", cwd=run.parent.parent), "rkkd resume ")
        assert not (run / "figures").exists()


def shown(run: Path) -> bytes | str:
    """Return the rows that would be shown, or the sentence that says why not."""
    directory = RunDirectory(run)
    try:
        return directory.read_metrics(directory.read_manifest()).to_csv().encode()
    except UserError as error:
        return str(error)


def resumed(run: Path) -> bytes | str:
    """Return metrics.csv as `rkkd resume` leaves it, or the sentence that says why not."""
    try:
        reopened(run)
    except (UserError, RunError) as error:
        return str(error)
    return (run / "metrics.csv").read_bytes()


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
    damage: Damage, ended: Path
) -> None:
    whole = (ended / "metrics.csv").read_bytes()
    with copied(ended) as run:
        (run / "metrics.csv").write_bytes(damage(whole))
        if damage(whole).replace(b"\r\n", b"\n") == whole:
            assert shown(run) == shown(ended)
        else:
            sentence = shown(run)
            assert isinstance(sentence, str)
            assert "rkkd resume " in sentence
        after = resumed(run)
        assert isinstance(after, bytes)
        assert after.replace(b"\r\n", b"\n") == whole


@settings(max_examples=60)
@given(damage=any_damage)
@example(damage=lambda content: content.replace(b"\n", b"\r\n"))
def test_any_damage_of_a_killed_run_is_undone_or_named_and_left(damage: Damage, dead: Path) -> None:
    with copied(dead) as run:
        vouched = resumed(run)
    assert isinstance(vouched, bytes)
    before = (dead / "metrics.csv").read_bytes()
    assert before.startswith(vouched)
    with copied(dead) as run:
        (run / "metrics.csv").write_bytes(damage(before))
        assert isinstance(shown(run), bytes | str)
        after = resumed(run)
        if isinstance(after, str):
            assert "checkpoints" in after
            assert (run / "metrics.csv").read_bytes() == damage(before)
        else:
            assert after.replace(b"\r\n", b"\n") == vouched


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
    name: str, dead: Path, ended: Path, warm_rkkd: Program
) -> None:
    with copied(dead) as run:
        BETWEEN[name](run / "metrics.csv")
        succeeded(warm_rkkd("resume", "run", cwd=run.parent.parent))
        assert numbers_of(run) == numbers_of(ended)
        assert b"\r" not in (run / "metrics.csv").read_bytes()
        notes = manifest_of(run)["resumed"][-1]["notes"]
        assert name == "its line ends change" or any("metrics.csv was" in one for one in notes)
