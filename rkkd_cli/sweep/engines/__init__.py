"""Where jobs run: this process, worker processes, torchrun's ranks, Ray."""
