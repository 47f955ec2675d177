"""What the machine offers and what the process has used of it."""

import contextlib
import importlib.metadata
import os
import platform
import re
import resource
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import psutil

from nst_tf.errors import MachineError

_descriptor_2 = threading.Lock()
_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_FLOORS = {
    "tensorflow": "2.21",
    "keras": "3.15",
    "numpy": "2.1",
    "scipy": "1.17",
    "pillow": "13.0",
    "imagecodecs": "2026.3.6",
}
"""The oldest versions that will do, as in setup.cfg."""

_TENSOR_CORES_OF_BFLOAT16 = (8, 0)
"""The first compute capability whose tensor cores take bfloat16."""


def available_memory() -> int:
    """Returns how many bytes more this process can use, without swapping.

    That is the least of what the machine has free, what the control group allows, and what the
    limit on the process's address space leaves.
    """
    return min(
        [
            int(psutil.virtual_memory().available),
            *_left_in_control_group(),
            *_left_of_address_space(),
        ]
    )


def _left_in_control_group() -> list[int]:
    """Returns what the group of processes may still take, where it is limited (Linux, v2 or v1)."""
    for limit, usage in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            most = int((_CONTROL_GROUPS / limit).read_text())
            return [most - int((_CONTROL_GROUPS / usage).read_text())]
    return []


def _left_of_address_space() -> list[int]:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return [] if limit == resource.RLIM_INFINITY else [limit - psutil.Process().memory_info().vms]


def peak_memory() -> int:
    """Returns the largest resident size this process has had so far, in bytes."""
    try:
        # Linux's getrusage counts the parent's size too, from before the program was executed.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that the numbers come from."""
    packages = {name: importlib.metadata.version(name) for name in _FLOORS}
    return {"python": platform.python_version(), **packages}


def check_versions() -> None:
    """Refuses packages that are too old, which would go wrong in odd ways later.

    Raises:
        MachineError: A package is older than what this program was written for.
    """
    for name, floor in _FLOORS.items():
        version = importlib.metadata.version(name)
        if _numbers(version) < _numbers(floor):
            raise MachineError(
                f"{name} is too old",
                f"it is {version}, and {floor} or newer is needed",
                f'run: pip install --upgrade "{name}>={floor}"',
            )


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:2]]


def prepare_tensorflow(threads: int, deterministic: bool) -> None:
    """Sets what TensorFlow computes with, for the whole process, before it does anything.

    Args:
        threads: How many threads; with 0, one for each core.
        deterministic: Whether every operation must give the same bits each time, or be refused.
    """
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"  # the default, said so that nothing changes it
    if deterministic:
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
        os.environ.pop("TF_XLA_FLAGS", None)
    import tensorflow as tf

    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    if deterministic:
        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.config.experimental.enable_op_determinism()
        tf.config.experimental.enable_tensor_float_32_execution(False)


def processor() -> dict[str, str]:
    """Returns the processor's model and how many of its cores there are."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []  # not Linux
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": str(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()),
    }


def computes_bfloat16() -> bool:
    """Tells whether the processor multiplies bfloat16 in hardware (AVX-512 BF16 or AMX)."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False  # not Linux, where no processor is known to gain
    return "avx512_bf16" in flags or "amx_bf16" in flags


def precision(asked: str, *, deterministic: bool, graphics: tuple[int, ...] | None = None) -> str:
    """Chooses what a network computes in.

    Args:
        asked: "float32", "bfloat16", or "auto", bfloat16 where the hardware multiplies it.
        deterministic: Rules bfloat16 out for "auto": rounded products are summed in another order
            by other kernels.
        graphics: The compute capability of the graphics card that is used, if one is.

    Returns:
        "float32" or "bfloat16".
    """
    if asked != "auto":
        return asked
    fast = computes_bfloat16() if graphics is None else graphics >= _TENSOR_CORES_OF_BFLOAT16
    return "bfloat16" if fast and not deterministic else "float32"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps Python's warnings and what C libraries print to descriptor 2 off the terminal.

    Both belong to the process, so one thread at a time. Log lines written inside are lost too.
    """
    with _descriptor_2, warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore")
        with contextlib.suppress(OSError):  # a process may run with descriptor 2 closed
            saved = os.dup(2)
            stack.callback(os.close, saved)
            stack.callback(os.dup2, saved, 2)
            null = os.open(os.devnull, os.O_WRONLY)
            stack.callback(os.close, null)
            os.dup2(null, 2)
        yield
