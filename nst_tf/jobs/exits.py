"""Explains how a child process ended."""

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nst_tf.errors import MachineError

STOP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
)
"""The signals that ask a process to end, of those that this platform has."""

_KILLED = "the system killed it, as it does when memory runs out"
_CRASHED = "it crashed, as TensorFlow does when memory runs out"
_ABORTED = "it aborted, as TensorFlow does when memory runs out"
_STOPPED = "it was stopped before it could save"

_CAUSES = {
    "SIGKILL": _KILLED,
    "SIGSEGV": _CRASHED,
    "SIGBUS": "it crashed, as programs do when a disk or the memory runs out",
    "SIGABRT": _ABORTED,
}

_WINDOWS = {
    0xC0000005: ("an access violation", _CRASHED),
    0xC0000017: ("a lack of memory", _KILLED),
    0xC0000409: ("an abort", _ABORTED),
    0xC000013A: ("CTRL+C", _STOPPED),
}
"""Values of NTSTATUS that Windows returns as the exit code of a process."""


def explain_exit(code: int) -> "MachineError | None":
    """Explains the abnormal end of a child process.

    Args:
        code: The return code as `subprocess` gives it: on POSIX, the negative number of the signal
            that killed the process.

    Returns:
        The error that tells it, with the exit code that a shell expects; None where the process
        ended by itself.
    """
    from nst_tf.errors import MachineError  # which the supervisor of a command does without

    exit_code = MachineError.exit_code
    if code < 0:
        number = signal.Signals(-code) if -code in list(signal.Signals) else None
        name = number.name if number else f"signal {-code}"
        cause = _CAUSES.get(name, "it was killed")
        if number in STOP_SIGNALS:
            cause, exit_code = _STOPPED, 128 - code
    elif code in _WINDOWS:
        name, cause = _WINDOWS[code]
    else:
        return None
    error = MachineError(
        f"the run died of {name}",
        cause,
        "go on with --resume if there is a checkpoint, or take a smaller --image_size",
    )
    error.exit_code = exit_code
    return error
