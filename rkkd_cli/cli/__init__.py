"""The commands: parse, call, print. Only here does anything print or exit."""
