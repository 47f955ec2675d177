"""Signals that ask for the end, collected so that a run can save what it has."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_SAME_SECONDS = 0.5
"""A terminal's Ctrl-C reaches a worker twice, by itself and from its parent."""


@contextlib.contextmanager
def collected() -> Iterator[list[int]]:
    """Collects the signals that ask for the end, instead of ending.

    A second one of the same kind, half a second later or more, does what it did before: SIGINT
    raises KeyboardInterrupt, the others kill. What is ignored, as SIGHUP is under nohup, stays
    ignored.
    Outside the main thread, where no handler can be set, nothing is collected.

    Yields:
        The numbers of the signals, as they come.
    """
    received: list[int] = []
    came: dict[int, float] = {}
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def receive(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number not in came:
            came[number] = now
            received.append(number)
        elif now - came[number] >= _SAME_SECONDS:
            signal.signal(number, before[number])
            signal.raise_signal(number)

    before: dict[int, Any] = {
        number: handler
        for number in ENDING
        if (handler := signal.getsignal(number)) is not signal.SIG_IGN
    }
    for number in before:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
