"""A clock that stands still until a test moves it."""


class Clock:
    """Stands in for the module ``time``: ``monkeypatch.setattr(module, "time", clock)``."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def sleep(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.seconds += seconds

    def monotonic(self) -> float:
        """Return the seconds that have passed."""
        return self.seconds

    perf_counter = monotonic
