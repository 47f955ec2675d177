"""Connections to dask.distributed, which is an optional dependency; without TensorFlow."""

from typing import TYPE_CHECKING, Any

from nst_tf.errors import InputError, MachineError

if TYPE_CHECKING:
    import distributed

CONNECT_SECONDS = 20
"""Time in which a scheduler has to answer."""


def connect(address: str) -> "distributed.Client":
    """Connects to a scheduler.

    Args:
        address: As the scheduler prints it, in tcp://HOST:PORT.

    Returns:
        The connection, which its user closes.

    Raises:
        InputError: It is no address.
        MachineError: dask.distributed is not installed, or nothing answers.
    """
    distributed = _module()
    try:
        return distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except ValueError as error:
        remedy = "write --cluster=tcp://HOST:PORT, as the scheduler prints it"
        raise InputError("cannot use the cluster", str(error), remedy, where=address) from error
    except OSError as error:
        raise MachineError(
            "cannot reach the cluster",
            f"no scheduler answered within {CONNECT_SECONDS} s",
            "start one with dask scheduler, and workers with dask worker ADDRESS",
            where=address,
        ) from error


def start_workers(number: int) -> "distributed.LocalCluster":
    """Starts a scheduler in this process and workers in others, which are never forked.

    Args:
        number: Of workers, each with one thread of Python.

    Returns:
        The cluster, which its user closes.

    Raises:
        MachineError: dask.distributed is not installed.
    """
    return _module().LocalCluster(
        n_workers=number,
        threads_per_worker=1,
        memory_limit=0,  # the plan of the tiles decides
        dashboard_address=":0",
        silence_logs="CRITICAL",
    )


def _module() -> Any:
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise MachineError(
            "cannot use a cluster",
            "dask.distributed is not installed",
            'install it: pip install "nst_tf[cluster]"',
        ) from error
    return distributed
