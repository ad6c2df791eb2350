"""``rkkd cat`` and ``rkkd cp``: print a preset, or copy it to change it."""

import shlex
from pathlib import Path

import typer

from rkkd_cli.cli.flags.flag import REQUIRED, Flag, takes
from rkkd_cli.errors import UserError

PRESET = Flag("preset", str, "A preset; see `rkkd ls presets`.", positional=True, default=REQUIRED)


@takes(PRESET)
def cat(preset: str) -> None:
    """Print a preset."""
    from rkkd_cli.cli.output.console import print_text
    from rkkd_cli.config.presets import preset_text

    print_text(preset_text(preset))


@takes(
    PRESET,
    Flag("file", Path, "The new file, or a folder to put it into.",
         positional=True, default=REQUIRED),
)  # fmt: skip
def cp(preset: str, file: Path) -> None:
    """Copy a preset to a file of your own, to change and run it."""
    from rkkd_cli.config.presets import preset_path, preset_text, word_of

    text = preset_text(preset)
    target = file / preset_path(preset).name if file.is_dir() else file
    try:
        with target.open("x", encoding="utf-8") as copy:
            copy.write(text)
    except FileExistsError:
        raise UserError(f"{target} exists; choose another name") from None
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}") from None
    typer.echo(f"{target}: change it, then `{shlex.join(('rkkd', 'run', word_of(target)))}`")
