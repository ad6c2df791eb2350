"""What is said of a command line of the wrong form: one sentence, with the nearest right option."""

from typing import Any

import typer

from rkkd_cli.errors import nearest

# Typer exports some of the errors of its copy of click, not the class that all of them belong to.
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]


def usage_sentence(error: Any) -> str:
    """Return the sentence for a usage error; empty where the help was shown instead."""
    message = str(error.format_message())
    command = error.ctx.command_path if error.ctx else None
    if hasattr(error, "possibilities"):  # an unknown option
        params = error.ctx.command.params
        names = [name for param in params for name in (*param.opts, *param.secondary_opts)]
        close = nearest(error.option_name, [name for name in names if name.startswith("-")])
        hint = f". Did you mean {close}?" if close else ""
        message = f"{command} has no option {error.option_name}{hint}"
    parts = [part[:1].lower() + part[1:] for part in message.removesuffix(".").split(". ")]
    if message and command and not message.endswith("?"):
        parts.append(f"see {command} --help")
    return "; ".join(parts)
