"""Where the jobs of a batch run: in this process, in several, or on the workers of a cluster.

A pool has slots, each an executor that runs one job at a time.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

from nst_tf import jobs, system
from nst_tf.config import Config
from nst_tf.engine.connection import connect
from nst_tf.errors import MachineError, NstError, WorkerError
from nst_tf.events import Callback
from nst_tf.jobs import JobResult
from nst_tf.jobs.isolation import Worker
from nst_tf.jobs.result import Resume


class Pool(Protocol):
    """Runs the jobs of a batch.

    Attributes:
        size: How many jobs run at once.
        asked: How many were asked for, of which memory may allow fewer.
    """

    size: int
    asked: int

    def submit(
        self,
        slot: int,
        config: Config,
        *,
        overwrite: bool,
        resume: Resume,
        callback: Callback,
        should_stop: Callable[[], bool],
    ) -> "Future[JobResult]":
        """Begins a job in a slot, whose job before has ended.

        Args:
            slot: Its number, from 0 to `size` - 1.
            config: As for `nst_tf.jobs.run`.
            overwrite: As for `nst_tf.jobs.run`.
            resume: As for `nst_tf.jobs.run`.
            callback: Called with the events of the job, from a thread; not on a cluster.
            should_stop: Asked again and again; a true answer stops the job.

        Returns:
            The future result.
        """

    def kill(self) -> None:
        """Ends the jobs at once, as far as that is possible."""

    def close(self) -> None:
        """Lets go of processes and connections, when no job runs any more."""


class InProcess:
    """Runs jobs in this process and thread, one by one; `submit` returns when a job has ended."""

    def __init__(self) -> None:
        self.size = self.asked = 1

    def submit(
        self,
        slot: int,
        config: Config,
        *,
        overwrite: bool,
        resume: Resume,
        callback: Callback,
        should_stop: Callable[[], bool],
    ) -> "Future[JobResult]":
        """Runs a job."""
        future: Future[JobResult] = Future()
        try:
            result = jobs.run(
                config,
                overwrite=overwrite,
                resume=resume,
                callbacks=[callback],
                should_stop=should_stop,
            )
        except Exception as error:  # noqa: BLE001 - which a future holds
            future.set_exception(error)
        else:
            future.set_result(result)
        return future

    def kill(self) -> None:
        """Does nothing: what ends the process or the thread ends the job."""

    def close(self) -> None:
        """Does nothing."""


class Processes:
    """Runs jobs in child processes, which are kept from job to job; each has its share of threads.

    Args:
        workers: How many processes are asked for.
        memory_bytes: What a job takes at most.
    """

    def __init__(self, workers: int, memory_bytes: int) -> None:
        self.asked = workers
        fit = system.available_memory() // memory_bytes if memory_bytes else workers
        self.size = max(1, min(workers, fit))
        threads = max(1, _cores() // self.size)
        self._workers = [Worker(threads) for _ in range(self.size)]
        self._executors = [ThreadPoolExecutor(1, "nst_tf worker") for _ in range(self.size)]

    def submit(
        self,
        slot: int,
        config: Config,
        *,
        overwrite: bool,
        resume: Resume,
        callback: Callback,
        should_stop: Callable[[], bool],
    ) -> "Future[JobResult]":
        """Runs a job in the process of a slot."""
        return self._executors[slot].submit(
            self._workers[slot].run,
            config,
            overwrite=overwrite,
            resume=resume,
            callbacks=[callback],
            should_stop=should_stop,
        )

    def kill(self) -> None:
        """Kills the processes; what they have saved is whole."""
        for worker in self._workers:
            worker.kill()

    def close(self) -> None:
        """Ends the processes."""
        for executor in self._executors:
            executor.shutdown()
        for worker in self._workers:
            worker.close()


class Cluster:
    """Runs jobs on the workers of a dask cluster, one on each, in a child process of the worker.

    The workers need the same files under the same paths, and nst_tf.

    Args:
        address: That of the scheduler, as in "tcp://host:8786".
        memory_bytes: What a job takes at most; workers with less are left out.

    Raises:
        MachineError: dask.distributed is not installed, nothing answers, or no worker fits.
        InputError: The address has another form.
    """

    def __init__(self, address: str, memory_bytes: int) -> None:
        self._client = connect(address)
        found: Mapping[str, Any] = self._client.scheduler_info(n_workers=-1)["workers"]
        self.asked = len(found)
        fits = {
            name: int(worker["nthreads"])
            for name, worker in found.items()
            if (worker.get("memory_limit") or math.inf) >= memory_bytes
        }
        if not fits:
            self._client.close()
            raise MachineError(
                "no worker of the cluster can run the batch",
                f"{len(found)} are there, and a job takes about {memory_bytes / 1e9:.1f} GB",
                "start workers with dask worker ADDRESS --memory-limit, or take a smaller "
                "--image_size",
                where=address,
            )
        self.size = len(fits)
        self._threads = list(fits.values())
        # A job of a worker that has died moves to another one.
        self._executors: Sequence[Executor] = [
            self._client.get_executor(workers=[name], allow_other_workers=True, pure=False)
            for name in fits
        ]

    def submit(
        self,
        slot: int,
        config: Config,
        *,
        overwrite: bool,
        resume: Resume,
        callback: Callback,
        should_stop: Callable[[], bool],
    ) -> "Future[JobResult]":
        """Runs a job on a worker; it ends when its future is cancelled."""
        return self._executors[slot].submit(
            _run_on_worker, config.model_dump(mode="json"), self._threads[slot], overwrite, resume
        )

    def kill(self) -> None:
        """Closes the connection, at which the workers stop their jobs and save the images."""
        self._client.close()

    def close(self) -> None:
        """Ends the child processes of the workers, and the connection."""
        try:
            if self._client.status == "running":
                self._client.run(_end_idle, on_error="ignore")
        finally:
            self._client.close()


_idle: list[Worker] = []
"""On a worker of a cluster, the child processes that wait for their next job."""


def _run_on_worker(
    settings: Mapping[str, Any], threads: int, overwrite: bool, resume: Resume
) -> JobResult:
    """Runs a job in a child process of this worker, so that its crash leaves the worker alive."""
    import distributed

    dask_worker = distributed.get_worker()
    task = dask_worker.get_current_task()
    worker = _idle.pop() if _idle else Worker(threads)
    try:
        return worker.run(
            Config(**settings),
            overwrite=overwrite,
            resume=resume,
            should_stop=partial(_is_unwanted, dask_worker, task),
        )
    finally:
        if _is_unwanted(dask_worker, task):  # nobody is left who would end the process
            worker.close()
        else:
            _idle.append(worker)


def _is_unwanted(dask_worker: Any, task: str) -> bool:
    """Whether a task was cancelled, as by the end of its client."""
    found = dask_worker.state.tasks.get(task)
    return found is None or found.state not in ("executing", "long-running")


def _end_idle() -> None:
    while _idle:
        _idle.pop().close()


def _cores() -> int:
    return int(system.processor()["cores"])


def is_death(error: BaseException) -> bool:
    """Whether a job ended because its process died, so that it can be begun again."""
    return isinstance(error, WorkerError)


def as_error(error: BaseException) -> NstError:
    """Tells in one line why a job failed, whatever was raised."""
    if isinstance(error, NstError):
        return error
    if type(error).__name__ == "KilledWorker":  # of distributed, which may not be installed
        return WorkerError(
            "the job is lost",
            "the workers of the cluster that had it died, one after the other",
            "see what their logs tell, and give the same command again",
        )
    return NstError(
        "internal error",
        f"{type(error).__name__}: {error}",
        "run this image alone with --debug, and report it",
    )
