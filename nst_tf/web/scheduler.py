"""The queue of pictures: one is made at a time, in a child process."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nst_tf.errors import InUseError, NstError
from nst_tf.events import Event, Iteration, Planned, Preview, Scoring
from nst_tf.jobs import JobResult
from nst_tf.jobs.isolation import Worker
from nst_tf.web.messages import describe
from nst_tf.web.pictures import Picture, Pictures

CAPACITY = 4
"""How many pictures may wait."""

_IDLE_SECONDS = 120.0
"""How long the process of the last picture waits for the next one, which it begins at once."""

_LOCK_SECONDS = 60.0
"""How long to wait for the process of a server that was killed, which still saves its image."""


class Progress:
    """How far the picture is that is being made.

    Args:
        id_: Which picture.
        losses: Those of the iterations before an interruption.
        latest: The file with its current image, which the job writes every few seconds.

    Attributes:
        id: Which picture.
        phase: "starting", "optimizing" or "scoring".
        iteration: Iterations done.
        num_iterations: Iterations planned.
        done: The share of the work that is done.
        seconds_left: Time that the rest is expected to take; None where that is not known yet.
        width: Of the current level, in pixels.
        height: Of the current level, in pixels.
        frame: Grows with each new image.
        losses: The loss of each iteration.
        version: Grows with every change.
    """

    def __init__(self, id_: str, losses: list[tuple[int, float]], latest: Path) -> None:
        self.id = id_
        self.phase = "starting"
        self.iteration = 0
        self.num_iterations = 0
        self.done = 0.0
        self.seconds_left: float | None = None
        self.width = self.height = 0
        self.losses = losses
        self.version = 0
        self._latest = latest
        self._written = self._time_written()
        self.frame = int(self._written > 0)

    def on_event(self, event: Event) -> None:
        """Notes what an event of the job tells."""
        match event:
            case Planned():
                self.num_iterations = sum(level.num_iterations for level in event.levels)
                self.iteration = event.iterations_done
                del self.losses[event.iterations_done :]
                self.seconds_left = event.seconds
            case Preview():
                self.phase = "optimizing"
                self.frame += 1
            case Iteration():
                self.phase = "optimizing"
                self.iteration, self.num_iterations = event.iteration, event.num_iterations
                self.done, self.seconds_left = event.done, event.seconds_left
                self.width, self.height = event.width, event.height
                self.losses.append((event.iteration, event.losses.total))
                if (written := self._time_written()) != self._written:
                    self._written = written
                    self.frame += 1
            case Scoring():
                self.phase = "scoring"
        self.version += 1

    def _time_written(self) -> int:
        with contextlib.suppress(OSError):
            return self._latest.stat().st_mtime_ns
        return 0

    def as_plain(self) -> Mapping[str, Any]:
        """Returns all but the losses as plain values."""
        names = ("id", "phase", "iteration", "num_iterations", "done", "seconds_left", "width",
                 "height", "frame")  # fmt: skip
        return {name: getattr(self, name) for name in names}


class Scheduler:
    """Makes pictures one after the other in a child process, whose death ends one picture only.

    Pictures that were not finished when the server ended come first.

    Args:
        pictures: All pictures.

    Attributes:
        progress: That of the picture that is being made, or None.
    """

    def __init__(self, pictures: Pictures) -> None:
        self.progress: Progress | None = None
        self._pictures = pictures
        self._changed = threading.Condition()
        self._stopping: set[str] = set()
        self._closing = False
        unfinished = sorted(
            (picture for picture in pictures.all() if picture.is_active),
            key=lambda picture: (picture.state != "running", picture.created),
        )
        self._waiting = deque(picture.id for picture in unfinished)
        for picture in unfinished:
            pictures.change(picture.id, state="queued")
        self._thread = threading.Thread(target=self._work, name="nst_tf pictures")

    def start(self) -> None:
        """Begins to make pictures."""
        self._thread.start()

    @property
    def is_full(self) -> bool:
        """Whether no further picture may wait."""
        return len(self._waiting) >= CAPACITY

    def add(self, id_: str) -> None:
        """Appends a picture to the queue."""
        with self._changed:
            self._waiting.append(id_)
            self._changed.notify()

    def stop(self, id_: str) -> None:
        """Ends a picture with the best image so far; one that waits is not begun."""
        with self._changed:
            if id_ in self._waiting:
                self._waiting.remove(id_)
                self._pictures.change(id_, state="stopped")
            else:
                self._stopping.add(id_)

    def close(self) -> None:
        """Ends the picture that is being made, which goes on at the next start."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        with Worker() as worker:
            while self._has_next(worker):
                self._make_next(worker)

    def _has_next(self, worker: Worker) -> bool:
        """Waits for a picture or for the end of the server."""
        with self._changed:
            if not self._changed.wait_for(self._is_ready, _IDLE_SECONDS):
                worker.close()  # which gives back its memory
                self._changed.wait_for(self._is_ready)
            return not self._closing

    def _is_ready(self) -> bool:
        return bool(self._waiting) or self._closing

    def _make_next(self, worker: Worker) -> None:
        with self._changed:
            if not self._waiting:
                return
            id_ = self._waiting.popleft()
            self._stopping.discard(id_)
            picture = self._pictures.change(id_, state="running", message="")
            self.progress = Progress(
                id_, self._pictures.losses(picture), self._pictures.latest(picture)
            )
        changes = self._make(worker, picture, self.progress)
        with self._changed:
            self.progress = None
            if changes:
                self._pictures.change(id_, **changes)

    def _make(self, worker: Worker, picture: Picture, progress: Progress) -> dict[str, Any]:
        """Makes a picture; returns what its record says of it, nothing where the server ends."""

        def should_stop() -> bool:
            return self._closing or picture.id in self._stopping

        try:
            result = self._run(worker, picture, progress, should_stop)
        except NstError as error:
            return {"state": "failed", "message": describe(error)}
        except Exception as error:  # noqa: BLE001 - the others are still made
            return {"state": "failed", "message": f"internal error: {type(error).__name__}"}
        if result.status == "stopped" and self._closing and picture.id not in self._stopping:
            return {}
        state = "finished" if result.status == "nothing to do" else result.status
        return {"state": state, "message": result.failure, **_figures(result)}

    def _run(
        self, worker: Worker, picture: Picture, progress: Progress, should_stop: Callable[[], bool]
    ) -> JobResult:
        config = self._pictures.config(picture)
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                return worker.run(
                    config,
                    resume=True,
                    callbacks=[progress.on_event],
                    should_stop=should_stop,
                )
            except InUseError:
                if should_stop() or time.monotonic() > deadline:
                    raise
            time.sleep(1.0)


def _figures(result: JobResult) -> dict[str, Any]:
    """Returns what the record of a job tells of its image."""
    if result.path is None:
        return {}
    return {
        "iterations": int(result.record["iterations"]),
        "seconds": float(result.record["seconds"]),
        "loss": float(result.record["loss"]),
    }
