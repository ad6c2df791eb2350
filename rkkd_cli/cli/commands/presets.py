"""``rkkd cat`` and ``rkkd cp``: read a preset, or take a copy to change."""

from pathlib import Path
from typing import Annotated

import typer

from rkkd_cli.errors import UserError

PresetName = Annotated[str, typer.Argument(help="A preset; see `rkkd ls presets`.")]


def cat(preset: PresetName) -> None:
    """Print a preset."""
    from rkkd_cli.config.presets import preset_text

    typer.echo(preset_text(preset), nl=False)


def cp(preset: PresetName, file: Annotated[Path, typer.Argument(help="Where to.")]) -> None:
    """Copy a preset into a file of your own, to change and run it."""
    from rkkd_cli.config.presets import preset_text

    text = preset_text(preset)
    target = file / f"{preset}.toml" if file.is_dir() else file
    try:
        with target.open("x", encoding="utf-8") as copy:
            copy.write(text)
    except FileExistsError:
        raise UserError(f"{target} exists; choose another name") from None
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}") from None
    typer.echo(f"{target}: change it, then `rkkd run {target}`")
