"""What the machine offers and what the process has used of it."""

import contextlib
import importlib.metadata
import os
import platform
import resource
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import psutil

_descriptor_2 = threading.Lock()
_PACKAGES = ("tensorflow", "keras", "numpy", "scipy", "pillow")


def available_memory() -> int:
    """Returns how many bytes of memory can be used without swapping."""
    return int(psutil.virtual_memory().available)


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
    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **packages}


def computes_bfloat16() -> bool:
    """Tells whether the processor multiplies bfloat16 in hardware (AVX-512 BF16 or AMX)."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False  # not Linux, where no processor is known to gain
    return "avx512_bf16" in flags or "amx_bf16" in flags


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
