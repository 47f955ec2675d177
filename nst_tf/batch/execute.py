"""Runs the images of a batch: progress, failures, interruptions, and jobs whose process dies."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass
from functools import partial
from typing import Literal

from nst_tf.batch.plan import Picture
from nst_tf.batch.pools import Cluster, InProcess, Pool, Processes, as_error, is_death
from nst_tf.errors import InputError, InUseError, MachineError, NstError
from nst_tf.events import Event, Iteration
from nst_tf.jobs.callbacks import CallbackList
from nst_tf.jobs.estimate import START_SECONDS
from nst_tf.jobs.planning import Outline, outline
from nst_tf.jobs.result import JobResult, Resume

_POLL_SECONDS = 0.1
_RETRY_SECONDS = 1.0
_TRIES = 2
"""How often a job is begun whose process dies."""

_WAIT_SECONDS = 60.0
"""How long to wait for another process that holds the place of a job, as what is left of a batch
that was killed holds it until it has saved."""

_CANCELED = MachineError(
    "the job is lost",
    "the cluster has canceled it, as where its scheduler ends",
    "give the same command again",
)

BatchStatus = Literal["finished", "nothing to do", "stopped", "failed", "not begun"]


@dataclass(frozen=True)
class Outcome:
    """What became of an image of a batch.

    Attributes:
        picture: The image.
        result: That of its job; None where there is none.
        error: Why it failed; None where it did not.
    """

    picture: Picture
    result: JobResult | None = None
    error: NstError | None = None

    @property
    def status(self) -> BatchStatus:
        """That of the job; "not begun" where the batch was stopped before."""
        if self.error is not None:
            return "failed"
        return "not begun" if self.result is None else self.result.status

    @property
    def failure(self) -> str:
        """Why it failed, in one line; empty where it did not."""
        if self.error is not None:
            return str(self.error)
        return "" if self.result is None else self.result.failure


@dataclass(frozen=True)
class BatchPlanned:
    """A batch is about to begin.

    Attributes:
        images: How many are to be made.
        workers: How many at once.
        workers_asked: How many at once were asked for, of which memory may allow fewer.
        memory_bytes: The expected peak memory of the largest image; 0 where it is not known.
        seconds: The expected time of all; None where it is not known.
    """

    images: int
    workers: int
    workers_asked: int
    memory_bytes: int
    seconds: float | None


@dataclass(frozen=True)
class BatchProgress:
    """A batch has come further.

    Attributes:
        done: How many images are finished, skipped or failed.
        images: How many there are.
        share: The share of the work that is done, from 0 to 1.
        seconds_left: The time left, from the measured cost of what is done; None where nothing was
            measured yet.
    """

    done: int
    images: int
    share: float
    seconds_left: float | None


BatchEvent = BatchPlanned | BatchProgress | Outcome
BatchCallback = Callable[[BatchEvent], object]


def run(
    pictures: Sequence[Picture],
    *,
    workers: int = 0,
    cluster: str = "",
    overwrite: bool = False,
    resume: Resume = "same",
    callbacks: Iterable[BatchCallback] = (),
    should_stop: Callable[[], bool] | None = None,
) -> list[Outcome]:
    """Makes the images of a batch; one that fails keeps no other from being made.

    An image that was finished before with the same settings and inputs is not made again, and one
    that was interrupted is continued: an interrupted batch goes on with the same call. In this
    process, networks, graphs and the statistics of styles are kept from image to image.

    Args:
        pictures: What is to be made, as from `nst_tf.batch.pictures`.
        workers: The number of processes; 0 for this one. Fewer are used where memory does not
            suffice for all.
        cluster: The address of a dask scheduler, whose workers are used; "" for none.
        overwrite: As for `nst_tf.jobs.run`.
        resume: As for `nst_tf.jobs.run`.
        callbacks: Called with each event of the batch, from the thread of this call. One that
            raises is reported by a warning and not called again.
        should_stop: Asked about ten times a second, or after every evaluation; a true answer stops
            all jobs, which save their best images.

    Returns:
        What became of each, in the order of `pictures`.

    Raises:
        InputError: `workers` or `cluster` is wrong.
        MachineError: The cluster cannot be used.
    """
    if workers < 0 or (workers and cluster):
        raise InputError(
            "cannot run the batch",
            f"workers is {workers} and cluster is {cluster or 'not given'}",
            "give a positive number of workers, or the address of a cluster, or neither",
        )
    outlines = [_outline(picture) for picture in pictures]
    memory = max((each.expected.memory_bytes for each in outlines if each), default=0)
    pool: Pool = InProcess()
    if cluster:
        pool = Cluster(cluster, memory)
    elif workers:
        pool = Processes(min(workers, len(pictures)) or 1, memory)
    notify = CallbackList[BatchEvent](callbacks)
    seconds = _expected_seconds(outlines, pool.size)
    notify(BatchPlanned(len(pictures), pool.size, pool.asked, memory, seconds))
    try:
        batch = _Batch(pictures, outlines, pool, overwrite, resume, notify, should_stop)
        return batch.run()
    except BaseException:  # a second Ctrl-C, which waits for nothing
        pool.kill()
        raise
    finally:
        pool.close()


def _outline(picture: Picture) -> Outline | None:
    """Plans an image; None where that fails, which its job will tell."""
    try:
        return outline(picture.config)
    except NstError:
        return None


def _expected_seconds(outlines: Sequence[Outline | None], at_once: int) -> float | None:
    """Returns the time of all images with one start, or None with a GPU."""
    seconds = [outline.expected.seconds for outline in outlines if outline]
    work = [each - START_SECONDS for each in seconds if each is not None]
    return START_SECONDS + sum(work) / at_once if len(work) == len(seconds) else None


class _Batch:
    """The state of a batch that runs.

    Args:
        pictures: What is to be made.
        outlines: What each will take.
        pool: Where the jobs run.
        overwrite: As for `run`.
        resume: As for `run`.
        notify: Called with events.
        should_stop: Whether to stop.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        outlines: Sequence[Outline | None],
        pool: Pool,
        overwrite: bool,
        resume: Resume,
        notify: CallbackList[BatchEvent],
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self._pictures = pictures
        self._pool = pool
        self._overwrite = overwrite
        self._resume = resume
        self._notify = notify
        self._asked = should_stop or (lambda: False)
        self._thread = threading.current_thread()
        self._stopping = threading.Event()
        self._progress = _Progress(outlines)
        self._waiting = deque(range(len(pictures)))
        self._running: dict[Future[JobResult], tuple[int, int]] = {}  # to image and slot
        self._outcomes: dict[int, Outcome] = {}
        self._deaths = dict.fromkeys(self._waiting, 0)
        self._in_use_since: dict[int, float] = {}

    def run(self) -> list[Outcome]:
        """Runs all jobs."""
        free = deque(range(self._pool.size))
        while self._waiting or self._running:
            if self._should_stop():
                self._waiting.clear()
                for future in self._running:
                    future.cancel()  # by which jobs on a cluster are told; others ask
            while free and self._waiting:
                self._begin(self._waiting.popleft(), free.popleft())
            done, _ = wait(self._running, _POLL_SECONDS, FIRST_COMPLETED)
            for future in done:
                number, slot = self._running.pop(future)
                free.append(slot)
                self._end(number, future)
            self._notify(self._progress.event(len(self._outcomes)))
        return [
            self._outcomes.get(number, Outcome(picture))
            for number, picture in enumerate(self._pictures)
        ]

    def _is_own_thread(self) -> bool:
        """Whether this is the thread of the batch, where a job runs that is in this process."""
        return threading.current_thread() is self._thread

    def _should_stop(self) -> bool:
        if self._is_own_thread() and not self._stopping.is_set() and self._asked():
            self._stopping.set()
        return self._stopping.is_set()

    def _begin(self, number: int, slot: int) -> None:
        future: Future[JobResult]
        try:
            future = self._pool.submit(
                slot,
                self._pictures[number].config,
                overwrite=self._overwrite,
                resume=self._resume,
                callback=partial(self._on_event, number),
                should_stop=self._should_stop,
            )
        except Exception as error:  # noqa: BLE001 - as where a cluster has ended
            future = Future()
            future.set_exception(error)
        self._running[future] = number, slot

    def _on_event(self, number: int, event: Event) -> None:
        """Handles an event of a job, in the thread that runs it."""
        if isinstance(event, Iteration):
            self._progress.update(number, event)
            if self._is_own_thread():
                self._notify(self._progress.event(len(self._outcomes)))

    def _end(self, number: int, future: "Future[JobResult]") -> None:
        """Records what became of a job, or lets it wait for another try."""
        picture = self._pictures[number]
        try:
            outcome = Outcome(picture, future.result())
        except CancelledError:
            if self._stopping.is_set():
                return
            outcome = Outcome(picture, error=_CANCELED)
        except Exception as error:  # noqa: BLE001 - one job ends no other
            if self._may_try_again(number, error):
                return
            outcome = Outcome(picture, error=as_error(error))
        self._progress.end(number, counts=outcome.status != "nothing to do")
        self._outcomes[number] = outcome
        self._notify(outcome)

    def _may_try_again(self, number: int, error: Exception) -> bool:
        """Puts a job back whose process died for the first time, or whose place is in use."""
        if self._stopping.is_set():
            return False
        if is_death(error):
            self._deaths[number] += 1
            if self._deaths[number] < _TRIES:
                self._waiting.appendleft(number)
                return True
        if isinstance(error, InUseError):
            now = time.monotonic()
            if now - self._in_use_since.setdefault(number, now) < _WAIT_SECONDS:
                time.sleep(0.0 if self._waiting else _RETRY_SECONDS)
                self._waiting.append(number)
                return True
        return False


class _Progress:
    """Measures how much of a batch is done, and what that costs.

    Args:
        outlines: What each image takes; None for one that will fail.
    """

    def __init__(self, outlines: Sequence[Outline | None]) -> None:
        self._work: Mapping[int, float] = {
            number: max(outline.work, 1.0) for number, outline in enumerate(outlines) if outline
        }
        self._left_out: set[int] = set()
        self._done: dict[int, float] = {}
        self._inherited: dict[int, float] = {}  # shares of images that an earlier batch did
        self._images = len(outlines)
        self._began: tuple[float, float] | None = None
        self._lock = threading.Lock()

    def update(self, number: int, event: Iteration) -> None:
        """Takes in how far an image has come; what costs is measured from the first time on."""
        with self._lock:
            if number not in self._done and event.iteration > 1:
                self._inherited[number] = event.done
            self._done[number] = event.done
            if self._began is None:
                self._began = time.monotonic(), self._measured()

    def end(self, number: int, *, counts: bool) -> None:
        """Takes in that an image has ended.

        Args:
            number: Of the image.
            counts: Whether that took the time that it was expected to take.
        """
        with self._lock:
            self._done[number] = 1.0
            if counts and self._began is None:  # on a cluster
                self._began = time.monotonic(), self._measured()
            if not counts:
                self._left_out.add(number)

    def _share(self) -> float:
        """Returns the share of the work that is done, without what was not to be done."""
        return self._share_of(self._done) if len(self._work) > len(self._left_out) else 1.0

    def _measured(self) -> float:
        """Returns the share of the work that this batch did itself."""
        return self._share() - self._share_of(self._inherited)

    def _share_of(self, done: Mapping[int, float]) -> float:
        counted = {n: work for n, work in self._work.items() if n not in self._left_out}
        total = sum(counted.values()) or 1.0
        return sum(work * done.get(number, 0.0) for number, work in counted.items()) / total

    def event(self, done: int) -> BatchProgress:
        """Returns how far the batch has come.

        Args:
            done: How many images have ended.
        """
        with self._lock:
            share, left = self._share(), None
            if self._began is not None:
                began, measured_then = self._began
                if (gained := self._measured() - measured_then) > 0.0:
                    left = (1.0 - share) / gained * (time.monotonic() - began)
            return BatchProgress(done, self._images, share, left)
