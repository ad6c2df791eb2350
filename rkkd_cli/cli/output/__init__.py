"""What a person sees: the console, tables, progress bars and results."""
