"""The networks of the field's published code, one family a file."""
