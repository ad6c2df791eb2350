"""``rkkd init``: write a starter preset for a folder of images."""

from pathlib import Path

from rkkd_cli.cli.flags.experiment import MODELS
from rkkd_cli.cli.flags.flag import REQUIRED, Flag, takes
from rkkd_cli.cli.flags.runs import FORCE
from rkkd_cli.config.overrides import Override


@takes(
    Flag("folder", Path, "Your images, FOLDER/<class>/* or FOLDER/train/<class>/* and "
         "FOLDER/test/<class>/*.", positional=True, default=REQUIRED),
    MODELS,
    Flag("to", Path | None, "File to write, or a folder to put it into; default: FOLDER's name "
         "with .toml, here.", metavar="FILE"),
    FORCE,
)  # fmt: skip
def init(folder: Path, overrides: list[Override], to: Path | None, force: bool) -> None:
    """Write a starter preset for a folder of images, with the reason for each choice.

    It looks at names and headers of the images, and decodes none. No model has to be named.
    """
    from rkkd_cli.cli.runtime.starter import write_starter

    write_starter(folder, dict(overrides), to, force)
