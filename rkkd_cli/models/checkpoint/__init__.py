"""Reads checkpoint files safely, finds which model they hold, and loads them."""
