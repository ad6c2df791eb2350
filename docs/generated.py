"""What the site has beyond the Markdown pages: its side bar, tables of keys and commands, the API.

A page asks for it with a comment such as ``<!-- generated: keys -->``, which GitHub does not show.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from typer.main import get_command

from rkkd_cli.cli.commands.ls import LISTS
from rkkd_cli.cli.main import app as program

ASKED_FOR = re.compile(r"<!-- generated: (\w+) ?([\w.]*) -->")
CONFIGS = "FrozenConfig, MethodConfig"  # whose keys have a page of their own
LISTED = re.compile(r"^- \[([^]]*)\]\(([^)#]+)\.md\)", re.MULTILINE)


def complete_page(app: Sphinx, page: str, source: list[str]) -> None:
    """Put what a page asks for into its source."""
    parts: dict[str, Callable[..., str]] = {"keys": keys, "commands": commands, "api": api}
    source[0] = ASKED_FOR.sub(lambda asked: parts[asked[1]](*asked[2].split()), source[0])
    if page == app.config.root_doc:
        source[0] += side_bar(source[0])


def side_bar(index: str) -> str:
    """Return a hidden toctree for each section of the index, of the pages that it lists."""
    blocks = []
    for section in index.split("\n## ")[1:]:
        caption, _, text = section.partition("\n")
        pages = "\n".join(f"{title} <{page}>" for title, page in LISTED.findall(text))
        blocks.append(f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{pages}\n```\n")
    return "".join(blocks)


def keys() -> str:
    """Return the keys of an experiment, as ``rkkd ls keys`` lists them, a table a section."""
    sections: dict[str, list[list[str]]] = {}
    for key, flag, kind, default, bounds, meaning in LISTS["keys"](Path())[1]:
        value = f"{kind}, {bounds}" if bounds else kind
        cells = [f"{code(key)} {code(flag)}", value, default, meaning]
        sections.setdefault(key.rpartition(".")[0], []).append(cells)
    header = ["key, flag", "value", "default", "meaning"]
    return "\n\n".join(
        f"## {code(name) if name else 'The experiment itself'}\n\n{table(header, rows)}"
        for name, rows in sections.items()
    )


def commands() -> str:
    """Return usage, arguments and options of every command."""
    return "\n\n".join(_described(command, name) for name, command in _leaves(get_command(program)))


def _leaves(command: Any, name: str = "rkkd") -> Iterator[tuple[str, Any]]:
    """Yield every command that can be called, ``rkkd teacher train`` among them."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for word, below in command.commands.items():
        yield from _leaves(below, f"{name} {word}")


def _described(command: Any, name: str) -> str:
    """Return a command's help as a section, with a table for each panel of its options."""
    panels: dict[str, list[list[str]]] = {}
    for parameter in command.params:
        is_option = parameter.opts[0].startswith("-")
        panel = (parameter.rich_help_panel or "Options") if is_option else "Arguments"
        names = ", ".join(map(code, (*parameter.opts, *parameter.secondary_opts)))
        is_switch = is_option and parameter.is_bool_flag
        value = "" if is_switch else code(parameter.metavar or "TEXT")
        cells = [names, value] if is_option else [value]
        panels.setdefault(panel, []).append([*cells, plain(parameter.help or "")])
    texts = [f"## {code(name)}", plain(command.help or "")]
    for panel, rows in panels.items():
        header = [panel, "", ""] if len(rows[0]) == 3 else [panel, ""]
        texts.append(table(header, rows))
    return "\n\n".join(texts)


def plain(text: str) -> str:
    """Return a help text without Rich's marks."""
    return text.replace("\\[", "[").replace("[bold]", "**").replace("[/bold]", "**")


def api(module: str) -> str:
    """Return what a module offers, by its ``__all__``, and the methods that it has by name."""
    lines = [f".. automodule:: {module}", "   :members:", f"   :exclude-members: {CONFIGS}", ""]
    methods = getattr(import_module(module), "METHODS", {})
    lines += [f".. autoclass:: {one.__module__}.{one.__name__}\n" for one in methods.values()]
    return "\n".join(["```{eval-rst}", *lines, "```"])


def code(text: str) -> str:
    """Return a text as code of Markdown; nothing for none."""
    return f"`{text}`" if text else ""


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table of Markdown."""
    lines = [[*header], *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def show_equations(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Mark the indented paragraphs of a docstring, which are equations, to be shown as they are."""
    shown: list[str] = []
    before = ""
    for line in lines:
        begins = line.startswith("  ") and shown and not shown[-1] and not before.startswith(" ")
        shown += ["::", "", line] if begins else [line]
        before = line or before
    lines[:] = shown


def skip_fields(
    app: Sphinx, what: str, name: str, thing: Any, would_skip: bool, options: Any
) -> bool | None:
    """Leave out the fields of named tuples, which their class describes."""
    return True if type(thing).__name__ == "_tuplegetter" else None
