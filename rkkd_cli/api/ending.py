"""The end of the program: what is said stands, and no signal changes the exit status any more."""

import signal
import threading

# Windows has no SIGHUP (a terminal was closed). Its SIGTERM comes from inside the process only;
# other programs end a process at once there, as SIGKILL does elsewhere.
SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]


def ignore_signals() -> None:
    """Ignore signals for the second in which Python and the libraries take themselves apart.

    A signal there shows the traceback of an exit handler, and replaces the exit status.
    """
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
