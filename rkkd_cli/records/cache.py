"""The folder that keeps decoded images, downloads and trained teachers between runs."""

import logging
import os
from pathlib import Path

import platformdirs

from rkkd_cli.files import write_problem
from rkkd_cli.records.account import temporary_folder

logger = logging.getLogger(__name__)


def cache_directory() -> Path:
    """Return ``$RKKD_CACHE``, or the user's cache folder, or if need be a temporary one.

    The temporary one is logged as a warning, once: ``$RKKD_CACHE`` is set to it. Raises UserError
    if there is none.
    """
    if named := os.environ.get("RKKD_CACHE"):
        return Path(named)
    usual = Path(platformdirs.user_cache_dir("rkkd", appauthor=False))
    problem = write_problem(usual)
    if not problem:
        return usual
    path = temporary_folder() / "cache"
    logger.warning(
        "rkkd: the cache %s cannot be written (%s), so it is %s; RKKD_CACHE=FOLDER changes that",
        usual, problem, path,
    )  # fmt: skip
    os.environ["RKKD_CACHE"] = str(path)
    return path
