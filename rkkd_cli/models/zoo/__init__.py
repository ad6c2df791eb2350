"""The zoo's own models, one published family a file."""
