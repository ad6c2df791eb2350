"""Who follows a run while it trains: a terminal, a notebook, a user's function, or nobody."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from rkkd_cli.sweep.recording.recorder import Recorder
from rkkd_cli.sweep.recording.run_state import Work
from rkkd_cli.train.events import Event

OnEvent = Callable[[Event], None]


class Say(Protocol):
    """Tells the user a sentence."""

    def __call__(self, sentence: str, style: str = "yellow") -> None:
        """Tell it in a colour: yellow warns, red is for what failed, "" is for what goes on."""


class Watcher(Protocol):
    """Follows a run."""

    def say(self, sentence: str, style: str = "yellow") -> None:
        """Tell the user a sentence, as :class:`Say` does."""

    def following(self, work: Work, recorder: Recorder) -> AbstractContextManager[OnEvent]:
        """Give what takes the events of a run with this ``work`` left, until it ends."""
