"""A grid's tables as text: laid out once, written as Markdown, LaTeX or CSV."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rkkd_cli.analysis.grid_tables import GridTable, CellKey, short_key, format_value

BEST_MARK = "*"
DIGITS = 2


class TextCell(NamedTuple):
    """A cell of a table: its text, and whether it is the best of its column, and of the table."""

    text: str
    best_of_column: bool = False
    best: bool = False


class TextTable(NamedTuple):
    """A table as text: what it is of, its header, and its rows, whose first entry names the row."""

    title: str
    header: list[str]
    rows: list[list[TextCell]]


def lay_out(table: GridTable) -> TextTable:
    """Return the table as text: mean ± spread, with the published value and the difference."""
    names = [short_key(key, table.keys) for key in table.keys]
    corner = names[0] if table.columns == (None,) else f"{names[0]} \\ {names[1]}"
    header = [corner, *("test acc (%)" if c is None else format_value(c) for c in table.columns)]
    best, of_columns = table.best, table.best_of_columns

    def entry(place: CellKey) -> TextCell:
        if place not in table.cells:
            return TextCell("–")
        text = table.cells[place].text(DIGITS)
        if place in table.published:
            stated = table.published[place]
            text += f" ({stated:.{DIGITS}f}, {table.cells[place].mean - stated:+.{DIGITS}f})"
        return TextCell(text, place in of_columns, place == best)

    rows = [[TextCell(format_value(r)), *(entry((r, c)) for c in table.columns)] for r in table.rows]
    return TextTable(facet_title(table), header, rows)


def facet_title(table: GridTable) -> str:
    """Return the values of the further keys, or nothing."""
    return ", ".join(f"{short_key(k, table.keys)} = {format_value(v)}" for k, v in table.facet.items())


def plain(layouts: Sequence[TextTable], notes: Sequence[str]) -> str:
    """Return the tables as aligned text: the best of a column in brackets."""

    def told(entry: TextCell) -> str:
        return (f"[{entry.text}]" if entry.best_of_column else entry.text) + BEST_MARK * entry.best

    parts = []
    for layout in layouts:
        lines = [layout.header, *([told(entry) for entry in row] for row in layout.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        body = [
            "  ".join(
                text.rjust(width) if number else text.ljust(width)
                for number, (text, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        parts.append("\n".join([*([layout.title] if layout.title else []), *body]))
    return "\n\n".join([*parts, *notes]) + "\n"


def markdown(layouts: Sequence[TextTable], notes: Sequence[str]) -> str:
    """Return the tables in Markdown: the best of a column bold, the best of all marked."""

    def told(entry: TextCell) -> str:
        text = entry.text.replace("|", "\\|")
        return (f"**{text}**" if entry.best_of_column else text) + "\\*" * entry.best

    parts = []
    for layout in layouts:
        header = [name.replace("\\", "\\\\").replace("|", "\\|") for name in layout.header]
        lines = [header, ["---", *["---:"] * (len(layout.header) - 1)]]
        lines += [[told(entry) for entry in row] for row in layout.rows]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"{layout.title}\n\n{body}" if layout.title else body)
    return "\n\n".join([*parts, *notes]) + "\n"


def latex(layouts: Sequence[TextTable], notes: Sequence[str]) -> str:
    """Return the tables in LaTeX (package booktabs)."""

    def told(entry: TextCell) -> str:
        text = _tex(entry.text)
        mark = "$^{\\ast}$" if entry.best else ""
        return (f"\\textbf{{{text}}}" if entry.best_of_column else text) + mark

    parts = []
    for layout in layouts:
        lines = [f"% {layout.title}"] if layout.title else []
        lines += [f"\\begin{{tabular}}{{l{'r' * (len(layout.header) - 1)}}}", "\\toprule"]
        lines += [" & ".join(_tex(name) for name in layout.header) + " \\\\", "\\midrule"]
        lines += [" & ".join(told(entry) for entry in row) + " \\\\" for row in layout.rows]
        parts.append("\n".join([*lines, "\\bottomrule", "\\end{tabular}"]))
    return "\n\n".join([*parts, "\n".join(f"% {note}" for note in notes)]) + "\n"


TEX = str.maketrans(
    {
        "\\": "$\\backslash$", "%": "\\%", "_": "\\_", "&": "\\&", "#": "\\#", "$": "\\$",
        "{": "\\{", "}": "\\}", "±": "$\\pm$", "–": "--", "×": "$\\times$", "<": "$<$",
    }
)  # fmt: skip


def _tex(text: str) -> str:
    return text.translate(TEX)


def long_csv(tables: Sequence[GridTable]) -> str:
    """Return a line per place: its keys, mean, spread and published value, for pandas."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    keys = list(tables[0].keys) if tables else []
    writer.writerow([*keys, "mean", "std", "n", "published", "difference"])
    for table in tables:
        for place, one in table.cells.items():
            values = [*place[: len(keys[:2])], *table.facet.values()]
            stated = table.published.get(place)
            difference = None if stated is None else one.mean - stated
            writer.writerow([*values, one.mean, one.std, one.n, stated, difference])
    return lines.getvalue()


Writer = Callable[[Sequence[TextTable], Sequence[str]], str]
WRITERS: dict[str, Writer] = {"md": markdown, "latex": latex}
