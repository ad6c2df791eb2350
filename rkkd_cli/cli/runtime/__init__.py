"""Carrying out the commands: execution, engines, signals, torchrun, dry runs, teacher files."""
