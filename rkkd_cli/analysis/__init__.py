"""Numbers from records. Imports no torch."""
