"""Captures the signals that ask for the end, so that a run can save what it has."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from nst_tf.jobs.exits import STOP_SIGNALS

_SAME_SECONDS = 0.5
"""Within this time a signal counts once: Ctrl-C reaches a child by itself and from its parent."""

_IMPATIENT = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""The signals that somebody sends again to end a process at once. The others are warnings, which
may come every second."""


@contextlib.contextmanager
def capture_signals() -> Iterator[list[int]]:
    """Collects the signals that ask for the end, in place of ending.

    A second SIGINT, SIGTERM or SIGHUP, half a second later or more, has its former effect: SIGINT
    raises KeyboardInterrupt, the others kill. Ignored signals, as SIGHUP under nohup, stay
    ignored. Signals that were blocked are unblocked once they are captured. Outside the main
    thread, where no handler can be installed, nothing is collected.

    Yields:
        The numbers of the signals, as they come; a second one that takes its former effect, too.
    """
    received: list[int] = []
    times: dict[int, float] = {}

    def receive(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number not in times:
            times[number] = now
            received.append(number)
        elif now - times[number] >= _SAME_SECONDS and signal.Signals(number).name in _IMPATIENT:
            received.append(number)
            signal.signal(number, before[number])
            signal.raise_signal(number)

    with handled(receive) as before:
        unblock_signals()
        yield received


@contextlib.contextmanager
def handled(receive: Callable[[int, FrameType | None], None]) -> Iterator[dict[int, Any]]:
    """Lets a function receive the signals that ask for the end, except ignored ones.

    The handlers before are restored at the end, except for warnings that came: the next one, a
    second later, would kill the process while it exits. They are ignored from then on.

    Args:
        receive: The handler.

    Yields:
        The handlers before, by signal. They are none outside the main thread, where no handler can
        be installed.
    """
    warned: set[int] = set()

    def handle(number: int, frame: FrameType | None) -> None:
        if signal.Signals(number).name not in _IMPATIENT:
            warned.add(number)
        receive(number, frame)

    before: dict[int, Any] = {
        number: handler
        for number in STOP_SIGNALS
        if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)  # None: one in C
    }
    if threading.current_thread() is not threading.main_thread():
        before = {}
    for number in before:
        signal.signal(number, handle)
    try:
        yield before
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if number in warned else handler)


def block_signals() -> None:
    """Keeps the signals that ask for the end pending, also in child processes (POSIX only)."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def unblock_signals() -> None:
    """Undoes `block_signals`."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
