"""The child process of `isolated` and `Worker`: `python -m nst_tf.jobs.worker`.

Reads jobs as lines of JSON from stdin, and writes messages as lines of JSON to stdout. The line
`STOP` asks for the end of a job. The end of the parent, which closes the pipe, asks for the end of
the process.
"""

import contextlib
import json
import logging
import os
import queue
import signal
import sys
import threading
import traceback
from typing import Any, TextIO

from nst_tf import jobs, system
from nst_tf.config import Config
from nst_tf.errors import NstError
from nst_tf.events import Event, Failed
from nst_tf.jobs.exits import STOP_SIGNALS
from nst_tf.jobs.messages import STOP, Message, encode
from nst_tf.models.backend import take_process


class _Messages(logging.Handler):
    """Writes messages, and warnings that are logged.

    Args:
        file: Where to.
    """

    def __init__(self, file: TextIO) -> None:
        super().__init__(logging.WARNING)
        self._file = file

    def send(self, message: Message) -> None:
        """Writes a message."""
        self._file.write(f"{encode(message)}\n")
        self._file.flush()

    def on_event(self, event: Event) -> None:
        """Writes an event, except for the error, which is written when it is raised."""
        if not isinstance(event, Failed):
            self.send(event)

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a warning."""
        with contextlib.suppress(OSError):  # the parent has ended
            self.send(record.getMessage())


def main() -> None:
    """Runs jobs until the parent ends."""
    messages = _Messages(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # what libraries print does not get between the messages
    logger = logging.getLogger("nst_tf")
    logger.handlers, logger.propagate = [messages], False
    stop = threading.Event()
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's reaches the parent, too
    take_process()
    system.keep_processor_time()
    waiting: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=[waiting, stop], daemon=True).start()
    with contextlib.suppress(OSError):  # the parent has ended
        while (job := waiting.get()) is not None:
            _run(job, messages, stop)
    os._exit(0)  # TensorFlow takes a second to end


def _run(job: dict[str, Any], messages: _Messages, stop: threading.Event) -> None:
    try:
        result = jobs.run(
            Config(**job["config"]),
            overwrite=job["overwrite"],
            resume=job["resume"],
            callbacks=[messages.on_event],
            should_stop=stop.is_set,
        )
        messages.send(result)
    except NstError as error:
        messages.send(Failed(error))
    except Exception:  # noqa: BLE001 - a defect is reported by the parent
        messages.send(Failed(NstError("internal error", traceback.format_exc(), "report it")))


def _read_requests(
    waiting: "queue.SimpleQueue[dict[str, Any] | None]", stop: threading.Event
) -> None:
    try:
        for line in sys.stdin:
            if line.strip() == STOP:
                stop.set()
            else:
                job = json.loads(line)
                stop.clear()  # which asked for the end of the job before
                waiting.put(job)
    finally:  # also where the parent ended within a line
        stop.set()
        waiting.put(None)


if __name__ == "__main__":
    main()
