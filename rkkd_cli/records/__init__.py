"""What a run leaves behind: its directory, metrics.csv, manifest. Imports no torch."""
