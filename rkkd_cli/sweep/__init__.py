"""Jobs (a stream with its arms), the checks before them, and where they run."""
