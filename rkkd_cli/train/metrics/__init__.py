"""Metrics of students: of a batch, of an epoch, of a held-out split."""
