"""Runs a job in a child process, so that its crash does not end the parent."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from nst_tf.config import Config
from nst_tf.errors import MachineError, NstError, warn
from nst_tf.events import Callback, Failed
from nst_tf.jobs import messages
from nst_tf.jobs.callbacks import CallbackList
from nst_tf.jobs.exits import explain_exit
from nst_tf.jobs.result import JobResult

_POLL_SECONDS = 0.1
_LINES_KEPT = 50
"""The last lines on stderr of a worker, which may tell why it died."""

_LONGEST_LINE = 1000
_GRACE_SECONDS = 60.0
"""How long a child may take to save its image when its parent is interrupted."""


def isolated(
    config: Config,
    *,
    overwrite: bool = False,
    resume: bool = False,
    callbacks: Iterable[Callback] = (),
    should_stop: Callable[[], bool] | None = None,
) -> JobResult:
    """Runs a job in a child process.

    The arguments and the result are those of `nst_tf.jobs.run`. TensorFlow is not imported in this
    process, and its settings are those of the job. If this process ends, the child saves the best
    image so far and ends.

    Args:
        config: All settings, with content and style images.
        overwrite: As for `run`.
        resume: As for `run`.
        callbacks: Called in this process with each event. An `Iteration` has no image and no state
            here; the image of a `Preview` is that of its file.
        should_stop: Called about ten times a second; a true answer stops the job.

    Returns:
        What became of the job.

    Raises:
        InputError: As from `run`.
        MachineError: As from `run`, and where the child was killed.
    """
    notify = CallbackList(callbacks)
    try:
        printed: deque[str] = deque(maxlen=_LINES_KEPT)
        with _worker(printed) as (child, lines):
            job = {
                "config": config.model_dump(mode="json"),
                "overwrite": overwrite,
                "resume": resume,
            }
            _write_line(child, json.dumps(job))
            result = _follow(child, lines, notify, should_stop or (lambda: False))
        if result is None:
            raise _explain(child.returncode, "".join(printed))
        return result
    except NstError as error:
        notify(Failed(error))
        raise


@contextmanager
def _worker(
    printed: "deque[str]",
) -> Iterator[tuple["subprocess.Popen[str]", "queue.SimpleQueue[str | None]"]]:
    """Starts a worker, and makes sure of its end.

    Args:
        printed: What libraries in the worker print is appended.

    Yields:
        The process, and the lines that it writes; None is their end.
    """
    path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "nst_tf.jobs.worker"],
        env={
            "TF_CPP_MIN_LOG_LEVEL": "2",
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    readers = [
        threading.Thread(target=_read_lines, args=[child.stdout, lines], daemon=True),
        threading.Thread(target=_keep_end, args=[child.stderr, printed], daemon=True),
    ]
    for reader in readers:
        reader.start()
    try:
        yield child, lines
    finally:
        try:
            with suppress(OSError):
                child.stdin.close()  # type: ignore[union-attr]  # asks for the end
            child.wait(_GRACE_SECONDS)
        except BaseException:
            child.kill()
            raise
        finally:
            child.wait()
            for reader in readers:
                reader.join()


def _read_lines(stdout: TextIO, lines: "queue.SimpleQueue[str | None]") -> None:
    with stdout:
        for line in stdout:
            lines.put(line)
    lines.put(None)


def _keep_end(stderr: TextIO, printed: "deque[str]") -> None:
    with stderr:
        while text := stderr.readline(_LONGEST_LINE):
            printed.append(text)


def _follow(
    child: "subprocess.Popen[str]",
    lines: "queue.SimpleQueue[str | None]",
    notify: CallbackList,
    should_stop: Callable[[], bool],
) -> JobResult | None:
    """Passes events on until the worker ends; returns None where it ended without a result."""
    result: JobResult | None = None
    stopping = False
    while True:
        if not stopping and should_stop():
            stopping = True
            _write_line(child, "stop")
        try:
            line = lines.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            continue
        if line is None:
            break
        match messages.decode(line):
            case None:
                pass
            case str() as text:
                warn(text)
            case JobResult() as result:
                pass
            case Failed(error=error):
                raise error
            case event:
                if notify(event) and not stopping:
                    stopping = True
                    _write_line(child, "stop")
    return result


def _write_line(child: "subprocess.Popen[str]", line: str) -> None:
    with suppress(OSError):  # it has ended, which its lines will tell
        print(line, file=child.stdin, flush=True)


def _explain(code: int, printed: str) -> MachineError:
    return explain_exit(code, printed.encode()) or MachineError(
        "the run ended without a result",
        f"its process returned {code}",
        "go on with --resume if there is a checkpoint, or run the command to see its messages",
    )
