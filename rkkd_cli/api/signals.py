"""Ctrl-C and the schedulers' SIGTERM: finish the step, save a checkpoint, exit."""

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from rkkd_cli.api.ending import SIGNALS
from rkkd_cli.api.watcher import Say
from rkkd_cli.train.stop_controller import StopController, Stopped

# A training that has not stopped after this time is ended: schedulers do not wait longer.
PATIENCE_SECONDS = 8.0


class Interrupted(SystemExit):
    """The program ends with the exit status 128 + the signal's number."""


class SignalHandler:
    """Requests a stop of ``controller``; at a second signal, or out of patience, raises.

    The first signal raises nothing. It may arrive anywhere, also within compiled code (a library
    that is being imported), which may end the process if an exception passes through it.
    """

    def __init__(self, controller: StopController) -> None:
        self.controller = controller
        self.received = signal.SIGINT
        self.timer: threading.Timer | None = None

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Handle a signal, in the main thread."""
        if self.controller.stop_requested:
            raise Interrupted(128 + number)
        self.controller.stop_requested, self.received = True, signal.Signals(number)
        self.timer = threading.Timer(PATIENCE_SECONDS, _thread.interrupt_main, [number])
        self.timer.daemon = True
        self.timer.start()

    def cancel_timer(self) -> None:
        """Wait no longer for the training to stop."""
        if self.timer is not None:
            self.timer.cancel()


@contextmanager
def stopping_on_signals(controller: StopController, say: Say) -> Iterator[None]:
    """Turn a signal into a requested stop, and that into the exit status 130, 143 or 129.

    Says that the program was interrupted, with the notes of the exception. Signals that the process
    was started to ignore (as by nohup) stay ignored. Only the main thread can be told by a signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = SignalHandler(controller)
    handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    former = {number: signal.signal(number, handler) for number in handled}
    try:
        yield
    except (Stopped, SystemExit) as error:  # Interrupted, or what compiled code makes of it
        sentence = "; ".join(["interrupted", *getattr(error, "__notes__", [])])
        with suppress(OSError):  # the terminal may be closed
            say(sentence, style="red")
        raise Interrupted(128 + handler.received) from None
    finally:
        handler.cancel_timer()
        for number, action in former.items():
            signal.signal(number, action)
