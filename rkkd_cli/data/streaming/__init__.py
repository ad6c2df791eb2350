"""Streamed image folders: images are decoded by other processes during training."""
