"""Runs jobs in a child process, so that its crash does not end the parent."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self, TextIO

from nst_tf.config import Config
from nst_tf.errors import MachineError, NstError, WorkerError, warn
from nst_tf.events import Callback, Event, Failed
from nst_tf.jobs import messages
from nst_tf.jobs.callbacks import CallbackList
from nst_tf.jobs.exits import explain_exit
from nst_tf.jobs.messages import STOP
from nst_tf.jobs.result import JobResult, Resume
from nst_tf.system import THREADS_VARIABLES

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
    resume: Resume = False,
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
        MachineError: As from `run`; where the child was killed, a `WorkerError`.
    """
    with Worker() as worker:
        return worker.run(
            config,
            overwrite=overwrite,
            resume=resume,
            callbacks=callbacks,
            should_stop=should_stop,
        )


class Worker:
    """A child process that runs jobs one after the other, as `isolated` runs one.

    Networks and graphs are kept from job to job. The process is a new one of Python, never a fork.
    It begins with the first job, and after its death again with the next one. As a context
    manager, it ends with the context.

    Args:
        threads: The number of threads where the settings of a job leave it open; 0 for one per
            core.
    """

    def __init__(self, threads: int = 0) -> None:
        self._threads = threads
        self._child: _Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def run(
        self,
        config: Config,
        *,
        overwrite: bool = False,
        resume: Resume = False,
        callbacks: Iterable[Callback] = (),
        should_stop: Callable[[], bool] | None = None,
    ) -> JobResult:
        """Runs a job; arguments, result and errors are those of `isolated`."""
        notify = CallbackList[Event](callbacks)
        job = {
            "config": config.model_dump(mode="json"),
            "overwrite": overwrite,
            "resume": resume,
        }
        if self._child is None:
            self._child = _Child(self._threads)
        try:
            self._child.write(json.dumps(job))
            result = _follow(self._child, notify, should_stop or (lambda: False))
            if result is None:
                died, self._child = self._child, None
                raise _explain(died.end(), died.printed())
            return result
        except NstError as error:
            notify(Failed(error))
            raise

    def kill(self) -> None:
        """Ends the process at once; a job that runs there fails with a `WorkerError`."""
        if self._child is not None:
            self._child.kill()

    def close(self) -> None:
        """Ends the process, which saves the best image so far where a job runs."""
        if self._child is not None:
            child, self._child = self._child, None
            child.end()


class _Child:
    """The process of a `Worker`.

    Args:
        threads: As for `Worker`.

    Attributes:
        lines: What it writes, line by line; None is the end.
    """

    def __init__(self, threads: int) -> None:
        path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._printed: deque[str] = deque(maxlen=_LINES_KEPT)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "nst_tf.jobs.worker"],
            env={
                "TF_CPP_MIN_LOG_LEVEL": "2",
                **os.environ,
                **(dict.fromkeys(THREADS_VARIABLES, str(threads)) if threads else {}),
                "PYTHONPATH": os.pathsep.join(filter(None, path)),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        readers = ((_read_lines, self._process.stdout, self.lines),
                   (_keep_end, self._process.stderr, self._printed))  # fmt: skip
        self._readers = [
            threading.Thread(target=read, args=[stream, lines], daemon=True)
            for read, stream, lines in readers
        ]
        for reader in self._readers:
            reader.start()

    def write(self, line: str) -> None:
        """Sends a line to the process; one that has ended tells that by the end of its lines."""
        with suppress(OSError):
            print(line, file=self._process.stdin, flush=True)

    def kill(self) -> None:
        """Kills the process."""
        self._process.kill()

    def end(self) -> int:
        """Makes sure that the process ends, and returns its return code."""
        try:
            with suppress(OSError):
                self._process.stdin.close()  # type: ignore[union-attr]  # asks for the end
            self._process.wait(_GRACE_SECONDS)
        except BaseException:
            self.kill()
            raise
        finally:
            self._process.wait()
            for reader in self._readers:
                reader.join()
        return self._process.returncode

    def printed(self) -> str:
        """Returns the last lines that libraries in the process printed, once it has ended."""
        return "".join(self._printed)


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
    child: _Child, notify: CallbackList[Event], should_stop: Callable[[], bool]
) -> JobResult | None:
    """Passes events on until the job ends; returns None where the process ended before."""
    stopping = False
    while True:
        if not stopping and should_stop():
            stopping = True
            child.write(STOP)
        try:
            line = child.lines.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            continue
        if line is None:
            return None
        match messages.decode(line):
            case None:
                pass
            case str() as text:
                warn(text)
            case JobResult() as result:
                return result
            case Failed(error=error):
                raise error
            case event:
                if notify(event) and not stopping:
                    stopping = True
                    child.write(STOP)


def _explain(code: int, printed: str) -> WorkerError:
    error = explain_exit(code, printed.encode()) or MachineError(
        "the run ended without a result",
        f"its process returned {code}",
        "go on with --resume if there is a checkpoint, or run the command to see its messages",
    )
    died = WorkerError(error.what, error.why, error.remedy)
    died.exit_code = error.exit_code
    return died
