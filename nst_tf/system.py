"""The machine and the process: memory, processor, package versions, start of TensorFlow."""

import contextlib
import ctypes
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import psutil

from nst_tf.errors import MachineError, warn

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_descriptor_2 = threading.Lock()
_PROCESS = "/proc/self"
_MALLOC_OPTIONS = {-8: 1, -3: 2**26, -1: -1}
"""By their numbers in malloc.h: M_ARENA_MAX; M_MMAP_THRESHOLD, in bytes; and M_TRIM_THRESHOLD,
which -1 disables. Without a threshold, holes that nothing fits into doubled an image's memory."""

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_DEVICES = Path("/dev")


class _ControlGroupFiles(NamedTuple):
    """The files of a control group that tell its memory.

    Attributes:
        limits: Any of them limits the group and all groups in it.
        usage: What is used, with the page cache.
        page_cache: The names of the page cache, which can be reclaimed, in memory.stat.
    """

    limits: tuple[str, ...]
    usage: str
    page_cache: tuple[str, ...]


_CONTROL_GROUP_FILES = {
    "": _ControlGroupFiles(
        ("memory.max", "memory.high"), "memory.current", ("inactive_file", "active_file")
    ),
    "memory": _ControlGroupFiles(
        ("memory.limit_in_bytes",),
        "memory.usage_in_bytes",
        ("total_inactive_file", "total_active_file"),
    ),
}
"""By controller as in /proc/self/cgroup, for versions 2 and 1."""

_GPU_DRIVERS = {
    "nvidia[0-9]*": ("is_cuda_build", "libcuda.so.1"),
    "dxg": ("is_cuda_build", "libcuda.so.1"),
    "kfd": ("is_rocm_build", ""),
}
"""Device files of NVIDIA's drivers on Linux and in Windows' WSL, and of AMD's; the kind of
TensorFlow that uses them; and the library of the driver, where it has one name."""

THREADS_VARIABLES = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables with the number of threads of TensorFlow and of linear algebra."""

_SAVING_SECONDS = 60
"""Processor time in which a run of any usual size ends its evaluation and saves the image."""

_FLOORS = {
    "tensorflow": "2.21",
    "keras": "3.15",
    "numpy": "2.1",
    "scipy": "1.17",
    "pillow": "13.0",
    "imagecodecs": "2026.3.6",
}
"""The lowest versions, as in setup.cfg."""

_DISTRIBUTIONS = {
    "tensorflow": (
        "tensorflow",
        "tensorflow-cpu",
        "tf-nightly",
        "tf-nightly-cpu",
        "tensorflow-rocm",
        "tensorflow-macos",
    )
}
"""The names that a package is distributed under, where it has several."""

_TENSOR_CORES_OF_BFLOAT16 = (8, 0)
"""The first compute capability whose tensor cores support bfloat16."""


def memory_in_use() -> int:
    """Returns the resident size of this process, in bytes."""
    return int(psutil.Process().memory_info().rss)


def _reuse_freed_memory() -> None:
    """Lets the GNU C library keep freed memory until `release_memory`, in one heap of all threads.

    The system clears what it gets back before it gives it out again, which takes a fifth of the
    processor's time in an evaluation. Heaps of several threads would each keep their own.
    """
    if sys.platform == "linux" and (set_option := getattr(ctypes.CDLL(None), "mallopt", None)):
        for option, value in _MALLOC_OPTIONS.items():
            set_option(option, value)


def release_memory() -> None:
    """Returns freed memory to the system, which the GNU C library keeps for later allocations.

    Other systems do without.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def available_memory() -> int:
    """Returns the number of bytes that this process can still use without swapping.

    The least of the machine's available memory, the limits of the process's control groups, of
    which the page cache is available, and the limits of its address space and private memory.
    """
    return max(
        0,
        min(
            [
                int(psutil.virtual_memory().available),
                *_left_in_control_groups(),
                *_left_of_limits(),
            ]
        ),
    )


def _left_in_control_groups() -> list[int]:
    """Returns what the control groups of this process leave, where they are limited (Linux)."""
    left = []
    for line in _lines(f"{_PROCESS}/cgroup"):
        _, controllers, path = line.split(":", 2)
        for controller, names in _CONTROL_GROUP_FILES.items():
            if controller in controllers.split(","):
                for folder in _control_groups(controller, path):
                    left += _left_in_control_group(folder, names)
    return left


def _control_groups(controller: str, path: str) -> Iterator[Path]:
    """Yields the folders of a control group and of those around it, as far as they are mounted.

    Args:
        controller: A key of `_CONTROL_GROUP_FILES`.
        path: The path of the group in the hierarchy of its controller.

    Yields:
        Folders, which need not exist.
    """
    group = PurePosixPath(path)
    for root, mounted_at in [("/", _CONTROL_GROUPS / controller), *_mounts(controller)]:
        # A container may see a part of the hierarchy only, of which its own group is the root.
        inside = group.relative_to(root) if group.is_relative_to(root) else PurePosixPath()
        for part in (inside, *inside.parents):
            yield mounted_at / part


def _mounts(controller: str) -> list[tuple[str, Path]]:
    """Returns which part of a hierarchy of control groups is mounted, and where (proc(5))."""
    mounts = []
    for line in _lines(f"{_PROCESS}/mountinfo"):
        place, _, source = line.partition(" - ")
        kind, _, options = source.split(" ", 2)
        if kind == ("cgroup" if controller else "cgroup2") and (
            not controller or controller in options.split(",")
        ):
            root, mounted_at = place.split(" ")[3:5]
            mounts.append((root, Path(mounted_at.replace("\\040", " "))))
    return mounts


def _left_in_control_group(folder: Path, names: _ControlGroupFiles) -> list[int]:
    limits = [number for name in names.limits for number in _numbers_in(folder / name)]
    if not limits:
        return []
    used = sum(_numbers_in(folder / names.usage))
    statistics = dict(line.split() for line in _lines(folder / "memory.stat"))
    page_cache = sum(int(statistics.get(name, 0)) for name in names.page_cache)
    return [min(limits) - max(0, used - page_cache)]


def _numbers_in(path: Path) -> list[int]:
    """Returns the number in a file; none where there is no such file, or "max" in it."""
    return [int(line) for line in _lines(path) if line.strip().isdecimal()]


def _left_of_limits() -> list[int]:
    """Returns what the limits of this process leave, of address space and of private memory."""
    private = getattr(psutil.Process().memory_info(), "data", 0)
    return [address_space_left(), _limit("RLIMIT_DATA") - private]


_TENSORFLOW_BYTES = 1_200_000_000
"""Address space that TensorFlow's libraries take beyond the memory that is used of them."""


def address_space_left() -> int:
    """Returns the number of bytes that this process can still map and use (`ulimit -v`)."""
    mapped = 0 if "tensorflow" in sys.modules else _TENSORFLOW_BYTES
    return _limit("RLIMIT_AS") - int(psutil.Process().memory_info().vms) - mapped


def _limit(name: str) -> int:
    limit = resource.getrlimit(getattr(resource, name))[0] if hasattr(resource, name) else -1
    return sys.maxsize if limit in (-1, getattr(resource, "RLIM_INFINITY", -1)) else int(limit)


def may_have_gpu() -> bool:
    """Returns whether TensorFlow may find a GPU, without the seconds of importing it.

    There is a device file, the installed TensorFlow is built for such devices, and the library of
    their driver can be loaded.
    """
    build = _build_of_tensorflow()
    return any(
        any(_DEVICES.glob(device))
        and re.search(rf"{kind}\W+False", build) is None
        and _can_be_loaded(library)
        for device, (kind, library) in _GPU_DRIVERS.items()
    )


def _build_of_tensorflow() -> str:
    """Returns the text of the module that says what TensorFlow was built for, or ""."""
    with contextlib.suppress(ImportError, ValueError):  # what stands in for it has no such module
        spec = importlib.util.find_spec("tensorflow")
        folders = spec.submodule_search_locations if spec else None
        module = Path("python", "platform", "build_info.py")
        return "\n".join(line for folder in folders or [] for line in _lines(Path(folder, module)))
    return ""


def _can_be_loaded(library: str) -> bool:
    try:
        ctypes.CDLL(library or None)
    except OSError:
        return False
    return True


def _lines(path: Path | str) -> list[str]:
    """Returns the lines of a file of /proc or /sys, or none where there is no such file."""
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def keep_processor_time() -> None:
    """Moves the warning before a limit of processor time, where both come at once (`ulimit -t`).

    Linux kills at the hard limit of RLIMIT_CPU, and sends SIGXCPU, in time for the image to be
    saved, at the soft one.
    """
    if resource is None:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if soft == hard != resource.RLIM_INFINITY:
        reserve = min(_SAVING_SECONDS, hard // 2)
        resource.setrlimit(resource.RLIMIT_CPU, (hard - reserve, hard))


def peak_memory() -> int:
    """Returns the largest resident size of this process so far, in bytes."""
    # Linux's getrusage counts the parent's size too, from before the program was executed.
    for line in _lines("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    if resource is None:  # Windows
        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that affect results.

    Raises:
        MachineError: A package is not installed.
    """
    return {"python": platform.python_version(), **{name: _version(name) for name in _FLOORS}}


def check_versions() -> None:
    """Refuses packages that are missing or too old, which would fail later and less clearly.

    Raises:
        MachineError: A package is not installed or is older than required.
    """
    for name, floor in _FLOORS.items():
        version = _version(name)
        if _numbers(version) < _numbers(floor):
            raise MachineError(
                f"{name} is too old",
                f"it is {version}, and {floor} or newer is needed",
                f'run: pip install --upgrade "{name}>={floor}"',
            )


def _version(name: str) -> str:
    """Returns the version of a package, under the first of its names that is installed."""
    for distribution in _DISTRIBUTIONS.get(name, (name,)):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    raise MachineError(
        f"{name} is missing",
        "the package is not installed",
        f'run: pip install "{name}>={_FLOORS[name]}"',
    )


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:2]]


def optional_module(name: str, package: str, use: str, extra: str) -> Any:
    """Imports a package that only an extra brings.

    Args:
        name: Of the module.
        package: Its name for pip.
        use: What it is needed for, as in "read a video".
        extra: The extra that brings it.

    Returns:
        The module.

    Raises:
        MachineError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        why = f"the package {package} is not installed"
        if not isinstance(error, ModuleNotFoundError):  # a library of the system is missing
            why = f"the package {package} cannot be imported ({error})"
        raise MachineError(
            f"cannot {use}", why, f'install it: pip install "nst_tf[{extra}]"'
        ) from error


def prepare_environment(deterministic: bool) -> None:
    """Sets the environment variables that TensorFlow reads when it is imported, and the allocator.

    Args:
        deterministic: Whether operations must give the same bits each time.
    """
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"  # the default depends on processor and version
    # The allocator that comes with oneDNN never gives memory back: a run took what its tensors
    # would have taken if none had ever been freed.
    os.environ["TF_ONEDNN_USE_SYSTEM_ALLOCATOR"] = "1"
    _reuse_freed_memory()
    if deterministic:
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
        os.environ.pop("TF_XLA_FLAGS", None)


def configure_tensorflow(threads: int, deterministic: bool) -> None:
    """Configures TensorFlow for the whole process, which is possible before it computes anything.

    Args:
        threads: Number of threads of an operation; 0 leaves it as it is, by default one for each
            core. Where it is too late to set it, a warning says so.
        deterministic: Whether operations must give the same bits each time, or be refused.

    Raises:
        MachineError: It is too late for `deterministic`.
    """
    import tensorflow as tf

    threading_ = tf.config.threading
    if deterministic:
        try:
            threading_.set_inter_op_parallelism_threads(1)
        except RuntimeError as error:
            raise MachineError(
                "cannot set deterministic",
                "TensorFlow computes in this process already, several operations at a time",
                "set it before the first computation, or use the command or nst_tf.jobs.isolated, "
                "which run in a process of their own",
            ) from error
        tf.config.experimental.enable_op_determinism()
        tf.config.experimental.enable_tensor_float_32_execution(False)
    if not threads:
        return
    before = threading_.get_intra_op_parallelism_threads()
    try:
        threading_.set_intra_op_parallelism_threads(threads + 1)  # equal ones are never refused
        threading_.set_intra_op_parallelism_threads(threads)
    except RuntimeError:
        warn(
            f"threads stay {before or 'one for each core'}: TensorFlow computes in this process "
            "already, and takes another number before its first computation only"
        )


def processor() -> dict[str, str]:
    """Returns the processor's model and the number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    cores = len(affinity(0)) if affinity else os.cpu_count()
    return {"processor": _processor_model(), "cores": str(cores)}


def _processor_model() -> str:
    fields: dict[str, str] = {}
    for line in _lines("/proc/cpuinfo"):  # one block for each core
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    if "model name" in fields:
        return fields["model name"]
    machine = platform.machine()
    if "CPU part" in fields:  # Linux on ARM
        return f"{machine} implementer {fields.get('CPU implementer')} part {fields['CPU part']}"
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        with contextlib.suppress(OSError):
            output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            return output.strip() or machine
    return platform.processor() or machine


def expand_home(path: str) -> str:
    """Replaces `~` or `~user` at the beginning of a path by the home folder, if there is one."""
    return os.path.expanduser(path)  # noqa: PTH111 - that of Path fails where there is none


def display_path(path: Path | str) -> str:
    """Returns a path as messages show it: relative to the current folder where that is possible."""
    try:
        return os.path.relpath(path)
    except (OSError, ValueError):  # no current folder, or another drive
        return str(path)


def portable_path(path: Path | str, folder: Path | str) -> str:
    """Returns a path as files store it: relative to a folder, with forward slashes.

    Args:
        path: An absolute path.
        folder: What it is relative to, an absolute path.

    Returns:
        The relative path; the absolute one where there is none, as between drives.
    """
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return Path(path).as_posix()


def computes_bfloat16() -> bool:
    """Returns whether the processor multiplies bfloat16 in hardware (AVX-512 BF16 or AMX).

    Known on Linux only; elsewhere False.
    """
    flags = " ".join(_lines("/proc/cpuinfo")).split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def is_x86_without_avx512() -> bool:
    """Whether this is an x86 processor without the AVX-512 instructions, as Linux tells it."""
    flags = " ".join(_lines("/proc/cpuinfo")).split()
    return "avx2" in flags and "avx512f" not in flags


def precision(asked: str, *, deterministic: bool, graphics: tuple[int, ...] | None = None) -> str:
    """Chooses the precision of a network's computations.

    Args:
        asked: "float32", "bfloat16", or "auto", which is bfloat16 where the hardware multiplies it.
        deterministic: Excludes bfloat16 for "auto": kernels differ in the order of their sums of
            rounded products.
        graphics: The compute capability of the GPU that is used, if any.

    Returns:
        "float32" or "bfloat16".
    """
    if asked != "auto":
        return asked
    fast = computes_bfloat16() if graphics is None else graphics >= _TENSOR_CORES_OF_BFLOAT16
    return "bfloat16" if fast and not deterministic else "float32"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppresses Python's warnings and what C libraries print to descriptor 2.

    Both are settings of the process, so one thread at a time. Log lines written meanwhile are lost.
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
