"""Explains how a child process ended."""

import os
import re
import signal
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from nst_tf.errors import MachineError

STOP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if hasattr(signal, name)
)
"""The signals that ask a process to end, of those that this platform has.

SIGUSR1, SIGUSR2 and SIGXCPU are the warnings of batch systems (SLURM, Grid Engine, LSF), and
SIGXCPU also that of `ulimit -t`.
"""

_LOG_LINE = re.compile(
    r"(?:(?:\d{4}-\d\d-\d\d [\d:.]+: )?(?P<level>[IWEF])(?:\d{4})? .*?\w:\d+\] )?(?P<message>.*)"
)
"""A line of TensorFlow's log, with or without date, level and place in the source."""

_NOT_TOLD = ("@ ", "***", "PC:", "WARNING:")
"""How lines of stack traces begin, and the notice of a log that is not set up yet."""

TAIL_BYTES = 8192
"""How much of the end of what a child printed `last_words` needs."""

_CONTRACT = (0, 2, 3, 4, 70, *(128 + number for number in STOP_SIGNALS))
"""The exit codes by which a child tells by itself how it ended."""


class _Cause(NamedTuple):
    """Why a process died, and what to do about it; `speaks` if it may have said more itself."""

    why: str
    remedy: str
    speaks: bool = False


_RESUME = "go on with --resume if there is a checkpoint"
_SMALLER = f"{_RESUME}, or take a smaller --image_size"
_DEBUG = f"{_RESUME}, or run again with --debug to see all messages"
_AVX = "use a processor with AVX, or let the virtual machine pass AVX on"

_KILLED = _Cause("the system killed it, as it does when memory runs out", _SMALLER)
_CRASHED = _Cause("it crashed, as TensorFlow does when memory runs out", _SMALLER, True)
_ABORTED = _Cause("it aborted, as TensorFlow does when memory runs out", _SMALLER, True)
_STOPPED = _Cause("it was stopped before it could save", f"{_RESUME}, or start again")
_UNKNOWN_INSTRUCTION = _Cause(
    "the processor does not know an instruction, and TensorFlow needs one with AVX", _AVX, True
)
_SENT = _Cause("another program or a person sent it", f"{_RESUME}, or start again")

_CAUSES = {
    "SIGKILL": _KILLED,
    "SIGSEGV": _CRASHED,
    "SIGBUS": _Cause(
        "it crashed, as programs do when a disk or the memory runs out", _SMALLER, True
    ),
    "SIGABRT": _ABORTED,
    "SIGILL": _UNKNOWN_INSTRUCTION,
    "SIGFPE": _Cause("a library met an arithmetic error, such as a division by 0", _DEBUG, True),
    "SIGTRAP": _Cause("a library failed a check of its own", _DEBUG, True),
    "SIGSYS": _Cause(
        "a sandbox forbids a system call that a library needs",
        "run it outside the sandbox, or allow the call",
        True,
    ),
    "SIGXFSZ": _Cause("a file grew beyond the limit", f"raise ulimit -f, then {_RESUME}"),
    "SIGQUIT": _Cause("somebody ended it", f"{_RESUME}, or start again"),
}

_WINDOWS = {
    0xC0000005: ("an access violation", _CRASHED),
    0xC0000017: ("a lack of memory", _KILLED),
    0xC000001D: ("an illegal instruction", _UNKNOWN_INSTRUCTION),
    0xC0000135: (
        "a missing DLL",
        _Cause("a library was not found", "install the Visual C++ Redistributable"),
    ),
    0xC0000409: ("an abort", _ABORTED),
    0xC000013A: ("CTRL+C", _STOPPED),
}
"""Values of NTSTATUS that Windows returns as the exit code of a process."""


def explain_exit(code: int, printed: bytes = b"") -> "MachineError | None":
    """Explains the abnormal end of a child process.

    Args:
        code: The return code as `subprocess` gives it: on POSIX, the negative number of the signal
            that killed the process.
        printed: The end of what libraries in the child printed to stderr.

    Returns:
        The error that tells it, with the exit code that a shell expects; None where the child
        told by its exit code how it ended.
    """
    from nst_tf.errors import MachineError  # which the supervisor of a command does without

    if code in _CONTRACT:
        return None
    exit_code = MachineError.exit_code
    number = -code if code < 0 else code - 128  # a shell between child and parent adds 128
    if code in _WINDOWS:
        name, cause = _WINDOWS[code]
        what = f"the run died of {name}"
    elif code < 0 or number in list(signal.Signals):
        name = _name(number)
        what, cause = f"the run died of {name}", _CAUSES.get(name, _SENT)
        if number in STOP_SIGNALS:
            cause, exit_code = _STOPPED, 128 + number
    else:
        what, cause = (
            f"the run ended with exit code {code}",
            _Cause("it said nothing", _DEBUG, True),
        )
    words = last_words(printed) if cause.speaks else ""
    if words:
        cause = _with_words(cause, words)
    error = MachineError(what, cause.why, cause.remedy)
    error.exit_code = exit_code
    return error


def last_words(printed: bytes) -> str:
    """Returns the last lines of a log, in one line: no information, warnings and stack traces.

    Args:
        printed: What was printed.

    Returns:
        At most 300 characters; "" where nothing was printed.
    """
    said = [
        match["message"].strip()
        for line in printed.decode("utf-8", "replace").splitlines()
        if (match := _LOG_LINE.match(line)) and match["level"] not in ("I", "W")
    ]
    told = [text for text in said if text and not text.startswith(_NOT_TOLD)]
    return " / ".join(told[-3:])[-300:]


def _with_words(cause: _Cause, words: str) -> _Cause:
    """Lets the words of the dead tell the cause where they do."""
    told = f'its last words: "{words}"'
    for name in re.findall("[A-Z]+_[A-Z_]+", words):
        if name in os.environ:
            return _Cause(told, f"correct or unset the environment variable {name}")
    if "AVX" in words:
        return _Cause(told, _AVX)
    if cause is _ABORTED and not any(word in words.lower() for word in ("alloc", "memory")):
        return _Cause(f"it aborted; {told}", _DEBUG)
    return _Cause(told if cause.why == "it said nothing" else f"{cause.why}; {told}", cause.remedy)


def _name(number: int) -> str:
    known = list(signal.Signals)
    return signal.Signals(number).name if number in known else f"signal {number}"
