"""Tables on a terminal: numbers aligned, columns that go, long texts folded between words."""

import io

import pytest
from rich.console import Console

from rkkd_cli.cli.output.console import print_table
from rkkd_cli.cli.output.tables import narrowed, no_room_note, plain_table

HEADER = ["arm", "n", "accuracy", "kl"]
ROWS = [["kd", "3", "9.50 ± 0.71", "12.5"], ["kd_rank", "12", "15.00 ± 7.07", "0.25"]]


def lines(table: object, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_numbers_stand_on_the_right_and_words_on_the_left() -> None:
    assert lines(plain_table(HEADER, ROWS), 80) == [
        "arm       n      accuracy    kl",
        "kd        3   9.50 ± 0.71  12.5",
        "kd_rank  12  15.00 ± 7.07  0.25",
    ]


@pytest.mark.parametrize(
    ("width", "gone"), [(80, []), (31, []), (30, ["kl"]), (24, ["n", "kl"]), (10, ["n", "kl"])]
)
def test_spare_columns_go_one_after_another_and_are_named(width: int, gone: list[str]) -> None:
    table, names = narrowed(HEADER, ROWS, (3, 1), Console(file=io.StringIO(), width=width))
    assert names == gone
    assert [column.header.plain for column in table.columns if hasattr(column.header, "plain")] == [
        name for name in HEADER if name not in gone
    ]
    assert narrowed(HEADER, ROWS, (3, 1), Console(width=33), margin=2)[1] == []
    assert narrowed(HEADER, ROWS, (3, 1), Console(width=33), margin=3)[1] == ["kl"]


def test_a_long_text_is_folded_between_words_beside_columns_that_are_not() -> None:
    text = "a text of more words than a narrow terminal has room for"
    shown = lines(plain_table(["key", "meaning"], [["training.weight_decay", text]]), 40)
    assert shown[1].startswith("training.weight_decay  a text")
    assert max(map(len, shown)) <= 40
    words = " ".join(line.removeprefix("training.weight_decay").strip() for line in shown[1:])
    assert words == text


RUNS = ["run", "what", "objective"]
TEXTS = ["a title of more words than there is room for", "kd: 0.1·ce + 0.9·kl; kd_rank: 0.1·ce + …"]


@pytest.mark.parametrize(
    ("width", "gone"), [(100, []), (70, ["objective"]), (32, ["objective"]), (30, RUNS[1:])]
)
def test_a_spare_text_goes_before_it_is_a_tower(width: int, gone: list[str]) -> None:
    console = Console(file=io.StringIO(), width=width)
    table, names = narrowed(RUNS, [["first", *TEXTS]], (2, 1), console, prose=("what",))
    assert names == gone
    shown = lines(table, width)
    assert max(map(len, shown)) <= width
    assert len(shown) <= 4


def test_a_line_ends_with_its_last_word(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(plain_table(RUNS, [["first", *TEXTS], ["second", "short", ""]]))
    shown = capsys.readouterr().out.splitlines()
    assert shown == [line.rstrip() for line in shown]
    assert shown[1].endswith(TEXTS[1])
    assert shown[2] == "second  short"


def test_one_column_is_it_and_more_are_them() -> None:
    assert no_room_note(["n"]).endswith("a pipe shows it")
    assert no_room_note(["n", "kl"]).endswith("a pipe shows them")
