"""Ctrl-C and the schedulers' SIGTERM: finish the step, keep a checkpoint, leave."""

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from rkkd_cli.cli.output.console import err
from rkkd_cli.train.stop_controller import StopController, Stopped

# Windows has no SIGHUP (a terminal that is closed); SIGTERM arrives there only from inside the
# process, and what other programs send ends it at once, as SIGKILL does elsewhere.
SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]

# What takes longer than this from one event to the next is given up: schedulers do not wait.
PATIENCE_SECONDS = 8.0


class Interrupted(SystemExit):
    """The program ends with 128 + the signal's number."""


class SignalHandler:
    """Asks ``controller`` to stop; a second signal, or the end of patience, stops at once.

    The first signal raises nothing: it may arrive anywhere, and compiled code (a library that is
    being imported) can end the whole process where Python code raises below it.
    """

    def __init__(self, controller: StopController) -> None:
        self.controller = controller
        self.received = signal.SIGINT
        self.timer: threading.Timer | None = None

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Handle one signal, in the main thread."""
        if self.controller.stop_requested:
            raise Interrupted(128 + number)
        self.controller.stop_requested, self.received = True, signal.Signals(number)
        self.timer = threading.Timer(PATIENCE_SECONDS, _thread.interrupt_main, [number])
        self.timer.daemon = True
        self.timer.start()

    def forget(self) -> None:
        """Stop waiting."""
        if self.timer is not None:
            self.timer.cancel()


@contextmanager
def stopping_on_signals(controller: StopController) -> Iterator[None]:
    """Turn signals into a requested stop, and that into an exit status: 130, 143, 129.

    Says that the program was interrupted, with the notes of the exception: how to go on.
    A signal that this process was started to ignore (nohup) stays ignored.
    """
    handler = SignalHandler(controller)
    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    former = {number: signal.signal(number, handler) for number in heeded}
    try:
        yield
    except Stopped as left:
        _say_interrupted(left)
        raise Interrupted(128 + handler.received) from None
    except SystemExit as left:  # Interrupted, or what compiled code made of it
        _say_interrupted(left)
        raise Interrupted(128 + handler.received) from None
    finally:
        handler.forget()
        for number, action in former.items():
            signal.signal(number, action)


def _say_interrupted(left: BaseException) -> None:
    sentence = "; ".join(["rkkd: interrupted", *getattr(left, "__notes__", [])])
    with suppress(OSError):  # the terminal may have gone
        err.print(sentence, style="red", markup=False, soft_wrap=True)
