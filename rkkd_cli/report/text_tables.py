"""Tables as text: aligned for a terminal, in Markdown or in LaTeX."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

BEST_MARK = "*"
BEST_OF_COLUMN = {"text": "in square brackets", "md": "bold", "latex": "bold"}
LATEX_ESCAPES = str.maketrans(
    {
        "\\": "$\\backslash$", "%": "\\%", "_": "\\_", "&": "\\&", "#": "\\#", "$": "\\$",
        "{": "\\{", "}": "\\}", "±": "$\\pm$", "–": "--", "×": "$\\times$", "<": "$<$",
    }
)  # fmt: skip


class TextCell(NamedTuple):
    """A cell's text, and whether it is the best of its column, and of the whole table."""

    text: str
    best_of_column: bool = False
    best: bool = False


class TextTable(NamedTuple):
    """A table's title, its header, and its rows, whose first cell names the row."""

    title: str
    header: list[str]
    rows: list[list[TextCell]]


def plain_text(tables: Sequence[TextTable], notes: Sequence[str]) -> str:
    """Return the tables as aligned text, with the best of a column in brackets."""
    blocks = []
    for table in tables:
        rows = [[_marked(c.text, c, "[{}]", BEST_MARK) for c in row] for row in table.rows]
        lines = [table.header, *rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        body = [
            "  ".join(
                text.rjust(width) if index else text.ljust(width)
                for index, (text, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        blocks.append("\n".join([*([table.title] if table.title else []), *body]))
    return "\n\n".join([*blocks, *notes]) + "\n"


def _marked(text: str, cell: TextCell, best_of_column: str, best: str) -> str:
    return (best_of_column.format(text) if cell.best_of_column else text) + best * cell.best


def markdown(tables: Sequence[TextTable], notes: Sequence[str]) -> str:
    """Return the tables in Markdown, with the best of a column bold and the best of all marked."""
    blocks = []
    for table in tables:
        header = [name.replace("\\", "\\\\").replace("|", "\\|") for name in table.header]
        lines = [header, ["---", *["---:"] * (len(table.header) - 1)]]
        for row in table.rows:
            lines.append([_marked(c.text.replace("|", "\\|"), c, "**{}**", "\\*") for c in row])
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        blocks.append(f"{table.title}\n\n{body}" if table.title else body)
    return "\n\n".join([*blocks, *notes]) + "\n"


def latex(tables: Sequence[TextTable], notes: Sequence[str]) -> str:
    """Return the tables in LaTeX (package booktabs)."""
    blocks = []
    for table in tables:
        lines = [f"% {table.title}"] if table.title else []
        lines += [f"\\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", "\\toprule"]
        header = [name.translate(LATEX_ESCAPES) for name in table.header]
        lines += [" & ".join(header) + " \\\\", "\\midrule"]
        lines += [" & ".join(_latex_cell(cell) for cell in row) + " \\\\" for row in table.rows]
        blocks.append("\n".join([*lines, "\\bottomrule", "\\end{tabular}"]))
    return "\n\n".join([*blocks, "\n".join(f"% {note}" for note in notes)]) + "\n"


def _latex_cell(cell: TextCell) -> str:
    return _marked(cell.text.translate(LATEX_ESCAPES), cell, "\\textbf{{{}}}", "$^{\\ast}$")


WRITERS: dict[str, Callable[[Sequence[TextTable], Sequence[str]], str]] = {
    "text": plain_text,
    "md": markdown,
    "latex": latex,
}
