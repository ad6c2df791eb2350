"""Python follows a run: a progress bar, the logger ``rkkd``, and a function of the user's."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rkkd_cli.api.run_progress import RunProgress
from rkkd_cli.api.watcher import OnEvent
from rkkd_cli.config.tasks import task_of
from rkkd_cli.sweep.recording.recorder import Recorder
from rkkd_cli.sweep.recording.run_state import Work
from rkkd_cli.train.events import EpochDone, Event, Note, TeacherEpoch, TeacherReady

with warnings.catch_warnings():  # in a notebook without ipywidgets the bar is text
    warnings.simplefilter("ignore")
    from tqdm.auto import tqdm

LEVELS = {"yellow": logging.WARNING, "red": logging.ERROR}
MAX_ARMS_SHOWN = 4


@dataclass(frozen=True)
class PythonWatcher:
    """Follows a run with a ``progress`` bar, and gives each event to ``on_event``."""

    progress: bool
    on_event: OnEvent | None

    def say(self, sentence: str, style: str = "yellow") -> None:
        """Log a sentence with the logger ``rkkd``."""
        logging.getLogger("rkkd").log(LEVELS.get(style, logging.INFO), sentence)

    @contextmanager
    def following(self, work: Work, recorder: Recorder) -> Iterator[OnEvent]:
        """Move the bar with the events of a run with this ``work`` left."""
        progress = RunProgress.of(work, recorder.experiment)
        form = "{desc}: {percentage:3.0f} %|{bar}| {elapsed}<{remaining}{postfix}"
        with tqdm(total=1.0, bar_format=form, disable=not self.progress) as bar:

            def take(event: Event) -> None:
                progress.take(event)
                if label := _label(event):
                    bar.set_description_str(label, refresh=False)
                if isinstance(event, EpochDone):
                    bar.set_postfix_str(_accuracies(event), refresh=False)
                bar.update(progress.share_done - bar.n)
                if self.on_event is not None:
                    self.on_event(event)

            yield take


def _label(event: Event) -> str:
    match event:
        case Note(text):
            return text
        case TeacherEpoch():
            return f"teacher, epoch {event.epoch}/{event.epochs}"
        case TeacherReady():
            return "students"
        case EpochDone():
            return f"seed {event.seed}, epoch {event.epoch}"
    return ""


def _accuracies(event: EpochDone) -> str:
    """Return the main metric of the first arms."""
    shown = [f"{r['arm']} {r[task_of(r).main_column]:.2f} %" for r in event.rows[:MAX_ARMS_SHOWN]]
    return ", ".join(shown + ["…"] * (len(event.rows) > MAX_ARMS_SHOWN))
