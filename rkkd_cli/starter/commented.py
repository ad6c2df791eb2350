"""Choices as the text of a preset: TOML with a comment above each key."""

import textwrap
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import tomli_w

from rkkd_cli.config.keys import all_keys
from rkkd_cli.errors import printable
from rkkd_cli.starter.choices import Choice

WIDTH = 100
NOTES = {
    "teacher": "The teacher. Without weights of its own it is trained first, once, and cached.",
    "teacher.training": "The teacher's recipe, as the students' below.",
    "student": "The student. Every arm and seed trains one.",
    "training": "The students' recipe.",
    "rank": "The ranking loss: arm kd only logs it, arm kd_rank also backpropagates it. Other "
    "arms: [arms.NAME] with the keys that differ.",
}


def commented_preset(head: Sequence[str], chosen: Sequence[Choice], findings: str) -> str:
    """Return a preset: lines of comment, the chosen keys by section, and the text of findings."""
    values = {key.name: key.choices for key in all_keys()}
    parts = ["\n".join(f"# {line}".rstrip() for line in head)]
    for section, group in groupby(chosen, lambda one: one.key.rpartition(".")[0]):
        lines = [f"[{section}]"] if section else []
        lines[:0] = _comment(NOTES.get(section, ""))
        for choice in group:
            lines += _comment(_why(choice, values.get(choice.key, ())))
            lines.append(f"{choice.key.rpartition('.')[2]} = {_value_text(choice.value)}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + f"\n\n{findings.strip()}\n"


def _why(choice: Choice, values: Sequence[str]) -> str:
    """Return the reason for a choice, and the other values where they are few."""
    if not choice.why or isinstance(choice.value, bool):
        return choice.why
    others = [value for value in values if value not in ("none", str(choice.value).lower())]
    return f"{choice.why} Or: {', '.join(others)}." if others else choice.why


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        printable(text), WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )


def _value_text(value: Any) -> str:
    """Return a value as TOML writes it on one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value_text, value))}]"
    if isinstance(value, dict):
        inner = (f"{_value_text(name)} = {_value_text(item)}" for name, item in value.items())
        return f"{{ {', '.join(inner)} }}"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")
