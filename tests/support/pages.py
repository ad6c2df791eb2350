"""The documentation's pages as tests read them: their blocks of code, and their commands."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/*.md"),
    ROOT / "ablations" / "README.md",
    ROOT / "results" / "README.md",
]
# How a command is called: at a prompt, by srun, out of an environment, by torchrun.
CALLED = re.compile(r"(?:^|^\$ |^srun |/bin/|-- +)rkkd (.*)|-m rkkd_cli (.*)")


class Block(NamedTuple):
    """A fenced block of code: its language, which may be empty, and its lines."""

    language: str
    code: str


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [Block(*block) for block in found]


def python_blocks(page: Path) -> list[str]:
    """Return the blocks of Python of a page."""
    return [code for language, code in blocks(page) if language == "python"]


def commands(page: Path) -> list[str]:
    """Return the commands in a page's blocks, as what follows ``rkkd``, without remarks.

    Those that the shell is asked to complete are not whole: ``test_completion.py`` has them.
    """
    text = "\n".join(code for _, code in blocks(page)).replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        if "<Tab>" in line:
            continue
        for part in re.sub(r"  +#.*", "", line).split(" && "):
            called = CALLED.search(part.strip())
            found += [called[1] or called[2]] if called else []
    return found
