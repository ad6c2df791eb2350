"""Weights out of files: reading, recognising and loading them."""
