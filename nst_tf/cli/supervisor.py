"""A process for the work and a parent that outlives it, to say in a sentence how it died."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable

from nst_tf.cli.signals import ENDING

_KILLS = {
    signal.SIGKILL: "the system killed it, as it does when memory runs out",
    signal.SIGSEGV: "it crashed, as TensorFlow does when memory runs out",
    signal.SIGBUS: "it crashed, as programs do when a disk or the memory runs out",
    signal.SIGABRT: "it aborted, as TensorFlow does when memory runs out",
}
_REMEDY = "go on with --resume if there is a checkpoint, or take a smaller --image_size"
_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl


def supervised(work: Callable[[], int]) -> int:
    """Does the work in a child, and passes on the signals that ask for the end.

    On Linux only: elsewhere a fork may break system libraries, and the work is done here.

    Args:
        work: Returns the exit code. It runs before anything has started threads.

    Returns:
        The exit code of the work; 3 where the child was killed.
    """
    if sys.platform != "linux":
        return work()
    parent = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    child = os.fork()
    if child == 0:
        # If the parent is killed, the worker saves what it has and ends too.
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        _leave(work())
    for ending in ENDING:
        if signal.getsignal(ending) is not signal.SIG_IGN:
            signal.signal(ending, lambda number, _: _pass_on(child, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    status = _waited(child)
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    number = os.WTERMSIG(status)
    if number in ENDING:
        why = "it was stopped before it could save"
        code = 128 + number
    else:
        why = _KILLS.get(signal.Signals(number), "it was killed")
        code = 3
    name = signal.Signals(number).name
    with contextlib.suppress(OSError):
        print(f"nst_tf: error: the run died of {name}: {why}; {_REMEDY}", file=sys.stderr)
    return code


def _waited(child: int) -> int:
    return os.waitpid(child, 0)[1]  # Python goes on waiting after a signal's handler


def _pass_on(child: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)


def _leave(code: int) -> None:
    """Ends the process at once: nothing is left to do, and TensorFlow takes a second for it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            if stream is not None:  # a process may run with its descriptors closed
                stream.flush()
    os._exit(code)
