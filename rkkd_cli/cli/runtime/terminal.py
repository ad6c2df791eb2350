"""The terminal follows a run: bars or lines on stderr, warnings, the profile of its steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rkkd_cli.api.run_progress import RunProgress
from rkkd_cli.api.watcher import OnEvent
from rkkd_cli.cli.output.console import err, print_line
from rkkd_cli.cli.output.progress import make_reporter
from rkkd_cli.cli.runtime.profile import profiling
from rkkd_cli.sweep.recording.recorder import Recorder
from rkkd_cli.sweep.recording.run_state import Work
from rkkd_cli.train.events import Event


def say(sentence: str, style: str = "yellow") -> None:
    """Print a sentence to stderr."""
    print_line(err, f"rkkd: {sentence}", style)


@dataclass(frozen=True)
class Terminal:
    """Shows a run. If ``quiet`` it only warns; ``profile``: where the time of the steps goes."""

    quiet: bool = False
    profile: bool = False

    def say(self, sentence: str, style: str = "yellow") -> None:
        """Print a sentence to stderr."""
        say(sentence, style)

    @contextmanager
    def following(self, work: Work, recorder: Recorder) -> Iterator[OnEvent]:
        """Show the events of a run with this ``work`` left."""
        progress = RunProgress.of(work, recorder.experiment)
        with (
            profiling(self.profile, recorder) as profile,
            make_reporter(err, self.quiet, progress) as reporter,
        ):

            def take(event: Event) -> None:
                profile(event)
                reporter.show(event)

            yield take
