"""What carries a command out: execution, signals, torchrun, engines, dry runs."""
