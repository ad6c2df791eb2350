"""rkkd from Python: what the commands do, and what of it a script or a notebook calls."""
