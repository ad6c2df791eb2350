"""Accounts that programs do not expect: no home folder, one that is not writable, no user name.

So it is in a container that runs as any user (``docker run --user 12345``).
"""

import getpass
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from rkkd_cli.errors import UserError

NO_HOME = "/nonexistent"  # as in the passwd entries of services


def temporary_folder() -> Path:
    """Return a folder of this user alone below the system's temporary one. Raises UserError."""
    user = os.getuid() if hasattr(os, "getuid") else 0  # on Windows the folder is the user's own
    try:
        path = Path(tempfile.gettempdir()) / f"rkkd-{user}"
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise UserError(f"no folder for the cache: {error}; set RKKD_CACHE to a folder") from None
    if path.is_symlink() or path.stat().st_uid != user:
        raise UserError(f"{path} belongs to another user; set RKKD_CACHE to a folder for the cache")
    return path


def help_libraries() -> None:
    """Name a user and folders to matplotlib, numba and Triton, which fail or warn without them.

    Changes the environment of this process and its children, only where it would not work.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):  # no passwd entry; an ImportError on Windows means no variable
        os.environ["LOGNAME"] = f"uid{os.getuid()}"
    if not Path(os.path.expanduser("~")).is_absolute():  # noqa: PTH111 (Path.home() raises)
        os.environ["HOME"] = NO_HOME
    if all(_is_writable(Path.home() / name) for name in (".cache", ".config")):
        return
    with suppress(UserError):  # then each has its own way out, or its own words
        folder = temporary_folder()
        for variable in ("MPLCONFIGDIR", "NUMBA_CACHE_DIR", "TRITON_HOME"):
            os.environ.setdefault(variable, str(folder))


def _is_writable(folder: Path) -> bool:
    existing = next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))
    return os.access(existing, os.W_OK)
