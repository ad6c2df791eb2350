"""Trained students: read back from a run, exported, applied to images."""
