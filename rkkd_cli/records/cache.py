"""Where decoded images, downloads and trained teachers are kept between runs."""

import os
from pathlib import Path

import platformdirs


def cache_directory() -> Path:
    """Return ``$RKKD_CACHE``, or the user's cache folder of this system."""
    stated = os.environ.get("RKKD_CACHE")
    return Path(stated) if stated else Path(platformdirs.user_cache_dir("rkkd", appauthor=False))
