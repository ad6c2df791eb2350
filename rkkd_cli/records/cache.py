"""The folder that keeps decoded images, downloads and trained teachers between runs."""

import os
from pathlib import Path

import platformdirs


def cache_directory() -> Path:
    """Return ``$RKKD_CACHE``, or the system's cache folder of the user."""
    path = os.environ.get("RKKD_CACHE")
    return Path(path) if path else Path(platformdirs.user_cache_dir("rkkd", appauthor=False))
