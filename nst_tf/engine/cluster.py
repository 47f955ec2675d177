"""Tiles computed by the workers of a dask.distributed cluster, on this machine or on others.

What a tile gives does not depend on the worker that computes it, and all sums are made here in the
order of the tiles: the result has the same bytes for any number of workers of one kind.
"""

import contextlib
import itertools
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from nst_tf.config import RuntimeSettings
from nst_tf.engine import cluster_worker
from nst_tf.engine.cluster_worker import Missing, Recipe
from nst_tf.engine.connection import connect, start_workers
from nst_tf.errors import MachineError, NstError
from nst_tf.objective.tiled import Task

if TYPE_CHECKING:
    import distributed

_SECONDS_FOR_WORKERS = 60
_TASKS_PER_WORKER = 2
"""Tasks at a worker at once, so that it need not wait for the next one."""


@contextlib.contextmanager
def open_cluster(settings: RuntimeSettings | None) -> Iterator["Cluster | None"]:
    """Starts the workers, or joins those of a scheduler.

    Args:
        settings: `workers`, the number of worker processes to start, and `cluster`, the address of
            a scheduler; or None.

    Yields:
        The cluster, or None where neither is set.

    Raises:
        InputError: The address is none.
        MachineError: dask.distributed is not installed, nothing answers, or there is no worker.
    """
    if settings is None or not (settings.workers or settings.cluster):
        yield None
        return
    with contextlib.ExitStack() as stack:
        address = settings.cluster
        if not address:
            address = stack.enter_context(start_workers(settings.workers)).scheduler_address
        client = stack.enter_context(connect(address))
        try:
            client.wait_for_workers(1, timeout=_SECONDS_FOR_WORKERS)
        except TimeoutError as error:
            raise MachineError(
                "cannot use the cluster",
                f"it has no worker, also after {_SECONDS_FOR_WORKERS} s",
                "start workers with dask worker ADDRESS",
                where=address,
            ) from error
        yield Cluster(client, settings.threads or 1)


class Cluster:
    """The workers of one scheduler.

    Args:
        client: Connected to it.
        threads: Threads of TensorFlow in each worker. Their number changes the last digits of
            sums: for one result, all workers have as many.
    """

    def __init__(self, client: "distributed.Client", threads: int) -> None:
        self._client = client
        self._threads = threads

    def runner(self, recipe: Recipe) -> "ClusterRunner":
        """Returns what runs the tasks of an objective."""
        return ClusterRunner(self._client, recipe._replace(threads=self._threads))


class ClusterRunner:
    """Runs the tasks of a `nst_tf.objective.tiled.TiledObjective` on workers.

    A tile goes to the same worker in both passes of an evaluation. It keeps what it was sent in the
    first one, and in the second gets only the derivative of the loss.

    Args:
        client: Connected to a scheduler.
        recipe: What the workers compute with.
    """

    def __init__(self, client: "distributed.Client", recipe: Recipe) -> None:
        self._client = client
        self._recipe = recipe
        self._key = uuid.uuid4().hex
        self._passes = itertools.count()
        self._held: dict[tuple[int, int], tuple[int, str]] = {}
        self._told: set[str] = set()

    def __call__(self, tasks: Iterable[Task]) -> Iterator[Any]:
        """Runs tasks.

        Args:
            tasks: They do not depend on each other, and come one by one as they are needed.

        Yields:
            Their results, in the order of the tasks.

        Raises:
            MachineError: The scheduler is gone, or what one worker after the other died of.
        """
        number = next(self._passes)
        waiting: deque[tuple[Task, distributed.Future]] = deque()
        workers = self._workers()
        for task in tasks:
            waiting.append((task, self._submit(task, number, workers)))
            if len(waiting) >= _TASKS_PER_WORKER * len(workers):
                yield self._result(*waiting.popleft(), number)
                workers = self._workers()
        while waiting:
            yield self._result(*waiting.popleft(), number)

    def _workers(self) -> list[str]:
        with _cluster_errors():
            info = self._client.scheduler_info(n_workers=-1)
            if "workers" not in info:
                raise OSError("the connection is closed")
            if not info["workers"]:  # the last one died, and is about to be replaced
                self._client.wait_for_workers(1, timeout=_SECONDS_FOR_WORKERS)
                return self._workers()
            return sorted(info["workers"])

    def _submit(self, task: Task, number: int, workers: list[str]) -> "distributed.Future":
        place = task.segment, task.tile
        worker = workers[task.tile % len(workers)]
        held, task_number = False, number
        if task.method == "forward":
            self._held[place] = number, worker
        elif task.method == "backward" and place in self._held:
            task_number, worker = self._held[place]
            held = worker in workers
        if held:
            task = task._replace(x=None, part=None)
        is_new = worker not in self._told
        self._told.add(worker)
        with _cluster_errors():
            return self._client.submit(
                cluster_worker.run,
                self._key,
                task_number,
                task,
                self._recipe if is_new else None,
                pure=False,
                **({"workers": [worker], "allow_other_workers": True} if worker in workers else {}),
            )

    def _result(self, task: Task, future: "distributed.Future", number: int) -> Any:
        while True:
            with _cluster_errors():
                try:
                    return future.result()
                except Missing:  # the worker that had it has died, or this one is new
                    self._held.pop((task.segment, task.tile), None)
                    self._told.clear()
            future = self._submit(task, number, self._workers())


@contextlib.contextmanager
def _cluster_errors() -> Iterator[None]:
    """Raises an error of ours where the cluster fails."""
    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError
    from distributed.scheduler import KilledWorker

    try:
        yield
    except (NstError, Missing):
        raise
    except KilledWorker as error:
        raise MachineError(
            "the workers of the cluster die",
            "a tile was given to one after the other",
            "see that each has enough memory (max_memory), then go on with --resume",
        ) from error
    except (FutureCancelledError, CommClosedError, TimeoutError, OSError) as error:
        raise MachineError(
            "the cluster is gone",
            f"{type(error).__name__}: its scheduler does not answer any more",
            "start it again, then go on with --resume",
        ) from error
