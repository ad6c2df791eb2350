"""Lists of values as they are typed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkkd_cli.config.value_lists import parse_axes, parse_values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.1,0.25", (0.1, 0.25)),
        ("0.1:0.9:0.2", (0.1, 0.3, 0.5, 0.7, 0.9)),
        ("1:5:2", (1, 3, 5)),
        ("5:1:-2", (5, 3, 1)),
        ("0:1:0.4", (0.0, 0.4, 0.8)),
        ("log:1:100:3", (1.0, 10.0, 100.0)),
        ("1,2:4:1,10", (1, 2, 3, 4, 10)),
        ("all,top:0.1,bottom:0.1", ("all", "top:0.1", "bottom:0.1")),
        ("[0.5, 0.75],[0.6]", ((0.5, 0.75), (0.6,))),
        ("true,false", (True, False)),
        ("'a,b',c", ("a,b", "c")),
        ("1,1.0,2", (1, 2)),
        ("true,1", (True, 1)),
    ],
)
def test_lists_and_ranges(text: str, values: tuple[object, ...]) -> None:
    parsed = parse_values(text)
    assert parsed == values
    assert [type(value) for value in parsed] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (" , ", "empty"),
        ("0.1,,0.5", "empty"),
        ("0.1:0.9", "is no range"),
        ("0.1:0.9:x", "is no range"),
        ("1:2:3:4", "is no range"),
        ("log:1:50", "is no range"),
        ("log:1:50:2.5", "is no range"),
        ("log:0:50:3", "greater than 0"),
        ("log:1:50:1", "2 to 10,000"),
        ("1:5:0", "never arrives"),
        ("1:5:-1", "never arrives"),
        ("0:1:1e-9", "at most 10,000"),
        ("1e999999:0:-1", "at most 10,000"),
        ("1e999999:-1e999999:-1e-9", "at most 10,000"),
        ("nan,1", "not finite"),
        ("{a = 1}", "section"),
    ],
)
def test_what_is_no_list_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_values(text)


@given(st.lists(st.decimals(-1000, 1000, places=3), min_size=1, max_size=20, unique=True))
def test_listed_numbers_come_back(numbers: list[object]) -> None:
    assert parse_values(",".join(map(str, numbers))) == tuple(float(str(n)) for n in numbers)


def test_nested_tables_become_dotted_keys() -> None:
    nested = {"method": {"alpha": [0.1, 0.2], "temperature": "1:3:1"}, "training.lr": 0.1}
    assert parse_axes(nested) == {
        "method.alpha": (0.1, 0.2), "method.temperature": (1, 2, 3), "training.lr": (0.1,),
    }  # fmt: skip


def test_an_error_names_the_key() -> None:
    with pytest.raises(ValueError, match=r"method\.alpha: .*empty"):
        parse_axes({"method": {"alpha": []}})
