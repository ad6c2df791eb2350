"""Reads images and yields batches on the device. Knows nothing of experiments."""
