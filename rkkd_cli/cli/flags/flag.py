"""What a flag is, and ``takes``, the decorator that gives a command its flags."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import typer

from rkkd_cli.cli.flags import completion
from rkkd_cli.config.overrides import Override, looks_like_override, parse_override, parse_value
from rkkd_cli.errors import UserError, unknown_name

NUMBERS: dict[Any, str] = {int | None: "INTEGER", float | None: "FLOAT"}
REQUIRED = ...  # the default of a flag that has to be given

Command = Callable[..., None]


@dataclass(frozen=True)
class Flag:
    """An option or a positional argument of the commands.

    A flag with a ``key`` sets that dotted key of the experiment; its default is None, which leaves
    the key alone. ``option`` holds the names on the command line, where they are not just
    ``--data-root`` for ``data_root``; ``--stream/--no-stream`` names both states of a switch.
    ``panel`` is the box of the help text that shows the flag.
    """

    name: str
    type: Any
    help: str
    key: str | None = None
    panel: str | None = None
    default: Any = None
    option: tuple[str, ...] = ()
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    min: float | None = None
    positional: bool = False

    @property
    def option_names(self) -> tuple[str, ...]:
        """The names on the command line."""
        return self.option or (f"--{self.name.replace('_', '-')}",)

    @property
    def annotation(self) -> Any:
        """The type as Typer reads it: a number of the experiment is a text, which may be none."""
        return str | None if self.key and self.type in NUMBERS else self.type

    def parameter(self) -> inspect.Parameter:
        """Return the flag as Typer reads it from a signature."""
        shared: dict[str, Any] = {
            "help": self.help,
            "metavar": self.metavar or "|".join(self.choices) or NUMBERS.get(self.type),
            "show_default": self.default not in (None, REQUIRED),
            "autocompletion": self.complete if completion.is_asked() else None,
        }
        info = (
            typer.Argument(self.default, **shared)
            if self.positional
            else typer.Option(
                self.default, *self.option_names, min=self.min, rich_help_panel=self.panel, **shared
            )
        )
        return inspect.Parameter(
            self.name, inspect.Parameter.KEYWORD_ONLY, default=info, annotation=self.annotation
        )

    def complete(self, ctx: typer.Context, incomplete: str) -> list[str]:
        """Return what the shell may complete the word to."""
        return completion.candidates(self, ctx.params, incomplete)

    def check(self, value: Any) -> None:
        """Raise UserError for a value that is not among the choices."""
        if self.choices and value not in self.choices:
            raise unknown_name(self.option_names[0].lstrip("-"), value, self.choices)


@dataclass(frozen=True)
class Bundle:
    """Flags that a command gets as one value: what ``build`` returns for theirs."""

    name: str
    flags: tuple[Flag, ...]
    build: Callable[..., Any]


Group = Flag | Bundle | tuple[Flag, ...]


def takes(*groups: Group) -> Callable[[Command], Command]:
    """Return the decorator that gives a command these flags; the help lists them in this order.

    The command declares a keyword argument for each of:

    - ``ctx``, Typer's context, if it wants it;
    - ``preset`` and ``overrides``, if the groups have a flag called ``words``: the preset that the
      words name, and what they and the flags with a key set (``list[Override]``);
    - every ``Bundle``, by its name;
    - ``overrides`` alone, if there are flags with a key, and none called ``words``;
    - every other flag without a key, by its name.
    """
    items: list[Flag | Bundle] = []
    for group in groups:
        items += group if isinstance(group, tuple) else [group]
    flags: list[Flag] = []
    for item in items:
        flags += item.flags if isinstance(item, Bundle) else [item]

    def decorate(command: Command) -> Command:
        wants_context = "ctx" in inspect.signature(command).parameters

        @wraps(command)
        def call_command(ctx: typer.Context, **values: Any) -> None:
            for flag in flags:
                flag.check(values[flag.name])
            context = {"ctx": ctx} if wants_context else {}
            command(**context, **_arguments(items, values))

        call_command.__signature__ = _signature(flags)  # type: ignore[attr-defined]
        annotations = {flag.name: flag.annotation for flag in flags}
        call_command.__annotations__ = {"ctx": typer.Context, **annotations}
        return call_command

    return decorate


def _signature(flags: list[Flag]) -> inspect.Signature:
    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    return inspect.Signature([context, *(flag.parameter() for flag in flags)])


def _arguments(items: list[Flag | Bundle], values: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a command for the values of its flags. Raises UserError."""
    arguments: dict[str, Any] = {}
    overrides: list[Override] = []
    for item in items:
        if isinstance(item, Bundle):
            arguments[item.name] = item.build(**{f.name: values[f.name] for f in item.flags})
        elif item.name == "words":
            arguments["preset"], overrides[:0] = split_words(values["words"])
            arguments["overrides"] = overrides
        elif item.key is None:
            arguments[item.name] = values[item.name]
        elif values[item.name] is not None:
            value = values[item.name]
            value = parse_value(value) if item.type in NUMBERS else value
            overrides.append(Override(item.key, value))
    if any(isinstance(item, Flag) and item.key for item in items):
        arguments["overrides"] = overrides
    return arguments


def split_words(words: Sequence[str] | None) -> tuple[str | None, list[Override]]:
    """Return the preset, if one is named, and the overrides. Raises UserError."""
    presets = [word for word in words or () if not looks_like_override(word)]
    if len(presets) > 1:
        raise UserError(
            f"more than one preset: {', '.join(presets)}; overrides are written KEY=VALUE"
        )
    overrides = [parse_override(word) for word in words or () if looks_like_override(word)]
    return (presets[0] if presets else None), overrides
