"""Images in, batches on the device out. Knows nothing of experiments."""
